/* SPDX-License-Identifier: Apache-2.0 */
/* Reserving space, creating, sealing, syncing and dropping segments: all that changes a segment's phase. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "format/format.h"
#include "log/log_private.h"
#include "log/removal_set.h"

#define SQUEEZE_TRIES 3 /* drops tried when the file system is full below the capacity */

int
log_create(struct env *env, struct io_queue_pool *pool, const struct log_hooks *hooks,
           const struct log_settings *settings, struct log **out, varve_error *err)
{
    struct log *log = env_zalloc(env, sizeof(*log));

    if (log == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    log->env = env;
    log->pool = pool;
    log->hooks = *hooks;
    log->settings = *settings;
    mutex_init(&log->sync_lock);
    mutex_init(&log->lock);
    cond_init(&log->created);
    *out = log;
    return VARVE_OK;
}

void
log_destroy(struct log *log)
{
    if (log == NULL)
        return;
    for (uint32_t i = 0; i < log->unsealed_count; i++)
        log->unsealed[i]->file_users--;
    for (size_t i = 0; i < log->table_size; i++) {
        for (struct segment *next, *segment = log->table[i]; segment != NULL; segment = next) {
            next = segment->table_next;
            segment_destroy(segment);
        }
    }
    env_free(log->env, log->table);
    cond_deinit(&log->created);
    mutex_deinit(&log->lock);
    mutex_deinit(&log->sync_lock);
    env_free(log->env, log);
}

int
log_add_segment(struct log *log, const struct state_segment *state, varve_error *err)
{
    struct segment *segment = segment_create(log, state->number, state->salt, state->bytes, state->align_shift);
    int rc = segment == NULL ? VARVE_E_NOMEM : VARVE_OK;

    if (rc == VARVE_OK) {
        segment->phase = SEGMENT_SEALED;
        segment->touched = log_stamps(log, 1); /* until it is used: in the order they were written */
        segment->append = segment->synced = state->bytes;
        segment->indexed = state->indexed;
        for (size_t i = 0; i < state->use_count; i++)
            segment_add_use(segment, state->uses[i].ns_id, state->uses[i].pages, state->uses[i].bytes);
        if (state->removal_count > 0 && (segment->removals = removal_set_create(log->env)) == NULL)
            rc = VARVE_E_NOMEM;
        for (size_t i = 0; rc == VARVE_OK && i < state->removal_count; i++)
            rc = removal_set_add(segment->removals, &state->removals[i]);
    }
    if (rc == VARVE_OK) {
        mutex_lock(&log->lock);
        rc = log_insert(log, segment);
        segment->refs--; /* the creator's */
        mutex_unlock(&log->lock);
    }
    if (rc != VARVE_OK && segment != NULL)
        segment_destroy(segment);
    return rc == VARVE_OK ? rc : error_set(err, rc, "out of memory opening segments");
}

/* Write the header of a new segment and make file and name durable. */
static int
write_segment_header(struct log *log, struct segment *segment)
{
    struct segment_header header = {segment->number, segment->salt, segment->bytes, segment->align_shift};
    uint8_t *buf = log->env->ops->alloc(log->env, SEGMENT_HEADER_BYTES, IO_ALIGN_MAX);
    int rc;

    if (buf == NULL)
        return -ENOMEM;
    segment_header_encode(&header, buf);
    rc = log->env->ops->preallocate(segment->file, segment->bytes);
    if (rc == 0)
        rc = io_write(log->pool, segment->file, buf, SEGMENT_HEADER_BYTES, 0);
    if (rc == 0)
        rc = log->env->ops->sync(segment->file);
    if (rc == 0)
        rc = log->env->ops->sync_dir(log->env);
    env_free(log->env, buf);
    return rc;
}

/* One try at the file of a new segment. On failure nothing is left behind. */
static int
create_file(struct log *log, struct segment *segment)
{
    char name[FORMAT_NAME_MAX];
    int rc;

    format_file_name(FORMAT_FILE_SEGMENT, segment->number, name);
    rc = log->env->ops->open(log->env, name, ENV_OPEN_CREATE | ENV_OPEN_DIRECT, &segment->file);
    if (rc < 0)
        return rc;
    rc = write_segment_header(log, segment);
    if (rc < 0) {
        log->env->ops->close(segment->file);
        segment->file = NULL;
        (void)log->env->ops->unlink(log->env, name);
    }
    return rc;
}

/* A new segment of `bytes`: space taken, file durable, named by the manifest. */
static int
create_segment(struct log *log, uint64_t bytes, struct segment **out, varve_error *err)
{
    struct log_hooks *hooks = &log->hooks;
    struct manifest_item item = {.kind = MANIFEST_SEGMENT_ADD};
    struct segment *segment;
    int rc, tries = 0;

    rc = hooks->space_take(hooks->arg, bytes + SEGMENT_OVERHEAD_BYTES, err);
    if (rc != VARVE_OK)
        return rc;
    segment = segment_create(log, hooks->new_file_number(hooks->arg), log->env->ops->random(log->env), bytes,
                             log->settings.align_shift);
    if (segment == NULL) {
        hooks->space_give_back(hooks->arg, bytes + SEGMENT_OVERHEAD_BYTES);
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    }
    do {
        rc = create_file(log, segment);
    } while (rc == -ENOSPC && tries++ < SQUEEZE_TRIES && hooks->space_squeeze(hooks->arg, bytes) == VARVE_OK);
    if (rc < 0)
        rc = error_os(err, rc, "create a segment of %llu bytes", (unsigned long long)bytes);
    if (rc == VARVE_OK) {
        item.u.segment.number = segment->number;
        item.u.segment.salt = segment->salt;
        item.u.segment.bytes = bytes;
        item.u.segment.align_shift = segment->align_shift;
        rc = hooks->commit(hooks->arg, &item, 1, false, err);
    }
    if (rc != VARVE_OK) {
        segment_destroy(segment); /* a file without an edit is taken in, and found empty, by the next open */
        hooks->space_give_back(hooks->arg, bytes + SEGMENT_OVERHEAD_BYTES);
        return rc;
    }
    segment->synced = SEGMENT_HEADER_BYTES;
    hooks->segment_created(hooks->arg);
    *out = segment;
    return VARVE_OK;
}

/* Let the open segment take no more. Lock held. */
static void
close_open(struct log *log)
{
    if (log->open != NULL) {
        log->open->phase = SEGMENT_FULL;
        log->open = NULL;
    }
}

void
log_close_open(struct log *log)
{
    mutex_lock(&log->lock);
    close_open(log);
    mutex_unlock(&log->lock);
}

/* Make a segment that takes an extent of `least` bytes, in the table and unsealed. `creating` is ours; the lock is not held. */
static int
make_segment(struct log *log, uint64_t least, struct segment **out, varve_error *err)
{
    uint64_t bytes = log->settings.segment_bytes;
    struct segment *segment = NULL;
    int rc;

    if (bytes < SEGMENT_HEADER_BYTES + least)
        bytes = SEGMENT_HEADER_BYTES + least;
    rc = create_segment(log, bytes, &segment, err);
    mutex_lock(&log->lock);
    if (rc == VARVE_OK && log_insert(log, segment) != VARVE_OK)
        rc = error_set(err, VARVE_E_NOMEM, "out of memory");
    if (rc == VARVE_OK) {
        segment->refs--; /* the creator's */
        segment->file_users = 1;
        log->open_file_count++;
        log->unsealed[log->unsealed_count++] = segment;
        *out = segment;
    }
    log->creating = false;
    cond_broadcast(&log->created);
    mutex_unlock(&log->lock);
    if (rc != VARVE_OK && segment != NULL)
        segment_destroy(segment);
    return rc;
}

/* Lock held. */
static bool
spare_wanted(const struct log *log)
{
    return log->spare == NULL && log->open != NULL && log->open->append >= log->open->bytes / 2 && !log->creating &&
           log->unsealed_count < LOG_UNSEALED_MAX;
}

int
log_prepare(struct log *log, varve_error *err)
{
    struct segment *segment;
    bool wanted;
    int rc;

    mutex_lock(&log->lock);
    wanted = spare_wanted(log);
    log->creating = log->creating || wanted;
    mutex_unlock(&log->lock);
    if (!wanted)
        return VARVE_MISS;
    rc = make_segment(log, 0, &segment, err);
    if (rc == VARVE_OK) {
        mutex_lock(&log->lock);
        if (log->spare == NULL)
            log->spare = segment;
        else
            segment->phase = SEGMENT_FULL; /* someone else was as far-sighted: sealed empty */
        mutex_unlock(&log->lock);
    }
    return rc;
}

/* Reserve in the open segment; false if there is none or it has no room (then it is full). Lock held. */
static bool
reserve_in_open(struct log *log, uint64_t (*fit)(void *arg, uint64_t room), void *arg, struct reservation *out)
{
    struct segment *segment = log->open;
    uint64_t bytes;

    if (segment == NULL)
        return false;
    bytes = fit(arg, segment->bytes - segment->append);
    assert(bytes % LOG_BLOCK_BYTES == 0 && bytes <= segment->bytes - segment->append);
    if (bytes == 0) {
        close_open(log);
        return false;
    }
    *out = (struct reservation){
        .segment = segment, .offset = segment->append, .bytes = bytes, .synced_offset = segment->synced};
    segment->append += bytes;
    segment->refs++;
    out->prev = segment->flight_last;
    if (out->prev != NULL)
        out->prev->next = out;
    else
        segment->flight_first = out;
    segment->flight_last = out;
    return true;
}

int
log_reserve(struct log *log, uint64_t (*fit)(void *arg, uint64_t room), void *arg, uint64_t least,
            struct reservation *out, varve_error *err)
{
    struct segment *made;
    int rc = VARVE_OK;

    mutex_lock(&log->lock);
    while (rc == VARVE_OK && !reserve_in_open(log, fit, arg, out)) {
        if (log->spare != NULL && log->spare->bytes >= SEGMENT_HEADER_BYTES + least) {
            log->open = log->spare;
            log->spare = NULL;
            continue;
        }
        if (log->creating) {
            cond_wait(&log->created, &log->lock);
            continue;
        }
        if (log->unsealed_count == LOG_UNSEALED_MAX) {
            mutex_unlock(&log->lock);
            rc = log_seal(log, err);
            mutex_lock(&log->lock);
            continue; /* VARVE_MISS: all have writes in flight, perhaps the caller's own */
        }
        log->creating = true;
        mutex_unlock(&log->lock);
        rc = make_segment(log, least, &made, err);
        mutex_lock(&log->lock);
        if (rc == VARVE_OK) {
            close_open(log);
            log->open = made;
        }
    }
    mutex_unlock(&log->lock);
    return rc;
}

void
log_wait(struct log *log, uint64_t timeout_ms)
{
    mutex_lock(&log->lock);
    if (log->unsealed_count == LOG_UNSEALED_MAX)
        cond_wait_ms(&log->created, &log->lock, timeout_ms);
    mutex_unlock(&log->lock);
}

void
log_finish(struct log *log, struct reservation *reservation, bool written, uint32_t ns_id, uint64_t pages,
           uint64_t bytes)
{
    struct segment *segment = reservation->segment;

    mutex_lock(&log->lock);
    if (reservation->prev != NULL)
        reservation->prev->next = reservation->next;
    else
        segment->flight_first = reservation->next;
    if (reservation->next != NULL)
        reservation->next->prev = reservation->prev;
    else
        segment->flight_last = reservation->prev;
    if (segment->flight_first == NULL && segment->phase == SEGMENT_FULL)
        cond_broadcast(&log->created); /* it can be sealed */
    if (written) {
        segment->dirty = true;
        log->unsynced_bytes += reservation->bytes;
        segment_add_use(segment, ns_id, pages, bytes);
    }
    mutex_unlock(&log->lock);
    log_release(log, segment);
}

struct log_mark *
log_mark_create(struct log *log, bool all)
{
    struct log_mark *mark;
    size_t count = 0;

    mutex_lock(&log->lock);
    mark = log->env->ops->alloc(log->env, sizeof(*mark) + log->segment_count * sizeof(mark->at[0]),
                                _Alignof(struct log_mark));
    for (size_t i = 0; mark != NULL && all && i < log->table_size; i++) {
        for (struct segment *segment = log->table[i]; segment != NULL; segment = segment->table_next) {
            uint64_t offset = segment_low_water(segment);

            if (segment->indexed < offset) {
                mark->at[count].segment = segment->number;
                mark->at[count++].offset = offset;
            }
        }
    }
    if (mark != NULL)
        mark->count = count;
    mutex_unlock(&log->lock);
    return mark;
}

void
log_mark_indexed(struct log *log, const struct log_mark *mark)
{
    mutex_lock(&log->lock);
    for (size_t i = 0; i < mark->count; i++) {
        struct segment *segment = log_find(log, mark->at[i].segment);

        if (segment != NULL && segment->indexed < mark->at[i].offset)
            segment->indexed = mark->at[i].offset;
    }
    mutex_unlock(&log->lock);
}

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

int
log_sync(struct log *log, varve_error *err)
{
    struct segment *batch[LOG_UNSEALED_MAX];
    uint64_t low_water[LOG_UNSEALED_MAX];
    uint32_t count = 0;
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
        low_water[count] = segment_low_water(segment);
        batch[count++] = segment;
    }
    log->unsynced_bytes = 0;
    mutex_unlock(&log->lock);

    for (uint32_t i = 0; i < count; i++) {
        if (rc == VARVE_OK)
            rc = sync_segment(log, batch[i], err);
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
    size_t count = 0, capacity = 2 + segment->use_count;
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
    for (size_t i = 0; i < segment->use_count; i++, count++) {
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
    if (segment != NULL)
        segment->sealing = true;
    mutex_unlock(&log->lock);
    return segment;
}

bool
log_has_work(struct log *log)
{
    bool work;

    mutex_lock(&log->lock);
    work = spare_wanted(log);
    for (uint32_t i = 0; i < log->unsealed_count && !work; i++)
        work = log->unsealed[i]->phase == SEGMENT_FULL && log->unsealed[i]->flight_first == NULL;
    mutex_unlock(&log->lock);
    return work;
}

static void
seal_end(struct log *log, struct segment *segment, bool sealed, uint64_t bytes)
{
    uint64_t surplus = 0;

    mutex_lock(&log->lock);
    segment->sealing = false;
    if (sealed) {
        surplus = segment->bytes - bytes;
        segment->bytes = bytes;
        segment->phase = SEGMENT_SEALED;
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
        log_file_release(log, segment);
        log->hooks.space_give_back(log->hooks.arg, surplus);
    }
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
    if (log->env->ops->truncate(segment->file, bytes) < 0)
        bytes = segment->bytes; /* keeps its whole length */
    rc = sync_segment(log, segment, err);
    if (rc == VARVE_OK)
        rc = commit_seal(log, segment, bytes, false, err);
    seal_end(log, segment, rc == VARVE_OK, bytes);
    return rc;
}

/* Whether nothing of a live namespace is in the segment. A segment without counts is not known to be dead. Lock held. */
static bool
segment_dead(struct log *log, const struct segment *segment)
{
    for (size_t i = 0; i < segment->use_count; i++) {
        if (log->hooks.namespace_live(log->hooks.arg, segment->uses[i].ns_id))
            return false;
    }
    return segment->use_count > 0;
}

/* Whether a goes before b: dead ones first, then the least recently touched. Lock held. */
static bool
victim_before(struct log *log, const struct segment *a, const struct segment *b)
{
    bool a_dead = segment_dead(log, a), b_dead = segment_dead(log, b);

    if (a_dead != b_dead)
        return a_dead;
    return a->touched != b->touched ? a->touched < b->touched : a->number < b->number;
}

struct segment *
log_drop_begin(struct log *log)
{
    struct segment *victim = NULL;

    mutex_lock(&log->lock);
    for (size_t i = 0; i < log->table_size; i++) {
        for (struct segment *segment = log->table[i]; segment != NULL; segment = segment->table_next) {
            if (segment->phase == SEGMENT_SEALED && (victim == NULL || victim_before(log, segment, victim)))
                victim = segment;
        }
    }
    if (victim != NULL) {
        victim->phase = SEGMENT_DROPPING;
        victim->refs++;
    }
    mutex_unlock(&log->lock);
    return victim;
}

struct segment *
log_drop_spare(struct log *log)
{
    struct segment *spare;

    mutex_lock(&log->lock);
    spare = log->spare;
    log->spare = NULL;
    if (spare != NULL) {
        spare->phase = SEGMENT_DROPPING;
        spare->refs++;
        for (uint32_t i = 0; i < log->unsealed_count; i++) {
            if (log->unsealed[i] == spare)
                log->unsealed[i] = log->unsealed[--log->unsealed_count];
        }
    }
    mutex_unlock(&log->lock);
    if (spare != NULL)
        log_file_release(log, spare);
    return spare;
}

bool
log_drop_finish(struct log *log, struct segment *segment, bool committed)
{
    char name[FORMAT_NAME_MAX];
    bool unlinked;

    assert(segment->phase == SEGMENT_DROPPING);
    format_file_name(FORMAT_FILE_SEGMENT, segment->number, name);
    /* A file that cannot be unlinked keeps its space; the next open tries again. */
    if (committed && log->env->ops->unlink(log->env, name) == 0)
        segment->unlinked = true;
    unlinked = segment->unlinked;
    mutex_lock(&log->lock);
    log_take_out(log, segment);
    segment->refs--; /* the table's; the caller's goes below */
    mutex_unlock(&log->lock);
    log_release(log, segment);
    return unlinked;
}

bool
log_has_dead_segment(struct log *log)
{
    bool found = false;

    mutex_lock(&log->lock);
    for (size_t i = 0; i < log->table_size && !found; i++) {
        for (struct segment *segment = log->table[i]; segment != NULL && !found; segment = segment->table_next)
            found = segment->phase == SEGMENT_SEALED && segment_dead(log, segment);
    }
    mutex_unlock(&log->lock);
    return found;
}
