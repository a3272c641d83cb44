/* SPDX-License-Identifier: Apache-2.0 */
/* The write budget's decision: a table of cases, and what it bounds, with batches at random moments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../sim/sim_rng.h"
#include "index_model.h"
#include "reclaim/write_budget.h"

#define SECOND UINT64_C(1000000000)
#define HOUR   (3600 * SECOND)
#define DAY    UINT64_C(24000) /* bytes: the bucket holds 1000 */

static void
test_decisions(void **state)
{
    static const struct {
        int64_t tokens;
        uint64_t elapsed_ns;
        size_t count, admitted;
    } cases[] = {
        {1000, 0, 10, 10},          /* full */
        {500, 0, 10, 10},           /* half full: all */
        {499, 0, 1000, 998},        /* just below: in proportion */
        {250, 0, 10, 5},            /* */
        {250, 0, 1, 0},             /* the floor of a half */
        {250, 0, 3, 1},             /* */
        {1, 0, 1000, 2},            /* */
        {0, 0, 1000, 0},            /* empty */
        {-5000, 0, 1000, 0},        /* in debt */
        {-5000, HOUR, 1000, 0},     /* and after an hour */
        {-5000, 6 * HOUR, 10, 10},  /* paid off, and full */
        {0, HOUR / 4, 10, 5},       /* filled by a quarter */
        {0, HOUR / 2, 10, 10},      /* by half */
        {1000, 100 * HOUR, 10, 10}, /* no more than full: see the next test */
        {250, 0, 0, 0},             /* nothing to admit */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct write_budget budget = {0};

        write_budget_set(&budget, DAY, SECOND);
        write_budget_charge(&budget, 1000 - cases[i].tokens);
        assert_int_equal(write_budget_admit(&budget, SECOND + cases[i].elapsed_ns, cases[i].count), cases[i].admitted);
        assert_true(budget.tokens <= 1000);
    }
}

static void
test_none(void **state)
{
    struct write_budget budget = {0};

    (void)state;
    write_budget_charge(&budget, INT64_MAX / 2);
    assert_int_equal(write_budget_admit(&budget, SECOND, 10), 10);
    write_budget_set(&budget, DAY, SECOND); /* begins full, whatever was before */
    assert_int_equal(budget.tokens, 1000);
    write_budget_charge(&budget, 400);
    write_budget_set(&budget, DAY / 10, SECOND); /* smaller: holds less */
    assert_int_equal(budget.tokens, 100);
    write_budget_set(&budget, DAY * 10, SECOND); /* larger: fills up as time goes by */
    assert_int_equal(budget.tokens, 100);
    write_budget_set(&budget, 0, SECOND);
    assert_int_equal(write_budget_admit(&budget, SECOND, 10), 10);
}

/* Nanoseconds are not lost between calls, and neither the largest budget nor the longest time overflows. */
static void
test_exact(void **state)
{
    struct write_budget budget = {0};

    (void)state;
    write_budget_set(&budget, DAY, 0);
    write_budget_charge(&budget, 1000);
    for (uint64_t now_ns = 0; now_ns <= HOUR / 2; now_ns += SECOND / 8)
        (void)write_budget_admit(&budget, now_ns, 0);
    assert_int_equal(budget.tokens, 500);
    write_budget_set(&budget, UINT64_MAX, 0);
    write_budget_charge(&budget, INT64_MAX / 2);
    assert_int_equal(write_budget_admit(&budget, UINT64_MAX, 7), 7);
}

/* Over any interval no more is admitted than comes in, the bucket's depth and one batch; and what is admitted is not far below that either. */
static void
test_bound(void **state)
{
    struct sim_rng rng = sim_rng_make(model_seed(), 0);

    (void)state;
    for (int round = 0; round < 100; round++) {
        uint64_t day = sim_rng_between(&rng, 1000, UINT64_C(1) << sim_rng_between(&rng, 10, 45));
        uint64_t page = sim_rng_between(&rng, 1, day / 20 + 1), batch_max = sim_rng_between(&rng, 1, 64);
        uint64_t now_ns = SECOND, bytes = 0, offered = 0;
        int64_t lowest = 0; /* of what was admitted less what came in, at the beginning of an interval */
        struct write_budget budget = {0};

        write_budget_set(&budget, day, now_ns);
        for (int i = 0; i < 2000; i++) {
            size_t count = sim_rng_between(&rng, 1, batch_max), admitted;
            uint64_t income;
            int64_t over;

            now_ns += sim_rng_below(&rng, HOUR / 10);
            income = (uint64_t)((double)day * ((double)(now_ns - SECOND) / (double)WRITE_BUDGET_DAY_NS));
            over = (int64_t)(bytes - income);
            if (i == 0 || over < lowest)
                lowest = over;
            admitted = write_budget_admit(&budget, now_ns, count);
            assert_true(admitted <= count);
            write_budget_charge(&budget, (int64_t)(admitted * page));
            bytes += admitted * page;
            offered += count * page;
            over = (int64_t)(bytes - income);
            assert_true(over - lowest <= (int64_t)(day / WRITE_BUDGET_DEPTHS + batch_max * page + 2));
        }
        if (offered > day * 20 && batch_max > 8) /* four days, of which much more was asked for than there was */
            assert_true(bytes >= day * 3);
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decisions),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_bound),
    };

    return cmocka_run_group_tests_name("write budget", tests, NULL, NULL);
}
