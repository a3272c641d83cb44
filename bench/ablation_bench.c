/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of the ablations, and what they share; docs/ablations.md says what each is, and what came out. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ablation.h"
#include "bench_dir.h"
#include "cli.h"
#include "json.h"
#include "random.h"

static const char description[] =
    "What each part of the design is worth: the store, or the index by itself, with that part and without it, on the "
    "same pages.\n"
    "DIR must be empty or absent, on the disk that is to be measured; what is made there is removed.\n"
    "\n"
    "  order      keys in the order of token prefixes, as extents and page by page, against keys in hash order\n"
    "  locator    fingerprints that say the block, against Bloom filters of 10 bits a key, one a run\n"
    "  values     pages in a log of their own, against pages in the runs (RocksDB with and without blob files)\n"
    "  hashlog    the LSM index against a hash table in memory that is saved and loaded whole\n"
    "\n"
    "'cold' is: nothing of the index is in memory but what an open reads.\n";

static const char examples[] = "  ablation_bench /mnt/nvme/ablations\n"
                               "      all of them, in under 4 minutes\n"
                               "  ablation_bench /mnt/nvme/ablations --only order --pages 10M\n"
                               "      ten million pages (10,485,760): how many index blocks a probe reads\n"
                               "  ablation_bench /mnt/nvme/ablations --only values --bytes 16G --json\n"
                               "      long enough that merges reach lower levels; a JSON object a line\n"
                               "  ablation_bench /mnt/nvme/ablations --only hashlog --large-pages 100M\n"
                               "      what an open costs with a hundred million pages\n";

static const struct {
    const char *name;
    void (*run)(const struct ablation_settings *settings);
} ablations[] = {{"order", ablation_order},
                 {"locator", ablation_locator},
                 {"values", ablation_values},
                 {"hashlog", ablation_hashlog}};

#define ABLATION_COUNT (sizeof(ablations) / sizeof(ablations[0]))

void
ablation_fail(const char *what)
{
    (void)fprintf(stderr, "ablation_bench: %s\n", what);
    exit(CLI_EXIT_STORE);
}

struct ablation_row
ablation_row_make(const char *ablation, const char *variant, const char *scene)
{
    return (struct ablation_row){.ablation = ablation, .variant = variant, .scene = scene};
}

void
ablation_row_put(struct ablation_row *row, const char *key, double value)
{
    ablation_must(row->count < ABLATION_FIGURES_MAX, "a row has too many figures");
    row->figures[row->count].key = key;
    row->figures[row->count++].value = value;
}

void
ablation_row_print(const struct ablation_settings *settings, const struct ablation_row *row)
{
    if (settings->json) {
        struct json_writer writer = json_begin(stdout);

        json_put_text(&writer, "ablation", row->ablation);
        json_put_text(&writer, "variant", row->variant);
        json_put_text(&writer, "scene", row->scene);
        if (row->missing != NULL)
            json_put_text(&writer, "missing", row->missing);
        for (size_t i = 0; i < row->count; i++)
            json_put_double(&writer, row->figures[i].key, row->figures[i].value);
        json_end(&writer);
    } else {
        (void)printf("%s: %s, %s\n", row->ablation, row->variant, row->scene);
        if (row->missing != NULL)
            (void)printf("    left out of this build: install %s\n", row->missing);
        for (size_t i = 0; i < row->count; i++)
            (void)printf("    %-28s %14.4g\n", row->figures[i].key, row->figures[i].value);
    }
    (void)fflush(stdout);
}

varve_id
ablation_page_id(uint64_t seed, uint64_t chain, uint64_t depth)
{
    varve_id id;

    for (uint64_t i = 0; i < 4; i++) {
        uint64_t word = random_mix(random_mix(random_mix(seed + i) ^ chain) + depth);

        memcpy(id.bytes + 8 * i, &word, sizeof(word));
    }
    return id;
}

uint64_t
ablation_io_bytes(const char *which)
{
    FILE *file = fopen("/proc/self/io", "re");
    size_t size = strlen(which);
    char line[128];
    uint64_t bytes = 0;
    bool found = false;

    ablation_must(file != NULL, "/proc/self/io cannot be read");
    while (!found && fgets(line, sizeof(line), file) != NULL) {
        found = strncmp(line, which, size) == 0 && line[size] == ':';
        if (found)
            bytes = strtoull(line + size + 1, NULL, 10);
    }
    (void)fclose(file);
    ablation_must(found, "/proc/self/io does not say what was read and written");
    return bytes;
}

const char *
ablation_path(const struct ablation_settings *settings, const char *name)
{
    static char path[ABLATION_PATH_BYTES];

    (void)snprintf(path, sizeof(path), "%s/" BENCH_PREFIX "%s", settings->dir, name);
    return path;
}

/* Empty but for what an earlier bench left, which is removed. */
static bool
prepare_dir(const char *dir)
{
    char other[256] = "";

    (void)mkdir(dir, 0777);
    if (bench_dir_clean(dir, false, other) < 0) {
        cli_error("ablation_bench: cannot make or read %s", dir);
        return false;
    }
    if (*other != '\0') {
        cli_error("ablation_bench: %s is not empty (it holds '%s'): name an empty or a new directory", dir, other);
        return false;
    }
    return bench_dir_clean(dir, true, other) == 0;
}

/* False, with a message: there is no such ablation. */
static bool
run(const struct ablation_settings *settings, const char *only)
{
    const char *names[ABLATION_COUNT];
    bool found = false;

    for (size_t i = 0; i < ABLATION_COUNT; i++) {
        names[i] = ablations[i].name;
        if (only != NULL && strcmp(only, ablations[i].name) != 0)
            continue;
        found = true;
        (void)fprintf(stderr, "ablation_bench: %s (%zu of %zu)\n", ablations[i].name, i + 1, ABLATION_COUNT);
        ablations[i].run(settings);
    }
    if (!found) {
        const char *nearest = cli_nearest(only, names, ABLATION_COUNT);

        cli_error("ablation_bench: there is no ablation '%s'%s%s%s", only, nearest == NULL ? "" : ": did you mean '",
                  nearest == NULL ? "" : nearest, nearest == NULL ? "" : "'?");
    }
    return found;
}

int
main(int argc, char **argv)
{
    static struct ablation_settings settings = {.pages = 1000000,
                                                .hashlog_small = 1000000,
                                                .hashlog_large = 10000000,
                                                .chain = 2000,
                                                .bytes = (uint64_t)1 << 30,
                                                .lookups = 200000,
                                                .seed = 1};
    const char *only = NULL;
    const struct cli_option options[] = {
        {"only", CLI_TEXT, &only, "NAME", "one ablation, of those above (all)", 0, 0, 0},
        {"pages", CLI_SIZE, &settings.pages, "N", "of the index, for order and locator (1000000)", 10000,
         UINT64_C(1) << 30, 0},
        {"small-pages", CLI_SIZE, &settings.hashlog_small, "N", "of the smaller store, for hashlog (1000000); 0: none",
         0, UINT64_C(1) << 32, 0},
        {"large-pages", CLI_SIZE, &settings.hashlog_large, "N", "of the larger one (10000000); 0: none", 0,
         UINT64_C(1) << 32, 0},
        {"chain", CLI_U64, &settings.chain, "N", "pages of a chain (2000)", 64, 100000, 0},
        {"bytes", CLI_SIZE, &settings.bytes, "SIZE", "payload of a store, for values and hashlog (1G)",
         (uint64_t)8 << 20, UINT64_C(1) << 42, 0},
        {"lookups", CLI_U64, &settings.lookups, "N", "of single pages, warm (200000)", 400, UINT64_C(1) << 32, 0},
        {"seed", CLI_U64, &settings.seed, "N", "of ids and order (1)", 0, 0, 0},
        {"json", CLI_FLAG, &settings.json, NULL, "one JSON object a line", 0, 0, 'j'},
    };
    const struct cli_spec spec = {.name = "ablation_bench",
                                  .is_program = true,
                                  .operands = "DIR",
                                  .description = description,
                                  .examples = examples,
                                  .options = options,
                                  .option_count = sizeof(options) / sizeof(options[0]),
                                  .operands_min = 1,
                                  .operands_max = 1};
    int exit_code;

    if (!cli_parse(&spec, &argc, &argv, &exit_code))
        return exit_code;
    settings.dir = argv[0];
    if (settings.pages < 4 * settings.chain) {
        cli_error("ablation_bench: --pages must be at least four chains (--chain)");
        return CLI_EXIT_USAGE;
    }
    if (!prepare_dir(settings.dir) || !run(&settings, only))
        return CLI_EXIT_USAGE;
    return cli_flush(EXIT_SUCCESS);
}
