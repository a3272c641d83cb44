/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The modelled serving engine: its costs, its memory against a simple model, what it learns about a device, and whole runs on a storage whose
 * times are given, some worked out by hand, many random ones against the same run without storage.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "page_lru.h"
#include "random.h"
#include "serve/cost.h"
#include "serve/serve.h"
#include "serve/speed.h"

#define PAGES_MAX    4000
#define REQUESTS_MAX 60
#define PAGE_TOKENS  64

static void
assert_near(double value, double expected, double part)
{
    if (!(fabs(value - expected) <= part * fabs(expected)))
        fail_msg("%g, expected %g within %g %%", value, expected, 100 * part);
}

static void
test_cost_is_a_sum_over_tokens(void **state)
{
    struct serve_cost cost = {.token_us = 3, .depth_us = 0.01};
    double sum = 0;

    (void)state;
    for (uint64_t token = 100; token < 400; token++)
        sum += 3 + 0.01 * (double)token;
    assert_near(serve_cost_us(&cost, 100, 400), sum, 1e-9);
    assert_near(serve_cost_us(&cost, 100, 200) + serve_cost_us(&cost, 200, 400), sum, 1e-9);
    assert_true(serve_cost_us(&cost, 5, 5) < 1e-9);
}

/* The presets against where they come from: prefill times measured on an H200, and the table of a model with half of the peak. */
static void
test_presets(void **state)
{
    static const struct {
        const char *gpu, *model;
        uint64_t tokens;
        double ms, part;
    } cases[] = {
        {"h200", "llama-3-8b", 2048, 59.4, 0.03},   {"h200", "llama-3-8b", 4096, 122, 0.03},
        {"h200", "llama-3-8b", 8192, 263, 0.03},    {"h200", "llama-3-8b", 16384, 574, 0.03},
        {"h200", "llama-3-8b", 32768, 1377, 0.03},  {"h200", "llama-3-8b", 65536, 3704, 0.03},
        {"h100", "glm-4-9b", 16384, 800, 0.02},     {"h100", "glm-4-9b", 131072, 16400, 0.02},
        {"h100", "llama-3-8b", 16384, 670, 0.02},   {"h100", "llama-3-8b", 131072, 13400, 0.02},
        {"h100", "glm-4-32b", 16384, 2570, 0.02},   {"h100", "glm-4-32b", 131072, 43300, 0.02},
        {"a30", "glm-4-9b", 16384, 4830, 0.02},     {"a30", "llama-3-8b", 131072, 80600, 0.02},
        {"a30", "glm-4-32b", 131072, 261000, 0.02},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct serve_cost cost = serve_cost_make(serve_gpu_find(cases[i].gpu), serve_model_find(cases[i].model));

        assert_near(serve_cost_us(&cost, 0, cases[i].tokens) / 1000, cases[i].ms, cases[i].part);
    }
    assert_null(serve_gpu_find("abacus"));
    assert_null(serve_model_find("abacus"));
    assert_non_null(serve_model_find("deepseek-v3"));
}

/* The model: pages in an array, the youngest first. */
static void
test_lru_against_model(void **state)
{
    struct random random = random_make(11);

    (void)state;
    for (int round = 0; round < 40; round++) {
        uint32_t order[64] = {0}, count = 0, capacity = (uint32_t)random_below(&random, 20);
        struct page_lru lru;

        assert_int_equal(page_lru_init(&lru, 40, capacity), 0);
        for (int step = 0; step < 500; step++) {
            uint32_t page = (uint32_t)random_below(&random, 40), at = 0;

            while (at < count && order[at] != page)
                at++;
            assert_int_equal(page_lru_use(&lru, page), at == count);
            memmove(&order[1], &order[0], at * sizeof(order[0]));
            order[0] = page;
            count += at == count;
            count = count > capacity ? capacity : count;
            for (uint32_t other = 0; other < 40; other++) {
                bool there = false;

                for (uint32_t i = 0; i < count; i++)
                    there |= order[i] == other;
                assert_int_equal(page_lru_has(&lru, other), there);
            }
        }
        page_lru_deinit(&lru);
    }
}

static void
test_speed_is_learned(void **state)
{
    struct serve_speed speed = serve_speed_make(500);

    (void)state;
    assert_near(speed.page_us, 500, 1e-9);
    for (size_t i = 0; i < 60; i++)
        serve_speed_observe(&speed, 1 + i * 37 % 128, 300 + 20 * (double)(1 + i * 37 % 128));
    assert_near(speed.page_us, 20, 0.05);
    assert_near(speed.latency_us, 300, 0.1);
    for (size_t i = 0; i < 60; i++) /* all of one size: nothing is known of the latency */
        serve_speed_observe(&speed, 10, 1000);
    assert_near(10 * speed.page_us + speed.latency_us, 1000, 0.02);
    for (size_t i = 0; i < 60; i++) /* nonsense must not end in a negative time */
        serve_speed_observe(&speed, 1 + i % 2 * 100, i % 2 == 0 ? 1000 : 1);
    assert_true(speed.page_us > 0 && speed.latency_us >= 0);
}

/* A storage with given times, that remembers what was put. */
struct shelf {
    struct random random;
    bool stored[PAGES_MAX];
    double latency_us, page_us, spread; /* times are up to 1 + spread times longer */
    unsigned lose_percent;              /* of the pages found, at the get */
    uint64_t put_pages, got_pages;
};

static double
shelf_us(struct shelf *shelf, size_t count)
{
    return (shelf->latency_us + shelf->page_us * (double)count) * (1 + shelf->spread * random_unit(&shelf->random));
}

static int64_t
shelf_probe(void *arg, const uint32_t *pages, size_t count, double *us, varve_error *err)
{
    struct shelf *shelf = arg;
    size_t found = 0;

    (void)err;
    while (found < count && shelf->stored[pages[found]])
        found++;
    *us = 1;
    return (int64_t)found;
}

static int
shelf_get(void *arg, const uint32_t *pages, size_t count, bool *loaded, double *us, varve_error *err)
{
    struct shelf *shelf = arg;

    (void)err;
    for (size_t i = 0; i < count; i++) {
        assert_true(shelf->stored[pages[i]]);
        loaded[i] = random_below(&shelf->random, 100) >= shelf->lose_percent;
    }
    shelf->got_pages += count;
    *us = shelf_us(shelf, count);
    return VARVE_OK;
}

static int
shelf_put(void *arg, const uint32_t *parent, const uint32_t *pages, size_t count, double *us, varve_error *err)
{
    struct shelf *shelf = arg;

    (void)err;
    if (parent != NULL)
        assert_true(shelf->stored[*parent] || shelf->lose_percent > 0);
    for (size_t i = 0; i < count; i++)
        shelf->stored[pages[i]] = true;
    shelf->put_pages += count;
    *us = shelf_us(shelf, count);
    return VARVE_OK;
}

/* A trace made by hand. */
struct sheet {
    struct serve_trace trace;
    struct serve_prompt prompts[REQUESTS_MAX];
    size_t first[REQUESTS_MAX + 1];
    uint32_t pages[REQUESTS_MAX * PAGES_MAX / 10];
};

static void
sheet_init(struct sheet *sheet)
{
    memset(sheet, 0, sizeof(*sheet));
    sheet->trace.pages.first = sheet->first;
    sheet->trace.pages.pages = sheet->pages;
    sheet->trace.pages.page_count = PAGES_MAX;
    sheet->trace.prompts = sheet->prompts;
    sheet->trace.page_tokens = PAGE_TOKENS;
}

/* A prompt of the first `shared` pages of `like` (if any) and then new ones, and some tokens more. */
static void
sheet_add(struct sheet *sheet, double arrival_us, size_t like, size_t shared, size_t pages, uint64_t more)
{
    struct policy_trace *trace = &sheet->trace.pages;
    size_t first = sheet->first[trace->requests];
    static uint32_t next;

    if (trace->requests == 0)
        next = 0;
    assert_true(trace->requests < REQUESTS_MAX);
    for (size_t i = 0; i < pages; i++)
        sheet->pages[first + i] = i < shared ? sheet->pages[sheet->first[like] + i] : next++;
    assert_true(next <= PAGES_MAX);
    sheet->prompts[trace->requests] =
        (struct serve_prompt){.arrival_us = arrival_us, .tokens = pages * PAGE_TOKENS + more, .pages = pages};
    sheet->trace.tokens += pages * PAGE_TOKENS + more;
    sheet->first[++trace->requests] = first + pages;
}

static struct serve_settings
settings_of(bool plan)
{
    return (struct serve_settings){.cost = {.token_us = 10},
                                   .page_bytes = 1000,
                                   .copy_bytes_s = 1e15,
                                   .host_pages = 10000,
                                   .policy = SERVE_WAIT_COMPLETE,
                                   .plan = plan,
                                   .timeout_us = 500,
                                   .timeout_max_us = 1e9,
                                   .batch = SERVE_BATCH,
                                   .speed = 1};
}

static struct serve_result
run(const struct sheet *sheet, const struct serve_settings *settings, struct shelf *shelf)
{
    struct serve_storage storage = {.arg = shelf, .probe = shelf_probe, .get = shelf_get, .put = shelf_put};
    struct serve_result result;
    varve_error err = {0};

    assert_int_equal(serve_run(&sheet->trace, settings, shelf != NULL ? &storage : NULL, &result, &err), VARVE_OK);
    assert_true(result.tokens_used <= result.tokens_returned && result.tokens_returned <= result.tokens_resident);
    /* Each token of a prompt is in memory, loaded or computed. */
    assert_int_equal(result.tokens_gpu + result.tokens_host + result.tokens_used + result.tokens_computed,
                     result.tokens);
    return result;
}

static struct sheet sheet;

static void
test_memory_and_queue_by_hand(void **state)
{
    struct serve_settings settings = settings_of(false);
    struct serve_result result;

    (void)state;
    sheet_init(&sheet);
    sheet_add(&sheet, 0, 0, 0, 10, 5);       /* 645 tokens: 6,450 us */
    sheet_add(&sheet, 1000, 0, 10, 10, 5);   /* waits for the first, then computes 5 tokens */
    sheet_add(&sheet, 100000, 0, 10, 10, 0); /* one token has to be computed, so its page is */
    settings.gpu_pages = 4;
    result = run(&sheet, &settings, NULL);
    assert_near(result.ttft_us[0], 6450, 1e-6);
    assert_near(result.ttft_us[1], 5450 + 50, 1e-6);
    assert_near(result.ttft_us[2], 640, 1e-6);
    assert_int_equal(result.tokens_gpu, 8 * PAGE_TOKENS); /* the heads of the chains stayed */
    assert_int_equal(result.tokens_host, (6 + 5) * PAGE_TOKENS);
    serve_result_free(&result);
    settings.host_pages = settings.gpu_pages = 0;
    result = run(&sheet, &settings, NULL);
    assert_near(result.ttft_us[2], 6400, 1e-6);
    serve_result_free(&result);
    settings.in_flight = 1; /* no waiting, then */
    result = run(&sheet, &settings, NULL);
    assert_near(result.ttft_us[1], 6450, 1e-6);
    serve_result_free(&result);
}

/* One prompt of 10 pages and a bit, seen twice; the host forgets it in between. */
static double
second_ttft_us(enum serve_policy policy, double page_us, uint64_t *used)
{
    struct shelf shelf = {.random = random_make(1), .latency_us = 100, .page_us = page_us};
    struct serve_settings settings = settings_of(false);
    struct serve_result result;
    double us;

    settings.policy = policy;
    settings.host_pages = 30;
    sheet_init(&sheet);
    sheet_add(&sheet, 0, 0, 0, 10, 5);
    sheet_add(&sheet, 1e6, 0, 0, 30, 5);
    sheet_add(&sheet, 2e6, 0, 10, 10, 5);
    result = run(&sheet, &settings, &shelf);
    assert_int_equal(shelf.put_pages, 40); /* what was loaded is not written again */
    assert_int_equal(result.tokens_resident, 10 * PAGE_TOKENS);
    us = result.ttft_us[2];
    *used = result.tokens_used;
    serve_result_free(&result);
    return us;
}

static void
test_policies_by_hand(void **state)
{
    uint64_t used;

    (void)state;
    assert_near(second_ttft_us(SERVE_WAIT_COMPLETE, 20, &used), 1 + 100 + 200 + 50, 1e-6);
    assert_int_equal(used, 10 * PAGE_TOKENS);
    assert_near(second_ttft_us(SERVE_WAIT_COMPLETE, 2000, &used), 1 + 100 + 20000 + 50, 1e-6);
    assert_near(second_ttft_us(SERVE_BEST_EFFORT, 20, &used), 6450, 1e-6);
    assert_int_equal(used, 0);
    assert_near(second_ttft_us(SERVE_TIMEOUT, 20, &used), 1 + 100 + 200 + 50, 1e-6);
    assert_near(second_ttft_us(SERVE_TIMEOUT, 2000, &used), 500 + 6450, 1e-6);
    assert_int_equal(used, 0);
}

/* A write under way halves the speed of a read, and the other way round. */
static void
test_reads_and_writes_share_the_device(void **state)
{
    struct shelf shelf = {.random = random_make(1), .page_us = 100};
    struct serve_settings settings = settings_of(false);
    struct serve_result result;

    (void)state;
    settings.host_pages = 30;
    sheet_init(&sheet);
    sheet_add(&sheet, 0, 0, 0, 10, 5);
    sheet_add(&sheet, 1e6, 0, 0, 30, 5);                /* 19,250 us to compute; then 3,000 us to write */
    sheet_add(&sheet, 1e6 + 19250 + 500, 0, 10, 10, 5); /* 1,000 us to read */
    result = run(&sheet, &settings, &shelf);
    assert_near(result.ttft_us[2], 1 + 2000 + 50, 1e-6);
    serve_result_free(&result);
}

static void
random_sheet(struct random *random)
{
    size_t requests = 2 + random_below(random, REQUESTS_MAX - 2);
    double now_us = 0, gap_us = (double)(1 + random_below(random, 100000));

    sheet_init(&sheet);
    for (size_t i = 0; i < requests; i++) {
        size_t like = i == 0 ? 0 : random_below(random, i);
        size_t there = sheet.first[like + 1] - sheet.first[like];
        size_t shared = i == 0 ? 0 : there / 2 + random_below(random, there / 2 + 1);

        sheet_add(&sheet, now_us, like, shared, shared + random_below(random, 60),
                  1 + random_below(random, PAGE_TOKENS - 1));
        now_us += gap_us * random_exponential(random);
    }
}

static double
mean_us(const struct serve_result *result)
{
    double sum = 0;

    for (size_t i = 0; i < result->requests; i++)
        sum += result->ttft_us[i];
    return sum / (double)result->requests;
}

/* With a plan, storage never makes a workload slower, however slow, uneven or forgetful the device is. */
static void
test_plan_is_never_worse_than_none(void **state)
{
    uint64_t seed = getenv("VARVE_TEST_SEED") != NULL ? strtoull(getenv("VARVE_TEST_SEED"), NULL, 10) : 1;
    double gain = 0, rounds = 400;

    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < (int)rounds; round++) {
        struct random random = random_make(seed + (uint64_t)round);
        struct shelf shelf = {.random = random_make(seed)};
        struct serve_settings settings = settings_of(false);
        struct serve_result none, plan;

        random_sheet(&random);
        settings.cost.token_us = 1 + 20 * random_unit(&random);
        settings.cost.depth_us = 0.005 * random_unit(&random);
        settings.host_pages = 64 + random_below(&random, 200);
        settings.gpu_pages = random_below(&random, 100);
        settings.batch = 1 + random_below(&random, SERVE_BATCH);
        settings.in_flight = random_below(&random, 3) == 0 ? 1 + random_below(&random, 4) : 0;
        shelf.latency_us = 200 * random_unit(&random);
        shelf.page_us = PAGE_TOKENS * 5 * random_unit(&random) * (random_below(&random, 4) == 0 ? 10 : 1);
        shelf.spread = random_below(&random, 2) == 0 ? 0 : 10 * random_unit(&random);
        shelf.lose_percent = random_below(&random, 3) == 0 ? 5 : 0;
        none = run(&sheet, &settings, NULL);
        settings.plan = true;
        plan = run(&sheet, &settings, &shelf);
        if (mean_us(&plan) > 1.02 * mean_us(&none) + 2)
            fail_msg("round %d: %g us with a plan, %g without storage", round, mean_us(&plan), mean_us(&none));
        gain += mean_us(&none) / mean_us(&plan) / rounds;
        serve_result_free(&none);
        serve_result_free(&plan);
    }
    print_message("mean gain %g\n", gain);
    assert_true(gain > 1.05); /* and it is of use */
}

/* With an even device, a plan is at least as fast as waiting for all, and as loading nothing. */
static void
test_plan_is_never_worse_than_all(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct random random = random_make(seed);
        struct shelf shelf = {.random = random_make(seed)}, other;
        struct serve_settings settings = settings_of(false);
        struct serve_result all, plan;

        random_sheet(&random);
        settings.in_flight = 1;
        settings.host_pages = 64 + random_below(&random, 1000);
        shelf.latency_us = 200 * random_unit(&random);
        shelf.page_us = PAGE_TOKENS * 15 * random_unit(&random);
        other = shelf;
        all = run(&sheet, &settings, &shelf);
        settings.plan = true;
        plan = run(&sheet, &settings, &other);
        if (mean_us(&plan) > 1.03 * mean_us(&all) + 100)
            fail_msg("seed %d: %g us with a plan, %g when all is loaded", (int)seed, mean_us(&plan), mean_us(&all));
        serve_result_free(&all);
        serve_result_free(&plan);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cost_is_a_sum_over_tokens),
        cmocka_unit_test(test_presets),
        cmocka_unit_test(test_lru_against_model),
        cmocka_unit_test(test_speed_is_learned),
        cmocka_unit_test(test_memory_and_queue_by_hand),
        cmocka_unit_test(test_policies_by_hand),
        cmocka_unit_test(test_reads_and_writes_share_the_device),
        cmocka_unit_test(test_plan_is_never_worse_than_none),
        cmocka_unit_test(test_plan_is_never_worse_than_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
