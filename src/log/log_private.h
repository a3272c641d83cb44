/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of src/log share. */
#ifndef VARVE_LOG_LOG_PRIVATE_H
#define VARVE_LOG_LOG_PRIVATE_H

#include "log/log.h"

/* ext4 and xfs keep at most one block of their own for a preallocated file; the name and inode are not counted by anyone. */
#define SEGMENT_OVERHEAD_BYTES LOG_BLOCK_BYTES

/* The end of one stream. */
struct log_head {
    struct segment *open; /* NULL: none */
    bool creating;        /* one thread at a time makes the next segment */
    uint64_t making;      /* its number, once it has one; 0: none */
    uint64_t appended;    /* bytes reserved, ever */
};

#define KEPT_MAX 4 /* files: reclaim is not much further ahead than that */

/* A file that is kept: will be when its last reader lets go, ready, or claimed and about to be gone. */
struct kept_file {
    struct log_file file;
    bool ready;
};

struct log {
    struct env *env;
    struct io_queue_pool *pool;
    struct log_hooks hooks;
    struct log_settings settings;
    _Atomic uint64_t segment_bytes;             /* of the next segments */
    struct mutex sync_lock;                     /* one sync at a time; held across fdatasync, taken before lock */
    struct mutex lock;                          /* guards all below and the guarded part of segments */
    struct cond created;                        /* a head's creating became false, or a segment sealable or sealed */
    struct log_head heads[LOG_STREAMS];         /* where extents are appended */
    uint64_t losses;                            /* segments dropped and pages removed */
    struct segment *spare;                      /* made ahead, empty: the next open one of LOG_NEW; NULL: none */
    struct segment *unsealed[LOG_UNSEALED_MAX]; /* open and full ones, each holding a use of its file */
    uint32_t unsealed_count;
    uint64_t unsynced_bytes;
    uint64_t names_made, names_synced; /* directory entries of segments: counted when made */
    struct segment **table;            /* hash of number -> chain */
    size_t table_size;                 /* power of two */
    size_t segment_count;
    struct kept_file kept[KEPT_MAX];
    uint32_t kept_count;
    bool death_possible; /* a segment was sealed, or a namespace cleared, since no dead one was found */
    struct segment *lru_first, *lru_last; /* open files without users; the last was used longest ago */
    uint32_t open_file_count;
};

/* The segment, whatever its phase, or NULL. Lock held. */
struct segment *log_find(const struct log *log, uint64_t number);
/* The table, twice as large, or the first one. Lock held. VARVE_OK or VARVE_E_NOMEM. */
int log_table_grow(struct log *log);
/* Into the table, of which there is one and which takes a reference. Lock held. */
void log_insert(struct log *log, struct segment *segment);
void log_take_out(struct log *log, struct segment *segment);

/*
 * make.c. A segment that takes an extent of `least` bytes, in the table and unsealed. The stream's `creating` is the caller's, and is ended;
 * the lock is not held.
 */
int log_make_segment(struct log *log, enum log_stream stream, uint64_t least, struct segment **out, varve_error *err);
/* May one more segment be made for the stream, those counted that are being made? Lock held. */
bool log_may_make(const struct log *log, enum log_stream stream);
/* Time to make the next one? Lock held. */
bool log_spare_wanted(const struct log *log);

/* recycle.c. Of a dropped segment, when the last reference is gone: its file is kept, or removed after all. Destroys it; the lock is not held. */
void log_keep_file(struct log *log, struct segment *segment);
/* Remove a segment's file, which other processes may have open. 0 or -errno. */
int log_file_unlink(struct log *log, uint64_t number, bool shared);
/* Have a claimed file under the name of the new segment, open and of its length. 0; 1: the file is gone; -errno: it is open, and to be removed, or cannot be. */
int log_file_reuse(struct log *log, const struct log_file *file, struct segment *segment);

struct segment *segment_create(struct log *log, uint64_t number, uint64_t salt, uint64_t bytes, uint8_t align_shift);
/* One reference less, with the lock held. True: it was the last; call segment_destroy() without the lock. */
bool segment_unref(struct segment *segment);
void segment_destroy(struct segment *segment);
/* Count pages of a namespace. Lock held. Short of memory the counts become incomplete. */
void segment_add_use(struct segment *segment, uint32_t ns_id, uint64_t pages, uint64_t bytes);
/* Every extent before it is finished. Lock held. */
uint64_t segment_low_water(const struct segment *segment);

#endif
