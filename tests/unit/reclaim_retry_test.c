/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What reclaim must not lose, in a store on the simulated disk, when a part of the disk cannot be read, an index block is not given for a moment, memory is short, or
 * files cannot be removed: what can be had stays, what failed is tried again, and what cannot work ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "format/format.h"
#include "log/log_private.h"
#include "store_churn.h"

static struct location
locate(uint32_t chain, uint32_t page)
{
    struct index_view *view = index_view_acquire(life.store->index);
    varve_id id = life_page_id(chain, page);
    struct index_cursor cursor;
    struct location location;

    index_cursor_init(&cursor, view);
    assert_true(index_cursor_find(&cursor, atomic_load(&life.ns->ns_id), &id, &location));
    index_cursor_deinit(&cursor);
    index_view_release(view);
    return location;
}

/* A range of the disk that cannot be read costs the page that lies there, and no other of its segment. */
static void
test_unreadable_range(void **state)
{
    static char name[FORMAT_NAME_MAX];
    struct location bad;

    (void)state;
    churn(CAPACITY / 2, false);
    assert_int_equal(life_put(HOT, 4, PAGE_BYTES), 4);
    bad = locate(HOT, 3);
    format_file_name(FORMAT_FILE_SEGMENT, bad.segment, name);
    life.disk->bad_from = bad.offset + PAGE_BYTES / 2;
    life.disk->bad_end = life.disk->bad_from + 1;
    life.disk->bad_glob = name;
    for (int rounds = 0; log_segment_state(life.store->log, bad.segment) != SEGMENT_GONE; rounds++) {
        assert_true(rounds < 1000);
        churn(CHAIN_BYTES, false);
        assert_true(churn_probe(HOT, 0, 4) >= 3);
    }
    assert_true(life.disk->faults_hit >= RECLAIM_TRIES);
    assert_int_equal(life_stat("reclaim_damaged_pages"), 1);
    assert_int_equal(life_stat("reclaim_lost_bytes"), 0);
    assert_int_equal(life_get(HOT, 4, PAGE_BYTES), 3);
}

/* An index block that is not given says nothing of the pages in it: they do not die for that. */
static void
test_unreadable_index(void **state)
{
    int rc;

    (void)state;
    churn_fill();
    life_must_close(); /* lets go of the index blocks in memory */
    life_must_open();
    churn_begin_job();
    store_fault(life.disk, SIM_OP_READ, "*.run", EIO, 0, 0);
    while ((rc = reclaim_work(life.store, &life.err)) == VARVE_OK)
        assert_non_null(life.store->reclaim_job);
    assert_int_equal(rc, VARVE_E_IO);
    assert_true(life.disk->faults_hit > 0);
    sim_disk_faults_clear(life.disk);
    churn(CAPACITY, true);
    assert_int_equal(life_stat("reclaim_lost_bytes"), 0);
    assert_int_equal(churn_hot_right(), HOT_PAGES);
}

/* A drop that finds no memory for its edit takes nothing away: the segment is dropped another time. */
static void
test_drop_without_memory(void **state)
{
    uint64_t failures = 0;
    int rc = VARVE_E_NOMEM;

    (void)state;
    churn_fill();
    while (rc != VARVE_OK) {
        uint64_t segments = life_stat("segments"), used = space_used(life.store);

        store_fault(life.disk, SIM_OP_ALLOC, NULL, ENOMEM, failures, 1);
        rc = reclaim_drop_one(life.store, &life.err);
        sim_disk_faults_clear(life.disk);
        if (rc == VARVE_OK)
            break;
        failures++;
        assert_int_equal(rc, VARVE_E_NOMEM);
        assert_int_equal(store_writable(life.store, &life.err), VARVE_OK);
        assert_int_equal(life_stat("segments"), segments);
        assert_int_equal(space_used(life.store), used);
    }
    assert_true(failures > 0);
    churn(CAPACITY, true);
    life_must_close();
    life_must_open();
}

/* Where files cannot be removed reclaim ends: it would drop one segment after the other, and make no room. */
static void
test_files_cannot_be_removed(void **state)
{
    static const int errors[] = {EROFS, EPERM, EACCES};

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        uint64_t dropped;
        int rc;

        churn_fill();
        dropped = life_stat("segments_dropped");
        store_fault(life.disk, SIM_OP_UNLINK, "*.seg", errors[i], 0, 0);
        while ((rc = reclaim_work(life.store, &life.err)) == VARVE_OK)
            assert_true(life_stat("segments_dropped") <= dropped + 1 + KEPT);
        assert_int_equal(rc, VARVE_E_READONLY);
        assert_in_range(life_stat("segments_dropped"), dropped + 1, dropped + 1 + KEPT);
        sim_disk_faults_clear(life.disk);
        churn_teardown(state);
        churn_setup(state);
    }
}

static bool (*namespace_live_hook)(void *arg, uint32_t ns_id);
static uint64_t asked;

static bool
count_and_ask(void *arg, uint32_t ns_id)
{
    asked++;
    return namespace_live_hook(arg, ns_id);
}

/* Segments are looked at for dead ones only after something died; then all that are dead go, those that are sealed later, too. */
static void
test_dead_segments(void **state)
{
    (void)state;
    churn_fill();
    churn_work();
    namespace_live_hook = life.store->log->hooks.namespace_live;
    life.store->log->hooks.namespace_live = count_and_ask;
    for (int i = 0; i < 10; i++)
        (void)store_tick(life.store);
    assert_int_equal(asked, 0);
    assert_int_equal(varve_namespace_clear(life.store, life.ns, &life.err), VARVE_OK);
    churn_work();
    assert_true(asked > 0);
    assert_true(life_stat("segments") <= 3); /* open, of survivors, made ahead */
    log_close_open(life.store->log);
    churn_work();
    assert_true(life_stat("segments") <= 1); /* made ahead */
    life.store->log->hooks.namespace_live = namespace_live_hook;
}

/* The length of HEAT is not believed: it costs neither memory nor room. */
static void
test_long_heat(void **state)
{
    struct env_file *file;

    (void)state;
    churn_fill();
    life_must_close();
    file = sim_test_open(life.disk, FORMAT_HEAT_NAME, 0);
    assert_int_equal(sim_disk_env(life.disk)->ops->truncate(file, 8 * CAPACITY), 0);
    sim_disk_env(life.disk)->ops->close(file);
    life.disk->allocation_max = 0;
    life_must_open();
    assert_true(life.disk->allocation_max < CAPACITY);
    assert_true(sim_disk_used(life.disk) <= CAPACITY);
    assert_int_equal(churn_hot_right(), HOT_PAGES);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_unreadable_range, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_unreadable_index, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_drop_without_memory, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_files_cannot_be_removed, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_dead_segments, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_long_heat, churn_setup, churn_teardown),
    };

    return cmocka_run_group_tests_name("reclaim_retry", tests, NULL, NULL);
}
