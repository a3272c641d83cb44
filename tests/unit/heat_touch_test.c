/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of touches: whatever is there, they do what one touch after the other does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../sim/sim_rng.h"
#include "index_model.h"
#include "plain_env.h"
#include "reclaim/heat.h"

#define SEGMENTS  3
#define PAGES     300 /* a segment */
#define LIVE_MAX  (UINT64_C(400) * 4096)
#define ONE_AFTER 0
#define RUN       1

/* The same operations on two: [ONE_AFTER] touches page by page, [RUN] in runs. */
struct pair {
    struct plain_env *env;
    struct heat *heat[2];
    struct heat_segment *segments[2][SEGMENTS];
};

static void
pair_begin(struct pair *pair, struct sim_rng *rng)
{
    *pair = (struct pair){.env = plain_env_create(NULL)};
    for (int side = 0; side < 2; side++) {
        pair->heat[side] = heat_create(&pair->env->env, LIVE_MAX);
        assert_non_null(pair->heat[side]);
    }
    for (size_t i = 0; i < SEGMENTS; i++) {
        uint64_t places[PAGES + 1] = {0}, value = 0;

        for (size_t page = 0; page < PAGES; page++) /* of many sizes, 0 among them */
            places[page + 1] = places[page] + HEAT_UNIT * sim_rng_below(rng, 16);
        for (int side = 0; side < 2; side++) {
            pair->segments[side][i] = heat_segment_create(pair->heat[side], NULL);
            assert_non_null(pair->segments[side][i]);
            value = heat_clock(pair->heat[side], PAGES);
            assert_int_equal(
                heat_add(pair->heat[side], pair->segments[side][i], 1, places, PAGES, places[PAGES], value), VARVE_OK);
        }
    }
}

static void
pair_end(struct pair *pair)
{
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < SEGMENTS; i++)
            heat_segment_destroy(pair->heat[side], pair->segments[side][i]);
        assert_int_equal(pair->heat[side]->live_bytes, 0);
        heat_destroy(pair->heat[side]);
    }
    plain_env_destroy(pair->env);
}

static void
assert_same(const struct pair *pair)
{
    const struct heat *a = pair->heat[ONE_AFTER], *b = pair->heat[RUN];

    assert_int_equal(a->live_bytes, b->live_bytes);
    assert_int_equal(a->pinned_bytes, b->pinned_bytes);
    assert_int_equal(a->horizon, b->horizon);
    assert_memory_equal(a->bytes_at, b->bytes_at, sizeof(a->bytes_at));
    for (size_t i = 0; i < SEGMENTS; i++) {
        const struct heat_segment *x = pair->segments[ONE_AFTER][i], *y = pair->segments[RUN][i];

        assert_int_equal(x->live_bytes, y->live_bytes);
        assert_int_equal(x->used, y->used);
        assert_memory_equal(x->stamps, y->stamps, x->count * sizeof(x->stamps[0]));
    }
}

static void
step(struct pair *pair, struct sim_rng *rng)
{
    size_t i = sim_rng_below(rng, SEGMENTS);
    uint32_t pages = pair->segments[RUN][i]->count;
    uint32_t first = (uint32_t)sim_rng_below(rng, pages);
    uint32_t count = (uint32_t)sim_rng_below(rng, pages - first + 1);
    uint64_t kind = sim_rng_below(rng, 16), silence = sim_rng_chance(rng, 20) ? sim_rng_below(rng, 200000) : 0;
    uint64_t late = sim_rng_chance(rng, 300) ? sim_rng_below(rng, 40000) : 0;

    for (int side = 0; side < 2; side++) {
        struct heat *heat = pair->heat[side];
        struct heat_segment *segment = pair->segments[side][i];
        uint64_t value = heat_clock(heat, kind < 8 ? count : silence);

        value -= late < value - count ? late : 0; /* a value of a while ago, or from before the horizon */
        if (kind == 8)
            heat_kill(heat, segment, first);
        else if (kind == 9)
            heat_pin(heat, segment, first);
        else if (kind == 10)
            heat_unpin(heat, segment, first, value);
        else if (kind == 11)
            heat_sweep(heat, segment, NULL, NULL);
        else if (side == RUN)
            heat_touch_run(heat, segment, first, count, value);
        else
            for (uint32_t page = 0; page < count; page++)
                heat_touch(heat, segment, first + page, value - page);
        heat_age(heat);
    }
}

static void
test_runs_are_touches_one_after_the_other(void **state)
{
    uint64_t seed = model_seed();

    (void)state;
    for (uint64_t round = 0; round < 20; round++) {
        struct sim_rng rng = sim_rng_make(seed, round);
        struct pair pair;

        pair_begin(&pair, &rng);
        for (int i = 0; i < 600; i++) {
            step(&pair, &rng);
            if (i % 8 == 0)
                assert_same(&pair);
        }
        assert_same(&pair);
        pair_end(&pair);
    }
}

static void
test_recent(void **state)
{
    struct plain_env *env = plain_env_create(NULL);
    struct heat *heat = heat_create(&env->env, 1 << 20);
    struct heat_segment *segment = heat_segment_create(heat, NULL);
    uint64_t places[100], value;

    (void)state;
    assert_non_null(segment);
    assert_true(heat_is_recent(heat, heat->clock)); /* empty: the last call, and nothing else */
    assert_false(heat_is_recent(heat, heat->clock - 1));
    value = heat_clock(heat, 5);
    assert_true(heat_is_recent(heat, value));
    (void)heat_clock(heat, 5);
    assert_false(heat_is_recent(heat, value));
    for (size_t i = 0; i < 100; i++)
        places[i] = i * 16384;
    value = heat_clock(heat, 100);
    assert_int_equal(heat_add(heat, segment, 1, places, 100, 100 * 16384, value), VARVE_OK);
    heat_age(heat); /* 64 of them live: they reach 63 values back */
    assert_false(heat_is_recent(heat, value - 2));
    assert_true(heat_is_recent(heat, value - 1));
    (void)heat_clock(heat, 3199 - 64);
    assert_true(heat_is_recent(heat, heat->clock - 99));
    assert_false(heat_is_recent(heat, heat->clock - 100));
    (void)heat_clock(heat, UINT64_C(1) << 40); /* coarse epochs */
    assert_true(heat_is_recent(heat, heat->clock - (UINT64_C(1) << 34)));
    assert_false(heat_is_recent(heat, heat->clock - (UINT64_C(1) << 36)));
    assert_false(heat_is_recent(heat, 0));
    heat_segment_destroy(heat, segment);
    heat_destroy(heat);
    plain_env_destroy(env);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs_are_touches_one_after_the_other),
        cmocka_unit_test(test_recent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
