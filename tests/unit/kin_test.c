/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of several namespaces, and which of them are the same. What it is good for is in docs/eviction.md, and in tests/api/ranks_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "plain_env.h"
#include "reclaim/kin.h"

#define ID UINT64_C(0x123456789abcdef)

struct fixture {
    struct plain_env *env;
    struct heat *heat;
    struct kin kin;
};

static int
setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    fixture->env = plain_env_create(NULL);
    fixture->heat = heat_create(&fixture->env->env, 0);
    (void)heat_clock(fixture->heat, 4000); /* what is live reaches back so far */
    *state = fixture;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *fixture = *state;

    heat_destroy(fixture->heat);
    plain_env_destroy(fixture->env);
    free(fixture);
    return 0;
}

static void
note(struct fixture *fixture, uint64_t id, uint32_t ns_id, uint64_t value)
{
    struct kin_call call = {.id = id, .value = value, .demotion = 7};

    kin_note(&fixture->kin, fixture->heat, &call, ns_id);
}

static void
test_each_namespace_gets_it_once(void **state)
{
    struct fixture *fixture = *state;

    assert_null(kin_take(&fixture->kin, fixture->heat, ID, 1));
    note(fixture, ID, 1, 100);
    assert_null(kin_take(&fixture->kin, fixture->heat, ID, 1));
    for (uint32_t ns_id = 2; ns_id < 6; ns_id++) {
        const struct kin_call *same = kin_take(&fixture->kin, fixture->heat, ID, ns_id);

        assert_non_null(same);
        assert_int_equal(same->value, 100);
        assert_int_equal(same->demotion, 7);
        assert_null(kin_take(&fixture->kin, fixture->heat, ID, ns_id));
    }
    note(fixture, ID, 3, 200); /* it calls again: a new call, for the others, too */
    assert_int_equal(kin_take(&fixture->kin, fixture->heat, ID, 1)->value, 200);
    assert_null(kin_take(&fixture->kin, fixture->heat, ID + 1, 1));
    assert_null(kin_take(&fixture->kin, fixture->heat, ID + KIN_CALLS, 1));
}

static void
test_calls_without_a_name_are_nobodys(void **state)
{
    struct fixture *fixture = *state;

    assert_null(kin_take(&fixture->kin, fixture->heat, 0, 1));
}

static void
test_what_is_long_ago_is_over(void **state)
{
    struct fixture *fixture = *state;
    uint64_t age = 4001; /* of the live set, now */

    note(fixture, ID, 1, 100);
    (void)heat_clock(fixture->heat, age / KIN_SHARE - 1);
    assert_non_null(kin_take(&fixture->kin, fixture->heat, ID, 2));
    (void)heat_clock(fixture->heat, age);
    assert_null(kin_take(&fixture->kin, fixture->heat, ID, 3));
}

static void
test_times_to_live_run_from_the_use_itself(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(heat_group_create(fixture->heat, 2, UINT64_MAX), 0);
    note(fixture, ID, 1, fixture->heat->clock);
    assert_non_null(kin_take(&fixture->kin, fixture->heat, ID, 2));
    note(fixture, ID, 1, fixture->heat->clock);
    (void)heat_group_mark(fixture->heat, 2);
    assert_null(kin_take(&fixture->kin, fixture->heat, ID, 2));
    assert_non_null(kin_take(&fixture->kin, fixture->heat, ID, 3)); /* which has none */
}

static void
test_width(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(kin_width(&fixture->kin), 1);
    for (uint64_t call = 1; call < 100; call++) {
        note(fixture, call, 1, 100);
        for (uint32_t ns_id = 2; ns_id <= 8; ns_id++)
            (void)kin_take(&fixture->kin, fixture->heat, call, ns_id);
        assert_int_equal(kin_width(&fixture->kin), 8);
    }
    for (uint64_t call = 1; call < 600; call++)
        note(fixture, call, 1, 100); /* the others are gone */
    assert_int_equal(kin_width(&fixture->kin), 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_namespace_gets_it_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_calls_without_a_name_are_nobodys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_long_ago_is_over, setup, teardown),
        cmocka_unit_test_setup_teardown(test_times_to_live_run_from_the_use_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(test_width, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
