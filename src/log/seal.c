/* SPDX-License-Identifier: Apache-2.0 */
/* Syncing and sealing: how what was written becomes durable, and a segment immutable. A failed fdatasync is final. */
#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "log/log_private.h"

/* fdatasync one segment; a failure is final for the store. */
static int
sync_segment(struct log *log, struct segment *segment, varve_error *err)
{
    int rc = log->env->ops->sync(segment->file);

    if (rc < 0) {
        log->hooks.sync_failed(log->hooks.arg);
        return error_os(err, rc, "sync segment %llu", (unsigned long long)segment->number);
    }
    return VARVE_OK;
}

/* The same for the directory, unless `name` is durable: with it all names that were made before this. Lock not held. */
static int
sync_names(struct log *log, uint64_t name, varve_error *err)
{
    uint64_t made;
    bool durable;
    int rc;

    mutex_lock(&log->lock);
    made = log->names_made;
    durable = log->names_synced >= name;
    mutex_unlock(&log->lock);
    if (durable)
        return VARVE_OK;
    rc = log->env->ops->sync_dir(log->env);
    if (rc < 0) {
        log->hooks.sync_failed(log->hooks.arg);
        return error_os(err, rc, "sync the directory");
    }
    mutex_lock(&log->lock);
    if (log->names_synced < made)
        log->names_synced = made;
    mutex_unlock(&log->lock);
    return VARVE_OK;
}

int
log_sync(struct log *log, varve_error *err)
{
    struct segment *batch[LOG_UNSEALED_MAX];
    uint64_t low_water[LOG_UNSEALED_MAX];
    uint32_t count = 0;
    uint64_t name = 0; /* the latest of the batch */
    int rc = VARVE_OK;

    mutex_lock(&log->sync_lock);
    mutex_lock(&log->lock);
    for (uint32_t i = 0; i < log->unsealed_count; i++) {
        struct segment *segment = log->unsealed[i];

        if (!segment->dirty)
            continue;
        segment->dirty = false;
        segment->refs++;
        segment->file_users++;
        name = name > segment->name ? name : segment->name;
        low_water[count] = segment_low_water(segment);
        batch[count++] = segment;
    }
    log->unsynced_bytes = 0;
    mutex_unlock(&log->lock);

    for (uint32_t i = 0; i < count && rc == VARVE_OK; i++)
        rc = sync_segment(log, batch[i], err);
    if (rc == VARVE_OK)
        rc = sync_names(log, name, err);
    for (uint32_t i = 0; i < count; i++) {
        mutex_lock(&log->lock);
        if (rc == VARVE_OK && batch[i]->synced < low_water[i])
            batch[i]->synced = low_water[i];
        mutex_unlock(&log->lock);
        log_file_release(log, batch[i]);
        log_release(log, batch[i]);
    }
    mutex_unlock(&log->sync_lock);
    return rc;
}

uint64_t
log_unsynced_bytes(struct log *log)
{
    uint64_t bytes;

    mutex_lock(&log->lock);
    bytes = log->unsynced_bytes;
    mutex_unlock(&log->lock);
    return bytes;
}

/*
 * The edit that seals a segment: its length, what it holds of each namespace, and, when it was recovered, that all of it is
 * in runs.
 */
static int
commit_seal(struct log *log, const struct segment *segment, uint64_t bytes, bool recovered, varve_error *err)
{
    size_t use_count = segment->uses_incomplete ? 0 : segment->use_count;
    size_t count = 0, capacity = 2 + use_count;
    struct manifest_item *items = env_zalloc(log->env, capacity * sizeof(items[0]));
    int rc;

    if (items == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    items[count].kind = MANIFEST_SEGMENT_SEAL;
    items[count].u.segment.number = segment->number;
    items[count++].u.segment.bytes = bytes;
    if (recovered) {
        items[count].kind = MANIFEST_SEGMENT_INDEXED;
        items[count].u.segment.number = segment->number;
        items[count++].u.segment.offset = bytes;
    }
    for (size_t i = 0; i < use_count; i++, count++) {
        items[count].kind = MANIFEST_SEGMENT_USE;
        items[count].u.segment.number = segment->number;
        items[count].u.segment.ns_id = segment->uses[i].ns_id;
        items[count].u.segment.use_pages = segment->uses[i].pages;
        items[count].u.segment.use_bytes = segment->uses[i].bytes;
    }
    rc = log->hooks.commit(log->hooks.arg, items, count, false, err);
    env_free(log->env, items);
    return rc;
}

int
log_seal_recovered(struct log *log, uint64_t number, varve_error *err)
{
    struct segment *segment = log_acquire(log, number);
    int rc;

    if (segment == NULL)
        return VARVE_OK;
    rc = commit_seal(log, segment, segment->bytes, true, err);
    log_note_death(log);
    log_release(log, segment);
    return rc;
}

/* A full segment that nothing is in flight in, marked as being sealed. */
static struct segment *
seal_begin(struct log *log)
{
    struct segment *segment = NULL;

    mutex_lock(&log->lock);
    for (uint32_t i = 0; i < log->unsealed_count && segment == NULL; i++) {
        struct segment *candidate = log->unsealed[i];

        if (candidate->phase == SEGMENT_FULL && candidate->flight_first == NULL && !candidate->sealing)
            segment = candidate;
    }
    if (segment != NULL) {
        segment->sealing = true;
        segment->refs++; /* once it is sealed it may be dropped, before seal_end() has let go of its file */
    }
    mutex_unlock(&log->lock);
    return segment;
}

bool
log_has_work(struct log *log)
{
    bool work;

    mutex_lock(&log->lock);
    work = log_spare_wanted(log);
    for (uint32_t i = 0; i < log->unsealed_count && !work; i++)
        work = log->unsealed[i]->phase == SEGMENT_FULL && log->unsealed[i]->flight_first == NULL;
    mutex_unlock(&log->lock);
    return work;
}

/* The file was cut to so many bytes, and is as long as that from now on, whatever becomes of the seal. */
static void
note_cut(struct log *log, struct segment *segment, uint64_t bytes)
{
    uint64_t surplus;

    mutex_lock(&log->lock);
    surplus = segment->bytes - bytes;
    segment->bytes = bytes;
    mutex_unlock(&log->lock);
    log->hooks.space_give_back(log->hooks.arg, surplus);
}

static void
seal_end(struct log *log, struct segment *segment, bool sealed)
{
    mutex_lock(&log->lock);
    segment->sealing = false;
    if (sealed) {
        segment->phase = SEGMENT_SEALED;
        log->death_possible = true;
        segment->synced = segment->append;
        segment->dirty = false;
        for (uint32_t i = 0; i < log->unsealed_count; i++) {
            if (log->unsealed[i] == segment)
                log->unsealed[i] = log->unsealed[--log->unsealed_count];
        }
    }
    cond_broadcast(&log->created);
    mutex_unlock(&log->lock);
    if (sealed) {
        log->hooks.segment_sealed(log->hooks.arg, segment);
        log_file_release(log, segment);
    }
    log_release(log, segment);
}

int
log_seal(struct log *log, varve_error *err)
{
    struct segment *segment = seal_begin(log);
    uint64_t bytes;
    int rc;

    if (segment == NULL)
        return VARVE_MISS;
    bytes = segment->append; /* nothing changes it any more */
    if (log->env->ops->truncate(segment->file, bytes) == 0)
        note_cut(log, segment, bytes);
    else
        bytes = segment->bytes; /* keeps the length it has */
    rc = sync_segment(log, segment, err);
    if (rc == VARVE_OK)
        rc = sync_names(log, segment->name, err);
    if (rc == VARVE_OK)
        rc = commit_seal(log, segment, bytes, false, err);
    seal_end(log, segment, rc == VARVE_OK);
    return rc;
}
