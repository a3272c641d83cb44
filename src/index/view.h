/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view.h - the state of the index behind index.h, and its snapshots.
 *
 * A view is an immutable list: memtables (active, then frozen from new to old) and runs. The current one is replaced
 * as a whole, under index->lock, by rotation (store's writer), flush and merge (store's tick). A reader's view keeps
 * what it names alive.
 */
#ifndef VARVE_INDEX_VIEW_H
#define VARVE_INDEX_VIEW_H

#include <stdatomic.h>

#include "index/block_cache.h"
#include "index/index.h"
#include "index/level.h"
#include "index/memtable.h"
#include "index/run_read.h"

/*
 * Frozen memtables that may wait for a flush; more, and index_rotate() fails. The store slows its writers down long
 * before.
 */
#define VIEW_FROZEN_MAX 16

struct index_view {
    struct index *index;
    atomic_uint refs;
    uint32_t memtable_count;
    uint32_t run_count;
    uint32_t run_capacity;
    struct memtable *memtables[1 + VIEW_FROZEN_MAX];
    struct run *runs[]; /* by level, deepest first; in a level by number */
};

struct index_counters {
    _Atomic(uint64_t) lookups, locator_hits, locator_false_hits;
    _Atomic(uint64_t) walks, searches, searches_found, searches_onward, locators_probed, locators_timed, locators_ns;
    _Atomic(uint64_t) pages_rotated, rotated_bytes;
    _Atomic(uint64_t) flushes, merges, entries_merged, entries_dropped;
    _Atomic(uint64_t) pages_flushed, pages_merged, merge_ns;
    _Atomic(uint64_t) bytes_flushed, bytes_merged;
    _Atomic(uint64_t) blocks_corrupt, read_errors; /* met by merges; the block cache has its own */
};

struct merge;

struct index {
    struct env *env;
    atomic_uint view_count; /* the current one, and those that readers still hold */
    struct io_queue_pool *pool;
    struct index_hooks hooks;
    struct index_settings settings; /* guarded by lock, but for block_cache_bytes_max */
    uint64_t level_base_bytes;      /* never changes */
    struct mutex lock;
    struct index_view *view; /* guarded by lock */
    struct memtable *active; /* the writer's; a reference of its own */
    struct merge *merge;     /* the tick's: in progress, or NULL */
    uint32_t merge_failures; /* the tick's: in a row */
    uint32_t grown;          /* the tick's: levels that received a run since the last decision, a bit each */
    struct block_cache cache;
    struct index_counters counters;
};

/* Runs of the current view. Only the tick's thread changes the number. */
uint32_t view_run_count(struct index *index);

/* A view of nothing with room for `runs` runs, not current yet; NULL: out of memory. */
struct index_view *view_create(struct index *index, uint32_t runs);

/*
 * Make a change: `next` becomes what the current view is, less `dropped_memtable`, less the runs in `removed`, plus
 * `run` and, in front, `active` (each may be NULL). References to what it names are taken, and runs in `removed` are
 * marked obsolete. false: `next` has too little room, and nothing happened.
 */
struct view_change {
    struct memtable *active;
    const struct memtable *dropped_memtable;
    struct run *run;
    struct run *const *removed;
    size_t removed_count;
};
bool view_publish(struct index *index, struct index_view *next, const struct view_change *change);

static inline void
counter_add(_Atomic(uint64_t) *counter, uint64_t n)
{
    (void)atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

#endif
