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

/* Take the bytes if `limit` allows, after waiting for readers of dropped segments if those have enough. */
static bool
take_free(struct space *space, uint64_t bytes, const uint64_t *limit, uint64_t reserve)
{
    bool taken = false;

    mutex_lock(&space->lock);
    for (int waits = 0; !taken; waits++) {
        if (space->used + bytes + reserve <= *limit) {
            space->used += bytes;
            space->taken += bytes;
            taken = true;
        } else if (space->used - space->returning + bytes + reserve <= *limit && waits < READERS_WAITS_MAX) {
            cond_wait_ms(&space->returned, &space->lock, READERS_WAIT_MS);
        } else {
            break;
        }
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

/*
 * The index of what is stored is not refused for min_free, nor for the survivors' room when nothing can be reclaimed into that: it is small, and a store that could not
 * write it would not even open.
 */
static int
take_or_reclaim(varve_store *store, uint64_t bytes, bool for_index, varve_error *err)
{
    uint64_t capacity = space_capacity(store);
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
        if ((for_index ? disk_has(store, bytes) : disk_allows(store, bytes, reserve)) &&
            take_free(&store->space, bytes, &store->space.capacity, reserve))
            return VARVE_OK;
        rc = make_room(store, err);
        if (rc == VARVE_MISS && for_index && reserves) {
            reserves = false;
            continue;
        }
        if (rc == VARVE_MISS)
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
    return take_or_reclaim(store, bytes, true, err);
}

int
space_take_for_pages(varve_store *store, uint64_t bytes, varve_error *err)
{
    return take_or_reclaim(store, bytes, false, err);
}

int
space_take_if_free(varve_store *store, uint64_t bytes)
{
    uint64_t reserve = survivors_reserve(store);
    bool taken = disk_allows(store, bytes, reserve) && take_free(&store->space, bytes, &store->space.capacity, reserve);

    return taken ? VARVE_OK : VARVE_E_NOSPC;
}

int
space_take_for_survivors(varve_store *store, uint64_t bytes, varve_error *err)
{
    if (!disk_allows(store, bytes, 0))
        return error_set(err, VARVE_E_NOSPC, "less than min_free would be left in the file system");
    if (!take_free(&store->space, bytes, &store->space.ceiling, 0))
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

void
space_segment_gone(varve_store *store, uint64_t bytes)
{
    mutex_lock(&store->space.lock);
    assert(bytes <= store->space.returning && bytes <= store->space.used);
    store->space.returning -= bytes;
    store->space.used -= bytes;
    lower_ceiling(store);
    cond_broadcast(&store->space.returned);
    mutex_unlock(&store->space.lock);
}

uint64_t
space_used(varve_store *store)
{
    uint64_t used;

    mutex_lock(&store->space.lock);
    used = store->space.used;
    mutex_unlock(&store->space.lock);
    return used;
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

/* Files cannot be removed at all. */
static bool
never_unlinks(int rc)
{
    return rc == -EROFS || rc == -EPERM || rc == -EACCES;
}

int
space_drop(varve_store *store, struct segment *segment, varve_error *err)
{
    struct manifest_item item = {.kind = MANIFEST_SEGMENT_DROP};
    uint64_t bytes = log_segment_space(segment);
    int rc, unlinked;
    bool stuck;

    item.u.segment.number = segment->number;
    rc = store_commit(store, &item, 1, false, err);
    if (rc == VARVE_E_NOMEM) { /* nothing was written: it is dropped another time */
        log_drop_cancel(store->log, segment);
        return rc;
    }
    recency_segment_end(store, segment);
    mutex_lock(&store->space.lock);
    store->space.returning += bytes;
    mutex_unlock(&store->space.lock);
    unlinked = log_drop_finish(store->log, segment, rc == VARVE_OK);
    mutex_lock(&store->space.lock);
    if (unlinked < 0)
        store->space.returning -= bytes;
    store->space.stuck = unlinked < 0 ? store->space.stuck + 1 : 0;
    stuck = store->space.stuck >= STUCK_MAX || never_unlinks(unlinked);
    mutex_unlock(&store->space.lock);
    if (stuck)
        store_fail(store);
    return rc;
}

int
space_drop_spare(varve_store *store, varve_error *err)
{
    struct segment *segment = log_drop_spare(store->log);

    return segment == NULL ? VARVE_OK : space_drop(store, segment, err);
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
    return over || !disk_allows(store, 0, 0);
}
