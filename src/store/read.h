/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read.h - one get, as its parts share it: read.c finds the pages and answers, read_plan.c decides on the reads and sends them off,
 * read_decode.c turns what they brought into pages. Private to these.
 *
 * All of it is used by the caller's thread alone, but for the decoding of one page, which a helper may have.
 */
#ifndef VARVE_STORE_READ_H
#define VARVE_STORE_READ_H

#include "store/store.h"

struct decoding;
struct get;

/* A segment's file, open for reads. */
struct read_file {
    struct env_file *file;
    void *held; /* the source's */
};

/* Where a get learns where pages lie, and has files from: the index and the log of this process, or the process that owns the store. */
struct read_source {
    /* Of the pages that read_seeks() says: those that are found get their location, and read_place() says how they are read. */
    void (*locate)(struct get *get);
    /* Whether pages that are missed may have been taken away since they were located, or meanwhile. */
    bool (*lost)(const struct get *get);
    /* 0 or -errno: -ESTALE the segment was dropped, -ENODATA its file is not there. */
    int (*open)(struct get *get, uint64_t segment, struct read_file *out);
    void (*close)(struct get *get, struct read_file *file);
    /* Pages failed their checksum: those whose fetch is corrupt. */
    void (*damaged)(struct get *get);
    bool cut; /* files of dropped segments are cut, or written over, under their readers */
};

/* One page of the batch. */
struct fetch {
    struct location location;
    uint64_t room;             /* in the page's buffers */
    uint64_t read_bytes;       /* location.size, or a little more, so that it can be read directly */
    uint32_t pending;          /* reads in flight */
    int rc;                    /* first failure: 0 or -errno */
    bool wanted;               /* found, and its buffers are large enough as far as is known */
    bool aligned;              /* reads go where the page's bytes are wanted; else through a bounce buffer */
    bool corrupt;              /* to be forgotten after the batch */
    struct decoding *decoding; /* of a coded page, from when its first read is planned until it is settled */
};

struct get {
    varve_store *store;
    varve_page *pages;
    struct fetch *fetches;
    size_t count;
    uint32_t ns_id;
    const struct read_source *source;
    void *source_arg;
    bool expires;    /* the namespace has a time to live */
    bool again;      /* pages that were missed are looked for once more */
    bool stale;      /* a segment was gone when it was to be read, since the pages were located */
    uint64_t losses; /* log_losses() before the pages were looked for */
    struct env_queue *queue;
    struct crew_group decodes;
    struct crew_task *ready, **ready_end; /* coded pages that were read and that nobody decodes yet */
    uint32_t reads;                       /* in flight */
    struct bounce bounce;
    uint64_t decode_bytes; /* of coded pages, from planned to settled */
    uint64_t piece_bytes;  /* of the largest read: store_piece_bytes() */
    uint64_t stored_bytes; /* read and verified */
    uint64_t last_read_ns; /* when the last read came in */
    uint64_t device_began; /* store->device_bytes, then */
    uint64_t device_bytes; /* read by all gets from then until the last read of this one came in */
    struct {
        uint64_t pages, bytes, stored_bytes, time_ns;
    } decoded;
};

/* read.c */
/* The get of `get->pages`: store, pages, count, ns_id, source and source_arg are given. VARVE_OK: it ran. */
int read_run(struct get *get, varve_error *err);
/* For a source: whether the page is to be located. In either case the get is prepared for its answer. */
bool read_seeks(struct get *get, size_t index);
/* Find a page in the index of this process, to be read. */
bool read_find(struct get *get, struct index_cursor *cursor, const varve_id *id, struct location *location);
/* A page that was found: how it is to be read, if at all. How long a coded page is shows only then. */
void read_place(struct get *get, uint32_t index);

/* read_plan.c */
struct read_plan;
/* Memory for it: env_free(). NULL: there is none. */
struct read_plan *read_plan_create(struct env *env);
/* Read all that is wanted, and settle it. */
void read_pages(struct get *get, struct read_plan *plan);

/* read_decode.c */
/* Memory for the stored bytes of a coded page. False: there is none. */
bool decoding_create(struct get *get, uint32_t index);
/* Where the page's bytes are read to. */
const struct iovec *fetch_target(const struct get *get, uint32_t index, uint32_t *iov_count);
/* One of the page's reads has ended: 0 or -errno. After the last one the page is settled, or given to be decoded. */
void read_part_done(struct get *get, uint32_t index, int rc);
/* With reads or decode_bytes above 0: wait for one of them, or decode one page. */
void read_progress(struct get *get);
/* A page without bytes, as stored. */
void read_settle_empty(struct get *get, uint32_t index);

#endif
