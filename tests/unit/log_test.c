/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of a store on the simulated disk, called as several puts at once would: extents are reserved side by side and end in any order,
 * and nothing that is still being written may count as durable, indexed or sealable.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "log/log.h"
#include "store_life.h"

#define EXTENT_BYTES ((uint64_t)LOG_BLOCK_BYTES)

static uint64_t
fit_extent(void *arg, uint64_t room)
{
    (void)arg;
    return room < EXTENT_BYTES ? 0 : EXTENT_BYTES;
}

static int
reserve(struct reservation *out)
{
    static const struct log_fit fit = {.take = fit_extent, .least = EXTENT_BYTES};

    return log_reserve(life.store->log, LOG_NEW, &fit, out, &life.err);
}

/* As if it had been written. */
static void
finish(struct reservation *reservation)
{
    log_written(life.store->log, reservation);
    log_finish(life.store->log, reservation, true, 1, 1, 1);
}

/* How far the segment would be called indexed, were the memtable flushed now; 0: as far as it is. */
static uint64_t
mark_of(uint64_t number)
{
    struct log_mark *mark = log_mark_create(life.store->log, true);
    uint64_t offset = 0;

    assert_non_null(mark);
    for (size_t i = 0; i < mark->count; i++) {
        if (mark->at[i].segment == number)
            offset = mark->at[i].offset;
    }
    env_free(life.store->env, mark);
    return offset;
}

/* Reserve one more extent and end it at once; what its header would say is durable. */
static uint64_t
synced_now(void)
{
    struct reservation probe;

    assert_int_equal(reserve(&probe), VARVE_OK);
    finish(&probe);
    return probe.synced_offset;
}

/* Judged when nothing is in flight any more: a test that fails must not leave that to the teardown. */
static void
test_marks(void **state)
{
    struct reservation extents[4];
    uint64_t number, marks[3], synced[2];

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(reserve(&extents[i]), VARVE_OK);
    number = extents[0].segment->number;
    finish(&extents[0]);
    finish(&extents[2]);
    assert_int_equal(log_sync(life.store->log, &life.err), VARVE_OK);
    marks[0] = mark_of(number);
    synced[0] = synced_now();

    finish(&extents[1]);
    marks[1] = mark_of(number);
    assert_int_equal(log_sync(life.store->log, &life.err), VARVE_OK);
    finish(&extents[3]);
    synced[1] = synced_now(); /* as of the sync, when it was still in flight */
    marks[2] = mark_of(number);

    assert_true(marks[0] == extents[1].offset);
    assert_true(synced[0] == extents[1].offset);
    assert_true(marks[1] == extents[3].offset);
    assert_true(synced[1] == extents[3].offset);
    assert_true(marks[2] == extents[3].offset + 3 * EXTENT_BYTES);
}

#define CHAIN_FIRST 100 /* behind those of life_setup() */

/* What a sync covers is there after a power failure, though its segment was sealed meanwhile and nothing else was written. */
static void
test_sealed_is_durable(void **state)
{
    struct iovec iov = {&iov, sizeof(iov)};
    varve_page cut_short = {.id = life_page_id(1000, 0), .iov = &iov, .iov_count = 1};

    (void)state;
    for (uint64_t seed = 1; seed <= 16; seed++) {
        uint32_t chain = CHAIN_FIRST + (uint32_t)seed;

        assert_int_equal(life_put(chain, 4, 100), 4);
        log_close_open(life.store->log);
        while (log_seal(life.store->log, &life.err) == VARVE_OK)
            continue;
        assert_int_equal(varve_sync(life.store, &life.err), VARVE_OK);
        sim_disk_crash_after(life.disk, 1);
        (void)varve_put_batch(life.store, life.ns, NULL, &cut_short, 1, 0, &life.err);
        life_kill();
        sim_disk_crash(life.disk, SIM_CRASH_POWER, seed);
        sim_disk_crash_after(life.disk, 0);
        life_must_open();
        assert_int_equal(life_get(chain, 4, 100), 4);
    }
}

/* Room for more segments than may be unsealed. */
static int
setup_many(void **state)
{
    static const char *const options[][2] = {{"capacity", "256M"}, {"segment_bytes", "256K"}};

    memcpy(life.options, options, sizeof(options));
    return life_setup(state);
}

static int
teardown_many(void **state)
{
    memset(life.options, 0, sizeof(life.options));
    return life_teardown(state);
}

/* Full segments with writes in flight cannot be sealed: there are at most LOG_UNSEALED_NEW_MAX, and the next put has to wait. */
static void
test_unsealed(void **state)
{
    struct reservation first[LOG_UNSEALED_NEW_MAX + 1], more;
    size_t count = 0;
    int rc, sealed, again;

    (void)state;
    while ((rc = reserve(&more)) == VARVE_OK) {
        bool begins = count == 0 || more.segment != first[count - 1].segment;

        if (!begins || count == LOG_UNSEALED_NEW_MAX)
            finish(&more);
        else
            first[count] = more;
        count += begins;
        if (count > LOG_UNSEALED_NEW_MAX)
            break;
    }
    sealed = log_seal(life.store->log, &life.err);
    finish(&first[3]);
    again = reserve(&more); /* seals that one */
    if (again == VARVE_OK)
        finish(&more);
    for (size_t i = 0; i < LOG_UNSEALED_NEW_MAX; i++) {
        if (i != 3)
            finish(&first[i]);
    }
    assert_int_equal(rc, VARVE_MISS);
    assert_int_equal(count, LOG_UNSEALED_NEW_MAX);
    assert_int_equal(sealed, VARVE_MISS);
    assert_int_equal(again, VARVE_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_marks, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_sealed_is_durable, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_unsealed, setup_many, teardown_many),
    };

    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
