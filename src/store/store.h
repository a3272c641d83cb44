/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - the store: owns the environment, the log, the index and the manifest, and ties them together.
 *
 *   store.c      open and close         wiring.c    what log and index ask of the store
 *   recover.c    scan of the log        replay.c, sweep.c   the rest of recovery
 *   write.c      put                    extent_write.c  one extent on its way to the log
 *   read.c       get                    read_plan.c     which reads it takes
 *   read_decode.c  what a read brings   walk.c      probe, exists, touch, remove
 *   coding.c     codecs, when to code   extent_encode.c  pages coded before they are written
 *   speed.c      how fast reads are     bounce.c        memory between the device and small or unaligned buffers
 *   tick.c       background work        space.c     capacity
 *   control.c    the controller's windows and decisions     control_log.c, control_file.c   what it says of them
 *   control_trial.c   what things cost, tried out
 *   namespace.c  namespaces             limits.c, pin.c, admission.c   what is kept, and what is stored
 *   check.c      index against log
 *
 * Locks, in the order they may be taken: sync_lock (log), manifest lock | write_lock > log lock > namespace lock; space lock and
 * background lock are leaves. docs/locking.md.
 */
#ifndef VARVE_STORE_STORE_H
#define VARVE_STORE_STORE_H

#include <stdatomic.h>

#include "api/options.h"
#include "api/stats.h"
#include "base/lock.h"
#include "env/io.h"
#include "index/index.h"
#include "log/log.h"
#include "manifest/manifest.h"
#include "reclaim/write_budget.h"
#include "store/bounce.h"
#include "store/coding.h"
#include "store/control.h"
#include "store/limits.h"
#include "store/recency.h"
#include "store/reclaim_job.h"

#define BANDWIDTH_SAMPLE_MIN ((uint64_t)1 << 20) /* bytes read together; fewer measure latency */

/*
 * A page that is moved while somebody looks for it, or before it is read, may be missed in both places. So what is not found while log_losses() grew is
 * looked for again in a view that is made after that, but not for ever.
 */
#define LOOKUPS_MAX 4

#define ACTIVE_EXTENTS_MAX 4096 /* in one memtable: bounds the replay */

#define TIP_SLOTS 4096 /* branches whose next free depth is remembered: a few times the puts that can be in flight */

struct varve_namespace {
    varve_store *store;
    char *name;
    _Atomic uint32_t ns_id; /* changes when the namespace is cleared */
    uint32_t element_type;
    uint64_t page_bytes_hint;
    struct limits limits;
    varve_namespace_limits
        wanted; /* of a peer: for whoever is the owner next; struct_size 0: none. namespace_change guards it */
};

/* The next depth of a branch that puts in flight have not taken; the index knows only what was inserted. */
struct branch_tip {
    uint32_t ns_id;
    uint32_t next_depth;
    uint64_t branch; /* 0: empty slot */
};

/* Bytes written, against the write budget. */
struct admission {
    struct mutex lock;
    struct write_budget budget;
    int64_t noted; /* bytes that no put was charged for, when the budget was charged for them last */
};

/* Bytes of the directory, against capacity. */
struct space {
    struct mutex lock;
    struct cond returned; /* some came back */
    uint64_t capacity;
    uint64_t ceiling; /* the capacity, or, since that was lowered, what is still used: survivors may take so much */
    uint64_t used;
    uint64_t taken;     /* in all, ever: the same twice when nothing was made between */
    uint64_t returning; /* of dropped segments that still have readers: part of used */
    uint64_t
        kept; /* of their files that wait for the next segments: not part of used, but of what the directory holds */
    unsigned stuck; /* segments dropped last, in a row, of which the file could not be removed */
};

/* The background thread and those who wait for it. */
struct background {
    pthread_t thread;
    bool running; /* the thread was started */
    struct mutex lock;
    struct cond wake;     /* there may be work, or stop */
    struct cond progress; /* a slice of work ended */
    bool stop;
    bool work;
    uint64_t slices; /* ended so far */
};

/* Who decides about the store: this process, or another that has its lock. Once an owner, always one. */
enum store_role { ROLE_OWNER, ROLE_PEER };

struct peer;
struct server;

struct varve_store {
    struct env *env;
    _Atomic enum store_role
        role; /* as a peer it has neither log nor index nor manifest: calls go to the owner, through src/peer */
    struct peer *peer;      /* src/peer's; NULL: never was one */
    struct server *server;  /* src/peer's; NULL: serves nobody */
    uint64_t life;          /* of an owner: peers tell by it that this is another than the last */
    bool writers_left;      /* processes that wrote for the owner before may do so still */
    _Atomic uint64_t peers; /* connections of others */
    struct io_queue_pool *pool;
    struct buffers bounce_memory;
    struct varve_options options; /* as opened; live ones change under background.lock */
    struct env_file *lock_file;
    struct log *log;
    struct index *index;
    struct manifest *manifest;
    struct counters counters;
    struct space space;
    struct background background;
    uint8_t store_id[16];
    _Atomic uint64_t segment_bytes;
    _Atomic uint64_t page_bytes_max; /* what fits in a segment of its own, under this capacity */
    uint8_t align_shift;
    atomic_bool read_only; /* a sync or a manifest write failed, or files cannot be removed */

    struct control control;
    struct recency recency;
    _Atomic uint32_t expiring; /* namespaces with a time to live */
    struct admission admission;
    struct mutex reclaim_lock; /* one victim at a time; held across its I/O */
    struct reclaim_job *reclaim_job;
    unsigned reclaim_failures; /* in a row */
    bool
        copies_unsynced; /* copies of live pages were made since the log was synced for their sake. Like the job: reclaim_lock */
    struct mutex moves_lock; /* where a page lies: removals, and copying live pages; held across their I/O */

    uint64_t manifest_share; /* of the capacity, counted for manifests; under slice_lock once the store is open */
    struct mutex
        slice_lock; /* one slice of background work; held across its I/O, waited for by nothing that serves pages */
    struct mutex write_lock; /* inserts and rotations; branches */
    uint64_t next_branch;
    uint64_t active_extents; /* in the active memtable: bounds the replay */
    _Atomic uint64_t active_pages;
    struct branch_tip tips[TIP_SLOTS];
    struct log_mark *marks; /* of frozen memtables */
    bool recovering;        /* the memtable does not hold all of the log yet */

    struct mutex namespace_change; /* one creation or clear at a time; held across the manifest's I/O */
    struct mutex namespace_lock;   /* the array */
    varve_namespace **namespaces;
    size_t namespace_count, namespace_capacity;

    _Atomic uint64_t last_sync_ns;
    _Atomic uint64_t device_bytes; /* read for gets */
    _Atomic uint64_t
        read_bandwidth; /* of the device, stored bytes/s; EWMA of batches that read 1 MiB or more, with what others read meanwhile; 0 unknown */
    _Atomic uint64_t read_latency_ns; /* EWMA of batches that read less */
    struct coding coding;
};

/* A store that is nobody's yet. NULL: out of memory. store_destroy() it; env stays the caller's. */
varve_store *store_create(struct env *env, const varve_options *options);
void store_destroy(varve_store *store);
/* Is env's directory a store, or one to make it in? */
int store_check_directory(struct env *env, const varve_options *options, varve_error *err);
/* Whoever has the lock brings the store up. It takes the lock over; on failure that is let go, and the store
 * nobody's again. */
int store_own(varve_store *store, struct env_file *lock_file, varve_error *err);
/* Finish and make durable, then let go of everything: env, too. */
int store_finish(varve_store *store, varve_error *err);

/*
 * Open a store in env, for this process alone, which it takes over on success (varve_close() destroys it); on failure it stays the caller's.
 */
int store_open(struct env *env, const varve_options *options, varve_store **out, varve_error *err);

/*
 * Free the store as if the process had died: no sync, no flush, nothing written. For tests of recovery.
 */
void store_abandon(varve_store *store);

/* Live options were changed, with background.lock held: what follows from them. */
int store_apply_options(varve_store *store, varve_error *err);

/* Make the room of the manifest follow the capacity; slice_lock held. VARVE_MISS: it does. */
int store_fit_manifest(varve_store *store, varve_error *err);
/* The capacity was changed: the same, now. What fails is tried again by the next slice of background work. */
void store_capacity_changed(varve_store *store);

/* store.c: what write paths ask first. */
int store_writable(varve_store *store, varve_error *err);
/* No more writes: durability can not be promised any longer, or no room can be made. */
void store_fail(varve_store *store);
int store_commit(varve_store *store, const struct manifest_item *items, size_t count, bool sync, varve_error *err);

/* wiring.c */
/*
 * Open the runs that *state names. If one is lost (damaged, missing, or not given by the device, however often it is asked), *state is left without runs and with nothing indexed: the index is then built anew from the
 * log, which holds all that the index knows.
 */
int store_load_runs(varve_store *store, struct manifest_state *state, varve_error *err);
/* Make the log, with the segments of *state in it, and count what is there. */
int store_open_log(varve_store *store, const struct manifest_state *state, varve_error *err);

/* tick.c */
/* One slice of background work. True: there may be more. One thread at a time. */
bool store_tick(varve_store *store);
/* Wait, or work, until the index can take more. VARVE_OK, or why it can not. */
int store_wait_for_room(varve_store *store, varve_error *err);
void store_wake_background(varve_store *store);
int store_start_background(varve_store *store, varve_error *err);
void store_stop_background(varve_store *store);
/* Freeze the active memtable. write_lock held. */
int store_rotate(varve_store *store);
/* The value of an option that may change while the store is open. */
uint64_t store_live_option(varve_store *store, const uint64_t *option);
/* Make the log durable, without the manifest. */
int store_sync_log(varve_store *store, varve_error *err);
/* Enough time, or bytes, since the last sync? */
bool store_sync_due(varve_store *store);
/* Sync everything acknowledged. */
int store_sync(varve_store *store, varve_error *err);

/* space.c */
void space_init(struct space *space, uint64_t capacity);
void space_deinit(struct space *space);
/* Lowered, it is reached as reclaim goes on; until then nothing but survivors is given room. */
void space_set_capacity(varve_store *store, uint64_t capacity);
/* Then: remove files that are kept and have no room any more. */
void space_fit_kept(varve_store *store);
uint64_t space_capacity(varve_store *store);
/* What is never exceeded: the capacity, but for the time after it was lowered. */
uint64_t space_ceiling(varve_store *store);
/* Take bytes, reclaiming segments while there are too few. VARVE_OK or VARVE_E_NOSPC. */
int space_take_for_index(varve_store *store, uint64_t bytes, varve_error *err);
/* The same, and leave enough for the next segment of survivors. As hooks->space_take() of log.h, also below. */
int space_take_for_pages(varve_store *store, uint64_t bytes, struct log_file *file, varve_error *err);
/* Take bytes if nothing has to be reclaimed for them. VARVE_OK or VARVE_E_NOSPC. */
int space_take_if_free(varve_store *store, uint64_t bytes);
/* Take bytes that are there, or VARVE_E_NOSPC: reclaim itself asks. */
int space_take_for_survivors(varve_store *store, uint64_t bytes, struct log_file *file, varve_error *err);
/* Count bytes that are there already (recovery, the manifest), whatever the capacity. */
void space_count(varve_store *store, uint64_t bytes);
void space_give_back(varve_store *store, uint64_t bytes);
/* See log.h. */
void space_segment_gone(varve_store *store, uint64_t bytes);
void space_file_removed(varve_store *store, uint64_t bytes, int rc);
bool space_keep_file(varve_store *store, const struct log_file *file);
/* Give up one of the files that are kept for segments. False: there is none. */
bool space_remove_kept(varve_store *store);
/*
 * The file system has less than it says: remove the files that are kept, and where there are none drop segments of about `bytes`. VARVE_OK: there is more room;
 * VARVE_MISS: there was nothing.
 */
int space_squeeze(varve_store *store, uint64_t bytes);
/* What the directory holds, by the accounts. */
uint64_t space_used(varve_store *store);
/* Of this, files that are kept for the next segments. */
uint64_t space_kept(varve_store *store);
uint64_t space_taken(varve_store *store);
/*
 * After log_drop_begin(): tell the manifest, keep the file for the next segment, or unlink it and expect its space. Without a sync if it is unlinked, unless `sync`: should the
 * power fail in between, the manifest names a segment that is missing, which recovery takes for dropped. VARVE_E_NOMEM: it is as before, and can be dropped another time.
 */
int space_drop(varve_store *store, struct segment *segment, bool sync, varve_error *err);
/* For close: drop the segment that was made ahead. VARVE_OK also when there is none. */
int space_drop_spare(varve_store *store, varve_error *err);
/* What segments may take: the capacity without the index and the manifest as they are now. */
uint64_t space_for_segments(varve_store *store);
/* Less room left than the next segments and the next run will want? */
bool space_is_short(varve_store *store);
/* More used than there should be, since the capacity was lowered or the file system is nearly full? */
bool space_is_over(varve_store *store);

/* recover.c: in this order. */
struct recovery;
/*
 * Bring *state up to what the directory holds: take in segments that are newer than the manifest, leave out missing ones, find the extents
 * that no run covers, seal every segment.
 */
int recovery_scan(varve_store *store, struct manifest_state *state, struct recovery **result, varve_error *err);
/* With log, index and manifest in place: insert the extents found. */
int recovery_replay(struct recovery *recovery, varve_error *err);
void recovery_free(varve_store *store, struct recovery *recovery);
/* Whether several processes ever had this store, as far as can be told: then some may be left, with files open. */
bool recovery_was_shared(struct env *env);
/* Remove files of the store that the manifest does not name. */
void recovery_sweep(varve_store *store);

/* namespace.c */
int namespaces_load(varve_store *store, const struct manifest_state *state, varve_error *err);
void namespaces_free(varve_store *store);
/* Of a peer: one that the owner has, by its number. namespace_change held. VARVE_E_NOMEM. */
int namespace_adopt(varve_store *store, const char *name, uint32_t ns_id, enum varve_element element_type,
                    uint64_t page_bytes_hint, varve_namespace **out);
/* A peer has become the owner: what it knows by names that the manifest does not have is made anew, and its limits are set. */
int namespaces_take_over(varve_store *store, varve_error *err);
/* NULL: there is none. Valid as long as the store. */
varve_namespace *namespace_by_name(varve_store *store, const char *name);
varve_namespace *namespace_by_id(varve_store *store, uint32_t ns_id);
bool namespace_live(varve_store *store, uint32_t ns_id);
/* The name of a live namespace id, or NULL. Valid as long as the store. */
const char *namespace_name(varve_store *store, uint32_t ns_id);

/* admission.c */
/* The write budget is so many bytes a day; 0: none. */
void admission_set(varve_store *store, uint64_t day_bytes);
uint64_t admission_day_bytes(varve_store *store);
/* How many of the first of these new pages of one batch are to be stored; they are paid for. */
size_t admission_admit(varve_store *store, varve_page *const *pages, size_t count);
/* Bytes written since the store was opened: log, index, manifest. */
uint64_t admission_written(varve_store *store);

/* pin.c */
/* How many bytes may be pinned. */
uint64_t pin_budget(varve_store *store);

/* write.c */
/* Insert an extent into the memtable, rotating when it is full. write_lock held. */
int store_insert(varve_store *store, const struct entry *entry);

/* walk.c */
/* Forget one stored copy of a page, for good with the next sync. On failure it may still be found. */
int store_forget(varve_store *store, const varve_id *id, const struct location *location, varve_error *err);

/* speed.c: what reads took lately, at one moment: estimates that belong together come from one of these */
struct read_speed {
    uint64_t bandwidth;        /* of the device, stored bytes/s */
    uint64_t decode_bandwidth; /* of all threads that decode, stored bytes/s; 0: not measured yet */
    uint64_t latency_us;
};
struct read_speed store_read_speed(const varve_store *store);
/* Time to get `bytes` stored bytes, of which `coded_bytes` must be decoded. */
uint64_t read_speed_us(const struct read_speed *speed, uint64_t bytes, uint64_t coded_bytes);
/* An average that follows its last samples. */
void store_average(_Atomic uint64_t *value, uint64_t sample);

/* All statistics, in the order of varve_stat_describe(): the first `count`. How many there are. */
size_t store_stats_get(varve_store *store, uint64_t *values, size_t count);
/* gauges of it */
void store_gauges(varve_store *store, struct gauges *out);
size_t store_stats_fill(varve_store *store, const struct gauges *gauges, uint64_t *values, size_t count);

#endif
