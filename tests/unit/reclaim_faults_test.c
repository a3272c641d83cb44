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
#include "store_churn.h"

/* Segments go without copying while that fails; afterwards live pages are copied as ever. */
static void
test_copying_goes_on_after_failures(void **state)
{
    uint64_t dropped, copied;

    (void)state;
    churn_fill();
    churn_begin_job();
    dropped = life_stat("segments_dropped");
    store_fault(life.disk, SIM_OP_READ, "*.seg", EIO, 0, 0);
    for (int tries = 0; life_stat("segments_dropped") == dropped; tries++) {
        assert_true(tries < 100);
        (void)reclaim_work(life.store, &life.err);
    }
    sim_disk_faults_clear(life.disk);
    copied = life_stat("survivor_pages");
    churn(2 * CAPACITY, true);
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
    churn_fill();
    life_must_close(); /* closes them, too */
    life_must_open();
    while (delete_segment_file())
        continue;
    for (uint32_t i = 0; i < 2 * CAPACITY / CHAIN_BYTES; i++) {
        for (uint32_t hot = 0; hot < HOT_CHAINS; hot++)
            (void)churn_probe(HOT + hot, 0, CHAIN_PAGES);
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

    churn_begin_job();
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
        churn_fill();
        copy_some();
        ways[i]();
        assert_int_equal(log_unsynced_bytes(life.store->log), 0);
        churn_teardown(state);
        churn_setup(state);
    }
}

/* What a put finds stored and acknowledges is still there when it returns, whatever had to go for its new pages. */
static void
test_put_keeps_what_it_found(void **state)
{
    static uint8_t data[PAGE_BYTES];
    static struct iovec iov = {data, PAGE_BYTES};
    static varve_page pages[LIFE_BATCH_MAX];
    uint32_t count = (uint32_t)(CAPACITY / 2 / PAGE_BYTES);

    (void)state;
    for (uint32_t cold = COLD; space_used(life.store) < CAPACITY / 4 * 3; cold++)
        assert_int_equal(life_put(cold, CHAIN_PAGES, PAGE_BYTES), CHAIN_PAGES);
    while (log_seal(life.store->log, &life.err) == VARVE_OK)
        continue;
    assert_int_equal(life_stat("segments_dropped"), 0);
    assert_int_equal(life_listed(1, LIFE_PAGES), LIFE_PAGES);
    mutex_lock(&life.store->recency.lock);
    (void)heat_clock(life.store->recency.heat, 100);
    heat_shrink(life.store->recency.heat, UINT64_MAX);
    mutex_unlock(&life.store->recency.lock);
    for (uint32_t i = 0; i < count; i++)
        pages[i] = (varve_page){
            .id = i < LIFE_PAGES ? life_page_id(1, i) : life_page_id(COLD / 2, i), .iov = &iov, .iov_count = 1};
    assert_int_equal(varve_put_batch(life.store, life.ns, NULL, pages, count, 0, &life.err), VARVE_OK);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(pages[i].status, VARVE_OK);
    assert_true(life_stat("segments_dropped") > 0);
    assert_int_equal(life_listed(1, LIFE_PAGES), LIFE_PAGES);
}

/* A chain of which a call reads all, and others use the head all the time, is used to its end. */
static void
test_gets_count_as_use(void **state)
{
    (void)state;
    assert_int_equal(life_put(COLD / 2, CHAIN_PAGES, PAGE_BYTES), CHAIN_PAGES);
    for (uint64_t at = 0; at < 4 * CAPACITY; at += CHAIN_BYTES) {
        churn(CHAIN_BYTES, true);
        assert_int_equal(churn_probe(COLD / 2, 0, 1), 1);
        assert_int_equal(life_get(COLD / 2, CHAIN_PAGES, PAGE_BYTES), CHAIN_PAGES);
    }
}

static uint64_t
oldest_segment(void)
{
    struct segment *segment = log_find_oldest(life.store->log);
    uint64_t number = segment == NULL ? UINT64_MAX : segment->number;

    if (segment != NULL)
        log_release(life.store->log, segment);
    return number;
}

/* While somebody waits for the device: every segment that there is gets reclaimed. */
static bool
reclaim_meanwhile(void)
{
    uint64_t next = life.store->manifest == NULL ? 0 : manifest_new_number(life.store->manifest);

    life.disk->idle = NULL;
    while (oldest_segment() < next && reclaim_work(life.store, &life.err) == VARVE_OK)
        continue;
    return true;
}

static uint32_t
get_hot(uint32_t chain)
{
    return life_get(chain, CHAIN_PAGES, PAGE_BYTES);
}

static uint32_t
probe_hot(uint32_t chain)
{
    return (uint32_t)churn_probe(chain, 0, CHAIN_PAGES);
}

static uint32_t
list_hot(uint32_t chain)
{
    return life_listed(chain, CHAIN_PAGES);
}

static uint32_t
touch_hot(uint32_t chain)
{
    varve_id ids[CHAIN_PAGES];

    for (uint32_t i = 0; i < CHAIN_PAGES; i++)
        ids[i] = life_page_id(chain, i);
    return (uint32_t)varve_touch(life.store, life.ns, ids, CHAIN_PAGES, &life.err);
}

/* A page that is moved while somebody looks for it is found. */
static void
test_moved_while_looked_for(void **state)
{
    static uint32_t (*const calls[])(uint32_t chain) = {get_hot, probe_hot, list_hot, touch_hot};

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        uint32_t found, moved = 0;

        churn_fill();
        for (uint32_t chain = HOT; chain < HOT + HOT_CHAINS; chain++) {
            uint64_t copied;

            life_must_close(); /* lets go of the index blocks in memory: they are read again */
            life_must_open();
            copied = life_stat("survivor_pages");
            life.disk->idle = reclaim_meanwhile;
            found = calls[i](chain);
            life.disk->idle = NULL;
            assert_int_equal(found, life_listed(chain, CHAIN_PAGES));
            moved += life_stat("survivor_pages") > copied ? found : 0;
            churn(CAPACITY / 4, true);
        }
        assert_true(moved > 0);
        churn_teardown(state);
        churn_setup(state);
    }
}

/* Before something is read, when removals would not have to wait: the next page of each hot chain is removed. */
static uint32_t next_removed;
static const struct env_ops *plain_ops;

static void
remove_and_submit(struct env_queue *queue, struct env_io *io)
{
    static bool removing;
    varve_id ids[HOT_CHAINS];

    if (io->op == ENV_OP_READ && !removing && next_removed < CHAIN_PAGES &&
        pthread_mutex_trylock(&life.store->moves_lock.native) == 0) {
        mutex_unlock(&life.store->moves_lock);
        for (uint32_t i = 0; i < HOT_CHAINS; i++)
            ids[i] = life_page_id(HOT + i, next_removed);
        next_removed++;
        removing = true;
        assert_true(varve_remove_batch(life.store, life.ns, ids, HOT_CHAINS, &life.err) >= 0);
        removing = false;
    }
    plain_ops->submit(queue, io);
}

/* A page that is removed while others, or itself, are copied is not brought back. */
static void
test_removed_while_copied(void **state)
{
    struct env_ops ops;

    (void)state;
    churn_fill();
    plain_ops = life.store->env->ops;
    ops = *plain_ops;
    ops.submit = remove_and_submit;
    next_removed = 0;
    for (int jobs = 0; next_removed < CHAIN_PAGES; jobs++) {
        assert_true(jobs < 100);
        churn_begin_job();
        life.store->env->ops = &ops;
        while (life.store->reclaim_job != NULL)
            (void)reclaim_work(life.store, &life.err);
        life.store->env->ops = plain_ops;
        for (uint32_t i = 0; i < HOT_CHAINS; i++)
            assert_int_equal(life_listed(HOT + i, next_removed), 0);
    }
    life_kill();
    life_must_open();
    for (uint32_t i = 0; i < HOT_CHAINS; i++)
        assert_int_equal(life_listed(HOT + i, CHAIN_PAGES), 0);
}

/* A file system that has no room for a run, whatever it said: segments make some, without a put that asks for it. */
static void
test_run_finds_disk_full(void **state)
{
    uint64_t dropped, errors;

    (void)state;
    churn_fill();
    mutex_lock(&life.store->write_lock);
    assert_int_equal(store_rotate(life.store), VARVE_OK);
    mutex_unlock(&life.store->write_lock);
    dropped = life_stat("segments_dropped");
    errors = life_stat("background_errors");
    store_fault(life.disk, SIM_OP_WRITE, "*.run", ENOSPC, 0, 2);
    assert_true(index_frozen_count(life.store->index) > 0);
    churn_work();
    assert_int_equal(life.disk->faults_hit, 2);
    assert_int_equal(index_frozen_count(life.store->index), 0);
    assert_int_equal(life_stat("background_errors"), errors);
    assert_true(life_stat("segments_dropped") > dropped);
}

/* The index leaves room for the copies of live pages while something can be reclaimed into that: else the next victim could not be emptied. */
static void
test_index_leaves_room(void **state)
{
    uint64_t segment = life.store->segment_bytes + LOG_BLOCK_BYTES, room, dropped;
    struct log_file file = {.bytes = 0};

    (void)state;
    churn_fill();
    log_close_open(life.store->log);
    room = CAPACITY - space_used(life.store);
    dropped = life_stat("segments_dropped");
    assert_int_equal(space_take_for_index(life.store, room, &life.err), VARVE_OK);
    assert_true(life_stat("segments_dropped") > dropped);
    assert_int_equal(space_take_for_survivors(life.store, segment, &file, &life.err), VARVE_OK);
    space_give_back(life.store, room + segment);
}

/* Segments that cannot be made keep nobody from syncing what was put. */
static void
test_sync_goes_on(void **state)
{
    (void)state;
    for (uint32_t cold = COLD; !log_has_work(life.store->log); cold++)
        assert_int_equal(life_put(cold, 1, PAGE_BYTES), 1);
    assert_true(log_unsynced_bytes(life.store->log) > 0);
    store_fault(life.disk, SIM_OP_CREATE, "*.seg", EIO, 0, 0);
    sim_disk_advance(life.disk, UINT64_C(10000000000));
    for (int i = 0; i < 3; i++)
        (void)store_tick(life.store);
    assert_true(life.disk->faults_hit > 0);
    assert_int_equal(log_unsynced_bytes(life.store->log), 0);
    sim_disk_faults_clear(life.disk);
}

/* Opened with less room, a store keeps what is used, and is never larger than its capacity once it has come down to that. */
static void
test_opened_with_less_room(void **state)
{
    (void)state;
    churn_fill();
    life_must_close();
    life.options[0][1] = "4M";
    life_must_open();
    assert_int_equal(life_stat("reclaim_lost_bytes"), 0);
    assert_true(sim_disk_used(life.disk) <= CAPACITY / 2);
    assert_int_equal(space_ceiling(life.store), CAPACITY / 2);
    assert_int_equal(churn_hot_right(), HOT_PAGES);
}

/* While the capacity is being lowered survivors may take more than that, and afterwards not. */
static void
test_ceiling_comes_down(void **state)
{
    (void)state;
    churn_fill();
    assert_int_equal(varve_option_set(life.store, "capacity", "6M", &life.err), VARVE_OK);
    churn_work();
    assert_true(space_used(life.store) <= (uint64_t)6 << 20);
    assert_int_equal(space_ceiling(life.store), (uint64_t)6 << 20);
}

/* Where files cannot be removed, few segments are dropped for room that does not come: then puts fail, and what is stored stays. */
static void
test_files_that_stay(void **state)
{
    uint64_t dropped;

    (void)state;
    churn_fill();
    dropped = life_stat("segments_dropped");
    store_fault(life.disk, SIM_OP_UNLINK, "*.seg", EIO, 0, 0);
    for (int i = 0; i < 1000 && store_writable(life.store, NULL) == VARVE_OK; i++)
        (void)reclaim_work(life.store, NULL);
    assert_in_range(life_stat("segments_dropped"), dropped + 3, dropped + 3 + KEPT);
    assert_int_equal(store_writable(life.store, NULL), VARVE_E_READONLY);
    assert_int_equal(churn_hot_right(), HOT_PAGES);
    sim_disk_faults_clear(life.disk);
    life_kill();
    life_must_open();
    assert_int_equal(churn_hot_right(), HOT_PAGES);
    churn(CAPACITY / 4, true);
}

/* One that stays now and then makes nothing fail. */
static void
test_file_that_stays(void **state)
{
    (void)state;
    churn_fill();
    for (int i = 0; i < 5; i++) {
        uint64_t hit = life.disk->faults_hit;

        store_fault(life.disk, SIM_OP_UNLINK, "*.seg", EIO, 0, 2);
        while (life.disk->faults_hit < hit + 2)
            churn(CAPACITY / 16, true);
        churn(CAPACITY / 8, true);
        sim_disk_faults_clear(life.disk);
    }
    assert_int_equal(store_writable(life.store, NULL), VARVE_OK);
}

/* A store that was killed, opened with less room: what was put last, which the replay has yet to find, is not what goes first. */
static void
test_killed_and_opened_with_less_room(void **state)
{
    (void)state;
    churn_fill();
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(life_put(COLD / 2 + i, LIFE_BATCH_MAX, 1), LIFE_BATCH_MAX);
    life_kill();
    life.options[0][1] = "4M";
    life_must_open();
    assert_true(sim_disk_used(life.disk) <= CAPACITY / 2);
    for (uint32_t i = 3; i < 6; i++)
        assert_int_equal(life_get(COLD / 2 + i, LIFE_BATCH_MAX, 1), LIFE_BATCH_MAX);
}

/* The recency of a chain that is longer than there are values to tell its pages apart. */
static void
test_long_chain_is_loaded(void **state)
{
    static varve_page pages[LIFE_BATCH_MAX];
    static char byte[1];
    struct iovec iov = {byte, sizeof(byte)};

    churn_teardown(state);
    life.options[0][0] = "capacity";
    life.options[0][1] = "256M";
    (void)life_setup(state);
    for (uint32_t at = 0; at < 120000; at += LIFE_BATCH_MAX) {
        varve_id parent = life_page_id(COLD, at - 1);

        for (uint32_t i = 0; i < LIFE_BATCH_MAX; i++)
            pages[i] = (varve_page){.id = life_page_id(COLD, at + i), .iov = &iov, .iov_count = 1};
        assert_int_equal(
            varve_put_batch(life.store, life.ns, at == 0 ? NULL : &parent, pages, LIFE_BATCH_MAX, 0, &life.err),
            VARVE_OK);
        assert_int_equal(pages[0].status, VARVE_OK);
    }
    life_kill();
    life_must_open();
    churn_work();
    assert_false(life.store->recency.missing);
    assert_int_equal(life_listed(COLD, LIFE_BATCH_MAX), LIFE_BATCH_MAX);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_copying_goes_on_after_failures, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_segments_without_files, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_copies_are_durable_first, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_put_keeps_what_it_found, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_gets_count_as_use, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_moved_while_looked_for, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_removed_while_copied, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_run_finds_disk_full, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_index_leaves_room, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_sync_goes_on, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_opened_with_less_room, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_ceiling_comes_down, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_files_that_stay, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_file_that_stays, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_killed_and_opened_with_less_room, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_long_chain_is_loaded, churn_setup, churn_teardown),
    };

    return cmocka_run_group_tests_name("reclaim_faults", tests, NULL, NULL);
}
