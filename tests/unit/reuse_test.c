/* SPDX-License-Identifier: Apache-2.0 */
/* The sampled LRU stack, against uses of blocks for which the answer is known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "index/reuse.h"
#include "random.h"

static double
hit_ratio(const struct reuse_sample *sample, double blocks)
{
    double found = 0, steps = blocks / (double)sample->step_blocks;

    for (int i = 0; i < REUSE_BUCKETS && i < steps; i++)
        found += (double)sample->found[i] * (steps - i < 1 ? steps - i : 1);
    return sample->uses == 0 ? 0 : found / (double)sample->uses;
}

static void
test_cycle(void **state)
{
    struct reuse *reuse = malloc(sizeof(*reuse));
    struct reuse_sample sample;

    (void)state;
    assert_non_null(reuse);
    reuse_init(reuse, REUSE_DEPTH);
    for (uint64_t i = 0; i < 100 * 100; i++)
        reuse_note(reuse, random_mix(i % 100));
    reuse_take(reuse, &sample);
    assert_int_equal(sample.uses, 100 * 100);
    assert_true(hit_ratio(&sample, 96) == 0); /* LRU keeps nothing of a cycle that is longer than the cache */
    assert_true(hit_ratio(&sample, 104) == 0.99);
    reuse_take(reuse, &sample);
    assert_int_equal(sample.uses, 0); /* it was taken */
    free(reuse);
}

/* Of blocks that are used at random a cache has as many as there is room for, whatever share of them is sampled. */
static void
test_random(void **state)
{
    static const uint64_t counts[] = {400, 5000, 80000};

    (void)state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct reuse *reuse = malloc(sizeof(*reuse));
        struct random random = random_make(i);
        struct reuse_sample sample;

        assert_non_null(reuse);
        reuse_init(reuse, counts[i]);
        for (uint64_t use = 0; use < 40 * counts[i]; use++)
            reuse_note(reuse, random_mix(random_below(&random, counts[i])));
        reuse_take(reuse, &sample);
        for (int eighth = 1; eighth < 8; eighth++) {
            double share = eighth / 8.0;
            double ratio = hit_ratio(&sample, share * (double)counts[i]);

            assert_true(ratio > share - 0.08 && ratio < share + 0.08); /* some 400 blocks are in the sample */
        }
        free(reuse);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cycle),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
