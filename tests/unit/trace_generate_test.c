/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_generate.c: for every kind and many settings, the promises of the header hold: ids are numbered by first
 * appearance, an id always follows the same id (so equal ids mean equal prefixes), time never goes back, and a seed
 * gives one trace.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "random.h"
#include "trace_generate.h"

#define NO_PARENT UINT64_MAX
#define IDS_MAX   ((size_t)1 << 20)

struct witness {
    const struct trace_settings *settings;
    uint64_t *parents; /* [id] */
    uint64_t ids;
    uint64_t requests;
    uint64_t last_ms;
    uint64_t hits; /* ids seen before */
    uint64_t pages;
    uint64_t stage_hits[TRACE_STAGE_COUNT + 1];
    uint64_t stage_pages[TRACE_STAGE_COUNT + 1];
    uint64_t digest;
};

static int
look(void *arg, const struct trace_request *request)
{
    struct witness *witness = arg;
    uint64_t parent = NO_PARENT;

    assert_true(request->timestamp_ms >= witness->last_ms);
    witness->last_ms = request->timestamp_ms;
    assert_int_equal(request->block_size, witness->settings->block_size);
    assert_true(request->input_length >= 1);
    assert_true(request->output_length >= 1);
    assert_int_equal(request->hash_count, (request->input_length + request->block_size - 1) / request->block_size);
    assert_true(request->stage <= TRACE_STAGE_COUNT);
    for (size_t i = 0; i < request->hash_count; i++) {
        uint64_t id = request->hash_ids[i];

        assert_true(id <= witness->ids && id < IDS_MAX);
        if (id == witness->ids) {
            witness->parents[id] = parent;
            witness->ids++;
        } else {
            witness->hits++;
            witness->stage_hits[request->stage]++;
        }
        assert_true(witness->parents[id] == parent);
        parent = id;
        witness->digest = random_mix(witness->digest ^ id);
    }
    witness->pages += request->hash_count;
    witness->stage_pages[request->stage] += request->hash_count;
    witness->digest = random_mix(witness->digest ^ request->timestamp_ms ^ request->output_length << 32);
    witness->requests++;
    return VARVE_OK;
}

static struct witness
generate(const struct trace_settings *settings)
{
    struct witness witness = {.settings = settings, .parents = calloc(IDS_MAX, sizeof(uint64_t))};

    assert_non_null(witness.parents);
    assert_int_equal(trace_generate(settings, look, &witness), VARVE_OK);
    assert_int_equal(witness.requests, settings->requests);
    free(witness.parents);
    witness.parents = NULL;
    return witness;
}

static void
test_defaults_and_seeds(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < TRACE_KIND_COUNT; kind++) {
        struct trace_settings settings = trace_settings_default((enum trace_kind)kind);
        struct witness first = generate(&settings);
        struct witness again = generate(&settings);
        struct witness other;

        settings.seed++;
        other = generate(&settings);
        print_message("%-6s %u pages, %u %% seen before\n", trace_kind_name((enum trace_kind)kind),
                      (unsigned)first.pages, (unsigned)(100 * first.hits / first.pages));
        assert_true(first.digest == again.digest);
        assert_true(first.digest != other.digest);
        assert_true(first.hits * 100 > first.pages * 30);
    }
}

static void
test_random_settings(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct random random = random_make(seed);
        struct trace_settings settings = {
            .kind = (enum trace_kind)random_below(&random, TRACE_KIND_COUNT),
            .seed = seed,
            .requests = 1 + random_below(&random, 300),
            .prompt_tokens = 1 + random_below(&random, 5000),
            .output_tokens = 1 + random_below(&random, 500),
            .sharing = (double)random_below(&random, 5) / 4.0,
            .turns = 1 + random_below(&random, 20),
            .rate = 0.1 + (double)random_below(&random, 100),
            .block_size = 1 + random_below(&random, 600),
            .users = 1 + random_below(&random, 30),
        };

        print_message("seed %u\n", (unsigned)seed);
        if (settings.block_size < 16)
            settings.prompt_tokens = 1 + settings.prompt_tokens % 200;
        (void)generate(&settings);
    }
}

/* The first stage is cold; what is shared in the others follows the settings. */
static void
test_stages(void **state)
{
    static const uint64_t tokens[] = {4096, 32768, 131072};
    static const unsigned percents[TRACE_STAGE_COUNT] = {0, 20, 40, 60, 80, 100, 75, 50, 25, 90};

    (void)state;
    for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++) {
        struct trace_settings settings = trace_settings_default(TRACE_STAGES);
        struct witness witness;

        settings.requests = 500;
        settings.prompt_tokens = tokens[i];
        settings.block_size = 64;
        settings.sharing = 1.0;
        witness = generate(&settings);
        assert_int_equal(witness.stage_pages[0], 0);
        for (unsigned stage = 1; stage <= TRACE_STAGE_COUNT; stage++) {
            uint64_t percent = 100 * witness.stage_hits[stage] / witness.stage_pages[stage];

            assert_int_equal(witness.stage_pages[stage], 50 * tokens[i] / 64);
            assert_true(percent + 2 >= percents[stage - 1] && percent <= percents[stage - 1]);
        }
    }
}

static void
test_more_sharing_more_hits(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < TRACE_KIND_COUNT; kind++) {
        struct trace_settings settings = trace_settings_default((enum trace_kind)kind);
        struct witness low;
        struct witness high;

        settings.sharing = 0.1;
        low = generate(&settings);
        settings.sharing = 0.9;
        high = generate(&settings);
        assert_true(high.hits * low.pages > low.hits * high.pages);
    }
}

static int
stop_at_ten(void *arg, const struct trace_request *request)
{
    unsigned *count = arg;

    (void)request;
    return ++*count == 10 ? VARVE_E_IO : VARVE_OK;
}

static void
test_emit_ends_the_work(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < TRACE_KIND_COUNT; kind++) {
        struct trace_settings settings = trace_settings_default((enum trace_kind)kind);
        unsigned count = 0;

        assert_int_equal(trace_generate(&settings, stop_at_ten, &count), VARVE_E_IO);
        assert_int_equal(count, 10);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_and_seeds),
        cmocka_unit_test(test_random_settings),
        cmocka_unit_test(test_stages),
        cmocka_unit_test(test_more_sharing_more_hits),
        cmocka_unit_test(test_emit_ends_the_work),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
