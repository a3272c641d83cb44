/* SPDX-License-Identifier: Apache-2.0 */
/* The memtable: order, lookup, bounds, running out of memory, and readers beside a writer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "index/memtable.h"
#include "index_model.h"

#define BYTES (UINT64_C(2) << 20)

static struct model_entry made;

static const struct mem_entry *
find(const struct memtable *memtable, uint32_t ns_id, uint64_t branch, uint32_t depth, uint32_t *page)
{
    varve_id id = model_id(ns_id, branch, depth);
    struct memtable_probe probe;

    memtable_probe_init(&probe, memtable, hash_id(ns_id, id.bytes));
    return memtable_probe_next(&probe, ns_id, id.bytes, page);
}

/* Fill with entries of random size in random order. Returns their number; keys[] are (branch, depth 0, count). */
static uint32_t
fill_up(struct memtable *memtable, uint64_t *seed, uint32_t count_max, uint32_t *counts)
{
    uint32_t entries = 0;

    for (;;) {
        uint32_t count = 1 + (uint32_t)(model_random(seed) % count_max);
        struct key key = {1, 0, entries + 1};

        if (!memtable_has_room(memtable, count))
            return entries;
        model_fill(&made, &key, count, key.branch % MODEL_SEGMENTS, 4096 * key.branch);
        assert_int_equal(memtable_insert(memtable, &made.entry), VARVE_OK);
        counts[entries++] = count;
    }
}

static void
test_fill_and_find(void **state)
{
    static const uint32_t count_max[] = {1, 3, 128, ENTRY_PAGES_MAX};
    uint64_t seed = model_seed();
    uint32_t *counts = calloc(1 << 20, sizeof(*counts));

    (void)state;
    for (size_t i = 0; i < sizeof(count_max) / sizeof(count_max[0]); i++) {
        struct plain_env *env = plain_env_create(NULL);
        struct memtable *memtable;
        uint64_t pages = 0;
        uint32_t entries, page;

        assert_int_equal(memtable_create(&env->env, BYTES, &memtable), VARVE_OK);
        assert_true(memtable->memory_bytes < BYTES / 20); /* an empty one is small */
        assert_true(memtable_has_room(memtable, ENTRY_PAGES_MAX));
        entries = fill_up(memtable, &seed, count_max[i], counts);
        for (uint32_t branch = 1; branch <= entries; branch++) {
            for (uint32_t depth = 0; depth < counts[branch - 1]; depth++) {
                const struct mem_entry *node = find(memtable, 1, branch, depth, &page);

                assert_non_null(node);
                assert_int_equal(node->entry.key.branch, branch);
                assert_int_equal(page, depth);
                assert_true(entry_sum(&node->entry, page) ==
                            model_sum(&(struct key){1, depth, branch}, branch % MODEL_SEGMENTS));
            }
            assert_null(find(memtable, 1, branch, counts[branch - 1], &page));
            assert_null(find(memtable, 2, branch, 0, &page));
            pages += counts[branch - 1];
        }
        assert_true(memtable->pages == pages);
        assert_true(memtable->memory_bytes <= BYTES);
        assert_true(pages * (count_max[i] >= 128 ? 50 : 250) > BYTES); /* and its memory is put to use */
        memtable_unref(memtable);
        plain_env_destroy(env);
    }
    free(counts);
}

static void
test_order(void **state)
{
    struct plain_env *env = plain_env_create(NULL);
    uint64_t seed = model_seed();
    struct memtable *memtable;
    struct key before = {0, 0, 0};
    uint32_t walked = 0;

    (void)state;
    assert_int_equal(memtable_create(&env->env, BYTES, &memtable), VARVE_OK);
    assert_null(memtable_first(memtable));
    for (int i = 0; i < 2000; i++) {
        struct key key = {(uint32_t)(model_random(&seed) % 3), (uint32_t)(model_random(&seed) % 50),
                          1 + model_random(&seed) % 20};

        model_fill(&made, &key, 1, 1, (uint64_t)i * 4096);
        assert_int_equal(memtable_insert(memtable, &made.entry), VARVE_OK);
    }
    for (const struct mem_entry *node = memtable_first(memtable); node != NULL; node = memtable_next(node)) {
        assert_true(key_compare(&before, &node->entry.key) <= 0);
        before = node->entry.key;
        walked++;
    }
    assert_int_equal(walked, 2000);
    for (int i = 0; i < 500; i++) {
        struct key key = {(uint32_t)(model_random(&seed) % 4), (uint32_t)(model_random(&seed) % 60),
                          model_random(&seed) % 22};
        const struct mem_entry *node = memtable_first(memtable);

        while (node != NULL && key_compare(&node->entry.key, &key) < 0)
            node = memtable_next(node);
        assert_ptr_equal(memtable_seek(memtable, &key), node);
    }
    memtable_unref(memtable);
    plain_env_destroy(env);
}

/* One id put several times: every entry is found. */
static void
test_duplicates(void **state)
{
    struct plain_env *env = plain_env_create(NULL);
    struct key key = {1, 7, 5};
    varve_id id = model_id(1, 5, 8);
    struct memtable_probe probe;
    struct memtable *memtable;
    const struct mem_entry *node;
    uint64_t segments = 0;
    uint32_t page = 0;

    (void)state;
    assert_int_equal(memtable_create(&env->env, 0, &memtable), VARVE_OK);
    for (uint64_t segment = 0; segment < 10; segment++) {
        model_fill(&made, &key, 3, segment, 4096);
        assert_int_equal(memtable_insert(memtable, &made.entry), VARVE_OK);
    }
    memtable_probe_init(&probe, memtable, hash_id(1, id.bytes));
    while ((node = memtable_probe_next(&probe, 1, id.bytes, &page)) != NULL) {
        assert_int_equal(page, 1);
        segments |= UINT64_C(1) << node->entry.segment;
    }
    assert_int_equal(segments, 0x3ff);
    memtable_unref(memtable);
    plain_env_destroy(env);
}

/* Each allocation fails once: an error, nothing half done, nothing leaked. */
static void
test_out_of_memory(void **state)
{
    bool failed = true;

    (void)state;
    for (long n = 1; failed; n++) {
        struct plain_env *env = plain_env_create(NULL);
        struct memtable *memtable = NULL;
        int rc;

        atomic_store(&env->alloc_fails_in, n);
        rc = memtable_create(&env->env, BYTES, &memtable);
        failed = rc < 0;
        for (uint32_t branch = 1; rc == VARVE_OK && branch <= 300; branch++) {
            struct key key = {1, 0, branch};
            uint32_t page;

            model_fill(&made, &key, 100, 1, 4096);
            rc = memtable_insert(memtable, &made.entry);
            if (rc < 0) {
                failed = true;
                assert_int_equal(rc, VARVE_E_NOMEM);
                assert_null(find(memtable, 1, branch, 0, &page));
                rc = memtable_insert(memtable, &made.entry); /* memory is there again */
            }
            assert_non_null(find(memtable, 1, branch, 99, &page));
        }
        if (memtable != NULL)
            memtable_unref(memtable);
        plain_env_destroy(env);
    }
}

#define SHARED_BRANCHES 1500
#define SHARED_ROUNDS   10
#define SHARED_BYTES    ((uint64_t)8 << 20)
#define SHARED_PAGES    64 /* of each: the insertion takes a while */

struct shared {
    struct memtable *memtable;
    atomic_uint inserted; /* branches 1..inserted are in */
};

/* The entry that is being inserted: when it is found it is in its place in order, too, since lookups go on from there. */
static bool
next_is_in_order(const struct shared *shared)
{
    struct key key = {1, 0, atomic_load(&shared->inserted) + 1};
    const struct mem_entry *node;
    uint32_t page;

    if (find(shared->memtable, 1, (uint32_t)key.branch, 0, &page) == NULL)
        return true;
    node = memtable_seek(shared->memtable, &key);
    return node != NULL && node->entry.key.branch == key.branch;
}

/* Whatever was inserted before a look must be found, whole, and in order. */
static void *
reader(void *arg)
{
    struct shared *shared = arg;
    uint64_t seed = (uint64_t)(uintptr_t)&seed;
    uint32_t done = 0;
    uint64_t wrong = 0;

    while (done < SHARED_BRANCHES) {
        struct key before = {0, 0, 0};
        uint32_t page = 0;
        uint32_t walked = 0;

        done = atomic_load(&shared->inserted);
        for (int i = 0; i < 200 && done > 0; i++) {
            uint32_t branch = 1 + (uint32_t)(model_random(&seed) % SHARED_BRANCHES);
            const struct mem_entry *node = find(shared->memtable, 1, branch, 3, &page);

            wrong += node == NULL ? branch <= done
                                  : page != 3 || node->entry.key.branch != branch ||
                                        find(shared->memtable, 1, branch, 0, &page) != node;
            wrong += !next_is_in_order(shared);
        }
        for (const struct mem_entry *node = memtable_first(shared->memtable); node != NULL;
             node = memtable_next(node)) {
            wrong += key_compare(&before, &node->entry.key) >= 0;
            before = node->entry.key;
            walked++;
        }
        wrong += walked < done;
    }
    return (void *)(uintptr_t)wrong;
}

static void
insert_under_readers(void)
{
    struct plain_env *env = plain_env_create(NULL);
    struct shared shared = {.memtable = NULL};
    pthread_t threads[3];

    assert_int_equal(memtable_create(&env->env, SHARED_BYTES, &shared.memtable), VARVE_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, reader, &shared), 0);
    for (uint32_t i = 1; i <= SHARED_BRANCHES; i++) {
        struct key key = {1, 0, i};

        model_fill(&made, &key, SHARED_PAGES, 1, 4096);
        assert_int_equal(memtable_insert(shared.memtable, &made.entry), VARVE_OK);
        atomic_store(&shared.inserted, i);
    }
    for (int i = 0; i < 3; i++) {
        void *wrong;

        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    memtable_unref(shared.memtable);
    plain_env_destroy(env);
}

static void
test_concurrent_readers(void **state)
{
    (void)state;
    for (int i = 0; i < SHARED_ROUNDS; i++)
        insert_under_readers();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fill_and_find),      cmocka_unit_test(test_order),
        cmocka_unit_test(test_duplicates),         cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_concurrent_readers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
