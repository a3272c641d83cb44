/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quotas, times to live, pins and the write budget as their callers see them, with the background at work on a store that is too small for what is
 * put; and all of them at once, by several threads.
 */
#include "api_util.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define PAGE_BYTES  8192
#define CHAIN_PAGES 64
#define CHURN       200 /* chains: 100 MiB */

static const char *const small[] = {"capacity=24M", "memtable_bytes=256K", NULL};

static void
set_limits(varve_store *store, varve_namespace *ns, uint64_t quota_bytes, uint64_t ttl_s)
{
    varve_namespace_limits limits = VARVE_NAMESPACE_LIMITS_INIT;

    limits.quota_bytes = quota_bytes;
    limits.ttl_s = ttl_s;
    assert_int_equal(varve_namespace_limits_set(store, ns, &limits, NULL), VARVE_OK);
}

static void
name_chain(uint64_t chain, varve_id *ids)
{
    for (size_t i = 0; i < CHAIN_PAGES; i++)
        ids[i] = page_id(chain, i);
}

static int64_t
pin(varve_store *store, varve_namespace *ns, uint64_t chain)
{
    varve_id ids[CHAIN_PAGES];

    name_chain(chain, ids);
    return varve_pin(store, ns, ids, CHAIN_PAGES, NULL);
}

static size_t
exist(varve_store *store, varve_namespace *ns, uint64_t chain)
{
    varve_id ids[CHAIN_PAGES];
    uint8_t exists[CHAIN_PAGES];
    size_t count = 0;

    name_chain(chain, ids);
    assert_int_equal(varve_exists_batch(store, ns, ids, CHAIN_PAGES, exists, NULL), VARVE_OK);
    for (size_t i = 0; i < CHAIN_PAGES; i++)
        count += exists[i];
    return count;
}

static void
churn(varve_store *store, varve_namespace *ns)
{
    for (uint64_t chain = 1000; chain < 1000 + CHURN; chain++)
        chain_put(store, ns, chain, CHAIN_PAGES, PAGE_BYTES);
}

static void
test_option_times(void **state)
{
    static const struct {
        const char *text, *value; /* NULL: refused */
    } cases[] = {
        {"0", "0"},
        {"1M", "1048576"},
        {"2T", "2199023255552"},
        {"0.5x", "0.5x"},
        {"1.250X", "1.25x"},
        {"3x", "3x"},
        {"0x", "0"},
        {"0.000x", "0"},
        {"1000x", "1000x"},
        {"0.000001x", "0.000001x"},
        {"123.456789x", "123.456789x"},
        {"x", NULL},
        {".5x", NULL},
        {"0.5", NULL},
        {"0.5xx", NULL},
        {"0.5 x", NULL},
        {"1001x", NULL},
        {"-1x", NULL},
        {"0.0000001x", NULL},
        {"1.2.3x", NULL},
        {"1e3x", NULL},
        {"99999999999999999999x", NULL},
        {"1K", NULL},
        {"", NULL},
        {"10000P", NULL},
    };
    varve_options *options = varve_options_create();

    (void)state;
    assert_non_null(options);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        varve_error err = {0};
        int rc = varve_options_set(options, "write_budget", cases[i].text, &err);
        char text[32];

        assert_int_equal(rc, cases[i].value == NULL ? VARVE_E_ARG : VARVE_OK);
        if (rc != VARVE_OK) {
            assert_true(strlen(err.message) > 10);
            continue;
        }
        assert_int_equal(varve_options_get(options, "write_budget", text, sizeof(text)), VARVE_OK);
        assert_string_equal(text, cases[i].value);
        assert_int_equal(varve_options_set(options, "write_budget", text, &err), VARVE_OK); /* as it came out */
    }
    varve_options_destroy(options);
    assert_true(strstr(varve_strerror(VARVE_SKIPPED), "VARVE_SKIPPED") != NULL);
}

/* A namespace that is used more than all others, but has a quota, leaves them their pages. */
static void
test_quota_protects_others(void **state)
{
    struct fixture *fixture = fixture_create(small);
    varve_namespace *greedy = namespace_get(fixture->store, "greedy");

    (void)state;
    set_limits(fixture->store, greedy, (uint64_t)4 << 20, 0);
    for (uint64_t chain = 0; chain < 20; chain++) /* 10 MiB */
        chain_put(fixture->store, fixture->ns, chain, CHAIN_PAGES, PAGE_BYTES);
    churn(fixture->store, greedy);
    for (uint64_t chain = 0; chain < 20; chain++)
        assert_int_equal(exist(fixture->store, fixture->ns, chain), CHAIN_PAGES);
    assert_true(stat_value(fixture->store, "live_bytes") <= (uint64_t)15 << 20);
    assert_int_equal(exist(fixture->store, greedy, 1000 + CHURN - 1), CHAIN_PAGES);
    fixture_destroy(fixture);
}

static uint64_t
now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Not a moment too soon; and at last. */
static void
test_time_to_live(void **state)
{
    struct fixture *fixture = fixture_create(small);
    varve_namespace *other = namespace_get(fixture->store, "other");
    uint64_t began;

    (void)state;
    set_limits(fixture->store, fixture->ns, 0, 1);
    chain_put(fixture->store, other, 1, CHAIN_PAGES, PAGE_BYTES);
    began = now_ms();
    chain_put(fixture->store, fixture->ns, 1, CHAIN_PAGES, PAGE_BYTES);
    while (exist(fixture->store, fixture->ns, 1) > 0)
        assert_true(now_ms() - began < 60000);
    assert_true(now_ms() - began >= 1000);
    assert_int_equal(chain_probe(fixture->store, fixture->ns, 1, CHAIN_PAGES), 0);
    assert_int_equal(exist(fixture->store, other, 1), CHAIN_PAGES);
    chain_put(fixture->store, fixture->ns, 1, CHAIN_PAGES, PAGE_BYTES);
    fixture_reopen(fixture, small); /* limits are the process's */
    chain_get(fixture->store, fixture->ns, 1, CHAIN_PAGES, PAGE_BYTES);
    fixture_destroy(fixture);
}

static void
test_pins_stay(void **state)
{
    struct fixture *fixture = fixture_create(small);

    (void)state;
    for (uint64_t chain = 0; chain < 8; chain++)
        chain_put(fixture->store, fixture->ns, chain, CHAIN_PAGES, PAGE_BYTES);
    for (uint64_t chain = 0; chain < 4; chain++)
        assert_int_equal(pin(fixture->store, fixture->ns, chain), CHAIN_PAGES);
    assert_true(pin(fixture->store, fixture->ns, 4) < CHAIN_PAGES); /* 2 MiB of 2.4 were taken */
    churn(fixture->store, fixture->ns);
    assert_true(stat_value(fixture->store, "segments_dropped") > 10);
    for (uint64_t chain = 0; chain < 4; chain++)
        chain_get(fixture->store, fixture->ns, chain, CHAIN_PAGES, PAGE_BYTES);
    assert_int_equal(exist(fixture->store, fixture->ns, 7), 0);
    /* Where copies lie apart, headers are between them. */
    assert_true(stat_value(fixture->store, "pinned_bytes") <= stat_value(fixture->store, "pin_budget_bytes") * 11 / 10);
    fixture_destroy(fixture);
}

/* With a budget, what is stored of a conversation that goes on is its beginning: nothing behind a page that is not there. */
static void
test_write_budget(void **state)
{
    static const char *const settings[] = {"capacity=24M", "write_budget=48M", NULL}; /* 2 MiB an hour */
    struct fixture *fixture = fixture_create(settings);
    struct batch batch;
    size_t stored = 0;

    (void)state;
    for (size_t first = 0; first < 1024; first += 16) {
        varve_id parent = page_id(1, first - 1);
        size_t now = 0;

        batch_init(&batch, 1, first, 16, PAGE_BYTES, 0);
        batch_fill(&batch);
        assert_int_equal(varve_put_batch(fixture->store, fixture->ns, first == 0 ? NULL : &parent, batch.pages,
                                         batch.count, 0, NULL),
                         VARVE_OK);
        for (size_t i = 0; i < batch.count; i++) {
            assert_true(batch.pages[i].status == VARVE_OK || batch.pages[i].status == VARVE_SKIPPED);
            now += batch.pages[i].status == VARVE_OK;
        }
        assert_true(now == 0 || stored == first);
        stored += now;
        batch_free(&batch);
    }
    assert_true(stored > 100 && stored < 300);
    assert_int_equal(stat_value(fixture->store, "put_skipped"), 1024 - stored);
    assert_int_equal(stat_value(fixture->store, "put_errors"), 0);
    assert_int_equal(chain_probe(fixture->store, fixture->ns, 1, 1024), stored);
    fixture_destroy(fixture);
}

#define THREADS 4
#define ROUNDS  60

struct shared {
    varve_store *store;
    varve_namespace *spaces[2];
    _Atomic uint64_t next_thread;
    _Atomic uint64_t failures;
};

static void
expect(struct shared *shared, bool holds)
{
    if (!holds)
        atomic_fetch_add(&shared->failures, 1);
}

static void
put_and_get(struct shared *shared, varve_namespace *ns, uint64_t chain)
{
    struct batch batch;

    batch_init(&batch, chain, 0, CHAIN_PAGES, PAGE_BYTES, chain % 2);
    batch_fill(&batch);
    expect(shared, varve_put_batch(shared->store, ns, NULL, batch.pages, batch.count, 0, NULL) == VARVE_OK);
    for (size_t i = 0; i < batch.count; i++)
        expect(shared, batch.pages[i].status == VARVE_OK || batch.pages[i].status == VARVE_SKIPPED);
    batch_wipe(&batch);
    expect(shared, varve_get_batch(shared->store, ns, batch.pages, batch.count, NULL) == VARVE_OK);
    for (size_t i = 0; i < batch.count; i++) {
        const varve_page *page = &batch.pages[i];

        expect(shared, page->status == VARVE_MISS ||
                           (page->status == VARVE_OK && page_right(&page->id, page->iov->iov_base, PAGE_BYTES)));
    }
    batch_free(&batch);
}

static void *
thread_main(void *arg)
{
    struct shared *shared = arg;
    uint64_t thread = atomic_fetch_add(&shared->next_thread, 1), rng = thread + 1;

    for (uint64_t i = 0; i < ROUNDS; i++) {
        varve_namespace *ns = shared->spaces[rng_below(&rng, 2)];
        varve_namespace_limits limits = VARVE_NAMESPACE_LIMITS_INIT;
        varve_id ids[CHAIN_PAGES];

        put_and_get(shared, ns, thread * 1000 + i);
        put_and_get(shared, ns, i); /* the same as others' */
        name_chain(rng_below(&rng, i + 1), ids);
        expect(shared, varve_pin(shared->store, ns, ids, 1 + rng_below(&rng, CHAIN_PAGES), NULL) >= 0);
        name_chain(rng_below(&rng, i + 1), ids);
        expect(shared, varve_unpin(shared->store, ns, ids, CHAIN_PAGES, NULL) >= 0);
        limits.quota_bytes = rng_below(&rng, 3) << 21;
        limits.ttl_s = rng_below(&rng, 3) == 0;
        if (i % 4 == 0)
            expect(shared, varve_namespace_limits_set(shared->store, ns, &limits, NULL) == VARVE_OK);
        if (i % 16 == 0)
            expect(shared, varve_namespace_clear(shared->store, ns, NULL) == VARVE_OK);
        if (i % 8 == 0)
            expect(shared,
                   varve_option_set(shared->store, "write_budget", i % 16 == 0 ? "0" : "1000x", NULL) == VARVE_OK);
        expect(shared, varve_remove_batch(shared->store, ns, ids, 2, NULL) >= 0);
    }
    return NULL;
}

static void
test_threads(void **state)
{
    struct fixture *fixture = fixture_create(small);
    struct shared shared = {.store = fixture->store, .spaces = {fixture->ns, namespace_get(fixture->store, "more")}};
    pthread_t threads[THREADS];

    (void)state;
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_main, &shared), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&shared.failures), 0);
    assert_true(stat_value(fixture->store, "segments_dropped") > 0);
    assert_int_equal(stat_value(fixture->store, "background_errors"), 0);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(varve_namespace_clear(fixture->store, shared.spaces[i], NULL), VARVE_OK);
    assert_int_equal(stat_value(fixture->store, "pinned_bytes"), 0);
    /* But for uses that overlapped a clear. */
    assert_true(stat_value(fixture->store, "live_bytes") <= (uint64_t)THREADS * 4 * CHAIN_PAGES * PAGE_BYTES);
    fixture_destroy(fixture);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_option_times), cmocka_unit_test(test_quota_protects_others),
        cmocka_unit_test(test_time_to_live), cmocka_unit_test(test_pins_stay),
        cmocka_unit_test(test_write_budget), cmocka_unit_test(test_threads),
    };

    scratch_require((uint64_t)64 << 20);
    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
