/* SPDX-License-Identifier: Apache-2.0 */
/* Calls are cut to what the buffers hold; their times add up. */
#include "serve/store.h"

#include "base/error.h"
#include "cli.h"
#include "directory.h"

#define BUFFER_BYTES_MAX ((uint64_t)512 << 20)
#define NS_PER_US        1000.0

int
serve_store_open(struct serve_store *store, const struct engine_settings *settings, varve_error *err)
{
    uint64_t count = settings->batch;
    int rc;

    if (count > BUFFER_BYTES_MAX / settings->page_bytes)
        count = BUFFER_BYTES_MAX / settings->page_bytes;
    rc = page_buffers_init(&store->buffers, (size_t)count, settings->page_bytes);
    if (rc < 0)
        return error_set(err, rc, "no memory for a batch of pages");
    store->path = settings->path;
    rc = store->ops->open(settings, &store->engine, err);
    if (rc < 0)
        page_buffers_deinit(&store->buffers);
    return rc;
}

int
serve_store_close(struct serve_store *store, varve_error *err)
{
    page_buffers_deinit(&store->buffers);
    return store->ops->close(store->engine, err);
}

static size_t
set_ids(struct serve_store *store, const uint32_t *pages, size_t count)
{
    if (count > store->buffers.count)
        count = store->buffers.count;
    for (size_t i = 0; i < count; i++)
        store->buffers.pages[i].id = store->trace->ids[pages[i]];
    return count;
}

static int64_t
store_probe(void *arg, const uint32_t *pages, size_t count, double *us, varve_error *err)
{
    struct serve_store *store = arg;
    varve_id ids[SERVE_BATCH];
    uint64_t begin;
    int64_t found;

    for (size_t i = 0; i < count; i++)
        ids[i] = store->trace->ids[pages[i]];
    begin = cli_now_ns();
    found = store->ops->probe(store->engine, ids, count, err);
    *us = (double)(cli_now_ns() - begin) / NS_PER_US;
    return found;
}

static void
account_get(struct serve_store *store, size_t count, bool *loaded)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t wrong = 0;

        loaded[i] = store->buffers.pages[i].status == VARVE_OK;
        if (!loaded[i])
            continue;
        store->bytes_read += store->buffers.page_bytes;
        if (store->verify)
            wrong = page_buffers_wrong_bytes(&store->buffers, i, store->content);
        store->wrong_bytes += wrong;
        loaded[i] = wrong == 0;
    }
}

static int
store_get(void *arg, const uint32_t *pages, size_t count, bool *loaded, double *us, varve_error *err)
{
    struct serve_store *store = arg;

    *us = 0;
    if (!store->warm)
        directory_uncache(store->path);
    for (size_t first = 0, part; first < count; first += part) {
        uint64_t begin;
        int rc;

        part = set_ids(store, pages + first, count - first);
        begin = cli_now_ns();
        rc = store->ops->get(store->engine, store->buffers.pages, part, err);
        *us += store->scale * (double)(cli_now_ns() - begin) / NS_PER_US;
        if (rc < 0)
            return rc;
        account_get(store, part, loaded + first);
    }
    return VARVE_OK;
}

static int
store_put(void *arg, const uint32_t *parent, const uint32_t *pages, size_t count, double *us, varve_error *err)
{
    struct serve_store *store = arg;

    *us = 0;
    for (size_t first = 0, part; first < count; first += part) {
        const uint32_t *before = first > 0 ? &pages[first - 1] : parent;
        uint64_t begin;
        int rc;

        part = set_ids(store, pages + first, count - first);
        for (size_t i = 0; i < part; i++)
            page_buffers_fill(&store->buffers, i, store->content);
        begin = cli_now_ns();
        rc = store->ops->put(store->engine, before != NULL ? &store->trace->ids[*before] : NULL, store->buffers.pages,
                             part, err);
        *us += store->scale * (double)(cli_now_ns() - begin) / NS_PER_US;
        if (rc < 0)
            return rc;
        for (size_t i = 0; i < part; i++) {
            bool stored = store->buffers.pages[i].status == VARVE_OK;

            store->pages_failed += store->buffers.pages[i].status < 0;
            store->bytes_written += stored ? store->buffers.page_bytes : 0;
        }
    }
    store->write_us += *us;
    return VARVE_OK;
}

struct serve_storage
serve_store_storage(struct serve_store *store)
{
    return (struct serve_storage){.arg = store, .probe = store_probe, .get = store_get, .put = store_put};
}
