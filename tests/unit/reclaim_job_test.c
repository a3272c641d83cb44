/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reclaim in a store on the simulated disk: what was used stays, with its bytes, wherever it is moved to; what was removed stays removed; what was not used goes;
 * and all of it is known again after a restart.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "format/format.h"
#include "store_life.h"

#define CHAIN_PAGES 16
#define PAGE_BYTES  8192
#define CAPACITY    ((uint64_t)8 << 20)
#define HOT         100 /* chains from here on are used again and again */
#define HOT_CHAINS  10
#define COLD        1000 /* and these never */

static int
setup(void **state)
{
    static const char *const options[][2] = {{"capacity", "8M"}, {"segment_bytes", "256K"}, {"memtable_bytes", "128K"}};

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        memcpy(life.options[i], options[i], sizeof(options[i]));
    return life_setup(state);
}

static int
teardown(void **state)
{
    memset(life.options, 0, sizeof(life.options));
    return life_teardown(state);
}

static int64_t
probe(uint32_t chain, uint32_t first, uint32_t count)
{
    varve_id ids[CHAIN_PAGES];

    for (uint32_t i = 0; i < count; i++)
        ids[i] = life_page_id(chain, first + i);
    return varve_probe(life.store, life.ns, ids, count, NULL, &life.err);
}

static void
work(void)
{
    while (store_tick(life.store))
        continue;
}

/* Write `bytes` of chains that nobody uses, with background work after each, and hot ones used in between. */
static void
churn(uint64_t bytes, bool use_hot)
{
    static uint32_t cold = COLD;

    for (uint64_t at = 0; at < bytes; at += CHAIN_PAGES * PAGE_BYTES) {
        assert_int_equal(life_put(cold++, CHAIN_PAGES, PAGE_BYTES), CHAIN_PAGES);
        for (uint32_t i = 0; i < HOT_CHAINS && use_hot; i++)
            (void)probe(HOT + i, 0, CHAIN_PAGES);
        work();
        assert_true(sim_disk_used(life.disk) <= space_ceiling(life.store));
    }
}

/* Hot chains, each page put between others, so that they lie scattered. */
static void
put_hot(void)
{
    for (uint32_t i = 0; i < HOT_CHAINS; i++) {
        assert_int_equal(life_put(HOT + i, CHAIN_PAGES, PAGE_BYTES), CHAIN_PAGES);
        churn(CHAIN_PAGES * PAGE_BYTES * 2, false);
    }
}

static uint32_t
hot_right(void)
{
    uint32_t right = 0;

    for (uint32_t i = 0; i < HOT_CHAINS; i++)
        right += life_get(HOT + i, CHAIN_PAGES, PAGE_BYTES);
    return right;
}

/* Whatever goes by, what is used stays, and copying it costs little. */
static void
test_used_pages_stay(void **state)
{
    uint64_t written;

    (void)state;
    put_hot();
    churn(8 * CAPACITY, true);
    assert_int_equal(hot_right(), HOT_CHAINS * CHAIN_PAGES);
    assert_true(life_stat("survivor_pages") >= HOT_CHAINS * CHAIN_PAGES);
    assert_int_equal(life_stat("reclaim_lost_bytes"), 0);
    written = life_stat("log_bytes_written");
    assert_true(life_stat("survivor_bytes") * 5 < written);
}

/* What is not used any more goes, all of it. */
static void
test_unused_pages_go(void **state)
{
    (void)state;
    put_hot();
    churn(2 * CAPACITY, true);
    assert_int_equal(hot_right(), HOT_CHAINS * CHAIN_PAGES);
    churn(3 * CAPACITY, false);
    assert_int_equal(hot_right(), 0);
}

/* Who uses the tail of a chain only, keeps its head as well: else the tail could not be hit. */
static void
test_ancestors_stay(void **state)
{
    (void)state;
    put_hot();
    for (int i = 0; i < 40; i++) {
        (void)probe(HOT, CHAIN_PAGES - 1, 1);
        churn(CAPACITY / 8, false);
    }
    assert_int_equal(probe(HOT, 0, CHAIN_PAGES), CHAIN_PAGES);
    assert_int_equal(probe(HOT + 1, 0, CHAIN_PAGES), 0);
}

/* A page that is dead, in a segment that still stands, is served, and lives again. */
static void
test_second_life(void **state)
{
    uint64_t live;

    (void)state;
    assert_int_equal(life_put(HOT, CHAIN_PAGES, PAGE_BYTES), CHAIN_PAGES);
    mutex_lock(&life.store->recency.lock);
    (void)heat_clock(life.store->recency.heat, 100);
    heat_shrink(life.store->recency.heat, UINT64_MAX);
    mutex_unlock(&life.store->recency.lock);
    assert_int_equal(life_stat("live_bytes"), 0);
    assert_int_equal(life_get(HOT, CHAIN_PAGES, PAGE_BYTES), CHAIN_PAGES);
    live = life_stat("live_bytes");
    assert_true(live >= CHAIN_PAGES * PAGE_BYTES);
    churn(4 * CAPACITY, false);
    assert_int_equal(life_get(HOT, CHAIN_PAGES, PAGE_BYTES), 0);
}

/* Removed before, while and after its segment is reclaimed: a page is not brought back by a copy, and not after a crash either. */
static void
test_removed_pages_stay_removed(void **state)
{
    varve_id ids[HOT_CHAINS];

    (void)state;
    put_hot();
    for (uint32_t i = 0; i < HOT_CHAINS; i++) {
        ids[i] = life_page_id(HOT + i, i);
        assert_int_equal(varve_remove_batch(life.store, life.ns, &ids[i], 1, &life.err), 1);
        churn(CAPACITY / 4, true);
        assert_int_equal(varve_remove_batch(life.store, life.ns, &ids[i], 1, &life.err), 0);
    }
    assert_int_equal(varve_sync(life.store, &life.err), VARVE_OK);
    for (int crash = 0; crash < 2; crash++) {
        for (uint32_t i = 0; i < HOT_CHAINS; i++) {
            uint8_t there = 1;

            assert_int_equal(varve_exists_batch(life.store, life.ns, &ids[i], 1, &there, &life.err), VARVE_OK);
            assert_int_equal(there, 0);
        }
        if (crash == 0) {
            life_kill();
            life_must_open();
        }
    }
}

/* The next victim; asserts that there is one. */
static void
begin_job(void)
{
    while (life.store->reclaim_job == NULL)
        assert_int_equal(reclaim_work(life.store, &life.err), VARVE_OK);
}

/* A copy that cannot be made: the segment stays, and is tried again; in the end it goes without. */
static void
test_copying_fails(void **state)
{
    uint64_t dropped;

    (void)state;
    put_hot();
    churn(2 * CAPACITY, true);
    dropped = life_stat("segments_dropped");
    begin_job();
    store_fault(life.disk, SIM_OP_READ, "*.seg", EIO, 0, 0);
    for (int i = 0; i < 2; i++) {
        int rc;

        while ((rc = reclaim_work(life.store, &life.err)) == VARVE_OK)
            continue;
        assert_int_equal(rc, VARVE_E_IO);
        assert_int_equal(life_stat("segments_dropped"), dropped);
    }
    while (life_stat("segments_dropped") == dropped)
        assert_true(reclaim_work(life.store, &life.err) != VARVE_MISS);
    assert_true(life_stat("reclaim_lost_bytes") > 0);
    sim_disk_faults_clear(life.disk);
    assert_int_equal(store_writable(life.store, &life.err), VARVE_OK);
}

/* Live pages that rot are not copied: a copy would make them right for ever. */
static void
test_damaged_pages_are_not_copied(void **state)
{
    struct sim_rng rng = {.state = 7};
    uint32_t right;

    (void)state;
    put_hot();
    churn(CAPACITY / 2, true);
    for (int i = 0; i < 400; i++)
        assert_true(sim_disk_flip(life.disk, "*.seg", &rng));
    churn(4 * CAPACITY, true);
    right = hot_right(); /* compares every byte */
    assert_true(right < HOT_CHAINS * CHAIN_PAGES);
    assert_true(life_stat("reclaim_damaged_pages") > 0);
}

static const char *
leave(void)
{
    return "as it is";
}

static const char *
delete_heat(void)
{
    struct env *env = sim_disk_env(life.disk);

    assert_int_equal(env->ops->unlink(env, FORMAT_HEAT_NAME), 0);
    return "without HEAT";
}

static const char *
damage_heat(void)
{
    struct sim_rng rng = {.state = 3};

    for (int i = 0; i < 500; i++)
        assert_true(sim_disk_flip(life.disk, FORMAT_HEAT_NAME, &rng));
    return "with a damaged HEAT";
}

/* After a restart the same pages are live as before; where that was forgotten, none is lost for it at once. */
static void
test_restart(void **state)
{
    static const char *(*const ways[])(void) = {leave, delete_heat, damage_heat};

    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        uint64_t live;
        const char *way;

        put_hot();
        churn(2 * CAPACITY, true);
        live = life_stat("live_bytes");
        life_must_close();
        way = ways[i]();
        life_must_open();
        if (i == 0 && life_stat("live_bytes") != live)
            fail_msg("%s: %llu bytes are live, there were %llu", way, (unsigned long long)life_stat("live_bytes"),
                     (unsigned long long)live);
        work();
        if (life_stat("live_bytes") <= CAPACITY / 2)
            fail_msg("%s: only %llu bytes are live", way, (unsigned long long)life_stat("live_bytes"));
        assert_int_equal(hot_right(), HOT_CHAINS * CHAIN_PAGES);
        if (i == 0) { /* they are known as the last used, too */
            churn(CAPACITY / 2, false);
            assert_int_equal(hot_right(), HOT_CHAINS * CHAIN_PAGES);
        }
        teardown(state);
        setup(state);
    }
}

/* What is used after a restart, before the store has looked for what is old, is younger than all of that. */
static void
test_used_before_recency_is_known(void **state)
{
    uint32_t there;

    (void)state;
    put_hot();
    churn(CAPACITY / 2, false);
    life_kill(); /* HEAT is minutes old in a store that was killed; here there is none */
    life_must_open();
    there = hot_right();
    assert_true(there > 0);
    churn(CAPACITY / 2, false);
    assert_int_equal(hot_right(), there);
}

/* The capacity changes while the store is open, both ways; what is used most stays. */
static void
test_capacity_changes(void **state)
{
    (void)state;
    put_hot();
    churn(2 * CAPACITY, true);
    assert_int_equal(varve_option_set(life.store, "capacity", "4M", &life.err), VARVE_OK);
    work();
    assert_true(sim_disk_used(life.disk) <= CAPACITY / 2);
    assert_int_equal(hot_right(), HOT_CHAINS * CHAIN_PAGES);
    churn(CAPACITY, true);
    assert_true(sim_disk_used(life.disk) <= CAPACITY / 2);
    assert_int_equal(hot_right(), HOT_CHAINS * CHAIN_PAGES);
    assert_int_equal(varve_option_set(life.store, "capacity", "16M", &life.err), VARVE_OK);
    churn(3 * CAPACITY, true);
    assert_true(sim_disk_used(life.disk) > CAPACITY);
    assert_true(sim_disk_used(life.disk) <= 2 * CAPACITY);
    assert_int_equal(hot_right(), HOT_CHAINS * CHAIN_PAGES);
    assert_int_equal(varve_option_set(life.store, "capacity", "1K", &life.err), VARVE_E_ARG);
    assert_int_equal(life_stat("capacity_bytes"), 2 * CAPACITY);
}

/* Bytes that must stay free in the file system are not taken, and given back when others need them. */
static void
test_min_free(void **state)
{
    (void)state;
    life.disk->settings.size_bytes = CAPACITY;
    assert_int_equal(varve_option_set(life.store, "min_free", "3M", &life.err), VARVE_OK);
    put_hot();
    churn(3 * CAPACITY, true);
    assert_true(sim_disk_used(life.disk) <= CAPACITY - ((uint64_t)3 << 20));
    assert_true(sim_disk_used(life.disk) > CAPACITY / 4);
    assert_int_equal(varve_option_set(life.store, "min_free", "5M", &life.err), VARVE_OK);
    work();
    assert_true(sim_disk_used(life.disk) <= CAPACITY - ((uint64_t)5 << 20));
}

/* A file system that is full below the capacity: puts go on, at the price of the oldest pages. */
static void
test_full_below_capacity(void **state)
{
    (void)state;
    put_hot();
    churn(CAPACITY / 2, true);
    life.disk->settings.size_bytes = sim_disk_used(life.disk);
    churn(2 * CAPACITY, true);
    assert_int_equal(life_put(COLD - 1, CHAIN_PAGES, PAGE_BYTES), CHAIN_PAGES);
    assert_int_equal(life_get(COLD - 1, CHAIN_PAGES, PAGE_BYTES), CHAIN_PAGES);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_used_pages_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unused_pages_go, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ancestors_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_second_life, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removed_pages_stay_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_copying_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_pages_are_not_copied, setup, teardown),
        cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_used_before_recency_is_known, setup, teardown),
        cmocka_unit_test_setup_teardown(test_capacity_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_min_free, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_below_capacity, setup, teardown),
    };

    return cmocka_run_group_tests_name("reclaim_job", tests, NULL, NULL);
}
