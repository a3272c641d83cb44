/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of decisions, on the simulated disk: after a load, random lookups in an index that is larger than the block cache. Memory then goes from memtables to the cache,
 * at once, though nothing is put any more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "random.h"
#include "store_life.h"

#define FIRST_CHAIN 100
#define CHAINS      300
#define CHAIN_PAGES 1000
#define LOOKUPS     6000
#define WINDOW_NS   ((uint64_t)6 * 1000000000)
#define MEMTABLE    ((uint64_t)4 << 20)
#define CACHE       ((uint64_t)1 << 20)
#define WINDOWS     8

static int
setup(void **state)
{
    static const char *const options[4][2] = {
        {"memtable_bytes", "4M"}, {"block_cache_bytes", "1M"}, {"controller", "off"}, {NULL, NULL}};

    life.capacity = "256M";
    memcpy(life.options, options, sizeof(options));
    return life_setup(state);
}

static int
teardown(void **state)
{
    memset(life.options, 0, sizeof(life.options));
    return life_teardown(state);
}

static void
tick(void)
{
    while (store_tick(life.store))
        ;
}

/* Random pages, one by one: each lookup needs a block. */
static void
look_up(struct random *random)
{
    for (int i = 0; i < LOOKUPS; i++) {
        varve_id id = life_page_id(FIRST_CHAIN + (uint32_t)random_below(random, CHAINS),
                                   (uint32_t)random_below(random, CHAIN_PAGES));
        uint8_t exists;

        assert_int_equal(varve_exists_batch(life.store, life.ns, &id, 1, &exists, &life.err), VARVE_OK);
        assert_true(exists);
    }
}

static void
work(struct random *random)
{
    look_up(random);
    life.disk->now_ns += WINDOW_NS;
    tick();
}

/* As the options say until all is put; then the controller has its way. */
static void
load(void)
{
    for (uint32_t chain = 0; chain < CHAINS; chain++) {
        assert_int_equal(life_put(FIRST_CHAIN + chain, CHAIN_PAGES, 0), CHAIN_PAGES);
        tick();
    }
    assert_true(life_stat("memtable_pages") > 20000);
    assert_int_equal(varve_option_set(life.store, "controller", "nominal", &life.err), VARVE_OK);
}

static void
test_carried_out(void **state)
{
    struct random random = random_make(1);
    uint64_t flushes;

    (void)state;
    load();
    for (int i = 0; i < WINDOWS; i++)
        work(&random);
    assert_true(life_stat("control_switches") > 0);
    assert_true(life_stat("control_memtable_bytes") < MEMTABLE && life_stat("control_cache_bytes") > CACHE);
    assert_int_equal(life_stat("memtable_pages"), 0); /* given back without a put */
    look_up(&random);
    assert_true(life_stat("block_cache_bytes") > 2 * CACHE); /* and taken into use */
    assert_true(life_stat("control_time_us") < 1000000);
    flushes = life_stat("index_flushes");
    for (uint32_t chain = 0; chain < CHAINS / 2; chain++) {
        assert_int_equal(life_put(FIRST_CHAIN + CHAINS + chain, CHAIN_PAGES, 0), CHAIN_PAGES);
        tick();
    }
    /* Of the size that was in force by then: the old one would have been filled once, at most. */
    assert_true(life_stat("index_flushes") >= flushes + 2);
}

/* controller=off, while open: back to the options, with what they give the cache. */
static void
test_pinned(void **state)
{
    struct random random = random_make(2);

    (void)state;
    load();
    for (int i = 0; i < WINDOWS; i++)
        work(&random);
    assert_true(life_stat("control_cache_bytes") > CACHE);
    assert_int_equal(varve_option_set(life.store, "controller", "off", &life.err), VARVE_OK);
    assert_true(life_stat("control_cache_bytes") == CACHE && life_stat("control_memtable_bytes") == MEMTABLE);
    for (int i = 0; i < WINDOWS; i++)
        work(&random);
    assert_true(life_stat("control_cache_bytes") == CACHE);
    assert_true(life_stat("block_cache_bytes") <= CACHE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_carried_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pinned, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
