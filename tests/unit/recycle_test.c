/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments that are written over the files of dropped ones, in a store on the simulated disk: that it happens, that the accounts know of these files, and that they are given
 * up where their space is wanted, or where someone might still write to them. What a power failure does in between is for the simulator.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "store_churn.h"
#include "store_files.h"

/* Every page is right, nothing is in the directory that nobody knows, and no more than the accounts say. */
static void
check_whole(void)
{
    varve_check_report report = VARVE_CHECK_REPORT_INIT;

    assert_int_equal(varve_check(life.store, VARVE_CHECK_DEEP, NULL, NULL, NULL, &report, NULL), VARVE_OK);
    assert_int_equal(report.problems, 0);
    assert_true(sim_disk_used(life.disk) <= life_stat("disk_bytes"));
}

/* In a full store nearly every new segment takes the place of a dropped one. */
static void
test_recycled(void **state)
{
    uint64_t created, recycled;

    (void)state;
    churn_fill();
    created = life_stat("segments_created");
    recycled = life_stat("segments_recycled");
    churn(4 * CAPACITY, true);
    created = life_stat("segments_created") - created;
    recycled = life_stat("segments_recycled") - recycled;
    assert_true(created > 100 && recycled > created * 3 / 4);
    assert_int_equal(churn_hot_right(), HOT_PAGES);
    check_whole();
    life_must_close();
    life_must_open();
    assert_int_equal(life_stat("kept_bytes"), 0);
    assert_int_equal(churn_hot_right(), HOT_PAGES);
    check_whole();
}

/* Put on until a file is kept. */
static void
have_kept(void)
{
    for (int tries = 0; life_stat("kept_bytes") == 0; tries++) {
        assert_true(tries < 200);
        (void)life_put(COLD + 50000 + (uint32_t)tries, CHAIN_PAGES, PAGE_BYTES);
        if (life_stat("kept_bytes") == 0)
            (void)reclaim_work(life.store, NULL);
    }
}

/* A lower capacity has no room for them, and neither has a file system that is nearly full. */
static void
test_given_up(void **state)
{
    (void)state;
    churn_fill();
    have_kept();
    assert_int_equal(varve_option_set(life.store, "capacity", "6M", NULL), VARVE_OK);
    churn_work();
    assert_true(life_stat("disk_bytes") <= (uint64_t)6 << 20);
    check_whole();
    assert_int_equal(varve_option_set(life.store, "capacity", "8M", NULL), VARVE_OK);
    churn(CAPACITY, true);
    have_kept();
    assert_int_equal(varve_option_set(life.store, "min_free", "1T", NULL), VARVE_OK);
    churn_work();
    assert_int_equal(life_stat("kept_bytes"), 0);
    check_whole();
}

/* What was a file of the store before is removed at the next open, if the process died. */
static void
test_killed(void **state)
{
    (void)state;
    churn_fill();
    have_kept();
    life_kill();
    life_must_open();
    assert_int_equal(life_stat("kept_bytes"), 0);
    assert_int_equal(churn_hot_right(), HOT_PAGES);
    check_whole();
}

/* A file that cannot be had under the new name is removed, or stays and is counted; the segment gets one of its own. */
static void
test_faults(void **state)
{
    static const struct {
        unsigned ops;
        uint64_t count;
    } faults[] = {{SIM_OP_RENAME, 1}, {SIM_OP_RENAME | SIM_OP_UNLINK, 2}, {SIM_OP_OPEN, 1}, {SIM_OP_TRUNCATE, 1}};

    (void)state;
    churn_fill();
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        have_kept();
        store_fault(life.disk, faults[i].ops, "*.seg", EIO, 0, faults[i].count);
        churn(CAPACITY / 4, true);
        sim_disk_faults_clear(life.disk);
        assert_true(sim_disk_used(life.disk) <= life_stat("disk_bytes"));
        churn(CAPACITY, true);
        assert_int_equal(churn_hot_right(), HOT_PAGES);
    }
    life_must_close();
    life_must_open();
    check_whole();
}

/* Nobody writes over a file to which another process may still write. */
static void
note_stray(void *arg, const struct segment *segment)
{
    (void)arg;
    ((struct segment *)(uintptr_t)segment)->stray = true;
}

static void
test_stray(void **state)
{
    uint64_t recycled;

    (void)state;
    churn_fill();
    while (space_remove_kept(life.store))
        continue;
    log_for_each(life.store->log, note_stray, NULL);
    recycled = life_stat("segments_recycled");
    for (uint64_t dropped = life_stat("segments_dropped"); life_stat("segments_dropped") < dropped + 10;)
        churn(CHAIN_BYTES, true);
    assert_true(life_stat("segments_recycled") <= recycled + 1); /* of what was put meanwhile */
    check_whole();
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_recycled, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_given_up, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_killed, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_faults, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_stray, churn_setup, churn_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
