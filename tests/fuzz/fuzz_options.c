/* SPDX-License-Identifier: Apache-2.0 */
/* Option names and values from arbitrary text: "name=value". What is accepted reads back, and is accepted again. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "varve.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    varve_options *options = varve_options_create();
    char *name = malloc(size + 1), *value;
    varve_error err = {0};
    char text[32], back[32];
    int rc;

    if (options == NULL || name == NULL)
        abort();
    memcpy(name, data, size);
    name[size] = '\0';
    value = strchr(name, '=');
    if (value != NULL) {
        *value++ = '\0';
        rc = varve_options_set(options, name, value, &err);
        if (rc == VARVE_OK) {
            fuzz_require(varve_options_get(options, name, text, sizeof(text)) == VARVE_OK, "no value to read back");
            fuzz_require(varve_options_set(options, name, text, &err) == VARVE_OK, "its own text is refused");
            fuzz_require(varve_options_get(options, name, back, sizeof(back)) == VARVE_OK && strcmp(text, back) == 0,
                         "a value changes when it is read and set");
        } else {
            fuzz_require(rc == VARVE_E_ARG && err.code == rc && err.message[0] != '\0', "a refusal without a reason");
        }
    }
    free(name);
    varve_options_destroy(options);
    return 0;
}

size_t
fuzz_example(struct sim_rng *rng, uint8_t *out)
{
    const varve_option_desc *option;
    size_t count = 0, name, value;

    while (varve_option_describe(count) != NULL)
        count++;
    option = varve_option_describe(sim_rng_below(rng, count));
    name = strlen(option->name);
    value = strlen(option->default_value);
    memcpy(out, option->name, name);
    out[name] = '=';
    memcpy(out + name + 1, option->default_value, value);
    return name + 1 + value;
}
