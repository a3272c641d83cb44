/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file a page, as strong as that can be made: the pages of a call are shared out to 17 threads, the files lie in 256 directories, and are read and
 * written directly where the size of the pages allows it. SGLang's `fast_file` is of this kind, with fewer threads and one directory.
 */
#include <stdlib.h>

#include "base/error.h"
#include "engines/engines.h"
#include "engines/page_crew.h"
#include "engines/page_files.h"

#define PROBE_PART 64 /* ids a thread looks up at a time */

struct engine {
    struct page_files files;
    struct crew crew;
};

struct page_call {
    struct engine *engine;
    varve_page *pages;
};

struct probe_call {
    struct engine *engine;
    const varve_id *ids;
    _Atomic size_t found; /* no id before this one is known to be missing */
};

static int
engine_open(const struct engine_settings *settings, struct engine **out, varve_error *err)
{
    struct engine *engine = calloc(1, sizeof(*engine));
    int rc;

    if (engine == NULL)
        return error_set(err, VARVE_E_NOMEM, "no memory for an engine");
    rc = page_files_open(&engine->files, settings->path, true, true, err);
    if (rc < 0) {
        free(engine);
        return rc;
    }
    crew_init(&engine->crew, PAGE_CREW_HELPERS);
    *out = engine;
    return VARVE_OK;
}

static void
put_part(void *arg, size_t first, size_t count)
{
    struct page_call *call = arg;

    for (size_t i = first; i < first + count; i++)
        page_files_put(&call->engine->files, &call->pages[i]);
}

static int
engine_put(struct engine *engine, const varve_id *parent, varve_page *pages, size_t count, varve_error *err)
{
    struct page_call call = {engine, pages};

    (void)parent;
    (void)err;
    page_crew_run(&engine->crew, count, 1, put_part, &call);
    return VARVE_OK;
}

static void
get_part(void *arg, size_t first, size_t count)
{
    struct page_call *call = arg;

    for (size_t i = first; i < first + count; i++)
        page_files_get(&call->engine->files, &call->pages[i]);
}

static int
engine_get(struct engine *engine, varve_page *pages, size_t count, varve_error *err)
{
    struct page_call call = {engine, pages};

    (void)err;
    page_crew_run(&engine->crew, count, 1, get_part, &call);
    return VARVE_OK;
}

static void
probe_part(void *arg, size_t first, size_t count)
{
    struct probe_call *call = arg;

    for (size_t i = first; i < first + count; i++) {
        size_t found = atomic_load_explicit(&call->found, memory_order_relaxed);

        if (found <= i)
            return;
        if (page_files_has(&call->engine->files, &call->ids[i]))
            continue;
        while (i < found && !atomic_compare_exchange_weak(&call->found, &found, i)) {
        }
        return;
    }
}

static int64_t
engine_probe(struct engine *engine, const varve_id *ids, size_t count, varve_error *err)
{
    struct probe_call call = {.engine = engine, .ids = ids, .found = count};

    (void)err;
    if (count == 0 || !page_files_has(&engine->files, &ids[0])) /* most that miss do so here */
        return 0;
    page_crew_run(&engine->crew, count, PROBE_PART, probe_part, &call);
    return (int64_t)call.found;
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
    crew_deinit(&engine->crew);
    page_files_close(&engine->files);
    free(engine);
    return VARVE_OK;
}

const struct engine_ops engine_file_threads = {
    .name = "file-threads",
    .description = "a file a page in 256 directories, 17 threads, direct I/O, as SGLang's `fast_file`",
    .open = engine_open,
    .put = engine_put,
    .probe = engine_probe,
    .get = engine_get,
    .sync = engine_sync,
    .close = engine_close,
};
