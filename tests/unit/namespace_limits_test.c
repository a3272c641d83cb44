/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quota, time to live, pins and the write budget, on the simulated disk, where time is what the test says and nothing happens in the background.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../sim/sim_rng.h"
#include "store_life.h"
#include <stdio.h>
#include <string.h>

#define CHAIN      (LIFE_CHAINS + 1)
#define PAGES      300
#define PAGE_BYTES 5000
#define PADDED     5120 /* what it takes */
#define TTL_S      320
#define SECOND     UINT64_C(1000000000)
#define SLACK_S    (TTL_S / 32 + 1)

static varve_id ids[PAGES];

static void
set_limits(uint64_t quota_bytes, uint64_t ttl_s)
{
    varve_namespace_limits limits = VARVE_NAMESPACE_LIMITS_INIT;

    limits.quota_bytes = quota_bytes;
    limits.ttl_s = ttl_s;
    assert_int_equal(varve_namespace_limits_set(life.store, life.ns, &limits, &life.err), VARVE_OK);
}

static void
name_chain(uint32_t chain)
{
    for (uint32_t i = 0; i < PAGES; i++)
        ids[i] = life_page_id(chain, i);
}

static int64_t
probe(uint32_t chain)
{
    name_chain(chain);
    return varve_probe(life.store, life.ns, ids, PAGES, NULL, &life.err);
}

static uint32_t
exist(uint32_t chain)
{
    static uint8_t exists[PAGES];
    uint32_t count = 0;

    name_chain(chain);
    assert_int_equal(varve_exists_batch(life.store, life.ns, ids, PAGES, exists, &life.err), VARVE_OK);
    for (uint32_t i = 0; i < PAGES; i++)
        count += exists[i];
    return count;
}

static void
pass(uint64_t seconds)
{
    sim_disk_advance(life.disk, seconds * SECOND);
}

static void
test_time_to_live(void **state)
{
    (void)state;
    set_limits(0, TTL_S);
    assert_int_equal(life_put(CHAIN, PAGES, PAGE_BYTES), PAGES);
    pass(TTL_S - 1);
    assert_int_equal(exist(CHAIN), PAGES); /* no use */
    assert_int_equal(exist(1), LIFE_PAGES);
    pass(SLACK_S);
    assert_int_equal(exist(1), 0); /* of before the limit: as old as that */
    assert_int_equal(exist(CHAIN), 0);
    assert_int_equal(probe(CHAIN), 0);
    assert_int_equal(life_get(CHAIN, PAGES, PAGE_BYTES), 0);
    assert_int_equal(varve_touch(life.store, life.ns, ids, PAGES, &life.err), 0);
    assert_int_equal(varve_pin(life.store, life.ns, ids, PAGES, &life.err), 0);
    assert_int_equal(exist(CHAIN), 0);
    assert_int_equal(life_stat("live_bytes"), 0);
    assert_int_equal(life_put(CHAIN, PAGES / 2, PAGE_BYTES), PAGES / 2); /* the copies are still there */
    assert_int_equal(life_stat("put_duplicates"), PAGES / 2);
    assert_int_equal(probe(CHAIN), PAGES / 2);
    assert_int_equal(life_get(CHAIN, PAGES, PAGE_BYTES), PAGES / 2);
    set_limits(0, 0);
    pass(10 * TTL_S);
    assert_int_equal(life_get(CHAIN, PAGES, PAGE_BYTES), PAGES); /* no time to live any more: a second one */
}

/* Each kind of use counts, for the ancestors that it does not name as well, and again and again. */
static void
test_uses(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        uint32_t chain = CHAIN + (uint32_t)kind;

        set_limits(0, TTL_S);
        assert_int_equal(life_put(chain, PAGES, PAGE_BYTES), PAGES);
        for (int i = 0; i < 20; i++) {
            pass(TTL_S / 3);
            name_chain(chain);
            if (kind == 0)
                assert_int_equal(probe(chain), PAGES);
            else if (kind == 1)
                assert_int_equal(life_get(chain, PAGES, PAGE_BYTES), PAGES);
            else if (kind == 2)
                assert_int_equal(life_put(chain, PAGES, PAGE_BYTES), PAGES);
            else
                assert_int_equal(varve_touch(life.store, life.ns, ids + PAGES / 2, 1, &life.err), 1);
        }
        assert_int_equal(exist(chain), kind == 3 ? PAGES / 2 + 1 : PAGES);
    }
}

/* However long the store reaches back: a parent that is recent by that measure must not make its children old. */
static void
test_old_store(void **state)
{
    (void)state;
    assert_int_equal(life_put(CHAIN, PAGES, PAGE_BYTES), PAGES);
    for (int i = 0; i < 3000; i++) { /* a long past */
        pass(1);
        assert_int_equal(probe(1), LIFE_PAGES);
    }
    assert_int_equal(probe(CHAIN), PAGES);
    set_limits(0, TTL_S);
    for (int i = 0; i < 10; i++) {
        pass(TTL_S / 2);
        name_chain(CHAIN);
        assert_int_equal(varve_touch(life.store, life.ns, ids + 100, 100, &life.err), 100);
        assert_int_equal(exist(CHAIN), i == 0 ? PAGES : 200);
        if (i == 0)
            pass(TTL_S / 2 - 1);
    }
}

/* However young the store is: pages of a put that is longer than the store is old are as live as the parent that the put names. */
static void
test_young_store(void **state)
{
    static uint8_t data[PAGE_BYTES];
    static struct iovec iov = {data, PAGE_BYTES};
    static varve_page pages[PAGES];

    (void)state;
    assert_int_equal(life_put(CHAIN, 2, PAGE_BYTES), 2);
    name_chain(CHAIN);
    for (uint32_t i = 0; i < PAGES; i++)
        pages[i] = (varve_page){.id = ids[i], .iov = &iov, .iov_count = 1};
    assert_int_equal(varve_put_batch(life.store, life.ns, &ids[1], pages + 2, PAGES - 2, 0, &life.err), VARVE_OK);
    set_limits(0, TTL_S);
    assert_int_equal(exist(CHAIN), PAGES);
}

/* Documents that are asked for again and again, among prompts that never come back: the judge finds that new pages should go soon. */
static void
convince_judge(void)
{
    struct judge *judge = judge_create(life.store->env, 1000);
    struct sim_rng rng = sim_rng_make(1, 0);
    struct judge_call call;

    assert_non_null(judge);
    for (uint64_t i = 0; i < 20000; i++) {
        uint64_t id = (sim_rng_chance(&rng, 500) ? sim_rng_below(&rng, 1000) : 1000 + i) * UINT64_C(0x9e3779b97f4a7c15);

        judge_begin(judge, &call, 1);
        judge_asked(judge, &call, id, 0);
        judge_end(judge, &call);
    }
    assert_int_not_equal(judge_answer(judge), 0);
    life.store->recency.judge = judge;
    atomic_store(&life.store->recency.judging, true);
}

/* New pages that the judge would let go soon live as long as the namespace says all the same. */
static void
test_judged_pages_live(void **state)
{
    (void)state;
    set_limits(0, TTL_S);
    for (int i = 0; i < 40; i++) {
        pass(TTL_S / 40);
        assert_int_equal(probe(1), LIFE_PAGES);
    }
    convince_judge();
    assert_int_equal(life_put(CHAIN, PAGES, PAGE_BYTES), PAGES);
    assert_int_equal(exist(CHAIN), PAGES);
    pass(TTL_S - 1);
    assert_int_equal(exist(CHAIN), PAGES);
    pass(SLACK_S);
    assert_int_equal(exist(CHAIN), 0);
}

/* A put of new pages behind an expired parent does not bring that back. */
static void
test_expired_parent(void **state)
{
    static uint8_t data[PAGE_BYTES];
    struct iovec iov = {data, sizeof(data)};
    varve_page page = {.id = life_page_id(CHAIN, PAGES), .iov = &iov, .iov_count = 1};
    varve_id parent = life_page_id(CHAIN, PAGES - 1);

    (void)state;
    set_limits(0, TTL_S);
    assert_int_equal(life_put(CHAIN, PAGES, PAGE_BYTES), PAGES);
    pass(TTL_S + SLACK_S);
    assert_int_equal(varve_put_batch(life.store, life.ns, &parent, &page, 1, 0, &life.err), VARVE_OK);
    assert_int_equal(page.status, VARVE_OK);
    assert_int_equal(exist(CHAIN), 0);
    assert_int_equal(varve_touch(life.store, life.ns, &page.id, 1, &life.err), 1);
    assert_int_equal(exist(CHAIN), 0);
    /* Nor do uses of pages behind it, in the same extent. */
    page.id = parent;
    memset(data, (CHAIN * 7 + PAGES - 1) & 0xff, sizeof(data));
    assert_int_equal(varve_put_batch(life.store, life.ns, NULL, &page, 1, 0, &life.err), VARVE_OK);
    assert_int_equal(exist(CHAIN), 1);
    pass(TTL_S / 2);
    assert_int_equal(varve_touch(life.store, life.ns, &parent, 1, &life.err), 1);
    assert_int_equal(exist(CHAIN), 1);
    page.id = life_page_id(CHAIN, PAGES + 1);
    assert_int_equal(varve_put_batch(life.store, life.ns, &parent, &page, 1, 0, &life.err), VARVE_OK);
    assert_int_equal(exist(CHAIN), 1);
}

/* A page without bytes lies where the next one does: its removal is not that one's death. */
static void
test_empty_page_removed(void **state)
{
    static uint8_t data[PAGE_BYTES];
    struct iovec iov = {data, sizeof(data)};
    varve_page pages[3];

    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        pages[i] = (varve_page){.id = life_page_id(CHAIN, i), .iov = &iov, .iov_count = i != 1};
    set_limits(0, TTL_S);
    assert_int_equal(varve_put_batch(life.store, life.ns, NULL, pages, 3, 0, &life.err), VARVE_OK);
    assert_int_equal(exist(CHAIN), 3);
    assert_int_equal(varve_remove_batch(life.store, life.ns, &pages[1].id, 1, &life.err), 1);
    assert_int_equal(exist(CHAIN), 2);
}

static void
test_clear_keeps_limits(void **state)
{
    (void)state;
    set_limits(20 * PADDED, TTL_S);
    assert_int_equal(life_put(CHAIN, PAGES, PAGE_BYTES), PAGES);
    assert_int_equal(varve_namespace_clear(life.store, life.ns, &life.err), VARVE_OK);
    assert_int_equal(life_stat("live_bytes"), 0);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(life_put(CHAIN + i, 10, PAGE_BYTES), 10);
    assert_true(life_stat("live_bytes") <= 20 * PADDED);
    pass(TTL_S + SLACK_S);
    assert_int_equal(exist(CHAIN + 9), 0);
    assert_int_equal(life_stat("live_bytes"), 0);
}

static void
test_quota(void **state)
{
    (void)state;
    set_limits(50 * PADDED, 0);
    for (uint32_t i = 0; i < 30; i++) {
        assert_int_equal(life_put(CHAIN + i, 10, PAGE_BYTES), 10);
        assert_true(life_stat("live_bytes") <= 50 * PADDED);
    }
    assert_true(life_stat("live_bytes") > 40 * PADDED);
    assert_int_equal(exist(CHAIN), 10); /* given up, not gone */
    set_limits(10 * PADDED, 0);
    assert_true(life_stat("live_bytes") <= 10 * PADDED);
    set_limits(0, 0);
    assert_true(life_stat("live_bytes") <= 10 * PADDED);
}

static void
test_arguments(void **state)
{
    varve_namespace_limits limits = VARVE_NAMESPACE_LIMITS_INIT;

    (void)state;
    assert_int_equal(varve_namespace_limits_set(life.store, NULL, &limits, &life.err), VARVE_E_ARG);
    assert_int_equal(varve_namespace_limits_set(NULL, life.ns, &limits, &life.err), VARVE_E_ARG);
    assert_int_equal(varve_namespace_limits_set(life.store, life.ns, NULL, &life.err), VARVE_E_ARG);
    limits.struct_size--;
    assert_int_equal(varve_namespace_limits_set(life.store, life.ns, &limits, &life.err), VARVE_E_ARG);
    limits.struct_size++;
    limits.ttl_s = UINT64_MAX;
    assert_int_equal(varve_namespace_limits_set(life.store, life.ns, &limits, &life.err), VARVE_E_ARG);
    assert_int_equal(varve_pin(life.store, NULL, ids, 1, &life.err), VARVE_E_ARG);
    assert_int_equal(varve_unpin(life.store, life.ns, ids, 0, &life.err), VARVE_E_ARG);
}

/* Reclaim everything that may be, with copies. */
static void
reclaim_all(void)
{
    int rc;

    log_close_open(life.store->log);
    do
        rc = log_seal(life.store->log, &life.err);
    while (rc == VARVE_OK);
    for (int i = 0; i < 200; i++) {
        mutex_lock(&life.store->recency.lock);
        heat_shrink(life.store->recency.heat, UINT64_MAX);
        mutex_unlock(&life.store->recency.lock);
        rc = reclaim_work(life.store, &life.err);
        if (rc == VARVE_MISS)
            break;
        assert_int_equal(rc, VARVE_OK);
    }
}

/* What is pinned outlives everything else, with the ancestors that were not named; and no longer than it is pinned. */
static void
test_pins_stay(void **state)
{
    static const char *const causes[] = {"capacity", "quota", "time"};

    (void)state;
    for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
        uint32_t chain = CHAIN + (uint32_t)i * 50, pinned = 40;

        assert_int_equal(life_put(chain, PAGES, PAGE_BYTES), PAGES);
        name_chain(chain);
        assert_int_equal(varve_pin(life.store, life.ns, ids + 20, 20, &life.err), 20);
        assert_int_equal(life_stat("pinned_bytes"), pinned * PADDED);
        if (i == 1)
            set_limits(1, 0);
        if (i == 2) {
            set_limits(0, TTL_S);
            pass(TTL_S + SLACK_S);
            assert_int_equal(exist(chain), pinned);
        }
        for (int round = 0; round < 3; round++)
            reclaim_all();
        set_limits(0, 0);
        assert_int_equal(exist(chain), pinned);
        assert_int_equal(life_get(chain, pinned, PAGE_BYTES), pinned);
        assert_int_equal(life_stat("pinned_bytes"), pinned * PADDED);
        name_chain(chain);
        assert_int_equal(varve_unpin(life.store, life.ns, ids, PAGES, &life.err), pinned);
        assert_int_equal(varve_unpin(life.store, life.ns, ids, PAGES, &life.err), 0);
        assert_int_equal(life_stat("pinned_bytes"), 0);
        assert_int_equal(life_stat("live_bytes") >= pinned * PADDED, 1); /* used just now */
        reclaim_all();
        assert_true(exist(chain) < pinned);
    }
}

static void
test_pin_budget(void **state)
{
    char budget[24];

    (void)state;
    assert_int_equal(life_stat("pin_budget_bytes"), ((uint64_t)64 << 20) / 10);
    (void)snprintf(budget, sizeof(budget), "%d", 50 * PADDED + 1);
    assert_int_equal(varve_option_set(life.store, "pin_bytes", budget, &life.err), VARVE_OK);
    assert_int_equal(life_stat("pin_budget_bytes"), 50 * PADDED + 1);
    assert_int_equal(life_put(CHAIN, PAGES, PAGE_BYTES), PAGES);
    name_chain(CHAIN);
    assert_int_equal(varve_pin(life.store, life.ns, ids + 60, 10, &life.err), 0); /* its ancestors alone are too many */
    assert_int_equal(life_stat("pinned_bytes"), 0);
    assert_int_equal(varve_pin(life.store, life.ns, ids + 40, 100, &life.err), 10);
    assert_int_equal(varve_pin(life.store, life.ns, ids, PAGES, &life.err), 50); /* they are, already */
    assert_int_equal(life_stat("pinned_bytes"), 50 * PADDED);
    assert_int_equal(varve_remove_batch(life.store, life.ns, ids, 1, &life.err), 1);
    assert_int_equal(life_stat("pinned_bytes"), 49 * PADDED);
    name_chain(1);
    assert_int_equal(varve_pin(life.store, life.ns, ids, PAGES, &life.err), 1);
    assert_int_equal(varve_pin(life.store, life.ns, ids + 1, PAGES - 1, &life.err), 0);
    assert_int_equal(varve_namespace_clear(life.store, life.ns, &life.err), VARVE_OK);
    assert_int_equal(life_stat("pinned_bytes"), 0);
    assert_int_equal(varve_option_set(life.store, "pin_bytes", "1T", &life.err), VARVE_OK);
    assert_int_equal(life_stat("pin_budget_bytes"), (uint64_t)32 << 20); /* half of the capacity */
}

/* A hole ends the prefix; what is not stored is not pinned. */
static void
test_pin_prefix(void **state)
{
    (void)state;
    assert_int_equal(life_put(CHAIN, 10, PAGE_BYTES), 10);
    name_chain(CHAIN);
    assert_int_equal(varve_remove_batch(life.store, life.ns, ids + 5, 1, &life.err), 1);
    assert_int_equal(varve_pin(life.store, life.ns, ids, PAGES, &life.err), 5);
    assert_int_equal(varve_pin(life.store, life.ns, ids + 100, 5, &life.err), 0);
    life_must_close();
    life_must_open();
    name_chain(CHAIN);
    assert_int_equal(varve_pin(life.store, life.ns, ids, PAGES, &life.err), 5); /* of an earlier life */
    assert_int_equal(life_stat("pinned_bytes"), 5 * PADDED);
}

/* Pages [first, first + count) of the chain, all new or not; the statuses that came out, as text: S stored, - skipped. */
static const char *
put_text(uint32_t first, uint32_t count, const varve_id *parent)
{
    static char text[65];
    static uint8_t data[PAGE_BYTES];
    struct iovec iov = {data, sizeof(data)};
    varve_page pages[64];

    for (uint32_t i = 0; i < count; i++)
        pages[i] = (varve_page){.id = life_page_id(CHAIN, first + i), .iov = &iov, .iov_count = 1};
    assert_int_equal(varve_put_batch(life.store, life.ns, parent, pages, count, 0, &life.err), VARVE_OK);
    for (uint32_t i = 0; i < count; i++)
        text[i] = pages[i].status == VARVE_OK ? 'S' : pages[i].status == VARVE_SKIPPED ? '-' : '?';
    text[count] = '\0';
    return text;
}

static void
set_budget(const char *value)
{
    assert_int_equal(varve_option_set(life.store, "write_budget", value, &life.err), VARVE_OK);
}

static void
test_write_budget(void **state)
{
    varve_id parent = life_page_id(CHAIN, 9), unknown = life_page_id(CHAIN, 12);
    char text[32];

    (void)state;
    (void)snprintf(text, sizeof(text), "%d", 24 * 100 * PAGE_BYTES); /* 100 pages an hour */
    set_budget(text);
    assert_string_equal(put_text(0, 10, NULL), "SSSSSSSSSS");
    assert_string_equal(put_text(13, 4, &unknown), "----"); /* its parent is not stored */
    assert_string_equal(put_text(10, 4, &parent), "SSSS");
    assert_string_equal(put_text(100, 64, NULL), "SSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSSS");
    /* Little is left: a part of what is new, the first ones; what is stored is. */
    assert_non_null(strstr(put_text(110, 64, NULL), "S-"));
    assert_null(strstr(put_text(110, 64, NULL), "-S"));
    while (strchr(put_text(200, 20, NULL), 'S') != NULL && life_stat("put_skipped") < 1000)
        continue; /* a batch that is tried again is stored a little further, until nothing is left */
    assert_true(strchr(put_text(300, 20, NULL), 'S') == NULL || life_stat("put_skipped") >= 1000);
    pass(86400);
    assert_string_equal(put_text(400, 10, NULL), "SSSSSSSSSS");
    set_budget("0");
    assert_string_equal(put_text(500, 3, &unknown), "SSS");
    assert_int_equal(life_stat("write_budget_day_bytes"), 0);
    assert_true(life_stat("written_bytes") > life_stat("log_bytes_written"));
}

/* What is written beside the pages counts, too: here it is nearly all. */
static void
test_write_budget_counts_all(void **state)
{
    uint8_t byte = 1;
    struct iovec iov = {&byte, 1};
    uint64_t written = life_stat("written_bytes"), stored = 0;

    (void)state;
    set_budget("2400000"); /* 100,000 an hour */
    for (varve_page page = {.status = VARVE_OK}; page.status == VARVE_OK; stored++) {
        page = (varve_page){.id = life_page_id(CHAIN, (uint32_t)stored), .iov = &iov, .iov_count = 1};
        assert_int_equal(varve_put_batch(life.store, life.ns, NULL, &page, 1, 0, &life.err), VARVE_OK);
        assert_true(stored < 1000);
    }
    written = life_stat("written_bytes") - written;
    assert_true(written >= 50000 && written <= 60000); /* half of it: single pages are all or nothing */
}

/* After a page that failed nothing is stored; a repeat is what its first is. */
static void
test_write_budget_failures(void **state)
{
    static uint8_t data[PAGE_BYTES];
    struct iovec iov = {data, sizeof(data)}, bad = {NULL, 1};
    varve_page pages[5];

    (void)state;
    for (uint32_t i = 0; i < 5; i++)
        pages[i] = (varve_page){.id = life_page_id(CHAIN, i == 4 ? 3 : i), .iov = i == 2 ? &bad : &iov, .iov_count = 1};
    set_budget("0.5x");
    assert_int_equal(life_stat("write_budget_day_bytes"), (uint64_t)32 << 20);
    assert_int_equal(varve_put_batch(life.store, life.ns, NULL, pages, 5, 0, &life.err), VARVE_OK);
    assert_int_equal(pages[0].status, VARVE_OK);
    assert_int_equal(pages[1].status, VARVE_OK);
    assert_int_equal(pages[2].status, VARVE_E_ARG);
    assert_int_equal(pages[3].status, VARVE_SKIPPED);
    assert_int_equal(pages[4].status, VARVE_SKIPPED);
    assert_int_equal(life_stat("put_skipped"), 2);
    assert_int_equal(life_stat("put_errors"), 1);
    assert_int_equal(life_stat("put_duplicates"), 0);
    assert_int_equal(varve_option_set(life.store, "capacity", "32M", &life.err), VARVE_OK);
    assert_int_equal(life_stat("write_budget_day_bytes"), (uint64_t)16 << 20);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, life_setup, life_teardown)
    static const struct CMUnitTest tests[] = {
        TEST(test_time_to_live),
        TEST(test_uses),
        TEST(test_old_store),
        TEST(test_young_store),
        TEST(test_judged_pages_live),
        TEST(test_expired_parent),
        TEST(test_empty_page_removed),
        TEST(test_clear_keeps_limits),
        TEST(test_quota),
        TEST(test_arguments),
        TEST(test_pins_stay),
        TEST(test_pin_budget),
        TEST(test_pin_prefix),
        TEST(test_write_budget),
        TEST(test_write_budget_failures),
        TEST(test_write_budget_counts_all),
    };

    return cmocka_run_group_tests_name("namespace limits", tests, NULL, NULL);
}
