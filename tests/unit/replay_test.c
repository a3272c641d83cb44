/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A replay that fills several memtables, and so flushes on the way, stopped at every change that it makes to the disk: nothing that was
 * acknowledged may be lost by a recovery that did not come to its end, and nothing that it found torn may come back when the index is
 * built anew from the log.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "format/format.h"
#include "format/log_format.h"
#include "store/recovery.h"
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

static void
lose_run(void)
{
    char name[FORMAT_NAME_MAX];

    assert_true(store_file_find(life.disk, ".run", name));
    store_file_cut(life.disk, name, 4096);
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
            lose_run();
        life_must_open();
        assert_int_equal(life_stat("recovered_runs_lost"), 1);
        assert_int_equal(life_stat("recovered_runs_unread"), 0);
        assert_int_equal(life_stat("recovered_pages"), LIFE_ALL);
        assert_int_equal(life_pages_right(), LIFE_ALL);
        life_must_close();
    }
}

/* A run that the device does not give is asked for again before it counts as lost; what the process lacks is no loss of the run. */
static void
test_unread_run(void **state)
{
    static const struct {
        unsigned op;
        int error;
        uint64_t skip, count;
        int rc;
        uint64_t unread;
    } cases[] = {
        {SIM_OP_OPEN, EIO, 0, 1, VARVE_OK, 0},
        {SIM_OP_READ, EIO, 0, RECOVERY_TRIES - 1, VARVE_OK, 0},
        {SIM_OP_READ, EIO, 2, RECOVERY_TRIES - 1, VARVE_OK, 0},
        {SIM_OP_READ, EIO, 0, RECOVERY_TRIES, VARVE_OK, 1},
        {SIM_OP_OPEN, EIO, 0, RECOVERY_TRIES, VARVE_OK, 1},
        {SIM_OP_OPEN, EMFILE, 0, 0, VARVE_E_IO, 0},
        {SIM_OP_OPEN, ENFILE, 0, 0, VARVE_E_IO, 0},
        {SIM_OP_OPEN, EACCES, 0, 0, VARVE_E_READONLY, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int rc;

        life_begin_again();
        life_must_open();
        life_must_close();
        store_fault(life.disk, cases[i].op, "*.run", cases[i].error, cases[i].skip, cases[i].count);
        rc = life_open();
        sim_disk_faults_clear(life.disk);
        if (rc != cases[i].rc)
            fail_msg("case %zu: %d \"%s\"", i, rc, life.err.message);
        if (rc != VARVE_OK)
            life_must_open();
        assert_int_equal(life_stat("recovered_runs_unread"), cases[i].unread);
        assert_int_equal(life_stat("recovered_runs_lost"), 0);
        assert_int_equal(life_stat("recovered_pages"), cases[i].unread == 0 ? 0 : LIFE_ALL);
        assert_int_equal(life_pages_right(), LIFE_ALL);
        life_must_close();
    }
}

#define TORN_CHAIN       10 /* behind the others; more removals than a manifest takes before it is rotated */
#define TORN_PAGES       1000
#define TORN_PAGE_BYTES  16
#define TORN_SLOT_BYTES  512
#define TORN_KEPT        100 /* at its begin */
#define TORN_LOST        (TORN_PAGES - TORN_KEPT)
#define ROTATE_BYTES_MIN ((uint64_t)16 << 10)

/* A store whose process died, and of whose last extent most is garbage. */
static void
begin_torn(void)
{
    static uint8_t garbage[TORN_LOST * TORN_SLOT_BYTES];
    char name[FORMAT_NAME_MAX];

    for (size_t i = 0; i < sizeof(garbage); i++)
        garbage[i] = (uint8_t)i;
    (void)life_teardown(NULL);
    (void)life_setup(NULL);
    assert_int_equal(life_put(TORN_CHAIN, TORN_PAGES, TORN_PAGE_BYTES), TORN_PAGES);
    assert_int_equal(varve_sync(life.store, &life.err),
                     VARVE_OK); /* else a power failure might take the whole segment */
    life_kill();
    assert_true(store_file_find(life.disk, ".seg", name));
    store_file_patch(life.disk, name,
                     life_extent_offset(LIFE_CHAINS + 1) + extent_header_size(TORN_PAGES, true, 9) +
                         (uint64_t)TORN_KEPT * TORN_SLOT_BYTES,
                     garbage, sizeof(garbage));
    life.capacity = "4M"; /* for a small manifest */
}

/* The index is built anew from the log alone. The torn pages are not there, so that they can be put. */
static void
require_torn_gone(uint64_t change)
{
    lose_run();
    life_must_open();
    assert_int_equal(life_stat("recovered_runs_lost"), 1);
    assert_int_equal(life_stat("recovered_torn_pages"), 0);
    if (life_listed(TORN_CHAIN, TORN_PAGES) != TORN_KEPT)
        fail_msg("stopped at change %llu: torn pages are listed", (unsigned long long)change);
    assert_int_equal(life_stat("recovered_pages"), LIFE_ALL + TORN_KEPT);
    assert_int_equal(life_get(TORN_CHAIN, TORN_PAGES, TORN_PAGE_BYTES), TORN_KEPT);
    assert_int_equal(life_put(TORN_CHAIN, TORN_PAGES, TORN_PAGE_BYTES), TORN_PAGES);
    assert_int_equal(life_get(TORN_CHAIN, TORN_PAGES, TORN_PAGE_BYTES), TORN_PAGES);
    assert_int_equal(life_pages_right(), LIFE_ALL);
}

/* What a recovery found torn is not found again in a segment that is sealed since, and trusted: wherever that recovery was stopped. */
static void
test_torn_stays_gone(void **state)
{
    (void)state;
    for (uint64_t change = 1;; change++) {
        bool stopped;

        begin_torn();
        sim_disk_crash_after(life.disk, change);
        (void)life_open();
        stopped = life.disk->stopped;
        if (stopped) {
            if (life.store != NULL)
                life_kill();
            sim_disk_crash(life.disk, change % 2 == 0 ? SIM_CRASH_POWER : SIM_CRASH_KILL, change);
            life_must_open();
        } else {
            assert_int_equal(life_stat("recovered_torn_pages"), TORN_LOST);
            assert_true(life_stat("manifest_bytes_written") > 2 * ROTATE_BYTES_MIN);
        }
        assert_int_equal(life_listed(TORN_CHAIN, TORN_PAGES), TORN_KEPT);
        sim_disk_crash_after(life.disk, 0);
        life_must_close();
        require_torn_gone(change);
        if (!stopped)
            return;
    }
}

#define FAILED_PAGES 250 /* of LIFE_PAGE_BYTES: two writes, the one with the header last */

/* A put whose first write fails, and then what else may; returns the status of its pages. */
static int
failing_put(bool manifest_fails)
{
    static varve_page pages[FAILED_PAGES];
    static struct iovec iov[FAILED_PAGES];
    static uint8_t data[LIFE_PAGE_BYTES];

    memset(data, 0x5a, sizeof(data));
    for (uint32_t i = 0; i < FAILED_PAGES; i++) {
        iov[i] = (struct iovec){data, sizeof(data)};
        pages[i] = (varve_page){.id = life_page_id(TORN_CHAIN, i), .iov = &iov[i], .iov_count = 1};
    }
    store_fault(life.disk, SIM_OP_WRITE, "*.seg", EIO, 0, 1);
    store_fault(life.disk, SIM_OP_WRITE, "*.seg", EIO, 1, 1); /* behind the header: taking that away */
    if (manifest_fails)
        store_fault(life.disk, SIM_OP_WRITE, "*.manifest", EIO, 0, 1);
    assert_int_equal(varve_put_batch(life.store, life.ns, NULL, pages, FAILED_PAGES, 0, &life.err), VARVE_OK);
    assert_int_equal(life.disk->faults_hit, manifest_fails ? 3 : 2);
    sim_disk_faults_clear(life.disk);
    return pages[FAILED_PAGES - 1].status;
}

/* The header of a put that failed stays in the log when the device does not let it be taken away. Its pages do not come back with it. */
static void
test_failed_put(void **state)
{
    uint64_t torn = 0, listed;

    (void)state;
    for (int lost = 0; lost <= 1; lost++) {
        (void)life_teardown(NULL);
        (void)life_setup(NULL);
        assert_int_equal(failing_put(false), VARVE_E_IO);
        assert_int_equal(life_listed(TORN_CHAIN, FAILED_PAGES), 0);
        assert_int_equal(varve_sync(life.store, &life.err), VARVE_OK);
        assert_int_equal(life_put(TORN_CHAIN + 1, 1, 100), 1); /* says that all before it is durable */
        if (lost)
            life_must_close();
        else
            life_kill();
        if (lost)
            lose_run();
        life_must_open();
        assert_int_equal(life_listed(TORN_CHAIN, FAILED_PAGES), 0);
        assert_int_equal(life_put(TORN_CHAIN, FAILED_PAGES, LIFE_PAGE_BYTES), FAILED_PAGES);
        assert_int_equal(life_get(TORN_CHAIN, FAILED_PAGES, LIFE_PAGE_BYTES), FAILED_PAGES);
        assert_int_equal(life_pages_right(), LIFE_ALL);
    }
    for (uint32_t tries = 0; torn == 0;
         tries++) { /* writes that fail may have arrived: all pages, or what takes the header away */
        assert_true(tries < 8);
        (void)life_teardown(NULL);
        (void)life_setup(NULL);
        for (uint32_t i = 1; i <= tries; i++)
            assert_int_equal(life_put(TORN_CHAIN + i, 1, 100), 1);
        assert_int_equal(failing_put(true), VARVE_E_IO);
        assert_int_equal(life_stat("read_only"), 1);
        life_kill();
        life_must_open(); /* and verifies all of them, since nothing was synced any more */
        torn = life_stat("recovered_torn_pages");
        listed = life_listed(TORN_CHAIN, FAILED_PAGES);
        assert_true(listed == FAILED_PAGES - torn || (torn == 0 && listed == 0));
        assert_int_equal(life_pages_right(), LIFE_ALL);
    }
}

#define HEADER_DEPTH 68 /* of an extent */

/* Depths that a header may have, and more: with a page torn, so that what is behind it begins an entry, and with pages put behind the last one. */
static void
test_greatest_depths(void **state)
{
    static const uint32_t below[] = {
        0, 1, ENTRY_PAGES_MAX, ENTRY_PAGES_MAX + 1, 2 * ENTRY_PAGES_MAX, 2 * ENTRY_PAGES_MAX + 1};

    (void)state;
    for (size_t i = 0; i < sizeof(below) / sizeof(below[0]); i++) {
        varve_id parent = life_page_id(1, LIFE_PAGES - 1);
        static uint8_t data[LIFE_PAGE_BYTES];
        struct iovec iov = {data, sizeof(data)};
        varve_page page = {.id = life_page_id(1, LIFE_PAGES), .iov = &iov, .iov_count = 1};
        char name[FORMAT_NAME_MAX];

        life_begin_again();
        life_edit_header(1, HEADER_DEPTH, 4, UINT32_MAX - below[i]);
        assert_true(store_file_find(life.disk, ".seg", name));
        store_file_patch(life.disk, name, life_extent_offset(1) + LIFE_HEADER_BYTES + 5120, "torn", 4);
        life_must_open();
        assert_int_equal(life_listed(1, LIFE_PAGES), below[i] < 2 * ENTRY_PAGES_MAX ? 0 : LIFE_PAGES - 1);
        assert_int_equal(varve_put_batch(life.store, life.ns, &parent, &page, 1, 0, &life.err), VARVE_OK);
        assert_int_equal(page.status, VARVE_OK);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_crash_in_replay, life_setup_killed, life_teardown),
        cmocka_unit_test_setup_teardown(test_branches, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_lost_run, life_setup_killed, life_teardown),
        cmocka_unit_test_setup_teardown(test_unread_run, life_setup_killed, life_teardown),
        cmocka_unit_test_setup_teardown(test_torn_stays_gone, life_setup_killed, life_teardown),
        cmocka_unit_test_setup_teardown(test_failed_put, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_greatest_depths, life_setup_killed, life_teardown),
    };

    return cmocka_run_group_tests_name("replay", tests, NULL, NULL);
}
