/* SPDX-License-Identifier: Apache-2.0 */
/* Recency, liveness and victims: single cases. Random operations: heat_model_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plain_env.h"
#include "reclaim/heat.h"
#include "reclaim/reclaim.h"

#define SEGMENTS 12
#define PAGES    48 /* a segment */
#define PAGE     4096

struct model {
    struct plain_env *env;
    struct heat *heat;
    struct heat_segment *segments[SEGMENTS];
};

static uint64_t
place_of(uint64_t page)
{
    return page * PAGE;
}

static void
model_begin(struct model *model, uint64_t live_max)
{
    *model = (struct model){.env = plain_env_create(NULL)};
    model->heat = heat_create(&model->env->env, live_max);
    assert_non_null(model->heat);
    for (size_t i = 0; i < SEGMENTS; i++) {
        model->segments[i] = heat_segment_create(model->heat, &model->segments[i]);
        assert_non_null(model->segments[i]);
    }
}

static void
model_end(struct model *model)
{
    for (size_t i = 0; i < SEGMENTS; i++)
        heat_segment_destroy(model->heat, model->segments[i]);
    assert_int_equal(model->heat->live_bytes, 0);
    assert_int_equal(model->heat->pinned_bytes, 0);
    heat_destroy(model->heat);
    plain_env_destroy(model->env);
}

/* Pages [first, first + count) of a segment, next to each other. */
static void
add(struct model *model, size_t segment, uint64_t first, uint32_t count, uint32_t ns_id, uint64_t value)
{
    uint64_t places[PAGES];

    for (uint32_t i = 0; i < count; i++)
        places[i] = place_of(first + i);
    assert_int_equal(
        heat_add(model->heat, model->segments[segment], ns_id, places, count, place_of(first + count), value),
        VARVE_OK);
}

static bool
any(const void *owner)
{
    return owner != NULL;
}

/* Of a chain, the end dies first; what is used again lives on, whatever came between. */
static void
test_ends_of_chains_die_first(void **state)
{
    struct model model;
    uint64_t value;

    (void)state;
    model_begin(&model, (uint64_t)PAGE * 15);
    add(&model, 0, 0, 10, 1, heat_clock(model.heat, 10));
    add(&model, 1, 0, 10, 1, heat_clock(model.heat, 10));
    heat_age(model.heat);
    for (uint32_t page = 0; page < 10; page++) {
        assert_int_equal(heat_is_live(model.heat, model.segments[0], page), page < 5);
        assert_true(heat_is_live(model.heat, model.segments[1], page));
    }
    value = heat_clock(model.heat, 7);
    for (uint32_t page = 0; page < 7; page++) /* two of them were dead: their second life */
        heat_touch(model.heat, model.segments[0], page, value - page);
    heat_age(model.heat);
    for (uint32_t page = 0; page < 10; page++) {
        assert_int_equal(heat_is_live(model.heat, model.segments[0], page), page < 7);
        assert_int_equal(heat_is_live(model.heat, model.segments[1], page), page < 8);
    }
    model_end(&model);
}

/* Stamps come round again: dead ones must be gone by then, also when the clock leaps while they wait for their turn to be swept. */
static void
test_no_stamp_is_mistaken_after_a_leap(void **state)
{
    struct plain_env *env = plain_env_create(NULL);
    struct heat *heat = heat_create(&env->env, UINT64_MAX);
    struct heat_segment *waits = heat_segment_create(heat, NULL), *swept = heat_segment_create(heat, NULL);
    const uint64_t place = 0;

    (void)state;
    assert_int_equal(heat_add(heat, waits, 1, &place, 1, PAGE, heat_clock(heat, 0)), VARVE_OK);
    (void)heat_clock(heat, 31900); /* so far that all are swept: the page is live as yet */
    assert_int_equal(heat_add(heat, swept, 1, &place, 1, PAGE, heat_clock(heat, 0)), VARVE_OK);
    heat_shrink(heat, 2 * PAGE);
    (void)heat_clock(heat, 4095); /* the other segment's turn */
    (void)heat_clock(heat, 3000);
    heat_touch(heat, swept, 0, heat_clock(heat, 0));
    heat_shrink(heat, PAGE);
    assert_int_not_equal(waits->stamps[0], HEAT_DEAD);
    (void)heat_clock(heat, 27000);
    assert_int_equal(heat->shift, 0);
    assert_false(heat_is_live(heat, waits, 0));
    assert_true(heat_is_live(heat, swept, 0));
    heat_sweep_all(heat);
    assert_int_equal(waits->live_bytes, 0);
    heat_segment_destroy(heat, waits);
    heat_segment_destroy(heat, swept);
    heat_destroy(heat);
    plain_env_destroy(env);
}

static bool
is_two(void *arg, uint32_t ns_id)
{
    (void)arg;
    return ns_id == 2;
}

static void
test_sweep_takes_cleared_namespaces(void **state)
{
    struct model model;

    (void)state;
    model_begin(&model, (uint64_t)PAGE * 100);
    add(&model, 0, 10, 4, 1, heat_clock(model.heat, 4));
    add(&model, 0, 0, 4, 2, heat_clock(model.heat, 4));
    add(&model, 0, 4, 6, 1, heat_clock(model.heat, 6));
    add(&model, 0, 14, 6, 2, heat_clock(model.heat, 6));
    heat_sweep(model.heat, model.segments[0], is_two, NULL);
    for (uint32_t page = 0; page < 20; page++)
        assert_int_equal(heat_is_live(model.heat, model.segments[0], page), page >= 4 && page < 14);
    assert_int_equal(model.segments[0]->live_bytes, 10 * PAGE);
    model_end(&model);
}

static void
test_pages_without_bytes_share_a_place(void **state)
{
    struct model model;
    uint64_t places[] = {place_of(0), place_of(1), place_of(1), place_of(2)};

    (void)state;
    model_begin(&model, (uint64_t)PAGE * 100);
    assert_int_equal(heat_add(model.heat, model.segments[0], 1, places, 4, place_of(2), heat_clock(model.heat, 4)),
                     VARVE_OK);
    assert_int_equal(model.segments[0]->count, 2);
    assert_int_equal(model.segments[0]->live_bytes, 2 * PAGE);
    assert_int_equal(heat_find(model.segments[0], place_of(1), 0), 1);
    assert_int_equal(heat_find(model.segments[0], place_of(2), 0), 2);
    model_end(&model);
}

static void
test_memory_a_page(void **state)
{
    struct model model;

    (void)state;
    model_begin(&model, (uint64_t)PAGE * 1000);
    add(&model, 0, 0, PAGES, 1, heat_clock(model.heat, PAGES));
    heat_segment_trim(model.heat, model.segments[0]);
    assert_int_equal(model.segments[0]->room, PAGES);
    assert_int_equal(sizeof(model.segments[0]->at[0]) + sizeof(model.segments[0]->stamps[0]), 6);
    model_end(&model);
}

static void
test_failing_allocations_change_nothing(void **state)
{
    struct model model;
    uint64_t places[PAGES];
    bool failed = false;

    (void)state;
    model_begin(&model, (uint64_t)PAGE * 1000);
    add(&model, 0, 0, 2, 1, heat_clock(model.heat, 2));
    for (uint32_t i = 0; i < 40; i++)
        places[i] = place_of(4 + i);
    for (int n = 1; n <= 8; n++) {
        uint64_t live = model.heat->live_bytes;
        int rc;

        atomic_store(&model.env->alloc_fails_in, 1);
        rc = heat_add(model.heat, model.segments[0], (uint32_t)n + 1, places + n * 4 - 4, 4,
                      place_of((uint64_t)n * 4 + 4), heat_clock(model.heat, 4));
        if (rc != VARVE_OK) {
            failed = true;
            assert_int_equal(rc, VARVE_E_NOMEM);
            assert_int_equal(model.heat->live_bytes, live);
        }
    }
    atomic_store(&model.env->alloc_fails_in, 0);
    assert_true(failed);
    model_end(&model);
}

/* The victim is the segment with the fewest live bytes, the coldest of those that have none. */
static void
test_victims(void **state)
{
    struct reclaim reclaim;
    struct model model;

    (void)state;
    model_begin(&model, 0);
    reclaim_init(&reclaim, model.heat, (uint64_t)PAGE * 1000);
    for (size_t i = 0; i < SEGMENTS; i++)
        add(&model, i, 0, 10, 1, heat_clock(model.heat, 10));
    heat_shrink(model.heat, (uint64_t)PAGE * 32);
    heat_sweep_all(model.heat);
    assert_ptr_equal(reclaim_pick(&reclaim, any), model.segments[0]);
    heat_touch(model.heat, model.segments[0], 3, heat_clock(model.heat, 0));
    assert_ptr_equal(reclaim_pick(&reclaim, any), model.segments[1]);
    heat_touch(model.heat, model.segments[1], 3, heat_clock(model.heat, 0));
    heat_touch(model.heat, model.segments[1], 4, heat_clock(model.heat, 0));
    assert_ptr_equal(reclaim_pick(&reclaim, any), model.segments[2]);
    model_end(&model);
}

/* Where everything is alive, something has to die. */
static void
test_victims_where_all_live(void **state)
{
    struct reclaim reclaim;
    struct model model;
    struct heat_segment *victim;

    (void)state;
    model_begin(&model, 0);
    reclaim_init(&reclaim, model.heat, (uint64_t)PAGE * 1000000);
    for (size_t i = 0; i < SEGMENTS; i++)
        add(&model, i, 0, 10, 1, heat_clock(model.heat, 10));
    victim = reclaim_pick(&reclaim, any);
    assert_ptr_equal(victim, model.segments[0]);
    assert_int_equal(victim->live_bytes, 0);
    model_end(&model);
}

/* The share of live pages follows what reclaim copies. */
static void
test_share_follows_amplification(void **state)
{
    struct reclaim reclaim;
    struct model model;

    (void)state;
    model_begin(&model, 0);
    reclaim_init(&reclaim, model.heat, 1000000);
    for (int i = 0; i < 1000; i++)
        reclaim_note(&reclaim, 1000, 0);
    assert_in_range(model.heat->live_max, 960000, 970000);
    for (int i = 0; i < 1000; i++)
        reclaim_note(&reclaim, 1000, 300);
    assert_in_range(model.heat->live_max, 800000, 805000);
    reclaim_set_bytes(&reclaim, 2000000);
    assert_in_range(model.heat->live_max, 1600000, 1610000);
    model_end(&model);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends_of_chains_die_first),
        cmocka_unit_test(test_no_stamp_is_mistaken_after_a_leap),
        cmocka_unit_test(test_sweep_takes_cleared_namespaces),
        cmocka_unit_test(test_pages_without_bytes_share_a_place),
        cmocka_unit_test(test_memory_a_page),
        cmocka_unit_test(test_failing_allocations_change_nothing),
        cmocka_unit_test(test_victims),
        cmocka_unit_test(test_victims_where_all_live),
        cmocka_unit_test(test_share_follows_amplification),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
