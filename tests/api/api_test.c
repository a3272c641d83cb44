/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Put, probe and get through the public API on a real directory: every size, shape of buffers and kind of batch, each page
 * compared byte for byte, again after reopening.
 */
#include "api_util.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

static const char *const small_store[] = {"capacity=512M", "memtable_bytes=256K", NULL};
static const char *const threads_store[] = {"capacity=512M", "io_engine=threads", NULL};
static const char *const buffered_store[] = {"capacity=512M", "direct_io=off", NULL};
static const char *const quiet_store[] = {"capacity=512M", "background=off", "io_bytes=16K", NULL};
static const char *const *const stores[] = {small_store, threads_store, buffered_store, quiet_store};

static int
setup(void **state)
{
    *state = fixture_create(small_store);
    return 0;
}

static int
teardown(void **state)
{
    fixture_destroy(*state);
    return 0;
}

static void
test_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 511, 512, 513, 4096, 16384, MIB + 1, 64 * MIB, 65535, 0, 3};
    static const size_t skews[] = {0, 1, 512, 4095};
    const size_t count = sizeof(sizes) / sizeof(sizes[0]);
    struct fixture *fixture = *state;

    for (size_t s = 0; s < sizeof(stores) / sizeof(stores[0]); s++) {
        struct batch batch;

        fixture_reopen(fixture, stores[s]);
        batch_init_sizes(&batch, 100 + s, 0, count, sizes, skews[s]);
        batch_put(fixture->store, fixture->ns, NULL, &batch);
        batch_get(fixture->store, fixture->ns, &batch);
        assert_int_equal(chain_probe(fixture->store, fixture->ns, 100 + s, count), count);
        fixture_reopen(fixture, stores[s]);
        batch_get(fixture->store, fixture->ns, &batch);
        batch_free(&batch);
        assert_int_equal(varve_namespace_clear(fixture->store, fixture->ns, NULL), VARVE_OK);
    }
}

static void
test_alone(void **state)
{
    static const size_t sizes[] = {0, 1, 511, 512, 513, 4096, MIB + 1, 64 * MIB};
    struct fixture *fixture = *state;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        chain_put(fixture->store, fixture->ns, 200 + i, 1, sizes[i]);
        chain_get(fixture->store, fixture->ns, 200 + i, 1, sizes[i]);
    }
    fixture_reopen(fixture, small_store);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        chain_get(fixture->store, fixture->ns, 200 + i, 1, sizes[i]);
}

/* Cut `size` bytes at `base` into `count` iovecs of random lengths, empty ones included, or of multiples of `unit`. */
static void
cut_iov(uint64_t *rng, uint8_t *base, size_t size, size_t unit, struct iovec *iov, uint32_t count)
{
    size_t at = 0;

    for (uint32_t i = 0; i < count; i++) {
        size_t left = size - at;
        size_t part = i + 1 == count ? left : rng_below(rng, left / (count - i) / unit * 2 + 1) * unit;

        if (part > left)
            part = left;
        iov[i] = (struct iovec){base + at, part};
        at += part;
    }
}

static void
test_iovecs(void **state)
{
    static const uint32_t counts[] = {1, 2, 7, 64, VARVE_PAGE_IOV_MAX};
    struct fixture *fixture = *state;
    uint64_t rng = rng_seed(1);
    const size_t size = MIB;
    uint8_t *bytes = aligned_alloc(4096, size);
    struct iovec iov[VARVE_PAGE_IOV_MAX];

    for (size_t i = 0; i < 40; i++) {
        varve_page page = {.id = page_id(300, i), .iov = iov, .iov_count = counts[rng_below(&rng, 5)]};
        size_t unit = rng_below(&rng, 2) == 0 ? 1 : 4096;

        page_fill(&page.id, bytes, size);
        cut_iov(&rng, bytes, size, unit, iov, page.iov_count);
        assert_int_equal(varve_put_batch(fixture->store, fixture->ns, NULL, &page, 1, 0, NULL), VARVE_OK);
        assert_int_equal(page.status, VARVE_OK);
        memset(bytes, 0xee, size);
        page.iov_count = counts[rng_below(&rng, 5)];
        cut_iov(&rng, bytes, size, unit, iov, page.iov_count);
        assert_int_equal(varve_get_batch(fixture->store, fixture->ns, &page, 1, NULL), VARVE_OK);
        assert_int_equal(page.status, VARVE_OK);
        assert_int_equal(page.size, size);
        assert_true(page_right(&page.id, bytes, size));
    }
    free(bytes);
}

static void
test_largest_batch(void **state)
{
    struct fixture *fixture = *state;
    struct batch batch;
    varve_error err = {0};

    batch_init(&batch, 400, 0, VARVE_BATCH_PAGES_MAX, 100, 0);
    batch_put(fixture->store, fixture->ns, NULL, &batch);
    batch_get(fixture->store, fixture->ns, &batch);
    assert_int_equal(chain_probe(fixture->store, fixture->ns, 400, batch.count), batch.count);
    assert_int_equal(
        varve_put_batch(fixture->store, fixture->ns, NULL, batch.pages, VARVE_BATCH_PAGES_MAX + 1, 0, &err),
        VARVE_E_ARG);
    assert_non_null(strstr(err.message, "16384"));
    batch_free(&batch);
}

/* Ids that occur twice in a batch, and chains put in pieces, again and again. */
static void
test_duplicates(void **state)
{
    struct fixture *fixture = *state;
    struct batch batch;
    uint64_t pages;

    batch_init(&batch, 500, 0, 10, 3000, 0);
    batch.pages[3].id = batch.pages[7].id = batch.pages[0].id;
    batch.pages[9].id = batch.pages[8].id;
    batch_put(fixture->store, fixture->ns, NULL, &batch);
    batch_get(fixture->store, fixture->ns, &batch);
    pages = stat_value(fixture->store, "put_pages");
    assert_int_equal(pages, 7);
    assert_int_equal(stat_value(fixture->store, "put_duplicates"), 3);
    batch_put(fixture->store, fixture->ns, NULL, &batch);
    assert_int_equal(stat_value(fixture->store, "put_pages"), pages);
    batch_free(&batch);

    for (size_t end = 1; end <= 40; end += 3) { /* overlapping pieces with the right parent */
        size_t first = end > 10 ? end - 10 : 0;
        varve_id parent = page_id(501, first == 0 ? 0 : first - 1);

        batch_init(&batch, 501, first, end - first, 700, 0);
        batch_put(fixture->store, fixture->ns, first == 0 ? NULL : &parent, &batch);
        batch_free(&batch);
    }
    assert_int_equal(chain_probe(fixture->store, fixture->ns, 501, 41), 40);
    chain_get(fixture->store, fixture->ns, 501, 40, 700);
}

/* A chain with a repeated id is no chain, and still every page in it is found. */
static void
test_repeated_in_chain(void **state)
{
    struct fixture *fixture = *state;
    struct batch batch;
    varve_id ids[6];

    batch_init(&batch, 510, 0, 6, 900, 0);
    batch.pages[4].id = batch.pages[1].id;
    batch_put(fixture->store, fixture->ns, &batch.pages[5].id, &batch); /* and its own descendant as parent */
    for (size_t i = 0; i < 6; i++)
        ids[i] = batch.pages[i].id;
    assert_int_equal(varve_probe(fixture->store, fixture->ns, ids, 6, NULL, NULL), 6);
    batch_get(fixture->store, fixture->ns, &batch);
    batch_free(&batch);
}

/* One bad page never fails its neighbours. */
static void
test_partial_success(void **state)
{
    struct fixture *fixture = *state;
    struct iovec huge = {NULL, 64 * MIB + 1};
    struct batch batch;

    batch_init(&batch, 600, 0, 8, 2000, 0);
    batch_fill(&batch);
    huge.iov_base = batch.bytes; /* never read: the size alone is refused */
    batch.pages[2].iov = &huge;
    batch.pages[4].iov = NULL;
    batch.pages[6].iov_count = VARVE_PAGE_IOV_MAX + 1;
    assert_int_equal(varve_put_batch(fixture->store, fixture->ns, NULL, batch.pages, 8, 0, NULL), VARVE_OK);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(batch.pages[i].status, i % 2 == 0 && i > 0 ? VARVE_E_ARG : VARVE_OK);
    assert_int_equal(chain_probe(fixture->store, fixture->ns, 600, 8), 2);

    for (size_t i = 0; i < 8; i++) {
        batch.pages[i].iov = &batch.iov[i];
        batch.pages[i].iov_count = 1;
    }
    batch.iov[1].iov_len = 1999; /* too small for what is stored */
    batch.iov[3].iov_len = 0;
    batch_wipe(&batch);
    assert_int_equal(varve_get_batch(fixture->store, fixture->ns, batch.pages, 8, NULL), VARVE_OK);
    for (size_t i = 0; i < 8; i++) {
        int expected = i % 2 == 0 && i > 0 ? VARVE_MISS : i == 1 || i == 3 ? VARVE_E_ARG : VARVE_OK;

        assert_int_equal(batch.pages[i].status, expected);
        if (expected != VARVE_MISS)
            assert_int_equal(batch.pages[i].size, 2000);
        if (expected == VARVE_OK)
            assert_true(page_right(&batch.pages[i].id, batch.iov[i].iov_base, 2000));
    }
    batch_free(&batch);
}

/* Buffers larger than the page: the rest is not touched. */
static void
test_larger_buffers(void **state)
{
    static const size_t sizes[] = {0, 1, 511, 512, 4096, 5000};
    struct fixture *fixture = *state;
    uint8_t *bytes = aligned_alloc(4096, 16384);

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct iovec iov[2] = {{bytes, 4096}, {bytes + 4096, 12288}};
        varve_page page = {.id = page_id(700 + i, 0), .iov = iov, .iov_count = 2};

        chain_put(fixture->store, fixture->ns, 700 + i, 1, sizes[i]);
        memset(bytes, 0x5a, 16384);
        assert_int_equal(varve_get_batch(fixture->store, fixture->ns, &page, 1, NULL), VARVE_OK);
        assert_int_equal(page.status, VARVE_OK);
        assert_int_equal(page.size, sizes[i]);
        assert_true(page_right(&page.id, bytes, sizes[i]));
        for (size_t at = sizes[i]; at < 16384; at++)
            assert_int_equal(bytes[at], 0x5a);
    }
    free(bytes);
}

/* Random puts, of chains that fork, and random reads of them against what was put; reopened now and then. */
static void
test_random(void **state)
{
    enum { CHAINS = 60, LENGTH = 80 };
    struct fixture *fixture = *state;
    size_t stored[CHAINS] = {0};
    uint64_t rng = rng_seed(2);

    for (int step = 0; step < 1500; step++) {
        size_t chain = rng_below(&rng, CHAINS);
        size_t size = chain % 7 * 611; /* all pages of a chain have one size */
        struct batch batch;

        if (rng_below(&rng, 2) == 0 && stored[chain] < LENGTH) {
            size_t count = 1 + rng_below(&rng, LENGTH - stored[chain]);
            varve_id parent = page_id(800 + chain, stored[chain] - 1);

            batch_init(&batch, 800 + chain, stored[chain], count, size, rng_below(&rng, 2));
            batch_put(fixture->store, fixture->ns, stored[chain] > 0 && rng_below(&rng, 4) > 0 ? &parent : NULL,
                      &batch);
            stored[chain] += count;
            batch_free(&batch);
        } else if (stored[chain] > 0) {
            size_t first = rng_below(&rng, stored[chain]);

            batch_init(&batch, 800 + chain, first, stored[chain] - first, size, rng_below(&rng, 2));
            batch_get(fixture->store, fixture->ns, &batch);
            batch_free(&batch);
        }
        assert_int_equal(chain_probe(fixture->store, fixture->ns, 800 + chain, LENGTH), stored[chain]);
        if (step % 300 == 299)
            fixture_reopen(fixture, stores[(size_t)step / 300 % 4]);
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_iovecs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_largest_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_duplicates, setup, teardown),
        cmocka_unit_test_setup_teardown(test_repeated_in_chain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_partial_success, setup, teardown),
        cmocka_unit_test_setup_teardown(test_larger_buffers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random, setup, teardown),
    };

    scratch_require((uint64_t)700 << 20);
    return cmocka_run_group_tests_name("api", tests, NULL, NULL);
}
