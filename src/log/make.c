/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making segments: space is taken before the file is, and the next one is made before the open one is full. Nothing is synced: the first sync of what is written
 * to a segment makes its header and its name durable, too (seal.c). Until then a power failure may leave the manifest with a segment that is not there, or has no
 * header: recovery leaves it out, and nothing in it was promised.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "format/format.h"
#include "log/log_private.h"

#define SQUEEZE_TRIES 3 /* drops tried when the file system is full below the capacity */
#define FILES_TRIED   4 /* that are kept, where they can be neither renamed nor removed */
#define FILE_STAYS    1

/* Reserve the space of a new segment and write its header. */
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
    env_free(log->env, buf);
    return rc;
}

/* Take the file away again, if there is one. 0, or -errno: it stays, and keeps its space; the next open removes it. */
static int
discard_file(struct log *log, struct segment *segment)
{
    if (segment->file == NULL)
        return 0;
    log->env->ops->close(segment->file);
    segment->file = NULL;
    return log_file_unlink(log, segment->number, segment->shared);
}

/*
 * One try at the file of a new segment, over `file`, if there is one. After -errno there may be one, to be discarded. FILE_STAYS: `file` can be neither written over nor
 * removed, and has the room that a new one would take.
 */
static int
create_file(struct log *log, struct segment *segment, const struct log_file *file)
{
    char name[FORMAT_NAME_MAX];
    int rc;

    if (file != NULL && file->bytes > 0) {
        rc = log_file_reuse(log, file, segment);
        if (rc == 0)
            return write_segment_header(log, segment);
        rc = segment->file != NULL ? discard_file(log, segment) : rc;
        log->hooks.file_removed(log->hooks.arg, file->bytes, rc < 0 ? rc : 0);
        if (rc < 0)
            return FILE_STAYS;
    }
    segment->recycled = segment->shared = false;
    format_file_name(FORMAT_FILE_SEGMENT, segment->number, name);
    rc = log->env->ops->open(log->env, name, ENV_OPEN_CREATE | ENV_OPEN_DIRECT, &segment->file);
    if (rc < 0)
        return rc;
    return write_segment_header(log, segment);
}

/* Take back what make_file() did. */
static void
undo_file(struct log *log, struct segment *segment, bool clean)
{
    if (discard_file(log, segment) == 0 && clean)
        log->hooks.space_give_back(log->hooks.arg, segment->bytes + SEGMENT_OVERHEAD_BYTES);
}

/* Room for a segment, and its file in it. After a failure there is neither, but for what could not be removed. */
static int
make_file(struct log *log, enum log_stream stream, struct segment *segment, varve_error *err)
{
    const struct log_hooks *hooks = &log->hooks;
    int rc, clean = 0, tries = 0;

    do { /* the room of a file that stays is lost: other room is taken */
        struct log_file file = {.bytes = 0};

        rc = hooks->space_take(hooks->arg, stream, segment->bytes + SEGMENT_OVERHEAD_BYTES, &file, err);
        if (rc != VARVE_OK)
            return rc;
        rc = create_file(log, segment, &file);
        if (rc == FILE_STAYS)
            hooks->space_give_back(hooks->arg, segment->bytes + SEGMENT_OVERHEAD_BYTES);
    } while (rc == FILE_STAYS && ++tries < FILES_TRIED);
    if (rc == FILE_STAYS)
        return error_os(err, -EIO, "rename or remove files of segments");
    for (tries = 0; (rc == -ENOSPC || rc == -EDQUOT) && tries < SQUEEZE_TRIES; tries++) {
        clean = discard_file(log, segment);
        if (clean < 0 || hooks->space_squeeze(hooks->arg, stream, segment->bytes) != VARVE_OK)
            break;
        rc = create_file(log, segment, NULL);
    }
    if (rc == 0)
        return VARVE_OK;
    undo_file(log, segment, clean == 0);
    return error_os(err, rc, "create a segment of %llu bytes", (unsigned long long)segment->bytes);
}

/* A new segment of `bytes`: space taken, file made, named by the manifest. */
static int
create_segment(struct log *log, enum log_stream stream, uint64_t bytes, struct segment **out, varve_error *err)
{
    const struct log_hooks *hooks = &log->hooks;
    struct manifest_item item = {.kind = MANIFEST_SEGMENT_ADD};
    struct segment *segment;
    uint64_t number = hooks->new_file_number(hooks->arg);
    int rc;

    segment = segment_create(log, number, log->env->ops->random(log->env), bytes, log->settings.align_shift);
    if (segment == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    mutex_lock(&log->lock);
    log->heads[stream].making = number;
    mutex_unlock(&log->lock);
    rc = make_file(log, stream, segment, err);
    if (rc == VARVE_OK) {
        item.u.segment.number = segment->number;
        item.u.segment.salt = segment->salt;
        item.u.segment.bytes = bytes;
        item.u.segment.align_shift = segment->align_shift;
        rc = hooks->commit(hooks->arg, &item, 1, false, err);
        /* Should the edit have reached the disk after all, it names a missing segment, which recovery leaves out. */
        if (rc != VARVE_OK)
            undo_file(log, segment, true);
    }
    if (rc != VARVE_OK) {
        segment_destroy(segment);
        return rc;
    }
    segment->synced = SEGMENT_HEADER_BYTES;
    *out = segment;
    return VARVE_OK;
}

int
log_make_segment(struct log *log, enum log_stream stream, uint64_t least, struct segment **out, varve_error *err)
{
    uint64_t bytes = atomic_load_explicit(&log->segment_bytes, memory_order_relaxed);
    struct segment *segment = NULL;
    int rc;

    if (bytes < SEGMENT_HEADER_BYTES + least)
        bytes = SEGMENT_HEADER_BYTES + least;
    rc = create_segment(log, stream, bytes, &segment, err);
    mutex_lock(&log->lock);
    if (rc == VARVE_OK) {
        segment->name = ++log->names_made;
        log_insert(log, segment);
        segment->refs--; /* the creator's */
        segment->file_users = 1;
        log->open_file_count++;
        log->unsealed[log->unsealed_count++] = segment;
        *out = segment;
    }
    log->heads[stream].creating = false;
    log->heads[stream].making = 0;
    cond_broadcast(&log->created);
    mutex_unlock(&log->lock);
    if (rc == VARVE_OK)
        log->hooks.segment_created(log->hooks.arg, segment, stream);
    return rc;
}

bool
log_may_make(const struct log *log, enum log_stream stream)
{
    uint32_t count = log->unsealed_count, most = log->settings.unsealed_max;

    if (stream == LOG_NEW) /* the rest is for survivors */
        most -= LOG_UNSEALED_MAX - LOG_UNSEALED_NEW_MAX;
    for (int other = 0; other < LOG_STREAMS; other++)
        count += log->heads[other].creating;
    return count < most;
}

bool
log_spare_wanted(const struct log *log)
{
    const struct log_head *head = &log->heads[LOG_NEW];

    return log->spare == NULL && head->open != NULL && head->open->append >= head->open->bytes / 2 && !head->creating &&
           log_may_make(log, LOG_NEW);
}

int
log_prepare(struct log *log, varve_error *err)
{
    struct segment *segment;
    bool wanted;
    int rc;

    mutex_lock(&log->lock);
    wanted = log_spare_wanted(log);
    log->heads[LOG_NEW].creating = log->heads[LOG_NEW].creating || wanted;
    mutex_unlock(&log->lock);
    if (!wanted)
        return VARVE_MISS;
    rc = log_make_segment(log, LOG_NEW, 0, &segment, err);
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
