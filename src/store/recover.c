/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery: what was written after the last index flush is found again from the headers in the log.
 *
 * A segment is scanned from where its runs end. Writes complete in any order, so a hole (an extent that was in flight) does not end
 * the scan: it goes on block by block until a header is valid again. Headers say how much of their segment was durable when they
 * were written; the payload behind that point may be torn, and is verified page by page before it becomes findable. What this
 * reads is bounded by sync_bytes; all before it needs only headers.
 *
 * Every segment is sealed at its last valid extent, so a store begins each life with a new one. docs/recovery.md.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "format/format.h"
#include "store/store.h"

#define WINDOW_BYTES     ((size_t)1 << 20)  /* read at once where headers lie close together */
#define WINDOW_FAR_BYTES ((size_t)16 << 10) /* where they do not */
#define CLOSE_BYTES      ((uint64_t)128 << 10)

static_assert(WINDOW_BYTES > EXTENT_HEADER_BYTES_MAX + LOG_BLOCK_BYTES, "a header fits in a window");

/* A valid extent: its header, copied. */
struct found {
    uint64_t offset;
    uint8_t *header;
    uint32_t header_bytes;
};

/* What the scan of one segment found. */
struct scanned {
    uint64_t number;
    uint64_t salt;
    uint64_t bytes;  /* of the file */
    uint64_t end;    /* behind the last valid extent */
    uint64_t synced; /* the most that a header said was durable */
    bool unsealed;   /* what lies behind `synced` may be torn */
    struct found *found;
    size_t count, capacity;
};

struct recovery {
    varve_store *store;
    struct scanned *segments;
    size_t count;
};

/* The scan of one segment, while it runs. */
struct scan {
    varve_store *store;
    struct env_file *file;
    struct scanned *out;
    uint8_t *window; /* WINDOW_BYTES, aligned */
    uint64_t window_offset;
    uint64_t window_bytes; /* valid in the window */
    bool near;             /* the last extent was small: read ahead */
};

/* Bytes at `offset`: at least `least`, as far as the file has them. NULL and *rc: -errno. */
static const uint8_t *
scan_read(struct scan *scan, uint64_t offset, size_t least, size_t *available, int *rc)
{
    if (offset < scan->window_offset || offset + least > scan->window_offset + scan->window_bytes) {
        uint64_t left = scan->out->bytes - offset;
        uint64_t bytes = scan->near ? WINDOW_BYTES : least > WINDOW_FAR_BYTES ? least : WINDOW_FAR_BYTES;

        bytes = (bytes < left ? bytes : left) & ~(uint64_t)(LOG_BLOCK_BYTES - 1);
        scan->window_offset = offset;
        scan->window_bytes = 0;
        if (bytes < least) {
            *rc = -ENODATA;
            return NULL;
        }
        *rc = io_read(scan->store->pool, scan->file, scan->window, (size_t)bytes, offset);
        if (*rc < 0)
            return NULL;
        scan->window_bytes = bytes;
    }
    *available = (size_t)(scan->window_offset + scan->window_bytes - offset);
    return scan->window + (offset - scan->window_offset);
}

/* Decode the header at `offset`. LOG_DECODE_BAD when there is none, whatever the reason; *rc only when the device failed. */
static enum log_decode
scan_header(struct scan *scan, uint64_t offset, struct extent_header *header, int *rc)
{
    enum log_decode decoded;
    const uint8_t *buf;
    size_t available;

    buf = scan_read(scan, offset, LOG_BLOCK_BYTES, &available, rc);
    if (buf == NULL)
        return LOG_DECODE_BAD;
    decoded = extent_header_decode(buf, available, scan->out->salt, offset, header);
    if (decoded == LOG_DECODE_SHORT) {
        buf = scan_read(scan, offset, (size_t)log_pad(header->header_bytes, 12), &available, rc);
        if (buf == NULL)
            return LOG_DECODE_BAD;
        decoded = extent_header_decode(buf, available, scan->out->salt, offset, header);
    }
    if (decoded == LOG_DECODE_OK && header->extent_bytes > scan->out->bytes - offset)
        return LOG_DECODE_BAD; /* cut off by the end of the file */
    return decoded;
}

/* Remember a valid extent. */
static int
scan_add(struct scan *scan, const struct extent_header *header)
{
    struct env *env = scan->store->env;
    struct scanned *out = scan->out;
    struct found *found;

    if (out->count == out->capacity) {
        size_t capacity = out->capacity * 2 + 16;
        struct found *grown = env->ops->alloc(env, capacity * sizeof(*grown), _Alignof(struct found));

        if (grown == NULL)
            return -ENOMEM;
        if (out->count > 0)
            memcpy(grown, out->found, out->count * sizeof(*grown));
        env_free(env, out->found);
        out->found = grown;
        out->capacity = capacity;
    }
    found = &out->found[out->count];
    found->offset = header->offset;
    found->header_bytes = header->header_bytes;
    found->header = env->ops->alloc(env, header->header_bytes, 8);
    if (found->header == NULL)
        return -ENOMEM;
    memcpy(found->header, header->ids - EXTENT_FIXED_BYTES, header->header_bytes);
    out->count++;
    return 0;
}

/* Find all valid extents from `from` on. */
static int
scan_extents(struct scan *scan, uint64_t from)
{
    struct scanned *out = scan->out;
    uint64_t offset = from;

    out->end = from;
    while (offset + LOG_BLOCK_BYTES <= out->bytes) {
        struct extent_header header;
        int rc = 0;
        enum log_decode decoded = scan_header(scan, offset, &header, &rc);

        if (rc < 0 && rc != -ENODATA)
            return rc;
        if (decoded == LOG_DECODE_NEWER)
            return -EPROTO;
        if (decoded != LOG_DECODE_OK) {
            scan->near = true;
            offset += LOG_BLOCK_BYTES;
            continue;
        }
        rc = scan_add(scan, &header);
        if (rc < 0)
            return rc;
        if (header.synced_offset > out->synced)
            out->synced = header.synced_offset;
        scan->near = header.extent_bytes < CLOSE_BYTES;
        offset += header.extent_bytes;
        out->end = offset;
    }
    return 0;
}

/* Open the segment's file and check its header. VARVE_MISS: there is none, or it is none. */
static int
scan_open(struct scan *scan, const char *name, varve_error *err)
{
    struct env *env = scan->store->env;
    struct scanned *out = scan->out;
    struct segment_header header;
    enum log_decode decoded = LOG_DECODE_BAD;
    int rc;

    rc = env->ops->open(env, name, ENV_OPEN_DIRECT, &scan->file);
    if (rc == -ENOENT)
        return VARVE_MISS;
    if (rc < 0)
        return error_os(err, rc, "open %s", name);
    rc = env->ops->size(scan->file, &out->bytes);
    if (rc == 0)
        rc = out->bytes < SEGMENT_HEADER_BYTES
                 ? -ENODATA
                 : io_read(scan->store->pool, scan->file, scan->window, SEGMENT_HEADER_BYTES, 0);
    if (rc == 0)
        decoded = segment_header_decode(scan->window, &header);
    if (decoded == LOG_DECODE_OK && header.number == out->number && (out->salt == 0 || header.salt == out->salt)) {
        out->salt = header.salt;
        return VARVE_OK;
    }
    env->ops->close(scan->file);
    if (rc < 0 && rc != -ENODATA)
        return error_os(err, rc, "read %s", name);
    if (decoded == LOG_DECODE_NEWER)
        return error_set(err, VARVE_E_VERSION, "%s was written by a newer version of varve: upgrade", name);
    return VARVE_MISS;
}

/*
 * Cut the file behind the last extent and make what was found durable. The manifest calls the segment sealed only once its
 * intact pages are in a run: until then a crash leads back to here.
 */
static int
cut_scanned(struct scan *scan, struct state_segment *segment)
{
    struct env *env = scan->store->env;
    struct scanned *out = scan->out;
    uint64_t end = out->end < out->bytes ? out->end : out->bytes;
    int rc = end < out->bytes ? env->ops->truncate(scan->file, end) : 0;

    if (rc == 0)
        rc = env->ops->sync(scan->file);
    segment->bytes = end;
    out->unsealed = true;
    return rc;
}

/* Scan one segment of the state. A missing or empty one is dropped from it. */
static int
scan_segment(struct recovery *recovery, struct manifest_state *state, struct state_segment *segment, uint8_t *window,
             struct scanned *out, varve_error *err)
{
    struct scan scan = {.store = recovery->store, .out = out, .window = window, .near = true};
    uint64_t from = segment->indexed > SEGMENT_HEADER_BYTES ? segment->indexed : SEGMENT_HEADER_BYTES;
    struct manifest_item item = {.kind = MANIFEST_SEGMENT_DROP};
    char name[FORMAT_NAME_MAX];
    int rc;

    out->number = segment->number;
    out->salt = segment->salt;
    format_file_name(FORMAT_FILE_SEGMENT, segment->number, name);
    rc = scan_open(&scan, name, err);
    item.u.segment.number = segment->number;
    if (rc == VARVE_MISS) {
        COUNT(&recovery->store->counters, segments_missing, 1);
        return manifest_state_apply(state, &item);
    }
    if (rc != VARVE_OK)
        return rc;
    segment->salt = out->salt;
    rc = scan_extents(&scan, from);
    if (rc == 0 && !segment->sealed)
        rc = cut_scanned(&scan, segment);
    recovery->store->env->ops->close(scan.file);
    if (rc == -EPROTO)
        return error_set(err, VARVE_E_VERSION, "%s was written by a newer version of varve: upgrade", name);
    if (rc < 0)
        return error_os(err, rc, "recover %s", name);
    if (out->unsealed && out->end == SEGMENT_HEADER_BYTES) {
        out->unsealed = false; /* empty: made ahead, or filled by nothing that was completed. Its file is swept away. */
        return manifest_state_apply(state, &item);
    }
    return VARVE_OK;
}

/* Directory listing: which segments are there; those made after the manifest's last durable edit are taken in. */
struct adoption {
    struct manifest_state *state;
    uint64_t known; /* numbers from here on are newer than the manifest */
};

static int
adopt_segment(void *arg, const char *name)
{
    struct adoption *adoption = arg;
    struct manifest_item item = {.kind = MANIFEST_SEGMENT_ADD};
    struct state_segment *segment;
    uint64_t number;
    enum format_file_kind kind = format_parse_name(name, &number);

    if (kind == FORMAT_FILE_OTHER || kind == FORMAT_FILE_FIXED)
        return 0;
    if (number >= adoption->state->next_number)
        adoption->state->next_number = number + 1; /* numbers are never used again, whatever the file was */
    if (kind != FORMAT_FILE_SEGMENT)
        return 0;
    item.u.segment.number = number;
    if (number >= adoption->known && manifest_state_apply(adoption->state, &item) != VARVE_OK)
        return -ENOMEM;
    segment = manifest_state_segment(adoption->state, number);
    if (segment != NULL)
        segment->present = true;
    return 0;
}

/*
 * Leave out segments whose files are not there: dropped just before the power failed, when the unlink became durable and the edit
 * did not. (Or lost: what they held is then a miss.)
 */
static int
forget_missing(varve_store *store, struct manifest_state *state)
{
    struct manifest_item item = {.kind = MANIFEST_SEGMENT_DROP};
    int rc = VARVE_OK;

    for (size_t i = 0; i < state->segment_count && rc == VARVE_OK;) {
        if (state->segments[i].present) {
            i++;
            continue;
        }
        COUNT(&store->counters, segments_missing, 1);
        item.u.segment.number = state->segments[i].number;
        rc = manifest_state_apply(state, &item);
    }
    return rc;
}

static void
recovery_add_free(struct env *env, struct scanned *out)
{
    for (size_t i = 0; i < out->count; i++)
        env_free(env, out->found[i].header);
    env_free(env, out->found);
    *out = (struct scanned){.number = 0};
}

int
recovery_scan(varve_store *store, struct manifest_state *state, struct recovery **result, varve_error *err)
{
    struct adoption adoption = {.state = state, .known = state->next_number};
    struct env *env = store->env;
    struct recovery *recovery = env_zalloc(env, sizeof(*recovery));
    uint8_t *window = env->ops->alloc(env, WINDOW_BYTES, IO_ALIGN_MAX);
    int rc = env->ops->list(env, adopt_segment, &adoption);

    rc = rc < 0 ? error_os(err, rc, "list the directory") : forget_missing(store, state);
    if (rc == VARVE_OK && recovery != NULL)
        recovery->segments = env_zalloc(env, (state->segment_count + 1) * sizeof(recovery->segments[0]));
    if (rc == VARVE_OK && (recovery == NULL || window == NULL || recovery->segments == NULL))
        rc = error_set(err, VARVE_E_NOMEM, "out of memory");
    if (recovery != NULL)
        recovery->store = store;
    for (size_t i = 0; i < state->segment_count && rc == VARVE_OK;) {
        uint64_t number = state->segments[i].number;

        if (state->segments[i].sealed && state->segments[i].indexed >= state->segments[i].bytes) {
            i++;
            continue;
        }
        rc = scan_segment(recovery, state, &state->segments[i], window, &recovery->segments[recovery->count], err);
        recovery->count++;
        if (i < state->segment_count && state->segments[i].number == number)
            i++; /* else it was dropped from the state */
    }
    env_free(env, window);
    if (rc != VARVE_OK) {
        recovery_free(store, recovery);
        return rc;
    }
    *result = recovery;
    return VARVE_OK;
}

void
recovery_free(varve_store *store, struct recovery *recovery)
{
    if (recovery == NULL)
        return;
    for (size_t i = 0; recovery->segments != NULL && i < recovery->count; i++)
        recovery_add_free(store->env, &recovery->segments[i]);
    env_free(store->env, recovery->segments);
    env_free(store->env, recovery);
}

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

/* Directory listing: files of ours that the manifest does not know. */
struct sweep {
    varve_store *store;
    const struct manifest_state *state;
    uint64_t manifest_number;
    uint64_t swept;
};

static bool
sweep_keeps(const struct sweep *sweep, enum format_file_kind kind, uint64_t number)
{
    switch (kind) {
    case FORMAT_FILE_SEGMENT:
        return manifest_state_segment(sweep->state, number) != NULL;
    case FORMAT_FILE_RUN:
        for (size_t i = 0; i < sweep->state->run_count; i++) {
            if (sweep->state->runs[i].number == number)
                return true;
        }
        return false;
    case FORMAT_FILE_MANIFEST:
        return number == sweep->manifest_number;
    case FORMAT_FILE_OTHER:
    case FORMAT_FILE_FIXED:
        break;
    }
    return true;
}

static int
sweep_file(void *arg, const char *name)
{
    struct sweep *sweep = arg;
    uint64_t number;
    enum format_file_kind kind = format_parse_name(name, &number);

    if (sweep_keeps(sweep, kind, number))
        return 0;
    if (sweep->store->env->ops->unlink(sweep->store->env, name) == 0)
        sweep->swept++;
    return 0;
}

static void
sweep_with_state(void *arg, const struct manifest_state *state)
{
    struct sweep *sweep = arg;

    sweep->state = state;
    (void)sweep->store->env->ops->list(sweep->store->env, sweep_file, sweep); /* what stays is swept next time */
}

void
recovery_sweep(varve_store *store)
{
    struct sweep sweep = {.store = store, .manifest_number = manifest_number(store->manifest)};

    manifest_read_state(store->manifest, sweep_with_state, &sweep);
}
