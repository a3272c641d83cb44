/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing: the order in which the parts come to life, and go. */
#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "format/format.h"

#define SEGMENT_BYTES_MIN     ((uint64_t)256 << 10) /* of the default, not of the option */
#define SEGMENT_BYTES_DEFAULT ((uint64_t)256 << 20)
#define SEGMENTS_WANTED       64 /* in a full store, at least: the last segment is then under 2 % of it */
#define MEMTABLE_SHARE        16 /* a memtable takes at most this part of a small capacity */
#define MEMTABLE_BYTES_MIN    ((uint64_t)256 << 10)
#define MANIFEST_SHARE        64
#define MANIFEST_BYTES_MIN    ((uint64_t)64 << 10)
#define MANIFEST_BYTES_MAX    ((uint64_t)8 << 20)
#define FIXED_FILES_BYTES     ((uint64_t)64 << 10) /* LOCK, CURRENT, CURRENT.tmp, the directory itself */

int
store_writable(varve_store *store, varve_error *err)
{
    if (atomic_load_explicit(&store->read_only, memory_order_acquire))
        return error_set(err, VARVE_E_READONLY,
                         "an earlier sync failed, so the store takes no writes: check the disk, then reopen it");
    return VARVE_OK;
}

void
store_fail(varve_store *store)
{
    atomic_store_explicit(&store->read_only, true, memory_order_release);
}

int
store_commit(varve_store *store, const struct manifest_item *items, size_t count, bool sync, varve_error *err)
{
    int rc = store_writable(store, err);

    if (rc == VARVE_OK) {
        rc = manifest_commit(store->manifest, items, count, sync, err);
        if (rc != VARVE_OK && rc != VARVE_E_NOMEM)
            store_fail(store); /* the end of the manifest is unknown */
    }
    return rc;
}

/* What the log and the index ask of the store. */

static uint64_t
hook_new_file_number(void *arg)
{
    return manifest_new_number(((varve_store *)arg)->manifest);
}

static int
hook_space_take(void *arg, uint64_t bytes)
{
    return space_take(arg, bytes, NULL);
}

static int
hook_log_space_take(void *arg, uint64_t bytes, varve_error *err)
{
    return space_take(arg, bytes, err);
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

static int
hook_space_squeeze(void *arg, uint64_t bytes)
{
    varve_store *store = arg;
    uint64_t dropped = 0;
    int rc = VARVE_OK;

    while (rc == VARVE_OK && dropped < bytes) {
        rc = space_drop_segment(store, NULL);
        dropped += store->segment_bytes;
    }
    return dropped > store->segment_bytes ? VARVE_OK : rc;
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
hook_segment_created(void *arg)
{
    COUNT(&((varve_store *)arg)->counters, segments_created, 1);
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
        .size_ratio = (uint32_t)store->options.size_ratio,
        .runs_per_level = (uint32_t)store->options.runs_per_level,
        .runs_last_level = (uint32_t)store->options.runs_last_level,
        .fingerprint_bits = (uint32_t)store->options.fingerprint_bits,
    };

    return index_create(store->env, store->pool, &hooks, &settings, &store->index, err);
}

/*
 * Open the runs that the manifest names. If one is damaged or missing, the index is built anew from the log, which holds all that
 * the index knows: slow, and complete.
 */
static int
load_runs(varve_store *store, struct manifest_state *state, varve_error *err)
{
    int rc = open_index(store, err);

    for (size_t i = 0; i < state->run_count && rc == VARVE_OK; i++)
        rc = index_add_run(store->index, &state->runs[i], err);
    if (rc == VARVE_OK || rc == VARVE_E_NOMEM || rc == VARVE_E_VERSION || store->index == NULL)
        return rc;
    index_destroy(store->index);
    store->index = NULL;
    COUNT(&store->counters, recovered_runs_lost, state->run_count);
    state->run_count = 0;
    for (size_t i = 0; i < state->segment_count; i++)
        state->segments[i].indexed = 0;
    return open_index(store, err);
}

static int
open_log(varve_store *store, const struct manifest_state *state, varve_error *err)
{
    const struct log_hooks hooks = {
        .arg = store,
        .new_file_number = hook_new_file_number,
        .space_take = hook_log_space_take,
        .space_give_back = hook_space_give_back,
        .segment_gone = hook_segment_gone,
        .space_squeeze = hook_space_squeeze,
        .commit = hook_log_commit,
        .sync_failed = hook_sync_failed,
        .segment_created = hook_segment_created,
        .namespace_live = hook_namespace_live,
    };
    const struct log_settings settings = {
        .segment_bytes = store->segment_bytes,
        .open_files = (uint32_t)store->options.open_files,
        .align_shift = store->align_shift,
    };
    int rc = log_create(store->env, store->pool, &hooks, &settings, &store->log, err);

    for (size_t i = 0; i < state->segment_count && rc == VARVE_OK; i++) {
        rc = log_add_segment(store->log, &state->segments[i], err);
        space_count(store, state->segments[i].bytes + LOG_BLOCK_BYTES);
    }
    for (size_t i = 0; i < state->run_count; i++)
        space_count(store, state->runs[i].file_bytes);
    return rc;
}

struct directory_look {
    bool current; /* there is a CURRENT: a store */
    bool foreign; /* there is more than an interrupted creation leaves */
};

static int
look_at_name(void *arg, const char *name)
{
    struct directory_look *look = arg;
    uint64_t number;
    enum format_file_kind kind = format_parse_name(name, &number);

    if (strcmp(name, FORMAT_CURRENT_NAME) == 0)
        look->current = true;
    else if (kind != FORMAT_FILE_MANIFEST && kind != FORMAT_FILE_FIXED && strcmp(name, "lost+found") != 0)
        look->foreign = true;
    return 0;
}

/* Is this a store, or a directory to make one in? Asked before the lock, too: opening leaves no LOCK in what is neither. */
static int
check_directory(struct env *env, const varve_options *options, varve_error *err)
{
    struct directory_look look = {false, false};
    int rc = env->ops->list(env, look_at_name, &look);

    if (rc < 0)
        return error_os(err, rc, "list the directory");
    if (look.current)
        return VARVE_OK;
    if (look.foreign)
        return error_set(err, VARVE_E_NOSTORE,
                         "the directory holds other files and no store (no CURRENT): name an empty or a new one");
    if (!options->create)
        return error_set(err, VARVE_E_NOSTORE, "the directory holds no store, and the option create is off");
    return VARVE_OK;
}

/* Read the manifest, or make the state of an empty store. */
static int
load_manifest(varve_store *store, struct manifest_state *state, varve_error *err)
{
    struct manifest_header header;
    int rc = manifest_load(store->env, store->pool, state, &header, err);

    if (rc == VARVE_OK) {
        memcpy(store->store_id, header.store_id, sizeof(store->store_id));
        return VARVE_OK;
    }
    if (rc != VARVE_MISS)
        return rc;
    rc = check_directory(store->env, &store->options, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < sizeof(store->store_id); i += 8)
        wire_put64(store->store_id + i, store->env->ops->random(store->env));
    return VARVE_OK;
}

static uint64_t
clamp(uint64_t value, uint64_t low, uint64_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* Settle the options that depend on the disk or on each other. */
static int
settle_options(varve_store *store, const struct manifest_state *state, varve_error *err)
{
    struct varve_options *options = &store->options;
    uint64_t held = 0, available;
    int rc;

    for (size_t i = 0; i < state->segment_count; i++)
        held += state->segments[i].bytes;
    for (size_t i = 0; i < state->run_count; i++)
        held += state->runs[i].file_bytes;
    if (options->capacity == 0) {
        rc = store->env->ops->free_space(store->env, &available);
        if (rc < 0)
            return error_os(err, rc, "free space of the file system");
        options->capacity = clamp((available + held) / 10 * 9, (uint64_t)4 << 20, UINT64_MAX);
    }
    store->segment_bytes = options->segment_bytes;
    if (store->segment_bytes == 0)
        store->segment_bytes = clamp(options->capacity / SEGMENTS_WANTED, SEGMENT_BYTES_MIN, SEGMENT_BYTES_DEFAULT);
    store->segment_bytes = log_pad(store->segment_bytes, 12);
    options->memtable_bytes = clamp(options->memtable_bytes, MEMTABLE_BYTES_MIN,
                                    clamp(options->capacity / MEMTABLE_SHARE, MEMTABLE_BYTES_MIN, UINT64_MAX));
    options->io_bytes &= ~(uint64_t)(IO_ALIGN_MAX - 1);
    /* Half: a page must not push out everything else, nor stand in the way of the segment before it. */
    store->page_bytes_max = options->capacity / 2 > 2 * LOG_BLOCK_BYTES + SEGMENT_HEADER_BYTES
                                ? options->capacity / 2 - (uint64_t)2 * LOG_BLOCK_BYTES - SEGMENT_HEADER_BYTES
                                : 0;
    space_init(&store->space, options->capacity);
    return VARVE_OK;
}

static void
free_store(varve_store *store)
{
    struct env *env = store->env;

    if (store->index != NULL)
        index_destroy(store->index);
    log_destroy(store->log);
    manifest_destroy(store->manifest);
    namespaces_free(store);
    for (struct log_mark *next, *mark = store->marks; mark != NULL; mark = next) {
        next = mark->next;
        env_free(env, mark);
    }
    if (store->pool != NULL)
        io_queue_pool_destroy(store->pool);
    if (store->lock_file != NULL)
        env->ops->close(store->lock_file);
    if (store->space.capacity > 0)
        space_deinit(&store->space);
    cond_deinit(&store->background.progress);
    cond_deinit(&store->background.wake);
    mutex_deinit(&store->background.lock);
    mutex_deinit(&store->namespace_lock);
    mutex_deinit(&store->namespace_change);
    mutex_deinit(&store->write_lock);
    mutex_deinit(&store->slice_lock);
    env_free(env, store);
}

static varve_store *
create_store(struct env *env, const varve_options *options)
{
    varve_store *store = env_zalloc(env, sizeof(*store));

    if (store == NULL)
        return NULL;
    store->env = env;
    store->options = *options;
    store->next_branch = 1;
    mutex_init(&store->slice_lock);
    mutex_init(&store->write_lock);
    mutex_init(&store->namespace_change);
    mutex_init(&store->namespace_lock);
    mutex_init(&store->background.lock);
    cond_init(&store->background.wake);
    cond_init(&store->background.progress);
    while (1u << store->align_shift < env->io_align)
        store->align_shift++;
    return store;
}

/* Everything between the lock and the background thread. */
static int
bring_up(varve_store *store, varve_error *err)
{
    struct manifest_state state;
    struct recovery *recovery = NULL;
    uint64_t manifest_bytes;
    int rc;

    manifest_state_init(&state, store->env);
    rc = load_manifest(store, &state, err);
    if (rc == VARVE_OK)
        rc = settle_options(store, &state, err);
    if (rc == VARVE_OK) {
        store->next_branch = state.next_branch;
        manifest_bytes = clamp(store->options.capacity / MANIFEST_SHARE, MANIFEST_BYTES_MIN, MANIFEST_BYTES_MAX);
        space_count(store, FIXED_FILES_BYTES + manifest_bytes);
        rc = namespaces_load(store, &state, err);
    }
    if (rc == VARVE_OK)
        rc = load_runs(store, &state, err);
    if (rc == VARVE_OK)
        rc = recovery_scan(store, &state, &recovery, err);
    if (rc == VARVE_OK)
        rc = open_log(store, &state, err);
    if (rc == VARVE_OK) /* while it is rotated there are two: each gets less than half of the share */
        rc = manifest_create(store->env, store->pool, &state, store->store_id, manifest_bytes / 4,
                             &store->counters.manifest_bytes_written, &store->manifest, err);
    if (rc == VARVE_OK)
        rc = recovery_replay(recovery, err);
    if (rc == VARVE_OK)
        recovery_sweep(store);
    while (rc == VARVE_OK && space_used(store) > store->options.capacity)
        rc = space_drop_segment(store, err);
    recovery_free(store, recovery);
    manifest_state_deinit(&state);
    return rc == VARVE_MISS ? VARVE_OK : rc; /* nothing left to drop: puts will say so */
}

int
store_open(struct env *env, const varve_options *options, varve_store **out, varve_error *err)
{
    uint64_t began_ns = env->ops->now_ns(env);
    varve_store *store = create_store(env, options);
    int rc;

    if (store == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    rc = check_directory(env, options, err);
    if (rc == VARVE_OK) {
        rc = env->ops->lock(env, FORMAT_LOCK_NAME, &store->lock_file);
        if (rc == -EWOULDBLOCK)
            rc = error_set(err, VARVE_E_LOCKED, "the store is in use by another process: see the file LOCK in it");
        else if (rc < 0)
            rc = error_os(err, rc, "lock the store");
    }
    if (rc == VARVE_OK) {
        rc = io_queue_pool_create(env, &store->pool);
        if (rc < 0)
            rc = error_os(err, rc, "set up I/O");
    }
    if (rc == VARVE_OK)
        rc = bring_up(store, err);
    if (rc == VARVE_OK) {
        uint64_t now_ns = env->ops->now_ns(env);

        atomic_store_explicit(&store->last_sync_ns, now_ns, memory_order_relaxed);
        COUNT(&store->counters, open_time_us, (now_ns - began_ns) / 1000);
        rc = store_start_background(store, err);
    }
    if (rc != VARVE_OK) {
        free_store(store);
        return rc;
    }
    *out = store;
    return VARVE_OK;
}

void
store_abandon(varve_store *store)
{
    struct env *env = store->env;

    store_stop_background(store);
    free_store(store);
    env->ops->destroy(env);
}

/* Leave nothing to replay: all is sealed, in runs, and durable. */
static int
settle(varve_store *store, varve_error *err)
{
    int rc = store_writable(store, err);

    if (rc == VARVE_OK)
        rc = store_sync(store, err);
    if (rc == VARVE_OK)
        rc = space_drop_spare(store, err);
    log_close_open(store->log);
    while (rc == VARVE_OK)
        rc = log_seal(store->log, err);
    if (rc == VARVE_MISS) {
        mutex_lock(&store->write_lock);
        rc = store_rotate(store);
        mutex_unlock(&store->write_lock);
    }
    while (rc == VARVE_OK && index_frozen_count(store->index) > 0)
        rc = index_flush(store->index, err);
    if (rc == VARVE_OK || rc == VARVE_MISS)
        rc = manifest_sync(store->manifest, err);
    return rc;
}

int
varve_close(varve_store *store, varve_error *err)
{
    struct env *env;
    int rc;

    if (store == NULL)
        return VARVE_OK;
    env = store->env;
    store_stop_background(store);
    rc = settle(store, err);
    free_store(store);
    env->ops->destroy(env);
    return rc;
}
