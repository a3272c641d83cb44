/* SPDX-License-Identifier: Apache-2.0 */
/*
 * survivors.h - the live pages of a segment that is being reclaimed: found by the headers of its extents, put in key order, and copied to the log's stream
 * of survivors. What lay scattered on one branch becomes one extent, so copying also restores locality.
 *
 * A copy is installed only while the index has no other place for the page than the one it was read from (compare and swap), under
 * store->moves_lock, which removals take as well: so a page that is removed is not brought back by a copy of it.
 *
 * Threads: one at a time.
 */
#ifndef VARVE_STORE_SURVIVORS_H
#define VARVE_STORE_SURVIVORS_H

#include "log/extent_scan.h"
#include "store/store.h"

/* One live page. */
struct survivor {
    struct key key;
    uint64_t parent_branch; /* of the page, where a branch begins with it */
    uint64_t place;         /* in the victim */
    uint64_t sum;
    uint32_t parent_depth;
    uint32_t size;
    uint8_t codec;
    uint8_t align_shift;
    bool pinned;
    varve_id id;
};

/* Survivors of one segment, a part at a time. */
struct survivors {
    varve_store *store;
    struct segment *victim; /* the owner's reference */
    struct env_file *file;  /* of the victim; the owner's use */
    struct extent_scan *scan;
    bool scanned; /* to the end */
    struct survivor *list;
    size_t count, next; /* in the list; to be copied next */
    uint64_t bytes;     /* copied, padding included */
    uint64_t pages;
    uint64_t lost; /* pages that could not be read, or failed their checksum */
    bool last_try; /* what cannot be read, or looked up, is given up, page by page; else it is an error */
};

/* VARVE_OK or VARVE_E_NOMEM; then the file is still the caller's to give back. */
int survivors_begin(struct survivors *survivors, varve_store *store, struct segment *victim, struct env_file *file);
void survivors_end(struct survivors *survivors);

/* Look for more, unless some are waiting to be copied. VARVE_OK; VARVE_MISS: there are no more; VARVE_E_*. */
int survivors_find(struct survivors *survivors, varve_error *err);
/* From the beginning once more: pages may have been used again while others were copied. */
void survivors_restart(struct survivors *survivors);

/* Copy the next ones of one branch, some MiB at most, or pass them over, where only pinned ones are worth it. VARVE_E_NOSPC: there is no room for survivors, or no gain in copying more. */
int survivors_copy(struct survivors *survivors, varve_error *err);

#endif
