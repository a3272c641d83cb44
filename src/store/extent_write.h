/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extent_write.h - one extent on its way to the log: reserved, checksummed, written in large pieces while later pages are still being
 * checksummed, then ready to be inserted into the index.
 */
#ifndef VARVE_STORE_EXTENT_WRITE_H
#define VARVE_STORE_EXTENT_WRITE_H

#include "store/store.h"

/* Limits the memory that one put takes for bounce buffers. */
#define WRITE_BOUNCE_BYTES_MAX ((uint64_t)32 << 20)

/* What all extents of one put share. */
struct write_batch {
    varve_store *store;
    struct env_queue *queue;
    uint64_t bounce_bytes; /* in flight */
};

struct extent_write {
    struct extent_write *next; /* the put's list */
    struct write_batch *batch;
    struct reservation reservation;
    uint64_t stamp;              /* recency of its first page */
    struct extent_header header; /* ids, sums, sizes: in buf */
    varve_page **pages;          /* header.count of them, the put's */
    uint8_t *buf;                /* the encoded header, aligned */
    uint8_t *id_prefixes;        /* count x ID_PREFIX_BYTES, as the index wants them */
    struct iovec *pieces;        /* header, pages, padding, in the order of the file */
    size_t piece_count;
    bool copied; /* some buffer is not aligned: everything goes through bounce buffers */
    uint64_t payload_bytes;
    uint32_t pending; /* chunks in flight */
    int rc;           /* first failure: 0 or -errno */
};

/*
 * Reserve space for as many of pages[0..count) as fit, at most EXTENT_PAGES_MAX, and write them. The caller fills ns_id, branch, depth and parent
 * of *key_part. On success *out is on its way: drain the batch's queue, then look at rc. On failure nothing is left.
 */
int extent_write_begin(struct write_batch *batch, const struct extent_header *key_part, varve_page **pages,
                       size_t count, struct extent_write **out, varve_error *err);

/* A view for index_insert(), valid as long as the extent_write. */
struct entry extent_write_entry(const struct extent_write *extent);

/*
 * After a failure: take the header away again or, where the device does not let us, remove the pages in the manifest; if not even that can be
 * done, the store takes no more writes. The pages were reported as not stored; recovery would list them, torn as they are, and find
 * them before a later copy that is whole.
 */
void extent_write_void(const struct extent_write *extent);

/* Release everything but the reservation, which log_finish() has ended. */
void extent_write_destroy(struct extent_write *extent);

#endif
