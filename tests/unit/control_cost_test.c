/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the cost model predicts, against what an index really does: six configurations under four mixes of work. The prediction for each comes from counters and levels of
 * one configuration alone. What is measured are counts (blocks read, locators asked, flushes, pages merged), priced with fixed constants, so that the test does not depend on
 * the machine.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "control/grid.h"
#include "control/measure.h"
#include "format/run_format.h"
#include "index_model.h"
#include "random.h"

#define BRANCHES    300
#define TURN        16
#define LOAD_TURNS  4000 /* before anything is measured: 64,000 pages */
#define ROUNDS      400
#define SECONDS     40.0 /* that the rounds are said to have taken: any will do */
#define BRANCH_MAX  1000000
#define MIXES       4
#define CONFIGS     6
#define CACHE_BYTES ((uint64_t)1 << 20)

struct work {
    unsigned turns, walks, misses; /* of each round */
};

static const struct work works[MIXES] = {{8, 1, 0}, {4, 4, 200}, {1, 12, 20}, {6, 2, 2000}};

/* The first is the one that predictions are made from. */
static const struct control_choice configs[CONFIGS] = {
    {8, 3, 1, 15, 256 << 10, CACHE_BYTES},      {4, 1, 1, 15, 256 << 10, CACHE_BYTES},
    {10, 8, 4, 15, 256 << 10, CACHE_BYTES},     {4, 1, 1, 15, 1024 << 10, 512 << 10},
    {10, 8, 4, 15, 384 << 10, 2 * CACHE_BYTES}, {6, 2, 2, 15, 1024 << 10, 256 << 10},
};

/* Seconds: a block from a device, a search, a page merged; a flush takes its pages and no more. */
static const struct control_constants prices = {
    .read_s = 100e-6,
    .locator_s = 0.1e-6,
    .false_rate = 1.0 / 32768,
    .false_bits = 15,
    .merge_page_s = 0.5e-6,
    .flush_page_s = 0.5e-6,
    .flush_s = 2e-3,
    .memtable_pages = 1.0 / 40,
    .extent_pages = TURN,
};

/* One index under one kind of work. */
struct trial {
    struct model model;
    struct random random;
    uint32_t depths[BRANCHES];
    uint64_t pages;
    double seconds; /* of `prices`, since the load */
};

static void
put_turn(struct trial *trial)
{
    static struct model_entry entry;
    uint64_t branch = random_below(&trial->random, BRANCHES);
    struct key key = {1, trial->depths[branch], branch + 1};

    model_fill_uniform(&entry, &key, TURN, trial->pages / 65536 % MODEL_SEGMENTS, trial->pages % 65536 * 8192, 8192);
    model_insert(&trial->model, &entry.entry);
    trial->depths[branch] += TURN;
    trial->pages += TURN;
    if (index_frozen_count(trial->model.index) > 0)
        model_settle(&trial->model);
}

static void
walk(struct trial *trial)
{
    uint64_t branch = random_below(&trial->random, BRANCHES);
    struct index_view *view = index_view_acquire(trial->model.index);
    struct index_cursor cursor;
    struct location location;

    index_cursor_init(&cursor, view);
    for (uint32_t depth = 0; depth < trial->depths[branch]; depth++) {
        varve_id id = model_id(1, branch + 1, depth);

        assert_true(index_cursor_find(&cursor, 1, &id, &location));
    }
    index_cursor_deinit(&cursor);
    index_view_release(view);
}

static void
miss(struct trial *trial)
{
    struct index_view *view = index_view_acquire(trial->model.index);
    varve_id id = model_id(2, random_below(&trial->random, BRANCH_MAX), 0);
    struct index_cursor cursor;
    struct location location;

    index_cursor_init(&cursor, view);
    assert_false(index_cursor_find(&cursor, 1, &id, &location));
    index_cursor_deinit(&cursor);
    index_view_release(view);
}

static void
sums_of(struct trial *trial, double seconds, struct control_sums *out)
{
    *out = (struct control_sums){.put_pages = trial->pages, .at_ns = (uint64_t)(seconds * 1e9)};
    out->extents = trial->pages / TURN;
    index_stats_get(trial->model.index, &out->index);
}

/* What was done between, at the prices. */
static double
priced(const struct control_sums *a, const struct control_sums *b)
{
    const struct index_stats *from = &a->index, *to = &b->index;

    return (double)(to->block_reads - from->block_reads) * prices.read_s +
           (double)(to->locators_probed - from->locators_probed) * prices.locator_s +
           (double)(to->pages_merged - from->pages_merged) * prices.merge_page_s +
           (double)(to->pages_flushed - from->pages_flushed) * prices.flush_page_s +
           (double)(to->flushes - from->flushes) * prices.flush_s;
}

/*
 * Load, with the configuration that predictions are made from, then go to `config` and work. Returns the measured cost of the work; *mix is what it was, and *layout the levels
 * after the load.
 */
static double
run(const struct work *work, const struct control_choice *config, struct control_mix *mix,
    struct outlook_layout *layout, struct control_constants *constants)
{
    struct index_settings settings = model_settings();
    struct trial *trial = calloc(1, sizeof(*trial));
    struct control_sums begin, end;
    struct reuse_sample reuse;
    double cost;

    assert_non_null(trial);
    settings.memtable_bytes = configs[0].memtable_bytes;
    settings.block_cache_bytes = CACHE_BYTES;
    settings.block_cache_bytes_max = 4 * CACHE_BYTES;
    settings.size_ratio = configs[0].size_ratio;
    settings.runs_per_level = configs[0].runs_per_level;
    settings.runs_last_level = configs[0].runs_last_level;
    trial->random = random_make(1);
    model_open(&trial->model, &settings, "/dev/shm");
    for (int i = 0; i < LOAD_TURNS; i++)
        put_turn(trial);
    control_measure_layout(trial->model.index, layout);
    index_set_shape(trial->model.index, config->size_ratio, config->runs_per_level, config->runs_last_level);
    index_set_memory(trial->model.index, config->memtable_bytes, config->cache_bytes);
    index_look_at_levels(trial->model.index);
    model_settle(&trial->model);
    sums_of(trial, 0, &begin);
    index_reuse_take(trial->model.index, &reuse); /* what the load did */
    for (int round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < work->turns; i++)
            put_turn(trial);
        for (unsigned i = 0; i < work->walks; i++)
            walk(trial);
        for (unsigned i = 0; i < work->misses; i++)
            miss(trial);
    }
    sums_of(trial, SECONDS, &end);
    index_reuse_take(trial->model.index, &reuse);
    control_measure_mix(&prices, &begin, &end, &reuse, mix);
    cost = priced(&begin, &end) / SECONDS;
    *constants = prices;
    constants->memtable_pages = (double)end.index.pages_rotated / (double)end.index.rotated_bytes;
    constants->reuse_step_bytes = (double)reuse.step_blocks * BLOCK_BYTES;
    model_close(&trial->model);
    free(trial);
    return cost;
}

static double
predicted(const struct control_choice *choice, const struct control_mix *mix, const struct control_constants *constants,
          const struct outlook_layout *layout)
{
    static const struct control_bounds bounds = {
        .memory_bytes = 4 << 20, .memtables = 3, .memtable_bytes_min = 128 << 10, .cache_bytes_min = 256 << 10};
    const struct control_choice own[GRID_OWN] = {*choice, *choice};
    struct grid *grid = calloc(1, sizeof(*grid));
    struct control_cost cost;

    assert_non_null(grid);
    grid_init(grid, &bounds, choice);
    grid_update(grid, mix, constants, layout, own, 0);
    grid_cost(grid, mix, constants, GRID_CURRENT, &cost);
    free(grid);
    return cost.total;
}

/* Spearman's. */
static double
rank_correlation(const double *a, const double *b, size_t count)
{
    double sum = 0, n = (double)count;

    for (size_t i = 0; i < count; i++) {
        double rank = 0;

        for (size_t j = 0; j < count; j++)
            rank += (a[j] < a[i]) - (double)(b[j] < b[i]);
        sum += rank * rank;
    }
    return 1 - 6 * sum / (n * (n * n - 1));
}

static void
test_prediction(void **state)
{
    static double measured[MIXES][CONFIGS], forecast[MIXES][CONFIGS];
    double within = 0;

    (void)state;
    for (size_t w = 0; w < MIXES; w++) {
        struct control_constants constants, others;
        struct control_mix mix, other;
        struct outlook_layout layout, again;
        double correlation, ratio = 0;

        measured[w][0] = run(&works[w], &configs[0], &mix, &layout, &constants);
        for (size_t c = 0; c < CONFIGS; c++) {
            if (c > 0)
                measured[w][c] = run(&works[w], &configs[c], &other, &again, &others);
            forecast[w][c] = predicted(&configs[c], &mix, &constants, &layout);
            ratio += forecast[w][c] / measured[w][c] / CONFIGS;
            print_message("work %zu config %zu: predicted %.4f s, measured %.4f\n", w, c, forecast[w][c],
                          measured[w][c]);
        }
        correlation = rank_correlation(forecast[w], measured[w], CONFIGS);
        print_message("work %zu: rank correlation %.2f, predicted over measured %.2f\n", w, correlation, ratio);
        assert_true(ratio > 0.75 && ratio < 1.25);
        within += correlation / MIXES;
    }
    print_message("rank correlation: %.3f over all, %.3f in the mean of the mixes\n",
                  rank_correlation(forecast[0], measured[0], (size_t)MIXES * CONFIGS), within);
    assert_true(rank_correlation(forecast[0], measured[0], (size_t)MIXES * CONFIGS) >= 0.8);
    assert_true(within >= 0.8);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_prediction)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
