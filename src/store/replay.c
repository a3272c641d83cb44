/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replay: the extents that the scan found become findable again. Where payload may be torn it is read and verified page by page; what was
 * replayed goes to a run at once, and only then does the manifest call the segments sealed.
 */
#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "store/recovery.h"

/* One page's payload, verified with its header's id and checksum. */
static bool
page_intact(varve_store *store, struct env_file *file, const struct extent_header *header, uint32_t index,
            uint64_t offset, uint8_t *buf)
{
    uint64_t io_align = store->env->io_align;
    uint32_t size = extent_page_size(header, index);
    uint64_t begin = offset & ~(io_align - 1);
    uint64_t end = (offset + size + io_align - 1) & ~(io_align - 1);
    struct iovec iov = {buf + (offset - begin), size};
    varve_id id;

    if (size > 0 && io_read(store->pool, file, buf, (size_t)(end - begin), begin) < 0)
        return false;
    memcpy(id.bytes, header->ids + (size_t)index * VARVE_ID_BYTES, VARVE_ID_BYTES);
    return hash_page(header->ns_id, &id, &iov, 1, size) == wire_get64(header->sums + (size_t)index * 8);
}

/* Insert pages [first, last) of an extent; full memtables are flushed on the way. */
static int
insert_range(varve_store *store, const struct entry *whole, uint32_t first, uint32_t last)
{
    struct entry entry = entry_slice(whole, first, last - first);
    uint64_t bytes = 0;
    int rc;

    mutex_lock(&store->write_lock);
    rc = store_insert(store, &entry);
    mutex_unlock(&store->write_lock);
    for (uint32_t i = 0; i < entry.count; i++)
        bytes += entry_size(&entry, i);
    log_count_use(store->log, entry.segment, entry.key.ns_id, entry.count, bytes);
    COUNT(&store->counters, recovered_pages, entry.count);
    while (rc == VARVE_OK && index_frozen_count(store->index) > 0)
        rc = index_flush(store->index, NULL);
    return rc;
}

/* Insert the extent; where its payload may be torn (file != NULL), only the pages that are intact. */
static int
replay_extent(varve_store *store, uint64_t segment, struct env_file *file, const struct extent_header *header)
{
    struct env *env = store->env;
    uint64_t offset = header->offset + header->header_bytes;
    uint8_t *prefixes = env->ops->alloc(env, (size_t)header->count * ID_PREFIX_BYTES, 1);
    uint8_t *buf = NULL;
    uint32_t first = 0;
    int rc = prefixes == NULL ? VARVE_E_NOMEM : VARVE_OK;
    struct entry whole = {
        .key = {.ns_id = header->ns_id, .depth = header->depth, .branch = header->branch},
        .parent_branch = header->parent_branch,
        .parent_depth = header->parent_depth,
        .count = header->count,
        .segment = segment,
        .offset = offset,
        .page_bytes = header->page_bytes,
        .codec = header->codec,
        .align_shift = header->align_shift,
        .ids = prefixes,
        .sums = header->sums,
        .sizes = header->sizes,
    };

    if (rc == VARVE_OK && file != NULL) {
        buf = env->ops->alloc(env, (size_t)header->extent_bytes + (size_t)2 * IO_ALIGN_MAX, IO_ALIGN_MAX);
        rc = buf == NULL ? VARVE_E_NOMEM : VARVE_OK;
    }
    for (uint32_t i = 0; i < header->count && rc == VARVE_OK; i++) {
        memcpy(prefixes + (size_t)i * ID_PREFIX_BYTES, header->ids + (size_t)i * VARVE_ID_BYTES, ID_PREFIX_BYTES);
        if (file != NULL && !page_intact(store, file, header, i, offset, buf)) {
            COUNT(&store->counters, recovered_torn_pages, 1);
            if (first < i)
                rc = insert_range(store, &whole, first, i);
            first = i + 1;
        }
        offset += log_pad(extent_page_size(header, i), header->align_shift);
    }
    if (rc == VARVE_OK && first < header->count)
        rc = insert_range(store, &whole, first, header->count);
    if (store->next_branch <= header->branch)
        store->next_branch = header->branch + 1;
    COUNT(&store->counters, recovered_extents, 1);
    env_free(env, prefixes);
    env_free(env, buf);
    return rc;
}

static int
replay_extents(varve_store *store, const struct scanned *scanned, struct env_file *file, varve_error *err)
{
    int rc = VARVE_OK;

    for (size_t i = 0; i < scanned->count && rc == VARVE_OK; i++) {
        const struct found *found = &scanned->found[i];
        struct extent_header header;
        bool torn;
        enum log_decode decoded =
            extent_header_decode(found->header, found->header_bytes, scanned->salt, found->offset, &header);

        assert(decoded == LOG_DECODE_OK); /* it was, when it was copied */
        (void)decoded;
        if (!namespace_live(store, header.ns_id))
            continue;
        torn = scanned->unsealed && found->offset + header.extent_bytes > scanned->synced;
        rc = replay_extent(store, scanned->number, torn ? file : NULL, &header);
        if (rc != VARVE_OK)
            rc = error_set(err, rc, "replay of segment %llu: %s", (unsigned long long)scanned->number,
                           varve_strerror(rc));
    }
    return rc;
}

static int
replay_segment(varve_store *store, const struct scanned *scanned, varve_error *err)
{
    struct segment *segment = log_acquire(store->log, scanned->number);
    struct env_file *file;
    int rc;

    if (segment == NULL)
        return VARVE_OK; /* missing, or dropped to make room while recovering */
    rc = log_file_acquire(store->log, segment, &file, err);
    if (rc == VARVE_OK) {
        rc = replay_extents(store, scanned, file, err);
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
