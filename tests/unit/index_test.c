/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index as a whole against a simple model: which copies of which page were put where. Random inserts, rotations,
 * flushes, merges, reopenings, changes of shape, dropped segments and removed pages; then readers beside a writer and
 * merges.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "index_model.h"

#define BRANCHES  40
#define DEPTH_MAX 1200
#define COPIES    6

static struct model model;
static struct model_entry made;
static varve_error err;

/* Where the copies of one page lie; one copy a segment, so that the checksum tells copies apart. */
struct copies {
    uint64_t offset[COPIES];
    uint8_t segment[COPIES];
    uint8_t count;
    uint8_t unflushed; /* of these, the last ones are in memtables only */
};

static struct copies (*pages)[DEPTH_MAX];     /* [branch] */
static uint64_t segment_used[MODEL_SEGMENTS]; /* bytes: offsets are never reused */
static uint64_t generation;                   /* 16 segments are in use at a time */

static bool
is_live(uint8_t segment, uint64_t offset)
{
    uint64_t modulus = atomic_load(&model.removed_modulus);

    switch (atomic_load(&model.segment_state[segment])) {
    case SEGMENT_LIVE:
        return true;
    case SEGMENT_LIVE_REMOVALS:
        return modulus == 0 || offset / 4096 % modulus != 0;
    default:
        return false;
    }
}

static bool
has_live_copy(const struct copies *copies)
{
    for (int i = 0; i < copies->count; i++) {
        if (is_live(copies->segment[i], copies->offset[i]))
            return true;
    }
    return false;
}

static bool
is_a_copy(const struct copies *copies, const struct location *location)
{
    for (int i = 0; i < copies->count; i++) {
        if (copies->segment[i] == location->segment && copies->offset[i] == location->offset)
            return is_live(copies->segment[i], copies->offset[i]);
    }
    return false;
}

/* The same, of the last page of a slot, which ends with it. */
static bool
ends_with_a_copy(const struct copies *copies, const struct key *key, const struct index_slot *slot)
{
    uint32_t size = model_page_size(key->branch, key->branch % 3 == 0 ? key->depth : 0, key->branch % 3 == 0);
    struct location last = {.segment = slot->segment, .offset = slot->end - entry_padded(&made.entry, size)};

    return slot->first.branch == key->branch && slot->first.depth <= key->depth && slot->offset <= last.offset &&
           is_a_copy(copies, &last);
}

static void
put(uint64_t *seed)
{
    uint64_t branch = 1 + model_random(seed) % BRANCHES;
    uint32_t first = (uint32_t)(model_random(seed) % DEPTH_MAX);
    uint32_t count = 1 + (uint32_t)(model_random(seed) % (model_random(seed) % 3 == 0 ? DEPTH_MAX : 100));
    uint8_t segment = (uint8_t)((generation + model_random(seed) % 16) % MODEL_SEGMENTS);

    if (count > DEPTH_MAX - first)
        count = DEPTH_MAX - first;
    if (count > ENTRY_PAGES_MAX)
        count = ENTRY_PAGES_MAX;
    if (atomic_load(&model.segment_state[segment]) == SEGMENT_GONE)
        return;
    for (uint32_t i = 0; i < count; i++) {
        if (pages[branch][first + i].count == COPIES)
            return;
    }
    segment_used[segment] += 4096;
    model_fill(&made, &(struct key){1, first, branch}, count, segment, segment_used[segment]);
    segment_used[segment] = (entry_page_offset(&made.entry, count) + 4095) / 4096 * 4096;
    model_insert(&model, &made.entry);
    for (uint32_t i = 0; i < count; i++) {
        struct copies *copies = &pages[branch][first + i];

        copies->offset[copies->count] = entry_page_offset(&made.entry, i);
        copies->segment[copies->count++] = segment;
        copies->unflushed++;
    }
}

/* Drop a segment for ever, as reclaim does, and go on with a new one. */
static void
drop_segment(void)
{
    uint64_t segment = generation++;

    if (segment >= MODEL_SEGMENTS - 16) {
        generation--;
        return;
    }
    atomic_store(&model.segment_state[segment], SEGMENT_GONE);
}

static void
note_flushed(void)
{
    for (uint64_t branch = 1; branch <= BRANCHES; branch++) {
        for (uint32_t depth = 0; depth < DEPTH_MAX; depth++)
            pages[branch][depth].unflushed = 0;
    }
}

/* Memtables are lost with the process (the store fills them again from the log). */
static void
reopen(void)
{
    for (uint64_t branch = 1; branch <= BRANCHES; branch++) {
        for (uint32_t depth = 0; depth < DEPTH_MAX; depth++) {
            pages[branch][depth].count = (uint8_t)(pages[branch][depth].count - pages[branch][depth].unflushed);
            pages[branch][depth].unflushed = 0;
        }
    }
    model_reopen(&model);
}

static void
check_page(struct index_cursor *cursor, uint64_t branch, uint32_t depth)
{
    varve_id id = model_id(1, branch, depth);
    struct location location;

    if (index_cursor_find(cursor, 1, &id, &location)) {
        assert_true(location.key.branch == branch && location.key.depth == depth);
        assert_true(is_a_copy(&pages[branch][depth], &location));
        assert_true(location.sum == model_sum(&location.key, location.segment));
        assert_int_equal(location.size, model_page_size(branch, branch % 3 == 0 ? depth : 0, branch % 3 == 0));
    } else {
        assert_false(has_live_copy(&pages[branch][depth]));
    }
}

static void
check_lookups(uint64_t *seed)
{
    struct index_view *view = index_view_acquire(model.index);
    struct index_cursor cursor;
    struct location location;
    struct index_slot found;
    uint64_t branch = 1 + model_random(seed) % BRANCHES;

    index_cursor_init(&cursor, view);
    for (uint32_t depth = 0; depth < DEPTH_MAX; depth++) /* a walk */
        check_page(&cursor, branch, depth);
    for (int i = 0; i < 200; i++) { /* and jumps */
        branch = 1 + model_random(seed) % BRANCHES;
        check_page(&cursor, branch, (uint32_t)(model_random(seed) % DEPTH_MAX));
        assert_false(index_cursor_find(&cursor, 2, &(varve_id){{(uint8_t)i}}, &location));
    }
    index_cursor_deinit(&cursor);
    for (int i = 0; i < 100; i++) {
        struct key key = {1, (uint32_t)(model_random(seed) % DEPTH_MAX), 1 + model_random(seed) % BRANCHES};

        assert_int_equal(index_find_key(view, &key, &found), has_live_copy(&pages[key.branch][key.depth]));
        if (has_live_copy(&pages[key.branch][key.depth]))
            assert_true(ends_with_a_copy(&pages[key.branch][key.depth], &key, &found));
        key.branch += BRANCHES;
        assert_false(index_find_key(view, &key, &found));
    }
    index_view_release(view);
}

/* Everything once, in order; nothing of a dropped segment. */
static void
check_iteration(void)
{
    struct index_view *view = index_view_acquire(model.index);
    struct index_iter *iter;
    struct entry entry;
    struct key before = {0, 0, 0};
    uint64_t expected = 0;
    uint64_t got = 0;
    int rc;

    assert_int_equal(index_iter_create(view, &iter, &err), VARVE_OK);
    index_view_release(view); /* the iterator holds it */
    while ((rc = index_iter_next(iter, &entry, &err)) == VARVE_OK) {
        assert_true(key_compare(&before, &entry.key) <= 0);
        before = entry.key;
        for (uint32_t i = 0; i < entry.count; i++) {
            struct location location;
            const struct copies *copies = &pages[entry.key.branch][entry.key.depth + i];
            bool known = false;

            entry_locate(&entry, i, &location);
            for (int j = 0; j < copies->count; j++)
                known = known || (copies->segment[j] == entry.segment && copies->offset[j] == location.offset);
            assert_true(known);
        }
        got += entry.count;
    }
    assert_int_equal(rc, VARVE_MISS);
    index_iter_destroy(iter);
    for (uint64_t branch = 1; branch <= BRANCHES; branch++) {
        for (uint32_t depth = 0; depth < DEPTH_MAX; depth++) {
            for (int i = 0; i < pages[branch][depth].count; i++)
                expected += atomic_load(&model.segment_state[pages[branch][depth].segment[i]]) != SEGMENT_GONE;
        }
    }
    assert_int_equal(got, expected);
}

static void
random_step(uint64_t *seed)
{
    static const uint32_t shapes[][3] = {{4, 1, 1}, {4, 3, 3}, {4, 3, 1}, {2, 1, 1}, {10, 9, 2}};
    const uint32_t *shape = shapes[model_random(seed) % 5];

    switch (model_random(seed) % 100) {
    case 0:
    case 1:
    case 2:
        assert_int_equal(index_rotate(model.index, NULL), VARVE_OK);
        model_settle(&model);
        note_flushed();
        break;
    case 3:
        index_set_shape(model.index, shape[0], shape[1], shape[2]);
        break;
    case 4:
        drop_segment();
        break;
    case 5:
        atomic_store(&model.segment_state[(generation + model_random(seed) % 16) % MODEL_SEGMENTS],
                     SEGMENT_LIVE_REMOVALS);
        break;
    case 6:
        if (model_random(seed) % 4 == 0)
            reopen();
        break;
    case 7:
        check_lookups(seed);
        break;
    case 8:
        check_iteration();
        break;
    case 9:
        (void)index_merge(model.index, 1 + model_random(seed) % 1000000, &err);
        break;
    default:
        if (index_frozen_count(model.index) > 3) {
            assert_int_equal(index_rotate(model.index, NULL), VARVE_OK);
            while (index_flush(model.index, &err) == VARVE_OK)
                ;
            note_flushed();
        }
        put(seed);
    }
}

static void
test_random_operations(void **state)
{
    uint64_t seed = model_seed();

    (void)state;
    for (int round = 0; round < 4; round++) {
        struct index_settings settings = model_settings();

        settings.memtable_bytes = 1 << 20;
        settings.block_cache_bytes = round % 2 == 0 ? 1 << 20 : 0;
        pages = calloc(BRANCHES + 1, sizeof(*pages));
        assert_non_null(pages);
        memset(segment_used, 0, sizeof(segment_used));
        generation = 0;
        model_open(&model, &settings, NULL);
        atomic_store(&model.removed_modulus, 5);
        for (int step = 0; step < 2500; step++)
            random_step(&seed);
        check_iteration();
        for (int i = 0; i < 20; i++)
            check_lookups(&seed);
        model_close(&model);
        free(pages);
    }
}

#define SHARED_BRANCHES 3000

struct shared {
    atomic_uint inserted;
    atomic_uint dropped; /* segments below are gone */
    atomic_bool stop;
};

static struct shared shared;

/* Branch b lies in segment b / 50, 40 pages long. */
static void *
reader(void *arg)
{
    uint64_t seed = *(const uint64_t *)arg;
    uintptr_t wrong = 0;

    while (!atomic_load(&shared.stop)) {
        uint32_t inserted = atomic_load(&shared.inserted);
        struct index_view *view = index_view_acquire(model.index);
        struct index_cursor cursor;

        index_cursor_init(&cursor, view);
        for (int i = 0; i < 50 && inserted > 0; i++) {
            uint64_t branch = 1 + model_random(&seed) % inserted;
            struct index_slot at_key;
            uint32_t found = 0;

            for (uint32_t depth = 0; depth < 40; depth++) {
                varve_id id = model_id(1, branch, depth);
                struct location location;

                if (!index_cursor_find(&cursor, 1, &id, &location))
                    continue;
                found++;
                wrong +=
                    location.key.branch != branch || location.key.depth != depth || location.segment != branch / 50;
            }
            wrong += found != 40 && branch / 50 >= atomic_load(&shared.dropped);
            (void)index_find_key(view, &(struct key){1, 3, branch}, &at_key);
        }
        index_cursor_deinit(&cursor);
        index_view_release(view);
    }
    return (void *)wrong;
}

static void *
ticker(void *arg)
{
    varve_error tick_err;

    (void)arg;
    while (!atomic_load(&shared.stop)) {
        if (index_flush(model.index, &tick_err) == VARVE_MISS &&
            index_merge(model.index, 1 << 18, &tick_err) == VARVE_MISS) {
            struct index_view *view = index_view_acquire(model.index);
            struct index_stats stats;
            struct index_iter *iter;
            struct entry entry;

            index_stats_get(model.index, &stats);
            if (index_iter_create(view, &iter, &tick_err) == VARVE_OK) {
                while (index_iter_next(iter, &entry, &tick_err) == VARVE_OK)
                    ;
                index_iter_destroy(iter);
            }
            index_view_release(view);
        }
    }
    return NULL;
}

static void
test_concurrent(void **state)
{
    struct index_settings settings = model_settings();
    uint64_t seeds[3] = {1, 2, 3};
    pthread_t threads[4];

    (void)state;
    settings.memtable_bytes = 0;
    settings.block_cache_bytes = 1 << 19;
    model_open(&model, &settings, NULL);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, reader, &seeds[i]), 0);
    assert_int_equal(pthread_create(&threads[3], NULL, ticker, NULL), 0);
    for (uint32_t branch = 1; branch < SHARED_BRANCHES; branch++) {
        if (branch % 250 == 0 && branch > 1000) {
            uint32_t segment = atomic_fetch_add(&shared.dropped, 1);

            atomic_store(&model.segment_state[segment], SEGMENT_GONE);
        }
        model_fill(&made, &(struct key){1, 0, branch}, 40, branch / 50, (uint64_t)branch << 20);
        while (!index_has_room(model.index, 40)) {
            if (index_frozen_count(model.index) < 4)
                assert_int_equal(index_rotate(model.index, NULL), VARVE_OK);
        }
        assert_int_equal(index_insert(model.index, &made.entry), VARVE_OK);
        atomic_store(&shared.inserted, branch);
    }
    atomic_store(&shared.stop, true);
    for (int i = 0; i < 4; i++) {
        void *wrong;

        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    model_close(&model);
}

/* The memory of memtables is bounded, and a rotation fails rather than hold ever more. */
static void
test_bounds(void **state)
{
    struct index_settings settings = model_settings();
    struct index_stats stats;
    uint32_t rotations = 0;

    (void)state;
    settings.memtable_bytes = 1 << 20;
    model_open(&model, &settings, NULL);
    assert_true(index_has_room(model.index, ENTRY_PAGES_MAX));
    for (uint64_t branch = 1;; branch++) {
        model_fill(&made, &(struct key){1, 0, branch}, 900, 1, branch << 24);
        if (!index_has_room(model.index, 900)) {
            assert_true(index_active_pages(model.index) > 0);
            if (index_rotate(model.index, NULL) < 0)
                break;
            rotations++;
            assert_int_equal(index_active_pages(model.index), 0);
        }
        assert_int_equal(index_insert(model.index, &made.entry), VARVE_OK);
    }
    index_stats_get(model.index, &stats);
    assert_int_equal(stats.memtables, rotations + 1);
    assert_true(stats.memory_bytes <= stats.memtables << 20);
    assert_int_equal(index_frozen_count(model.index), rotations);
    model_settle(&model);
    index_stats_get(model.index, &stats);
    assert_int_equal(stats.memtables, 1);
    assert_int_equal(stats.flushes, rotations);
    model_close(&model);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_concurrent),
        cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
