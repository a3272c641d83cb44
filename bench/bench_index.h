/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_index.h - the store's index alone, in a directory of its own: what is inserted is flushed and merged as the store would, by one thread and at once.
 * All segments live, nothing removed. What fails ends the program.
 */
#ifndef VARVE_BENCH_BENCH_INDEX_H
#define VARVE_BENCH_BENCH_INDEX_H

#include <stdatomic.h>

#include "index/view.h"

#define BENCH_INDEX_RUNS_MAX 64

struct bench_index {
    char path[4096];
    struct env *env;
    struct io_queue_pool *pool;
    struct index *index;
    struct index_hooks hooks;
    struct index_settings settings;
    _Atomic(uint64_t) file_number;              /* last one given */
    struct run_meta runs[BENCH_INDEX_RUNS_MAX]; /* what a manifest would name */
    size_t run_count;
    uint64_t bytes_flushed, bytes_merged;
    double memtable_bytes_per_page; /* of the first memtable that was frozen */
};

/* The store's own shape and sizes. */
struct index_settings bench_index_settings(void);

/* In `path`, which must not exist. */
void bench_index_create(struct bench_index *bench, const char *path, const struct index_settings *settings);
/* Remove the directory, too. */
void bench_index_destroy(struct bench_index *bench);

/* Flushes and merges first when the memtable is full. */
void bench_index_insert(struct bench_index *bench, const struct entry *entry);
/* Flush what is in the memtable, and merge all that is due. */
void bench_index_flush(struct bench_index *bench);

/* Anew from the files, which are not in memory any more, with a block cache of that size. */
void bench_index_reopen(struct bench_index *bench, uint64_t block_cache_bytes);

/* Locators and block indexes of all runs; bytes of their files. */
uint64_t bench_index_memory(struct bench_index *bench);
uint64_t bench_index_disk(const struct bench_index *bench);
/* Blocks read from the device since the last reopen. */
uint64_t bench_index_blocks_read(struct bench_index *bench);

#endif
