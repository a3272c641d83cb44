/* SPDX-License-Identifier: Apache-2.0 */
/* Dropping segments: which may go, and how their files do. */
#include <assert.h>
#include <errno.h>

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

/* The sealed segment that was made first, of those that `may` go, referenced. */
static struct segment *
find_sealed(struct log *log, bool (*may)(struct log *log, const struct segment *segment))
{
    struct segment *found = NULL;

    mutex_lock(&log->lock);
    for (size_t i = 0; i < log->table_size; i++) {
        for (struct segment *segment = log->table[i]; segment != NULL; segment = segment->table_next) {
            if (segment->phase == SEGMENT_SEALED && (found == NULL || segment->number < found->number) &&
                may(log, segment))
                found = segment;
        }
    }
    if (found != NULL)
        found->refs++;
    mutex_unlock(&log->lock);
    return found;
}

static bool
any_segment(struct log *log, const struct segment *segment)
{
    (void)log;
    (void)segment;
    return true;
}

void
log_note_death(struct log *log)
{
    mutex_lock(&log->lock);
    log->death_possible = true;
    mutex_unlock(&log->lock);
}

/* All segments are looked at only after something happened that may have made one dead: the background asks with every slice. */
struct segment *
log_find_dead(struct log *log)
{
    struct segment *dead;
    bool possible;

    mutex_lock(&log->lock);
    possible = log->death_possible;
    log->death_possible = false; /* before they are looked at: what dies meanwhile sets it again */
    mutex_unlock(&log->lock);
    if (!possible)
        return NULL;
    dead = find_sealed(log, segment_dead);
    if (dead != NULL)
        log_note_death(log); /* there may be more */
    return dead;
}

struct segment *
log_find_oldest(struct log *log)
{
    return find_sealed(log, any_segment);
}

bool
log_has_dead_segment(struct log *log)
{
    struct segment *dead = log_find_dead(log);

    if (dead == NULL)
        return false;
    log_release(log, dead);
    return true;
}

bool
log_is_sealed(struct log *log, const struct segment *segment)
{
    bool sealed;

    mutex_lock(&log->lock);
    sealed = segment->phase == SEGMENT_SEALED;
    mutex_unlock(&log->lock);
    return sealed;
}

bool
log_drop_begin(struct log *log, struct segment *segment)
{
    bool begun;

    mutex_lock(&log->lock);
    begun = segment->phase == SEGMENT_SEALED;
    if (begun) {
        log->losses++;
        segment->phase = SEGMENT_DROPPING;
        segment->refs++;
    }
    mutex_unlock(&log->lock);
    return begun;
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

void
log_drop_cancel(struct log *log, struct segment *segment)
{
    mutex_lock(&log->lock);
    assert(segment->phase == SEGMENT_DROPPING);
    segment->phase = SEGMENT_SEALED;
    log->death_possible = true;
    mutex_unlock(&log->lock);
    log_release(log, segment);
}

int
log_drop_finish(struct log *log, struct segment *segment, bool committed, bool keep)
{
    char name[FORMAT_NAME_MAX];
    int rc = -ECANCELED;

    assert(segment->phase == SEGMENT_DROPPING);
    mutex_lock(&log->lock);
    segment->kept = committed && keep && log->kept_count < KEPT_MAX;
    if (segment->kept)
        log->kept[log->kept_count++] = (struct kept_file){
            .file = {.number = segment->number, .bytes = log_segment_space(segment), .shared = segment->shared}};
    mutex_unlock(&log->lock);
    format_file_name(FORMAT_FILE_SEGMENT, segment->number, name);
    /* A file that is there and cannot be unlinked keeps its space; the next open tries again. */
    if (segment->kept)
        rc = 1;
    if (committed && !segment->kept) {
        /* No more processes are given it from here on. Short of descriptors its space comes back when they close it. */
        if (segment->shared && log->env->ops->open(log->env, name, 0, &segment->cut) < 0)
            segment->cut = NULL;
        rc = log->env->ops->unlink(log->env, name);
        if (rc == -ENOENT)
            rc = 0;
        segment->unlinked = rc == 0;
    }
    mutex_lock(&log->lock);
    log_take_out(log, segment);
    segment->refs--; /* the table's; the caller's goes below */
    mutex_unlock(&log->lock);
    log_release(log, segment);
    return rc;
}
