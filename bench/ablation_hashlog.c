/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The LSM index against a hash table in memory over the same log (tools/engines/hashlog.c), which its owner saves whole at each sync and loads whole at each
 * open: pages of no bytes, so that only the index is measured, at two sizes, and then pages of 256 KiB.
 *
 * The pages are put by a child process that ends without closing, as one that is killed does. It puts one chain after its last sync: is that there
 * afterwards?
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli.h"
#include "directory.h"
#include "engine_load.h"
#include "random.h"

#define NAME            "hashlog"
#define INDEX_CAPACITY  ((uint64_t)1 << 40) /* pages of no bytes: only headers, and no reclaim */
#define LOAD_PAGE_BYTES ((uint64_t)262144)
#define CAPACITY_SPARE  ((uint64_t)1 << 30)
#define MILLION         1000000
#define COLD_LOOKUPS    2000
#define COLD_CHAINS     50
#define WARM_CHAINS     500

/* What the child tells. */
struct put_report {
    double put_seconds;
    double sync_seconds; /* of one more chain */
    uint64_t sync_bytes;
};

struct variant {
    const char *name;
    const char *engine;
    const char *block_cache; /* of varve; NULL: the default */
};

/* The child: all chains and a sync, a chain and a sync, a chain. */
static void
put_chains(struct engine_load *load, uint64_t chains, struct put_report *report)
{
    uint64_t written;

    engine_load_open(load);
    for (uint64_t chain = 0; chain < chains; chain++)
        report->put_seconds += engine_load_put(load, chain);
    report->put_seconds += engine_load_sync(load);
    written = ablation_io_bytes("write_bytes");
    (void)engine_load_put(load, chains);
    report->sync_seconds = engine_load_sync(load);
    report->sync_bytes = ablation_io_bytes("write_bytes") - written;
    (void)engine_load_put(load, chains + 1);
}

static void
put_and_die(struct engine_load *load, uint64_t chains, struct put_report *out)
{
    struct put_report *report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 0;
    pid_t child;

    ablation_must(report != MAP_FAILED, "out of memory");
    (void)fflush(NULL);
    child = fork();
    if (child == 0) {
        put_chains(load, chains, report);
        _exit(EXIT_SUCCESS);
    }
    ablation_must(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
                      WEXITSTATUS(status) == EXIT_SUCCESS,
                  "the process that puts has failed");
    *out = *report;
    (void)munmap(report, sizeof(*report));
}

static double
open_ms(struct engine_load *load)
{
    uint64_t began = cli_now_ns();

    engine_load_open(load);
    return (double)(cli_now_ns() - began) / 1e6;
}

/* Mean seconds of a lookup of one page at random; of one that is not there. */
static double
look_up(struct engine_load *load, uint64_t chains, size_t count, bool miss)
{
    struct random random = random_make(load->settings->seed + 4);
    double seconds = 0;
    uint64_t found = 0;

    for (size_t i = 0; i < count; i++)
        found += engine_load_probe(load, miss ? ABLATION_ABSENT + i : random_below(&random, chains),
                                   random_below(&random, load->settings->chain), 1, &seconds);
    ablation_must(found == (miss ? 0 : count), "a lookup went wrong");
    return seconds / (double)count;
}

static double
probe_chains(struct engine_load *load, uint64_t chains, size_t count)
{
    struct random random = random_make(load->settings->seed + 5);
    double seconds = 0;

    for (size_t i = 0; i < count; i++)
        ablation_must(engine_load_probe(load, random_below(&random, chains), 0, load->settings->chain, &seconds) ==
                          load->settings->chain,
                      "a page that was put is not there");
    return seconds / (double)count;
}

/* Have all blocks in the cache, as far as they fit. Merges that were due at the open would replace them: first those. */
static void
warm_up(struct engine_load *load, uint64_t chains)
{
    double seconds = 0;

    (void)engine_load_rest();
    for (uint64_t chain = 0; chain < chains; chain++)
        (void)engine_load_probe(load, chain, 0, load->settings->chain, &seconds);
}

/* Every lookup of `cold` begins with the index as an open leaves it, but for what those before it read. */
static void
measure_lookups(struct engine_load *load, uint64_t chains, struct ablation_row *row)
{
    (void)engine_load_rest();
    engine_load_close(load);
    engine_load_open(load);
    ablation_row_put(row, "cold_lookup_us", look_up(load, chains, COLD_LOOKUPS, false) * 1e6);
    engine_load_close(load);
    engine_load_open(load);
    ablation_row_put(row, "cold_chain_us", probe_chains(load, chains, COLD_CHAINS) * 1e6);
    warm_up(load, chains);
    ablation_row_put(row, "lookup_ns",
                     look_up(load, chains, (size_t)load->settings->lookups / ABLATION_HITS_PART, false) * 1e9);
    ablation_row_put(row, "miss_ns", look_up(load, chains, (size_t)load->settings->lookups, true) * 1e9);
    ablation_row_put(row, "chain_us", probe_chains(load, chains, WARM_CHAINS) * 1e6);
}

static void
measure_index(const struct ablation_settings *settings, const struct variant *variant, uint64_t pages,
              const char *scene)
{
    struct ablation_row row = ablation_row_make(NAME, variant->name, scene);
    const struct engine_ops *ops = engine_find(variant->engine, &row.missing);
    uint64_t chains = pages / settings->chain;
    double put_pages = (double)(chains * settings->chain), seconds = 0;
    struct put_report report;
    struct engine_load load;

    engine_load_init(&load, settings, ops, 0, INDEX_CAPACITY, variant->block_cache);
    put_and_die(&load, chains, &report);
    ablation_row_put(&row, "pages", put_pages);
    ablation_row_put(&row, "put_us_per_page", report.put_seconds / put_pages * 1e6);
    ablation_row_put(&row, "sync_ms", report.sync_seconds * 1e3);
    ablation_row_put(&row, "sync_mb", (double)report.sync_bytes / 1e6);
    directory_uncache(load.path);
    ablation_row_put(&row, "killed_open_ms", open_ms(&load));
    ablation_row_put(&row, "killed_lost_pages",
                     (double)(settings->chain - engine_load_probe(&load, chains + 1, 0, settings->chain, &seconds)));
    engine_load_close(&load);
    ablation_row_put(&row, "open_ms", open_ms(&load));
    ablation_row_put(&row, "memory_bytes_per_page", (double)engine_load_stat(&load, "index_memory_bytes") / put_pages);
    measure_lookups(&load, chains, &row);
    ablation_row_put(&row, "cache_bytes_per_page", (double)engine_load_stat(&load, "block_cache_bytes") / put_pages);
    ablation_row_print(settings, &row);
    engine_load_deinit(&load);
}

static void
measure_load(const struct ablation_settings *settings, const struct variant *variant)
{
    struct ablation_row row = ablation_row_make(NAME, variant->name, "pages of 256 KiB");
    const struct engine_ops *ops = engine_find(variant->engine, &row.missing);
    uint64_t chains = settings->bytes / LOAD_PAGE_BYTES / settings->chain + 1;
    double bytes = (double)(chains * settings->chain * LOAD_PAGE_BYTES), puts = 0, gets = 0;
    struct engine_load load;

    engine_load_init(&load, settings, ops, LOAD_PAGE_BYTES, 2 * (uint64_t)bytes + CAPACITY_SPARE, variant->block_cache);
    engine_load_open(&load);
    for (uint64_t chain = 0; chain < chains; chain++)
        puts += engine_load_put(&load, chain);
    puts += engine_load_sync(&load);
    engine_load_close(&load);
    engine_load_open(&load);
    for (uint64_t chain = 0; chain < chains; chain++)
        gets += engine_load_get(&load, chain);
    ablation_row_put(&row, "put_gb_per_s", bytes / puts / 1e9);
    ablation_row_put(&row, "get_gb_per_s", bytes / gets / 1e9);
    ablation_row_print(settings, &row);
    engine_load_deinit(&load);
}

void
ablation_hashlog(const struct ablation_settings *settings)
{
    static const struct variant variants[] = {
        {"varve", "varve", NULL}, {"varve, big cache", "varve", "2G"}, {"hashlog", "hashlog", NULL}};
    const uint64_t sizes[] = {settings->hashlog_small, settings->hashlog_large};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char scene[64];

        if (sizes[i] % MILLION == 0)
            (void)snprintf(scene, sizeof(scene), "%" PRIu64 " million pages", sizes[i] / MILLION);
        else
            (void)snprintf(scene, sizeof(scene), "%" PRIu64 " pages", sizes[i]);
        for (size_t k = 0; sizes[i] >= settings->chain && k < sizeof(variants) / sizeof(variants[0]); k++) {
            (void)fprintf(stderr, "    %s, %s\n", variants[k].name, scene);
            measure_index(settings, &variants[k], sizes[i], scene);
        }
    }
    for (size_t k = 0; k < sizeof(variants) / sizeof(variants[0]); k += 2) /* the cache has no part in it */
        measure_load(settings, &variants[k]);
}
