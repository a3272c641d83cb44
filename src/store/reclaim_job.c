/* SPDX-License-Identifier: Apache-2.0 */
#include "store/reclaim_job.h"

#include <assert.h>

#include "base/error.h"
#include "store/store.h"
#include "store/survivors.h"

#define PASSES_MAX 3 /* over a victim whose pages are used again while others are copied */

/* The one victim. */
struct reclaim_job {
    struct segment *victim; /* referenced, its file in use */
    struct survivors survivors;
    uint64_t live_bytes;  /* when it was chosen */
    uint64_t appended_at; /* log_appended() of new pages, then */
    unsigned passes;
};

static bool
may_go(const void *owner)
{
    const struct segment *segment = owner;

    return log_is_sealed(segment->log, segment);
}

/* The segment to reclaim, referenced, or NULL. */
static struct segment *
choose(varve_store *store)
{
    struct recency *recency = &store->recency;
    struct segment *victim = log_find_dead(store->log);
    struct heat_segment *coldest;
    uint64_t space;

    if (victim != NULL)
        return victim;
    if (store->recovering || !recency_load(store)) /* what lives in a segment that was not replayed yet is not known */
        return log_find_oldest(store->log);
    recency_begin_judging(store);
    space = space_for_segments(store);
    mutex_lock(&recency->lock);
    reclaim_set_bytes(&recency->reclaim, space, store->segment_bytes);
    coldest = reclaim_pick(&recency->reclaim, may_go);
    if (coldest != NULL)
        victim = log_acquire(store->log, ((const struct segment *)coldest->owner)->number);
    mutex_unlock(&recency->lock);
    return victim != NULL ? victim
                          : log_find_oldest(store->log); /* that one has no recency: there was no memory for it */
}

static bool
is_gone(void *arg, uint32_t ns_id)
{
    return !namespace_live(arg, ns_id);
}

/* Bytes that live in a segment, exactly. */
static uint64_t
live_bytes(varve_store *store, const struct segment *segment)
{
    uint64_t bytes = 0;

    mutex_lock(&store->recency.lock);
    if (segment->heat != NULL) {
        heat_sweep(store->recency.heat, segment->heat, is_gone, store);
        bytes = segment->heat->live_bytes;
    }
    mutex_unlock(&store->recency.lock);
    return bytes;
}

/* Drop a segment that nobody works on, and let go of it: once the copies that were made of its pages, by whatever job, are durable. */
static int
drop(varve_store *store, struct segment *segment, varve_error *err)
{
    uint64_t pages = log_segment_pages(store->log, segment);
    uint64_t lost = live_bytes(store, segment);
    bool copied = store->copies_unsynced;
    int rc = copied ? store_sync_log(store, err) : VARVE_OK;

    if (rc == VARVE_OK)
        rc = log_drop_begin(store->log, segment) ? VARVE_OK : VARVE_MISS;
    if (rc == VARVE_OK) {
        /* With the drop the names of the segments that the copies are in are made durable: else a power failure could leave the store with neither. */
        rc = space_drop(store, segment, copied, err);
        store->copies_unsynced = copied && rc != VARVE_OK;
        COUNT(&store->counters, segments_dropped, rc == VARVE_OK);
        COUNT(&store->counters, dropped_pages, rc == VARVE_OK ? pages : 0);
        COUNT(&store->counters, reclaim_lost_bytes, rc == VARVE_OK ? lost : 0);
    }
    if (rc == VARVE_OK)
        store->reclaim_failures = 0; /* copying is tried again with the next one */
    log_release(store->log, segment);
    return rc;
}

/* End the job. Its victim, referenced for the caller. */
static struct segment *
job_end(varve_store *store)
{
    struct reclaim_job *job = store->reclaim_job;
    struct segment *victim = job->victim;

    survivors_end(&job->survivors);
    log_file_release(store->log, victim);
    env_free(store->env, job);
    store->reclaim_job = NULL;
    return victim;
}

void
reclaim_abandon(varve_store *store)
{
    mutex_lock(&store->reclaim_lock);
    if (store->reclaim_job != NULL)
        log_release(store->log, job_end(store));
    mutex_unlock(&store->reclaim_lock);
}

/* Take on a victim, which is referenced for the job; on failure the reference is let go. */
static int
job_begin(varve_store *store, struct segment *victim, uint64_t live, varve_error *err)
{
    struct reclaim_job *job = env_zalloc(store->env, sizeof(*job));
    struct env_file *file;
    int rc = job == NULL ? error_set(err, VARVE_E_NOMEM, "out of memory reclaiming a segment") : VARVE_OK;

    if (rc == VARVE_OK) {
        rc = log_file_acquire(store->log, victim, &file, err);
        if (rc == VARVE_OK) {
            rc = survivors_begin(&job->survivors, store, victim, file);
            if (rc != VARVE_OK) {
                rc = error_set(err, rc, "out of memory reclaiming a segment");
                log_file_release(store->log, victim);
            }
        }
    }
    if (rc != VARVE_OK) {
        env_free(store->env, job);
        log_release(store->log, victim);
        return rc;
    }
    job->victim = victim;
    job->live_bytes = live;
    job->appended_at = log_appended(store->log, LOG_NEW);
    store->reclaim_job = job;
    return VARVE_OK;
}

/* No more is copied: drop the victim. */
static int
job_finish(varve_store *store, varve_error *err)
{
    COUNT(&store->counters, reclaim_damaged_pages, store->reclaim_job->survivors.lost);
    return drop(store, job_end(store), err);
}

/* The next part of the job. */
static int
job_step(varve_store *store, varve_error *err)
{
    struct reclaim_job *job = store->reclaim_job;
    struct survivors *survivors = &job->survivors;
    int rc = survivors_find(survivors, err);

    if (rc == VARVE_MISS && (live_bytes(store, job->victim) == 0 || ++job->passes == PASSES_MAX))
        return job_finish(store, err);
    if (rc == VARVE_MISS) { /* pages were used again while others were copied */
        survivors_restart(survivors);
        return VARVE_OK;
    }
    if (rc == VARVE_OK && survivors->next < survivors->count) {
        survivors->last_try = store->reclaim_failures + 1 >= RECLAIM_TRIES;
        rc = survivors_copy(survivors, err);
        if (rc == VARVE_OK) /* looking for pages is not enough: the ones that fail may be the first */
            store->reclaim_failures = 0;
    }
    if (rc == VARVE_OK)
        return rc;
    if (rc == VARVE_E_NOSPC) /* there is no room, or no gain */
        return job_finish(store, err);
    store->reclaim_failures++;
    if (store->reclaim_failures >= RECLAIM_TRIES)
        return job_finish(store, err);
    log_release(store->log, job_end(store));
    return rc;
}

/* Choose a victim; one without live pages is dropped at once. VARVE_MISS: nothing can be dropped. */
static int
begin(varve_store *store, varve_error *err)
{
    struct segment *victim = choose(store);
    uint64_t live;
    int rc;

    if (victim == NULL)
        return VARVE_MISS;
    live = live_bytes(store, victim);
    if (live == 0 || store->reclaim_failures >= RECLAIM_TRIES)
        return drop(store, victim, err);
    rc = job_begin(store, victim, live, err);
    if (rc != VARVE_OK)
        store->reclaim_failures++;
    return rc;
}

/* reclaim_lock held. */
static int
step(varve_store *store, varve_error *err)
{
    return store->reclaim_job == NULL ? begin(store, err) : job_step(store, err);
}

int
reclaim_work(varve_store *store, varve_error *err)
{
    int rc;

    mutex_lock(&store->reclaim_lock);
    rc = store_writable(store, err); /* else what is dropped is lost, and makes no room */
    if (rc == VARVE_OK)
        rc = step(store, err);
    mutex_unlock(&store->reclaim_lock);
    return rc;
}

int
reclaim_drop_one(varve_store *store, varve_error *err)
{
    struct segment *victim = NULL;
    int rc;

    mutex_lock(&store->reclaim_lock);
    rc = store_writable(store, err);
    if (rc == VARVE_OK && store->reclaim_job == NULL)
        victim = choose(store);
    if (victim != NULL)
        rc = drop(store, victim, err);
    else if (rc == VARVE_OK)
        rc = store->reclaim_job != NULL ? job_finish(store, err) : VARVE_MISS;
    mutex_unlock(&store->reclaim_lock);
    return rc;
}

/* Whether what was copied is less than what puts have appended demands: all of it by the time they have filled half a segment. */
static bool
behind(varve_store *store, const struct reclaim_job *job)
{
    uint64_t appended = log_appended(store->log, LOG_NEW) - job->appended_at;
    uint64_t half = store->segment_bytes / 2;

    return appended >= half ||
           job->survivors.bytes < job->live_bytes / half * appended + job->live_bytes % half * appended / half;
}

/* reclaim_lock held. */
static bool
is_due(varve_store *store)
{
    if (space_is_over(store))
        return true;
    if (store->reclaim_job != NULL)
        return behind(store, store->reclaim_job);
    return space_is_short(store) || log_has_dead_segment(store->log);
}

int
reclaim_slice(varve_store *store)
{
    int rc = VARVE_MISS;

    mutex_lock(&store->reclaim_lock);
    if (is_due(store))
        rc = step(store, NULL);
    mutex_unlock(&store->reclaim_lock);
    return rc;
}
