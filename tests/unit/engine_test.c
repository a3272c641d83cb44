/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h, of every engine that was built: what is put is found and read back, also after a reopen; what was not put is missing; a page that is
 * there stays as it is; pages of many sizes and alignments; several threads. The bytes of a page follow from its id.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bench_dir.h"
#include "engine.h"
#include "page_buffers.h"
#include "random.h"

#define BATCH        24
#define CHAINS       6
#define CAPACITY     ((uint64_t)64 << 20)
#define THREADS      4
#define THREAD_PAGES 40
#define PATH_BYTES   512

static struct page_content *content;

struct fixture {
    const struct engine_ops *ops;
    struct engine *engine;
    uint64_t page_bytes;
    struct page_buffers buffers;
    char scratch[PATH_BYTES - 128];
    char path[PATH_BYTES];
};

static varve_id
make_id(uint64_t chain, uint64_t depth)
{
    varve_id id;

    for (uint64_t i = 0; i < 4; i++) {
        uint64_t word = random_mix(random_mix(chain * 4 + i) + depth);

        memcpy(id.bytes + 8 * i, &word, sizeof(word));
    }
    return id;
}

static void
open_engine(struct fixture *fixture)
{
    const struct engine_settings settings = {
        .path = fixture->path, .capacity = CAPACITY, .page_bytes = fixture->page_bytes, .batch = BATCH};
    varve_error err = {0};

    if (fixture->ops->open(&settings, &fixture->engine, &err) != VARVE_OK)
        fail_msg("%s: open: %s", fixture->ops->name, err.message);
}

static void
close_engine(struct fixture *fixture)
{
    assert_int_equal(fixture->ops->close(fixture->engine, NULL), VARVE_OK);
}

static void
begin(struct fixture *fixture, const struct engine_ops *ops, uint64_t page_bytes)
{
    const char *dir = getenv("VARVE_TEST_DIR");

    *fixture = (struct fixture){.ops = ops, .page_bytes = page_bytes};
    (void)snprintf(fixture->scratch, sizeof(fixture->scratch), "%s/engine-XXXXXX", dir == NULL ? "/tmp" : dir);
    assert_non_null(mkdtemp(fixture->scratch));
    (void)snprintf(fixture->path, sizeof(fixture->path), "%s/" BENCH_PREFIX "%s", fixture->scratch, ops->name);
    assert_int_equal(page_buffers_init(&fixture->buffers, BATCH, page_bytes), VARVE_OK);
    open_engine(fixture);
}

static void
end(struct fixture *fixture)
{
    char other[256];

    close_engine(fixture);
    page_buffers_deinit(&fixture->buffers);
    assert_int_equal(bench_dir_clean(fixture->scratch, true, other), 0);
    assert_string_equal(other, "");
    assert_int_equal(rmdir(fixture->scratch), 0);
}

/* Put pages [first, first + count) of a chain. `content_of` is the chain whose bytes they get. */
static void
put_as(struct fixture *fixture, uint64_t chain, uint64_t first, size_t count, uint64_t content_of)
{
    varve_page *pages = fixture->buffers.pages;
    varve_id parent = make_id(chain, first - 1);

    for (size_t i = 0; i < count; i++) {
        pages[i].id = make_id(content_of, first + i);
        page_buffers_fill(&fixture->buffers, i, content);
        pages[i].id = make_id(chain, first + i);
        pages[i].status = VARVE_E_IO;
    }
    assert_int_equal(fixture->ops->put(fixture->engine, first == 0 ? NULL : &parent, pages, count, NULL), VARVE_OK);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pages[i].status, VARVE_OK);
}

static void
put(struct fixture *fixture, uint64_t chain, uint64_t first, size_t count)
{
    put_as(fixture, chain, first, count, chain);
}

static int64_t
probe(struct fixture *fixture, uint64_t chain, uint64_t first, size_t count)
{
    varve_id ids[4 * BATCH];

    assert_true(count <= sizeof(ids) / sizeof(ids[0]));
    for (size_t i = 0; i < count; i++)
        ids[i] = make_id(chain, first + i);
    return fixture->ops->probe(fixture->engine, ids, count, NULL);
}

/* Get pages [0, count) of a chain, of which [0, stored) are there and all others are not; every second one is asked for under a name that is not stored. */
static void
check_get(struct fixture *fixture, uint64_t chain, uint64_t first, size_t count, size_t stored, bool holes)
{
    varve_page *pages = fixture->buffers.pages;

    memset(fixture->buffers.memory, 0xa5, count * (size_t)fixture->page_bytes);
    for (size_t i = 0; i < count; i++) {
        pages[i].id = make_id(holes && i % 2 == 1 ? chain + 1000 : chain, first + i);
        pages[i].status = VARVE_E_IO;
    }
    assert_int_equal(fixture->ops->get(fixture->engine, pages, count, NULL), VARVE_OK);
    for (size_t i = 0; i < count; i++) {
        bool there = i < stored && !(holes && i % 2 == 1);

        assert_int_equal(pages[i].status, there ? VARVE_OK : VARVE_MISS);
        if (there)
            assert_int_equal(page_buffers_wrong_bytes(&fixture->buffers, i, content), 0);
    }
}

static void
check_chains(struct fixture *fixture)
{
    for (uint64_t chain = 0; chain < CHAINS; chain++) {
        assert_int_equal(probe(fixture, chain, 0, 4 * BATCH), 2 * BATCH + chain);
        assert_int_equal(probe(fixture, chain + 500, 0, BATCH), 0);
        check_get(fixture, chain, 0, BATCH, BATCH, false);
        check_get(fixture, chain, BATCH, BATCH, BATCH, true);
        check_get(fixture, chain, 2 * BATCH, BATCH, chain, false);
    }
}

static void
life_of(const struct engine_ops *ops, uint64_t page_bytes)
{
    struct fixture fixture;

    print_message("%s, pages of %llu bytes\n", ops->name, (unsigned long long)page_bytes);
    begin(&fixture, ops, page_bytes);
    assert_int_equal(probe(&fixture, 0, 0, BATCH), 0);
    check_get(&fixture, 0, 0, BATCH, 0, false);
    for (uint64_t chain = 0; chain < CHAINS; chain++) {
        put(&fixture, chain, 0, BATCH);
        put(&fixture, chain, BATCH, BATCH);
        if (chain > 0)
            put(&fixture, chain, 2 * BATCH, (size_t)chain);
    }
    check_chains(&fixture);
    assert_int_equal(ops->sync(fixture.engine, NULL), VARVE_OK);
    check_chains(&fixture);
    close_engine(&fixture);
    open_engine(&fixture);
    check_chains(&fixture);
    /* What is there stays as it is, whatever is put under its name; new pages between old ones are taken. */
    put_as(&fixture, 0, 0, BATCH, 7000);
    put(&fixture, 1, 2 * BATCH - 1, 2);
    check_chains(&fixture);
    /* A hole ends a prefix. */
    put(&fixture, 0, 2 * BATCH + 1, BATCH - 1);
    assert_int_equal(probe(&fixture, 0, 0, 4 * BATCH), 2 * BATCH);
    put(&fixture, 0, 2 * BATCH, 1);
    assert_int_equal(probe(&fixture, 0, 0, 4 * BATCH), 3 * BATCH);
    close_engine(&fixture);
    open_engine(&fixture);
    assert_int_equal(probe(&fixture, 0, 0, 4 * BATCH), 3 * BATCH);
    check_get(&fixture, 0, 2 * BATCH, BATCH, BATCH, false);
    end(&fixture);
}

static void
test_lives(void **state)
{
    static const uint64_t sizes[] = {0, 1, 1000, 2048, 16384, 131072};
    const struct engine_ops *ops;

    (void)state;
    for (size_t i = 0; (ops = engine_at(i)) != NULL; i++) {
        for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++)
            life_of(ops, sizes[k]);
    }
}

/* A page that does not fit is left out, and says what it needs; buffers that are larger than the page are fine. */
static void
test_buffers_of_other_sizes(void **state)
{
    const struct engine_ops *ops;

    (void)state;
    for (size_t i = 0; (ops = engine_at(i)) != NULL; i++) {
        struct fixture fixture;
        struct page_buffers other;

        begin(&fixture, ops, 8192);
        put(&fixture, 0, 0, 2);
        assert_int_equal(page_buffers_init(&other, 2, 4096), VARVE_OK);
        for (size_t k = 0; k < 2; k++)
            other.pages[k].id = make_id(0, k);
        assert_int_equal(ops->get(fixture.engine, other.pages, 2, NULL), VARVE_OK);
        assert_int_equal(other.pages[0].status, VARVE_E_ARG);
        assert_int_equal(other.pages[1].size, 8192);
        page_buffers_deinit(&other);

        assert_int_equal(page_buffers_init(&other, 1, 8192 + 4096), VARVE_OK);
        other.pages[0].id = make_id(0, 1);
        assert_int_equal(ops->get(fixture.engine, other.pages, 1, NULL), VARVE_OK);
        assert_int_equal(other.pages[0].status, VARVE_OK);
        assert_int_equal(other.pages[0].size, 8192);
        assert_int_equal(
            page_content_wrong_bytes(content, &other.pages[0].id, 0, other.pages[0].iov[0].iov_base, other.k_bytes), 0);
        page_buffers_deinit(&other);
        end(&fixture);
    }
}

struct client {
    struct fixture fixture; /* shares the engine, has buffers of its own */
    uint64_t chain;
};

/* All threads put the same chain, and one of their own, and read both. */
static void *
client_main(void *arg)
{
    struct client *client = arg;
    struct fixture *fixture = &client->fixture;

    for (uint64_t first = 0; first < THREAD_PAGES; first += BATCH / 3) {
        put(fixture, 9999, first, BATCH / 3);
        check_get(fixture, 9999, first, BATCH / 3, BATCH / 3, false);
        put(fixture, client->chain, first, BATCH / 3);
        check_get(fixture, client->chain, first, BATCH / 3, BATCH / 3, true);
        assert_int_equal(probe(fixture, client->chain, 0, THREAD_PAGES + BATCH), first + BATCH / 3);
    }
    assert_int_equal(fixture->ops->sync(fixture->engine, NULL), VARVE_OK);
    return NULL;
}

static void
test_threads(void **state)
{
    const struct engine_ops *ops;

    (void)state;
    for (size_t i = 0; (ops = engine_at(i)) != NULL; i++) {
        struct client clients[THREADS];
        pthread_t threads[THREADS];
        struct fixture fixture;

        begin(&fixture, ops, 5000);
        for (uint64_t k = 0; k < THREADS; k++) {
            clients[k] = (struct client){.fixture = fixture, .chain = 100 + k};
            assert_int_equal(page_buffers_init(&clients[k].fixture.buffers, BATCH, 5000), VARVE_OK);
            assert_int_equal(pthread_create(&threads[k], NULL, client_main, &clients[k]), 0);
        }
        for (uint64_t k = 0; k < THREADS; k++) {
            assert_int_equal(pthread_join(threads[k], NULL), 0);
            page_buffers_deinit(&clients[k].fixture.buffers);
        }
        for (uint64_t k = 0; k < THREADS; k++)
            assert_int_equal(probe(&fixture, 100 + k, 0, 2 * BATCH), THREAD_PAGES);
        end(&fixture);
    }
}

/* The log of hashlog holds what was put; a bit of it that flips is a page less, never a wrong byte. */
static void
test_hashlog_damage(void **state)
{
    const char *missing;
    struct fixture fixture;
    char path[PATH_BYTES + 16];
    uint8_t byte;
    FILE *file;

    (void)state;
    begin(&fixture, engine_find("hashlog", &missing), 4096);
    put(&fixture, 0, 0, BATCH);
    close_engine(&fixture);
    (void)snprintf(path, sizeof(path), "%s/pages.log", fixture.path);
    file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, 4096 + (BATCH - 1) * 4096 + 777, SEEK_SET), 0);
    assert_int_equal(fread(&byte, 1, 1, file), 1);
    byte ^= 4;
    assert_int_equal(fseek(file, -1, SEEK_CUR), 0);
    assert_int_equal(fwrite(&byte, 1, 1, file), 1);
    assert_int_equal(fclose(file), 0);
    open_engine(&fixture);
    check_get(&fixture, 0, 0, BATCH, BATCH - 1, false);
    end(&fixture);
}

/* Those with a limit refuse pages when they are full, and keep what they have. */
static void
test_full(void **state)
{
    static const char *const limited[] = {"hashlog", "lmdb"};

    (void)state;
    for (size_t i = 0; i < sizeof(limited) / sizeof(limited[0]); i++) {
        const char *missing;
        const struct engine_ops *ops = engine_find(limited[i], &missing);
        uint64_t chain = 0;
        struct fixture fixture;
        varve_page *pages;

        if (ops == NULL)
            continue;
        begin(&fixture, ops, 1 << 20);
        pages = fixture.buffers.pages;
        do {
            for (size_t k = 0; k < BATCH; k++) {
                pages[k].id = make_id(chain, k);
                page_buffers_fill(&fixture.buffers, k, content);
            }
            assert_int_equal(ops->put(fixture.engine, NULL, pages, BATCH, NULL), VARVE_OK);
            assert_true(++chain <= 2 * CAPACITY / ((uint64_t)BATCH << 20));
        } while (pages[0].status == VARVE_OK);
        assert_true(chain > CAPACITY / ((uint64_t)BATCH << 20));
        for (size_t k = 0; k < BATCH; k++)
            assert_int_equal(pages[k].status, VARVE_E_NOSPC);
        assert_int_equal(probe(&fixture, chain - 1, 0, BATCH), 0);
        for (uint64_t earlier = 0; earlier + 1 < chain; earlier++)
            check_get(&fixture, earlier, 0, BATCH, BATCH, false);
        end(&fixture);
    }
}

static void
test_names(void **state)
{
    static const char *const names[] = {"varve",   "varve-threads",  "file", "file-threads",
                                        "rocksdb", "rocksdb-inline", "lmdb", "hashlog"};
    const char *missing = "nothing";
    size_t built = 0;

    (void)state;
    assert_null(engine_find("quantum", &missing));
    assert_null(missing);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct engine_ops *ops = engine_find(names[i], &missing);

        assert_true((ops == NULL) == (missing != NULL));
        if (ops == NULL)
            continue;
        assert_string_equal(ops->name, names[i]);
        assert_true(strlen(ops->description) > 20);
        assert_ptr_equal(engine_at(built), ops);
        built++;
    }
    assert_null(engine_at(built));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),          cmocka_unit_test(test_lives),
        cmocka_unit_test(test_threads),        cmocka_unit_test(test_buffers_of_other_sizes),
        cmocka_unit_test(test_hashlog_damage), cmocka_unit_test(test_full),
    };
    int failed;

    content = page_content_create();
    if (content == NULL)
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    page_content_destroy(content);
    return failed;
}
