/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a store does beside moving pages: namespaces, clear, remove, exists, touch, estimates, iteration, options, statistics.
 */
#include "api_util.h"

#include <stdlib.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static const char *const settings[] = {"capacity=64M", "memtable_bytes=256K", NULL};

static int
setup(void **state)
{
    *state = fixture_create(settings);
    return 0;
}

static int
teardown(void **state)
{
    fixture_destroy(*state);
    return 0;
}

/* The same ids in two namespaces are different pages. */
static void
test_wrong_namespace(void **state)
{
    struct fixture *fixture = *state;
    varve_namespace *other = namespace_get(fixture->store, "other");
    struct batch batch;

    chain_put(fixture->store, fixture->ns, 1, 20, 1000);
    assert_int_equal(chain_probe(fixture->store, other, 1, 20), 0);
    batch_init(&batch, 1, 0, 20, 1000, 0);
    assert_int_equal(batch_get_some(fixture->store, other, &batch), 0);
    batch_free(&batch);
    chain_put(fixture->store, other, 1, 10, 2000);
    chain_get(fixture->store, fixture->ns, 1, 20, 1000);
    chain_get(fixture->store, other, 1, 10, 2000);
    assert_ptr_equal(namespace_get(fixture->store, "other"), other);
}

static void
test_clear(void **state)
{
    struct fixture *fixture = *state;
    varve_namespace *kept = namespace_get(fixture->store, "kept");

    chain_put(fixture->store, kept, 1, 30, 5000);
    for (size_t round = 1; round <= 5; round++) {
        chain_put(fixture->store, fixture->ns, 1, 30, 1000 * round); /* sizes differ: old bytes would show */
        chain_get(fixture->store, fixture->ns, 1, 30, 1000 * round);
        if (round % 2 == 0)
            fixture_reopen(fixture, settings);
        assert_int_equal(varve_namespace_clear(fixture->store, fixture->ns, NULL), VARVE_OK);
        assert_int_equal(chain_probe(fixture->store, fixture->ns, 1, 30), 0);
        if (round % 2 == 1)
            fixture_reopen(fixture, settings);
        assert_int_equal(chain_probe(fixture->store, fixture->ns, 1, 30), 0);
    }
    chain_get(fixture->store, namespace_get(fixture->store, "kept"), 1, 30, 5000);
}

/* Two pieces of memory a page, or more, none of which goes on where the one before ended. */
static struct iovec *
scatter(struct batch *batch, size_t pieces)
{
    size_t part = batch->iov[0].iov_len / pieces;
    struct iovec *iov = calloc(batch->count * pieces, sizeof(*iov));

    assert_non_null(iov);
    for (size_t i = 0; i < batch->count * pieces; i++) {
        uint8_t *page = batch->iov[i / pieces].iov_base;

        iov[i] = (struct iovec){page + (i % pieces ^ 1) * part, part}; /* swapped in pairs */
    }
    for (size_t i = 0; i < batch->count; i++) {
        batch->pages[i].iov = &iov[i * pieces];
        batch->pages[i].iov_count = (uint32_t)pieces;
    }
    return iov;
}

/* Pages in many small pieces of memory are copied, few or large pieces are not; both hold what was put. */
static void
test_scattered_buffers(void **state)
{
    static const struct {
        size_t count, size, pieces; /* pieces 0: one, and pages lie one after the other */
        bool put_copied, get_copied;
    } cases[] = {{100, 8192, 2, true, true},    {32, 65536, 16, true, true}, {64, 32768, 2, false, true},
                 {16, 131072, 2, false, false}, {2, 8192, 2, false, false},  {30, 8192, 0, false, false}};
    static const char *const large[] = {"capacity=1G", NULL};
    struct fixture *fixture = fixture_create(large);
    bool direct = stat_value(fixture->store, "direct_io") == 1;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint64_t put_before = stat_value(fixture->store, "put_copied_bytes");
        uint64_t get_before = stat_value(fixture->store, "get_copied_bytes");
        uint64_t half = cases[i].count * cases[i].size / 2; /* a segment may end within the batch */
        uint64_t put_copied, get_copied;
        struct iovec *iov = NULL;
        struct batch batch;

        batch_init(&batch, i, 0, cases[i].count, cases[i].size, 0);
        if (cases[i].pieces > 0)
            iov = scatter(&batch, cases[i].pieces);
        batch_put(fixture->store, fixture->ns, NULL, &batch);
        batch_get(fixture->store, fixture->ns, &batch);
        put_copied = stat_value(fixture->store, "put_copied_bytes") - put_before;
        get_copied = stat_value(fixture->store, "get_copied_bytes") - get_before;
        assert_true(cases[i].put_copied && direct ? put_copied > half : put_copied == 0);
        assert_true(cases[i].get_copied && direct ? get_copied > half : get_copied == 0);
        batch_free(&batch);
        free(iov);
    }
    fixture_destroy(fixture);
}

static void
test_remove(void **state)
{
    struct fixture *fixture = *state;
    varve_id ids[5];
    uint8_t exists[5];

    chain_put(fixture->store, fixture->ns, 1, 20, 3000);
    for (size_t i = 0; i < 5; i++)
        ids[i] = page_id(1, 8 + i);
    ids[4] = page_id(99, 0); /* not stored */
    assert_int_equal(varve_remove_batch(fixture->store, fixture->ns, ids, 5, NULL), 4);
    assert_int_equal(varve_remove_batch(fixture->store, fixture->ns, ids, 5, NULL), 0);
    for (int pass = 0; pass < 2; pass++) {
        assert_int_equal(chain_probe(fixture->store, fixture->ns, 1, 20), 8);
        assert_int_equal(varve_exists_batch(fixture->store, fixture->ns, ids, 5, exists, NULL), VARVE_OK);
        for (size_t i = 0; i < 5; i++)
            assert_int_equal(exists[i], 0);
        fixture_reopen(fixture, settings);
    }
    chain_put(fixture->store, fixture->ns, 1, 20, 3000); /* fills the gap */
    chain_get(fixture->store, fixture->ns, 1, 20, 3000);
    fixture_reopen(fixture, settings);
    chain_get(fixture->store, fixture->ns, 1, 20, 3000);
}

static void
test_exists_and_touch(void **state)
{
    struct fixture *fixture = *state;
    varve_id ids[40];
    uint8_t exists[40];

    chain_put(fixture->store, fixture->ns, 1, 20, 100);
    for (size_t i = 0; i < 40; i++)
        ids[i] = i % 2 == 0 ? page_id(1, i / 2) : page_id(2, i / 2);
    assert_int_equal(varve_exists_batch(fixture->store, fixture->ns, ids, 40, exists, NULL), VARVE_OK);
    for (size_t i = 0; i < 40; i++)
        assert_int_equal(exists[i], i % 2 == 0);
    assert_int_equal(varve_touch(fixture->store, fixture->ns, ids, 40, NULL), 20);
    assert_int_equal(stat_value(fixture->store, "touch_pages"), 20);
}

static void
test_estimate(void **state)
{
    struct fixture *fixture = *state;
    uint64_t bytes[30] = {0}, times[30] = {0};
    varve_estimate estimate = VARVE_ESTIMATE_INIT;
    varve_id ids[30];

    for (size_t i = 0; i < 30; i++)
        ids[i] = page_id(1, i);
    chain_put(fixture->store, fixture->ns, 1, 10, 4096);
    chain_put(fixture->store, fixture->ns, 2, 1, 4096); /* something between */
    chain_put(fixture->store, fixture->ns, 1, 25, 4096);
    estimate.prefix_bytes = bytes;
    estimate.prefix_time_us = times;
    assert_int_equal(varve_probe(fixture->store, fixture->ns, ids, 30, &estimate, NULL), 25);
    assert_true(estimate.extents >= 2 && estimate.extents <= 25);
    for (size_t i = 0; i < 30; i++) {
        assert_int_equal(bytes[i], i < 25 ? (i + 1) * 4096 : 0);
        assert_true(i < 25 ? times[i] >= (i == 0 ? 1 : times[i - 1]) : times[i] == 0);
    }
    estimate = (varve_estimate)VARVE_ESTIMATE_INIT;
    assert_int_equal(varve_probe(fixture->store, fixture->ns, ids, 30, &estimate, NULL), 25);
    estimate.struct_size = 1;
    assert_int_equal(varve_probe(fixture->store, fixture->ns, ids, 30, &estimate, NULL), VARVE_E_ARG);
}

struct totals {
    uint64_t rows, pages, bytes;
};

static struct totals
iterate(varve_store *store, varve_namespace *ns, enum varve_iter_kind kind)
{
    varve_item item = VARVE_ITEM_INIT;
    struct totals totals = {0};
    varve_iter *iter = NULL;
    varve_error err = {0};
    int rc = varve_iter_open(store, ns, kind, &iter, &err);

    if (rc != VARVE_OK)
        fail_msg("iterate: %s", err.message);
    while ((rc = varve_iter_next(iter, &item, &err)) == VARVE_OK) {
        assert_non_null(item.namespace_name);
        if (kind == VARVE_ITER_PAGES)
            assert_int_equal(item.page_count, 1);
        totals.rows++;
        totals.pages += item.page_count;
        totals.bytes += item.bytes;
    }
    assert_int_equal(rc, VARVE_MISS);
    varve_iter_close(iter);
    return totals;
}

/* All kinds of iteration see the pages that were put, minus those removed, from memory and from runs. */
static void
test_iteration(void **state)
{
    struct fixture *fixture = *state;
    varve_namespace *other = namespace_get(fixture->store, "other");
    varve_id removed = page_id(5, 3);

    for (size_t chain = 0; chain < 50; chain++)
        chain_put(fixture->store, chain % 5 == 4 ? other : fixture->ns, chain, 10, chain * 10);
    assert_int_equal(varve_remove_batch(fixture->store, fixture->ns, &removed, 1, NULL), 1);
    for (int pass = 0; pass < 2; pass++) {
        varve_namespace *const of[] = {NULL, fixture->ns, other};
        static const uint64_t pages[] = {499, 399, 100};
        static const uint64_t rows[] = {2, 1, 1}, branches[] = {50, 40, 10};
        uint64_t bytes_other = 10 * 10 * (4 + 9 + 14 + 19 + 24 + 29 + 34 + 39 + 44 + 49);
        const uint64_t bytes[] = {49 * 50 / 2 * 100 - 50, 49 * 50 / 2 * 100 - 50 - bytes_other, bytes_other};

        for (size_t i = 0; i < 3; i++) {
            for (int kind = VARVE_ITER_NAMESPACES; kind <= VARVE_ITER_PAGES; kind++) {
                struct totals totals = iterate(fixture->store, of[i], (enum varve_iter_kind)kind);

                assert_int_equal(totals.pages, pages[i]);
                assert_int_equal(totals.bytes, bytes[i]);
                if (kind == VARVE_ITER_NAMESPACES)
                    assert_int_equal(totals.rows, rows[i]);
                if (kind == VARVE_ITER_BRANCHES)
                    assert_int_equal(totals.rows, branches[i]);
            }
        }
        fixture_reopen(fixture, settings);
        other = namespace_get(fixture->store, "other");
    }
}

static void
test_options(void **state)
{
    static const struct {
        const char *name, *value, *hint;
    } bad[] = {
        {"capacityy", "1G", "capacity"}, {"capacity", "many", "capacity"},
        {"capacity", "-1", "capacity"},  {"io_engine", "uringg", "uring"},
        {"size_ratio", "1", "2"},        {"size_ratio", "9999999", "32"},
        {"background", "maybe", "on"},   {"capacity", "99999999999P", NULL},
        {"io_bytes", "16K5", NULL},      {"queue_depth", "8K", NULL},
        {"capacity", "", NULL},          {"", "", NULL},
    };
    struct fixture *fixture = *state;
    varve_options *options = varve_options_create();
    const varve_option_desc *desc;
    varve_error err = {0};
    char text[64];
    size_t count = 0;

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(varve_options_set(options, bad[i].name, bad[i].value, &err), VARVE_E_ARG);
        if (bad[i].hint != NULL && strstr(err.message, bad[i].hint) == NULL)
            fail_msg("%s=%s: \"%s\" does not name \"%s\"", bad[i].name, bad[i].value, err.message, bad[i].hint);
    }
    for (; (desc = varve_option_describe(count)) != NULL; count++) {
        assert_int_equal(varve_options_get(options, desc->name, text, sizeof(text)), VARVE_OK);
        assert_int_equal(varve_options_set(options, desc->name, text, &err), VARVE_OK);
        assert_int_equal(varve_options_set(options, desc->name, desc->default_value, &err), VARVE_OK);
        assert_true(strlen(desc->help) > 10 && strlen(desc->type) > 2);
        assert_int_equal(varve_options_get(options, desc->name, text, 0), VARVE_E_ARG);
        assert_int_equal(varve_option_set(fixture->store, desc->name, desc->default_value, &err),
                         desc->live ? VARVE_OK : VARVE_E_ARG);
    }
    assert_true(count > 10);
    assert_int_equal(varve_options_set(options, "capacity", "3G", NULL), VARVE_OK);
    assert_int_equal(varve_options_get(options, "capacity", text, sizeof(text)), VARVE_OK);
    assert_string_equal(text, "3221225472");
    assert_int_equal(varve_options_get(options, "nothing", text, sizeof(text)), VARVE_E_ARG);
    assert_int_equal(varve_option_set(fixture->store, "nothing", "1", &err), VARVE_E_ARG);
    varve_options_destroy(options);
    varve_options_destroy(NULL);
}

/* Live options may change between puts, whatever they are set to. */
static void
test_live_options(void **state)
{
    static const char *const ratios[] = {"2", "32", "4", "8"};
    struct fixture *fixture = *state;

    for (size_t i = 0; i < 40; i++) {
        assert_int_equal(varve_option_set(fixture->store, "size_ratio", ratios[i % 4], NULL), VARVE_OK);
        assert_int_equal(varve_option_set(fixture->store, "runs_per_level", i % 3 == 0 ? "1" : "3", NULL), VARVE_OK);
        chain_put(fixture->store, fixture->ns, i, 1000, 0);
    }
    for (size_t i = 0; i < 40; i++)
        assert_int_equal(chain_probe(fixture->store, fixture->ns, i, 1000), 1000);
    assert_true(stat_value(fixture->store, "index_flushes") > 0);
}

static void
test_stats(void **state)
{
    struct fixture *fixture = *state;
    const varve_stat_desc *desc;
    uint64_t values[200];
    size_t count = 0;

    chain_put(fixture->store, fixture->ns, 1, 12, 5000);
    chain_get(fixture->store, fixture->ns, 1, 12, 5000);
    assert_int_equal(chain_probe(fixture->store, fixture->ns, 1, 20), 12);
    assert_int_equal(stat_value(fixture->store, "put_pages"), 12);
    assert_int_equal(stat_value(fixture->store, "put_bytes"), 60000);
    assert_int_equal(stat_value(fixture->store, "get_pages"), 12);
    assert_int_equal(stat_value(fixture->store, "get_bytes"), 60000);
    assert_int_equal(stat_value(fixture->store, "probe_pages"), 20);
    assert_int_equal(stat_value(fixture->store, "probe_hits"), 12);
    assert_int_equal(stat_value(fixture->store, "capacity_bytes"), 64u << 20);
    assert_int_equal(stat_value(fixture->store, "namespaces"), 1);
    assert_int_equal(stat_value(fixture->store, "segments"), 1);
    assert_true(stat_value(fixture->store, "disk_bytes") <= 64u << 20);
    for (; (desc = varve_stat_describe(count)) != NULL; count++) {
        for (size_t i = 0; i < count; i++)
            assert_string_not_equal(varve_stat_describe(i)->name, desc->name);
        assert_true(strlen(desc->help) > 5 && strspn(desc->name, "abcdefghijklmnopqrstuvwxyz_0123456789") > 3);
    }
    values[3] = 77;
    assert_int_equal(varve_stats_get(fixture->store, values, 3), count);
    assert_int_equal(values[3], 77);
}

/* What does not fit pushes out what was not used for longest; what is used stays. */
static void
test_capacity(void **state)
{
    struct fixture *fixture = *state;
    size_t found = 0;

    for (size_t chain = 0; chain < 200; chain++) { /* 200 MiB through 64 */
        chain_put(fixture->store, fixture->ns, chain, 16, 65536);
        assert_int_equal(chain_probe(fixture->store, fixture->ns, 0, 16), 16); /* touches it */
        assert_true(stat_value(fixture->store, "disk_bytes") <= 64u << 20);
    }
    chain_get(fixture->store, fixture->ns, 0, 16, 65536); /* before others are used later, and it is the next to go */
    for (size_t chain = 0; chain < 200; chain++)
        found += chain_probe(fixture->store, fixture->ns, chain, 16) == 16;
    assert_in_range(found, 35, 64);
    assert_true(stat_value(fixture->store, "segments_dropped") > 0);
}

static void
test_sync(void **state)
{
    struct fixture *fixture = *state;
    struct batch batch;
    uint64_t syncs;

    chain_put(fixture->store, fixture->ns, 1, 5, 1000);
    assert_int_equal(varve_sync(fixture->store, NULL), VARVE_OK);
    syncs = stat_value(fixture->store, "syncs");
    assert_true(syncs > 0);
    batch_init(&batch, 2, 0, 5, 1000, 0);
    batch_fill(&batch);
    assert_int_equal(varve_put_batch(fixture->store, fixture->ns, NULL, batch.pages, 5, VARVE_PUT_SYNC, NULL),
                     VARVE_OK);
    assert_true(stat_value(fixture->store, "syncs") > syncs);
    assert_int_equal(varve_put_batch(fixture->store, fixture->ns, NULL, batch.pages, 5, 0x80, NULL), VARVE_E_ARG);
    batch_free(&batch);
}

static void
test_names(void **state)
{
    (void)state;
    for (int code = VARVE_E_NOSTORE; code <= VARVE_E_ARG; code++)
        assert_memory_equal(varve_strerror(code), "VARVE_E_", 8);
    assert_memory_equal(varve_strerror(VARVE_OK), "VARVE_OK", 8);
    assert_memory_equal(varve_strerror(VARVE_MISS), "VARVE_MISS", 10);
    assert_string_equal(varve_strerror(-5), "unknown status");
    assert_int_equal(varve_version_number(), VARVE_VERSION_NUMBER);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_wrong_namespace, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clear, setup, teardown),
        cmocka_unit_test(test_scattered_buffers),
        cmocka_unit_test_setup_teardown(test_remove, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exists_and_touch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_estimate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_iteration, setup, teardown),
        cmocka_unit_test_setup_teardown(test_options, setup, teardown),
        cmocka_unit_test_setup_teardown(test_live_options, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stats, setup, teardown),
        cmocka_unit_test_setup_teardown(test_capacity, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sync, setup, teardown),
        cmocka_unit_test(test_names),
    };

    scratch_require((uint64_t)200 << 20);
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
