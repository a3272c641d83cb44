/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing: the order in which the parts come to life, and go. */
#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "format/format.h"
#include "store/calls.h"

#define SEGMENT_BYTES_MIN     ((uint64_t)256 << 10) /* of the default, not of the option */
#define SEGMENT_BYTES_CHEAP   ((uint64_t)8 << 20)
#define SEGMENT_BYTES_DEFAULT ((uint64_t)256 << 20)
#define SEGMENTS_LEAST        256
#define MEMTABLE_SHARE        16 /* a memtable takes at most this part of a small capacity */
#define MEMTABLE_BYTES_MIN    ((uint64_t)128 << 10)
#define MANIFEST_SHARE        64
#define MANIFEST_PART         4 /* of the share: the next one is begun at that size */
#define MANIFEST_BYTES_MIN    ((uint64_t)64 << 10)
#define MANIFEST_BYTES_MAX    ((uint64_t)8 << 20)
#define FIXED_FILES_BYTES                                                                                              \
    ((uint64_t)104 << 10) /* LOCK, CURRENT and CONTROL, the last two twice; the directory itself */

int
store_writable(varve_store *store, varve_error *err)
{
    if (atomic_load_explicit(&store->read_only, memory_order_acquire))
        return error_set(
            err, VARVE_E_READONLY,
            "an earlier sync or unlink failed, so the store takes no writes: check the disk, then reopen it");
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
int
store_check_directory(struct env *env, const varve_options *options, varve_error *err)
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
    rc = store_check_directory(store->env, &store->options, err);
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

static uint64_t
default_capacity(uint64_t available)
{
    return clamp(available / 10 * 9, (uint64_t)4 << 20, UINT64_MAX);
}

/* A new segment costs three syncs: small stores have fewer segments than reclaim would like, so that puts are not made of syncs. */
static uint64_t
segment_bytes_least(uint64_t capacity)
{
    return clamp(capacity / SEGMENTS_LEAST, SEGMENT_BYTES_MIN, SEGMENT_BYTES_CHEAP);
}

/* What follows from the capacity. */
static void
settle_capacity(varve_store *store)
{
    const struct varve_options *options = &store->options;
    uint64_t segment_bytes = options->segment_bytes;

    if (segment_bytes == 0)
        segment_bytes =
            clamp(options->capacity / RECLAIM_SEGMENTS, segment_bytes_least(options->capacity), SEGMENT_BYTES_DEFAULT);
    store->segment_bytes = log_pad(segment_bytes, 12);
    /* Half: a page must not push out everything else, nor stand in the way of the segment before it. */
    store->page_bytes_max = options->capacity / 2 > 2 * LOG_BLOCK_BYTES + SEGMENT_HEADER_BYTES
                                ? options->capacity / 2 - (uint64_t)2 * LOG_BLOCK_BYTES - SEGMENT_HEADER_BYTES
                                : 0;
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
        options->capacity = default_capacity(available + held);
    }
    settle_capacity(store);
    options->memtable_bytes = clamp(options->memtable_bytes, MEMTABLE_BYTES_MIN,
                                    clamp(options->capacity / MEMTABLE_SHARE, MEMTABLE_BYTES_MIN, UINT64_MAX));
    space_init(&store->space, options->capacity);
    return VARVE_OK;
}

int
store_apply_options(varve_store *store, varve_error *err)
{
    struct varve_options *options = &store->options;
    uint64_t available;
    int rc;

    control_configure(store);
    if (options->capacity == space_capacity(store)) {
        admission_set(store, options_rate(options->write_budget, options->capacity));
        return VARVE_OK;
    }
    if (options->capacity == 0) {
        rc = store->env->ops->free_space(store->env, &available);
        if (rc < 0) {
            options->capacity = space_capacity(store);
            return error_os(err, rc, "free space of the file system");
        }
        options->capacity = default_capacity(available + space_used(store));
    }
    settle_capacity(store);
    log_set_segment_bytes(store->log, store->segment_bytes);
    space_set_capacity(store, options->capacity);
    admission_set(store, options_rate(options->write_budget, options->capacity));
    return VARVE_OK;
}

int
store_option_set(varve_store *store, const char *name, const char *value, varve_error *err)
{
    const varve_option_desc *desc = NULL;
    int rc;

    for (size_t i = 0; (desc = varve_option_describe(i)) != NULL && strcmp(desc->name, name) != 0;)
        i++;
    if (desc != NULL && !desc->live)
        return error_set(err, VARVE_E_ARG, "option %s can only be set when the store is opened", name);
    mutex_lock(&store->background.lock);
    rc = varve_options_set(&store->options, name, value, err);
    if (rc == VARVE_OK)
        rc = store_apply_options(store, err);
    mutex_unlock(&store->background.lock);
    if (rc == VARVE_OK && strcmp(name, "capacity") == 0)
        store_capacity_changed(store);
    if (rc == VARVE_OK)
        store_wake_background(store);
    return rc;
}

/* While it is rotated there are two: each gets less than half of the share. */
static uint64_t
manifest_share(uint64_t capacity)
{
    return clamp(capacity / MANIFEST_SHARE, MANIFEST_BYTES_MIN, MANIFEST_BYTES_MAX);
}

int
store_fit_manifest(varve_store *store, varve_error *err)
{
    uint64_t share = manifest_share(space_capacity(store)), before = store->manifest_share;
    uint64_t more = share > before ? share - before : 0;
    int rc;

    if (share == before || (more > 0 && space_take_if_free(store, more) != VARVE_OK))
        return VARVE_MISS;
    rc = manifest_resize(store->manifest, share / MANIFEST_PART, err);
    if (rc != VARVE_OK) {
        space_give_back(store, more);
        return rc;
    }
    space_give_back(store, before + more - share);
    store->manifest_share = share;
    return VARVE_OK;
}

void
store_capacity_changed(varve_store *store)
{
    space_fit_kept(store);
    mutex_lock(&store->slice_lock);
    if (store_writable(store, NULL) == VARVE_OK)
        (void)store_fit_manifest(store, NULL);
    mutex_unlock(&store->slice_lock);
}

/* What only an owner has. */
static void
free_owned(varve_store *store)
{
    struct env *env = store->env;

    if (store->reclaim_job != NULL)
        reclaim_abandon(store);
    control_deinit(store);
    if (store->index != NULL)
        index_destroy(store->index);
    recency_deinit(store);
    log_destroy(store->log);
    manifest_destroy(store->manifest);
    for (struct log_mark *next, *mark = store->marks; mark != NULL; mark = next) {
        next = mark->next;
        env_free(env, mark);
    }
    if (store->lock_file != NULL)
        env->ops->close(store->lock_file);
    if (store->space.capacity > 0)
        space_deinit(&store->space);
    store->recency.heat = NULL;
    store->recency.judge = NULL;
    store->index = NULL;
    store->log = NULL;
    store->manifest = NULL;
    store->marks = NULL;
    store->lock_file = NULL;
    memset(&store->space, 0, sizeof(store->space));
}

void
store_destroy(varve_store *store)
{
    struct env *env = store->env;

    free_owned(store);
    namespaces_free(store);
    if (store->pool != NULL)
        io_queue_pool_destroy(store->pool);
    coding_deinit(&store->coding);
    buffers_deinit(&store->bounce_memory);
    cond_deinit(&store->background.progress);
    cond_deinit(&store->background.wake);
    mutex_deinit(&store->background.lock);
    mutex_deinit(&store->namespace_lock);
    mutex_deinit(&store->namespace_change);
    mutex_deinit(&store->write_lock);
    mutex_deinit(&store->moves_lock);
    mutex_deinit(&store->admission.lock);
    mutex_deinit(&store->reclaim_lock);
    mutex_deinit(&store->recency.lock);
    mutex_deinit(&store->control.lock);
    mutex_deinit(&store->slice_lock);
    env_free(env, store);
}

varve_store *
store_create(struct env *env, const varve_options *options)
{
    varve_store *store = env_zalloc(env, sizeof(*store));

    if (store == NULL)
        return NULL;
    store->env = env;
    store->options = *options;
    store->options.io_bytes &= ~(uint64_t)(IO_ALIGN_MAX - 1);
    store->next_branch = 1;
    mutex_init(&store->slice_lock);
    mutex_init(&store->control.lock);
    mutex_init(&store->recency.lock);
    mutex_init(&store->reclaim_lock);
    mutex_init(&store->moves_lock);
    mutex_init(&store->admission.lock);
    mutex_init(&store->write_lock);
    mutex_init(&store->namespace_change);
    mutex_init(&store->namespace_lock);
    mutex_init(&store->background.lock);
    buffers_init(&store->bounce_memory, env, BOUNCE_ALIGN);
    coding_init(&store->coding, env, (uint32_t)options->codec_threads);
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
    size_t segments;
    int rc;

    if (err != NULL)
        *err = (varve_error){.code = VARVE_OK};
    manifest_state_init(&state, store->env);
    rc = load_manifest(store, &state, err);
    if (rc == VARVE_OK)
        rc = settle_options(store, &state, err);
    if (rc == VARVE_OK)
        rc = recency_init(store, err);
    if (rc == VARVE_OK) {
        store->next_branch = state.next_branch;
        store->manifest_share = manifest_share(store->options.capacity);
        space_count(store, FIXED_FILES_BYTES + store->manifest_share);
        rc = namespaces_load(store, &state, err);
    }
    if (rc == VARVE_OK)
        rc = store_load_runs(store, &state, err);
    if (rc == VARVE_OK)
        rc = recovery_scan(store, &state, &recovery, err);
    if (rc == VARVE_OK)
        rc = store_open_log(store, &state, err);
    segments = state.segment_count;
    if (rc == VARVE_OK)
        rc = manifest_create(store->env, store->pool, &state, store->store_id, store->manifest_share / MANIFEST_PART,
                             &store->counters.manifest_bytes_written, &store->manifest, err);
    if (rc == VARVE_OK) {
        recovery_sweep(store); /* before the replay writes runs: what is swept is not counted */
        recency_restore(store);
        control_load(store);
        recency_begin_life(store);                          /* the replay may have to reclaim */
        space_set_capacity(store, store->options.capacity); /* there may be more than that */
        rc = recovery_replay(recovery, err);
        store->recency.missing = store->recency.restored < segments || store->counters.recovered_extents > 0;
        recency_load_small(store);
    }
    while (rc == VARVE_OK && space_used(store) > store->options.capacity)
        rc = reclaim_work(store, err);
    if (rc >= VARVE_OK && err != NULL)
        *err = (varve_error){.code = VARVE_OK}; /* of copies that found no room, or were worth nothing */
    recovery_free(store, recovery);
    manifest_state_deinit(&state);
    return rc == VARVE_MISS ? VARVE_OK : error_settle(err, rc); /* nothing left to drop: puts will say so */
}

int
store_own(varve_store *store, struct env_file *lock_file, varve_error *err)
{
    struct env *env = store->env;
    uint64_t began_ns = env->ops->now_ns(env), now_ns;
    int rc = 0;

    store->lock_file = lock_file;
    if (store->pool == NULL)
        rc = io_queue_pool_create(env, &store->pool);
    if (rc < 0)
        rc = error_os(err, rc, "set up I/O");
    if (rc == VARVE_OK)
        rc = bring_up(store, err);
    if (rc == VARVE_OK) {
        now_ns = env->ops->now_ns(env);
        atomic_store_explicit(&store->last_sync_ns, now_ns, memory_order_relaxed);
        COUNT(&store->counters, open_time_us, (now_ns - began_ns) / 1000);
        admission_set(store, options_rate(store->options.write_budget, store->options.capacity));
        rc = control_init(store, err);
    }
    if (rc == VARVE_OK)
        rc = store_start_background(store, err);
    if (rc != VARVE_OK)
        free_owned(store);
    return rc;
}

int
store_open(struct env *env, const varve_options *options, varve_store **out, varve_error *err)
{
    varve_store *store = store_create(env, options);
    struct env_file *lock_file;
    int rc;

    if (store == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    rc = store_check_directory(env, options, err);
    if (rc == VARVE_OK) {
        rc = env->ops->lock(env, FORMAT_LOCK_NAME, &lock_file);
        if (rc == -EWOULDBLOCK)
            rc = error_set(err, VARVE_E_LOCKED, "the store is in use by another process: see the file LOCK in it");
        else if (rc < 0)
            rc = error_os(err, rc, "lock the store");
    }
    if (rc == VARVE_OK)
        rc = store_own(store, lock_file, err);
    if (rc != VARVE_OK) {
        store_destroy(store);
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
    store_destroy(store);
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
    if (rc == VARVE_OK)
        (void)recency_save(store, NULL); /* losing it is harmless */
    if (rc == VARVE_OK && store->control.saved != store->control.logged)
        (void)control_save(store, NULL); /* and this */
    while (space_remove_kept(store))
        continue;
    return error_settle(err, rc);
}

int
store_finish(varve_store *store, varve_error *err)
{
    struct env *env = store->env;
    int rc;

    store_stop_background(store);
    reclaim_abandon(store);
    rc = settle(store, err);
    store_destroy(store);
    env->ops->destroy(env);
    return rc;
}
