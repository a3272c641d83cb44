/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Capacity: every file is paid for before it is made. Bytes that are not there come from dropping the coldest sealed
 * segment whole, as often as needed.
 */
#include <assert.h>

#include "base/error.h"
#include "store/store.h"

#define READERS_WAIT_MS   10
#define READERS_WAITS_MAX 100 /* a second for readers of dropped segments; then more are dropped */

void
space_init(struct space *space, uint64_t capacity)
{
    mutex_init(&space->lock);
    cond_init(&space->returned);
    space->capacity = capacity;
}

void
space_deinit(struct space *space)
{
    cond_deinit(&space->returned);
    mutex_deinit(&space->lock);
}

/* Take the bytes if they are there, after waiting for readers of dropped segments if those have enough. */
static bool
take_free(struct space *space, uint64_t bytes)
{
    bool taken = false;

    mutex_lock(&space->lock);
    for (int waits = 0; !taken; waits++) {
        if (space->used + bytes <= space->capacity) {
            space->used += bytes;
            space->taken += bytes;
            taken = true;
        } else if (space->used - space->returning + bytes <= space->capacity && waits < READERS_WAITS_MAX) {
            cond_wait_ms(&space->returned, &space->lock, READERS_WAIT_MS);
        } else {
            break;
        }
    }
    mutex_unlock(&space->lock);
    return taken;
}

int
space_take(varve_store *store, uint64_t bytes, varve_error *err)
{
    int rc = VARVE_OK;

    if (bytes > store->space.capacity)
        return error_set(err, VARVE_E_NOSPC, "%llu bytes do not fit in a capacity of %llu: raise it",
                         (unsigned long long)bytes, (unsigned long long)store->space.capacity);
    while (!take_free(&store->space, bytes)) {
        rc = space_drop_segment(store, err);
        if (rc == VARVE_MISS) { /* full ones become droppable once they are sealed */
            rc = log_seal(store->log, err);
            if (rc == VARVE_MISS)
                return error_set(err, VARVE_E_NOSPC, "no segment can be dropped to make room: raise capacity");
        }
        if (rc != VARVE_OK)
            return rc;
    }
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

/*
 * Tell the manifest, unlink the file, and expect its space. Without a sync: should the power fail in between, the manifest names a segment that is
 * missing, which recovery takes for dropped.
 */
static int
drop(varve_store *store, struct segment *segment, varve_error *err)
{
    struct manifest_item item = {.kind = MANIFEST_SEGMENT_DROP};
    uint64_t bytes = log_segment_space(segment);
    int rc;

    item.u.segment.number = segment->number;
    rc = store_commit(store, &item, 1, false, err);
    mutex_lock(&store->space.lock);
    store->space.returning += bytes;
    mutex_unlock(&store->space.lock);
    if (!log_drop_finish(store->log, segment, rc == VARVE_OK)) {
        mutex_lock(&store->space.lock);
        store->space.returning -= bytes;
        mutex_unlock(&store->space.lock);
    }
    return rc;
}

int
space_drop_segment(varve_store *store, varve_error *err)
{
    struct segment *segment = log_drop_begin(store->log);
    uint64_t pages;
    int rc;

    if (segment == NULL)
        return VARVE_MISS;
    pages = log_segment_pages(store->log, segment);
    rc = drop(store, segment, err);
    if (rc == VARVE_OK) {
        COUNT(&store->counters, segments_dropped, 1);
        COUNT(&store->counters, dropped_pages, pages);
    }
    return rc;
}

int
space_drop_spare(varve_store *store, varve_error *err)
{
    struct segment *segment = log_drop_spare(store->log);

    return segment == NULL ? VARVE_OK : drop(store, segment, err);
}

bool
space_is_short(varve_store *store)
{
    uint64_t want = store->segment_bytes + store->options.memtable_bytes;
    bool is_short;

    mutex_lock(&store->space.lock);
    is_short = store->space.used - store->space.returning + want > store->space.capacity;
    mutex_unlock(&store->space.lock);
    return is_short;
}
