/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capacity, on the simulated disk: what a failed segment had taken comes back, bytes that readers of a dropped segment hold are not given
 * out, and of a chain the tail goes first.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "store_life.h"

#define CHAIN      (LIFE_CHAINS + 1)
#define PAGES      1000 /* more than two segments */
#define PAGE_BYTES 5000

static void
make_sealed_segments(void)
{
    int rc;

    assert_int_equal(life_put(CHAIN, PAGES, PAGE_BYTES), PAGES);
    log_close_open(life.store->log);
    do
        rc = log_seal(life.store->log, &life.err);
    while (rc == VARVE_OK);
    assert_int_equal(rc, VARVE_MISS);
}

/* A segment that cannot be made, at whatever step, costs nothing; the next one can be made. */
static void
test_failed_segment(void **state)
{
    static const struct {
        unsigned op;
        const char *glob;
    } cases[] = {
        {SIM_OP_CREATE, "*.seg"},
        {SIM_OP_PREALLOCATE, "*.seg"},
        {SIM_OP_WRITE, "*.seg"},
    };

    (void)state;
    make_sealed_segments();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t used = space_used(life.store);
        struct iovec iov = {&used, sizeof(used)};
        varve_page page = {.id = life_page_id(CHAIN + 1, (uint32_t)i), .iov = &iov, .iov_count = 1};

        store_fault(life.disk, cases[i].op, cases[i].glob, EIO, 0, 1);
        assert_int_equal(varve_put_batch(life.store, life.ns, NULL, &page, 1, 0, &life.err), VARVE_OK);
        assert_int_equal(page.status, VARVE_E_IO);
        assert_int_equal(life.disk->faults_hit, i + 1);
        sim_disk_faults_clear(life.disk);
        assert_true(space_used(life.store) == used);
    }
    assert_int_equal(life_put(CHAIN + 2, 1, PAGE_BYTES), 1);
}

/* One that cannot be made, and not be taken away either, keeps its space. */
static void
test_failed_segment_stays(void **state)
{
    uint64_t used;
    struct iovec iov = {&used, sizeof(used)};
    varve_page page = {.id = life_page_id(CHAIN + 3, 0), .iov = &iov, .iov_count = 1};

    (void)state;
    make_sealed_segments();
    used = space_used(life.store);
    store_fault(life.disk, SIM_OP_WRITE, "*.seg", EIO, 0, 1);
    store_fault(life.disk, SIM_OP_UNLINK, "*.seg", EIO, 0, 1);
    assert_int_equal(varve_put_batch(life.store, life.ns, NULL, &page, 1, 0, &life.err), VARVE_OK);
    assert_int_equal(page.status, VARVE_E_IO);
    assert_int_equal(life.disk->faults_hit, 2);
    sim_disk_faults_clear(life.disk);
    assert_true(space_used(life.store) >= used + life.store->segment_bytes);
}

/* Memory that cannot be had while a segment is made, the one for which the table has to grow included, costs no space. */
static void
test_segment_without_memory(void **state)
{
    uint64_t nth = 0, failures = 0;

    (void)state;
    life_must_close();
    life.options[0][0] = "segment_bytes";
    life.options[0][1] = "64K";
    life_must_open();
    for (uint32_t i = 0; life_stat("segments") < 70; i++, nth++) {
        uint64_t used, segments;
        struct iovec iov = {&used, sizeof(used)};
        varve_page page = {.id = life_page_id(CHAIN, i), .iov = &iov, .iov_count = 1};

        assert_true(i < 10000);
        log_close_open(life.store->log);
        while (log_seal(life.store->log, &life.err) == VARVE_OK)
            continue;
        used = space_used(life.store);
        segments = life_stat("segments");
        store_fault(life.disk, SIM_OP_ALLOC, NULL, ENOMEM, nth, 1);
        assert_int_equal(varve_put_batch(life.store, life.ns, NULL, &page, 1, 0, &life.err), VARVE_OK);
        sim_disk_faults_clear(life.disk);
        if (page.status == VARVE_OK)
            nth = UINT64_MAX; /* from the first one again, for the next segment */
        else
            failures++;
        if (life_stat("segments") == segments)
            assert_true(space_used(life.store) == used);
        if (store_writable(life.store, &life.err) != VARVE_OK) { /* the manifest's write was it */
            life_kill();
            life_must_open();
        }
    }
    assert_true(failures > 70);
    memset(life.options, 0, sizeof(life.options));
}

static void
test_readers_hold_space(void **state)
{
    struct segment *segment;
    uint64_t used, room;

    (void)state;
    make_sealed_segments();
    for (uint64_t number = 1; (segment = log_acquire(life.store->log, number)) == NULL; number++)
        assert_true(number < 100);
    do
        assert_int_equal(reclaim_drop_one(life.store, &life.err), VARVE_OK);
    while (log_segment_state(life.store->log, segment->number) != SEGMENT_GONE);
    while (reclaim_drop_one(life.store, &life.err) == VARVE_OK)
        continue; /* nothing else can be dropped to make room */
    while (space_remove_kept(life.store))
        continue;
    used = space_used(life.store);
    room = life.store->space.capacity - used;
    assert_true(used > segment->bytes);
    assert_int_equal(space_take_for_index(life.store, room + 1, &life.err),
                     VARVE_E_NOSPC); /* after a second's wait for the reader */
    assert_true(space_used(life.store) == used);

    log_release(life.store->log, segment);
    assert_int_equal(space_take_for_index(life.store, room + 1, &life.err), VARVE_OK);
    space_give_back(life.store, room + 1);
}

/* What is probed or touched last is not enough: of one chain, the head has to stay longest. */
static void
test_tail_goes_first(void **state)
{
    static varve_id ids[PAGES];

    (void)state;
    make_sealed_segments();
    for (uint32_t i = 0; i < PAGES; i++)
        ids[i] = life_page_id(CHAIN, i);
    for (int64_t found, before = PAGES;; before = found) {
        assert_int_equal(varve_probe(life.store, life.ns, ids, PAGES, NULL, &life.err), before);
        if (before == 0)
            break;
        while ((found = varve_probe(life.store, life.ns, ids, PAGES, NULL, &life.err)) == before)
            assert_int_equal(reclaim_drop_one(life.store, &life.err), VARVE_OK);
        assert_true(before < PAGES || found > 0); /* there is more than one segment of it */
    }
}

/* The room of the manifest is a part of the capacity: it becomes smaller with that, and a low one can be reached. */
static void
test_manifest_follows_capacity(void **state)
{
    static const char *const capacities[] = {"4M", "256M", "5M"};

    life_teardown(state);
    life.capacity = "256M";
    life_setup(state);
    for (size_t i = 0; i < sizeof(capacities) / sizeof(capacities[0]); i++) {
        uint64_t others = space_used(life.store) - life.store->manifest_share, most;

        store_fault(life.disk, SIM_OP_CREATE, "*.manifest", EIO, 0, 1); /* then background work does it */
        assert_int_equal(varve_option_set(life.store, "capacity", capacities[i], &life.err), VARVE_OK);
        while (store_tick(life.store))
            continue;
        sim_disk_faults_clear(life.disk);
        most = life_stat("capacity_bytes");
        assert_true(life.store->manifest_share <= most / 32);
        assert_int_equal(space_used(life.store), others + life.store->manifest_share);
        assert_true(sim_disk_used(life.disk) <= space_used(life.store) && space_used(life.store) <= most);
        assert_int_equal(life_pages_right(), LIFE_ALL);
        assert_int_equal(varve_remove_batch(life.store, life.ns, &(varve_id){{9}}, 1, &life.err), 0);
    }
    life_must_close();
    life_must_open();
    assert_int_equal(life_pages_right(), LIFE_ALL);
}

static void
flush(void)
{
    assert_int_equal(varve_sync(life.store, &life.err), VARVE_OK);
    mutex_lock(&life.store->write_lock);
    assert_int_equal(store_rotate(life.store), VARVE_OK);
    mutex_unlock(&life.store->write_lock);
    assert_int_equal(index_flush(life.store->index, &life.err), VARVE_OK);
}

/*
 * A segment with pages of two namespaces; those of one were in a run when the process died, so recovery counts only the other's. When that one is
 * cleared, the segment is not dead.
 */
static void
test_not_dead(void **state)
{
    varve_namespace *ns = life.ns, *other;

    (void)state;
    flush();
    assert_int_equal(varve_namespace_open(life.store, "other", NULL, &other, &life.err), VARVE_OK);
    life.ns = other;
    assert_int_equal(life_put(CHAIN, LIFE_PAGES, LIFE_PAGE_BYTES), LIFE_PAGES);
    life.ns = ns;
    life_kill();
    life_must_open();
    assert_int_equal(life_stat("recovered_pages"), LIFE_PAGES);
    assert_int_equal(varve_namespace_open(life.store, "other", NULL, &other, &life.err), VARVE_OK);
    assert_int_equal(varve_namespace_clear(life.store, other, &life.err), VARVE_OK);
    while (store_tick(life.store))
        continue;
    assert_null(life.store->reclaim_job);
    assert_int_equal(life_stat("segments_dropped"), 0);
    assert_int_equal(life_pages_right(), LIFE_ALL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_failed_segment, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_failed_segment_stays, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_segment_without_memory, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_readers_hold_space, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_tail_goes_first, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_manifest_follows_capacity, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_not_dead, life_setup, life_teardown),
    };

    return cmocka_run_group_tests_name("space", tests, NULL, NULL);
}
