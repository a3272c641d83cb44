/* SPDX-License-Identifier: Apache-2.0 */
/* The log as a whole: reserving space for extents, and marking how far the index covers it. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "format/format.h"
#include "log/log_private.h"
#include "log/removal_set.h"

int
log_create(struct env *env, struct io_queue_pool *pool, const struct log_hooks *hooks,
           const struct log_settings *settings, struct log **out, varve_error *err)
{
    struct log *log = env_zalloc(env, sizeof(*log));

    if (log == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    log->env = env;
    if (log_table_grow(log) != VARVE_OK) {
        env_free(env, log);
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    }
    log->pool = pool;
    log->hooks = *hooks;
    log->settings = *settings;
    log->death_possible = true;
    atomic_init(&log->segment_bytes, settings->segment_bytes);
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
        segment->shared = log->settings.shared;
        segment->stray = log->settings.stray;
        segment->append = segment->synced = state->bytes;
        segment->indexed = state->indexed;
        /* The counts of a segment come with its seal. Recovery counts what it replays, but not what was in runs before. */
        segment->uses_incomplete = !state->sealed && state->indexed > SEGMENT_HEADER_BYTES;
        for (size_t i = 0; i < state->use_count; i++)
            segment_add_use(segment, state->uses[i].ns_id, state->uses[i].pages, state->uses[i].bytes);
        if (state->removal_count > 0 && (segment->removals = removal_set_create(log->env)) == NULL)
            rc = VARVE_E_NOMEM;
        for (size_t i = 0; rc == VARVE_OK && i < state->removal_count; i++)
            rc = removal_set_add(segment->removals, &state->removals[i]);
    }
    if (rc == VARVE_OK) {
        mutex_lock(&log->lock);
        log_insert(log, segment);
        segment->refs--; /* the creator's */
        mutex_unlock(&log->lock);
    }
    if (rc != VARVE_OK && segment != NULL)
        segment_destroy(segment);
    return rc == VARVE_OK ? rc : error_set(err, rc, "out of memory opening segments");
}

/* Let the open segment of a stream take no more. Lock held. */
static void
close_open(struct log_head *head)
{
    if (head->open != NULL) {
        head->open->phase = SEGMENT_FULL;
        head->open = NULL;
    }
}

void
log_close_open(struct log *log)
{
    mutex_lock(&log->lock);
    for (int stream = 0; stream < LOG_STREAMS; stream++)
        close_open(&log->heads[stream]);
    mutex_unlock(&log->lock);
}

void
log_set_segment_bytes(struct log *log, uint64_t bytes)
{
    atomic_store_explicit(&log->segment_bytes, bytes, memory_order_relaxed);
}

/* Reserve in the open segment; false if there is none or it has no room (then it is full). Lock held. */
static bool
reserve_in_open(struct log_head *head, const struct log_fit *fit, struct reservation *out)
{
    struct segment *segment = head->open;
    uint64_t bytes;

    if (segment == NULL)
        return false;
    bytes = fit->take(fit->arg, segment->bytes - segment->append);
    assert(bytes % LOG_BLOCK_BYTES == 0 && bytes <= segment->bytes - segment->append);
    if (bytes == 0) {
        close_open(head);
        return false;
    }
    *out = (struct reservation){
        .segment = segment, .offset = segment->append, .bytes = bytes, .synced_offset = segment->synced};
    segment->append += bytes;
    head->appended += bytes;
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
log_reserve(struct log *log, enum log_stream stream, const struct log_fit *fit, struct reservation *out,
            varve_error *err)
{
    struct log_head *head = &log->heads[stream];
    struct segment *made;
    int rc = VARVE_OK;

    mutex_lock(&log->lock);
    while (rc == VARVE_OK && !reserve_in_open(head, fit, out)) {
        if (stream == LOG_NEW && log->spare != NULL && log->spare->bytes >= SEGMENT_HEADER_BYTES + fit->least) {
            head->open = log->spare;
            log->spare = NULL;
            continue;
        }
        if (head->creating) {
            cond_wait(&log->created, &log->lock);
            continue;
        }
        if (!log_may_make(log, stream)) {
            mutex_unlock(&log->lock);
            rc = log_seal(log, err);
            mutex_lock(&log->lock);
            continue; /* VARVE_MISS: all have writes in flight, perhaps the caller's own */
        }
        head->creating = true;
        mutex_unlock(&log->lock);
        rc = log_make_segment(log, stream, fit->least, &made, err);
        mutex_lock(&log->lock);
        if (rc == VARVE_OK) {
            close_open(head);
            head->open = made;
        }
    }
    mutex_unlock(&log->lock);
    return rc;
}

uint64_t
log_appended(struct log *log, enum log_stream stream)
{
    uint64_t appended;

    mutex_lock(&log->lock);
    appended = log->heads[stream].appended;
    mutex_unlock(&log->lock);
    return appended;
}

uint64_t
log_open_room(struct log *log, enum log_stream stream)
{
    const struct segment *open;
    uint64_t room;

    mutex_lock(&log->lock);
    open = log->heads[stream].open;
    room = open == NULL ? 0 : open->bytes - open->append;
    mutex_unlock(&log->lock);
    return room;
}

void
log_wait(struct log *log, uint64_t timeout_ms)
{
    mutex_lock(&log->lock);
    if (!log_may_make(log, LOG_NEW))
        cond_wait_ms(&log->created, &log->lock, timeout_ms);
    mutex_unlock(&log->lock);
}

void
log_written(struct log *log, const struct reservation *reservation)
{
    mutex_lock(&log->lock);
    reservation->segment->dirty = true;
    log->unsynced_bytes += reservation->bytes;
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
    if (written)
        segment_add_use(segment, ns_id, pages, bytes);
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
