/* SPDX-License-Identifier: Apache-2.0 */
/* histogram.c against sorted values: a percentile is never below the exact one and at most 1/32 above it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "histogram.h"
#include "random.h"

#define VALUES 5000

static int
ascending(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;

    return (a > b) - (a < b);
}

static void
test_empty(void **state)
{
    static const struct histogram empty;

    (void)state;
    assert_int_equal(histogram_percentile(&empty, 50), 0);
    assert_int_equal(histogram_percentile(&empty, 100), 0);
}

static void
test_small_values_are_exact(void **state)
{
    struct histogram histogram = {0};

    (void)state;
    for (uint64_t value = 0; value < 32; value++)
        histogram_add(&histogram, value);
    assert_int_equal(histogram_percentile(&histogram, 0), 0);
    assert_int_equal(histogram_percentile(&histogram, 50), 15);
    assert_int_equal(histogram_percentile(&histogram, 100), 31);
    assert_int_equal(histogram.sum, 31 * 32 / 2);
}

static void
test_extremes(void **state)
{
    static const uint64_t values[] = {0, 31, 32, 63, 64, UINT32_MAX, (uint64_t)1 << 63, UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct histogram histogram = {0};

        histogram_add(&histogram, values[i]);
        assert_int_equal(histogram_percentile(&histogram, 50), values[i]);
        assert_int_equal(histogram.max, values[i]);
    }
}

static void
test_random_against_sorted(void **state)
{
    static const double percents[] = {0.1, 1, 10, 50, 90, 99, 99.9, 100};

    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct random random = random_make(seed);
        struct histogram histogram = {0};
        uint64_t values[VALUES];

        print_message("seed %u\n", (unsigned)seed);
        for (size_t i = 0; i < VALUES; i++) {
            values[i] = random_next(&random) >> random_below(&random, 64);
            histogram_add(&histogram, values[i]);
        }
        qsort(values, VALUES, sizeof(values[0]), ascending);
        for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
            size_t rank = (size_t)(percents[i] / 100 * VALUES + 0.999);
            uint64_t exact = values[rank == 0 ? 0 : rank - 1];
            uint64_t found = histogram_percentile(&histogram, percents[i]);

            assert_true(found >= exact);
            assert_true(found - exact <= exact / 32);
        }
    }
}

static void
test_merge_equals_adding(void **state)
{
    struct random random = random_make(7);
    struct histogram parts[3] = {0};
    struct histogram whole = {0};
    struct histogram merged = {0};

    (void)state;
    for (size_t i = 0; i < VALUES; i++) {
        uint64_t value = random_below(&random, 1000000);

        histogram_add(&parts[i % 3], value);
        histogram_add(&whole, value);
    }
    for (size_t i = 0; i < 3; i++)
        histogram_merge(&merged, &parts[i]);
    assert_memory_equal(&merged, &whole, sizeof(whole));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_small_values_are_exact),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_random_against_sorted),
        cmocka_unit_test(test_merge_equals_adding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
