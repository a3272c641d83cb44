/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes are a script (tests/sim/script.h): run it on the simulated disk, crashes included, and let the oracle judge every answer. A script
 * that fails is printed, for sim_script.
 */
#include <stdlib.h>

#include "../sim/script_run.h"
#include "../sim/sim_log.h"
#include "fuzz.h"

#define OPS_MAX 120 /* more only make a failure harder to read */

static void
print_and_abort(const struct script_run *run)
{
    script_print(run->script, stderr);
    abort();
}

/* The text of a script, and its bytes, say the same. */
static void
check_forms(const struct script *script)
{
    static uint8_t bytes[SCRIPT_HEADER_BYTES + SCRIPT_OPS_MAX * SCRIPT_OP_BYTES];
    static struct script again;
    char problem[80], *text = NULL;
    size_t size;
    FILE *file;

    script_decode(bytes, script_encode(script, bytes), &again);
    fuzz_require(again.count == script->count &&
                     memcmp(again.ops, script->ops, script->count * sizeof(script->ops[0])) == 0,
                 "the bytes of a script are another script");
    file = open_memstream(&text, &size);
    fuzz_require(file != NULL, "no memory");
    script_print(script, file);
    (void)fclose(file);
    fuzz_require(script_parse(text, &again, problem, sizeof(problem)), "the text of a script cannot be parsed");
    fuzz_require(again.count == script->count && again.pages == script->pages && again.options == script->options &&
                     memcmp(again.ops, script->ops, script->count * sizeof(script->ops[0])) == 0,
                 "the text of a script is another script");
    free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct script script;
    const struct script_place place = {.seed = size, .on_failure = print_and_abort};

    sim_log_begin("the script above");
    script_decode(data, size, &script);
    check_forms(&script);
    script.count = script.count < OPS_MAX ? script.count : OPS_MAX;
    (void)script_run_all(&script, &place);
    return 0;
}

size_t
fuzz_example(struct sim_rng *rng, uint8_t *out)
{
    static struct script script;

    script_draw(&script, rng, sim_rng_log(rng, OPS_MAX), (uint32_t)sim_rng_below(rng, 200));
    return script_encode(&script, out);
}
