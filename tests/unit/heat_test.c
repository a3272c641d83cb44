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
    assert_int_equal(heat_find_from(model.segments[0], 0), 0);
    assert_int_equal(heat_find_from(model.segments[0], place_of(0) + 1), 1);
    assert_int_equal(heat_find_from(model.segments[0], place_of(1)), 1);
    assert_int_equal(heat_find_from(model.segments[0], place_of(1) + 1), 2); /* behind the last one */
    assert_int_equal(heat_find_from(model.segments[0], UINT64_MAX), 2);
    model_end(&model);
}

/* Some pages of an extent are known already, the last one short of a unit: the others join them, and those keep what they have. */
static void
test_pages_known_in_part(void **state)
{
    struct model model;
    uint64_t places[] = {place_of(0), place_of(1), place_of(2), place_of(3)}, end = place_of(3) + 100, used;

    (void)state;
    model_begin(&model, (uint64_t)PAGE * 100);
    used = heat_clock(model.heat, 50);
    assert_int_equal(heat_add(model.heat, model.segments[0], 1, places + 3, 1, end, used), VARVE_OK);
    assert_int_equal(heat_add(model.heat, model.segments[0], 1, places + 1, 1, place_of(2), used), VARVE_OK);
    for (uint32_t again = 0; again < 2; again++) {
        assert_int_equal(heat_add(model.heat, model.segments[0], 1, places, 4, end, used - 10), VARVE_OK);
        assert_int_equal(model.segments[0]->count, 4);
        for (uint32_t page = 0; page < 4; page++) {
            assert_int_equal(heat_find(model.segments[0], places[page], 0), page);
            assert_int_equal(heat_value(model.heat, model.segments[0], page),
                             page == 1 || page == 3 ? used : used - 10 - page);
        }
    }
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

/* What the pages say, against what was counted. */
static void
assert_sums(const struct heat *heat, struct heat_segment *const *segments, size_t segment_count)
{
    uint64_t live = 0, ours = 0;

    for (size_t i = 0; i < segment_count; i++) {
        uint64_t here = 0;
        uint32_t span = 0;

        for (uint32_t page = 0; page < segments[i]->count; page++) {
            while (span + 1 < segments[i]->span_count && segments[i]->spans[span + 1].at <= segments[i]->at[page])
                span++;
            here += heat_bytes(segments[i], page);
            ours += segments[i]->spans[span].ns_id == 1 ? heat_bytes(segments[i], page) : 0;
        }
        assert_int_equal(segments[i]->live_bytes, here);
        live += here;
    }
    assert_int_equal(heat->live_bytes, live);
    if (heat_group_find(heat, 1) != NULL)
        assert_int_equal(heat_group_find(heat, 1)->live_bytes, ours);
}

/* Additions before, between and behind others, from three namespaces: those that fail leave no trace. Returns how many did. */
static int
add_where_memory_may_end(struct heat *heat, struct heat_segment *const *segments)
{
    static const uint32_t first[] = {40, 0, 20, 30, 10, 35, 5, 100, 160};
    int failed = 0;

    for (size_t i = 0; i < 2 * sizeof(first) / sizeof(first[0]); i++) {
        uint64_t places[60], end;
        uint32_t count = first[i / 2] < 100 ? 4 : 60;
        int rc;

        for (uint32_t k = 0; k < count; k++)
            places[k] = place_of(first[i / 2] + k);
        end = place_of(first[i / 2] + count);
        rc = heat_add(heat, segments[i % 2], (uint32_t)(1 + i / 2 % 3), places, count, end, heat_clock(heat, count));
        assert_true(rc == VARVE_OK || rc == VARVE_E_NOMEM);
        failed += rc != VARVE_OK;
        assert_sums(heat, segments, 2);
    }
    return failed;
}

/* A short life in which the nth allocation fails. False: there were fewer. */
static bool
live_with_failure(struct plain_env *env, long n)
{
    struct heat_segment *segments[3] = {NULL, NULL, NULL};
    uint8_t *record = NULL;
    struct heat *heat;
    int failed = 0;

    atomic_store(&env->alloc_fails_in, n);
    heat = heat_create(&env->env, UINT64_MAX);
    failed += heat == NULL;
    for (size_t i = 0; i < 3 && heat != NULL; i++) {
        segments[i] = heat_segment_create(heat, NULL);
        failed += segments[i] == NULL;
    }
    if (failed == 0) {
        const struct heat_file file = {1, 2, place_of(1000)};
        size_t bytes;

        failed += heat_group_create(heat, 1, UINT64_MAX) != VARVE_OK;
        failed += add_where_memory_may_end(heat, segments);
        heat_segment_trim(heat, segments[0]); /* where that fails, it keeps what it has */
        bytes = heat_snapshot_bytes(segments[0]);
        record = malloc(bytes);
        assert_non_null(record);
        assert_int_equal(heat_snapshot_segment(heat, segments[0], &file, record, bytes), bytes);
        failed += heat_restore_segment(heat, segments[2], &file, record, bytes) != VARVE_OK;
        assert_sums(heat, segments, 3);
    }
    n = atomic_load(&env->alloc_fails_in);
    atomic_store(&env->alloc_fails_in, 0);
    for (size_t i = 0; i < 3 && heat != NULL; i++)
        heat_segment_destroy(heat, segments[i]);
    heat_destroy(heat);
    free(record);
    assert_true(n > 0 ? failed == 0 : failed <= 1);
    return n <= 0;
}

static void
test_every_allocation_may_fail(void **state)
{
    struct plain_env *env = plain_env_create(NULL);
    long n = 1;

    (void)state;
    while (live_with_failure(env, n))
        n++;
    assert_true(n > 15); /* as many as there are */
    plain_env_destroy(env);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends_of_chains_die_first),
        cmocka_unit_test(test_no_stamp_is_mistaken_after_a_leap),
        cmocka_unit_test(test_sweep_takes_cleared_namespaces),
        cmocka_unit_test(test_pages_without_bytes_share_a_place),
        cmocka_unit_test(test_pages_known_in_part),
        cmocka_unit_test(test_memory_a_page),
        cmocka_unit_test(test_every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
