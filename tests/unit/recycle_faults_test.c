/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of dropped segments where things go wrong: they can be neither renamed nor removed, they are larger than what is to be written over them, the file system has less room
 * than it says, and the power fails around a drop.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "log/log_private.h"
#include "store/calls.h"
#include "store_churn.h"
#include "store_files.h"

#define CHAINS_MAX (COLD + 1000)

/* The environment of the store, but for one call. */
static const struct env_ops *plain_ops;
static struct env_ops hooked_ops;

static void
hook_begin(void)
{
    plain_ops = life.store->env->ops;
    hooked_ops = *plain_ops;
    life.store->env->ops = &hooked_ops;
}

static void
hook_end(void)
{
    life.store->env->ops = plain_ops;
}

/* Put a cold chain, whatever comes of it. How many of its pages are stored. */
static uint32_t
put_any(uint32_t chain)
{
    static uint8_t data[PAGE_BYTES];
    const struct iovec iov = {data, sizeof(data)};
    varve_page pages[CHAIN_PAGES];
    uint32_t stored = 0;

    for (uint32_t i = 0; i < CHAIN_PAGES; i++)
        pages[i] = (varve_page){.id = life_page_id(chain, i), .iov = &iov, .iov_count = 1};
    (void)varve_put_batch(life.store, life.ns, NULL, pages, CHAIN_PAGES, 0, NULL);
    for (uint32_t i = 0; i < CHAIN_PAGES; i++)
        stored += pages[i].status == VARVE_OK;
    return stored;
}

static void
keep_files(uint32_t count)
{
    for (int tries = 0; life.store->log->kept_count < count; tries++) {
        assert_true(tries < 1000);
        (void)reclaim_work(life.store, NULL);
    }
}

/* A directory that nothing can be done in any more: files that are open could still be written to, but what is dropped makes no room. */
static void
test_directory_cannot_be_changed(void **state)
{
    static const unsigned ops[] = {SIM_OP_RENAME | SIM_OP_UNLINK | SIM_OP_CREATE, SIM_OP_RENAME | SIM_OP_UNLINK};

    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        uint64_t dropped;

        churn_fill();
        dropped = life_stat("segments_dropped");
        store_fault(life.disk, ops[i], "*.seg", EACCES, 0, 0);
        for (uint32_t puts = 0; puts < 400 && store_writable(life.store, NULL) == VARVE_OK; puts++)
            (void)put_any(COLD + 90000 + puts);
        assert_int_equal(store_writable(life.store, NULL), VARVE_E_READONLY);
        assert_in_range(life_stat("segments_dropped"), dropped, dropped + KEPT + 1);
        assert_int_equal(churn_hot_right(), HOT_PAGES);
        sim_disk_faults_clear(life.disk);
        churn_teardown(state);
        churn_setup(state);
    }
}

/* The same for what the index needs, and an error that may go away: not for ever. */
static void
test_files_stay(void **state)
{
    uint64_t dropped;
    int rc = VARVE_OK;

    (void)state;
    churn_fill();
    dropped = life_stat("segments_dropped");
    store_fault(life.disk, SIM_OP_UNLINK, "*.seg", EIO, 0, 0);
    for (int i = 0; i < 8 && rc == VARVE_OK; i++)
        rc = space_take_for_index(life.store, (uint64_t)256 << 10, NULL);
    assert_int_equal(rc, VARVE_E_READONLY);
    assert_in_range(life_stat("segments_dropped"), dropped, dropped + KEPT + 3);
    assert_int_equal(churn_hot_right(), HOT_PAGES);
    sim_disk_faults_clear(life.disk);
}

/* Files that stay keep their room: the directory never has more than it may. */
static void
test_room_of_files_that_stay(void **state)
{
    (void)state;
    churn_fill();
    life.disk->used_max = 0;
    for (uint32_t i = 0; i < 8; i++) {
        store_fault(life.disk, SIM_OP_RENAME | SIM_OP_UNLINK, "*.seg", EIO, 0, 2);
        for (uint32_t puts = 0; life.disk->faults_hit < 2 * (i + 1); puts++) {
            assert_true(puts < 1000);
            assert_int_equal(put_any(COLD + 80000 + i * 1000 + puts), CHAIN_PAGES);
            (void)store_tick(life.store);
            assert_true(space_used(life.store) <= CAPACITY);
        }
        sim_disk_faults_clear(life.disk);
        churn(CAPACITY / 8, true);
    }
    assert_true(life.disk->used_max <= CAPACITY);
    assert_int_equal(store_writable(life.store, NULL), VARVE_OK);
    assert_int_equal(churn_hot_right(), HOT_PAGES);
}

static int
rename_within_accounts(struct env *env, const char *from, const char *to)
{
    assert_true(sim_disk_used(life.disk) <= space_used(life.store));
    return plain_ops->rename(env, from, to);
}

/* A file has its length until it is open under its new name: a larger one than is needed is not written over. */
static void
test_larger_files(void **state)
{
    (void)state;
    churn_fill();
    hook_begin();
    hooked_ops.rename = rename_within_accounts;
    for (uint32_t i = 0; i < 24; i++) { /* a segment each */
        assert_int_equal(life_put(COLD + 70000 + i, 1, 1 << 20), 1);
        churn_work();
    }
    for (uint32_t i = 0; i < 200; i++) {
        assert_int_equal(put_any(COLD + 71000 + i), CHAIN_PAGES);
        churn_work();
    }
    hook_end();
    assert_true(life.disk->used_max <= CAPACITY);
}

/* Which file is the next one does not change when another that was claimed goes. */
static void
test_order(void **state)
{
    struct log_file first, second;
    uint64_t next;

    (void)state;
    churn_fill();
    keep_files(3);
    next = life.store->log->kept[1].file.number;
    first = log_file_claim(life.store->log);
    assert_int_equal(log_file_remove(life.store->log, &first), 0);
    second = log_file_claim(life.store->log);
    assert_int_equal(second.number, next);
    assert_int_equal(log_file_remove(life.store->log, &second), 0);
    life.store->space.kept -= first.bytes + second.bytes;
}

/* Where the file system has less than it says: what is kept goes first, and then what was dropped is not kept. */
static void
test_squeeze(void **state)
{
    uint64_t dropped, used;

    (void)state;
    churn_fill();
    keep_files(2);
    dropped = life_stat("segments_dropped");
    used = sim_disk_used(life.disk);
    assert_int_equal(space_squeeze(life.store, life.store->segment_bytes), VARVE_OK);
    assert_int_equal(life_stat("segments_dropped"), dropped);
    assert_true(sim_disk_used(life.disk) + 2 * life.store->segment_bytes <= used);
    used = sim_disk_used(life.disk);
    assert_int_equal(space_squeeze(life.store, life.store->segment_bytes), VARVE_OK);
    assert_int_equal(life_stat("segments_dropped"), dropped + 1);
    assert_true(sim_disk_used(life.disk) + life.store->segment_bytes <= used);
    assert_int_equal(space_squeeze(life.store, 0), VARVE_MISS);
}

static uint64_t quota;
static int quota_error;

static int
preallocate_within_quota(struct env_file *file, uint64_t size)
{
    return sim_disk_used(life.disk) + size > quota ? quota_error : plain_ops->preallocate(file, size);
}

/* A limit that nobody told the store of is met as a full disk is. */
static void
test_quota(void **state)
{
    static const int errors[] = {-ENOSPC, -EDQUOT};

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        uint64_t dropped;

        churn_put_hot();
        dropped = life_stat("segments_dropped");
        quota = sim_disk_used(life.disk) + life.store->segment_bytes;
        quota_error = errors[i];
        hook_begin();
        hooked_ops.preallocate = preallocate_within_quota;
        for (uint32_t puts = 0; puts < 20; puts++)
            assert_int_equal(put_any(COLD + 60000 + puts), CHAIN_PAGES);
        assert_true(life_stat("segments_dropped") > dropped);
        hook_end();
        churn_teardown(state);
        churn_setup(state);
    }
}

static bool flushed;

/* What another thread may do while this one makes a segment: flush a memtable, with an edit that is durable and knows of the number. */
static int
flush_and_open(struct env *env, const char *name, unsigned flags, struct env_file **out)
{
    if (!flushed && (flags & ENV_OPEN_CREATE) != 0 && strstr(name, ".seg") != NULL) {
        flushed = true;
        mutex_lock(&life.store->write_lock);
        assert_int_equal(store_rotate(life.store), VARVE_OK);
        mutex_unlock(&life.store->write_lock);
        assert_int_equal(store_sync(life.store, NULL), VARVE_OK);
        assert_int_equal(index_flush(life.store->index, NULL), VARVE_OK);
    }
    return plain_ops->open(env, name, flags, out);
}

static void
note_stray(void *arg, const struct segment *segment)
{
    (void)arg;
    ((struct segment *)(uintptr_t)segment)->stray = true;
}

/* Reclaim until a victim whose live pages went into a segment made for them is dropped. */
static void
copy_and_drop(void)
{
    uint64_t created = life_stat("segments_created"), dropped;

    for (int tries = 0; life_stat("segments_created") == created; tries++) {
        assert_true(tries < 4000);
        (void)reclaim_work(life.store, NULL);
    }
    dropped = life_stat("segments_dropped");
    for (int tries = 0; life_stat("segments_dropped") == dropped; tries++) {
        assert_true(tries < 4000);
        (void)reclaim_work(life.store, NULL);
    }
}

/* Pages of each chain that the store has. */
static void
list_chains(uint8_t listed[CHAINS_MAX])
{
    for (uint32_t chain = 0; chain < CHAINS_MAX; chain++)
        listed[chain] = (uint8_t)life_listed(chain, CHAIN_PAGES);
}

/*
 * A victim's file is unlinked, not kept; the segment with the copies has a number below that of a durable edit, and its own edit is not durable: the power failure must not
 * leave the one without the other.
 */
static void
test_power_fails_after_a_drop(void **state)
{
    for (uint64_t seed = 1; seed <= 16; seed++) {
        static uint8_t before[CHAINS_MAX], after[CHAINS_MAX];

        churn_fill();
        assert_int_equal(varve_option_set(life.store, "capacity", "16M", NULL), VARVE_OK);
        while (space_remove_kept(life.store))
            continue;
        log_for_each(life.store->log, note_stray, NULL); /* so that no file is kept */
        assert_int_equal(put_any(COLD - 1), CHAIN_PAGES);
        assert_int_equal(store_sync(life.store, NULL), VARVE_OK);
        flushed = false;
        hook_begin();
        hooked_ops.open = flush_and_open;
        copy_and_drop();
        hook_end();
        assert_true(flushed);
        list_chains(before);
        assert_int_equal(plain_ops->sync_dir(life.store->env),
                         0); /* the file system's journal was written, for whatever reason */
        sim_disk_stop(life.disk);
        life_kill();
        sim_disk_crash(life.disk, SIM_CRASH_POWER, seed);
        life.options[0][1] = "16M"; /* of the capacity */
        life_must_open();
        list_chains(after);
        for (uint32_t chain = 0; chain < CHAINS_MAX; chain++)
            assert_true(after[chain] >= before[chain]);
        churn_teardown(state);
        churn_setup(state);
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_directory_cannot_be_changed, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_files_stay, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_room_of_files_that_stay, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_larger_files, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_order, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_squeeze, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_quota, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_power_fails_after_a_drop, churn_setup, churn_teardown),
    };

    return cmocka_run_group_tests_name("recycle_faults", tests, NULL, NULL);
}
