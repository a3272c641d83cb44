/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The locator against Bloom filters, on single pages: which run and block may have it? Keys in hash order, since a filter only says that a run may have a key,
 * and the block then has to follow from the key; the files, the blocks, their cache and their format are the same.
 *
 *   locator                 fingerprint -> block, as lookups of the index do it
 *   bloom                   10 bits a key for each run, then a binary search in the block index, then one in the block
 *   bloom, one line         the same, with all bits of a key in one cache line
 *   locator, extents        what the store has: the same pages as extents in the order of branches (a Bloom filter could not lead to these)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ablation.h"
#include "bench_turns.h"
#include "bloom.h"
#include "cli.h"
#include "random.h"

#define NAME                 "locator"
#define COLD_LOOKUPS_MAX     4000                  /* fewer where --lookups is small */
#define SMALL_CACHE          ((uint64_t)256 << 10) /* a block for each shard: lookups at random find nothing in it */
#define BIG_CACHE            ((uint64_t)4 << 30)
#define MEMTABLE_PAGE_BYTES  400 /* more than one takes, so that a run is one flush */
#define MEMTABLE_BYTES_SPARE ((uint64_t)4 << 20)
#define RUNS_UNMERGED        31

struct filters {
    struct bloom blooms[RUNS_UNMERGED]; /* in the order of the view's runs */
    uint32_t count;
};

/* What lookups counted. */
struct lookup_counts {
    uint64_t false_hits; /* runs that were looked into for nothing */
    uint64_t found;
};

struct lookup_run {
    struct bench_index *bench;
    const struct filters *filters; /* NULL: by locator */
    size_t hit_count, miss_count;
    varve_id *hits, *misses;
};

/* The page with this id in a block of single pages in the order of ids, or the number of pages. */
static uint32_t
search_block(const uint8_t *block, const struct key *key, const uint8_t *id)
{
    uint32_t low = 0, high = block_pages(block);

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (turns_hash_key(block_id(block, middle)).branch < key->branch)
            low = middle + 1;
        else
            high = middle;
    }
    return low < block_pages(block) && memcmp(block_id(block, low), id, ID_PREFIX_BYTES) == 0 ? low
                                                                                              : block_pages(block);
}

static bool
find_in_block(const struct index *index, const uint8_t *block, const struct key *key, const uint8_t *id,
              struct location *out)
{
    uint32_t page = search_block(block, key, id);
    struct block_walk walk;
    struct entry entry = {.count = 0};

    if (page == block_pages(block))
        return false;
    block_walk_init(&walk, block);
    while (walk.page <= page)
        ablation_must(block_walk_next(&walk, &entry), "a block is not what it was");
    if (index->hooks.segment_state(index->hooks.arg, entry.segment) == SEGMENT_GONE)
        return false;
    entry_locate(&entry, page - (walk.page - entry.count), out);
    return true;
}

/* What index_cursor_find() does, with filters in place of locators. */
static bool
find_by_filters(struct index_view *view, const struct filters *filters, const varve_id *id,
                struct lookup_counts *counts)
{
    struct key key = turns_hash_key(id->bytes);
    uint64_t hash = hash_id(TURNS_NAMESPACE, id->bytes);
    struct memtable_probe probe;
    struct location location;
    uint32_t page;

    for (uint32_t i = 0; i < filters->count; i++)
        bloom_prefetch(&filters->blooms[i], hash);
    memtable_prefetch(view->memtables[0], hash);
    memtable_probe_init(&probe, view->memtables[0], hash);
    if (memtable_probe_next(&probe, TURNS_NAMESPACE, id->bytes, &page) != NULL)
        return true;
    for (uint32_t i = 0; i < filters->count; i++) {
        struct block_ref *block;
        bool found;
        uint32_t at;

        if (!bloom_test(&filters->blooms[i], hash))
            continue;
        at = run_find_block(view->runs[i], &key);
        if (at == UINT32_MAX) { /* before the first key */
            counts->false_hits++;
            continue;
        }
        ablation_must(block_cache_pin(&view->index->cache, view->runs[i], at, &block) == VARVE_OK,
                      "a block cannot be read");
        found = find_in_block(view->index, block->data, &key, id->bytes, &location);
        block_cache_unpin(&view->index->cache, block);
        if (found)
            return true;
        counts->false_hits++;
    }
    return false;
}

/* Look up the ids; seconds it took. */
static double
look_up(const struct lookup_run *run, const varve_id *ids, size_t count, struct lookup_counts *counts)
{
    struct index_view *view = index_view_acquire(run->bench->index);
    struct index_cursor cursor;
    struct location location;
    uint64_t began = cli_now_ns(), ended;

    index_cursor_init(&cursor, view);
    for (size_t i = 0; i < count; i++) {
        counts->found += run->filters != NULL ? find_by_filters(view, run->filters, &ids[i], counts)
                                              : index_cursor_find(&cursor, TURNS_NAMESPACE, &ids[i], &location);
    }
    ended = cli_now_ns();
    counts->false_hits += cursor.locator_false_hits;
    index_cursor_deinit(&cursor);
    index_view_release(view);
    return (double)(ended - began) / 1e9;
}

static uint64_t
filter_bytes(struct bench_index *bench, const struct filters *filters)
{
    struct index_view *view = index_view_acquire(bench->index);
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < view->run_count; i++)
        bytes += filters == NULL ? view->runs[i]->locator.bytes : bloom_bytes(&filters->blooms[i]);
    index_view_release(view);
    return bytes;
}

static void
measure(const struct ablation_settings *settings, const struct lookup_run *run, const char *variant, uint32_t runs)
{
    struct lookup_counts misses = {0}, hits = {0}, cold_misses = {0}, cold_hits = {0};
    double pages = (double)ablation_pages(settings), seconds;
    struct ablation_row row;
    uint64_t filters = filter_bytes(run->bench, run->filters), blocks;
    size_t cold = run->hit_count < COLD_LOOKUPS_MAX ? run->hit_count : COLD_LOOKUPS_MAX;
    char scene[32];

    (void)snprintf(scene, sizeof(scene), "%u run%s", runs, runs == 1 ? "" : "s");
    row = ablation_row_make(NAME, variant, scene);
    ablation_row_put(&row, "runs", runs);
    ablation_row_put(&row, "filter_bytes_per_page", (double)filters / pages);
    (void)look_up(run, run->hits, run->hit_count, &hits); /* to warm up */
    (void)look_up(run, run->misses, run->miss_count, &misses);
    hits = misses = (struct lookup_counts){0};
    seconds = look_up(run, run->misses, run->miss_count, &misses);
    ablation_row_put(&row, "false_positives_per_run", (double)misses.false_hits / (double)run->miss_count / runs);
    ablation_row_put(&row, "miss_ns", seconds / (double)run->miss_count * 1e9);
    seconds = look_up(run, run->hits, run->hit_count, &hits);
    ablation_row_put(&row, "hit_ns", seconds / (double)run->hit_count * 1e9);
    ablation_must(hits.found == run->hit_count && misses.found == 0, "a lookup went wrong");

    /* The filters stay where they are: those of locators come with the open. */
    bench_index_reopen(run->bench, SMALL_CACHE);
    seconds = look_up(run, run->misses, cold, &cold_misses);
    blocks = bench_index_blocks_read(run->bench);
    ablation_row_put(&row, "cold_miss_us", seconds / (double)cold * 1e6);
    ablation_row_put(&row, "cold_miss_blocks", (double)blocks / (double)cold);
    seconds = look_up(run, run->hits, cold, &cold_hits);
    ablation_row_put(&row, "cold_hit_us", seconds / (double)cold * 1e6);
    ablation_row_put(&row, "cold_hit_blocks", (double)(bench_index_blocks_read(run->bench) - blocks) / (double)cold);
    ablation_must(cold_hits.found == cold && cold_misses.found == 0, "a cold lookup went wrong");
    ablation_row_print(settings, &row);
    bench_index_reopen(run->bench, BIG_CACHE);
}

/* One filter a run, of the ids that its blocks have. */
static void
filters_make(struct filters *filters, struct bench_index *bench, bool one_line)
{
    struct index_view *view = index_view_acquire(bench->index);

    filters->count = view->run_count;
    ablation_must(filters->count <= RUNS_UNMERGED, "too many runs");
    for (uint32_t i = 0; i < filters->count; i++) {
        const struct run *run = view->runs[i];

        ablation_must(bloom_init(&filters->blooms[i], run->meta.pages, one_line), "out of memory");
        for (uint32_t at = 0; at < run->meta.blocks; at++) {
            struct block_ref *block;

            ablation_must(block_cache_pin(&bench->index->cache, run, at, &block) == VARVE_OK, "a block cannot be read");
            for (uint32_t page = 0; page < block_pages(block->data); page++)
                bloom_insert(&filters->blooms[i], hash_id(TURNS_NAMESPACE, block_id(block->data, page)));
            block_cache_unpin(&bench->index->cache, block);
        }
    }
    index_view_release(view);
}

static void
filters_free(struct filters *filters)
{
    for (uint32_t i = 0; i < filters->count; i++)
        bloom_deinit(&filters->blooms[i]);
}

/* All pages in `runs` runs of about the same size, which are not merged. */
static void
build(const struct ablation_settings *settings, struct bench_index *bench, enum turns_kind kind, uint32_t runs)
{
    struct index_settings shape = bench_index_settings();
    uint64_t chains = settings->pages / settings->chain;

    shape.memtable_bytes = settings->pages / runs * MEMTABLE_PAGE_BYTES + MEMTABLE_BYTES_SPARE;
    shape.runs_per_level = shape.runs_last_level = RUNS_UNMERGED;
    bench_index_create(bench, ablation_path(settings, NAME), &shape);
    for (uint32_t i = 0; i < runs; i++) {
        turns_insert(bench, kind, chains * i / runs, chains * (i + 1) / runs, settings);
        bench_index_flush(bench);
    }
    ablation_must(bench->run_count == runs, "not as many runs as asked for");
    bench_index_reopen(bench, BIG_CACHE);
}

static void
measure_runs(const struct ablation_settings *settings, const struct lookup_run *ids, uint32_t runs)
{
    struct lookup_run run = *ids;
    struct bench_index bench;
    struct filters filters;

    run.bench = &bench;
    build(settings, &bench, TURNS_HASH_ORDER, runs);
    measure(settings, &run, "locator", runs);
    for (int one_line = 0; one_line < 2; one_line++) {
        filters_make(&filters, &bench, one_line == 1);
        run.filters = &filters;
        measure(settings, &run, one_line == 1 ? "bloom, one line" : "bloom", runs);
        filters_free(&filters);
    }
    bench_index_destroy(&bench);
    run.filters = NULL;
    build(settings, &bench, TURNS_EXTENTS, runs);
    measure(settings, &run, "locator, extents", runs);
    bench_index_destroy(&bench);
}

void
ablation_locator(const struct ablation_settings *settings)
{
    static const uint32_t run_counts[] = {1, 4, 16};
    struct random random = random_make(settings->seed + 2);
    uint64_t chains = settings->pages / settings->chain;
    struct lookup_run run = {.hit_count = (size_t)(settings->lookups / ABLATION_HITS_PART),
                             .miss_count = (size_t)settings->lookups};

    run.hits = reallocarray(NULL, run.hit_count, sizeof(varve_id));
    run.misses = reallocarray(NULL, run.miss_count, sizeof(varve_id));
    ablation_must(run.hits != NULL && run.misses != NULL, "out of memory");
    for (size_t i = 0; i < run.hit_count; i++)
        run.hits[i] =
            ablation_page_id(settings->seed, random_below(&random, chains), random_below(&random, settings->chain));
    for (size_t i = 0; i < run.miss_count; i++)
        run.misses[i] = ablation_page_id(settings->seed, ABLATION_ABSENT + i, 0);
    for (size_t i = 0; i < sizeof(run_counts) / sizeof(run_counts[0]); i++)
        measure_runs(settings, &run, run_counts[i]);
    free(run.hits);
    free(run.misses);
}
