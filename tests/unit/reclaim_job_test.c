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
#include "store_churn.h"

/* Whatever goes by, what is used stays, and copying it costs little. */
static void
test_used_pages_stay(void **state)
{
    uint64_t written;

    (void)state;
    churn_put_hot();
    churn(8 * CAPACITY, true);
    assert_int_equal(churn_hot_right(), HOT_PAGES);
    assert_true(life_stat("survivor_pages") >= HOT_PAGES);
    assert_int_equal(life_stat("reclaim_lost_bytes"), 0);
    written = life_stat("log_bytes_written");
    assert_true(life_stat("survivor_bytes") * 5 < written);
}

/* What is not used any more goes, all of it. */
static void
test_unused_pages_go(void **state)
{
    (void)state;
    churn_put_hot();
    churn(2 * CAPACITY, true);
    assert_int_equal(churn_hot_right(), HOT_PAGES);
    churn(3 * CAPACITY, false);
    assert_int_equal(churn_hot_right(), 0);
}

/* Who uses the tail of a chain only, keeps its head as well: else the tail could not be hit. */
static void
test_ancestors_stay(void **state)
{
    (void)state;
    churn_put_hot();
    for (int i = 0; i < 40; i++) {
        (void)churn_probe(HOT, CHAIN_PAGES - 1, 1);
        churn(CAPACITY / 8, false);
    }
    assert_int_equal(churn_probe(HOT, 0, CHAIN_PAGES), CHAIN_PAGES);
    assert_int_equal(churn_probe(HOT + 1, 0, CHAIN_PAGES), 0);
}

/* A chain that leaves another one after `depth` pages of that. */
static void
put_branch(uint32_t chain, uint32_t from, uint32_t depth)
{
    static uint8_t data[PAGE_BYTES];
    struct iovec iov = {data, PAGE_BYTES};
    varve_page pages[CHAIN_PAGES];
    varve_id parent = life_page_id(from, depth - 1);

    for (uint32_t i = 0; i < CHAIN_PAGES; i++)
        pages[i] = (varve_page){.id = life_page_id(chain, i), .iov = &iov, .iov_count = 1};
    assert_int_equal(varve_put_batch(life.store, life.ns, &parent, pages, CHAIN_PAGES, 0, &life.err), VARVE_OK);
    assert_int_equal(pages[CHAIN_PAGES - 1].status, VARVE_OK);
}

/* The depth at which the way from a page to the root ends. */
static uint32_t
way_ends(uint32_t chain, uint32_t page)
{
    struct index_view *view = index_view_acquire(life.store->index);
    varve_id id = life_page_id(chain, page);
    struct index_cursor cursor;
    struct location location;
    struct index_slot slot;
    struct key key;

    index_cursor_init(&cursor, view);
    assert_true(index_cursor_find(&cursor, atomic_load(&life.ns->ns_id), &id, &location));
    index_cursor_deinit(&cursor);
    slot.first = location.key;
    do {
        location.key = slot.first;
        key = slot.first;
    } while (recency_step_up(view, &key) && index_find_key(view, &key, &slot));
    index_view_release(view);
    return location.key.depth;
}

/* The way to the root goes through the branches that the used one came from, however often it was copied. */
static void
test_ancestors_on_other_branches_stay(void **state)
{
    (void)state;
    assert_int_equal(life_put(HOT, CHAIN_PAGES, PAGE_BYTES), CHAIN_PAGES);
    put_branch(HOT + 1, HOT, CHAIN_PAGES / 2);
    for (int i = 0; i < 40; i++) {
        (void)churn_probe(HOT + 1, CHAIN_PAGES - 1, 1);
        churn(CAPACITY / 8, false);
    }
    assert_true(life_stat("survivor_pages") > 2 * CHAIN_PAGES); /* more than once */
    assert_int_equal(churn_probe(HOT + 1, 0, CHAIN_PAGES), CHAIN_PAGES);
    assert_int_equal(churn_probe(HOT, 0, CHAIN_PAGES), CHAIN_PAGES / 2);
    assert_int_equal(way_ends(HOT + 1, CHAIN_PAGES - 1), 0);
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
    churn_put_hot();
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

/* A copy that cannot be made: the segment stays, and is tried again; in the end it goes without. */
static void
test_copying_fails(void **state)
{
    uint64_t dropped;

    (void)state;
    churn_put_hot();
    churn(2 * CAPACITY, true);
    dropped = life_stat("segments_dropped");
    churn_begin_job();
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
    churn_put_hot();
    churn(CAPACITY / 2, true);
    for (int i = 0; i < 400; i++)
        assert_true(sim_disk_flip(life.disk, "*.seg", &rng));
    churn(4 * CAPACITY, true);
    right = churn_hot_right(); /* compares every byte */
    assert_true(right < HOT_PAGES);
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

        churn_put_hot();
        churn(2 * CAPACITY, true);
        live = life_stat("live_bytes");
        life_must_close();
        way = ways[i]();
        life_must_open();
        if (i == 0 && life_stat("live_bytes") != live)
            fail_msg("%s: %llu bytes are live, there were %llu", way, (unsigned long long)life_stat("live_bytes"),
                     (unsigned long long)live);
        churn_work();
        if (life_stat("live_bytes") <= CAPACITY / 2)
            fail_msg("%s: only %llu bytes are live", way, (unsigned long long)life_stat("live_bytes"));
        assert_int_equal(churn_hot_right(), HOT_PAGES);
        if (i == 0) { /* they are known as the last used, too */
            churn(CAPACITY / 2, false);
            assert_int_equal(churn_hot_right(), HOT_PAGES);
        }
        churn_teardown(state);
        churn_setup(state);
    }
}

/* What is used after a restart, before the store has looked for what is old, is younger than all of that. */
static void
test_used_before_recency_is_known(void **state)
{
    uint32_t there;

    (void)state;
    churn_put_hot();
    churn(CAPACITY / 2, false);
    life_kill(); /* HEAT is minutes old in a store that was killed; here there is none */
    life_must_open();
    there = churn_hot_right();
    assert_true(there > 0);
    churn(CAPACITY / 2, false);
    assert_int_equal(churn_hot_right(), there);
}

/* The first page of a chain that is stored. */
static bool
is_live(uint32_t chain)
{
    struct index_view *view = index_view_acquire(life.store->index);
    varve_id id = life_page_id(chain, 0);
    struct index_cursor cursor;
    struct location location;
    bool found;

    index_cursor_init(&cursor, view);
    found = index_cursor_find(&cursor, life.ns->ns_id, &id, &location);
    index_cursor_deinit(&cursor);
    index_view_release(view);
    assert_true(found);
    return recency_is_live(life.store, &location);
}

/* HEAT that was written before the last pages of a segment is not all of it, though nothing had to be replayed. */
static void
test_heat_of_a_part(void **state)
{
    (void)state;
    assert_int_equal(life_put(HOT, CHAIN_PAGES, PAGE_BYTES / 4), CHAIN_PAGES);
    assert_int_equal(recency_save(life.store, &life.err), VARVE_OK);
    assert_int_equal(life_put(HOT + 1, CHAIN_PAGES, PAGE_BYTES / 4), CHAIN_PAGES);
    log_close_open(life.store->log);
    assert_int_equal(store_rotate(life.store), VARVE_OK);
    churn_work();
    life_kill();
    life_must_open();
    assert_int_equal(life_stat("recovered_pages"), 0);
    assert_true(is_live(HOT));
    assert_true(is_live(HOT + 1));
}

#define MANY_CHAINS 70
#define MANY_PAGES  1000 /* a chain: more in all than are looked for before a store is open */

/* What is too much to be looked for while the store is opened is known after the first background work. */
static void
test_many_pages_are_known_later(void **state)
{
    uint64_t live;

    (void)state;
    life_must_close();
    life.options[0][1] = "128M";
    life_must_open();
    for (uint32_t i = 0; i < MANY_CHAINS; i++)
        assert_int_equal(life_put(HOT + i, MANY_PAGES, 16), MANY_PAGES);
    live = life_stat("live_bytes");
    assert_true(live >= (uint64_t)MANY_CHAINS * MANY_PAGES * 512);
    life_must_close();
    (void)delete_heat();
    life_must_open();
    assert_int_equal(life_stat("live_bytes"), 0);
    assert_int_equal(life_put(COLD, CHAIN_PAGES, PAGE_BYTES), CHAIN_PAGES);
    churn_work();
    assert_true(life_stat("live_bytes") >= live + (uint64_t)CHAIN_PAGES * PAGE_BYTES);
    /* And it is older than what was used before that: of much less room, this gets some. */
    assert_int_equal(varve_option_set(life.store, "capacity", "16M", &life.err), VARVE_OK);
    churn_work();
    assert_true(life_stat("live_bytes") < live / 2);
    assert_true(is_live(COLD));
}

/* The capacity changes while the store is open, both ways; what is used most stays. */
static void
test_capacity_changes(void **state)
{
    (void)state;
    churn_put_hot();
    churn(2 * CAPACITY, true);
    assert_int_equal(varve_option_set(life.store, "capacity", "4M", &life.err), VARVE_OK);
    churn_work();
    assert_true(sim_disk_used(life.disk) <= CAPACITY / 2);
    assert_int_equal(churn_hot_right(), HOT_PAGES);
    churn(CAPACITY, true);
    assert_true(sim_disk_used(life.disk) <= CAPACITY / 2);
    assert_int_equal(churn_hot_right(), HOT_PAGES);
    assert_int_equal(varve_option_set(life.store, "capacity", "16M", &life.err), VARVE_OK);
    churn(3 * CAPACITY, true);
    assert_true(sim_disk_used(life.disk) > CAPACITY);
    assert_true(sim_disk_used(life.disk) <= 2 * CAPACITY);
    assert_int_equal(churn_hot_right(), HOT_PAGES);
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
    churn_put_hot();
    churn(3 * CAPACITY, true);
    assert_true(sim_disk_used(life.disk) <= CAPACITY - ((uint64_t)3 << 20));
    assert_true(sim_disk_used(life.disk) > CAPACITY / 4);
    assert_int_equal(varve_option_set(life.store, "min_free", "5M", &life.err), VARVE_OK);
    churn_work();
    assert_true(sim_disk_used(life.disk) <= CAPACITY - ((uint64_t)5 << 20));
}

/* A file system that is full below the capacity: puts go on, at the price of the oldest pages. */
static void
test_full_below_capacity(void **state)
{
    (void)state;
    churn_put_hot();
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
        cmocka_unit_test_setup_teardown(test_used_pages_stay, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_unused_pages_go, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_ancestors_stay, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_ancestors_on_other_branches_stay, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_second_life, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_removed_pages_stay_removed, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_copying_fails, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_damaged_pages_are_not_copied, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_restart, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_used_before_recency_is_known, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_many_pages_are_known_later, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_heat_of_a_part, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_capacity_changes, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_min_free, churn_setup, churn_teardown),
        cmocka_unit_test_setup_teardown(test_full_below_capacity, churn_setup, churn_teardown),
    };

    return cmocka_run_group_tests_name("reclaim_job", tests, NULL, NULL);
}
