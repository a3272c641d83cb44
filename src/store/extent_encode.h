/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extent_encode.h - the pages of a put, coded, before space for them is reserved: how much they take is known only then. A window is a bounded number of
 * consecutive pages; extents are cut from it as the log has room, and it lives until the last of them is written.
 */
#ifndef VARVE_STORE_EXTENT_ENCODE_H
#define VARVE_STORE_EXTENT_ENCODE_H

#include "store/coding.h"
#include "store/store.h"

#define ENCODE_WINDOW_BYTES ((uint64_t)16 << 20) /* of pages, or one page */
/* Limits the memory that one put takes for coded pages, unless one page alone takes more: one window is coded while others are being written. */
#define ENCODE_BYTES_MAX ((uint64_t)48 << 20)

struct encode_window;
struct write_target;

struct encode_page {
    struct crew_task task; /* first */
    struct encode_window *window;
    const varve_page *page;
    struct buffer stored; /* at a multiple of IO_ALIGN_MAX, with room to pad up to the next */
    uint64_t stored_bytes;
    uint64_t time_ns;
    int rc;
};

/* Pages of one put; used by its thread alone, but for helpers that code one page each. */
struct encode_window {
    varve_store *store;
    enum varve_element element;
    uint32_t users;      /* extents, and the put while it is the present one */
    uint64_t bytes;      /* of memory */
    size_t count, taken; /* pages, from the first on */
    struct encode_page pages[];
};

/* What all extents of one put share. */
struct write_batch {
    varve_store *store;
    const struct write_target *target; /* where extents get their space, and are made findable */
    void *target_arg;
    struct env_queue *queue;
    enum log_stream stream;
    enum varve_element element; /* VARVE_ELEMENT_BYTES: nothing is coded, what the pages hold is stored as it is */
    struct bounce bounce;
    uint64_t coded_bytes;         /* memory of windows, the present one's included */
    struct encode_window *window; /* the present one: coded pages, of which some are not in an extent yet. NULL: none */
    varve_page **plain_end;       /* pages before it are to be stored as they are */
};

/*
 * Where pages[0..*count) lie coded, or NULL: they are stored as they are; *count becomes the pages that this holds for, one or more. What was decided,
 * or coded, and found no room in the log yet, is not done again. Fails never: without memory pages are not coded.
 */
const struct encode_page *encode_choose(struct write_batch *batch, varve_page **pages, size_t *count);

/* The first `count` of the pages that encode_choose() gave go into an extent, which then uses the window returned. */
struct encode_window *encode_take(struct write_batch *batch, size_t count);

/* One user of *window less, which becomes NULL. NULL is a no-op. */
void encode_release(struct write_batch *batch, struct encode_window **window);

/* After all extents of the put are finished. */
void encode_end(struct write_batch *batch);

#endif
