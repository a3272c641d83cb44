/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - the tensor log: a set of append-only segments.
 *
 * Two streams are appended to: new pages, and pages that survive the reclaim of their segment. They do not mix, since survivors live long and most new
 * pages do not. A segment is open (one a stream: extents are reserved in it), full (reserved to its end, writes may be in flight), sealed (cut
 * to its length, durable, immutable) or dropping (its entries are misses). It only ever moves on in that order. Once the drop is committed and
 * the last reader has let go, the file is kept for the next segment to be written over (recycle.c), or unlinked, and its space comes back.
 *
 * Threads: all calls from any thread. `log->lock` is held for memory work only, never across I/O.
 */
#ifndef VARVE_LOG_LOG_H
#define VARVE_LOG_LOG_H

#include <stdatomic.h>

#include "base/lock.h"
#include "env/io.h"
#include "format/log_format.h"
#include "index/index.h"
#include "manifest/manifest_state.h"

/* Open and full segments; a put that would make more seals one itself. Two are for survivors: puts in flight never stand in the way of reclaim. */
#define LOG_UNSEALED_MAX     64
#define LOG_UNSEALED_NEW_MAX (LOG_UNSEALED_MAX - 2)

struct log;
struct removal_set;

/* The file of a dropped segment, kept for the next one. */
struct log_file {
    uint64_t number; /* its name */
    uint64_t bytes;  /* of space that it has; 0: there is no file */
    bool shared;     /* other processes have it open */
};
struct segment;
struct heat_segment;

enum log_stream { LOG_NEW, LOG_SURVIVORS, LOG_STREAMS };

/* What the log asks of the store. `arg` first; only namespace_live is called with the log's lock held. */
struct log_hooks {
    void *arg;
    uint64_t (*new_file_number)(void *arg);
    /*
     * Take `bytes` of capacity, for new pages reclaiming segments if need be. VARVE_OK or VARVE_E_NOSPC. A file that is kept may come with it (*file): the caller's
     * now, its space is part of these bytes.
     */
    int (*space_take)(void *arg, enum log_stream stream, uint64_t bytes, struct log_file *file, varve_error *err);
    void (*space_give_back)(void *arg, uint64_t bytes);
    /* A dropped segment's last reader let go: may its file be kept? Then its bytes are free for segments only, and log_file_ready() is called. */
    bool (*file_kept)(void *arg, const struct log_file *file);
    /* Or its `bytes` are free again. */
    void (*segment_gone)(void *arg, uint64_t bytes);
    /* A file that was kept, with `bytes`, was to be removed; rc -errno: it stays, and so many bytes more are used than were taken. */
    void (*file_removed)(void *arg, uint64_t bytes, int rc);
    /* The file system is full below the capacity: make room, for new pages by dropping segments of about `bytes`. VARVE_OK if there is more now. */
    int (*space_squeeze)(void *arg, enum log_stream stream, uint64_t bytes);
    int (*commit)(void *arg, const struct manifest_item *items, size_t count, bool sync, varve_error *err);
    /* An fsync failed: accept no more writes. */
    void (*sync_failed)(void *arg);
    /* A segment is about to hold pages: nobody else knows it yet. */
    void (*segment_created)(void *arg, struct segment *segment, enum log_stream stream);
    /* A segment takes no more pages. */
    void (*segment_sealed)(void *arg, struct segment *segment);
    bool (*namespace_live)(void *arg, uint32_t ns_id);
};

struct log_settings {
    uint64_t segment_bytes;
    uint32_t open_files;
    uint32_t unsealed_max; /* segments, up to LOG_UNSEALED_MAX: those are not reclaimed */
    uint8_t align_shift;
    bool shared; /* other processes may have files open that were there before, */
    bool stray;  /* and may still write to them */
};

enum segment_phase { SEGMENT_OPEN, SEGMENT_FULL, SEGMENT_SEALED, SEGMENT_DROPPING };

/* Space reserved for one extent, from log_reserve() to log_finish(). */
struct reservation {
    struct segment *segment;
    uint64_t offset;
    uint64_t bytes;
    uint64_t synced_offset;          /* for the extent's header */
    struct reservation *prev, *next; /* in flight in the segment, by offset; the log's lock */
};

struct segment {
    struct log *log;
    uint64_t number;
    uint64_t salt;
    uint8_t align_shift;
    struct heat_segment *heat; /* recency of its pages: the store's; NULL: not known */
    /* Guarded by the log's lock: */
    enum segment_phase phase;
    uint32_t refs;        /* the table's one included */
    uint64_t bytes;       /* length of the file */
    uint64_t append;      /* extents end here */
    uint64_t indexed;     /* extents before it are in runs, durably */
    uint64_t synced;      /* durable up to here */
    bool dirty;           /* written to since the last sync of it began */
    uint64_t name;        /* its directory entry is durable once log->names_synced is no less */
    bool sealing;         /* someone is at it */
    bool unlinked;        /* dropped: its space comes back with the last reference, */
    bool kept;            /* or, in place of that, its file is kept then */
    bool recycled;        /* it was written over such a file */
    bool stray;           /* another process may still write to it, late: its file is never written over */
    bool shared;          /* other processes have its file open: unlinking alone does not free its space */
    struct env_file *cut; /* of a dropped one that is shared: to cut it with the last reference */
    struct reservation *flight_first, *flight_last;
    struct env_file *file;               /* NULL: closed */
    uint32_t file_users;                 /* > 0: may not be closed */
    struct segment *lru_prev, *lru_next; /* open files without users */
    struct segment *table_next;
    struct state_use *uses;
    size_t use_count, use_capacity;
    bool uses_incomplete;         /* they may lack namespaces, so they do not show that the segment is dead */
    struct removal_set *removals; /* NULL: none */
};

int log_create(struct env *env, struct io_queue_pool *pool, const struct log_hooks *hooks,
               const struct log_settings *settings, struct log **out, varve_error *err);
/* The size of segments made from now on. */
void log_set_segment_bytes(struct log *log, uint64_t bytes);
/* Everything must be quiet. Closes files; seals and syncs nothing. */
void log_destroy(struct log *log);

/* Recovery: take in a segment that the manifest knows, with its removals and uses, as a sealed one. */
int log_add_segment(struct log *log, const struct state_segment *state, varve_error *err);

/* Recovery: pages found in a segment that was not sealed; and then: all its extents are in runs, it is sealed as it is. */
void log_count_use(struct log *log, uint64_t number, uint32_t ns_id, uint64_t pages, uint64_t bytes);
int log_seal_recovered(struct log *log, uint64_t number, varve_error *err);

/*
 * What an extent needs. `take` gets the room left in the open segment and returns how much it takes: a multiple of LOG_BLOCK_BYTES, or 0 if not even its
 * first page fits; it is called with the log's lock held. `least` is what it needs in an empty segment: larger than a segment makes a segment of that
 * size.
 */
struct log_fit {
    uint64_t (*take)(void *arg, uint64_t room);
    void *arg;
    uint64_t least;
};

/*
 * Reserve space for one extent in a stream. May create a segment, hence block on the device. VARVE_MISS:
 * LOG_UNSEALED_MAX segments have writes in flight; finish your own, then log_wait() and try again.
 */
int log_reserve(struct log *log, enum log_stream stream, const struct log_fit *fit, struct reservation *out,
                varve_error *err);

/* Wait until a segment may have become sealable, or sealed, at most timeout_ms. */
void log_wait(struct log *log, uint64_t timeout_ms);

/*
 * The extent's bytes are all written, and the next sync covers them. Before anything can find its pages: who finds one may take it for stored, and
 * ask for a sync.
 */
void log_written(struct log *log, const struct reservation *reservation);

/* The extent's write ended. When it is `written`, its pages count as held by the segment. */
void log_finish(struct log *log, struct reservation *reservation, bool written, uint32_t ns_id, uint64_t pages,
                uint64_t bytes);

/* The live segment `number`, referenced, or NULL. */
struct segment *log_acquire(struct log *log, uint64_t number);
void log_release(struct log *log, struct segment *segment);

/* The segment's file, open until it is given back. Blocks on the device when the file was closed. */
int log_file_acquire(struct log *log, struct segment *segment, struct env_file **out, varve_error *err);
void log_file_release(struct log *log, struct segment *segment);

/* The file of a segment that is not being dropped is given to another process: it is cut when it is dropped. False: it is being dropped. */
bool log_share(struct log *log, struct segment *segment);

/* A process that was given the file, and a reservation, may write there any time from now on. */
void log_note_stray(struct log *log, struct segment *segment);

enum segment_state log_segment_state(struct log *log, uint64_t number);
/* What the store set as `heat` of a segment that is not being dropped, or NULL. */
struct heat_segment *log_heat(struct log *log, uint64_t number);

/*
 * Forget one page of a segment, in two steps: reserve, so that nothing can fail once the removal is committed, and finish, which forgets it if that was
 * done. VARVE_OK, VARVE_MISS (segment gone; nothing to finish), VARVE_E_NOMEM.
 */
int log_removal_reserve(struct log *log, uint64_t number);
void log_removal_finish(struct log *log, uint64_t number, uint64_t offset, const uint8_t id_prefix[ID_PREFIX_BYTES],
                        bool committed);
bool log_page_removed(struct log *log, uint64_t number, uint64_t offset, const uint8_t id_prefix[ID_PREFIX_BYTES]);

/* How far each segment is covered by what was finished so far: what a memtable rotation remembers. */
struct log_mark {
    struct log_mark *next; /* the owner's */
    size_t count;
    struct {
        uint64_t segment;
        uint64_t offset; /* every extent before it is finished */
    } at[];
};

/*
 * The mark as of now, for segments that are not wholly in runs; with `all` false, one that covers nothing (recovery). env_free()
 * it. NULL: out of memory.
 */
struct log_mark *log_mark_create(struct log *log, bool all);
/* The runs up to the mark are durable. */
void log_mark_indexed(struct log *log, const struct log_mark *mark);

/* Make everything finished so far durable. A failure is final (hooks->sync_failed). */
int log_sync(struct log *log, varve_error *err);
/* Bytes finished and not yet covered by a sync that has begun. */
uint64_t log_unsynced_bytes(struct log *log);

/* Seal one full segment that has nothing in flight. VARVE_MISS: there is none. */
int log_seal(struct log *log, varve_error *err);
/* Make the next segment ahead of need, once the open one is half full. VARVE_MISS: there is no need. */
int log_prepare(struct log *log, varve_error *err);
/* Whether log_prepare() or log_seal() has something to do. */
bool log_has_work(struct log *log);
/* For close: the open segments become full, so that log_seal() takes them. */
void log_close_open(struct log *log);
/* For close: begin to drop the segment made ahead, as log_drop_begin(). NULL: there is none. */
struct segment *log_drop_spare(struct log *log);

/*
 * Begin to drop a sealed segment: its entries are misses at once. It is referenced once more. False: it is not sealed (any more). Then: commit the
 * drop, log_drop_finish().
 */
bool log_drop_begin(struct log *log, struct segment *segment);
/* Bytes that come back, through hooks->segment_gone, once a dropped segment has no readers left. */
uint64_t log_segment_space(const struct segment *segment);
/* Whether the file of a segment that is being dropped is worth keeping: then the drop is to be made durable, or a power failure could bring the segment back without its bytes. */
bool log_keeps_file(struct log *log, const struct segment *segment);
/*
 * The drop is committed (or, committed false, failed: the file stays for the next open): unlink, or with `keep` keep the file; forget, unreference. 0; 1: the file is
 * kept; -errno: the space does not come back.
 */
int log_drop_finish(struct log *log, struct segment *segment, bool committed, bool keep);
/* Or nothing came of it: the segment is sealed as before. What a merge has left out of the index meanwhile stays a miss. */
void log_drop_cancel(struct log *log, struct segment *segment);

/*
 * Files that are kept: what the next one has of space (0: there is none), and take it, if it is there. Whoever claims a file writes a segment over it, or removes it: 0 or
 * -errno, its space is still used. hooks->space_take() claims. Which one is the next changes only with log_file_ready() and log_file_claim(), which the caller keeps apart.
 */
uint64_t log_kept_bytes(struct log *log);
void log_file_ready(struct log *log, const struct log_file *file);
struct log_file log_file_claim(struct log *log);
int log_file_remove(struct log *log, const struct log_file *file);

bool log_is_sealed(struct log *log, const struct segment *segment);
/* A sealed segment that holds nothing of a live namespace, referenced, or NULL. */
struct segment *log_find_dead(struct log *log);
bool log_has_dead_segment(struct log *log);
/* A namespace was cleared: there may be dead segments. */
void log_note_death(struct log *log);
/* The sealed segment that was made first, referenced, or NULL. */
struct segment *log_find_oldest(struct log *log);
/* Bytes reserved for extents of a stream, ever. */
uint64_t log_appended(struct log *log, enum log_stream stream);
/* Room left in the open segment of a stream. */
uint64_t log_open_room(struct log *log, enum log_stream stream);

/* Where the segment's extents end; its file is never shorter. */
uint64_t log_segment_end(struct log *log, struct segment *segment);
size_t log_segment_count(struct log *log);
/* Whether there may be a file of segment `number`: it is in the log, being made, or being dropped. */
bool log_has_file(struct log *log, uint64_t number);
/* Grows whenever pages are taken away: a segment dropped, a page removed. */
uint64_t log_losses(struct log *log);
/* Pages held by a segment, as counted. */
uint64_t log_segment_pages(struct log *log, struct segment *segment);

/* Call `each` for every segment in no order, with the log's lock held. */
void log_for_each(struct log *log, void (*each)(void *arg, const struct segment *segment), void *arg);

#endif
