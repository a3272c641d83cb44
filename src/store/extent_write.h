/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extent_write.h - one extent on its way to the log: coded where that is worth it, reserved, checksummed, written in large pieces while later
 * pages are still being checksummed, then ready to be inserted into the index.
 */
#ifndef VARVE_STORE_EXTENT_WRITE_H
#define VARVE_STORE_EXTENT_WRITE_H

#include "store/extent_encode.h"
#include "store/store.h"

struct extent_write;

/* How many pages of an extent fit in what is left of a segment, and what they take. */
struct extent_fit {
    varve_page *const *pages;
    const struct encode_page *coded; /* NULL: as they are */
    size_t count;
    uint8_t align_shift;
    uint8_t codec;
    size_t fitting; /* out */
    bool uniform;   /* out: all fitting pages have one size */
};
/* log_fit.take, of a struct extent_fit: as many pages as the room allows. */
uint64_t extent_fit_take(void *arg, uint64_t room);
/* log_fit.least */
uint64_t extent_fit_least(const struct extent_fit *fit);
uint32_t extent_fit_size(const struct extent_fit *fit, size_t index);

/* Space for one extent. */
struct extent_place {
    uint64_t segment, salt; /* number and salt of the segment */
    uint64_t offset, bytes;
    uint64_t synced_offset;
    struct env_file *file; /* the segment's, for writes; stays open until the extent is installed or abandoned */
};

/* Where extents get their space and become findable: the log and the index of this process, or the process that owns the store. */
struct write_target {
    /* Reserve for as many pages as fit: extent->place, and, where this is not the caller's to say, the key in *key_part. As log_reserve(). */
    int (*reserve)(struct extent_write *extent, struct extent_fit *fit, struct extent_header *key_part,
                   varve_error *err);
    /* See extent_write_install(). */
    int (*install)(struct extent_write *extent);
    /* Nothing of the extent is findable in the log: its reservation ends. */
    void (*abandon)(struct extent_write *extent);
    /* See struct coding_files; `arg` is a write_batch. */
    void *(*open_written)(void *arg, uint64_t segment, struct env_file **file);
    void (*close_written)(void *arg, void *held);
};
extern const struct write_target write_to_log;

struct extent_write {
    struct extent_write *next; /* the put's list */
    struct write_batch *batch;
    struct reservation reservation; /* of write_to_log */
    struct extent_place place;
    uint64_t token;              /* of other targets: what they know the reservation by, */
    void *held;                  /* and what keeps the file open */
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
    bool late;                       /* written by another process, which may go on with it when it is given up */
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
 * The same without writing: the pages, whose sizes are as stored, are written by another process. Its checksums go to
 * extent_table_sums(), and whether it could write them to rc, before extent_write_install().
 */
int extent_write_reserve(struct write_batch *batch, const struct extent_header *key_part, varve_page **pages,
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
