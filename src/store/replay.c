/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replay: the extents that the scan found become findable again. Where payload may be torn it is read and verified page by page. Pages that are
 * torn are removed in the manifest, not just left out: once the segment is sealed nobody verifies its payload again, and an index that has
 * to be rebuilt from the log must not list them. What was replayed goes to a run at once, and only then does the manifest call the segments
 * sealed.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "store/forget.h"
#include "store/recovery.h"

/* The replay of one segment, while it runs. */
struct replay {
    varve_store *store;
    const struct scanned *scanned;
    struct env_file *file;
    varve_error *err;
};

/* One extent of it. */
struct replay_extent {
    struct replay *replay;
    const struct extent_header *header;
    struct entry whole;         /* all its pages */
    uint8_t *prefixes;          /* of the entry */
    uint8_t *buf;               /* for one page; NULL: the payload is known to be durable */
    bool has_removals;          /* of its segment */
    struct manifest_item *torn; /* removals to come, header->count at most; NULL: none yet */
    size_t torn_count;
};

enum page_state {
    PAGE_INTACT,
    PAGE_REMOVED, /* an earlier edit says so */
    PAGE_TORN,
};

static int
read_again(const struct replay *replay, void *buf, size_t size, uint64_t offset)
{
    int rc = -EIO;

    for (int tries = 0; tries < RECOVERY_TRIES && rc < 0 && rc != -ENODATA; tries++)
        rc = io_read(replay->store->pool, replay->file, buf, size, offset);
    return rc;
}

/*
 * What cannot be read may be whole: it is given up only where the device gives what lies beside it, so that it is this place that is bad. Else
 * the device fails, and so does the open: the next one finds all that is there.
 */
static int
judge_unread(const struct replay_extent *extent, int rc)
{
    const struct replay *replay = extent->replay;

    if (rc != -ENOMEM && read_again(replay, extent->buf, LOG_BLOCK_BYTES, extent->header->offset) == 0) {
        COUNT(&replay->store->counters, recovered_unread_pages, 1);
        return PAGE_TORN;
    }
    return error_os(replay->err, rc, "read a page of segment %" PRIu64, replay->scanned->number);
}

/* One page's payload, verified with its header's id and checksum. enum page_state, or a code. */
static int
judge_payload(const struct replay_extent *extent, uint32_t index, uint64_t offset)
{
    varve_store *store = extent->replay->store;
    const struct extent_header *header = extent->header;
    uint64_t io_align = store->env->io_align;
    uint32_t size = extent_page_size(header, index);
    uint64_t begin = offset & ~(io_align - 1);
    uint64_t end = (offset + size + io_align - 1) & ~(io_align - 1);
    struct iovec iov = {extent->buf + (offset - begin), size};
    int rc = size == 0 ? 0 : read_again(extent->replay, extent->buf, (size_t)(end - begin), begin);
    varve_id id;

    if (rc < 0 && rc != -ENODATA)
        return judge_unread(extent, rc);
    memcpy(id.bytes, header->ids + (size_t)index * VARVE_ID_BYTES, VARVE_ID_BYTES);
    if (rc == 0 && hash_page(header->ns_id, &id, &iov, 1, size) == wire_get64(header->sums + (size_t)index * 8))
        return PAGE_INTACT;
    COUNT(&store->counters, recovered_torn_pages, 1);
    return PAGE_TORN;
}

static int
judge_page(const struct replay_extent *extent, uint32_t index, uint64_t offset)
{
    const struct replay *replay = extent->replay;

    if (extent->has_removals && log_page_removed(replay->store->log, replay->scanned->number, offset,
                                                 extent->header->ids + (size_t)index * VARVE_ID_BYTES))
        return PAGE_REMOVED;
    return extent->buf == NULL ? PAGE_INTACT : judge_payload(extent, index, offset);
}

static int
add_torn(struct replay_extent *extent, uint32_t index, uint64_t offset)
{
    const struct replay *replay = extent->replay;
    const struct extent_header *header = extent->header;

    if (extent->torn == NULL)
        extent->torn = env_zalloc(replay->store->env, header->count * sizeof(extent->torn[0]));
    if (extent->torn == NULL)
        return VARVE_E_NOMEM;
    extent->torn[extent->torn_count++] =
        removal_item(replay->scanned->number, offset, header->ids + (size_t)index * VARVE_ID_BYTES);
    return VARVE_OK;
}

/* Insert pages [first, last); full memtables are flushed on the way. */
static int
insert_range(const struct replay_extent *extent, uint32_t first, uint32_t last)
{
    struct entry entry = entry_slice(&extent->whole, first, last - first);
    const struct replay *replay = extent->replay;
    varve_store *store = replay->store;
    uint64_t bytes = 0;
    int rc;

    mutex_lock(&store->write_lock);
    rc = store_insert(store, &entry);
    mutex_unlock(&store->write_lock);
    for (uint32_t i = 0; i < entry.count; i++)
        bytes += entry_size(&entry, i);
    if (replay->scanned->unsealed) /* else its seal has counted them */
        log_count_use(store->log, entry.segment, entry.key.ns_id, entry.count, bytes);
    COUNT(&store->counters, recovered_pages, entry.count);
    while (rc == VARVE_OK && index_frozen_count(store->index) > 0)
        rc = index_flush(store->index, replay->err);
    return rc;
}

/* Insert the pages that are there, and remember those that are torn. */
static int
insert_pages(struct replay_extent *extent)
{
    const struct extent_header *header = extent->header;
    uint64_t offset = extent->whole.offset;
    uint32_t first = 0;
    int rc = VARVE_OK;

    for (uint32_t i = 0; i < header->count && rc == VARVE_OK; i++) {
        int state = judge_page(extent, i, offset);

        rc = state < 0 ? state : VARVE_OK;
        if (state == PAGE_TORN)
            rc = add_torn(extent, i, offset);
        if (rc == VARVE_OK && state != PAGE_INTACT) {
            if (first < i)
                rc = insert_range(extent, first, i);
            first = i + 1;
        }
        offset += log_pad(extent_page_size(header, i), header->align_shift);
    }
    if (rc == VARVE_OK && first < header->count)
        rc = insert_range(extent, first, header->count);
    return rc;
}

static int
replay_extent(struct replay *replay, const struct extent_header *header)
{
    varve_store *store = replay->store;
    struct env *env = store->env;
    bool may_be_torn = replay->scanned->unsealed && header->offset + header->extent_bytes > replay->scanned->synced;
    struct replay_extent extent = {.replay = replay, .header = header};
    int rc = VARVE_OK;

    extent.has_removals = log_segment_state(store->log, replay->scanned->number) == SEGMENT_LIVE_REMOVALS;
    extent.prefixes = env->ops->alloc(env, (size_t)header->count * ID_PREFIX_BYTES, 1);
    if (may_be_torn)
        extent.buf = env->ops->alloc(env, (size_t)header->extent_bytes + (size_t)2 * IO_ALIGN_MAX, IO_ALIGN_MAX);
    if (extent.prefixes == NULL || (may_be_torn && extent.buf == NULL)) {
        rc = VARVE_E_NOMEM;
        goto out;
    }
    for (uint32_t i = 0; i < header->count; i++)
        memcpy(extent.prefixes + (size_t)i * ID_PREFIX_BYTES, header->ids + (size_t)i * VARVE_ID_BYTES,
               ID_PREFIX_BYTES);
    extent.whole = (struct entry){
        .key = {.ns_id = header->ns_id, .depth = header->depth, .branch = header->branch},
        .parent_branch = header->parent_branch,
        .parent_depth = header->parent_depth,
        .count = header->count,
        .segment = replay->scanned->number,
        .offset = header->offset + header->header_bytes,
        .page_bytes = header->page_bytes,
        .codec = header->codec,
        .align_shift = header->align_shift,
        .ids = extent.prefixes,
        .sums = header->sums,
        .sizes = header->sizes,
    };
    rc = insert_pages(&extent);
    /* No sync: the edit that seals the segment comes later in the same file, and before that all of this is done again. */
    if (rc == VARVE_OK && extent.torn_count > 0)
        rc = store_forget_pages(store, extent.torn, extent.torn_count, false, replay->err);
    if (store->next_branch <= header->branch)
        store->next_branch = header->branch + 1;
    COUNT(&store->counters, recovered_extents, 1);
out:
    env_free(env, extent.torn);
    env_free(env, extent.prefixes);
    env_free(env, extent.buf);
    return rc;
}

static int
replay_extents(struct replay *replay)
{
    const struct scanned *scanned = replay->scanned;
    varve_error *err = replay->err;
    int rc = VARVE_OK;

    for (size_t i = 0; i < scanned->count && rc == VARVE_OK; i++) {
        const struct found *found = &scanned->found[i];
        struct extent_header header;
        enum log_decode decoded =
            extent_header_decode(found->header, found->header_bytes, scanned->salt, found->offset, &header);

        assert(decoded == LOG_DECODE_OK); /* it was, when it was copied */
        (void)decoded;
        if (!namespace_live(replay->store, header.ns_id))
            continue;
        rc = replay_extent(replay, &header);
    }
    if (rc != VARVE_OK && err != NULL && err->code != rc)
        rc = error_set(err, rc, "replay of segment %" PRIu64 ": %s", scanned->number, varve_strerror(rc));
    return rc;
}

static int
replay_segment(varve_store *store, const struct scanned *scanned, varve_error *err)
{
    struct replay replay = {.store = store, .scanned = scanned, .err = err};
    struct segment *segment = log_acquire(store->log, scanned->number);
    int rc;

    if (segment == NULL)
        return VARVE_OK; /* missing, or dropped to make room while recovering */
    rc = log_file_acquire(store->log, segment, &replay.file, err);
    if (rc == VARVE_OK) {
        rc = replay_extents(&replay);
        log_file_release(store->log, segment);
    }
    log_release(store->log, segment);
    return rc;
}

/* What was replayed goes to a run, and the segments it lies in become sealed. */
static int
replay_finish(struct recovery *recovery, varve_error *err)
{
    varve_store *store = recovery->store;
    int rc;

    mutex_lock(&store->write_lock);
    rc = store_rotate(store);
    mutex_unlock(&store->write_lock);
    while (rc == VARVE_OK && index_frozen_count(store->index) > 0)
        rc = index_flush(store->index, err);
    for (size_t i = 0; i < recovery->count && rc == VARVE_OK; i++) {
        if (recovery->segments[i].unsealed)
            rc = log_seal_recovered(store->log, recovery->segments[i].number, err);
    }
    return rc;
}

int
recovery_replay(struct recovery *recovery, varve_error *err)
{
    varve_store *store = recovery->store;
    int rc = VARVE_OK;

    store->recovering = true;
    for (size_t i = 0; i < recovery->count && rc == VARVE_OK; i++)
        rc = replay_segment(store, &recovery->segments[i], err);
    store->recovering = false;
    return rc == VARVE_OK ? replay_finish(recovery, err) : rc;
}
