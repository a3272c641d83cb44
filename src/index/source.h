/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source.h - entries in key order from a memtable or a run, and from many of them at once. Runs are read front to back
 * in 256 KiB pieces past the block cache, so that a merge or an iteration does not empty it.
 *
 * Threads: one at a time. The caller keeps the memtables and runs alive.
 */
#ifndef VARVE_INDEX_SOURCE_H
#define VARVE_INDEX_SOURCE_H

#include "index/memtable.h"
#include "index/run_read.h"

/* What went by, for statistics and budgets. */
struct source_counters {
    uint64_t bytes_read;
    uint64_t blocks_corrupt;
    uint64_t read_errors;
};

struct source {
    const struct memtable *memtable; /* or NULL */
    const struct mem_entry *node;    /* given last; NULL: begin */
    struct run *run;                 /* or NULL */
    uint8_t *buffer;                 /* of a run: SOURCE_BUFFER_BYTES */
    uint32_t buffer_first;           /* number of the first block in it */
    uint32_t buffer_count;           /* blocks in it */
    uint32_t next_block;             /* to be opened next */
    struct block_walk walk;          /* in the present block */
    bool in_block;
    bool stale; /* `entry` was used up: step before looking at it */
    bool ended;
    struct entry entry; /* the present one, unless stale or ended */
};

/* Several sources as one. */
struct source_set {
    struct env *env;
    struct io_queue_pool *pool;
    struct source *sources;
    size_t count;
    size_t capacity;
    struct source *last; /* gave the last entry */
    bool strict;         /* a damaged block is an error, reported once; else it is counted and left out */
    struct source_counters counters;
};

int source_set_init(struct source_set *set, struct env *env, struct io_queue_pool *pool, size_t capacity, bool strict);
void source_set_deinit(struct source_set *set);
void source_set_add_memtable(struct source_set *set, const struct memtable *memtable);
/* VARVE_OK or VARVE_E_NOMEM. */
int source_set_add_run(struct source_set *set, struct run *run);

/*
 * The next entry in key order; equal keys in the order the sources were added. VARVE_OK: *out, valid until the next
 * call. VARVE_MISS: the end. VARVE_E_*: a block could not be read (the next call goes on after it), or out of memory.
 */
int source_set_next(struct source_set *set, struct entry *out, varve_error *err);

#endif
