/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of dropped segments are written over by new ones: a file system that frees a segment's blocks and takes as many for the next one is kept busy with that, and where
 * it tells the device what is free (discard) it keeps everybody waiting; writes over blocks that a file has already need none of its attention. (RocksDB's
 * recycle_log_file_num does the same for its write-ahead log.)
 *
 * What is left in such a file is never taken for the new segment's: its extents have another salt. For readers in other processes, who may have the file open under
 * its old number, it is bytes that fail their checksum, and they ask again.
 */
#include <errno.h>

#include "format/format.h"
#include "log/log_private.h"

bool
log_keeps_file(struct log *log, const struct segment *segment)
{
    bool keeps;

    mutex_lock(&log->lock);
    keeps = !segment->stray && log->kept_count < KEPT_MAX &&
            segment->bytes >= atomic_load_explicit(&log->segment_bytes, memory_order_relaxed) / 2;
    mutex_unlock(&log->lock);
    return keeps;
}

/* Forget about the file, if it is one that is kept. The others stay in their order: which one is the next is the claimers' business. */
static void
take_off(struct log *log, uint64_t number)
{
    uint32_t left = 0;

    mutex_lock(&log->lock);
    for (uint32_t i = 0; i < log->kept_count; i++) {
        if (log->kept[i].file.number != number)
            log->kept[left++] = log->kept[i];
    }
    log->kept_count = left;
    mutex_unlock(&log->lock);
}

void
log_keep_file(struct log *log, struct segment *segment)
{
    const struct log_file file = {
        .number = segment->number, .bytes = log_segment_space(segment), .shared = segment->shared};

    segment_destroy(segment);
    if (log->hooks.file_kept(log->hooks.arg, &file))
        return;
    log->hooks.file_removed(log->hooks.arg, file.bytes, log_file_remove(log, &file));
    log->hooks.segment_gone(log->hooks.arg, file.bytes);
}

void
log_file_ready(struct log *log, const struct log_file *file)
{
    mutex_lock(&log->lock);
    for (uint32_t i = 0; i < log->kept_count; i++)
        log->kept[i].ready = log->kept[i].ready || log->kept[i].file.number == file->number;
    mutex_unlock(&log->lock);
}

uint64_t
log_kept_bytes(struct log *log)
{
    uint64_t bytes = 0;

    mutex_lock(&log->lock);
    for (uint32_t i = 0; i < log->kept_count && bytes == 0; i++)
        bytes = log->kept[i].ready ? log->kept[i].file.bytes : 0;
    mutex_unlock(&log->lock);
    return bytes;
}

struct log_file
log_file_claim(struct log *log)
{
    struct log_file file = {.bytes = 0};

    mutex_lock(&log->lock);
    for (uint32_t i = 0; i < log->kept_count && file.bytes == 0; i++) {
        if (!log->kept[i].ready)
            continue;
        file = log->kept[i].file;
        log->kept[i].ready = false; /* known until it is gone, or has another name */
    }
    mutex_unlock(&log->lock);
    return file;
}

int
log_file_unlink(struct log *log, uint64_t number, bool shared)
{
    char name[FORMAT_NAME_MAX];

    format_file_name(FORMAT_FILE_SEGMENT, number, name);
    return shared ? env_cut(log->env, name) : log->env->ops->unlink(log->env, name);
}

int
log_file_remove(struct log *log, const struct log_file *file)
{
    int rc = log_file_unlink(log, file->number, file->shared);

    take_off(log, file->number);
    return rc == -ENOENT ? 0 : rc;
}

int
log_file_reuse(struct log *log, const struct log_file *file, struct segment *segment)
{
    const struct env_ops *ops = log->env->ops;
    char from[FORMAT_NAME_MAX], to[FORMAT_NAME_MAX];
    uint64_t size = 0;
    int rc;

    format_file_name(FORMAT_FILE_SEGMENT, file->number, from);
    format_file_name(FORMAT_FILE_SEGMENT, segment->number, to);
    rc = ops->rename(log->env, from, to);
    if (rc < 0) {
        rc = log_file_remove(log, file);
        return rc < 0 ? rc : 1;
    }
    take_off(log, file->number);
    segment->shared = file->shared;
    segment->recycled = true;
    rc = ops->open(log->env, to, ENV_OPEN_DIRECT, &segment->file);
    if (rc < 0) {
        rc = log_file_unlink(log, segment->number, file->shared);
        return rc < 0 ? rc : 1;
    }
    rc = ops->size(segment->file, &size);
    if (rc == 0 && size > segment->bytes)
        rc = ops->truncate(segment->file, segment->bytes);
    return rc;
}
