/* SPDX-License-Identifier: Apache-2.0 */
/* A file a page in one flat directory, one page after the other through the page cache: SGLang's storage backend `file`. */
#include <stdlib.h>

#include "base/error.h"
#include "engines/engines.h"
#include "engines/page_files.h"

struct engine {
    struct page_files files;
};

static int
engine_open(const struct engine_settings *settings, struct engine **out, varve_error *err)
{
    struct engine *engine = calloc(1, sizeof(*engine));
    int rc;

    if (engine == NULL)
        return error_set(err, VARVE_E_NOMEM, "no memory for an engine");
    rc = page_files_open(&engine->files, settings->path, false, false, err);
    if (rc < 0)
        free(engine);
    else
        *out = engine;
    return rc;
}

static int
engine_put(struct engine *engine, const varve_id *parent, varve_page *pages, size_t count, varve_error *err)
{
    (void)parent;
    (void)err;
    for (size_t i = 0; i < count; i++)
        page_files_put(&engine->files, &pages[i]);
    return VARVE_OK;
}

static int64_t
engine_probe(struct engine *engine, const varve_id *ids, size_t count, varve_error *err)
{
    size_t found = 0;

    (void)err;
    while (found < count && page_files_has(&engine->files, &ids[found]))
        found++;
    return (int64_t)found;
}

static int
engine_get(struct engine *engine, varve_page *pages, size_t count, varve_error *err)
{
    (void)err;
    for (size_t i = 0; i < count; i++)
        page_files_get(&engine->files, &pages[i]);
    return VARVE_OK;
}

static int
engine_sync(struct engine *engine, varve_error *err)
{
    return page_files_sync(&engine->files, err);
}

static int
engine_close(struct engine *engine, varve_error *err)
{
    (void)err;
    page_files_close(&engine->files);
    free(engine);
    return VARVE_OK;
}

const struct engine_ops engine_file = {
    .name = "file",
    .description = "a file a page in one directory, serially, through the page cache, as SGLang's `file`",
    .open = engine_open,
    .put = engine_put,
    .probe = engine_probe,
    .get = engine_get,
    .sync = engine_sync,
    .close = engine_close,
};
