/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target without libFuzzer: `fuzz_x FILE...` on the files, and on those of directories, `fuzz_x --rounds=N --seed=S` on N mutated
 * examples. A failure is an abort or a sanitizer's report; the seed of the round, or the file, is printed on the way down.
 * `fuzz_x --examples=DIR --rounds=N` writes N examples: what libFuzzer begins with (scripts/fuzz.sh).
 */
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

#define PATH_BYTES 4096

static char repro[PATH_BYTES + 16];

static void
on_abort(int signal_number)
{
    (void)signal_number;
    if (write(STDERR_FILENO, repro, strlen(repro)) < 0)
        _exit(2);
    _exit(1);
}

static size_t
mutate_once(struct sim_rng *rng, uint8_t *data, size_t size)
{
    static const uint8_t extremes[] = {0, 1, 0x7f, 0x80, 0xff, 0xfe, 0x40};
    size_t at = sim_rng_below(rng, size), to = sim_rng_below(rng, size), part;

    switch (sim_rng_below(rng, 6)) {
    case 0:
        data[at] ^= (uint8_t)(1u << sim_rng_below(rng, 8));
        return size;
    case 1:
        data[at] = extremes[sim_rng_below(rng, sizeof(extremes))];
        return size;
    case 2:
        sim_rng_fill(rng, data + at, size - at < 8 ? size - at : 8);
        return size;
    case 3: /* a length or count at its limit */
        memset(data + at, extremes[sim_rng_below(rng, sizeof(extremes))], size - at < 8 ? size - at : 8);
        return size;
    case 4:
        return at + 1;
    default: /* one part over another */
        part = sim_rng_below(rng, 64);
        part = part < size - at ? part : size - at;
        part = part < size - to ? part : size - to;
        memmove(data + to, data + at, part);
        return size;
    }
}

static void
run_copy(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size == 0 ? 1 : size); /* of the exact size: an overrun is seen */

    if (copy == NULL)
        abort();
    memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void
run_round(const char *program, uint64_t seed, uint8_t *data)
{
    struct sim_rng rng = sim_rng_make(seed, 6);
    size_t size = fuzz_example(&rng, data);
    uint64_t edits = sim_rng_below(&rng, 2) == 0 ? sim_rng_log(&rng, 16) - 1 : sim_rng_below(&rng, 3);

    fuzz_require(size > 0 && size <= FUZZ_INPUT_MAX, "an example is too large");
    (void)snprintf(repro, sizeof(repro), "repro: %s --rounds=1 --seed=%" PRIu64 "\n", program, seed);
    for (uint64_t i = 0; i < edits; i++)
        size = mutate_once(&rng, data, size);
    run_copy(data, size);
}

static int
run_file(const char *path, uint8_t *data)
{
    FILE *file = fopen(path, "rb");
    size_t size;

    if (file == NULL) {
        perror(path);
        return 2;
    }
    size = fread(data, 1, FUZZ_INPUT_MAX, file);
    (void)fclose(file);
    (void)snprintf(repro, sizeof(repro), "repro: %s\n", path);
    run_copy(data, size);
    return 0;
}

/* The files of a directory, in any order, or the file. */
static int
run_path(const char *path, uint8_t *data)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    int rc = 0;

    if (dir == NULL)
        return run_file(path, data);
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        char name[PATH_BYTES];

        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        rc = run_file(name, data);
    }
    (void)closedir(dir);
    return rc;
}

static int
write_example(const char *dir, uint64_t seed, uint8_t *data)
{
    struct sim_rng rng = sim_rng_make(seed, 6);
    size_t size = fuzz_example(&rng, data), written;
    char name[PATH_BYTES];
    FILE *file;

    (void)snprintf(name, sizeof(name), "%s/%" PRIu64, dir, seed);
    file = fopen(name, "wb");
    if (file == NULL) {
        perror(name);
        return 2;
    }
    written = fwrite(data, 1, size, file);
    return fclose(file) == 0 && written == size ? 0 : 2;
}

int
main(int argc, char **argv)
{
    uint8_t *data = malloc(FUZZ_INPUT_MAX);
    const char *examples = NULL;
    uint64_t rounds = 0, seed = 1;
    int rc = 0;

    if (data == NULL)
        return 2;
    (void)signal(SIGABRT, on_abort);
    for (int i = 1; i < argc && rc == 0; i++) {
        if (strncmp(argv[i], "--rounds=", 9) == 0)
            rounds = strtoull(argv[i] + 9, NULL, 0);
        else if (strncmp(argv[i], "--seed=", 7) == 0)
            seed = strtoull(argv[i] + 7, NULL, 0);
        else if (strncmp(argv[i], "--examples=", 11) == 0)
            examples = argv[i] + 11;
        else
            rc = run_path(argv[i], data);
    }
    for (uint64_t i = 0; i < rounds && rc == 0; i++) {
        if (examples != NULL)
            rc = write_example(examples, seed + i, data);
        else
            run_round(argv[0], seed + i, data);
    }
    free(data);
    return rc;
}
