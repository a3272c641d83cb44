/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merge picking: tables of cases, and that picking ends, settles within the limits, and never takes a single run,
 * whatever the shape.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "index/level.h"
#include "index_model.h"

#define CASE_RUNS 8

struct pick_case {
    const char *name;
    uint32_t t, k, z;
    uint32_t grown; /* bits */
    struct {
        uint32_t level;
        uint64_t bytes;
        bool picked;
    } runs[CASE_RUNS];
    uint32_t level; /* expected */
};

/* base is 100 bytes: level 1 holds up to 100 T, level 2 100 T^2, ... */
static const struct pick_case cases[] = {
    {"nothing at all", 4, 1, 1, ~0U, {{0, 0, false}}, 0},
    {"leveling: one run stays", 4, 1, 1, ~0U, {{1, 100, false}}, 0},
    {"leveling: two merge in place", 4, 1, 1, ~0U, {{1, 100, true}, {1, 100, true}}, 1},
    {"leveling: too large, goes down to nothing", 4, 1, 1, ~0U, {{1, 350, true}, {1, 100, true}}, 2},
    {"leveling: too large, takes the next level along",
     4,
     1,
     1,
     ~0U,
     {{1, 350, true}, {1, 100, true}, {2, 900, true}},
     2},
    {"leveling: and the one after that, too",
     4,
     1,
     1,
     ~0U,
     {{1, 350, true}, {1, 100, true}, {2, 1500, true}, {3, 4000, true}},
     3},
    {"leveling: exactly full stays", 4, 1, 1, ~0U, {{1, 300, true}, {1, 100, true}, {2, 900, false}}, 1},
    {"tiering: three of three stay", 4, 3, 3, ~0U, {{1, 101, false}, {1, 101, false}, {1, 101, false}}, 0},
    {"tiering: the fourth moves all down",
     4,
     3,
     3,
     ~0U,
     {{1, 101, true}, {1, 101, true}, {1, 101, true}, {1, 101, true}},
     2},
    {"tiering: the next level has room, its runs stay",
     4,
     3,
     3,
     ~0U,
     {{1, 101, true}, {1, 101, true}, {1, 101, true}, {1, 101, true}, {2, 404, false}},
     2},
    {"tiering: the next level is full, goes along",
     4,
     3,
     3,
     ~0U,
     {{1, 101, true}, {1, 101, true}, {1, 101, true}, {1, 101, true}, {2, 404, true}, {2, 404, true}, {2, 404, true}},
     3},
    {"lazy leveling: last level is merged into",
     4,
     3,
     1,
     ~0U,
     {{1, 101, true}, {1, 101, true}, {1, 101, true}, {1, 101, true}, {2, 900, true}},
     2},
    {"lazy leveling: the last level alone is leveled", 4, 3, 1, ~0U, {{1, 100, true}, {1, 100, true}}, 1},
    {"lazy leveling: a middle level is tiered",
     4,
     3,
     1,
     ~0U,
     {{1, 101, true}, {1, 101, true}, {1, 101, true}, {1, 101, true}, {2, 404, false}, {3, 6000, false}},
     2},
    {"K shrank, but nothing arrived",
     4,
     1,
     1,
     0,
     {{1, 100, false}, {1, 100, false}, {2, 400, false}, {2, 400, false}},
     0},
    {"K shrank: only the level that grew is looked at",
     4,
     1,
     1,
     1U << 1,
     {{1, 100, true}, {1, 100, true}, {2, 400, false}, {2, 400, false}},
     1},
    {"Z shrank and the last level grew",
     4,
     3,
     1,
     1U << 2,
     {{1, 100, false}, {1, 100, false}, {2, 400, true}, {2, 400, true}},
     2},
    {"K grew: more runs are fine",
     4,
     5,
     5,
     ~0U,
     {{1, 100, false}, {1, 100, false}, {1, 100, false}, {1, 100, false}},
     0},
    {"T shrank: goes down several levels at once", 2, 1, 1, ~0U, {{1, 3000, true}, {1, 100, true}}, 5},
    {"T grew: what is deep stays deep", 10, 1, 1, ~0U, {{1, 100, true}, {1, 100, true}, {3, 900, false}}, 1},
    {"a gap between levels is crossed", 4, 1, 1, ~0U, {{1, 5000, true}, {1, 5000, true}, {4, 9000, true}}, 4},
};

static void
test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct pick_case *c = &cases[i];
        struct level_shape shape = {c->t, c->k, c->z, 100};
        struct level_run runs[CASE_RUNS];
        size_t count = 0;
        uint32_t level;

        for (; count < CASE_RUNS && c->runs[count].level != 0; count++)
            runs[count] = (struct level_run){.bytes = c->runs[count].bytes, .level = c->runs[count].level};
        level = level_pick(&shape, c->grown, runs, count);
        if (level != c->level)
            fail_msg("%s: output level %u, expected %u", c->name, level, c->level);
        for (size_t j = 0; j < count && level != 0; j++) {
            if (runs[j].picked != c->runs[j].picked)
                fail_msg("%s: run %zu", c->name, j);
        }
    }
}

#define SIMULATED_RUNS_MAX 256

struct simulation {
    struct level_run runs[SIMULATED_RUNS_MAX];
    size_t count;
    uint32_t grown;
    uint64_t written;
};

static void
add(struct simulation *sim, uint32_t level, uint64_t bytes)
{
    assert_true(sim->count < SIMULATED_RUNS_MAX);
    sim->runs[sim->count++] = (struct level_run){.bytes = bytes, .level = level};
    sim->grown |= 1U << level;
    sim->written += bytes;
}

/* Merge until nothing is due; at most as many merges as there are runs. */
static void
settle(struct simulation *sim, const struct level_shape *shape)
{
    size_t limit = sim->count;
    uint32_t level;

    while ((level = level_pick(shape, sim->grown, sim->runs, sim->count)) != 0) {
        uint64_t bytes = 0;
        size_t kept = 0;
        size_t picked = 0;

        for (size_t i = 0; i < sim->count; i++) {
            assert_true(!sim->runs[i].picked || sim->runs[i].level <= level);
            if (sim->runs[i].picked) {
                bytes += sim->runs[i].bytes;
                picked++;
            } else {
                sim->runs[kept++] = sim->runs[i];
            }
        }
        assert_true(picked >= 2);
        assert_true(limit-- > 0);
        sim->count = kept;
        add(sim, level, bytes);
    }
    sim->grown = 0;
}

static void
assert_within_limits(const struct simulation *sim, const struct level_shape *shape)
{
    uint32_t runs[LEVEL_MAX + 1] = {0};
    uint32_t last = 0;

    for (size_t i = 0; i < sim->count; i++) {
        runs[sim->runs[i].level]++;
        if (sim->runs[i].level > last)
            last = sim->runs[i].level;
    }
    for (uint32_t level = 1; level <= last; level++)
        assert_true(runs[level] <= (level < last ? shape->runs_per_level : shape->runs_last_level));
}

/* Write amplification and runs after many flushes: each policy keeps its promise. */
static void
test_policies(void **state)
{
    static const struct {
        uint32_t t, k, z;
        uint32_t runs_max;
        uint32_t amplification_max;
    } policies[] = {
        {4, 1, 1, 5, 20}, {4, 3, 3, 15, 6}, {4, 3, 1, 14, 11}, {10, 1, 1, 4, 24}, {10, 9, 9, 30, 5}, {2, 1, 1, 12, 18},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
        struct level_shape shape = {policies[i].t, policies[i].k, policies[i].z, 100};
        struct simulation sim = {.count = 0};

        for (int flush = 0; flush < 1000; flush++) {
            add(&sim, 1, 120);
            settle(&sim, &shape);
            assert_within_limits(&sim, &shape);
        }
        if (sim.count > policies[i].runs_max || sim.written > policies[i].amplification_max * UINT64_C(120000))
            fail_msg("T %u K %u Z %u: %zu runs, write amplification %.1f", shape.size_ratio, shape.runs_per_level,
                     shape.runs_last_level, sim.count, (double)sim.written / 120000);
    }
}

/* Any shape, changed at any time, any sizes. A change alone starts nothing. */
static void
test_random_changes(void **state)
{
    uint64_t seed = model_seed();

    (void)state;
    for (int round = 0; round < 200; round++) {
        struct level_shape shape = {4, 3, 1, 1 + model_random(&seed) % 1000};
        struct simulation sim = {.count = 0};

        for (int flush = 0; flush < 200; flush++) {
            if (model_random(&seed) % 16 == 0) {
                shape.size_ratio = 2 + (uint32_t)(model_random(&seed) % 31);
                shape.runs_per_level = 1 + (uint32_t)(model_random(&seed) % 12);
                shape.runs_last_level = 1 + (uint32_t)(model_random(&seed) % 12);
                assert_int_equal(level_pick(&shape, sim.grown, sim.runs, sim.count), 0);
            }
            add(&sim, 1, model_random(&seed) % 4000);
            settle(&sim, &shape);
        }
        sim.grown = ~0U;
        settle(&sim, &shape);
        assert_within_limits(&sim, &shape);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_policies),
        cmocka_unit_test(test_random_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
