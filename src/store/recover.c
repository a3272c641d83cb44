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
#include "log/extent_scan.h"
#include "store/recovery.h"

/* More file numbers than are given out between two edits of a manifest, and than there are edits in one. */
#define NUMBERS_AHEAD_MAX ((uint64_t)1 << 32)

/* The scan of one segment, while it runs. */
struct scan {
    varve_store *store;
    struct extent_scan *extents;
    struct env_file *file;
    struct scanned *out;
};

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
    memcpy(found->header, extent_scan_encoded(header), header->header_bytes);
    out->count++;
    return 0;
}

/* Find all valid extents from `from` on. 0, -EPROTO (a newer version) or -errno. */
static int
scan_extents(struct scan *scan, uint64_t from)
{
    struct scanned *out = scan->out;
    struct extent_header header;
    int rc;

    out->end = from;
    extent_scan_begin(scan->extents, scan->file, out->salt, from, out->bytes);
    while ((rc = extent_scan_next(scan->extents, &header)) > 0) {
        rc = scan_add(scan, &header);
        if (rc < 0)
            return rc;
        if (header.synced_offset > out->synced)
            out->synced = header.synced_offset;
        out->end = header.offset + header.extent_bytes;
    }
    return rc;
}

/* Open the segment's file and check its header. VARVE_MISS: there is none, or it is none. */
static int
scan_open(struct scan *scan, const char *name, varve_error *err)
{
    struct env *env = scan->store->env;
    struct scanned *out = scan->out;
    struct segment_header header;
    enum log_decode decoded = LOG_DECODE_BAD;
    uint8_t *buf = env->ops->alloc(env, SEGMENT_HEADER_BYTES, IO_ALIGN_MAX);
    int rc = buf == NULL ? -ENOMEM : env->ops->open(env, name, ENV_OPEN_DIRECT, &scan->file);

    if (rc < 0) {
        env_free(env, buf);
        return rc == -ENOENT ? VARVE_MISS : error_os(err, rc, "open %s", name);
    }
    rc = env->ops->size(scan->file, &out->bytes);
    if (rc == 0)
        rc = out->bytes < SEGMENT_HEADER_BYTES ? -ENODATA
                                               : io_read(scan->store->pool, scan->file, buf, SEGMENT_HEADER_BYTES, 0);
    if (rc == 0)
        decoded = segment_header_decode(buf, &header);
    env_free(env, buf);
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
scan_segment(struct recovery *recovery, struct manifest_state *state, struct state_segment *segment,
             struct extent_scan *extents, struct scanned *out, varve_error *err)
{
    struct scan scan = {.store = recovery->store, .extents = extents, .out = out};
    uint64_t from = log_pad(segment->indexed > SEGMENT_HEADER_BYTES ? segment->indexed : SEGMENT_HEADER_BYTES, 12);
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
    struct env *env;
    struct manifest_state *state;
    uint64_t known; /* numbers from here on are newer than the manifest */
    bool shared;    /* there were several processes */
};

/*
 * A segment that another process had open is cut to nothing when it is dropped. The power may have failed when that was durable, and neither the unlink nor the edit
 * was: then it is as good as missing.
 */
static bool
is_emptied(struct env *env, const char *name)
{
    uint64_t bytes = 1;
    struct env_file *file;

    if (env->ops->open(env, name, ENV_OPEN_READ, &file) < 0)
        return false;
    if (env->ops->size(file, &bytes) < 0)
        bytes = 1;
    env->ops->close(file);
    return bytes == 0;
}

bool
recovery_was_shared(struct env *env)
{
    struct env_file *file;
    int rc = env->ops->open(env, FORMAT_WRITERS_NAME, ENV_OPEN_READ, &file);

    if (rc == 0)
        env->ops->close(file);
    return rc != -ENOENT;
}

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
    if (number >= adoption->known && number - adoption->known >= NUMBERS_AHEAD_MAX)
        return 0; /* never given out */
    if (number >= adoption->state->next_number)
        adoption->state->next_number = number + 1; /* numbers are never used again, whatever the file was */
    if (kind != FORMAT_FILE_SEGMENT)
        return 0;
    item.u.segment.number = number;
    if (number >= adoption->known && manifest_state_apply(adoption->state, &item) != VARVE_OK)
        return -ENOMEM;
    segment = manifest_state_segment(adoption->state, number);
    if (segment != NULL)
        segment->present = !adoption->shared || !is_emptied(adoption->env, name);
    return 0;
}

/*
 * Leave out segments whose files are not there: dropped just before the power failed, when the unlink became durable and the edit
 * did not. (Or lost: what they held is then a miss.)
 */
static void
forget_missing(varve_store *store, struct manifest_state *state)
{
    struct manifest_item item = {.kind = MANIFEST_SEGMENT_DROP};
    int rc;

    for (size_t i = 0; i < state->segment_count;) {
        if (state->segments[i].present) {
            i++;
            continue;
        }
        COUNT(&store->counters, segments_missing, 1);
        item.u.segment.number = state->segments[i].number;
        rc = manifest_state_apply(state, &item);
        assert(rc == VARVE_OK); /* it is there */
        (void)rc;
    }
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
    struct env *env = store->env;
    struct adoption adoption = {
        .env = env, .state = state, .known = state->next_number, .shared = recovery_was_shared(env)};
    struct recovery *recovery = env_zalloc(env, sizeof(*recovery));
    struct extent_scan *extents = extent_scan_create(env, store->pool);
    int rc = env->ops->list(env, adopt_segment, &adoption);

    if (rc < 0)
        rc = error_os(err, rc, "list the directory");
    else
        forget_missing(store, state);
    if (recovery != NULL) {
        recovery->store = store;
        recovery->segments = env_zalloc(env, (state->segment_count + 1) * sizeof(recovery->segments[0]));
    }
    if (rc == VARVE_OK && (recovery == NULL || extents == NULL || recovery->segments == NULL))
        rc = error_set(err, VARVE_E_NOMEM, "out of memory");
    for (size_t i = 0; i < state->segment_count && rc == VARVE_OK;) {
        uint64_t number = state->segments[i].number;

        if (state->segments[i].sealed && state->segments[i].indexed >= state->segments[i].bytes) {
            i++;
            continue;
        }
        rc = scan_segment(recovery, state, &state->segments[i], extents, &recovery->segments[recovery->count], err);
        recovery->count++;
        if (i < state->segment_count && state->segments[i].number == number)
            i++; /* else it was dropped from the state */
    }
    extent_scan_destroy(extents);
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
