/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of single namespaces: quotas, time to live, clearing. Random operations: heat_model_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "plain_env.h"
#include "reclaim/heat.h"

#define PAGE  UINT64_C(4096)
#define PAGES 1000u
#define OURS  5u
#define OTHER 6u

struct setup {
    struct plain_env *env;
    struct heat *heat;
    struct heat_segment *segment;
    uint64_t end; /* of what is in it */
};

static void
setup_begin(struct setup *setup)
{
    *setup = (struct setup){.env = plain_env_create(NULL)};
    setup->heat = heat_create(&setup->env->env, UINT64_MAX);
    assert_non_null(setup->heat);
    setup->segment = heat_segment_create(setup->heat, setup);
    assert_non_null(setup->segment);
}

static void
setup_end(struct setup *setup)
{
    heat_segment_destroy(setup->heat, setup->segment);
    assert_int_equal(setup->heat->live_bytes, 0);
    heat_destroy(setup->heat);
    plain_env_destroy(setup->env);
}

/* A chain of so many pages; returns the value of its first. */
static uint64_t
add(struct setup *setup, uint32_t ns_id, uint32_t count)
{
    uint64_t places[PAGES], value = heat_clock(setup->heat, count);

    for (uint32_t i = 0; i < count; i++)
        places[i] = setup->end + i * PAGE;
    setup->end += count * PAGE;
    assert_int_equal(heat_add(setup->heat, setup->segment, ns_id, places, count, setup->end, value), VARVE_OK);
    return value;
}

/* The pages that live: [from, to) and no others of [first, end). */
static void
assert_live(const struct setup *setup, uint32_t first, uint32_t end, uint32_t from, uint32_t to)
{
    for (uint32_t page = first; page < end; page++)
        assert_int_equal(heat_is_live(setup->heat, setup->segment, page), page >= from && page < to);
}

static void
test_youngest_stay_within_the_quota(void **state)
{
    struct setup setup;

    (void)state;
    setup_begin(&setup);
    assert_int_equal(heat_group_create(setup.heat, OURS, 15 * PAGE), VARVE_OK);
    add(&setup, OURS, 10);  /* 0-9 */
    add(&setup, OTHER, 10); /* 10-19 */
    add(&setup, OURS, 10);  /* 20-29 */
    heat_age(setup.heat);
    assert_live(&setup, 0, 10, 0, 5); /* the end of the older chain */
    assert_live(&setup, 10, 30, 10, 30);
    assert_int_equal(heat_group_find(setup.heat, OURS)->live_bytes, 15 * PAGE);
    assert_int_equal(setup.heat->live_bytes, 25 * PAGE);
    assert_null(heat_group_find(setup.heat, OTHER));
    heat_touch(setup.heat, setup.segment, 9, heat_clock(setup.heat, 0)); /* second life, at another's expense */
    heat_age(setup.heat);
    assert_true(heat_is_live(setup.heat, setup.segment, 9));
    assert_live(&setup, 0, 9, 0, 4);
    setup_end(&setup);
}

static void
test_pinned_pages_take_quota_and_stay(void **state)
{
    struct setup setup;

    (void)state;
    setup_begin(&setup);
    assert_int_equal(heat_group_create(setup.heat, OURS, 12 * PAGE), VARVE_OK);
    add(&setup, OURS, 10);
    for (uint32_t page = 0; page < 5; page++)
        heat_pin(setup.heat, setup.segment, page);
    add(&setup, OURS, 10);
    heat_age(setup.heat);
    assert_live(&setup, 0, 10, 0, 5);
    assert_live(&setup, 10, 20, 10, 17);
    assert_int_equal(heat_group_find(setup.heat, OURS)->pinned_bytes, 5 * PAGE);
    assert_int_equal(heat_group_create(setup.heat, OURS, 0), VARVE_OK); /* a new quota */
    (void)heat_clock(setup.heat, 0);
    heat_age(setup.heat);
    assert_live(&setup, 0, 20, 0, 5);
    assert_int_equal(heat_group_find(setup.heat, OURS)->live_bytes, 0);
    setup_end(&setup);
}

/* A namespace that gets its limit when it is there already, also where epochs are long: within 1 % of the quota. */
static void
test_quota_is_met_closely(void **state)
{
    (void)state;
    for (unsigned shift = 0; shift <= 8; shift += 4) {
        struct setup setup;
        uint64_t live;

        setup_begin(&setup);
        for (unsigned i = 0; i < 200; i++) { /* two namespaces that share the time */
            add(&setup, OURS, 20);
            (void)heat_clock(setup.heat, (UINT64_C(100) << shift) - 21);
            add(&setup, OTHER, 20);
        }
        assert_in_range(setup.heat->shift, shift, shift + 1);
        assert_int_equal(heat_group_create(setup.heat, OURS, 2510 * PAGE), VARVE_OK);
        assert_int_equal(heat_group_find(setup.heat, OURS)->live_bytes, 4000 * PAGE);
        heat_age(setup.heat);
        live = heat_group_find(setup.heat, OURS)->live_bytes;
        assert_in_range(live, 2485 * PAGE, 2510 * PAGE);
        assert_int_equal(setup.heat->live_bytes, live + 4000 * PAGE);
        setup_end(&setup);
    }
}

static void
test_time_to_live(void **state)
{
    struct setup setup;
    uint64_t old;

    (void)state;
    setup_begin(&setup);
    assert_int_equal(heat_group_create(setup.heat, OURS, UINT64_MAX), VARVE_OK);
    old = add(&setup, OURS, 10);
    add(&setup, OTHER, 10);
    add(&setup, OURS, 10);
    heat_pin(setup.heat, setup.segment, 7);
    heat_expire(setup.heat, OURS, old - 4);            /* pages 0 to 4 were used then, or after it */
    heat_expire(setup.heat, OTHER, setup.heat->clock); /* no limits */
    assert_live(&setup, 0, 7, 0, 5);
    assert_live(&setup, 7, 10, 7, 8);
    assert_live(&setup, 10, 30, 10, 30);
    heat_touch(setup.heat, setup.segment, 6, old - 6); /* not since */
    assert_false(heat_is_live(setup.heat, setup.segment, 6));
    heat_touch(setup.heat, setup.segment, 6, heat_clock(setup.heat, 0));
    assert_true(heat_is_live(setup.heat, setup.segment, 6));
    heat_expire(setup.heat, OURS, UINT64_MAX);
    assert_live(&setup, 0, 6, 0, 0);
    assert_live(&setup, 6, 8, 6, 8); /* of the present epoch; pinned */
    assert_live(&setup, 8, 20, 10, 20);
    assert_live(&setup, 20, 30, 0, 0);
    assert_int_equal(setup.heat->live_bytes, 11 * PAGE);
    setup_end(&setup);
}

static void
test_what_a_limit_let_die_stays_dead_without_it(void **state)
{
    struct setup setup;
    uint64_t value;

    (void)state;
    setup_begin(&setup);
    assert_int_equal(heat_group_create(setup.heat, OURS, 5 * PAGE), VARVE_OK);
    add(&setup, OURS, 10);
    heat_age(setup.heat);
    assert_live(&setup, 0, 10, 0, 5);
    heat_group_destroy(setup.heat, OURS);
    heat_group_destroy(setup.heat, OURS);
    assert_live(&setup, 0, 10, 0, 5);
    assert_int_equal(setup.heat->live_bytes, 5 * PAGE);
    value = heat_clock(setup.heat, 10);
    heat_touch_run(setup.heat, setup.segment, 0, 10, value);
    heat_age(setup.heat);
    assert_live(&setup, 0, 10, 0, 10);
    setup_end(&setup);
}

static void
test_cleared_namespace(void **state)
{
    struct setup setup;

    (void)state;
    setup_begin(&setup);
    assert_int_equal(heat_group_create(setup.heat, OURS, 100 * PAGE), VARVE_OK);
    for (unsigned i = 0; i < 4; i++)
        add(&setup, i % 2 == 0 ? OURS : OTHER, 10);
    heat_pin(setup.heat, setup.segment, 3);
    heat_gone(setup.heat, OURS);
    assert_live(&setup, 0, 20, 10, 20);
    assert_live(&setup, 20, 40, 30, 40);
    assert_null(heat_group_find(setup.heat, OURS));
    assert_int_equal(setup.heat->live_bytes, 20 * PAGE);
    assert_int_equal(setup.heat->pinned_bytes, 0);
    assert_int_equal(setup.segment->live_bytes, 20 * PAGE);
    heat_gone(setup.heat, OTHER); /* also without limits */
    assert_int_equal(setup.segment->live_bytes, 0);
    assert_int_equal(setup.heat->live_bytes, 0);
    setup_end(&setup);
}

/* A namespace of which only the youngest live is touched again sooner. */
static void
test_recent_is_judged_by_the_namespace(void **state)
{
    struct setup setup;
    uint64_t value;

    (void)state;
    setup_begin(&setup);
    assert_int_equal(heat_group_create(setup.heat, OURS, UINT64_MAX), VARVE_OK);
    add(&setup, OURS, 10);
    (void)heat_clock(setup.heat, 3200 - 1);
    value = add(&setup, OURS, 10);
    (void)heat_clock(setup.heat, 32 - 1);
    assert_true(heat_is_recent(setup.heat, value));
    assert_true(heat_is_recent_in(setup.heat, OURS, value));
    heat_expire(setup.heat, OURS, value);
    assert_true(heat_is_recent(setup.heat, value));
    assert_true(heat_is_recent_in(setup.heat, OTHER, value));
    assert_false(heat_is_recent_in(setup.heat, OURS, value));
    setup_end(&setup);
}

/* Victims: what only a namespace's limit let die makes room as well. */
static bool
any(const void *owner)
{
    return owner != NULL;
}

static void
test_limits_make_victims(void **state)
{
    struct setup setup;
    struct heat_segment *other;
    const uint64_t places[] = {0, PAGE};

    (void)state;
    setup_begin(&setup);
    assert_int_equal(heat_group_create(setup.heat, OURS, UINT64_MAX), VARVE_OK);
    add(&setup, OURS, 10);
    other = heat_segment_create(setup.heat, &setup);
    assert_non_null(other);
    assert_int_equal(heat_add(setup.heat, other, OTHER, places, 2, 2 * PAGE, heat_clock(setup.heat, 2)), VARVE_OK);
    assert_ptr_equal(heat_coldest(setup.heat, any), other);
    heat_expire(setup.heat, OURS, setup.heat->clock);
    assert_ptr_equal(heat_coldest(setup.heat, any), setup.segment);
    assert_int_equal(setup.segment->live_bytes, 0);
    heat_segment_destroy(setup.heat, other);
    setup_end(&setup);
}

static void
test_memory_a_group(void **state)
{
    struct setup setup;

    (void)state;
    setup_begin(&setup);
    assert_true(sizeof(struct heat_group) <= 256 * 1024 + 64);
    assert_true(HEAT_GROUP_EPOCHS > HEAT_SPAN_MAX);
    for (long n = 1; n <= 2; n++) {
        atomic_store(&setup.env->alloc_fails_in, n);
        assert_int_equal(heat_group_create(setup.heat, OURS, 0), VARVE_E_NOMEM);
        assert_int_equal(setup.heat->group_count, 0);
    }
    atomic_store(&setup.env->alloc_fails_in, 0);
    for (uint32_t ns_id = 20; ns_id > 0; ns_id--)
        assert_int_equal(heat_group_create(setup.heat, ns_id, ns_id), VARVE_OK);
    for (uint32_t ns_id = 1; ns_id <= 20; ns_id++)
        assert_int_equal(heat_group_find(setup.heat, ns_id)->quota, ns_id);
    setup_end(&setup); /* frees what is left */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_youngest_stay_within_the_quota),
        cmocka_unit_test(test_pinned_pages_take_quota_and_stay),
        cmocka_unit_test(test_quota_is_met_closely),
        cmocka_unit_test(test_time_to_live),
        cmocka_unit_test(test_what_a_limit_let_die_stays_dead_without_it),
        cmocka_unit_test(test_cleared_namespace),
        cmocka_unit_test(test_recent_is_judged_by_the_namespace),
        cmocka_unit_test(test_limits_make_victims),
        cmocka_unit_test(test_memory_a_group),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
