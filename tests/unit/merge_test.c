/* SPDX-License-Identifier: Apache-2.0 */
/* Joining, and merges: what they drop, what they keep, and that a failure at any step leaves everything as it was. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "format/run_format.h"
#include "index/join.h"
#include "index/merge.h"
#include "index_model.h"

static struct model model;
static struct model_entry made;
static varve_error err;

/* A whole extent of branch 2 (uniform pages) or 3 (pages of different sizes), cut into parts that come in key order. */
struct part {
    uint32_t first, count;
    uint64_t copy; /* another copy lies in another segment */
};

struct join_case {
    const char *name;
    uint64_t branch;
    struct part parts[6];
    struct part expected[4];
};

static const struct join_case join_cases[] = {
    {"one", 2, {{0, 5, 0}}, {{0, 5, 0}}},
    {"two halves", 2, {{0, 5, 0}, {5, 3, 0}}, {{0, 8, 0}}},
    {"two halves with sizes", 3, {{0, 5, 0}, {5, 3, 0}}, {{0, 8, 0}}},
    {"a gap", 2, {{0, 5, 0}, {6, 3, 0}}, {{0, 5, 0}, {6, 3, 0}}},
    {"the whole twice", 2, {{0, 5, 0}, {0, 5, 0}}, {{0, 5, 0}}},
    {"whole and parts", 3, {{0, 4, 0}, {0, 9, 0}, {4, 5, 0}}, {{0, 9, 0}}},
    {"parts and whole", 2, {{0, 9, 0}, {0, 4, 0}, {4, 5, 0}}, {{0, 9, 0}}},
    {"overlap in the middle", 2, {{0, 6, 0}, {4, 6, 0}}, {{0, 10, 0}}},
    {"a copy elsewhere is not the same", 2, {{0, 5, 0}, {0, 5, 1}}, {{0, 5, 0}, {0, 5, 1}}},
    {"both copies twice", 2, {{0, 5, 0}, {0, 5, 1}, {0, 5, 0}}, {{0, 5, 0}, {0, 5, 1}}},
    {"the next part lies elsewhere", 2, {{0, 5, 0}, {5, 5, 1}}, {{0, 5, 0}, {5, 5, 1}}},
    {"a repeat with more, behind another: kept whole, in order",
     2,
     {{0, 5, 0}, {2, 3, 1}, {2, 8, 0}},
     {{0, 5, 0}, {2, 3, 1}, {2, 8, 0}}},
    {"up to the most pages", 2, {{0, 1000, 0}, {1000, 24, 0}}, {{0, 1024, 0}}},
    {"not beyond", 2, {{0, 1000, 0}, {1000, 25, 0}}, {{0, 1000, 0}, {1000, 25, 0}}},
};

static void
make_part(const struct join_case *c, const struct part *part, struct model_entry *out)
{
    struct model_entry *whole = &made;
    uint64_t offset;

    model_fill(whole, &(struct key){1, 0, c->branch}, ENTRY_PAGES_MAX, part->copy, 4096);
    offset = part->first < ENTRY_PAGES_MAX ? entry_page_offset(&whole->entry, part->first) : 0;
    model_fill(out, &(struct key){1, part->first, c->branch}, part->count, part->copy, offset);
    if (part->first > 0)
        out->entry.parent_branch = out->entry.parent_depth = 0;
}

static void
assert_part(const struct join_case *c, const struct part *expected, const struct entry *entry)
{
    static struct model_entry want;

    make_part(c, expected, &want);
    if (expected->count == 0 || key_compare(&want.entry.key, &entry->key) != 0 || want.entry.count != entry->count ||
        want.entry.offset != entry->offset || want.entry.segment != entry->segment ||
        want.entry.parent_branch != entry->parent_branch)
        fail_msg("%s: got pages %u + %u", c->name, entry->key.depth, entry->count);
    assert_memory_equal(want.entry.ids, entry->ids, (size_t)entry->count * ID_PREFIX_BYTES);
    assert_memory_equal(want.entry.sums, entry->sums, (size_t)entry->count * 8);
    for (uint32_t i = 0; i < entry->count; i++)
        assert_int_equal(entry_size(&want.entry, i), entry_size(entry, i));
}

static void
test_join(void **state)
{
    struct plain_env *env = plain_env_create(NULL);

    (void)state;
    for (size_t i = 0; i < sizeof(join_cases) / sizeof(join_cases[0]); i++) {
        const struct join_case *c = &join_cases[i];
        static struct model_entry part;
        struct entry entry;
        struct join join;
        size_t got = 0;

        assert_int_equal(join_init(&join, &env->env), VARVE_OK);
        for (size_t j = 0; j < 6 && c->parts[j].count > 0; j++) {
            make_part(c, &c->parts[j], &part);
            if (join_put(&join, &part.entry, &entry))
                assert_part(c, &c->expected[got++], &entry);
        }
        while (join_end(&join, &entry))
            assert_part(c, &c->expected[got++], &entry);
        assert_true(got == 4 || c->expected[got].count == 0);
        join_deinit(&join);
    }
    plain_env_destroy(env);
}

/* A run of `branches` branches of 100 pages each from `first` on; the segment is the branch modulo 8. */
static void
add_run(uint32_t ns_id, uint64_t first, uint64_t branches)
{
    int rc;

    for (uint64_t branch = first; branch < first + branches; branch++) {
        model_fill(&made, &(struct key){ns_id, 0, branch}, 100, branch % 8, branch << 24);
        model_insert(&model, &made.entry);
    }
    assert_int_equal(index_rotate(model.index, NULL), VARVE_OK);
    while ((rc = index_flush(model.index, &err)) == VARVE_OK)
        ;
    assert_int_equal(rc, VARVE_MISS);
}

static bool
is_found(uint32_t ns_id, uint64_t branch)
{
    struct index_view *view = index_view_acquire(model.index);
    varve_id id = model_id(ns_id, branch, 99);
    struct index_cursor cursor;
    struct location location;
    bool found;

    index_cursor_init(&cursor, view);
    found = index_cursor_find(&cursor, ns_id, &id, &location);
    assert_true(!found || (location.key.branch == branch && location.offset >= branch << 24));
    index_cursor_deinit(&cursor);
    index_view_release(view);
    return found;
}

/* Two runs that are due to be merged, on a level that takes one. */
static void
open_two_runs(void)
{
    struct index_settings settings = model_settings();

    settings.memtable_bytes = 8 << 20;
    settings.runs_per_level = settings.runs_last_level = 1;
    model_open(&model, &settings, NULL);
    add_run(1, 1, 200);
    add_run(2, 1, 100);
    add_run(1, 150, 100); /* 51 branches are there already */
    assert_int_equal(model.run_count, 3);
}

static void
test_drops_the_dead(void **state)
{
    struct index_stats stats;

    (void)state;
    open_two_runs();
    atomic_store(&model.segment_state[3], SEGMENT_GONE);
    atomic_store(&model.segment_state[4], SEGMENT_LIVE_REMOVALS);
    atomic_store(&model.ns_dead[2], true);
    model_settle(&model);
    assert_int_equal(model.run_count, 1);
    assert_int_equal(model.runs[0].pages, (249 - 31) * 100); /* 31 of 1..249 are 3 modulo 8 */
    for (uint64_t branch = 1; branch < 250; branch++)
        assert_int_equal(is_found(1, branch), branch % 8 != 3);
    index_stats_get(model.index, &stats);
    assert_int_equal(stats.runs, 1);
    assert_int_equal(stats.merges, 1);
    assert_true(stats.entries_dropped > 0);
    assert_true((double)stats.locator_bytes / (double)stats.run_pages <= 6.5); /* built for what is left; padded */
    model_reopen(&model);
    for (uint64_t branch = 1; branch < 250; branch++)
        assert_int_equal(is_found(1, branch), branch % 8 != 3);
    model_close(&model);
}

static void
test_nothing_left(void **state)
{
    (void)state;
    open_two_runs();
    for (int i = 0; i < 8; i++)
        atomic_store(&model.segment_state[i], SEGMENT_GONE);
    model_settle(&model);
    assert_int_equal(model.run_count, 0);
    add_run(1, 1, 10); /* nor is anything flushed */
    assert_int_equal(model.run_count, 0);
    assert_int_equal(atomic_load(&model.space), 0);
    model_close(&model);
}

/* In small slices, with inserts and flushes between them. */
static void
test_slices(void **state)
{
    uint32_t slices = 0;
    int rc;

    (void)state;
    open_two_runs();
    while ((rc = index_merge(model.index, 1, &err)) == VARVE_OK) {
        if (slices++ == 2)
            add_run(1, 500, 50);
        assert_true(is_found(1, 1) && is_found(2, 7) && is_found(1, 249));
    }
    assert_int_equal(rc, VARVE_MISS);
    assert_true(slices > 4);
    assert_true(is_found(1, 520));
    assert_int_equal(model.run_count, 1);
    model_close(&model);
}

static void
assert_all_there(void)
{
    for (uint64_t branch = 1; branch < 250; branch++)
        assert_true(is_found(1, branch));
    for (uint64_t branch = 1; branch < 101; branch++)
        assert_true(is_found(2, branch));
}

/* A block that the device does not give: no merge, however often it is tried, and nothing is lost. */
static void
test_unreadable_block(void **state)
{
    struct index_stats stats;

    (void)state;
    open_two_runs();
    atomic_store(&model.env->bad_offset, 20 * BLOCK_BYTES + 5);
    for (int i = 0; i < 2 * MERGE_TRIES; i++) {
        assert_int_equal(index_merge(model.index, UINT64_MAX / 2, &err), VARVE_E_IO);
        assert_int_equal(model.run_count, 3);
    }
    atomic_store(&model.env->bad_offset, UINT64_MAX);
    assert_int_equal(index_merge(model.index, UINT64_MAX / 2, &err), VARVE_OK);
    assert_int_equal(model.run_count, 1);
    index_stats_get(model.index, &stats);
    assert_true(stats.read_errors >= 1);
    assert_all_there();
    model_close(&model);
}

/* Flip a bit in block 2 of some run that is large enough. */
static void
damage_a_run(void)
{
    DIR *dir = opendir(model.env->path);
    const struct dirent *entry;
    bool done = false;

    assert_non_null(dir);
    while (!done && (entry = readdir(dir)) != NULL) {
        int fd = openat(dirfd(dir), entry->d_name, O_RDWR | O_CLOEXEC);
        uint8_t byte = 0;

        if (fd >= 0 && pread(fd, &byte, 1, 2 * BLOCK_BYTES + 100) == 1 && lseek(fd, 0, SEEK_END) > 8 * BLOCK_BYTES) {
            byte ^= 1;
            done = pwrite(fd, &byte, 1, 2 * BLOCK_BYTES + 100) == 1;
        }
        if (fd >= 0)
            (void)close(fd);
    }
    (void)closedir(dir);
    assert_true(done);
}

/* A damaged block: given up after some tries; its pages are lost, all others are merged. */
static void
test_damaged_block(void **state)
{
    struct index_stats stats;
    uint32_t lost = 0;

    (void)state;
    open_two_runs();
    damage_a_run();
    for (int i = 0; i < MERGE_TRIES; i++)
        assert_int_equal(index_merge(model.index, UINT64_MAX / 2, &err), VARVE_E_CORRUPT);
    assert_int_equal(model.run_count, 3);
    assert_int_equal(index_merge(model.index, UINT64_MAX / 2, &err), VARVE_OK);
    assert_int_equal(model.run_count, 1);
    index_stats_get(model.index, &stats);
    assert_true(stats.blocks_corrupt >= MERGE_TRIES);
    for (uint64_t branch = 1; branch < 250; branch++)
        lost += !is_found(1, branch);
    for (uint64_t branch = 1; branch < 101; branch++)
        lost += !is_found(2, branch);
    assert_true(lost >= 1 && lost <= 3 * 8);
    model_close(&model);
}

enum failure { FAIL_ALLOC, FAIL_WRITE, FAIL_SYNC, FAIL_COMMIT, FAIL_SPACE };

static void
arrange(enum failure failure, long n)
{
    switch (failure) {
    case FAIL_ALLOC:
        atomic_store(&model.env->alloc_fails_in, n);
        break;
    case FAIL_WRITE:
        atomic_store(&model.env->write_fails_in, n);
        break;
    case FAIL_SYNC:
        atomic_store(&model.env->sync_fails_in, n);
        break;
    case FAIL_COMMIT:
        atomic_store(&model.commit_fails, n == 1);
        break;
    case FAIL_SPACE:
        atomic_store(&model.space_refused, n == 1);
        break;
    default:
        fail();
    }
}

/* Merge with the n-th operation of a kind failing, for every n until none fails. */
static void
test_failures(void **state)
{
    static const struct {
        enum failure failure;
        int code;
        long at_least; /* operations of this kind */
    } kinds[] = {
        {FAIL_ALLOC, VARVE_E_NOMEM, 12}, {FAIL_WRITE, VARVE_E_IO, 4},    {FAIL_SYNC, VARVE_E_IO, 2},
        {FAIL_COMMIT, VARVE_E_NOMEM, 1}, {FAIL_SPACE, VARVE_E_NOSPC, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        int rc = kinds[i].code;
        long n = 1;

        open_two_runs();
        for (; rc != VARVE_OK; n++) {
            uint64_t space = atomic_load(&model.space);

            arrange(kinds[i].failure, n);
            rc = index_merge(model.index, UINT64_MAX / 2, &err);
            arrange(kinds[i].failure, 0);
            assert_true(rc == VARVE_OK || rc == kinds[i].code);
            if (rc != VARVE_OK) {
                assert_int_equal(err.code, rc);
                assert_int_equal(model.run_count, 3);
                assert_int_equal(atomic_load(&model.space), space);
            }
        }
        assert_true(n - 2 >= kinds[i].at_least);
        assert_int_equal(model.run_count, 1);
        assert_all_there();
        model_close(&model); /* sees that no other file is left */
    }
}

/* The same for a flush: the memtable stays, and is flushed by the next try. */
static void
test_flush_failures(void **state)
{
    static const enum failure kinds[] = {FAIL_ALLOC, FAIL_WRITE, FAIL_SYNC, FAIL_COMMIT, FAIL_SPACE};

    (void)state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct index_settings settings = model_settings();
        int mark = 0;
        int rc = VARVE_E_IO;

        settings.memtable_bytes = 8 << 20;
        model_open(&model, &settings, NULL);
        for (uint64_t branch = 1; branch < 50; branch++) {
            model_fill(&made, &(struct key){1, 0, branch}, 100, branch % 8, branch << 24);
            model_insert(&model, &made.entry);
        }
        assert_int_equal(index_rotate(model.index, &mark), VARVE_OK);
        for (long n = 1; rc != VARVE_OK; n++) {
            arrange(kinds[i], n);
            rc = index_flush(model.index, &err);
            arrange(kinds[i], 0);
            assert_int_equal(index_frozen_count(model.index), rc == VARVE_OK ? 0 : 1);
            assert_true(is_found(1, 1) && is_found(1, 49));
        }
        assert_ptr_equal(model.last_mark, &mark);
        assert_int_equal(index_flush(model.index, &err), VARVE_MISS);
        model_close(&model);
    }
}

/* A view keeps the runs it names, with their files and capacity, until it is released. */
static void
test_view_keeps_runs(void **state)
{
    struct index_view *view;
    struct run_meta metas[4];
    uint64_t before;

    (void)state;
    open_two_runs();
    before = atomic_load(&model.space);
    view = index_view_acquire(model.index);
    model_settle(&model);
    assert_int_equal(model.run_count, 1);
    assert_int_equal(index_view_runs(view, metas, 4), 3);
    assert_true(atomic_load(&model.space) == before + model.runs[0].file_bytes);
    index_view_release(view);
    assert_true(atomic_load(&model.space) == model.runs[0].file_bytes);
    model_close(&model);
}

/* An index that goes away in the middle of a merge takes the half-made file along. */
static void
test_destroyed_midway(void **state)
{
    (void)state;
    open_two_runs();
    assert_int_equal(index_merge(model.index, 1, &err), VARVE_OK);
    assert_int_equal(model.run_count, 3);
    model_close(&model);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_join),
        cmocka_unit_test(test_drops_the_dead),
        cmocka_unit_test(test_nothing_left),
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_unreadable_block),
        cmocka_unit_test(test_damaged_block),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_flush_failures),
        cmocka_unit_test(test_view_keeps_runs),
        cmocka_unit_test(test_destroyed_midway),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
