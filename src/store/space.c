/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capacity: every file is paid for before it is made. Bytes that are not there come from reclaim.
 */
#include <assert.h>
#include <errno.h>

#include "base/error.h"
#include "store/store.h"

#define READERS_WAIT_MS   10
#define READERS_WAITS_MAX 100 /* a second for readers of dropped segments; then more are dropped */
#define STUCK_MAX         3 /* dropped segments in a row that leave their files: else all would be dropped, and make no room */
#define DROPS_MIN         64
#define AHEAD_SHARE       8  /* of the capacity, at most, is kept free for the next segments */
#define RUN_BYTES_A_PAGE  48 /* of the run that the active memtable will make: about 25, and its locator */
#define RUN_BYTES_FIXED   ((uint64_t)64 << 10)

void
space_init(struct space *space, uint64_t capacity)
{
    mutex_init(&space->lock);
    cond_init(&space->returned);
    space->capacity = capacity;
    space->ceiling = UINT64_MAX; /* until what is there is counted: space_set_capacity() */
}

void
space_deinit(struct space *space)
{
    cond_deinit(&space->returned);
    mutex_deinit(&space->lock);
}

/*
 * What may be used falls to the capacity; while there is more, to what there is, and the room that the next segment of survivors takes. space.lock held.
 */
static void
lower_ceiling(varve_store *store)
{
    struct space *space = &store->space;
    uint64_t ceiling = space->capacity;

    if (space->used > space->capacity)
        ceiling = space->used + store->segment_bytes + LOG_BLOCK_BYTES;
    if (space->ceiling > ceiling)
        space->ceiling = ceiling;
}

uint64_t
space_capacity(varve_store *store)
{
    uint64_t capacity;

    mutex_lock(&store->space.lock);
    capacity = store->space.capacity;
    mutex_unlock(&store->space.lock);
    return capacity;
}

uint64_t
space_ceiling(varve_store *store)
{
    uint64_t ceiling;

    mutex_lock(&store->space.lock);
    ceiling = store->space.ceiling;
    mutex_unlock(&store->space.lock);
    return ceiling;
}

/* Whether the file system has so many bytes. Where it does not say, the next write will. */
static bool
disk_has(varve_store *store, uint64_t bytes)
{
    uint64_t available;

    return store->env->ops->free_space(store->env, &available) < 0 || available >= bytes;
}

/*
 * Whether the file system has `bytes` beyond what is to stay free: min_free, and `reserve`. Where it does not say, the next write will. Asked even without min_free,
 * so that a file system that is full below the capacity is met by reclaim, which copies what lives, and not by a write that fails.
 */
static bool
disk_allows(varve_store *store, uint64_t bytes, uint64_t reserve)
{
    return disk_has(store, store_live_option(store, &store->options.min_free) + bytes + reserve);
}

/* What a file that is kept, and may be written over by a segment of `bytes`, has of them. A larger one may not: it has its length until it is open under its new name. */
static uint64_t
kept_for(varve_store *store, uint64_t bytes)
{
    uint64_t with = log_kept_bytes(store->log);

    return with <= bytes ? with : 0;
}

/* The same of a segment, which may be written over a file that is there. */
static bool
disk_allows_segment(varve_store *store, uint64_t bytes, uint64_t reserve)
{
    return disk_allows(store, bytes - kept_for(store, bytes), reserve);
}

/* Files cannot be removed at all. */
static bool
never_unlinks(int rc)
{
    return rc == -EROFS || rc == -EPERM || rc == -EACCES;
}

/* A file was to be removed, or renamed: rc. Where they stay, segments are dropped for nothing. space.lock held. */
static void
note_removal(varve_store *store, int rc)
{
    struct space *space = &store->space;

    space->stuck = rc < 0 ? space->stuck + 1 : 0;
    if (space->stuck >= STUCK_MAX || never_unlinks(rc))
        store_fail(store);
}

/* Remove a file that is kept for a segment. False: there is none. space.lock held, and let go of meanwhile. */
static bool
remove_kept(varve_store *store)
{
    struct space *space = &store->space;
    struct log_file file = store->log == NULL ? (struct log_file){.bytes = 0} : log_file_claim(store->log);
    int rc;

    if (file.bytes == 0)
        return false;
    mutex_unlock(&space->lock);
    rc = log_file_remove(store->log, &file);
    mutex_lock(&space->lock);
    space->kept -= file.bytes;
    space->used += rc < 0 ? file.bytes : 0; /* until the next open */
    note_removal(store, rc);
    cond_broadcast(&space->returned);
    return true;
}

bool
space_remove_kept(varve_store *store)
{
    bool removed;

    mutex_lock(&store->space.lock);
    removed = remove_kept(store);
    mutex_unlock(&store->space.lock);
    return removed;
}

void
space_fit_kept(varve_store *store)
{
    struct space *space = &store->space;

    mutex_lock(&space->lock);
    while (space->used + space->kept > space->capacity && remove_kept(store))
        continue;
    mutex_unlock(&space->lock);
}

void
space_set_capacity(varve_store *store, uint64_t capacity)
{
    struct space *space = &store->space;

    mutex_lock(&space->lock);
    space->capacity = capacity;
    if (space->ceiling < capacity)
        space->ceiling = capacity;
    lower_ceiling(store);
    cond_broadcast(&space->returned);
    mutex_unlock(&space->lock);
}

/* What was asked of take_free(). */
struct claim {
    uint64_t bytes, reserve;
    const uint64_t *limit;
    struct log_file *file; /* out: takes a file that is kept, too; NULL: not for a segment */
};

/* The bytes are there, if not as free space, in a file that is kept and comes with them. space.lock held. */
static bool
take_now(varve_store *store, const struct claim *claim)
{
    struct space *space = &store->space;
    uint64_t with = claim->file == NULL ? 0 : kept_for(store, claim->bytes);

    if (space->used + space->kept - with + claim->bytes + claim->reserve > *claim->limit)
        return false;
    space->used += claim->bytes;
    space->taken += claim->bytes;
    if (with > 0) {
        *claim->file = log_file_claim(store->log); /* the one that was asked about: space.lock keeps others out */
        space->kept -= claim->file->bytes;
    }
    return true;
}

/* Take the bytes if the limit allows: after removing files that are kept and in the way, and waiting for readers of dropped segments if those have enough. */
static bool
take_free(varve_store *store, const struct claim *claim)
{
    struct space *space = &store->space;
    uint64_t wanted = claim->bytes + claim->reserve;
    bool taken;
    int waits = 0;

    mutex_lock(&space->lock);
    while (!(taken = take_now(store, claim))) {
        if (space->used - space->returning + wanted > *claim->limit || waits++ >= READERS_WAITS_MAX)
            break;
        if (!remove_kept(store))
            cond_wait_ms(&space->returned, &space->lock, READERS_WAIT_MS);
    }
    mutex_unlock(&space->lock);
    return taken;
}

/*
 * What only survivors may take, so that there is always room to copy them to: a segment when the open one has room for no more than the live pages of one
 * victim, which are at most half of one, and the less the more room there is. A victim gives back nearly twice what is copied of it: so what is free does not fall
 * below that while it is emptied.
 */
static uint64_t
survivors_reserve(varve_store *store)
{
    uint64_t segment = store->segment_bytes + LOG_BLOCK_BYTES, most = space_capacity(store) / AHEAD_SHARE;
    uint64_t room = log_open_room(store->log, LOG_SURVIVORS), half = segment / 2;

    if (room > half)
        segment = room < segment ? 2 * (segment - room) : 0;
    return segment < most ? segment : most;
}

/* Make room, by reclaim or by sealing what can be reclaimed then. VARVE_MISS: nothing is left that could go. */
static int
make_room(varve_store *store, varve_error *err)
{
    int rc = reclaim_work(store, err);

    return rc == VARVE_MISS ? log_seal(store->log, err) : rc;
}

static uint64_t
segments_dropped(varve_store *store)
{
    return atomic_load_explicit(&store->counters.segments_dropped, memory_order_relaxed);
}

/*
 * The index of what is stored is not refused for min_free, nor for the survivors' room when nothing can be reclaimed into that: it is small, and a store that could not
 * write it would not even open.
 */
static int
take_or_reclaim(varve_store *store, uint64_t bytes, struct log_file *file, varve_error *err)
{
    uint64_t capacity = space_capacity(store);
    bool for_index = file == NULL;
    /* As much as there is, several times over, is not dropped without making room, unless there is none to be made. */
    uint64_t dropped_max = segments_dropped(store) + DROPS_MIN + 4 * log_segment_count(store->log);
    bool reserves = true;
    unsigned failures = 0;
    int rc;

    for (;;) {
        uint64_t reserve = reserves ? survivors_reserve(store) : 0; /* it changes with what is reclaimed */

        if (for_index && bytes + reserve > capacity)
            reserve = 0;
        if (bytes + reserve > capacity)
            return error_set(err, VARVE_E_NOSPC, "%llu bytes do not fit in a capacity of %llu: raise it",
                             (unsigned long long)bytes, (unsigned long long)capacity);
        if ((for_index ? disk_has(store, bytes) : disk_allows_segment(store, bytes, reserve)) &&
            take_free(store, &(struct claim){bytes, reserve, &store->space.capacity, file}))
            return VARVE_OK;
        if (space_remove_kept(store))
            continue;
        rc = make_room(store, err);
        if (rc == VARVE_MISS && for_index && reserves) {
            reserves = false;
            continue;
        }
        /* Or all was copied from one segment to the next and back again: what is pinned, while puts of others hold the rest. */
        if (rc == VARVE_MISS || segments_dropped(store) > dropped_max)
            return error_set(err, VARVE_E_NOSPC,
                             "no segment can be dropped to make room: raise capacity, or lower min_free");
        failures = rc == VARVE_OK ? 0 : failures + 1;
        if (failures > RECLAIM_TRIES || rc == VARVE_E_READONLY)
            return rc;
    }
}

int
space_take_for_index(varve_store *store, uint64_t bytes, varve_error *err)
{
    return take_or_reclaim(store, bytes, NULL, err);
}

int
space_take_for_pages(varve_store *store, uint64_t bytes, struct log_file *file, varve_error *err)
{
    return take_or_reclaim(store, bytes, file, err);
}

int
space_take_if_free(varve_store *store, uint64_t bytes)
{
    uint64_t reserve = survivors_reserve(store);
    bool taken = disk_allows(store, bytes, reserve) &&
                 take_free(store, &(struct claim){bytes, reserve, &store->space.capacity, NULL});

    return taken ? VARVE_OK : VARVE_E_NOSPC;
}

int
space_take_for_survivors(varve_store *store, uint64_t bytes, struct log_file *file, varve_error *err)
{
    if (!disk_allows_segment(store, bytes, 0))
        return error_set(err, VARVE_E_NOSPC, "less than min_free would be left in the file system");
    if (!take_free(store, &(struct claim){bytes, 0, &store->space.ceiling, file}))
        return error_set(err, VARVE_E_NOSPC, "no room for the live pages of a segment");
    return VARVE_OK;
}

void
space_count(varve_store *store, uint64_t bytes)
{
    mutex_lock(&store->space.lock);
    store->space.used += bytes;
    mutex_unlock(&store->space.lock);
}

void
space_give_back(varve_store *store, uint64_t bytes)
{
    mutex_lock(&store->space.lock);
    assert(bytes <= store->space.used);
    store->space.used -= bytes;
    lower_ceiling(store);
    cond_broadcast(&store->space.returned);
    mutex_unlock(&store->space.lock);
}

/* Bytes of a dropped segment come back. space.lock held. */
static void
come_back(varve_store *store, uint64_t bytes)
{
    struct space *space = &store->space;

    assert(bytes <= space->returning && bytes <= space->used);
    space->returning -= bytes;
    space->used -= bytes;
    lower_ceiling(store);
    cond_broadcast(&space->returned);
}

void
space_segment_gone(varve_store *store, uint64_t bytes)
{
    mutex_lock(&store->space.lock);
    come_back(store, bytes);
    mutex_unlock(&store->space.lock);
}

void
space_file_removed(varve_store *store, uint64_t bytes, int rc)
{
    mutex_lock(&store->space.lock);
    store->space.used += rc < 0 ? bytes : 0; /* until the next open */
    note_removal(store, rc);
    mutex_unlock(&store->space.lock);
}

bool
space_keep_file(varve_store *store, const struct log_file *file)
{
    struct space *space = &store->space;
    bool keep = disk_allows(store, 0, 0);

    mutex_lock(&space->lock);
    keep = keep && space->used + space->kept <= space->capacity;
    if (keep) {
        come_back(store, file->bytes);
        space->kept += file->bytes;
        log_file_ready(store->log, file);
    }
    mutex_unlock(&space->lock);
    return keep;
}

uint64_t
space_used(varve_store *store)
{
    uint64_t used;

    mutex_lock(&store->space.lock);
    used = store->space.used + store->space.kept;
    mutex_unlock(&store->space.lock);
    return used;
}

uint64_t
space_kept(varve_store *store)
{
    uint64_t kept;

    mutex_lock(&store->space.lock);
    kept = store->space.kept;
    mutex_unlock(&store->space.lock);
    return kept;
}

uint64_t
space_taken(varve_store *store)
{
    uint64_t taken;

    mutex_lock(&store->space.lock);
    taken = store->space.taken;
    mutex_unlock(&store->space.lock);
    return taken;
}

int
space_drop(varve_store *store, struct segment *segment, bool sync, varve_error *err)
{
    struct manifest_item item = {.kind = MANIFEST_SEGMENT_DROP};
    uint64_t bytes = log_segment_space(segment);
    bool keep = log_keeps_file(store->log, segment);
    int rc, removed;

    item.u.segment.number = segment->number;
    rc = store_commit(store, &item, 1, keep || sync, err);
    if (rc == VARVE_E_NOMEM) { /* nothing was written: it is dropped another time */
        log_drop_cancel(store->log, segment);
        return rc;
    }
    recency_segment_end(store, segment);
    mutex_lock(&store->space.lock);
    store->space.returning += bytes;
    mutex_unlock(&store->space.lock);
    removed = log_drop_finish(store->log, segment, rc == VARVE_OK, keep);
    mutex_lock(&store->space.lock);
    if (removed < 0)
        store->space.returning -= bytes;
    if (removed <= 0) /* one that is kept is heard of when it is to go, or to be used again */
        note_removal(store, removed);
    mutex_unlock(&store->space.lock);
    return rc;
}

int
space_drop_spare(varve_store *store, varve_error *err)
{
    struct segment *segment = log_drop_spare(store->log);

    return segment == NULL ? VARVE_OK : space_drop(store, segment, false, err);
}

int
space_squeeze(varve_store *store, uint64_t bytes)
{
    uint64_t dropped = 0;
    bool removed = false;
    int rc = VARVE_OK;

    while (space_remove_kept(store))
        removed = true;
    while (!removed && rc == VARVE_OK && dropped < bytes) {
        rc = reclaim_drop_one(store, NULL);
        dropped += rc == VARVE_OK ? store->segment_bytes : 0;
    }
    while (space_remove_kept(store)) /* those of what was dropped: their space is wanted */
        removed = true;
    return removed || dropped > 0 ? VARVE_OK : VARVE_MISS;
}

static void
add_segment(void *arg, const struct segment *segment)
{
    *(uint64_t *)arg += segment->bytes + LOG_BLOCK_BYTES;
}

uint64_t
space_for_segments(varve_store *store)
{
    uint64_t segments = 0, others, capacity;

    log_for_each(store->log, add_segment, &segments);
    mutex_lock(&store->space.lock);
    others = store->space.used > segments ? store->space.used - segments : 0;
    capacity = store->space.capacity;
    mutex_unlock(&store->space.lock);
    return capacity > others ? capacity - others : 0;
}

bool
space_is_short(varve_store *store)
{
    uint64_t pages = atomic_load_explicit(&store->active_pages, memory_order_relaxed);
    uint64_t next_run = pages * RUN_BYTES_A_PAGE + RUN_BYTES_FIXED, taken, free_bytes;
    uint64_t survivors_room = log_open_room(store->log, LOG_SURVIVORS);
    bool is_short;

    mutex_lock(&store->space.lock);
    if (next_run > store->space.capacity / AHEAD_SHARE)
        next_run = store->space.capacity / AHEAD_SHARE;
    taken = store->space.used - store->space.returning + next_run;
    free_bytes = taken < store->space.capacity ? store->space.capacity - taken : 0;
    mutex_unlock(&store->space.lock);
    mutex_lock(&store->recency.lock);
    is_short =
        reclaim_is_due(&store->recency.reclaim, free_bytes / (store->segment_bytes + LOG_BLOCK_BYTES), survivors_room);
    mutex_unlock(&store->recency.lock);
    return is_short;
}

bool
space_is_over(varve_store *store)
{
    bool over;

    mutex_lock(&store->space.lock);
    over = store->space.used - store->space.returning > store->space.capacity;
    mutex_unlock(&store->space.lock);
    while (!over && !disk_allows(store, 0, 0)) {
        if (!space_remove_kept(store))
            return true;
    }
    return over;
}
