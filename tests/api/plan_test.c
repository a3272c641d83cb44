/* SPDX-License-Identifier: Apache-2.0 */
/*
 * varve_plan(): cases that can be worked out by hand, bad arguments, and random ones against all plans there are, one by one.
 */
#include "api_util.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PAGES_MAX 40

static varve_load_plan
plan_of(const varve_prefill *prefill, const uint64_t *times, size_t pages, unsigned flags)
{
    varve_load_plan plan = VARVE_LOAD_PLAN_INIT;
    varve_error err = {0};

    assert_int_equal(varve_plan(prefill, times, pages, flags, &plan, &err), VARVE_OK);
    return plan;
}

static void
assert_us(double value, double expected)
{
    assert_true(fabs(value - expected) <= 1e-6 * (1 + expected));
}

static void
test_all_none_part(void **state)
{
    static const uint64_t quick[] = {100, 200, 300}, slow[] = {200, 400, 600}, bends[] = {100, 200, 900};
    varve_prefill prefill = VARVE_PREFILL_INIT;
    varve_load_plan plan;

    (void)state;
    prefill.page_tokens = 16;
    prefill.token_us = 10; /* 160 us a page */
    prefill.tokens_after = 4;
    plan = plan_of(&prefill, quick, 3, 0);
    assert_int_equal(plan.first, 0);
    assert_int_equal(plan.count, 3);
    assert_us(plan.ttft_us, 340);
    assert_us(plan.all_us, 340);
    assert_us(plan.none_us, 520);
    plan = plan_of(&prefill, slow, 3, 0);
    assert_int_equal(plan.count, 0);
    assert_us(plan.ttft_us, 520);
    assert_us(plan.all_us, 640);
    plan = plan_of(&prefill, bends, 3, 0);
    assert_int_equal(plan.count, 2);
    assert_us(plan.ttft_us, 200 + 160 + 40);
    plan = plan_of(&prefill, NULL, 0, 0);
    assert_int_equal(plan.count, 0);
    assert_us(plan.ttft_us, 40);
    assert_us(plan.all_us, 40);
}

static void
test_depth_makes_loading_pay(void **state)
{
    static const uint64_t times[] = {400};
    varve_prefill prefill = VARVE_PREFILL_INIT;

    (void)state;
    prefill.page_tokens = 16;
    prefill.token_us = 10;
    prefill.depth_us = 0.001;
    assert_int_equal(plan_of(&prefill, times, 1, 0).count, 0);
    assert_us(plan_of(&prefill, times, 1, 0).none_us, 16 * (10 + 0.008));
    prefill.tokens_before = 16000;
    assert_int_equal(plan_of(&prefill, times, 1, 0).count, 1);
}

/* A load may end only where all pools of a hybrid model have their state. */
static void
test_ends_that_are_not_allowed(void **state)
{
    static const uint64_t times[] = {VARVE_PLAN_NEVER, 20, VARVE_PLAN_NEVER, UINT64_MAX};
    varve_prefill prefill = VARVE_PREFILL_INIT;

    (void)state;
    prefill.token_us = 1000;
    assert_int_equal(plan_of(&prefill, times, 4, 0).count, 2);
}

/* Two pages a millisecond to compute, one to load: the engine computes a third of them meanwhile. */
static void
test_tail(void **state)
{
    varve_prefill prefill = VARVE_PREFILL_INIT;
    uint64_t times[30];
    varve_load_plan plan;

    (void)state;
    for (size_t i = 0; i < 30; i++)
        times[i] = (i + 1) * 500;
    prefill.token_us = 1000;
    plan = plan_of(&prefill, times, 30, VARVE_PLAN_TAIL);
    assert_int_equal(plan.first + plan.count, 30);
    assert_in_range(plan.first, 9, 11);
    assert_true(plan.ttft_us < 11000);
    assert_us(plan.all_us, 15000);
    assert_int_equal(plan_of(&prefill, times, 30, 0).first, 0);
}

static void
assert_refused(const varve_prefill *prefill, const uint64_t *times, size_t pages, unsigned flags, const char *says)
{
    varve_load_plan plan = VARVE_LOAD_PLAN_INIT;
    varve_error err = {0};

    assert_int_equal(varve_plan(prefill, times, pages, flags, &plan, &err), VARVE_E_ARG);
    assert_int_equal(err.code, VARVE_E_ARG);
    if (strstr(err.message, says) == NULL)
        fail_msg("'%s' says nothing of '%s'", err.message, says);
}

static void
test_bad_arguments(void **state)
{
    static const uint64_t falls[] = {10, 9}, never[] = {10, VARVE_PLAN_NEVER};
    varve_prefill prefill = VARVE_PREFILL_INIT, bad = VARVE_PREFILL_INIT;
    varve_load_plan plan = {0};

    (void)state;
    assert_refused(&prefill, falls, 2, 0, "page 1");
    assert_refused(&prefill, NULL, 2, 0, "no times");
    assert_refused(&prefill, never, 2, VARVE_PLAN_TAIL, "every page");
    assert_refused(&prefill, never, 2, 6, "flags");
    assert_refused(NULL, never, 2, 0, "VARVE_PREFILL_INIT");
    assert_int_equal(varve_plan(&prefill, never, 2, 0, &plan, NULL), VARVE_E_ARG);
    assert_int_equal(varve_plan(&prefill, never, 2, 0, NULL, NULL), VARVE_E_ARG);
    bad.page_tokens = 0;
    assert_refused(&bad, never, 2, 0, "token");
    bad = prefill;
    bad.token_us = -1;
    assert_refused(&bad, never, 2, 0, "not negative");
    bad.token_us = (double)NAN;
    assert_refused(&bad, never, 2, 0, "not negative");
    bad.token_us = 1;
    bad.depth_us = (double)INFINITY;
    assert_refused(&bad, never, 2, 0, "not negative");
    bad = prefill;
    bad.struct_size = 4;
    assert_refused(&bad, never, 2, 0, "VARVE_PREFILL_INIT");
}

static double
compute_us(const varve_prefill *prefill, uint64_t from, uint64_t tokens)
{
    double sum = 0;

    for (uint64_t i = 0; i < tokens; i++)
        sum += prefill->token_us + prefill->depth_us * ((double)(prefill->tokens_before + from + i) + 0.5);
    return sum;
}

/* Load [first, end), token by token. */
static double
ttft_us(const varve_prefill *prefill, const uint64_t *times, size_t pages, size_t first, size_t end)
{
    uint64_t page = prefill->page_tokens;
    double rest = compute_us(prefill, end * page, (pages - end) * page + prefill->tokens_after);
    double load = end == 0 ? 0 : (double)times[end - 1];

    if (first > 0)
        load = fmax(load - (double)times[first - 1] + (double)times[0], compute_us(prefill, 0, first * page));
    return load + rest;
}

static void
check_against_all(const varve_prefill *prefill, const uint64_t *times, size_t pages, unsigned flags)
{
    varve_load_plan plan = plan_of(prefill, times, pages, flags);
    double best = ttft_us(prefill, times, pages, 0, 0);

    assert_us(plan.none_us, best);
    assert_us(plan.all_us, ttft_us(prefill, times, pages, 0, pages));
    assert_true(plan.ttft_us <= fmin(plan.all_us, plan.none_us));
    for (size_t end = 1; end <= pages; end++) {
        if (times[end - 1] >= VARVE_PLAN_NEVER)
            continue;
        for (size_t first = 0; first < ((flags & VARVE_PLAN_TAIL) != 0 ? end : 1); first++)
            best = fmin(best, ttft_us(prefill, times, pages, first, end));
    }
    assert_us(plan.ttft_us, best);
    assert_true(plan.first + plan.count <= pages);
    assert_us(plan.count == 0 ? plan.none_us : plan.ttft_us,
              ttft_us(prefill, times, pages, plan.count == 0 ? 0 : plan.first, plan.first + plan.count));
}

static uint64_t
draw(uint64_t *seed, uint64_t below)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (*seed >> 33) % below;
}

static void
test_random_against_all(void **state)
{
    uint64_t seed = getenv("VARVE_TEST_SEED") != NULL ? strtoull(getenv("VARVE_TEST_SEED"), NULL, 10) : 1;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (size_t round = 0; round < 3000; round++) {
        size_t pages = draw(&seed, PAGES_MAX + 1);
        uint64_t scale = 1 + draw(&seed, 400), total = draw(&seed, 1000);
        varve_prefill prefill = VARVE_PREFILL_INIT;
        uint64_t times[PAGES_MAX];

        prefill.page_tokens = (uint32_t)(1 + draw(&seed, 8));
        prefill.tokens_before = draw(&seed, 3000);
        prefill.tokens_after = draw(&seed, 50);
        prefill.token_us = (double)draw(&seed, 60);
        prefill.depth_us = (double)draw(&seed, 3) * 0.01;
        for (size_t i = 0; i < pages; i++)
            times[i] = total += draw(&seed, scale);
        check_against_all(&prefill, times, pages, 0);
        check_against_all(&prefill, times, pages, VARVE_PLAN_TAIL);
        for (size_t i = 0; i < pages; i++)
            times[i] = draw(&seed, 3) == 0 ? VARVE_PLAN_NEVER + draw(&seed, 2) : times[i];
        check_against_all(&prefill, times, pages, 0);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_none_part),
        cmocka_unit_test(test_depth_makes_loading_pay),
        cmocka_unit_test(test_ends_that_are_not_allowed),
        cmocka_unit_test(test_tail),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_random_against_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
