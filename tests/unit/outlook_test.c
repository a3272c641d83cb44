/* SPDX-License-Identifier: Apache-2.0 */
/* Levels played ahead: cases that can be reckoned by hand, and the formulas for levels that are full. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "control/outlook.h"

#define FLUSH_PAGES 1000.0

static struct outlook_layout
empty_layout(uint64_t base_bytes)
{
    return (struct outlook_layout){.page_bytes = 25, .base_bytes = base_bytes};
}

static bool
near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance * b;
}

/* One level that never overflows is the last one: Z decides. */
static void
test_one_level(void **state)
{
    static const struct {
        uint32_t runs_last_level;
        unsigned flushes;
        double passes, runs;
    } cases[] = {
        {1, 1, 0, 1},   {1, 4, (2 + 3 + 4) / 4.0, 1}, {2, 2, 0, 1.5}, {2, 5, (3 + 5) / 5.0, (1 + 2 + 1 + 2 + 1) / 5.0},
        {4, 4, 0, 2.5},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct outlook_layout layout = empty_layout(UINT64_C(1) << 40);
        struct level_shape shape = {.size_ratio = 4,
                                    .runs_per_level = 8,
                                    .runs_last_level = cases[i].runs_last_level,
                                    .base_bytes = layout.base_bytes};
        struct outlook outlook;

        outlook_play(&layout, &shape, FLUSH_PAGES, cases[i].flushes, &outlook);
        assert_true(near(outlook.passes, cases[i].passes, 1e-9));
        assert_true(near(outlook.runs, cases[i].runs, 1e-9));
    }
}

/* Runs that are too many for a new shape are merged first, and once. */
static void
test_settles(void **state)
{
    struct outlook_layout layout = empty_layout(UINT64_C(1) << 40);
    struct level_shape shape = {
        .size_ratio = 4, .runs_per_level = 1, .runs_last_level = 1, .base_bytes = layout.base_bytes};
    struct outlook outlook, now;

    (void)state;
    for (layout.count = 0; layout.count < 4; layout.count++)
        layout.runs[layout.count] = (struct outlook_run){.pages = 500, .level = 1};
    outlook_now(&layout, &now);
    assert_true(near(now.runs, 4, 1e-9));
    outlook_play(&layout, &shape, FLUSH_PAGES, 0, &outlook);
    assert_true(near(outlook.settle_pages, 2000, 1e-9));
    assert_true(near(outlook.runs, 1, 1e-9));
    assert_true(outlook.passes == 0);
}

static void
test_spread(void **state)
{
    struct outlook_layout layout = empty_layout(1000);
    struct outlook now;

    (void)state;
    layout.runs[layout.count++] = (struct outlook_run){.pages = 750, .level = 2};
    layout.runs[layout.count++] = (struct outlook_run){.pages = 250, .level = 1};
    outlook_now(&layout, &now);
    assert_true(near(outlook_spread(&now, 1), 1, 1e-9));
    assert_true(near(outlook_spread(&now, 2), 1 - 0.0625 + 1 - 0.5625, 1e-9));
    assert_true(near(outlook_spread(&now, 1e9), 2, 1e-6));
    for (int i = 0; i < 7; i++) {
        double turns = pow(1.5, i);

        assert_true(near(outlook_turns(&now, outlook_spread(&now, turns)), turns, 1e-6));
    }
    assert_true(outlook_turns(&now, 0.5) == 1);
    assert_true(outlook_turns(&now, 5) == 2048);
}

/*
 * Writes of levels that are full, Dostoevsky (SIGMOD '18), section 4: (T - 1) / (K + 1) times on each level but the last, (T - 1) / (Z + 1) there. The formula
 * counts whole levels, and a play has them half full in the mean.
 */
static void
test_formula(void **state)
{
    static const uint32_t shapes[][3] = {{4, 1, 1}, {4, 3, 1}, {4, 3, 3}, {10, 1, 1}, {10, 4, 1}, {10, 9, 9}};
    double leveling = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        struct outlook_layout layout = empty_layout((uint64_t)(FLUSH_PAGES * 25));
        double t = shapes[i][0], k = shapes[i][1], z = shapes[i][2], levels, formula;
        struct level_shape shape = {.size_ratio = shapes[i][0],
                                    .runs_per_level = shapes[i][1],
                                    .runs_last_level = shapes[i][2],
                                    .base_bytes = layout.base_bytes};
        unsigned flushes = 2000;
        struct outlook outlook;

        outlook_play(&layout, &shape, FLUSH_PAGES, flushes, &outlook);
        levels = ceil(log(flushes * (t - 1) / t) / log(t));
        formula = (t - 1) / (k + 1) * (levels - 1) + (t - 1) / (z + 1);
        assert_true(outlook.passes > formula / 3 && outlook.passes < formula * 1.5);
        leveling = i % 3 == 0 ? outlook.passes : leveling;
        assert_true(i % 3 == 0 || outlook.passes < 0.6 * leveling); /* lazy leveling, and tiering */
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_level),
        cmocka_unit_test(test_settles),
        cmocka_unit_test(test_spread),
        cmocka_unit_test(test_formula),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
