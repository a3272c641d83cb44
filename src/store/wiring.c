/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wiring: the log and the index know neither the store nor each other. What they need of it (capacity, numbers, the manifest, who is
 * alive) they ask through hooks, and this is where the hooks end.
 */
#include <errno.h>

#include "base/error.h"
#include "store/recovery.h"

#define UNSEALED_PART  16u
#define UNSEALED_LEAST 16u

static uint64_t
hook_new_file_number(void *arg)
{
    return manifest_new_number(((varve_store *)arg)->manifest);
}

static int
hook_space_take(void *arg, uint64_t bytes)
{
    return space_take_for_index(arg, bytes, NULL);
}

static int
hook_log_space_take(void *arg, enum log_stream stream, uint64_t bytes, struct log_file *file, varve_error *err)
{
    return stream == LOG_NEW ? space_take_for_pages(arg, bytes, file, err)
                             : space_take_for_survivors(arg, bytes, file, err);
}

static void
hook_space_give_back(void *arg, uint64_t bytes)
{
    space_give_back(arg, bytes);
}

static void
hook_segment_gone(void *arg, uint64_t bytes)
{
    space_segment_gone(arg, bytes);
}

static bool
hook_file_kept(void *arg, const struct log_file *file)
{
    return space_keep_file(arg, file);
}

static void
hook_file_removed(void *arg, uint64_t bytes, int rc)
{
    space_file_removed(arg, bytes, rc);
}

static int
hook_space_squeeze(void *arg, enum log_stream stream, uint64_t bytes)
{
    /* For survivors reclaim is what asks: it drops its victim instead. */
    return space_squeeze(arg, stream == LOG_NEW ? bytes : 0);
}

static int
hook_log_commit(void *arg, const struct manifest_item *items, size_t count, bool sync, varve_error *err)
{
    return store_commit(arg, items, count, sync, err);
}

static void
hook_sync_failed(void *arg)
{
    store_fail(arg);
}

static void
hook_segment_created(void *arg, struct segment *segment, enum log_stream stream)
{
    varve_store *store = arg;

    COUNT(&store->counters, segments_created, 1);
    COUNT(&store->counters, segments_recycled, segment->recycled);
    if (segment->recycled)
        space_file_removed(store, 0, 0); /* a file could be renamed */
    recency_segment_begin(store, segment);
    if (stream == LOG_NEW)
        recency_note_segment(store, segment->bytes);
}

static void
hook_segment_sealed(void *arg, struct segment *segment)
{
    recency_segment_trim(arg, segment);
}

static bool
hook_namespace_live(void *arg, uint32_t ns_id)
{
    return namespace_live(arg, ns_id);
}

static enum segment_state
hook_segment_state(void *arg, uint64_t segment)
{
    return log_segment_state(((varve_store *)arg)->log, segment);
}

static bool
hook_page_removed(void *arg, uint64_t segment, uint64_t offset, const uint8_t id_prefix[ID_PREFIX_BYTES])
{
    return log_page_removed(((varve_store *)arg)->log, segment, offset, id_prefix);
}

static void
forget_mark(varve_store *store, struct log_mark *mark)
{
    mutex_lock(&store->write_lock);
    for (struct log_mark **link = &store->marks; *link != NULL; link = &(*link)->next) {
        if (*link == mark) {
            *link = mark->next;
            break;
        }
    }
    mutex_unlock(&store->write_lock);
    env_free(store->env, mark);
}

/* The edit of a flush or a merge: counters, runs, and how far a flush covers the log. */
static int
hook_index_commit(void *arg, const struct index_edit *edit, varve_error *err)
{
    varve_store *store = arg;
    struct log_mark *mark = edit->flush_mark;
    size_t capacity = 2 + edit->removed_count + (mark == NULL ? 0 : mark->count), count = 1;
    struct manifest_item *items = env_zalloc(store->env, capacity * sizeof(items[0]));
    int rc;

    if (items == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    items[0].kind = MANIFEST_COUNTERS;
    mutex_lock(&store->write_lock);
    items[0].u.counters.next_branch = store->next_branch;
    mutex_unlock(&store->write_lock);
    if (edit->added != NULL) {
        items[count].kind = MANIFEST_RUN_ADD;
        items[count++].u.run = *edit->added;
    }
    for (size_t i = 0; i < edit->removed_count; i++) {
        items[count].kind = MANIFEST_RUN_REMOVE;
        items[count++].u.run.number = edit->removed[i];
    }
    for (size_t i = 0; mark != NULL && i < mark->count; i++) {
        items[count].kind = MANIFEST_SEGMENT_INDEXED;
        items[count].u.segment.number = mark->at[i].segment;
        items[count++].u.segment.offset = mark->at[i].offset;
    }
    rc = store_commit(store, items, count, true, err);
    env_free(store->env, items);
    if (rc == VARVE_OK && mark != NULL) {
        log_mark_indexed(store->log, mark);
        forget_mark(store, mark);
    }
    return rc;
}

static int
open_index(varve_store *store, varve_error *err)
{
    const struct index_hooks hooks = {
        .arg = store,
        .segment_state = hook_segment_state,
        .page_removed = hook_page_removed,
        .namespace_live = hook_namespace_live,
        .new_file_number = hook_new_file_number,
        .space_take = hook_space_take,
        .space_give_back = hook_space_give_back,
        .commit = hook_index_commit,
    };
    const struct index_settings settings = {
        .memtable_bytes = store->options.memtable_bytes,
        .block_cache_bytes = store->options.block_cache_bytes,
        .block_cache_bytes_max = control_memory(&store->options),
        .size_ratio = (uint32_t)store->options.size_ratio,
        .runs_per_level = (uint32_t)store->options.runs_per_level,
        .runs_last_level = (uint32_t)store->options.runs_last_level,
        .fingerprint_bits = (uint32_t)store->options.fingerprint_bits,
    };

    return index_create(store->env, store->pool, &hooks, &settings, &store->index, err);
}

/* Is a run that could not be opened lost? Else it is the process that lacks something (memory, files, permission, a newer version). */
static bool
run_is_lost(int rc, int os_errno)
{
    return rc == VARVE_E_CORRUPT || (rc == VARVE_E_IO && os_errno != EMFILE && os_errno != ENFILE);
}

/* Open one run of the manifest, asking a device that fails more than once. Why it is lost, if it is, goes to the counters only. */
static int
load_run(varve_store *store, const struct run_meta *meta, varve_error *failure)
{
    bool unread = true;
    int rc = VARVE_E_IO;

    for (int tries = 0; tries < RECOVERY_TRIES && rc == VARVE_E_IO && unread; tries++) {
        rc = index_add_run(store->index, meta, failure);
        unread = rc == VARVE_E_IO && failure->os_errno != ENOENT;
    }
    if (rc != VARVE_OK && run_is_lost(rc, failure->os_errno)) {
        COUNT(&store->counters, recovered_runs_lost, !unread);
        COUNT(&store->counters, recovered_runs_unread, unread);
        return VARVE_MISS;
    }
    return rc;
}

/*
 * Open the runs that the manifest names. If one is lost, the index is built anew from the log, which holds all that the index knows:
 * slow, and complete.
 */
int
store_load_runs(varve_store *store, struct manifest_state *state, varve_error *err)
{
    varve_error failure = {.code = VARVE_OK};
    int rc = open_index(store, err);

    for (size_t i = 0; i < state->run_count && rc == VARVE_OK; i++) {
        rc = load_run(store, &state->runs[i], &failure);
        if (rc < 0 && err != NULL)
            *err = failure;
    }
    if (rc != VARVE_MISS)
        return rc;
    index_destroy(store->index);
    store->index = NULL;
    state->run_count = 0;
    for (size_t i = 0; i < state->segment_count; i++)
        state->segments[i].indexed = 0;
    return open_index(store, err);
}

/* Many, so that a large batch need not wait for seals, but no more than a small part of all segments. */
static uint32_t
unsealed_max(const varve_store *store)
{
    uint64_t most = store->options.capacity / store->segment_bytes / UNSEALED_PART;

    return most < UNSEALED_LEAST ? UNSEALED_LEAST : most < LOG_UNSEALED_MAX ? (uint32_t)most : LOG_UNSEALED_MAX;
}

int
store_open_log(varve_store *store, const struct manifest_state *state, varve_error *err)
{
    const struct log_hooks hooks = {
        .arg = store,
        .new_file_number = hook_new_file_number,
        .space_take = hook_log_space_take,
        .space_give_back = hook_space_give_back,
        .file_kept = hook_file_kept,
        .segment_gone = hook_segment_gone,
        .file_removed = hook_file_removed,
        .space_squeeze = hook_space_squeeze,
        .commit = hook_log_commit,
        .sync_failed = hook_sync_failed,
        .segment_created = hook_segment_created,
        .segment_sealed = hook_segment_sealed,
        .namespace_live = hook_namespace_live,
    };
    const struct log_settings settings = {
        .segment_bytes = store->segment_bytes,
        .open_files = (uint32_t)store->options.open_files,
        .unsealed_max = unsealed_max(store),
        .align_shift = store->align_shift,
        .shared = store->env->share != NULL && recovery_was_shared(store->env),
        .stray = store->writers_left,
    };
    int rc = log_create(store->env, store->pool, &hooks, &settings, &store->log, err);

    for (size_t i = 0; i < state->segment_count && rc == VARVE_OK; i++) {
        rc = log_add_segment(store->log, &state->segments[i], err);
        if (rc == VARVE_OK)
            recency_expect(store, state->segments[i].number);
        space_count(store, state->segments[i].bytes + LOG_BLOCK_BYTES);
    }
    for (size_t i = 0; i < state->run_count; i++)
        space_count(store, state->runs[i].file_bytes);
    return rc;
}
