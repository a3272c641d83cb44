/* SPDX-License-Identifier: Apache-2.0 */
/* Time to live from samples of the clock: a page that is used at random, looked at at random, against what is promised. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../sim/sim_rng.h"
#include "index_model.h"
#include "plain_env.h"
#include "reclaim/ages.h"
#include "reclaim/heat.h"

#define SECOND UINT64_C(1000000000)
#define PAGE   UINT64_C(4096)
#define PAGES  20u
#define NS     5u

struct aging {
    struct plain_env *env;
    struct heat *heat;
    struct heat_segment *segment;
    struct ages ages;
    uint64_t now_ns;
    uint64_t used_ns[PAGES];
};

static void
aging_begin(struct aging *aging, uint64_t ttl_ns)
{
    uint64_t places[PAGES];

    *aging = (struct aging){.env = plain_env_create(NULL), .now_ns = 1000 * SECOND};
    aging->heat = heat_create(&aging->env->env, UINT64_MAX);
    assert_non_null(aging->heat);
    aging->segment = heat_segment_create(aging->heat, aging);
    assert_non_null(aging->segment);
    assert_int_equal(heat_group_create(aging->heat, NS, UINT64_MAX), VARVE_OK);
    for (uint32_t i = 0; i < PAGES; i++) {
        places[i] = i * PAGE;
        aging->used_ns[i] = aging->now_ns;
    }
    assert_int_equal(
        heat_add(aging->heat, aging->segment, NS, places, PAGES, PAGES * PAGE, heat_clock(aging->heat, PAGES)),
        VARVE_OK);
    ages_begin(&aging->ages, ttl_ns, aging->now_ns, heat_group_mark(aging->heat, NS));
}

static void
aging_end(struct aging *aging)
{
    heat_segment_destroy(aging->heat, aging->segment);
    heat_destroy(aging->heat);
    plain_env_destroy(aging->env);
}

/* What a call does when it begins; returns whether there was a sample. */
static bool
look(struct aging *aging)
{
    bool due = ages_sample_due(&aging->ages, aging->now_ns);
    uint64_t clock;

    if (due)
        ages_sample(&aging->ages, heat_group_mark(aging->heat, NS));
    clock = ages_expired(&aging->ages, aging->now_ns);
    if (clock > 0)
        heat_expire(aging->heat, NS, clock);
    return due;
}

static void
use(struct aging *aging, uint32_t page)
{
    (void)look(aging);
    ages_use(&aging->ages, aging->now_ns);
    heat_touch(aging->heat, aging->segment, page, heat_clock(aging->heat, 0));
    aging->used_ns[page] = aging->now_ns;
}

static void
judge(const struct aging *aging)
{
    const uint64_t ttl_ns = aging->ages.ttl_ns;

    for (uint32_t page = 0; page < PAGES; page++) {
        uint64_t age_ns = aging->now_ns - aging->used_ns[page];
        bool live = heat_is_live(aging->heat, aging->segment, page);

        if (age_ns < ttl_ns)
            assert_true(live);
        if (age_ns >= ttl_ns + ttl_ns / AGES_A_TTL)
            assert_false(live);
    }
}

static void
test_random_uses(void **state)
{
    struct sim_rng rng = sim_rng_make(model_seed(), 0);

    (void)state;
    for (int round = 0; round < 200; round++) {
        uint64_t ttl_ns = sim_rng_between(&rng, 1, 100) * SECOND;
        uint64_t step_ns = ttl_ns / sim_rng_between(&rng, 1, 2000);
        struct aging aging;

        aging_begin(&aging, ttl_ns);
        for (int i = 0; i < 1000; i++) {
            aging.now_ns += sim_rng_below(&rng, step_ns * 2 + 1);
            if (sim_rng_chance(&rng, 5))
                aging.now_ns += sim_rng_below(&rng, ttl_ns * 3);
            if (sim_rng_chance(&rng, 500))
                use(&aging, (uint32_t)sim_rng_below(&rng, PAGES));
            else
                (void)look(&aging);
            judge(&aging);
        }
        aging_end(&aging);
    }
}

/* Where nothing is used nothing is sampled: the clock stands still. */
static void
test_idle(void **state)
{
    struct aging aging;
    uint64_t clock;

    (void)state;
    aging_begin(&aging, 32 * SECOND);
    aging.now_ns += SECOND;
    use(&aging, 0);
    aging.now_ns += SECOND;
    assert_true(look(&aging));
    clock = aging.heat->clock;
    for (int i = 0; i < 100; i++) {
        aging.now_ns += SECOND;
        assert_false(look(&aging));
        judge(&aging);
    }
    assert_true(aging.heat->clock == clock);
    assert_int_equal(aging.heat->live_bytes, 0);
    aging_end(&aging);
}

/* Raised, a time to live may have more samples than fit: pages go later, none sooner. */
static void
test_raised(void **state)
{
    struct aging aging;

    (void)state;
    aging_begin(&aging, SECOND);
    for (int i = 0; i < 200; i++) {
        aging.now_ns += SECOND / 32;
        aging.ages.ttl_ns = SECOND;
        use(&aging, 1); /* sampled at the pace of a second, */
        aging.ages.ttl_ns = 1000 * SECOND;
        (void)ages_expired(&aging.ages, aging.now_ns); /* kept for a thousand */
        assert_true(heat_is_live(aging.heat, aging.segment, 1));
    }
    aging.ages.ttl_ns = 10 * SECOND;
    aging.now_ns += 11 * SECOND;
    (void)look(&aging);
    assert_false(heat_is_live(aging.heat, aging.segment, 0));
    assert_false(heat_is_live(aging.heat, aging.segment, 1));
    aging_end(&aging);
}

/* What was used since the last mark is recent in the namespace, and nothing else is, however long its pages reach back. */
static void
test_recent_since_the_mark(void **state)
{
    struct aging aging;
    uint64_t before, after;

    (void)state;
    aging_begin(&aging, 32 * SECOND);
    before = heat_clock(aging.heat, 0);
    assert_true(heat_is_recent_in(aging.heat, NS, before));
    (void)heat_group_mark(aging.heat, NS);
    after = heat_clock(aging.heat, 0);
    assert_false(heat_is_recent_in(aging.heat, NS, before));
    assert_true(heat_is_recent_in(aging.heat, NS, after));
    aging_end(&aging);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_uses),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_raised),
        cmocka_unit_test(test_recent_since_the_mark),
    };

    return cmocka_run_group_tests_name("ages", tests, NULL, NULL);
}
