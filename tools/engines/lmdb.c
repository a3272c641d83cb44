/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LMDB: a B+ tree of ids, pages as overflow pages of it, read out of the memory map. Commits do not sync, one transaction a call; the kernel does not read
 * ahead by itself, but is told of all pages of a get before the first is copied, so that they are read together.
 */
#include <errno.h>
#include <lmdb.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/error.h"
#include "codec/iov_cursor.h"
#include "engines/engines.h"

#define MEMORY_PAGE 4096
#define MAP_MIN     ((uint64_t)64 << 20)

struct engine {
    MDB_env *env;
    MDB_dbi pages;
};

static int
fail(varve_error *err, const char *what, int code)
{
    if (code == MDB_MAP_FULL || code == ENOSPC)
        return error_set(err, VARVE_E_NOSPC, "lmdb: %s: %s", what, mdb_strerror(code));
    return error_set(err, code == ENOMEM ? VARVE_E_NOMEM : VARVE_E_IO, "lmdb: %s: %s", what, mdb_strerror(code));
}

static MDB_val
key_of(const varve_id *id)
{
    return (MDB_val){VARVE_ID_BYTES, (void *)(uintptr_t)id->bytes};
}

/* A page takes whole pages of the file, and its first bytes belong to LMDB. */
static uint64_t
map_bytes(const struct engine_settings *settings)
{
    uint64_t bytes = settings->capacity + settings->capacity / 4;

    if (settings->page_bytes > 0 && settings->page_bytes < MEMORY_PAGE)
        bytes += settings->capacity / settings->page_bytes * MEMORY_PAGE;
    return (bytes < MAP_MIN ? MAP_MIN : bytes) / MEMORY_PAGE * MEMORY_PAGE;
}

static int
open_env(struct engine *engine, const struct engine_settings *settings)
{
    const unsigned flags = MDB_NOSYNC | MDB_NORDAHEAD | MDB_NOTLS | MDB_NOMEMINIT;
    MDB_txn *txn;
    int code = mdb_env_set_mapsize(engine->env, map_bytes(settings));

    if (code == 0)
        code = mdb_env_open(engine->env, settings->path, flags, 0600);
    if (code == 0)
        code = mdb_txn_begin(engine->env, NULL, 0, &txn);
    if (code != 0)
        return code;
    code = mdb_dbi_open(txn, NULL, 0, &engine->pages);
    if (code == 0)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return code;
}

static int
engine_open(const struct engine_settings *settings, struct engine **out, varve_error *err)
{
    struct engine *engine;
    int code;

    if (mkdir(settings->path, 0700) != 0 && errno != EEXIST)
        return error_os(err, -errno, "make %s", settings->path);
    engine = calloc(1, sizeof(*engine));
    if (engine == NULL)
        return error_set(err, VARVE_E_NOMEM, "no memory for an engine");
    code = mdb_env_create(&engine->env);
    if (code == 0) {
        code = open_env(engine, settings);
        if (code == 0) {
            *out = engine;
            return VARVE_OK;
        }
        mdb_env_close(engine->env);
    }
    free(engine);
    return fail(err, "open", code);
}

static int
put_page(const struct engine *engine, MDB_txn *txn, const varve_page *page)
{
    uint64_t size = iov_total(page->iov, page->iov_count);
    struct iov_cursor cursor = iov_cursor_make(page->iov, page->iov_count);
    MDB_val key = key_of(&page->id);
    MDB_val value = {size, NULL};
    int code = mdb_put(txn, engine->pages, &key, &value, MDB_RESERVE | MDB_NOOVERWRITE);

    if (code == 0)
        iov_cursor_read(&cursor, value.mv_data, size);
    return code == MDB_KEYEXIST ? 0 : code;
}

static int
engine_put(struct engine *engine, const varve_id *parent, varve_page *pages, size_t count, varve_error *err)
{
    MDB_txn *txn;
    int code = mdb_txn_begin(engine->env, NULL, 0, &txn);

    (void)parent;
    if (code != 0)
        return fail(err, "begin a transaction", code);
    for (size_t i = 0; i < count && code == 0; i++) {
        code = put_page(engine, txn, &pages[i]);
        pages[i].status = VARVE_OK;
    }
    if (code == 0)
        code = mdb_txn_commit(txn);
    else
        mdb_txn_abort(txn);
    if (code == 0)
        return VARVE_OK;
    for (size_t i = 0; i < count; i++) /* all or none */
        pages[i].status = fail(err, "put", code);
    return code == MDB_MAP_FULL ? VARVE_OK : pages[0].status;
}

static int64_t
engine_probe(struct engine *engine, const varve_id *ids, size_t count, varve_error *err)
{
    MDB_txn *txn;
    size_t found = 0;
    int code = mdb_txn_begin(engine->env, NULL, MDB_RDONLY, &txn);

    if (code != 0)
        return fail(err, "begin a transaction", code);
    while (found < count && code == 0) {
        MDB_val key = key_of(&ids[found]);
        MDB_val value;

        code = mdb_get(txn, engine->pages, &key, &value);
        found += code == 0;
    }
    mdb_txn_abort(txn);
    return code == 0 || code == MDB_NOTFOUND ? (int64_t)found : fail(err, "probe", code);
}

/* Have the kernel read the value, without waiting for it. */
static void
read_ahead(const MDB_val *value)
{
    uintptr_t begin = (uintptr_t)value->mv_data / MEMORY_PAGE * MEMORY_PAGE;

    (void)madvise((void *)begin, (uintptr_t)value->mv_data + value->mv_size - begin, MADV_WILLNEED); /* a hint */
}

/* Where the value lies in the map: it stays there until the transaction ends. */
static void
find_page(const struct engine *engine, MDB_txn *txn, varve_page *page, MDB_val *value)
{
    MDB_val key = key_of(&page->id);
    int code = mdb_get(txn, engine->pages, &key, value);

    if (code != 0) {
        page->status = code == MDB_NOTFOUND ? VARVE_MISS : fail(NULL, "get", code);
        return;
    }
    page->size = value->mv_size;
    page->status = page->size <= iov_total(page->iov, page->iov_count) ? VARVE_OK : VARVE_E_ARG;
    if (page->status == VARVE_OK)
        read_ahead(value);
}

static int
engine_get(struct engine *engine, varve_page *pages, size_t count, varve_error *err)
{
    MDB_val *values = calloc(count, sizeof(*values));
    MDB_txn *txn;
    int code;

    if (values == NULL)
        return error_set(err, VARVE_E_NOMEM, "no memory for %zu pages", count);
    code = mdb_txn_begin(engine->env, NULL, MDB_RDONLY, &txn);
    if (code != 0) {
        free(values);
        return fail(err, "begin a transaction", code);
    }
    for (size_t i = 0; i < count; i++)
        find_page(engine, txn, &pages[i], &values[i]);
    for (size_t i = 0; i < count; i++) {
        struct iov_cursor cursor = iov_cursor_make(pages[i].iov, pages[i].iov_count);

        if (pages[i].status == VARVE_OK)
            iov_cursor_write(&cursor, values[i].mv_data, values[i].mv_size);
    }
    mdb_txn_abort(txn);
    free(values);
    return VARVE_OK;
}

static int
engine_sync(struct engine *engine, varve_error *err)
{
    int code = mdb_env_sync(engine->env, 1);

    return code == 0 ? VARVE_OK : fail(err, "sync", code);
}

static int
engine_close(struct engine *engine, varve_error *err)
{
    int rc = engine_sync(engine, err);

    mdb_env_close(engine->env);
    free(engine);
    return rc;
}

const struct engine_ops engine_lmdb = {
    .name = "lmdb",
    .description = "LMDB: commits without sync, a transaction a call, pages copied from the map after MADV_WILLNEED",
    .open = engine_open,
    .put = engine_put,
    .probe = engine_probe,
    .get = engine_get,
    .sync = engine_sync,
    .close = engine_close,
};
