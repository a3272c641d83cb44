/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invariant: `state` is what a reader of the file on disk, up to `size`, would build. So a new manifest can be written from it at any
 * time, whatever the rest of the store is doing.
 */
#include "manifest/manifest.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/lock.h"
#include "format/format.h"

#define MANIFEST_FILE_BYTES_MAX ((uint64_t)4 << 30)

struct manifest {
    struct env *env;
    struct io_queue_pool *pool;
    struct mutex lock; /* guards all below; held across commits' I/O */
    struct manifest_state state;
    struct env_file *file;
    struct manifest_header header;
    uint64_t sequence; /* of the next record */
    uint64_t size;     /* of the file: the next record goes here */
    uint64_t rotate_bytes;
    _Atomic uint64_t *bytes_written;
    bool unsynced;
    bool failed;
};

/* Read a whole file into memory. *data is env_free()d by the caller. */
static int
read_file(struct env *env, struct io_queue_pool *pool, const char *name, uint64_t size_max, uint8_t **data,
          size_t *size, varve_error *err)
{
    struct env_file *file;
    uint64_t bytes;
    int rc;

    rc = env->ops->open(env, name, ENV_OPEN_READ, &file);
    if (rc == -ENOENT)
        return VARVE_MISS;
    if (rc < 0)
        return error_os(err, rc, "open %s", name);
    *data = NULL;
    rc = env->ops->size(file, &bytes);
    if (rc == 0 && bytes > size_max)
        rc = error_set(err, VARVE_E_CORRUPT, "%s is too large to be what its name says", name);
    else if (rc < 0)
        rc = error_os(err, rc, "size of %s", name);
    if (rc == 0) {
        *data = env->ops->alloc(env, bytes > 0 ? (size_t)bytes : 1, 16);
        if (*data == NULL)
            rc = error_set(err, VARVE_E_NOMEM, "out of memory reading %s", name);
    }
    if (rc == 0 && bytes > 0) {
        rc = io_read(pool, file, *data, (size_t)bytes, 0);
        if (rc < 0)
            rc = error_os(err, rc, "read %s", name);
    }
    env->ops->close(file);
    if (rc != VARVE_OK) {
        env_free(env, *data);
        return rc;
    }
    *size = (size_t)bytes;
    return VARVE_OK;
}

/* The manifest's name from CURRENT: exactly a manifest's name and a newline. */
static int
read_current(struct env *env, struct io_queue_pool *pool, char *name, uint64_t *number, varve_error *err)
{
    uint8_t *data;
    size_t size;
    int rc;

    rc = read_file(env, pool, FORMAT_CURRENT_NAME, 4096, &data, &size, err);
    if (rc != VARVE_OK)
        return rc;
    if (size < 2 || size > FORMAT_NAME_MAX || data[size - 1] != '\n') {
        rc = VARVE_E_CORRUPT;
    } else {
        memcpy(name, data, size - 1);
        name[size - 1] = '\0';
        rc = format_parse_name(name, number) == FORMAT_FILE_MANIFEST ? VARVE_OK : VARVE_E_CORRUPT;
    }
    env_free(env, data);
    if (rc < 0)
        return error_set(err, rc, "CURRENT does not name a manifest: the store's directory was damaged");
    return VARVE_OK;
}

static int
apply_record(struct manifest_state *state, const uint8_t *items, size_t size)
{
    struct wire_reader reader = wire_reader_make(items, size);
    struct manifest_item item;

    while (manifest_item_decode(&reader, &item)) {
        int rc = manifest_state_apply(state, &item);

        if (rc != VARVE_OK)
            return rc;
    }
    return reader.failed ? VARVE_E_CORRUPT : VARVE_OK;
}

int
manifest_load(struct env *env, struct io_queue_pool *pool, struct manifest_state *state, struct manifest_header *header,
              varve_error *err)
{
    char name[FORMAT_NAME_MAX];
    uint64_t number = 0;
    uint8_t *data;
    size_t size = 0, at = MANIFEST_HEADER_BYTES, record;
    int rc;

    rc = read_current(env, pool, name, &number, err);
    if (rc != VARVE_OK)
        return rc;
    rc = read_file(env, pool, name, MANIFEST_FILE_BYTES_MAX, &data, &size, err);
    if (rc == VARVE_MISS)
        return error_set(err, VARVE_E_CORRUPT, "%s, which CURRENT names, is missing", name);
    if (rc != VARVE_OK)
        return rc;
    rc = size < MANIFEST_HEADER_BYTES ? VARVE_E_CORRUPT : manifest_header_decode(data, header);
    if (rc == VARVE_OK && header->number != number)
        rc = VARVE_E_CORRUPT;
    for (uint64_t sequence = 0; rc == VARVE_OK; sequence++) {
        record = manifest_record_check(data + at, size - at, header->salt, sequence);
        if (record == 0) {
            if (sequence == 0)
                rc = VARVE_E_CORRUPT; /* the first record was durable before CURRENT named the file */
            break;
        }
        rc = apply_record(state, data + at + MANIFEST_FRAME_BYTES, record - MANIFEST_FRAME_BYTES);
        at += record;
    }
    env_free(env, data);
    if (rc == VARVE_OK && state->next_number <= number)
        rc = VARVE_E_CORRUPT; /* a new manifest would get a number that is taken */
    if (rc == VARVE_E_VERSION)
        return error_set(err, rc, "the store was written by a newer version of varve: upgrade");
    if (rc == VARVE_E_NOMEM)
        return error_set(err, rc, "out of memory reading %s", name);
    if (rc < 0)
        return error_set(err, rc, "%s is damaged: restore the directory, or delete it to begin an empty cache", name);
    return VARVE_OK;
}

/* Bytes of a new file, which may be given room for more. */
struct new_file {
    const char *name;
    const uint8_t *data;
    size_t size;
    uint64_t room; /* 0: none */
};

/* Write a new file, durable but for its directory entry. */
static int
write_new_file(struct manifest *manifest, const struct new_file *new_file, struct env_file **out, varve_error *err)
{
    const char *name = new_file->name;
    struct env *env = manifest->env;
    struct env_file *file;
    int rc;

    rc = env->ops->open(env, name, ENV_OPEN_CREATE, &file);
    if (rc == -EEXIST) { /* CURRENT.tmp of an interrupted replacement */
        (void)env->ops->unlink(env, name);
        rc = env->ops->open(env, name, ENV_OPEN_CREATE, &file);
    }
    if (rc < 0)
        return error_os(err, rc, "create %s", name);
    rc = new_file->room > new_file->size ? env->ops->preallocate(file, new_file->room) : 0;
    if (rc == 0)
        rc = io_write(manifest->pool, file, new_file->data, new_file->size, 0);
    if (rc == 0)
        rc = env->ops->sync(file);
    if (rc < 0) {
        env->ops->close(file);
        (void)env->ops->unlink(env, name);
        return error_os(err, rc, "write %s", name);
    }
    *out = file;
    return VARVE_OK;
}

/* Make CURRENT name the file. *either: it is not known whether it does. */
static int
install_current(struct manifest *manifest, const char *name, bool *either, varve_error *err)
{
    struct env *env = manifest->env;
    uint8_t text[FORMAT_NAME_MAX + 1];
    size_t length = strlen(name);
    const struct new_file current = {.name = FORMAT_CURRENT_TMP_NAME, .data = text, .size = length + 1};
    struct env_file *file;
    int rc;

    memcpy(text, name, length + 1);
    text[length] = '\n';
    rc = write_new_file(manifest, &current, &file, err);
    *either = rc != VARVE_OK && rc != VARVE_E_NOMEM; /* a disk that fails now is not asked for more */
    if (rc != VARVE_OK)
        return rc;
    env->ops->close(file);
    *either = true;
    rc = env->ops->sync_dir(env); /* the manifest's own entry, before anything names it */
    if (rc == 0)
        rc = env->ops->rename(env, FORMAT_CURRENT_TMP_NAME, FORMAT_CURRENT_NAME);
    if (rc == 0)
        rc = env->ops->sync_dir(env);
    return rc < 0 ? error_os(err, rc, "replace CURRENT") : VARVE_OK;
}

/* Write the state to a new file and make that the manifest. On failure the old one stays in force. */
static int
write_snapshot(struct manifest *manifest, varve_error *err)
{
    struct env *env = manifest->env;
    struct manifest_header header = manifest->header;
    struct new_file new_file;
    uint32_t prefix = MANIFEST_HEADER_BYTES + MANIFEST_FRAME_BYTES;
    char name[FORMAT_NAME_MAX];
    struct env_file *file;
    uint32_t items = 0;
    uint8_t *buf;
    bool either;
    int rc;

    header.number = manifest->state.next_number++;
    header.salt = env->ops->random(env);
    buf = manifest_state_snapshot(&manifest->state, prefix, &items);
    if (buf == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory writing the manifest");
    manifest_header_encode(&header, buf);
    manifest_record_seal(buf + MANIFEST_HEADER_BYTES, items, header.salt, 0);
    format_file_name(FORMAT_FILE_MANIFEST, header.number, name);
    /* Room for edits: a file system that is full must not fail one, since that would be final. */
    new_file = (struct new_file){
        .name = name, .data = buf, .size = prefix + items, .room = manifest->rotate_bytes + manifest->rotate_bytes / 4};
    rc = write_new_file(manifest, &new_file, &file, err);
    env_free(env, buf);
    if (rc != VARVE_OK)
        return rc;
    (void)atomic_fetch_add_explicit(manifest->bytes_written, prefix + items, memory_order_relaxed);
    rc = install_current(manifest, name, &either, err);
    if (rc != VARVE_OK) {
        env->ops->close(file);
        /* Where CURRENT may name either file neither may get edits that the other lacks. */
        manifest->failed = either;
        if (!either)
            (void)env->ops->unlink(env, name);
        return rc;
    }
    if (manifest->file != NULL) {
        env->ops->close(manifest->file);
        format_file_name(FORMAT_FILE_MANIFEST, manifest->header.number, name);
        (void)env->ops->unlink(env, name); /* one left over is removed at the next open */
    }
    manifest->file = file;
    manifest->header = header;
    manifest->sequence = 1;
    manifest->size = prefix + items;
    manifest->unsynced = false;
    return VARVE_OK;
}

int
manifest_create(struct env *env, struct io_queue_pool *pool, struct manifest_state *state, const uint8_t store_id[16],
                uint64_t rotate_bytes, _Atomic uint64_t *bytes_written, struct manifest **out, varve_error *err)
{
    struct manifest *manifest = env_zalloc(env, sizeof(*manifest));
    int rc;

    if (manifest == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    manifest->env = env;
    manifest->pool = pool;
    manifest->rotate_bytes = rotate_bytes;
    manifest->bytes_written = bytes_written;
    memcpy(manifest->header.store_id, store_id, sizeof(manifest->header.store_id));
    manifest->state = *state;
    mutex_init(&manifest->lock);
    rc = write_snapshot(manifest, err);
    if (rc != VARVE_OK) {
        mutex_deinit(&manifest->lock);
        *state = manifest->state;
        env_free(env, manifest);
        return rc;
    }
    manifest_state_init(state, env);
    *out = manifest;
    return VARVE_OK;
}

void
manifest_destroy(struct manifest *manifest)
{
    struct env *env;

    if (manifest == NULL)
        return;
    env = manifest->env;
    env->ops->close(manifest->file);
    manifest_state_deinit(&manifest->state);
    mutex_deinit(&manifest->lock);
    env_free(env, manifest);
}

/* The items as the next record. NULL: out of memory. *size: of all of it. */
static uint8_t *
make_record(struct manifest *manifest, const struct manifest_item *items, size_t count, uint32_t *size)
{
    size_t bound = MANIFEST_FRAME_BYTES;
    uint8_t *record, *p;

    for (size_t i = 0; i < count; i++)
        bound += manifest_item_bound(&items[i]);
    record = manifest->env->ops->alloc(manifest->env, bound, 16);
    if (record == NULL)
        return NULL;
    p = record + MANIFEST_FRAME_BYTES;
    for (size_t i = 0; i < count; i++)
        p = manifest_item_encode(&items[i], p);
    *size = (uint32_t)(p - record);
    manifest_record_seal(record, *size - MANIFEST_FRAME_BYTES, manifest->header.salt, manifest->sequence);
    return record;
}

/* Write a record and apply its items. All memory is there: what fails now leaves file and state apart, which is final. */
static int
append(struct manifest *manifest, struct env_queue *queue, const uint8_t *record, uint32_t size, varve_error *err)
{
    int rc = io_queue_write(queue, manifest->file, record, size, manifest->size);

    if (rc < 0) {
        manifest->failed = true;
        rc = error_os(err, rc, "append to the manifest");
        return rc == VARVE_E_NOMEM ? error_set(err, VARVE_E_IO, "append to the manifest: the device is out of memory")
                                   : rc;
    }
    manifest->sequence++;
    manifest->size += size;
    manifest->unsynced = true;
    (void)atomic_fetch_add_explicit(manifest->bytes_written, size, memory_order_relaxed);
    return VARVE_OK;
}

static int
write_record(struct manifest *manifest, const struct manifest_item *items, size_t count, varve_error *err)
{
    struct env_queue *queue = NULL;
    uint32_t size = 0;
    uint8_t *record = make_record(manifest, items, count, &size);
    int rc = record == NULL ? VARVE_E_NOMEM : manifest_state_reserve(&manifest->state, items, count);

    if (rc != VARVE_OK)
        (void)error_set(err, rc, "out of memory writing the manifest");
    else if (io_queue_acquire(manifest->pool, &queue) < 0)
        rc = error_set(err, VARVE_E_NOMEM, "no I/O queue to write the manifest with");
    if (rc != VARVE_OK) {
        env_free(manifest->env, record);
        return rc;
    }
    rc = append(manifest, queue, record, size, err);
    io_queue_release(manifest->pool, queue);
    env_free(manifest->env, record);
    for (size_t i = 0; i < count && rc == VARVE_OK; i++) {
        int applied = manifest_state_apply(&manifest->state, &items[i]);

        assert(applied == VARVE_OK); /* it fits, and there is room for it */
        (void)applied;
    }
    return rc;
}

static int
sync_locked(struct manifest *manifest, varve_error *err)
{
    int rc;

    if (manifest->failed)
        return error_set(err, VARVE_E_READONLY, "an earlier write of the manifest failed: reopen the store");
    if (!manifest->unsynced)
        return VARVE_OK;
    rc = manifest->env->ops->sync(manifest->file);
    if (rc < 0) {
        manifest->failed = true;
        return error_os(err, rc == -ENOMEM ? -EIO : rc,
                        "sync the manifest"); /* VARVE_E_NOMEM would say that nothing was written */
    }
    manifest->unsynced = false;
    return VARVE_OK;
}

/* Begin a new one. Where the state itself has grown it will be a while until the next. */
static int
rotate(struct manifest *manifest, varve_error *err)
{
    int rc = write_snapshot(manifest, err);

    if (manifest->size > manifest->rotate_bytes / 2)
        manifest->rotate_bytes = manifest->size * 2;
    return rc;
}

int
manifest_resize(struct manifest *manifest, uint64_t rotate_bytes, varve_error *err)
{
    uint64_t before;
    int rc = VARVE_OK;

    mutex_lock(&manifest->lock);
    before = manifest->rotate_bytes;
    if (manifest->failed)
        rc = error_set(err, VARVE_E_READONLY, "an earlier write of the manifest failed: reopen the store");
    else
        manifest->rotate_bytes = rotate_bytes;
    if (rc == VARVE_OK && rotate_bytes < before)
        rc = rotate(manifest, err);
    if (rc != VARVE_OK)
        manifest->rotate_bytes = before;
    mutex_unlock(&manifest->lock);
    return rc;
}

int
manifest_commit(struct manifest *manifest, const struct manifest_item *items, size_t count, bool sync, varve_error *err)
{
    int rc;

    mutex_lock(&manifest->lock);
    if (manifest->failed)
        rc = error_set(err, VARVE_E_READONLY, "an earlier write of the manifest failed: reopen the store");
    else
        rc = write_record(manifest, items, count, err);
    if (rc == VARVE_OK && sync)
        rc = sync_locked(manifest, err);
    /* A manifest that cannot be replaced now can still take edits, unless write_snapshot() says otherwise. */
    if (rc == VARVE_OK && manifest->size > manifest->rotate_bytes)
        (void)rotate(manifest, NULL);
    mutex_unlock(&manifest->lock);
    return rc;
}

int
manifest_sync(struct manifest *manifest, varve_error *err)
{
    int rc;

    mutex_lock(&manifest->lock);
    rc = sync_locked(manifest, err);
    mutex_unlock(&manifest->lock);
    return rc;
}

uint64_t
manifest_new_number(struct manifest *manifest)
{
    uint64_t number;

    mutex_lock(&manifest->lock);
    number = manifest->state.next_number++;
    mutex_unlock(&manifest->lock);
    return number;
}

uint64_t
manifest_number(struct manifest *manifest)
{
    uint64_t number;

    mutex_lock(&manifest->lock);
    number = manifest->header.number;
    mutex_unlock(&manifest->lock);
    return number;
}

uint64_t
manifest_bytes(struct manifest *manifest)
{
    uint64_t bytes;

    mutex_lock(&manifest->lock);
    bytes = manifest->size;
    mutex_unlock(&manifest->lock);
    return bytes;
}

void
manifest_read_state(struct manifest *manifest, void (*read)(void *arg, const struct manifest_state *state), void *arg)
{
    mutex_lock(&manifest->lock);
    read(arg, &manifest->state);
    mutex_unlock(&manifest->lock);
}
