/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command line, one argument a line, from arbitrary text. What is accepted is in the range that the table of options says; a size that is
 * accepted is what a store's options make of it.
 */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define ARGUMENTS_MAX 16

struct values {
    bool flag;
    uint64_t number, size;
    double real;
    const char *text;
    varve_options *options;
};

static void
check_size(const char *text)
{
    char again[32];
    uint64_t bytes, bytes_again;

    if (!cli_parse_size(text, &bytes))
        return;
    (void)snprintf(again, sizeof(again), "%llu", (unsigned long long)bytes);
    fuzz_require(cli_parse_size(again, &bytes_again) && bytes == bytes_again, "a size changes when it is written out");
    fuzz_require(cli_size_text(bytes, again) == again && strlen(again) < sizeof(again), "the text of a size");
}

/* NULL, or what is wrong. */
static const char *
parse(int argc, char **argv, struct values *values)
{
    const struct cli_option options[] = {
        {"flag", CLI_FLAG, &values->flag, NULL, "a flag", 0, 0, 'f'},
        {"number", CLI_U64, &values->number, "N", "a number", 3, 500, 'n'},
        {"size", CLI_SIZE, &values->size, "SIZE", "a size", 1024, 1 << 30, 's'},
        {"real", CLI_DOUBLE, &values->real, "X", "a real number", 1, 100, 0},
        {"text", CLI_TEXT, &values->text, "TEXT", "a text", 0, 0, 't'},
        CLI_STORE_OPTIONS(&values->options),
    };
    const struct cli_spec spec = {.name = "fuzz",
                                  .operands = "FILE...",
                                  .description = "Nothing.",
                                  .examples = "varve fuzz\n",
                                  .options = options,
                                  .option_count = sizeof(options) / sizeof(options[0]),
                                  .operands_min = 1,
                                  .operands_max = 3};
    int exit_code = -1;

    if (!cli_parse(&spec, &argc, &argv, &exit_code))
        return exit_code == CLI_EXIT_OK || exit_code == CLI_EXIT_USAGE ? NULL : "an exit code of something else";
    if (argc < 1 || argc > 3)
        return "too few operands, or too many";
    for (int i = 0; i < argc; i++) {
        if (argv[i] == NULL)
            return "no operand";
    }
    if (values->number < 3 || values->number > 500)
        return "a number out of range";
    if (values->size < 1024 || values->size > 1 << 30)
        return "a size out of range";
    return values->real >= 1 && values->real <= 100 ? NULL : "a real number out of range";
}

/* With what it says going nowhere. */
static void
parse_quietly(int argc, char **argv)
{
    struct values values = {.number = 3, .size = 1024, .real = 1};
    FILE *out = stdout, *err = stderr, *nowhere = fopen("/dev/null", "w");
    const char *problem;

    if (nowhere == NULL)
        abort();
    stdout = stderr = nowhere;
    problem = parse(argc, argv, &values);
    stdout = out;
    stderr = err;
    (void)fclose(nowhere);
    varve_options_destroy(values.options);
    fuzz_require(problem == NULL, problem);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *argv[ARGUMENTS_MAX + 1] = {NULL};
    int argc = 0;

    if (text == NULL)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    argv[argc++] = (char[]){"fuzz"};
    for (char *next, *line = text; line != NULL && argc < ARGUMENTS_MAX; line = next) {
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        check_size(line);
        argv[argc++] = line;
    }
    parse_quietly(argc, argv);
    free(text);
    return 0;
}

size_t
fuzz_example(struct sim_rng *rng, uint8_t *out)
{
    static const char *const arguments[] = {"--flag",      "-f",
                                            "--number=17", "-n\n400",
                                            "--size",      "64K",
                                            "-s1M",        "--real=2.5",
                                            "--text",      "-tfile",
                                            "--help",      "-h",
                                            "--",          "-",
                                            "operand",     "--capacity=8M",
                                            "--set",       "io_bytes=1M",
                                            "--sise=1",    "--number\n3",
                                            "--real\n1e1", "--set=background=off",
                                            "1.5G",        "123456789"};
    size_t size = 0;

    for (uint64_t left = sim_rng_log(rng, 10); left > 0; left--) {
        const char *argument = arguments[sim_rng_below(rng, sizeof(arguments) / sizeof(arguments[0]))];

        size += (size_t)snprintf((char *)out + size, FUZZ_INPUT_MAX - size, "%s\n", argument);
    }
    return size;
}
