/* SPDX-License-Identifier: Apache-2.0 */
/*
 * varve's log without its tree: one append-only, preallocated file, written and read as varve does (direct I/O through the same queues, a batch in flight,
 * neighbours in one transfer, checksums while others are in flight), under a hash table in memory. The honest alternative: all that it does not have is an
 * index on disk. That is written as a whole by a sync and read as a whole by an open.
 *
 * The index is saved after the log was synced, so what it says lies on disk. Pages put after the last save are lost with the process. There is no reclaim: a
 * full log takes nothing more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/lock.h"
#include "codec/iov_cursor.h"
#include "engines/engines.h"
#include "engines/hash_index.h"
#include "engines/hashlog_io.h"
#include "env/io.h"

#define LOG_FILE       "pages.log"
#define INDEX_FILE     "pages.index"
#define TEMPORARY_FILE "pages.index.tmp"
#define LOG_STEP_BYTES ((uint64_t)256 << 20) /* reserved at a time */
#define LOOK_AHEAD     12                    /* lookups whose cache misses overlap */
#define IO_THREADS     32

struct engine {
    struct env *env;
    struct env_file *log;
    struct io_queue_pool *queues;
    uint64_t capacity;

    pthread_rwlock_t index_lock; /* guards index */
    struct hash_index index;

    struct mutex log_lock; /* guards the next two */
    uint64_t log_end;
    uint64_t log_reserved;

    struct mutex save_lock; /* one save at a time; guards the next */
    size_t saved_count;
};

static int
read_index_file(struct engine *engine, struct env_file *file, varve_error *err)
{
    uint8_t *image = NULL;
    uint64_t size;
    int rc = engine->env->ops->size(file, &size);

    if (rc == 0) {
        image = malloc((size_t)size + 1);
        rc = image == NULL ? -ENOMEM : io_read(engine->queues, file, image, (size_t)size, 0);
    }
    if (rc < 0)
        rc = error_os(err, rc, "read " INDEX_FILE);
    else {
        rc = hash_index_load(&engine->index, image, (size_t)size, &engine->log_end);
        if (rc < 0)
            rc = error_set(err, rc, INDEX_FILE " cannot be loaded: remove the directory");
        engine->saved_count = engine->index.count;
    }
    free(image);
    return rc;
}

static int
load_index(struct engine *engine, varve_error *err)
{
    struct env_file *file;
    int rc = engine->env->ops->open(engine->env, INDEX_FILE, ENV_OPEN_READ, &file);

    if (rc == -ENOENT)
        return VARVE_OK;
    if (rc < 0)
        return error_os(err, rc, "open " INDEX_FILE);
    rc = read_index_file(engine, file, err);
    engine->env->ops->close(file);
    return rc;
}

static int
open_log(struct engine *engine, varve_error *err)
{
    const struct env_ops *ops = engine->env->ops;
    int rc = ops->open(engine->env, LOG_FILE, ENV_OPEN_CREATE | ENV_OPEN_DIRECT, &engine->log);

    if (rc == -EEXIST)
        rc = ops->open(engine->env, LOG_FILE, ENV_OPEN_DIRECT, &engine->log);
    if (rc == 0)
        rc = ops->size(engine->log, &engine->log_reserved);
    if (rc == 0)
        rc = io_queue_pool_create(engine->env, &engine->queues);
    return rc < 0 ? error_os(err, rc, "open " LOG_FILE) : VARVE_OK;
}

static void
destroy(struct engine *engine)
{
    io_queue_pool_destroy(engine->queues);
    if (engine->log != NULL)
        engine->env->ops->close(engine->log);
    if (engine->env != NULL)
        engine->env->ops->destroy(engine->env);
    hash_index_deinit(&engine->index);
    mutex_deinit(&engine->save_lock);
    mutex_deinit(&engine->log_lock);
    lock_must(pthread_rwlock_destroy(&engine->index_lock));
    free(engine);
}

static int
engine_open(const struct engine_settings *settings, struct engine **out, varve_error *err)
{
    const struct env_settings env_settings = {
        .io_engine = settings->io_engine == NULL ? "auto" : settings->io_engine,
        .direct_io = "auto",
        .queue_depth = settings->batch == 0 ? 128 : (uint32_t)settings->batch,
        .io_threads = IO_THREADS,
        .create_dir = true,
    };
    struct engine *engine = calloc(1, sizeof(*engine));
    int rc;

    if (engine == NULL)
        return error_set(err, VARVE_E_NOMEM, "no memory for an engine");
    engine->capacity = settings->capacity;
    engine->log_end = IO_ALIGN_MAX; /* an offset is never 0 */
    lock_must(pthread_rwlock_init(&engine->index_lock, NULL));
    mutex_init(&engine->log_lock);
    mutex_init(&engine->save_lock);
    rc = hash_index_init(&engine->index);
    if (rc < 0)
        rc = error_set(err, rc, "no memory for an index");
    if (rc == VARVE_OK)
        rc = env_open_posix(settings->path, &env_settings, &engine->env, err);
    if (rc == VARVE_OK)
        rc = open_log(engine, err);
    if (rc == VARVE_OK)
        rc = load_index(engine, err);
    if (rc < 0)
        destroy(engine);
    else
        *out = engine;
    return rc;
}

/* The next `size` bytes of the log. 0 or -errno. */
static int
take_room(struct engine *engine, uint64_t size, uint64_t *offset)
{
    uint64_t end, wanted;
    int rc = 0;

    mutex_lock(&engine->log_lock);
    *offset = engine->log_end;
    end = engine->log_end + size;
    if (end > engine->capacity)
        rc = -ENOSPC;
    else if (end > engine->log_reserved) {
        wanted = (end / LOG_STEP_BYTES + 1) * LOG_STEP_BYTES;
        wanted = wanted < engine->capacity ? wanted : engine->capacity;
        rc = engine->env->ops->preallocate(engine->log, wanted);
        if (rc == 0)
            engine->log_reserved = wanted;
    }
    if (rc == 0)
        engine->log_end = end;
    mutex_unlock(&engine->log_lock);
    return rc;
}

/* Which pages are new, and where they go: one after the other. */
static void
place_pages(struct engine *engine, struct hashlog_call *call)
{
    uint64_t total = 0;
    uint64_t offset;
    int rc;

    lock_must(pthread_rwlock_rdlock(&engine->index_lock));
    for (size_t i = 0; i < call->count; i++) {
        varve_page *page = &call->pages[i];
        uint64_t size = iov_total(page->iov, page->iov_count);

        if (i + LOOK_AHEAD < call->count)
            hash_index_prefetch(&engine->index, &call->pages[i + LOOK_AHEAD].id);
        page->status = size <= VARVE_PAGE_BYTES_MAX ? VARVE_OK : VARVE_E_ARG;
        if (page->status != VARVE_OK || hash_index_find(&engine->index, &page->id) != NULL)
            continue;
        call->places[call->active_count] = (struct hashlog_place){.page = page, .offset = total, .size = size};
        call->active_count++;
        total += hashlog_padded(engine->env, size);
    }
    lock_must(pthread_rwlock_unlock(&engine->index_lock));
    rc = take_room(engine, total, &offset);
    for (size_t i = 0; i < call->active_count; i++) {
        call->places[i].offset += offset;
        if (rc < 0)
            call->places[i].page->status = error_os(NULL, rc, "reserve space");
    }
    if (rc < 0)
        call->active_count = 0;
}

static void
index_pages(struct engine *engine, const struct hashlog_call *call)
{
    int rc;

    lock_must(pthread_rwlock_wrlock(&engine->index_lock));
    rc = hash_index_reserve(&engine->index, call->active_count);
    for (size_t i = 0; i < call->active_count; i++) {
        const struct hashlog_place *place = &call->places[i];
        struct hash_entry entry = {.checksum = place->checksum,
                                   .offset = place->offset / HASH_OFFSET_UNIT & HASH_OFFSET_MAX,
                                   .size = place->size & HASH_SIZE_MAX};

        if (rc < 0)
            place->page->status = rc;
        if (place->page->status != VARVE_OK)
            continue;
        memcpy(entry.id_prefix, place->page->id.bytes, ID_PREFIX_BYTES);
        hash_index_insert(&engine->index, &entry);
    }
    lock_must(pthread_rwlock_unlock(&engine->index_lock));
}

static int
engine_put(struct engine *engine, const varve_id *parent, varve_page *pages, size_t count, varve_error *err)
{
    struct hashlog_call call;
    int rc = hashlog_call_init(&call, engine->env, engine->log, pages, count);

    (void)parent;
    if (rc == VARVE_OK) {
        place_pages(engine, &call);
        rc = hashlog_call_run(&call, engine->queues, ENV_OP_WRITE);
    }
    if (rc == VARVE_OK)
        index_pages(engine, &call);
    hashlog_call_deinit(&call);
    return rc < 0 ? error_set(err, rc, "put %zu pages: %s", count, varve_strerror(rc)) : VARVE_OK;
}

static int64_t
engine_probe(struct engine *engine, const varve_id *ids, size_t count, varve_error *err)
{
    size_t found = 0;

    (void)err;
    lock_must(pthread_rwlock_rdlock(&engine->index_lock));
    for (size_t i = 1; i < LOOK_AHEAD && i < count; i++)
        hash_index_prefetch(&engine->index, &ids[i]);
    while (found < count && hash_index_find(&engine->index, &ids[found]) != NULL) {
        found++;
        if (found + LOOK_AHEAD < count)
            hash_index_prefetch(&engine->index, &ids[found + LOOK_AHEAD]);
    }
    lock_must(pthread_rwlock_unlock(&engine->index_lock));
    return (int64_t)found;
}

static void
find_pages(struct engine *engine, struct hashlog_call *call)
{
    lock_must(pthread_rwlock_rdlock(&engine->index_lock));
    for (size_t i = 0; i < call->count; i++) {
        varve_page *page = &call->pages[i];
        const struct hash_entry *entry;

        if (i + LOOK_AHEAD < call->count)
            hash_index_prefetch(&engine->index, &call->pages[i + LOOK_AHEAD].id);
        entry = hash_index_find(&engine->index, &page->id);
        page->status = VARVE_MISS;
        if (entry == NULL)
            continue;
        page->size = entry->size;
        page->status = page->size <= iov_total(page->iov, page->iov_count) ? VARVE_OK : VARVE_E_ARG;
        if (page->status != VARVE_OK)
            continue;
        call->places[call->active_count] = (struct hashlog_place){.page = page,
                                                                  .offset = (uint64_t)entry->offset * HASH_OFFSET_UNIT,
                                                                  .size = entry->size,
                                                                  .checksum = entry->checksum};
        call->active_count++;
    }
    lock_must(pthread_rwlock_unlock(&engine->index_lock));
}

static int
engine_get(struct engine *engine, varve_page *pages, size_t count, varve_error *err)
{
    struct hashlog_call call;
    int rc = hashlog_call_init(&call, engine->env, engine->log, pages, count);

    if (rc == VARVE_OK) {
        find_pages(engine, &call);
        rc = hashlog_call_run(&call, engine->queues, ENV_OP_READ);
    }
    hashlog_call_deinit(&call);
    return rc < 0 ? error_set(err, rc, "get %zu pages: %s", count, varve_strerror(rc)) : VARVE_OK;
}

static int
write_index_file(struct engine *engine, const uint8_t *image, size_t size)
{
    const struct env_ops *ops = engine->env->ops;
    struct env_file *file;
    int rc = ops->unlink(engine->env, TEMPORARY_FILE);

    if (rc < 0 && rc != -ENOENT)
        return rc;
    rc = ops->open(engine->env, TEMPORARY_FILE, ENV_OPEN_CREATE, &file);
    if (rc < 0)
        return rc;
    rc = io_write(engine->queues, file, image, size, 0);
    if (rc == 0)
        rc = ops->sync(file);
    ops->close(file);
    if (rc == 0)
        rc = ops->rename(engine->env, TEMPORARY_FILE, INDEX_FILE);
    return rc == 0 ? ops->sync_dir(engine->env) : rc;
}

/* save_lock held. What the index says has been written, and is synced before the index is. */
static int
save(struct engine *engine, varve_error *err)
{
    size_t count, size;
    uint64_t log_end;
    uint8_t *image;
    int rc;

    lock_must(pthread_rwlock_rdlock(&engine->index_lock));
    mutex_lock(&engine->log_lock);
    log_end = engine->log_end;
    mutex_unlock(&engine->log_lock);
    count = engine->index.count;
    image = hash_index_save(&engine->index, log_end, &size);
    lock_must(pthread_rwlock_unlock(&engine->index_lock));
    if (image == NULL)
        return error_set(err, VARVE_E_NOMEM, "no memory to save %zu entries", count);
    rc = engine->env->ops->sync(engine->log);
    if (rc == 0)
        rc = write_index_file(engine, image, size);
    free(image);
    if (rc < 0)
        return error_os(err, rc, "save the index");
    engine->saved_count = count;
    return VARVE_OK;
}

static int
engine_sync(struct engine *engine, varve_error *err)
{
    size_t count;
    int rc = VARVE_OK;

    mutex_lock(&engine->save_lock);
    lock_must(pthread_rwlock_rdlock(&engine->index_lock));
    count = engine->index.count;
    lock_must(pthread_rwlock_unlock(&engine->index_lock));
    if (count != engine->saved_count)
        rc = save(engine, err);
    mutex_unlock(&engine->save_lock);
    return rc;
}

static int
engine_close(struct engine *engine, varve_error *err)
{
    int rc = engine_sync(engine, err);

    destroy(engine);
    return rc;
}

static bool
engine_stat(struct engine *engine, const char *name, uint64_t *value)
{
    if (strcmp(name, "io_engine_uring") == 0)
        *value = strcmp(engine->env->name, "uring") == 0;
    else if (strcmp(name, "index_memory_bytes") == 0) {
        lock_must(pthread_rwlock_rdlock(&engine->index_lock));
        *value = engine->index.capacity * sizeof(struct hash_entry);
        lock_must(pthread_rwlock_unlock(&engine->index_lock));
    } else
        return false;
    return true;
}

const struct engine_ops engine_hashlog = {
    .name = "hashlog",
    .description = "varve's log and I/O under a hash table in memory, which is saved at syncs and loaded at opens",
    .open = engine_open,
    .put = engine_put,
    .probe = engine_probe,
    .get = engine_get,
    .sync = engine_sync,
    .close = engine_close,
    .stat = engine_stat,
};
