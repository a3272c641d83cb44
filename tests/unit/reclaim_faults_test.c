/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reclaim when something is in its way, in a store on the simulated disk: devices that fail for a while, files that cannot be opened, calls that look for pages
 * while they are moved, and stores that are opened with less room.
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
#define CHAIN_BYTES ((uint64_t)CHAIN_PAGES * PAGE_BYTES)
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
probe(uint32_t chain, uint32_t count)
{
    varve_id ids[CHAIN_PAGES];

    for (uint32_t i = 0; i < count; i++)
        ids[i] = life_page_id(chain, i);
    return varve_probe(life.store, life.ns, ids, count, NULL, &life.err);
}

static void
work(void)
{
    while (store_tick(life.store))
        continue;
}

static void
use_hot(void)
{
    for (uint32_t i = 0; i < HOT_CHAINS; i++)
        (void)probe(HOT + i, CHAIN_PAGES);
}

/* Write `bytes` of chains that nobody uses, with background work after each, and hot ones used in between. */
static void
churn(uint64_t bytes)
{
    static uint32_t cold = COLD;

    for (uint64_t at = 0; at < bytes; at += CHAIN_BYTES) {
        assert_int_equal(life_put(cold++, CHAIN_PAGES, PAGE_BYTES), CHAIN_PAGES);
        use_hot();
        work();
    }
}

/* A full store, in which hot chains lie scattered. */
static void
fill(void)
{
    for (uint32_t i = 0; i < HOT_CHAINS; i++) {
        assert_int_equal(life_put(HOT + i, CHAIN_PAGES, PAGE_BYTES), CHAIN_PAGES);
        churn(2 * CHAIN_BYTES);
    }
    churn(CAPACITY);
}

/* The next victim that has live pages. */
static void
begin_job(void)
{
    while (life.store->reclaim_job == NULL)
        assert_int_equal(reclaim_work(life.store, &life.err), VARVE_OK);
}

/* Segments go without copying while that fails; afterwards live pages are copied as ever. */
static void
test_copying_goes_on_after_failures(void **state)
{
    uint64_t dropped, copied;

    (void)state;
    fill();
    begin_job();
    dropped = life_stat("segments_dropped");
    store_fault(life.disk, SIM_OP_READ, "*.seg", EIO, 0, 0);
    for (int tries = 0; life_stat("segments_dropped") == dropped; tries++) {
        assert_true(tries < 100);
        (void)reclaim_work(life.store, &life.err);
    }
    sim_disk_faults_clear(life.disk);
    copied = life_stat("survivor_pages");
    churn(2 * CAPACITY);
    assert_true(life_stat("survivor_pages") > copied);
}

/* Take away a file with which a segment could be read. False: there is none. */
static bool
delete_segment_file(void)
{
    struct env *env = sim_disk_env(life.disk);
    char name[FORMAT_NAME_MAX];

    return store_file_find(life.disk, ".seg", name) && env->ops->unlink(env, name) == 0;
}

/* Segments whose files are not there do not stand in the way of puts: they go, and their space comes back. */
static void
test_segments_without_files(void **state)
{
    (void)state;
    fill();
    life_must_close(); /* closes them, too */
    life_must_open();
    while (delete_segment_file())
        continue;
    for (uint32_t i = 0; i < 2 * CAPACITY / CHAIN_BYTES; i++) {
        use_hot();
        assert_int_equal(life_put(COLD / 2 + i, CHAIN_PAGES, PAGE_BYTES), CHAIN_PAGES);
    }
    assert_int_equal(store_writable(life.store, &life.err), VARVE_OK);
    life_must_close();
    life_must_open();
}

/* Begin a job and copy some of what lives in its victim; nothing waits for a sync but the copies. */
static void
copy_some(void)
{
    uint64_t copied = life_stat("survivor_pages");

    begin_job();
    assert_int_equal(varve_sync(life.store, &life.err), VARVE_OK);
    while (life_stat("survivor_pages") == copied)
        assert_int_equal(reclaim_work(life.store, &life.err), VARVE_OK);
    assert_non_null(life.store->reclaim_job);
    assert_true(log_unsynced_bytes(life.store->log) > 0);
}

static void
drop_one(void)
{
    assert_int_equal(reclaim_drop_one(life.store, &life.err), VARVE_OK);
}

static void
fail_to_copy(void)
{
    uint64_t dropped = life_stat("segments_dropped");

    store_fault(life.disk, SIM_OP_READ, "*.seg", EIO, 0, 0);
    for (int tries = 0; life_stat("segments_dropped") == dropped; tries++) {
        assert_true(tries < 100);
        (void)reclaim_work(life.store, &life.err);
    }
    sim_disk_faults_clear(life.disk);
}

static void
begin_anew(void)
{
    uint64_t dropped = life_stat("segments_dropped");

    reclaim_abandon(life.store);
    while (life_stat("segments_dropped") == dropped)
        assert_int_equal(reclaim_work(life.store, &life.err), VARVE_OK);
}

/* Whatever ends a job, and even where it takes two for one segment: copies are durable before what they were made of is dropped. */
static void
test_copies_are_durable_first(void **state)
{
    static void (*const ways[])(void) = {drop_one, fail_to_copy, begin_anew};

    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        fill();
        copy_some();
        ways[i]();
        assert_int_equal(log_unsynced_bytes(life.store->log), 0);
        teardown(state);
        setup(state);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_copying_goes_on_after_failures, setup, teardown),
        cmocka_unit_test_setup_teardown(test_segments_without_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_copies_are_durable_first, setup, teardown),
    };

    return cmocka_run_group_tests_name("reclaim_faults", tests, NULL, NULL);
}
