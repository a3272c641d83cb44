/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Background work, one slice at a time: prepare the next segment, seal, sync, flush, make room, merge. The thread of this file runs them in production; tests
 * call store_tick(), interleaved with everything else.
 */
#include <assert.h>
#include <errno.h>

#include "base/error.h"
#include "store/store.h"

#define MERGE_SLICE_BYTES ((uint64_t)4 << 20) /* of input: some milliseconds */
#define FROZEN_MAX        2                   /* memtables that wait for a flush before puts wait, too */
#define IDLE_WAIT_MS      100
#define RETRY_WAIT_MS     100 /* after work that failed; doubled each time in a row, */
#define RETRY_DOUBLINGS   6   /* but not more often than this */
#define FLUSH_DROPS_MAX   8   /* segments that one flush may cost when the file system is full */
#define WAITS_MAX         600 /* a minute of failing flushes, then puts fail */

int
store_rotate(varve_store *store)
{
    struct log_mark *mark;
    int rc;

    if (index_active_pages(store->index) == 0)
        return VARVE_OK;
    mark = log_mark_create(store->log, !store->recovering);
    if (mark == NULL)
        return VARVE_E_NOMEM;
    rc = index_rotate(store->index, mark);
    if (rc != VARVE_OK) {
        env_free(store->env, mark);
        return rc;
    }
    mark->next = store->marks;
    store->marks = mark;
    store->active_extents = 0;
    atomic_store_explicit(&store->active_pages, 0, memory_order_relaxed);
    store_wake_background(store);
    return VARVE_OK;
}

int
store_sync_log(varve_store *store, varve_error *err)
{
    int rc = store_writable(store, err);

    if (rc == VARVE_OK)
        rc = log_sync(store->log, err);
    if (rc == VARVE_OK) /* one that this sync waited for may have failed, with what was to be synced here */
        rc = store_writable(store, err);
    return rc;
}

int
store_sync(varve_store *store, varve_error *err)
{
    int rc = store_sync_log(store, err);

    if (rc == VARVE_OK) {
        rc = manifest_sync(store->manifest, err);
        if (rc != VARVE_OK)
            store_fail(store);
    }
    COUNT(&store->counters, sync_failures, rc != VARVE_OK);
    if (rc == VARVE_OK) {
        COUNT(&store->counters, syncs, 1);
        atomic_store_explicit(&store->last_sync_ns, store->env->ops->now_ns(store->env), memory_order_relaxed);
    }
    return rc;
}

uint64_t
store_live_option(varve_store *store, const uint64_t *option)
{
    uint64_t value;

    mutex_lock(&store->background.lock);
    value = *option;
    mutex_unlock(&store->background.lock);
    return value;
}

bool
store_sync_due(varve_store *store)
{
    uint64_t unsynced = log_unsynced_bytes(store->log);
    uint64_t interval_ms = store_live_option(store, &store->options.sync_interval_ms);
    uint64_t since_ns =
        store->env->ops->now_ns(store->env) - atomic_load_explicit(&store->last_sync_ns, memory_order_relaxed);

    if (unsynced == 0)
        return false;
    return unsynced >= store_live_option(store, &store->options.sync_bytes) ||
           (interval_ms > 0 && since_ns >= interval_ms * 1000000u);
}

/*
 * A run may only name pages that are durable. Where the file system is full below the capacity, segments make room for it: puts wait for the flush, and
 * without puts nothing else would.
 */
static int
flush(varve_store *store)
{
    uint64_t begin_ns = store->env->ops->now_ns(store->env);
    int rc;

    if (index_frozen_count(store->index) == 0)
        return VARVE_MISS;
    rc = store_sync(store, NULL);
    if (rc == VARVE_OK)
        rc = index_flush(store->index, NULL);
    for (int tries = 0; rc == VARVE_E_NOSPC && tries < FLUSH_DROPS_MAX; tries++) {
        if (space_squeeze(store, store->segment_bytes) != VARVE_OK)
            break;
        rc = index_flush(store->index, NULL);
    }
    COUNT(&store->counters, flush_time_us, (store->env->ops->now_ns(store->env) - begin_ns) / 1000);
    return rc;
}

static int
load_recency(varve_store *store)
{
    int rc = VARVE_MISS;

    mutex_lock(&store->reclaim_lock);
    if (store->recency.missing)
        rc = recency_load(store) ? VARVE_OK : VARVE_E_NOMEM;
    mutex_unlock(&store->reclaim_lock);
    return rc;
}

static int
fit_manifest(varve_store *store)
{
    return store_fit_manifest(store, NULL);
}

static int
prepare(varve_store *store)
{
    return log_prepare(store->log, NULL);
}

static int
seal(varve_store *store)
{
    return log_seal(store->log, NULL);
}

static int
sync_if_due(varve_store *store)
{
    return store_sync_due(store) ? store_sync(store, NULL) : VARVE_MISS;
}

static int
merge(varve_store *store)
{
    return index_merge(store->index, MERGE_SLICE_BYTES, NULL);
}

static int
save_recency(varve_store *store)
{
    return recency_save_due(store) ? recency_save(store, NULL) : VARVE_MISS;
}

static int
save_control(varve_store *store)
{
    return control_save_due(store) ? control_save(store, NULL) : VARVE_MISS;
}

/*
 * The first of the kinds of work that there is something to do for. One that fails does not stand in the way of those behind it: a segment that cannot be
 * made must not keep what was put from being synced. VARVE_MISS: there is nothing to do; a code: and something failed.
 */
static int
do_slice(varve_store *store)
{
    static int (*const kinds[])(varve_store * store) = {fit_manifest, prepare,       seal,  sync_if_due,  flush,
                                                        load_recency, reclaim_slice, merge, save_recency, save_control};
    int result = VARVE_MISS;

    limits_tick(store);
    control_slice(store);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        int rc = kinds[i](store);

        if (rc == VARVE_OK)
            return VARVE_OK;
        if (rc < 0 && result == VARVE_MISS)
            result = rc;
    }
    return result;
}

static int
run_slice(varve_store *store)
{
    int rc = store_writable(store, NULL);

    if (rc != VARVE_OK)
        return VARVE_MISS; /* read-only: nothing may be written any more */
    mutex_lock(&store->slice_lock);
    rc = do_slice(store);
    mutex_unlock(&store->slice_lock);
    if (rc < 0)
        COUNT(&store->counters, background_errors, 1);
    mutex_lock(&store->background.lock);
    store->background.slices++;
    cond_broadcast(&store->background.progress);
    mutex_unlock(&store->background.lock);
    return rc;
}

bool
store_tick(varve_store *store)
{
    return run_slice(store) == VARVE_OK;
}

/* Wait for one more slice of the thread to end, or do one. */
static int
wait_for_slice(varve_store *store, varve_error *err)
{
    struct background *background = &store->background;
    int rc;

    if (!background->running) {
        rc = run_slice(store);
        return rc == VARVE_MISS ? VARVE_OK : rc < 0 ? error_set(err, rc, "flushing the index failed") : rc;
    }
    mutex_lock(&background->lock);
    background->work = true;
    cond_signal(&background->wake);
    cond_wait_ms(&background->progress, &background->lock, IDLE_WAIT_MS);
    mutex_unlock(&background->lock);
    return VARVE_OK;
}

int
store_wait_for_room(varve_store *store, varve_error *err)
{
    int rc = VARVE_OK;

    for (int waits = 0; rc == VARVE_OK && index_frozen_count(store->index) >= FROZEN_MAX; waits++) {
        COUNT(&store->counters, put_stalls, 1);
        rc = store_writable(store, err);
        if (rc == VARVE_OK && waits == WAITS_MAX)
            rc = error_set(err, VARVE_E_IO, "the index could not be flushed: see background_errors in the statistics");
        if (rc == VARVE_OK)
            rc = wait_for_slice(store, err);
    }
    return rc;
}

void
store_wake_background(varve_store *store)
{
    mutex_lock(&store->background.lock);
    store->background.work = true;
    cond_signal(&store->background.wake);
    mutex_unlock(&store->background.lock);
}

static void *
background_main(void *arg)
{
    varve_store *store = arg;
    struct background *background = &store->background;
    unsigned failures = 0;
    bool stop = false;

    while (!stop) {
        int rc = run_slice(store);
        uint64_t wait_ms = rc < 0 ? (uint64_t)RETRY_WAIT_MS << failures : IDLE_WAIT_MS;

        if (rc >= 0)
            failures = 0;
        else if (failures < RETRY_DOUBLINGS)
            failures++;

        mutex_lock(&background->lock);
        if (rc != VARVE_OK && !background->stop && !(rc == VARVE_MISS && background->work))
            cond_wait_ms(&background->wake, &background->lock, wait_ms);
        background->work = false;
        stop = background->stop;
        mutex_unlock(&background->lock);
    }
    return NULL;
}

int
store_start_background(varve_store *store, varve_error *err)
{
    int rc;

    if (!store->options.background)
        return VARVE_OK;
    rc = pthread_create(&store->background.thread, NULL, background_main, store);
    if (rc != 0)
        return error_os(err, -rc, "start the background thread");
    store->background.running = true;
    return VARVE_OK;
}

void
store_stop_background(varve_store *store)
{
    struct background *background = &store->background;

    if (!background->running)
        return;
    mutex_lock(&background->lock);
    background->stop = true;
    cond_signal(&background->wake);
    mutex_unlock(&background->lock);
    (void)pthread_join(background->thread, NULL);
    background->running = false;
}
