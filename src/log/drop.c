/* SPDX-License-Identifier: Apache-2.0 */
/* Dropping segments: which one goes, and how its file does. */
#include <assert.h>

#include "format/format.h"
#include "log/log_private.h"

/* Whether nothing of a live namespace is in the segment. A segment without counts is not known to be dead. Lock held. */
static bool
segment_dead(struct log *log, const struct segment *segment)
{
    if (segment->uses_incomplete)
        return false;
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
        log->losses++;
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
