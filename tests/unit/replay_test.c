/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replay that fills several memtables, and so flushes on the way, stopped at every change that it makes to the disk: nothing that was
 * acknowledged may be lost by a recovery that did not come to its end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "format/format.h"
#include "store_life.h"

#define CHAINS     8 /* more pages than a memtable takes */
#define PAGES      1000
#define PAGE_BYTES 16

/* A store whose process died before anything was flushed, with CHAINS branches. */
static void
begin(void)
{
    life_begin_again();
    life_must_open();
    for (uint32_t chain = 1; chain <= CHAINS; chain++)
        assert_int_equal(life_put(LIFE_CHAINS + chain, PAGES, PAGE_BYTES), PAGES);
    life_kill();
}

static uint32_t
pages_right(void)
{
    uint32_t right = 0;

    for (uint32_t chain = 1; chain <= CHAINS; chain++)
        right += life_get(LIFE_CHAINS + chain, PAGES, PAGE_BYTES);
    return right;
}

static void
test_crash_in_replay(void **state)
{
    (void)state;
    for (uint64_t change = 1;; change++) {
        int rc;

        begin();
        sim_disk_crash_after(life.disk, change);
        rc = life_open();
        if (!life.disk->stopped) { /* it made fewer changes */
            assert_int_equal(rc, VARVE_OK);
            assert_int_equal(life_stat("recovered_pages"), CHAINS * PAGES);
            assert_true(life_stat("index_flushes") > 1);
            assert_int_equal(pages_right(), CHAINS * PAGES);
            return;
        }
        if (life.store != NULL)
            life_kill();
        sim_disk_crash(life.disk, SIM_CRASH_KILL, change);
        life_must_open();
        if (pages_right() != CHAINS * PAGES)
            fail_msg("stopped at change %llu: pages are lost", (unsigned long long)change);
        assert_int_equal(life_stat("recovered_runs_lost"), 0);
        life_must_close();
    }
}

/* Branches that were only in the log count as given out. */
static void
test_branches(void **state)
{
    uint64_t next_branch;

    (void)state;
    next_branch = life.store->next_branch;
    assert_true(next_branch > LIFE_CHAINS);
    life_kill();
    life_must_open();
    assert_true(life.store->next_branch >= next_branch);
}

/* Without a place for an error: what is said of the run that is lost is not the outcome. */
static void
open_quietly(void)
{
    varve_options *options = varve_options_create();

    assert_non_null(options);
    assert_int_equal(varve_options_set(options, "background", "off", NULL), VARVE_OK);
    assert_int_equal(varve_options_set(options, "capacity", "64M", NULL), VARVE_OK);
    assert_int_equal(store_open(sim_disk_env(life.disk), options, &life.store, NULL), VARVE_OK);
    assert_int_equal(varve_namespace_open(life.store, "n", NULL, &life.ns, NULL), VARVE_OK);
    varve_options_destroy(options);
}

/* An index that lost a run is built anew from the log, which has all of it: segments that were wholly indexed, too. */
static void
test_lost_run(void **state)
{
    (void)state;
    for (int gone = 0; gone <= 1; gone++) {
        char name[FORMAT_NAME_MAX];

        life_begin_again();
        life_must_open();
        life_must_close();
        assert_true(store_file_find(life.disk, ".run", name));
        if (gone)
            assert_int_equal(sim_disk_env(life.disk)->ops->unlink(sim_disk_env(life.disk), name), 0);
        else
            store_file_cut(life.disk, name, 4096);
        open_quietly();
        assert_int_equal(life_stat("recovered_runs_lost"), 1);
        assert_int_equal(life_stat("recovered_pages"), LIFE_ALL);
        assert_int_equal(life_pages_right(), LIFE_ALL);
        life_must_close();
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_crash_in_replay, life_setup_killed, life_teardown),
        cmocka_unit_test_setup_teardown(test_branches, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_lost_run, life_setup_killed, life_teardown),
    };

    return cmocka_run_group_tests_name("replay", tests, NULL, NULL);
}
