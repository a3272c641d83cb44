/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extent_write.h - one extent on its way to the log: coded where that is worth it, reserved, checksummed, written in large pieces while later
 * pages are still being checksummed, then ready to be inserted into the index.
 */
#ifndef VARVE_STORE_EXTENT_WRITE_H
#define VARVE_STORE_EXTENT_WRITE_H

#include "store/extent_encode.h"
#include "store/store.h"

struct extent_write {
    struct extent_write *next; /* the put's list */
    struct write_batch *batch;
    struct reservation reservation;
    struct extent_header header; /* ids, sums, sizes: in buf */
    varve_page **pages;          /* header.count of them, the put's */
    uint8_t *buf;                /* the encoded header, aligned */
    uint8_t *id_prefixes;        /* count x ID_PREFIX_BYTES, as the index wants them */
    struct iovec *pieces;        /* header, pages, padding, in the order of the file */
    uint32_t piece_count;
    bool copied; /* some buffer is not aligned, or all are small: everything goes through bounce buffers */
    const struct encode_page *coded; /* header.count of them, until they are written; NULL: stored as they are */
    struct encode_window *window;    /* that they belong to */
    uint64_t payload_bytes;          /* as stored */
    uint64_t original_bytes;         /* as put */
    uint64_t segment;                /* its number */
    bool submitted;                  /* all chunks are */
    uint32_t pending;                /* chunks in flight */
    int rc;                          /* first failure: 0 or -errno */
};

/*
 * Reserve space for as many of pages[0..count) as fit, at most EXTENT_PAGES_MAX, and write them. The caller fills ns_id, branch, depth and parent
 * of *key_part. On success *out is on its way: drain the batch's queue, then look at rc. On failure nothing is left.
 */
int extent_write_begin(struct write_batch *batch, const struct extent_header *key_part, varve_page **pages,
                       size_t count, struct extent_write **out, varve_error *err);

/*
 * Once it is drained: make its pages findable, if they were written. Its reservation ends, whatever happens. VARVE_OK, or why its pages are not stored.
 */
int extent_write_install(struct extent_write *extent);
/* Count what was inserted into the index. */
void extent_write_count(const struct extent_write *extent);

/* A view for index_insert(), valid as long as the extent_write. */
struct entry extent_write_entry(const struct extent_write *extent);

/* Release everything but the reservation, which has ended. */
void extent_write_destroy(struct extent_write *extent);

#endif
