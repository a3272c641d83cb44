/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file HEAT: recency, so that a restart keeps its judgement. It is written beside and renamed over the old one, at close and every few minutes; what it lacks,
 * or a damage takes away, recency_load() fills in. docs/FORMAT.md, "Heat".
 */
#include <errno.h>

#include "base/error.h"
#include "format/format.h"
#include "format/heat_format.h"
#include "store/recency.h"
#include "store/store.h"

#define SAVE_INTERVAL_NS ((uint64_t)300 * 1000000000)
#define WRITE_BYTES      ((size_t)1 << 20)

/* A file being written. */
struct saving {
    varve_store *store;
    struct env_file *file;
    uint8_t *buf;
    size_t room, used;
    uint64_t offset; /* where buf goes */
    uint64_t most;   /* bytes that were paid for */
};

struct numbers {
    uint64_t *at;
    size_t count, capacity;
};

static void
add_number(void *arg, const struct segment *segment)
{
    struct numbers *numbers = arg;

    if (numbers->count < numbers->capacity)
        numbers->at[numbers->count++] = segment->number;
}

static int
write_out(struct saving *saving)
{
    int rc = io_write(saving->store->pool, saving->file, saving->buf, saving->used, saving->offset);

    saving->offset += saving->used;
    saving->used = 0;
    return rc;
}

/* Room for `bytes` more in the buffer. 0 or -errno. */
static int
make_room(struct saving *saving, size_t bytes)
{
    struct env *env = saving->store->env;
    int rc = 0;

    if (saving->used > 0 && saving->room - saving->used < bytes)
        rc = write_out(saving);
    if (rc == 0 && saving->room < bytes) {
        env_free(env, saving->buf);
        saving->room = bytes;
        saving->buf = env->ops->alloc(env, bytes, IO_ALIGN_MAX);
        rc = saving->buf == NULL ? -ENOMEM : 0;
    }
    return rc;
}

/* The record of one segment; nothing where it is gone, or has grown meanwhile. 0 or -errno. */
static int
save_segment(struct saving *saving, uint64_t number)
{
    varve_store *store = saving->store;
    struct recency *recency = &store->recency;
    struct segment *segment = log_acquire(store->log, number);
    struct heat_file file = {.number = number};
    size_t bytes = 0;
    int rc;

    if (segment == NULL)
        return 0;
    file.salt = segment->salt;
    mutex_lock(&recency->lock);
    if (segment->heat != NULL)
        bytes = heat_snapshot_bytes(segment->heat);
    mutex_unlock(&recency->lock);
    rc = bytes == 0 || saving->offset + saving->used + bytes > saving->most ? 0 : make_room(saving, bytes);
    if (rc == 0 && bytes > 0 && saving->room - saving->used >= bytes) {
        mutex_lock(&recency->lock);
        if (segment->heat != NULL)
            saving->used +=
                heat_snapshot_segment(recency->heat, segment->heat, &file, saving->buf + saving->used, bytes);
        mutex_unlock(&recency->lock);
    }
    log_release(store->log, segment);
    return rc;
}

/* Records, then the header, which stands first. */
static int
save_all(struct saving *saving, const struct numbers *numbers)
{
    struct recency *recency = &saving->store->recency;
    int rc = make_room(saving, WRITE_BYTES);

    saving->offset = HEAT_HEADER_BYTES;
    for (size_t i = 0; i < numbers->count && rc == 0; i++)
        rc = save_segment(saving, numbers->at[i]);
    if (rc == 0 && saving->used > 0)
        rc = write_out(saving);
    if (rc == 0) {
        mutex_lock(&recency->lock);
        heat_snapshot_header(recency->heat, saving->buf);
        mutex_unlock(&recency->lock);
        rc = io_write(saving->store->pool, saving->file, saving->buf, HEAT_HEADER_BYTES, 0);
    }
    return rc == 0 ? saving->store->env->ops->sync(saving->file) : rc;
}

/* Bytes that the file takes, at most, if nothing is put meanwhile. */
static uint64_t
file_bytes(varve_store *store, size_t *segments)
{
    uint64_t bytes = HEAT_HEADER_BYTES;

    *segments = 0;
    mutex_lock(&store->recency.lock);
    for (const struct heat_segment *segment = store->recency.heat->first; segment != NULL; segment = segment->next) {
        bytes += heat_snapshot_bytes(segment);
        (*segments)++;
    }
    mutex_unlock(&store->recency.lock);
    return log_pad(bytes, 12) + LOG_BLOCK_BYTES; /* ext4 may keep a block of its own */
}

/* Write the file and put it in the place of the old one. *bytes: what was paid for, then what it takes. 0 or -errno. */
static int
replace_file(varve_store *store, const struct numbers *numbers, uint64_t *bytes)
{
    struct env *env = store->env;
    struct saving saving = {.store = store, .most = *bytes - LOG_BLOCK_BYTES};
    uint64_t allocated = 0;
    int rc;

    (void)env->ops->unlink(env, FORMAT_HEAT_TMP_NAME); /* of an attempt that was interrupted */
    rc = env->ops->open(env, FORMAT_HEAT_TMP_NAME, ENV_OPEN_CREATE, &saving.file);
    if (rc < 0)
        return rc;
    rc = save_all(&saving, numbers);
    if (rc == 0)
        rc = env->ops->allocated(saving.file, &allocated);
    env->ops->close(saving.file);
    env_free(env, saving.buf);
    if (rc == 0)
        rc = env->ops->rename(env, FORMAT_HEAT_TMP_NAME, FORMAT_HEAT_NAME);
    if (rc < 0)
        (void)env->ops->unlink(env, FORMAT_HEAT_TMP_NAME);
    else if (allocated < *bytes)
        *bytes = allocated;
    return rc;
}

int
recency_save(varve_store *store, varve_error *err)
{
    struct recency *recency = &store->recency;
    struct numbers numbers = {NULL, 0, 0};
    uint64_t paid = file_bytes(store, &numbers.capacity), bytes = paid;
    int rc;

    recency->saved_ns = store->env->ops->now_ns(store->env);
    if (space_take_if_free(store, bytes) != VARVE_OK)
        return VARVE_MISS;
    numbers.at = store->env->ops->alloc(store->env, (numbers.capacity + 1) * sizeof(uint64_t), _Alignof(uint64_t));
    rc = numbers.at == NULL ? -ENOMEM : 0;
    if (rc == 0) {
        log_for_each(store->log, add_number, &numbers);
        rc = replace_file(store, &numbers, &bytes);
    }
    env_free(store->env, numbers.at);
    space_give_back(store, rc == 0 ? recency->file_bytes + paid - bytes : paid);
    if (rc < 0)
        return error_os(err, rc, "write %s", FORMAT_HEAT_NAME);
    recency->file_bytes = bytes;
    COUNT(&store->counters, heat_bytes_written, bytes);
    return VARVE_OK;
}

bool
recency_save_due(varve_store *store)
{
    return store->env->ops->now_ns(store->env) - store->recency.saved_ns >= SAVE_INTERVAL_NS;
}

/*
 * Give every record to the segment it is of. Returns how many segments are wholly known by them: one that was written while the segment was open, or not
 * loaded itself, lacks the pages at its end.
 */
static size_t
restore_records(varve_store *store, const uint8_t *data, size_t size)
{
    struct recency *recency = &store->recency;
    struct heat_record record;
    size_t restored = 0;

    (void)heat_restore_header(recency->heat, data, size);
    for (size_t at = heat_record_find(data, size, HEAT_HEADER_BYTES, &record); at < size;
         at = heat_record_find(data, size, at + HEAT_RECORD_ALIGN, &record)) {
        struct segment *segment = log_acquire(store->log, record.number);
        struct heat_file file = {.number = record.number};

        if (segment == NULL)
            continue;
        file.salt = segment->salt;
        file.bytes = segment->bytes;
        if (segment->heat != NULL &&
            heat_restore_segment(recency->heat, segment->heat, &file, data + at, size - at) == VARVE_OK)
            restored += log_pad((uint64_t)record.end * HEAT_UNIT, 12) >= segment->bytes;
        log_release(store->log, segment);
    }
    return restored;
}

static void
add_record_bytes(void *arg, const struct segment *segment)
{
    uint64_t pages = segment->bytes / HEAT_UNIT;
    uint32_t most = pages < HEAT_PAGES_MAX ? (uint32_t)pages : HEAT_PAGES_MAX;

    *(uint64_t *)arg += heat_record_bytes(most, most);
}

/* The file, or as much of it as the segments can have records; NULL: nothing. Its length is not trusted: one that is longer goes, and takes no room. */
static uint8_t *
read_all(varve_store *store, uint64_t *size)
{
    struct env *env = store->env;
    uint64_t allocated = 0, most = HEAT_HEADER_BYTES;
    struct env_file *file;
    uint8_t *data = NULL;

    if (env->ops->open(env, FORMAT_HEAT_NAME, ENV_OPEN_READ, &file) < 0)
        return NULL;
    log_for_each(store->log, add_record_bytes, &most);
    if (env->ops->allocated(file, &allocated) < 0 || env->ops->size(file, size) < 0)
        *size = 0;
    if (*size > most) {
        *size = most;
        if (env->ops->unlink(env, FORMAT_HEAT_NAME) == 0)
            allocated = 0;
    }
    if (*size > 0)
        data = env->ops->alloc(env, *size, IO_ALIGN_MAX);
    if (data != NULL && io_read(store->pool, file, data, *size, 0) < 0) {
        env_free(env, data);
        data = NULL;
    }
    store->recency.file_bytes = allocated;
    env->ops->close(file);
    return data;
}

/* heat_sweep(): the namespace was cleared since. */
static bool
is_gone(void *arg, uint32_t ns_id)
{
    return !namespace_live(arg, ns_id);
}

void
recency_restore(varve_store *store)
{
    struct recency *recency = &store->recency;
    uint64_t size = 0;
    uint8_t *data;

    recency->saved_ns = store->env->ops->now_ns(store->env);
    (void)store->env->ops->unlink(store->env, FORMAT_HEAT_TMP_NAME);
    data = read_all(store, &size);
    space_count(store, recency->file_bytes);
    if (data == NULL)
        return;
    recency->restored = restore_records(store, data, (size_t)size);
    env_free(store->env, data);
    for (struct heat_segment *segment = recency->heat->first; segment != NULL; segment = segment->next)
        heat_sweep(recency->heat, segment, is_gone, store);
}
