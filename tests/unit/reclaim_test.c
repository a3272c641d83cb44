/* SPDX-License-Identifier: Apache-2.0 */
/* Which segment makes room, how much may live, and when: tables of cases. What comes of it on whole traces is in tests/cli. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "plain_env.h"
#include "reclaim/reclaim.h"

#define SEGMENTS 12
#define PAGES    10 /* a segment */
#define PAGE     4096
#define SEGMENT  (UINT64_C(1) * PAGES * PAGE)

struct setup {
    struct plain_env *env;
    struct heat *heat;
    struct reclaim reclaim;
    struct heat_segment *segments[SEGMENTS];
};

/* Segments of PAGES pages each, the first one used first; page 0 of each most lately. */
static void
setup_begin(struct setup *setup, uint64_t bytes)
{
    uint64_t places[PAGES];

    *setup = (struct setup){.env = plain_env_create(NULL)};
    setup->heat = heat_create(&setup->env->env, 0);
    assert_non_null(setup->heat);
    reclaim_init(&setup->reclaim, setup->heat, bytes, SEGMENT);
    for (uint32_t i = 0; i < PAGES; i++)
        places[i] = (uint64_t)i * PAGE;
    for (size_t i = 0; i < SEGMENTS; i++) {
        setup->segments[i] = heat_segment_create(setup->heat, &setup->segments[i]);
        assert_non_null(setup->segments[i]);
        assert_int_equal(
            heat_add(setup->heat, setup->segments[i], 1, places, PAGES, SEGMENT, heat_clock(setup->heat, PAGES)),
            VARVE_OK);
    }
}

static void
setup_end(struct setup *setup)
{
    for (size_t i = 0; i < SEGMENTS; i++)
        heat_segment_destroy(setup->heat, setup->segments[i]);
    heat_destroy(setup->heat);
    plain_env_destroy(setup->env);
}

static void
touch(struct setup *setup, size_t segment, uint32_t page)
{
    heat_touch(setup->heat, setup->segments[segment], page, heat_clock(setup->heat, 0));
}

static bool
any(const void *owner)
{
    (void)owner;
    return true;
}

static const void *not_this;

static bool
any_but_one(const void *owner)
{
    return owner != not_this;
}

/* The segment with the fewest live bytes, the coldest of those that have none. */
static void
test_victims(void **state)
{
    struct setup setup;

    (void)state;
    setup_begin(&setup, 100 * SEGMENT);
    heat_shrink(setup.heat, 3 * SEGMENT + 2 * (uint64_t)PAGE);
    heat_sweep_all(setup.heat);
    assert_ptr_equal(reclaim_pick(&setup.reclaim, any), setup.segments[0]);
    not_this = &setup.segments[0];
    assert_ptr_equal(reclaim_pick(&setup.reclaim, any_but_one), setup.segments[1]);
    touch(&setup, 0, 3);
    assert_ptr_equal(reclaim_pick(&setup.reclaim, any), setup.segments[1]);
    touch(&setup, 1, 3);
    touch(&setup, 1, 4);
    assert_ptr_equal(reclaim_pick(&setup.reclaim, any), setup.segments[2]);
    setup_end(&setup);
}

/* Of two with as many live bytes, the one whose pages go on living: the others need not be copied if one waits. */
static void
test_pages_about_to_die_are_waited_for(void **state)
{
    struct setup setup;

    (void)state;
    setup_begin(&setup, 100 * SEGMENT);
    for (uint32_t i = 0; i < 7; i++) {
        heat_kill(setup.heat, setup.segments[0], i);
        heat_kill(setup.heat, setup.segments[SEGMENTS - 1], i);
    }
    heat_sweep_all(setup.heat);
    assert_ptr_equal(reclaim_pick(&setup.reclaim, any), setup.segments[SEGMENTS - 1]);
    heat_kill(setup.heat, setup.segments[0], 7);
    heat_kill(setup.heat, setup.segments[0], 8);
    heat_kill(setup.heat, setup.segments[0], 9);
    assert_ptr_equal(reclaim_pick(&setup.reclaim, any),
                     setup.segments[0]); /* but nothing is better than nothing to copy */
    setup_end(&setup);
}

/* Where everything is alive, something has to die: half a segment may live, and less where there is no budget. Pinned pages stay. */
static void
test_victims_where_all_live(void **state)
{
    struct setup setup;
    const struct heat_segment *victim;

    (void)state;
    setup_begin(&setup, 100000 * SEGMENT);
    victim = reclaim_pick(&setup.reclaim, any);
    assert_non_null(victim);
    assert_true(victim->live_bytes <= SEGMENT / 2);
    reclaim_note(&setup.reclaim, 0, 1000000 * SEGMENT);
    victim = reclaim_pick(&setup.reclaim, any);
    assert_non_null(victim);
    assert_true(victim->live_bytes <= SEGMENT / 8);
    for (size_t i = 0; i < SEGMENTS; i++) {
        for (uint32_t page = 0; page < PAGES; page++)
            heat_pin(setup.heat, setup.segments[i], page);
    }
    assert_non_null(reclaim_pick(&setup.reclaim, any)); /* and does not wait for ever */
    setup_end(&setup);
}

/* The share of live pages follows the budget. */
static void
test_share_follows_budget(void **state)
{
    struct setup setup;
    uint64_t before;

    (void)state;
    setup_begin(&setup, 1000 * SEGMENT);
    assert_int_equal(setup.heat->live_max, 985 * SEGMENT);
    before = setup.heat->live_max;
    for (int i = 0; i < 30; i++) {
        reclaim_note(&setup.reclaim, SEGMENT, SEGMENT);
        assert_true(setup.heat->live_max <= before);
        before = setup.heat->live_max;
    }
    assert_int_equal(setup.heat->live_max, 850 * SEGMENT);
    for (int i = 0; i < 1000; i++)
        reclaim_note(&setup.reclaim, SEGMENT, SEGMENT / 10); /* an amplification of 1.1 can go on */
    assert_int_equal(setup.heat->live_max, 985 * SEGMENT);
    reclaim_set_bytes(&setup.reclaim, 2000 * SEGMENT, SEGMENT);
    assert_in_range(setup.heat->live_max, 1700 * SEGMENT, 1970 * SEGMENT);
    reclaim_set_bytes(&setup.reclaim, 0, SEGMENT);
    assert_int_equal(setup.heat->live_max, 0);
    setup_end(&setup);
}

static void
test_when_room_is_made(void **state)
{
    static const struct {
        uint64_t segments, free, survivors_room;
        bool due;
    } cases[] = {
        {1000, 0, SEGMENT, true},
        {1000, 1, SEGMENT, false},
        {1000, 1, SEGMENT / 2, false},
        {1000, 1, SEGMENT / 2 - 1, true},
        {1000, 2, 0, false},
        {20, 0, SEGMENT, true},
        {20, 1, 0, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct setup setup;

        setup_begin(&setup, cases[i].segments * SEGMENT);
        assert_int_equal(reclaim_is_due(&setup.reclaim, cases[i].free, cases[i].survivors_room), cases[i].due);
        setup_end(&setup);
    }
}

/* The end of a chain that the store cannot hold is not stored. */
static void
test_chains_longer_than_the_store(void **state)
{
    struct setup setup;

    (void)state;
    setup_begin(&setup, 20 * SEGMENT);
    assert_true(reclaim_admits(&setup.reclaim, 20 * SEGMENT));
    assert_false(reclaim_admits(&setup.reclaim, 20 * SEGMENT + 1));
    setup_end(&setup);
    setup_begin(&setup, 200 * SEGMENT);
    assert_true(reclaim_admits(&setup.reclaim, 198 * SEGMENT));
    assert_false(reclaim_admits(&setup.reclaim, 198 * SEGMENT + 1));
    setup_end(&setup);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_victims),
        cmocka_unit_test(test_pages_about_to_die_are_waited_for),
        cmocka_unit_test(test_victims_where_all_live),
        cmocka_unit_test(test_share_follows_budget),
        cmocka_unit_test(test_when_room_is_made),
        cmocka_unit_test(test_chains_longer_than_the_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
