/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RocksDB, tuned as its own advice for large values says: blob files for the pages, no write-ahead log (a sync is a flush), direct reads, flushes and
 * compactions, no compression, bloom filters, MultiGet.
 *
 * A lookup of a key whose value is a blob reads the blob; so a second column family holds the ids alone, and probes read that. A sync flushes pages before
 * ids: what is found after a crash can be read (atomic flushes would say so for good, but trip an assertion of version 7.8). Its MultiGet reads one blob after the other where RocksDB was built without io_uring, as Debian's is: so the pages of a
 * call are shared out to 17 threads.
 *
 * The same without blob files, pages in the sorted files and so in every compaction, is the engine rocksdb-inline: it shows what keeping them apart is worth.
 */
#include <rocksdb/c.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "codec/iov_cursor.h"
#include "engines/engines.h"
#include "engines/page_crew.h"

#define MULTI_GET_MAX       64 /* keys; RocksDB takes them 32 at a time */
#define BLOCK_CACHE_BYTES   ((size_t)256 << 20)
#define MEMTABLE_BYTES      ((size_t)128 << 20)
#define MEMTABLE_COUNT      4
#define BLOB_FILE_BYTES     ((uint64_t)512 << 20)
#define BACKGROUND_JOBS     2
#define BLOOM_BITS_PER_KEY  10
#define COLUMN_FAMILY_COUNT 2

enum { FAMILY_IDS, FAMILY_PAGES };

struct engine {
    rocksdb_t *db;
    rocksdb_column_family_handle_t *families[COLUMN_FAMILY_COUNT];
    rocksdb_options_t *options[COLUMN_FAMILY_COUNT];
    rocksdb_block_based_table_options_t *table_options;
    rocksdb_cache_t *block_cache;
    rocksdb_readoptions_t *read_options;
    rocksdb_writeoptions_t *write_options;
    rocksdb_flushoptions_t *flush_options;
    struct crew crew;
    struct mutex lock;           /* guards the next */
    rocksdb_writebatch_t *spare; /* its memory is kept from call to call */
};

/* Frees `message`. */
static int
fail(varve_error *err, const char *what, char *message)
{
    int rc = error_set(err, strstr(message, "No space left") != NULL ? VARVE_E_NOSPC : VARVE_E_IO, "rocksdb: %s: %s",
                       what, message);

    rocksdb_free(message);
    return rc;
}

static rocksdb_options_t *
make_options(const struct engine *engine, bool blobs)
{
    rocksdb_options_t *options = rocksdb_options_create();

    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_create_missing_column_families(options, 1);
    rocksdb_options_set_use_direct_reads(options, 1);
    rocksdb_options_set_use_direct_io_for_flush_and_compaction(options, 1);
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    rocksdb_options_set_max_background_jobs(options, BACKGROUND_JOBS);
    rocksdb_options_set_write_buffer_size(options, MEMTABLE_BYTES);
    rocksdb_options_set_max_write_buffer_number(options, MEMTABLE_COUNT);
    rocksdb_options_set_block_based_table_factory(options, engine->table_options);
    if (blobs) {
        rocksdb_options_set_enable_blob_files(options, 1);
        rocksdb_options_set_min_blob_size(options, 0);
        rocksdb_options_set_blob_file_size(options, BLOB_FILE_BYTES);
        rocksdb_options_set_blob_compression_type(options, rocksdb_no_compression);
    }
    return options;
}

static void
destroy(struct engine *engine)
{
    for (int i = 0; i < COLUMN_FAMILY_COUNT; i++) {
        if (engine->families[i] != NULL)
            rocksdb_column_family_handle_destroy(engine->families[i]);
    }
    if (engine->db != NULL)
        rocksdb_close(engine->db);
    for (int i = 0; i < COLUMN_FAMILY_COUNT; i++)
        rocksdb_options_destroy(engine->options[i]);
    rocksdb_block_based_options_destroy(engine->table_options);
    rocksdb_cache_destroy(engine->block_cache);
    rocksdb_readoptions_destroy(engine->read_options);
    rocksdb_writeoptions_destroy(engine->write_options);
    rocksdb_flushoptions_destroy(engine->flush_options);
    if (engine->spare != NULL)
        rocksdb_writebatch_destroy(engine->spare);
    crew_deinit(&engine->crew);
    mutex_deinit(&engine->lock);
    free(engine);
}

static int
open_database(const struct engine_settings *settings, bool blobs, struct engine **out, varve_error *err)
{
    static const char *const names[COLUMN_FAMILY_COUNT] = {"default", "pages"};
    struct engine *engine = calloc(1, sizeof(*engine));
    char *message = NULL;

    if (engine == NULL)
        return error_set(err, VARVE_E_NOMEM, "no memory for an engine");
    mutex_init(&engine->lock);
    crew_init(&engine->crew, PAGE_CREW_HELPERS);
    engine->block_cache = rocksdb_cache_create_lru(BLOCK_CACHE_BYTES);
    engine->table_options = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(engine->table_options, engine->block_cache);
    rocksdb_block_based_options_set_filter_policy(engine->table_options,
                                                  rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS_PER_KEY));
    engine->options[FAMILY_IDS] = make_options(engine, false);
    engine->options[FAMILY_PAGES] = make_options(engine, blobs);
    engine->read_options = rocksdb_readoptions_create();
    engine->write_options = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(engine->write_options, 1);
    engine->flush_options = rocksdb_flushoptions_create();
    engine->db =
        rocksdb_open_column_families(engine->options[FAMILY_IDS], settings->path, COLUMN_FAMILY_COUNT, names,
                                     (const rocksdb_options_t *const *)engine->options, engine->families, &message);
    if (message != NULL) {
        destroy(engine);
        return fail(err, "open", message);
    }
    *out = engine;
    return VARVE_OK;
}

static int
engine_open(const struct engine_settings *settings, struct engine **out, varve_error *err)
{
    return open_database(settings, true, out, err);
}

static int
engine_open_inline(const struct engine_settings *settings, struct engine **out, varve_error *err)
{
    return open_database(settings, false, out, err);
}

/* MultiGet of at most MULTI_GET_MAX keys that lie `stride` bytes apart. Errors are messages to be freed. */
static void
multi_get(const struct engine *engine, int family, const varve_id *first, size_t stride, size_t count,
          rocksdb_pinnableslice_t **values, char **messages)
{
    const char *keys[MULTI_GET_MAX] = {NULL};
    size_t sizes[MULTI_GET_MAX] = {0};

    for (size_t i = 0; i < count; i++) {
        keys[i] = (const char *)first + i * stride;
        sizes[i] = VARVE_ID_BYTES;
    }
    rocksdb_batched_multi_get_cf(engine->db, engine->read_options, engine->families[family], count, keys, sizes, values,
                                 messages, false);
}

/* found[i] for up to MULTI_GET_MAX ids. */
static int
find_ids(const struct engine *engine, const varve_id *first, size_t stride, size_t count, bool *found, varve_error *err)
{
    rocksdb_pinnableslice_t *values[MULTI_GET_MAX];
    char *messages[MULTI_GET_MAX];
    int rc = VARVE_OK;

    multi_get(engine, FAMILY_IDS, first, stride, count, values, messages);
    for (size_t i = 0; i < count; i++) {
        found[i] = values[i] != NULL;
        if (values[i] != NULL)
            rocksdb_pinnableslice_destroy(values[i]);
        if (messages[i] != NULL && rc == VARVE_OK)
            rc = fail(err, "look up", messages[i]);
        else if (messages[i] != NULL)
            rocksdb_free(messages[i]);
    }
    return rc;
}

static void
add_page(const struct engine *engine, rocksdb_writebatch_t *batch, const varve_page *page)
{
    const char *values[VARVE_PAGE_IOV_MAX];
    size_t sizes[VARVE_PAGE_IOV_MAX];
    const char *key = (const char *)page->id.bytes;
    const size_t key_size = VARVE_ID_BYTES;

    for (uint32_t i = 0; i < page->iov_count; i++) {
        values[i] = page->iov[i].iov_base;
        sizes[i] = page->iov[i].iov_len;
    }
    rocksdb_writebatch_putv_cf(batch, engine->families[FAMILY_PAGES], 1, &key, &key_size, (int)page->iov_count, values,
                               sizes);
    rocksdb_writebatch_put_cf(batch, engine->families[FAMILY_IDS], key, key_size, "", 0);
}

/* Add the pages that are not there yet. */
static int
fill_batch(const struct engine *engine, rocksdb_writebatch_t *batch, varve_page *pages, size_t count, varve_error *err)
{
    int rc = VARVE_OK;

    for (size_t first = 0; first < count && rc == VARVE_OK; first += MULTI_GET_MAX) {
        size_t part = count - first < MULTI_GET_MAX ? count - first : MULTI_GET_MAX;
        bool found[MULTI_GET_MAX];

        rc = find_ids(engine, &pages[first].id, sizeof(*pages), part, found, err);
        for (size_t i = 0; i < part && rc == VARVE_OK; i++) {
            varve_page *page = &pages[first + i];

            page->status = page->iov_count <= VARVE_PAGE_IOV_MAX ? VARVE_OK : VARVE_E_ARG;
            if (!found[i] && page->status == VARVE_OK)
                add_page(engine, batch, page);
        }
    }
    return rc;
}

static rocksdb_writebatch_t *
take_batch(struct engine *engine)
{
    rocksdb_writebatch_t *batch;

    mutex_lock(&engine->lock);
    batch = engine->spare;
    engine->spare = NULL;
    mutex_unlock(&engine->lock);
    return batch == NULL ? rocksdb_writebatch_create() : batch;
}

static void
give_batch(struct engine *engine, rocksdb_writebatch_t *batch)
{
    rocksdb_writebatch_clear(batch);
    mutex_lock(&engine->lock);
    if (engine->spare == NULL) {
        engine->spare = batch;
        batch = NULL;
    }
    mutex_unlock(&engine->lock);
    if (batch != NULL)
        rocksdb_writebatch_destroy(batch);
}

static int
engine_put(struct engine *engine, const varve_id *parent, varve_page *pages, size_t count, varve_error *err)
{
    rocksdb_writebatch_t *batch = take_batch(engine);
    char *message = NULL;
    int rc;

    (void)parent;
    rc = fill_batch(engine, batch, pages, count, err);
    if (rc == VARVE_OK) {
        rocksdb_write(engine->db, engine->write_options, batch, &message);
        if (message != NULL)
            rc = fail(err, "write", message);
    }
    give_batch(engine, batch);
    return rc;
}

static int64_t
engine_probe(struct engine *engine, const varve_id *ids, size_t count, varve_error *err)
{
    size_t part = 1; /* most chains that are not there miss at once */
    size_t found = 0;

    for (size_t first = 0; first < count && found == first; first = found) {
        bool present[MULTI_GET_MAX];
        int rc;

        if (part > count - first)
            part = count - first;
        rc = find_ids(engine, &ids[first], sizeof(*ids), part, present, err);
        if (rc < 0)
            return rc;
        while (found < first + part && present[found - first])
            found++;
        if (found < first + part)
            break;
        part = MULTI_GET_MAX;
    }
    return (int64_t)found;
}

struct get_call {
    const struct engine *engine;
    varve_page *pages;
};

static void
take_value(varve_page *page, rocksdb_pinnableslice_t *slice, char *message)
{
    struct iov_cursor cursor = iov_cursor_make(page->iov, page->iov_count);
    size_t size;
    const char *value;

    if (message != NULL) {
        page->status = fail(NULL, "read", message);
        if (slice != NULL)
            rocksdb_pinnableslice_destroy(slice);
        return;
    }
    if (slice == NULL) {
        page->status = VARVE_MISS;
        return;
    }
    value = rocksdb_pinnableslice_value(slice, &size);
    page->size = size;
    page->status = size <= iov_total(page->iov, page->iov_count) ? VARVE_OK : VARVE_E_ARG;
    if (page->status == VARVE_OK)
        iov_cursor_write(&cursor, (const uint8_t *)value, size);
    rocksdb_pinnableslice_destroy(slice);
}

static void
get_part(void *arg, size_t first, size_t count)
{
    struct get_call *call = arg;
    rocksdb_pinnableslice_t *values[MULTI_GET_MAX];
    char *messages[MULTI_GET_MAX];

    multi_get(call->engine, FAMILY_PAGES, &call->pages[first].id, sizeof(*call->pages), count, values, messages);
    for (size_t i = 0; i < count; i++)
        take_value(&call->pages[first + i], values[i], messages[i]);
}

static int
engine_get(struct engine *engine, varve_page *pages, size_t count, varve_error *err)
{
    struct get_call call = {engine, pages};
    size_t part = count / (PAGE_CREW_HELPERS + 1) + 1;

    (void)err;
    page_crew_run(&engine->crew, count, part < MULTI_GET_MAX ? part : MULTI_GET_MAX, get_part, &call);
    return VARVE_OK;
}

static int
engine_sync(struct engine *engine, varve_error *err)
{
    for (int family = FAMILY_PAGES; family >= FAMILY_IDS; family--) {
        char *message = NULL;

        rocksdb_flush_cf(engine->db, engine->flush_options, engine->families[family], &message);
        if (message != NULL)
            return fail(err, "flush", message);
    }
    return VARVE_OK;
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
    uint64_t bytes = rocksdb_cache_get_usage(engine->block_cache);

    if (strcmp(name, "index_memory_bytes") != 0)
        return false;
    for (int i = 0; i < COLUMN_FAMILY_COUNT; i++) {
        uint64_t readers = 0;

        (void)rocksdb_property_int_cf(engine->db, engine->families[i], "rocksdb.estimate-table-readers-mem", &readers);
        bytes += readers;
    }
    *value = bytes;
    return true;
}

const struct engine_ops engine_rocksdb = {
    .name = "rocksdb",
    .description = "RocksDB: blob files, no WAL, direct I/O, bloom filters, no compression, MultiGet from 17 threads",
    .open = engine_open,
    .put = engine_put,
    .probe = engine_probe,
    .get = engine_get,
    .sync = engine_sync,
    .close = engine_close,
    .stat = engine_stat,
};

const struct engine_ops engine_rocksdb_inline = {
    .name = "rocksdb-inline",
    .description =
        "RocksDB without blob files: pages in the sorted files, rewritten by compactions; the same tuning else",
    .open = engine_open_inline,
    .put = engine_put,
    .probe = engine_probe,
    .get = engine_get,
    .sync = engine_sync,
    .close = engine_close,
    .stat = engine_stat,
};
