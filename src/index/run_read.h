/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run_read.h - an open run: its file, its locator and the first key of each block. Immutable; shared by reference. A
 * run that was merged away is unlinked, and its space given back, when the last reference goes.
 */
#ifndef VARVE_INDEX_RUN_READ_H
#define VARVE_INDEX_RUN_READ_H

#include <stdatomic.h>

#include "format/run_format.h"
#include "index/index.h"
#include "index/locator.h"

struct run {
    struct env *env;
    const struct index_hooks *hooks;
    struct env_file *file;
    struct run_meta meta;
    uint64_t salt;
    uint32_t entry_pages_max; /* of any entry: how far before a key an entry that covers it may begin */
    struct key *first_keys;   /* of each block */
    struct key last_key;      /* of the last entry */
    struct locator locator;
    atomic_uint refs;
    atomic_bool obsolete;
};

/* Open the run and verify footer, block index and locator. One reference is the caller's. `hooks` must outlive it. */
int run_open(struct env *env, struct io_queue_pool *pool, const struct index_hooks *hooks, const struct run_meta *meta,
             struct run **out, varve_error *err);
void run_ref(struct run *run);
void run_unref(struct run *run);

/* The file goes with the last reference. The manifest must not name it any more. */
void run_mark_obsolete(struct run *run);

/* The last block whose first key is not after `key`; UINT32_MAX: none. */
uint32_t run_find_block(const struct run *run, const struct key *key);

/* Memory beside the block cache. */
uint64_t run_memory_bytes(const struct run *run);

#endif
