/* SPDX-License-Identifier: Apache-2.0 */
/* The judge on traffic where the right answer is known. What it does for whole traces is in docs/eviction.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "plain_env.h"
#include "random.h"
#include "reclaim/judge.h"

#define CHAIN 8

static uint64_t
mixed(uint64_t x)
{
    x = (x + 1) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Ask for the pages of a chain, which has a number. */
static void
ask(struct judge *judge, uint64_t chain)
{
    struct judge_call call;

    judge_begin(judge, &call, CHAIN);
    for (uint64_t i = 0; i < CHAIN; i++)
        judge_asked(judge, &call, mixed(chain * CHAIN + i), i);
    judge_end(judge, &call);
}

/* Documents that are asked for again and again, among prompts that never come back: these should go first. */
static void
serve_documents(struct judge *judge, struct random *random, uint64_t documents, uint64_t *next, int calls)
{
    for (int i = 0; i < calls; i++)
        ask(judge, random_below(random, 2) == 0 ? random_below(random, documents) : (*next)++);
}

/* Each prompt comes once more, after some `lag` others, and never again: there is nothing that would deserve to stay longer. */
static void
serve_pairs(struct judge *judge, uint64_t lag, uint64_t *next, int calls)
{
    for (int i = 0; i < calls; i++) {
        ask(judge, *next);
        ask(judge, *next - lag);
        (*next)++;
    }
}

static void
test_takes_and_gives_up(void **state)
{
    static const uint64_t sizes[] = {100, 1000, 4096, 40000, 1000000};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct plain_env *env = plain_env_create(NULL);
        struct judge *judge = judge_create(&env->env, sizes[i]);
        struct random random = random_make(i);
        uint64_t chains = sizes[i] / CHAIN, next = 100000000;
        int calls = (int)(chains * 20) + 5000;

        assert_non_null(judge);
        serve_pairs(judge, chains * 3 / 8, &next, calls / 2);
        assert_int_equal(judge_answer(judge), 0);
        serve_documents(judge, &random, chains, &next, calls);
        assert_int_not_equal(judge_answer(judge), 0);
        serve_pairs(judge, chains * 3 / 8, &next, calls);
        assert_int_equal(judge_answer(judge), 0);
        judge_destroy(judge);
        plain_env_destroy(env);
    }
}

/* Where everything fits, or nothing comes back, nothing is gained, and LRU stays. */
static void
test_no_gain_no_change(void **state)
{
    struct plain_env *env = plain_env_create(NULL);
    struct judge *judge = judge_create(&env->env, 1000);
    struct random random = random_make(1);

    (void)state;
    assert_non_null(judge);
    for (uint64_t i = 0; i < 5000; i++) {
        ask(judge, random_below(&random, 100));
        assert_int_equal(judge_answer(judge), 0);
    }
    for (uint64_t i = 0; i < 5000; i++) {
        ask(judge, 1000 + i);
        assert_int_equal(judge_answer(judge), 0);
    }
    judge_destroy(judge);
    plain_env_destroy(env);
}

/* A new page lies within the live set, whatever the answer: it does not come dead. */
static void
test_demotion_is_within_the_live_set(void **state)
{
    struct plain_env *env = plain_env_create(NULL);
    struct judge *judge = judge_create(&env->env, 1000);
    struct heat *heat = heat_create(&env->env, 0);
    struct random random = random_make(2);
    uint64_t next = 100000000;

    (void)state;
    assert_non_null(judge);
    assert_non_null(heat);
    assert_int_equal(judge_demotion(judge, heat), 0);
    serve_documents(judge, &random, 125, &next, 20000);
    assert_int_not_equal(judge_answer(judge), 0);
    for (int i = 0; i < 1000; i++) {
        uint64_t value = heat_clock(heat, random_below(&random, 1000)), demotion = judge_demotion(judge, heat);

        assert_true((value - demotion) >> heat->shift >= heat->horizon);
    }
    assert_true(judge_demotion(judge, heat) > 0);
    heat_destroy(heat);
    judge_destroy(judge);
    plain_env_destroy(env);
}

static void
test_out_of_memory_and_size(void **state)
{
    struct plain_env *env = plain_env_create(NULL);

    (void)state;
    atomic_store(&env->alloc_fails_in, 1);
    assert_null(judge_create(&env->env, 1000));
    atomic_store(&env->alloc_fails_in, 0);
    judge_destroy(NULL);
    plain_env_destroy(env);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_and_gives_up),
        cmocka_unit_test(test_no_gain_no_change),
        cmocka_unit_test(test_demotion_is_within_the_live_set),
        cmocka_unit_test(test_out_of_memory_and_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
