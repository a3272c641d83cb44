/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of keys, and extents: the same pages under three kinds of entries, in the store's own index.
 *
 *   extents       a turn of a chain is one entry under branch | depth: the store
 *   single pages  branch | depth, but each page an entry of its own; a gap in the log behind each keeps merges from joining them
 *   hash order    each page an entry under a key that its id gives: what stores do that know nothing but ids
 *
 * Chains grow in turns of 8 to 24 pages, a random one at a time, so that the turns of a chain lie far apart in the log and in several memtables. Then whole
 * chains are probed: one lookup after the other, and shared out to threads, so that reads of different blocks wait for the device together.
 */
#include <stdlib.h>
#include <string.h>

#include "ablation.h"
#include "bench.h"
#include "bench_index.h"
#include "bench_turns.h"
#include "cli.h"
#include "directory.h"
#include "engines/page_crew.h"
#include "page_content.h"
#include "random.h"

#define NAME           "order"
#define COLD_PROBES    15 /* an open for each */
#define SMALL_PROBES   40
#define WARM_PROBES    500
#define SMALL_SHARE    10 /* of the bytes of the index under extents: what a cache that is too small holds */
#define RUNS_UNMERGED  31
#define BIG_CACHE      ((uint64_t)4 << 30)
#define RAW_READ_BYTES ((uint64_t)1 << 20)

struct probe_run {
    const struct ablation_settings *settings;
    struct bench_index *bench;
    struct crew *crew; /* NULL: one lookup after the other */
    varve_id *ids;     /* of the chain */
    double *times_us;
    double read_rate; /* bytes a second that the device reads */
};

struct find_call {
    struct index_view *view;
    const varve_id *ids;
    atomic_size_t found;
};

static void
find_part(void *arg, size_t first, size_t count)
{
    struct find_call *call = arg;
    struct index_cursor cursor;
    struct location location;
    size_t found = 0;

    index_cursor_init(&cursor, call->view);
    for (size_t i = 0; i < count; i++)
        found += index_cursor_find(&cursor, TURNS_NAMESPACE, &call->ids[first + i], &location);
    index_cursor_deinit(&cursor);
    (void)atomic_fetch_add(&call->found, found);
}

/* Find all pages of a chain; the time it took. */
static double
probe_chain(const struct probe_run *run, uint64_t chain)
{
    size_t count = (size_t)run->settings->chain;
    struct find_call call = {.ids = run->ids};
    uint64_t began, ended;

    for (size_t i = 0; i < count; i++)
        run->ids[i] = ablation_page_id(run->settings->seed, chain, i);
    call.view = index_view_acquire(run->bench->index);
    began = cli_now_ns();
    if (run->crew == NULL)
        find_part(&call, 0, count);
    else
        page_crew_run(run->crew, count, count / (PAGE_CREW_HELPERS + 1) + 1, find_part, &call);
    ended = cli_now_ns();
    index_view_release(call.view);
    ablation_must(atomic_load(&call.found) == count, "a page that was put is not found");
    return (double)(ended - began) / 1e3;
}

static int
compare_times(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Probe random chains; with `cache_bytes` other than 0, each after an open with a cache of that size. */
static void
probe_scene(struct probe_run *run, const char *variant, const char *scene, size_t probes, uint64_t cache_bytes)
{
    static const struct {
        const char *key;
        uint64_t page_bytes;
    } loads[] = {{"part_of_load_16k", 16384}, {"part_of_load_256k", 262144}};
    struct ablation_row row = ablation_row_make(NAME, variant, scene);
    struct random random = random_make(run->settings->seed + 1);
    uint64_t chains = run->settings->pages / run->settings->chain, before = 0, blocks = 0;
    double median;

    for (size_t i = 0; i < probes; i++) {
        uint64_t chain = random_below(&random, chains);

        if (cache_bytes != 0)
            bench_index_reopen(run->bench, cache_bytes);
        before = bench_index_blocks_read(run->bench);
        run->times_us[i] = probe_chain(run, chain);
        blocks += bench_index_blocks_read(run->bench) - before;
    }
    qsort(run->times_us, probes, sizeof(*run->times_us), compare_times);
    median = run->times_us[probes / 2];
    ablation_row_put(&row, "us_per_chain", median);
    ablation_row_put(&row, "runs", (double)run->bench->run_count);
    ablation_row_put(&row, "blocks_per_chain", (double)blocks / (double)probes);
    for (size_t i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
        double load_us = (double)(run->settings->chain * loads[i].page_bytes) / run->read_rate * 1e6;

        ablation_row_put(&row, loads[i].key, median / (median + load_us));
    }
    ablation_row_print(run->settings, &row);
}

static void
print_built(const struct ablation_settings *settings, struct bench_index *bench, const char *variant, double insert_us)
{
    struct ablation_row row = ablation_row_make(NAME, variant, "built");
    double pages = (double)ablation_pages(settings);

    ablation_row_put(&row, "pages", pages);
    ablation_row_put(&row, "runs", (double)bench->run_count);
    ablation_row_put(&row, "disk_bytes_per_page", (double)bench_index_disk(bench) / pages);
    ablation_row_put(&row, "memory_bytes_per_page", (double)bench_index_memory(bench) / pages);
    ablation_row_put(&row, "memtable_bytes_per_page", bench->memtable_bytes_per_page);
    ablation_row_put(&row, "flushed_bytes_per_page", (double)bench->bytes_flushed / pages);
    ablation_row_put(&row, "merged_bytes_per_page", (double)bench->bytes_merged / pages);
    ablation_row_put(&row, "insert_us_per_page", insert_us / pages);
    ablation_row_print(settings, &row);
}

static void
take_raw(void *arg, const struct bench_result *result)
{
    if (strcmp(result->phase, "raw_read") == 0)
        *(double *)arg = (double)result->bytes / result->seconds;
}

/* Bytes a second that the disk reads, in large pieces: what the payload of a chain takes to load. */
static double
measure_reads(const struct ablation_settings *settings)
{
    const char *path = ablation_path(settings, "raw");
    const struct bench_settings bench = {.dir = settings->dir,
                                         .page_bytes = RAW_READ_BYTES,
                                         .pages = settings->bytes / RAW_READ_BYTES,
                                         .batch = 64,
                                         .chain = 64,
                                         .seed = 1};
    struct ablation_row row = ablation_row_make(NAME, "raw", "payload");
    struct page_content *content = page_content_create();
    double rate = 0;
    const struct bench_sink sink = {take_raw, &rate};

    ablation_must(content != NULL, "out of memory");
    ablation_must(bench_raw(&bench, path, content, &sink, NULL) == VARVE_OK, "the disk cannot be measured");
    (void)directory_delete(path);
    page_content_destroy(content);
    ablation_row_put(&row, "gb_per_s", rate / 1e9);
    ablation_row_print(settings, &row);
    return rate;
}

/* With every flush a run of its own, as far as there may be so many: chains lie in pieces in all of them, as before merges have come to them. */
static void
measure_unmerged(struct probe_run *run, enum turns_kind kind, const char *variant, struct crew *crew)
{
    const struct ablation_settings *settings = run->settings;
    struct index_settings shape = bench_index_settings();

    shape.runs_per_level = shape.runs_last_level = RUNS_UNMERGED;
    bench_index_create(run->bench, ablation_path(settings, NAME), &shape);
    turns_insert(run->bench, kind, 0, settings->pages / settings->chain, settings);
    bench_index_flush(run->bench);
    run->crew = NULL;
    probe_scene(run, variant, "cold, unmerged", COLD_PROBES, shape.block_cache_bytes);
    run->crew = crew;
    probe_scene(run, variant, "cold, unmerged, 17 at once", COLD_PROBES, shape.block_cache_bytes);
    bench_index_destroy(run->bench);
}

static void
measure_kind(struct probe_run *run, enum turns_kind kind, const char *variant, uint64_t *small_cache)
{
    const struct ablation_settings *settings = run->settings;
    struct index_settings shape = bench_index_settings();
    struct bench_index bench;
    struct crew crew;
    uint64_t began;

    run->bench = &bench;
    crew_init(&crew, PAGE_CREW_HELPERS);
    measure_unmerged(run, kind, variant, &crew);
    bench_index_create(&bench, ablation_path(settings, NAME), &shape);
    began = cli_now_ns();
    turns_insert(&bench, kind, 0, settings->pages / settings->chain, settings);
    bench_index_flush(&bench);
    print_built(settings, &bench, variant, (double)(cli_now_ns() - began) / 1e3);
    if (*small_cache == 0)
        *small_cache = bench_index_disk(&bench) / SMALL_SHARE;
    for (int threads = 0; threads < 2; threads++) {
        run->crew = threads == 1 ? &crew : NULL;
        probe_scene(run, variant, threads == 1 ? "cold, 17 at once" : "cold", COLD_PROBES, shape.block_cache_bytes);
        bench_index_reopen(&bench, *small_cache);
        probe_scene(run, variant, threads == 1 ? "small cache, 17 at once" : "small cache", SMALL_PROBES, 0);
    }
    run->crew = NULL;
    bench_index_reopen(&bench, BIG_CACHE);
    for (uint64_t chain = 0; chain < settings->pages / settings->chain; chain++)
        (void)probe_chain(run, chain);
    probe_scene(run, variant, "warm", WARM_PROBES, 0);
    bench_index_destroy(&bench);
    crew_deinit(&crew);
}

void
ablation_order(const struct ablation_settings *settings)
{
    static const struct {
        enum turns_kind kind;
        const char *variant;
    } kinds[] = {{TURNS_EXTENTS, "extents"}, {TURNS_SINGLE_PAGES, "single pages"}, {TURNS_HASH_ORDER, "hash order"}};
    struct probe_run run = {.settings = settings};
    uint64_t small_cache = 0;

    run.ids = reallocarray(NULL, (size_t)settings->chain, sizeof(*run.ids));
    run.times_us = reallocarray(NULL, WARM_PROBES, sizeof(*run.times_us));
    ablation_must(run.ids != NULL && run.times_us != NULL, "out of memory");
    run.read_rate = measure_reads(settings);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        measure_kind(&run, kinds[i].kind, kinds[i].variant, &small_cache);
    free(run.ids);
    free(run.times_us);
}
