/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several writers, readers and others at once on one store that is too small for what they put, so segments are dropped, runs
 * merged and files closed under them. Every page read is compared: it is right, or a miss.
 */
#include "api_util.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define WRITERS     3
#define READERS     3
#define BATCHES     60 /* of each writer */
#define BATCH_PAGES 64 /* enough, in all, to fill memtables */
#define PAGE_BYTES  8000
#define FAR         1000000 /* between the chains of different writers */

struct shared {
    varve_store *store;
    varve_namespace *ns;
    varve_namespace *scratch;      /* cleared again and again */
    _Atomic uint64_t put[WRITERS]; /* batches acknowledged */
    atomic_bool stop;
    _Atomic uint64_t failures; /* counted, as cmocka's assertions are for its own thread only */
    _Atomic uint64_t right;
    _Atomic uint64_t next_thread;
};

static void
expect(struct shared *shared, bool holds)
{
    if (!holds)
        atomic_fetch_add(&shared->failures, 1);
}

static void
put_pages(struct shared *shared, varve_namespace *ns, uint64_t chain, unsigned flags)
{
    struct batch batch;

    batch_init(&batch, chain, 0, BATCH_PAGES, PAGE_BYTES, chain % 2);
    batch_fill(&batch);
    expect(shared, varve_put_batch(shared->store, ns, NULL, batch.pages, batch.count, flags, NULL) == VARVE_OK);
    for (size_t i = 0; i < batch.count; i++)
        expect(shared, batch.pages[i].status == VARVE_OK);
    batch_free(&batch);
}

static void *
writer_main(void *arg)
{
    struct shared *shared = arg;
    uint64_t writer = atomic_fetch_add(&shared->next_thread, 1) % WRITERS;

    for (uint64_t i = 0; i < BATCHES; i++) {
        put_pages(shared, shared->ns, writer * FAR + i, i % 16 == 0 ? VARVE_PUT_SYNC : 0);
        if (i > 0 && i % 4 == 0) /* stored already, most likely, or dropped and stored anew; by another writer's hand */
            put_pages(shared, shared->ns, (writer + 1) % WRITERS * FAR + i / 2, 0);
        atomic_store(&shared->put[writer], i + 1);
    }
    return NULL;
}

static void
get_pages(struct shared *shared, varve_namespace *ns, uint64_t chain, size_t skew)
{
    struct batch batch;
    varve_id ids[BATCH_PAGES];
    int64_t found;

    batch_init(&batch, chain, 0, BATCH_PAGES, PAGE_BYTES, skew);
    for (size_t i = 0; i < BATCH_PAGES; i++)
        ids[i] = batch.pages[i].id;
    found = varve_probe(shared->store, ns, ids, BATCH_PAGES, NULL, NULL);
    expect(shared, found >= 0 && found <= BATCH_PAGES);
    expect(shared, varve_get_batch(shared->store, ns, batch.pages, batch.count, NULL) == VARVE_OK);
    for (size_t i = 0; i < batch.count; i++) {
        const varve_page *page = &batch.pages[i];

        if (page->status == VARVE_MISS)
            continue;
        expect(shared, page->status == VARVE_OK && page->size == PAGE_BYTES &&
                           page_right(&page->id, page->iov->iov_base, PAGE_BYTES));
        atomic_fetch_add(&shared->right, 1);
    }
    batch_free(&batch);
}

static void *
reader_main(void *arg)
{
    struct shared *shared = arg;
    uint64_t rng = 1000 + atomic_fetch_add(&shared->next_thread, 1);

    while (!atomic_load(&shared->stop)) {
        uint64_t writer = rng_below(&rng, WRITERS);
        uint64_t put = atomic_load(&shared->put[writer]);

        get_pages(shared, shared->ns, writer * FAR + rng_below(&rng, put + 2), rng_below(&rng, 2) * 8);
    }
    return NULL;
}

/* Everything else: clear, remove, touch, iterate, options, statistics, sync. */
static void *
other_main(void *arg)
{
    struct shared *shared = arg;
    uint64_t values[256];

    for (uint64_t i = 0; !atomic_load(&shared->stop); i++) {
        varve_id id = page_id(i % 50, i % BATCH_PAGES);
        varve_item item = VARVE_ITEM_INIT;
        varve_iter *iter;

        put_pages(shared, shared->scratch, i, 0);
        get_pages(shared, shared->scratch, i, 0);
        expect(shared, varve_namespace_clear(shared->store, shared->scratch, NULL) == VARVE_OK);
        expect(shared, varve_remove_batch(shared->store, shared->ns, &id, 1, NULL) >= 0);
        expect(shared, varve_touch(shared->store, shared->ns, &id, 1, NULL) >= 0);
        expect(shared, varve_option_set(shared->store, "size_ratio", i % 2 == 0 ? "3" : "8", NULL) == VARVE_OK);
        (void)varve_stats_get(shared->store, values, 256);
        expect(shared, varve_sync(shared->store, NULL) == VARVE_OK);
        expect(shared, varve_iter_open(shared->store, NULL, VARVE_ITER_PAGES, &iter, NULL) == VARVE_OK);
        while (varve_iter_next(iter, &item, NULL) == VARVE_OK) {
            /* Names belong to other threads' namespaces: reading them is the test. */
            expect(shared, item.namespace_name == NULL || strlen(item.namespace_name) > 0);
        }
        varve_iter_close(iter);
    }
    return NULL;
}

static void
run_threads(const char *const *settings)
{
    struct shared shared = {0};
    pthread_t writers[WRITERS], readers[READERS], other;
    char path[PATH_BYTES];

    scratch_create(path);
    shared.store = store_open_with(path, settings);
    shared.ns = namespace_get(shared.store, "threads");
    shared.scratch = namespace_get(shared.store, "scratch");
    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, writer_main, &shared), 0);
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, reader_main, &shared), 0);
    assert_int_equal(pthread_create(&other, NULL, other_main, &shared), 0);
    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_join(writers[i], NULL), 0);
    atomic_store(&shared.stop, true);
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_join(readers[i], NULL), 0);
    assert_int_equal(pthread_join(other, NULL), 0);

    assert_int_equal(atomic_load(&shared.failures), 0);
    assert_true(atomic_load(&shared.right) > 0);
    assert_true(stat_value(shared.store, "segments_dropped") > 0);
    assert_true(stat_value(shared.store, "index_flushes") > 0);
    assert_int_equal(stat_value(shared.store, "get_corrupt"), 0);
    assert_int_equal(stat_value(shared.store, "background_errors"), 0);
    check_clean(shared.store);
    store_close(shared.store);
    shared.store = store_open_with(path, settings);
    check_clean(shared.store);
    store_close(shared.store);
    scratch_remove(path);
    print_message("%llu pages read and right\n", (unsigned long long)atomic_load(&shared.right));
}

static void
test_uring(void **state)
{
    static const char *const settings[] = {"capacity=24M", "memtable_bytes=256K", "open_files=16", NULL};

    (void)state; /* auto: io_uring wherever it is allowed */
    run_threads(settings);
}

static void
test_pool(void **state)
{
    static const char *const settings[] = {"capacity=24M", "memtable_bytes=256K", "io_engine=threads", "io_threads=4",
                                           NULL};

    (void)state;
    run_threads(settings);
}

static void
test_no_background(void **state)
{
    static const char *const settings[] = {"capacity=24M", "memtable_bytes=256K", "background=off", "io_bytes=64K",
                                           NULL};

    (void)state;
    run_threads(settings);
}

#define OPENERS 4
#define NAMES   30

struct opening {
    varve_store *store;
    pthread_barrier_t *barrier;
    varve_namespace *opened[NAMES];
};

static void *
opener_main(void *arg)
{
    struct opening *opening = arg;
    char name[16];

    for (int i = 0; i < NAMES; i++) {
        (void)snprintf(name, sizeof(name), "name %d", i);
        (void)pthread_barrier_wait(opening->barrier);
        if (varve_namespace_open(opening->store, name, NULL, &opening->opened[i], NULL) != VARVE_OK)
            opening->opened[i] = NULL;
    }
    return NULL;
}

/* Threads that open a new name at once get one namespace. */
static void
test_same_name(void **state)
{
    struct fixture *fixture = fixture_create(NULL);
    struct opening openings[OPENERS];
    pthread_t threads[OPENERS];
    pthread_barrier_t barrier;

    (void)state;
    assert_int_equal(pthread_barrier_init(&barrier, NULL, OPENERS), 0);
    for (size_t i = 0; i < OPENERS; i++) {
        openings[i] = (struct opening){.store = fixture->store, .barrier = &barrier};
        assert_int_equal(pthread_create(&threads[i], NULL, opener_main, &openings[i]), 0);
    }
    for (size_t i = 0; i < OPENERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(pthread_barrier_destroy(&barrier), 0);
    for (size_t i = 0; i < OPENERS; i++) {
        for (size_t j = 0; j < NAMES; j++) {
            assert_non_null(openings[i].opened[j]);
            assert_ptr_equal(openings[i].opened[j], openings[0].opened[j]);
        }
    }
    fixture_destroy(fixture);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uring),
        cmocka_unit_test(test_pool),
        cmocka_unit_test(test_no_background),
        cmocka_unit_test(test_same_name),
    };

    scratch_require((uint64_t)64 << 20);
    return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
