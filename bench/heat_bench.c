/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heat_bench - what it costs to touch the 2,000 pages of a probe: heat_touch_run() against heat_touch() page by page, median of many rounds. Two chains
 * are touched in turn, and the live set is just smaller than both, so that the horizon follows the clock and epochs stay as long as they are.
 * Run: build/bench/heat_bench
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "env/env.h"
#include "format/heat_format.h"
#include "reclaim/heat.h"

#define PAGES      2000u /* of the chain that is touched */
#define PAGE_BYTES UINT64_C(16384)
#define PARTS_MAX  50u  /* segments that a chain is cut into */
#define SEGMENTS   100u /* twice as many */
#define ROUNDS     1001u

struct bench {
    struct env *env;
    struct heat *heat;
    struct heat_segment *segments[SEGMENTS];
};

static void
must(bool holds, const char *what)
{
    if (!holds) {
        (void)fprintf(stderr, "heat_bench: %s\n", what);
        exit(EXIT_FAILURE);
    }
}

/* Each chain in `parts` segments: the first in the first half of them. */
static void
bench_begin(struct bench *bench, uint32_t parts)
{
    uint32_t part = PAGES / parts;
    uint64_t places[PAGES];

    bench->heat = heat_create(bench->env, (2 * PAGES - 1) * PAGE_BYTES);
    must(bench->heat != NULL, "out of memory");
    for (uint32_t i = 0; i < part; i++)
        places[i] = i * PAGE_BYTES;
    for (size_t i = 0; i < 2 * (size_t)parts; i++) {
        bench->segments[i] = heat_segment_create(bench->heat, NULL);
        must(bench->segments[i] != NULL, "out of memory");
        must(heat_add(bench->heat, bench->segments[i], 1, places, part, part * PAGE_BYTES,
                      heat_clock(bench->heat, part)) == VARVE_OK,
             "out of memory");
    }
}

static void
bench_end(struct bench *bench, uint32_t parts)
{
    for (size_t i = 0; i < 2 * (size_t)parts; i++)
        heat_segment_destroy(bench->heat, bench->segments[i]);
    heat_destroy(bench->heat);
}

static void
touch_chain(struct bench *bench, struct heat_segment *const *segments, uint32_t parts, bool by_page, uint64_t value)
{
    uint32_t part = PAGES / parts;

    for (uint32_t i = 0; i < parts; i++, value -= part) {
        if (by_page) {
            for (uint32_t page = 0; page < part; page++)
                heat_touch(bench->heat, segments[i], page, value - page);
        } else {
            heat_touch_run(bench->heat, segments[i], 0, part, value);
        }
    }
}

static int
compare_times(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* `between`: clock values that pass between two touches; `again`: the second of two touches at the same value is measured. */
static double
measure_us(struct bench *bench, uint32_t parts, bool by_page, uint64_t between, bool again)
{
    uint64_t times[ROUNDS], median;

    for (uint32_t round = 0; round < ROUNDS; round++) {
        struct heat_segment *const *segments = bench->segments + (round % 2) * (size_t)parts;
        uint64_t value = heat_clock(bench->heat, between), began;

        if (again)
            touch_chain(bench, segments, parts, by_page, value);
        began = bench->env->ops->now_ns(bench->env);
        touch_chain(bench, segments, parts, by_page, value);
        times[round] = bench->env->ops->now_ns(bench->env) - began;
        heat_age(bench->heat);
    }
    qsort(times, ROUNDS, sizeof(times[0]), compare_times);
    median = times[ROUNDS / 2];
    return (double)median / 1000;
}

static double
since_ms(const struct bench *bench, uint64_t began)
{
    return (double)(bench->env->ops->now_ns(bench->env) - began) / 1e6;
}

/* A store of SEGMENTS x 10 x PAGES pages in chains of PAGES, of two namespaces in turn. */
static void
measure_all_pages(struct bench *bench)
{
    uint64_t places[PAGES], began;
    double sweep_ms, limit_ms, clear_ms, encode_ms;
    size_t bytes = heat_record_bytes(10 * PAGES, 10);
    uint8_t *record = bench->env->ops->alloc(bench->env, bytes, HEAT_RECORD_ALIGN);

    bench->heat = heat_create(bench->env, UINT64_MAX);
    must(bench->heat != NULL && record != NULL, "out of memory");
    for (size_t i = 0; i < SEGMENTS; i++) {
        bench->segments[i] = heat_segment_create(bench->heat, NULL);
        must(bench->segments[i] != NULL, "out of memory");
    }
    for (uint32_t chain = 0; chain < 10 * SEGMENTS; chain++) {
        uint64_t base = (uint64_t)(chain / SEGMENTS) * PAGES;

        for (uint64_t i = 0; i < PAGES; i++)
            places[i] = (base + i) * PAGE_BYTES;
        must(heat_add(bench->heat, bench->segments[chain % SEGMENTS], 1 + chain / SEGMENTS % 2, places, PAGES,
                      places[PAGES - 1] + PAGE_BYTES, heat_clock(bench->heat, PAGES)) == VARVE_OK,
             "out of memory");
    }
    began = bench->env->ops->now_ns(bench->env);
    heat_sweep_all(bench->heat);
    sweep_ms = since_ms(bench, began);
    began = bench->env->ops->now_ns(bench->env);
    for (size_t i = 0; i < SEGMENTS; i++) {
        const struct heat_file file = {i + 1, 0, 0};

        must(heat_snapshot_segment(bench->heat, bench->segments[i], &file, record, bytes) > 0, "too little room");
    }
    encode_ms = since_ms(bench, began);
    began = bench->env->ops->now_ns(bench->env);
    must(heat_group_create(bench->heat, 1, UINT64_MAX) == VARVE_OK, "out of memory");
    limit_ms = since_ms(bench, began);
    began = bench->env->ops->now_ns(bench->env);
    heat_gone(bench->heat, 1);
    clear_ms = since_ms(bench, began);
    (void)printf("%u pages: sweep %.2f ms, snapshot %.2f ms; limit half of them %.2f ms, clear these %.2f ms\n",
                 10 * SEGMENTS * PAGES, sweep_ms, encode_ms, limit_ms, clear_ms);
    env_free(bench->env, record);
    bench_end(bench, PARTS_MAX);
}

int
main(void)
{
    static const struct env_settings settings = {
        .io_engine = "threads", .direct_io = "off", .queue_depth = 1, .io_threads = 1};
    static const struct {
        uint64_t silence; /* clock values that pass first: the longer, the coarser the epochs */
        uint64_t between;
    } cases[] = {
        {0, PAGES}, {UINT64_C(64) * 30000, UINT64_C(64) * 4000}, {UINT64_C(4096) * 30000, UINT64_C(4096) * 4000}};
    static const uint32_t parts[] = {1, 4, PARTS_MAX};
    struct bench bench;

    must(env_open_posix(".", &settings, &bench.env, NULL) == VARVE_OK, "cannot open the current directory");
    (void)printf("%u pages, us\n%-12s %8s %10s %10s %10s %10s\n", PAGES, "epoch", "segments", "run", "by page",
                 "run again", "by page");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t k = 0; k < sizeof(parts) / sizeof(parts[0]); k++) {
            bench_begin(&bench, parts[k]);
            if (cases[i].silence > 0)
                (void)heat_clock(bench.heat, cases[i].silence);
            (void)printf("%12llu %8u", 1ULL << bench.heat->shift, parts[k]);
            for (unsigned column = 0; column < 4; column++)
                (void)printf(" %10.2f", measure_us(&bench, parts[k], column % 2 == 1, cases[i].between, column >= 2));
            (void)printf("\n");
            bench_end(&bench, parts[k]);
        }
    }
    measure_all_pages(&bench);
    bench.env->ops->destroy(bench.env);
    return EXIT_SUCCESS;
}
