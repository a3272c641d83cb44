/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Run files: write and open, size on disk and in memory, damage anywhere, and failures of memory and device. A page is
 * never found at a wrong place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "format/format.h"
#include "index/run_write.h"
#include "index_model.h"

#define BRANCHES 60

static struct model model;
static struct model_entry made;
static varve_error err;

/* An index with one run: branches 1..BRANCHES of a few hundred pages each. */
static uint32_t
branch_pages(uint64_t branch)
{
    return 1 + (uint32_t)(branch * 37 % 400);
}

static void
make_run(void)
{
    struct index_settings settings = model_settings();

    settings.memtable_bytes = 4 << 20;
    model_open(&model, &settings, NULL);
    for (uint64_t branch = 1; branch <= BRANCHES; branch++) {
        model_fill(&made, &(struct key){1, 0, branch}, branch_pages(branch), branch % 8, branch << 24);
        model_insert(&model, &made.entry);
    }
    assert_int_equal(index_rotate(model.index, NULL), VARVE_OK);
    model_settle(&model);
    assert_int_equal(model.run_count, 1);
}

/* Look up every page. Returns how many were found; fails on a wrong place. */
static uint64_t
find_all(void)
{
    struct index_view *view = index_view_acquire(model.index);
    struct index_cursor cursor;
    struct location location;
    uint64_t found = 0;

    index_cursor_init(&cursor, view);
    for (uint64_t branch = 1; branch <= BRANCHES; branch++) {
        model_fill(&made, &(struct key){1, 0, branch}, branch_pages(branch), branch % 8, branch << 24);
        for (uint32_t depth = 0; depth < branch_pages(branch); depth++) {
            varve_id id = model_id(1, branch, depth);

            if (!index_cursor_find(&cursor, 1, &id, &location))
                continue;
            found++;
            assert_true(location.key.branch == branch && location.key.depth == depth && location.key.ns_id == 1);
            assert_true(location.segment == branch % 8);
            assert_true(location.offset == entry_page_offset(&made.entry, depth));
            assert_true(location.sum == entry_sum(&made.entry, depth));
            assert_int_equal(location.size, entry_size(&made.entry, depth));
        }
        assert_false(index_cursor_find(&cursor, 2, &(varve_id){{1}}, &location));
    }
    index_cursor_deinit(&cursor);
    index_view_release(view);
    return found;
}

static uint64_t
all_pages(void)
{
    uint64_t pages = 0;

    for (uint64_t branch = 1; branch <= BRANCHES; branch++)
        pages += branch_pages(branch);
    return pages;
}

static void
test_write_and_open(void **state)
{
    (void)state;
    make_run();
    assert_int_equal(find_all(), all_pages());
    model_reopen(&model);
    assert_int_equal(find_all(), all_pages());
    assert_int_equal(model.runs[0].pages, all_pages());
    model_close(&model);
}

static int
open_run_file(int flags)
{
    char name[FORMAT_NAME_MAX];
    char path[sizeof(model.env->path) + FORMAT_NAME_MAX];
    int fd;

    format_file_name(FORMAT_FILE_RUN, model.runs[0].number, name);
    (void)snprintf(path, sizeof(path), "%s/%s", model.env->path, name);
    fd = open(path, flags);
    assert_true(fd >= 0);
    return fd;
}

static void
flip(int fd, uint64_t bit)
{
    uint8_t byte;

    assert_int_equal(pread(fd, &byte, 1, (off_t)(bit / 8)), 1);
    byte ^= (uint8_t)(1 << bit % 8);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)(bit / 8)), 1);
}

/* Index without runs, then the run of the manifest on top of it. */
static int
try_open(void)
{
    struct run_meta meta = model.runs[0];

    model.run_count = 0;
    model_reopen(&model);
    model.runs[model.run_count++] = meta;
    return index_add_run(model.index, &meta, &err);
}

static void
test_flipped_bits(void **state)
{
    uint64_t seed = model_seed();
    uint64_t bits;
    uint64_t block_bits;
    int fd;

    (void)state;
    make_run();
    fd = open_run_file(O_RDWR);
    bits = model.runs[0].file_bytes * 8;
    block_bits = (uint64_t)model.runs[0].blocks * BLOCK_BYTES * 8;
    for (int round = 0; round < 300; round++) {
        uint64_t bit =
            round % 2 == 0 ? model_random(&seed) % bits : block_bits + model_random(&seed) % (bits - block_bits);
        int rc;

        flip(fd, bit);
        rc = try_open();
        if (bit >= block_bits) {
            assert_true(rc == VARVE_E_CORRUPT || rc == VARVE_E_VERSION);
        } else {
            struct index_stats stats;
            uint64_t found;

            assert_int_equal(rc, VARVE_OK);
            found = find_all();
            assert_true(found < all_pages() && found + BLOCK_PAGES_MAX >= all_pages());
            index_stats_get(model.index, &stats);
            assert_true(stats.blocks_corrupt > 0);
        }
        flip(fd, bit);
    }
    assert_int_equal(try_open(), VARVE_OK);
    assert_int_equal(find_all(), all_pages());
    (void)close(fd);
    model_close(&model);
}

/* Two blocks that changed places, the file of another run, and a short file. */
static void
test_misplaced(void **state)
{
    static uint8_t a[BLOCK_BYTES], b[BLOCK_BYTES];
    struct run_meta meta;
    int fd;

    (void)state;
    make_run();
    fd = open_run_file(O_RDWR);
    assert_int_equal(pread(fd, a, BLOCK_BYTES, BLOCK_BYTES), BLOCK_BYTES);
    assert_int_equal(pread(fd, b, BLOCK_BYTES, 2 * BLOCK_BYTES), BLOCK_BYTES);
    assert_int_equal(pwrite(fd, b, BLOCK_BYTES, BLOCK_BYTES), BLOCK_BYTES);
    assert_int_equal(pwrite(fd, a, BLOCK_BYTES, 2 * BLOCK_BYTES), BLOCK_BYTES);
    assert_int_equal(try_open(), VARVE_OK);
    assert_true(find_all() < all_pages() - BLOCK_PAGES_MAX);

    meta = model.runs[0];
    meta.pages++;
    assert_int_equal(index_add_run(model.index, &meta, &err), VARVE_E_CORRUPT);
    meta = model.runs[0];
    meta.level = 99;
    assert_int_equal(index_add_run(model.index, &meta, &err), VARVE_E_CORRUPT);
    assert_int_equal(ftruncate(fd, (off_t)meta.file_bytes - 4096), 0);
    assert_int_equal(try_open(), VARVE_E_CORRUPT);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(try_open(), VARVE_E_CORRUPT);
    meta.number = 999;
    meta.level = 1;
    assert_int_equal(index_add_run(model.index, &meta, &err), VARVE_E_IO);
    (void)close(fd);
    model_close(&model);
}

/* Every allocation on the way to open the run fails once. */
static void
test_open_out_of_memory(void **state)
{
    int rc = VARVE_E_NOMEM;

    (void)state;
    make_run();
    for (long n = 1; rc != VARVE_OK; n++) {
        struct run_meta meta = model.runs[0];

        model.run_count = 0;
        model_reopen(&model);
        model.runs[model.run_count++] = meta;
        atomic_store(&model.env->alloc_fails_in, n);
        rc = index_add_run(model.index, &meta, &err);
        atomic_store(&model.env->alloc_fails_in, 0);
        assert_true(rc == VARVE_OK || rc == VARVE_E_NOMEM);
    }
    assert_int_equal(find_all(), all_pages());
    model_close(&model);
}

/* Memory that is short during lookups makes misses, not crashes; a sector that cannot be read makes misses, too. */
static void
test_lookup_failures(void **state)
{
    struct index_stats stats;

    (void)state;
    make_run();
    model_reopen(&model);
    for (long n = 1; n < 40; n++) {
        atomic_store(&model.env->alloc_fails_in, n);
        assert_true(find_all() >= all_pages() - BLOCK_PAGES_MAX);
        atomic_store(&model.env->alloc_fails_in, 0);
    }
    assert_int_equal(find_all(), all_pages());

    model_reopen(&model);
    atomic_store(&model.env->bad_offset, 3 * BLOCK_BYTES + 77);
    assert_true(find_all() < all_pages() && find_all() + BLOCK_PAGES_MAX >= all_pages());
    index_stats_get(model.index, &stats);
    assert_true(stats.read_errors > 0);
    atomic_store(&model.env->bad_offset, UINT64_MAX);
    assert_int_equal(find_all(), all_pages());
    model_close(&model);
}

/* The cache holds one block a shard; still everything is found, and held memory stays within the bound. */
static void
test_small_cache(void **state)
{
    struct index_stats stats;

    (void)state;
    make_run();
    model.settings.block_cache_bytes = 16 * BLOCK_BYTES;
    model_reopen(&model);
    for (int i = 0; i < 3; i++)
        assert_int_equal(find_all(), all_pages());
    index_stats_get(model.index, &stats);
    assert_true(stats.block_cache_bytes <= model.settings.block_cache_bytes);
    assert_true(stats.block_cache_misses > model.runs[0].blocks); /* some were read again */
    model_close(&model);
}

/* What is written behind the writer's back: the file as a whole, against the targets of a large run. */
static void
test_size(void **state)
{
    struct index_settings settings = model_settings();
    struct index_stats stats;

    (void)state;
    settings.memtable_bytes = 32 << 20;
    settings.size_ratio = 10;
    model_open(&model, &settings, NULL);
    for (uint64_t branch = 1; branch <= 4000; branch++) {
        model_fill_uniform(&made, &(struct key){1, 0, branch}, 128, 1, branch << 24, 65536);
        model_insert(&model, &made.entry);
    }
    index_stats_get(model.index, &stats);
    assert_true(stats.memory_bytes <= settings.memtable_bytes);
    assert_int_equal(index_rotate(model.index, NULL), VARVE_OK);
    model_settle(&model);
    index_stats_get(model.index, &stats);
    assert_int_equal(stats.run_pages, 4000 * 128);
    /* 24.6 for the blocks, 5 for the locator. */
    assert_true((double)stats.run_bytes / (double)stats.run_pages < 29.7);
    model_reopen(&model);
    index_stats_get(model.index, &stats);
    assert_true((double)stats.locator_bytes / (double)stats.run_pages <= 5.1);
    assert_true(stats.memory_bytes < stats.run_pages * 11 / 2 + (1 << 20));
    model_close(&model);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_and_open),
        cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_misplaced),
        cmocka_unit_test(test_open_out_of_memory),
        cmocka_unit_test(test_lookup_failures),
        cmocka_unit_test(test_small_cache),
        cmocka_unit_test(test_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
