/* SPDX-License-Identifier: Apache-2.0 */
/* varve itself, through its public interface alone: one namespace of one store. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "engines/engines.h"
#include "store_stats.h"

struct engine {
    varve_store *store;
    varve_namespace *ns;
};

static int
copy_options(const varve_options *from, varve_options *into, varve_error *err)
{
    const varve_option_desc *desc;
    int rc = VARVE_OK;

    for (size_t i = 0; rc == VARVE_OK && (desc = varve_option_describe(i)) != NULL; i++) {
        char value[64];

        rc = varve_options_get(from, desc->name, value, sizeof(value));
        if (rc == VARVE_OK)
            rc = varve_options_set(into, desc->name, value, err);
    }
    return rc;
}

/* The caller's options, then what the settings say beyond them: they win. */
static int
fill_options(const struct engine_settings *settings, varve_options *options, varve_error *err)
{
    char value[32];
    int rc = VARVE_OK;

    if (settings->options != NULL)
        rc = copy_options(settings->options, options, err);
    if (rc == VARVE_OK && settings->capacity != 0) {
        (void)snprintf(value, sizeof(value), "%" PRIu64, settings->capacity);
        rc = varve_options_set(options, "capacity", value, err);
    }
    if (rc == VARVE_OK && settings->io_engine != NULL)
        rc = varve_options_set(options, "io_engine", settings->io_engine, err);
    return rc;
}

static int
open_store(const struct engine_settings *settings, struct engine *engine, varve_error *err)
{
    varve_namespace_attributes attributes = VARVE_NAMESPACE_ATTRIBUTES_INIT;
    varve_options *options = varve_options_create();
    int rc;

    if (options == NULL)
        return error_set(err, VARVE_E_NOMEM, "no memory for options");
    rc = fill_options(settings, options, err);
    if (rc == VARVE_OK)
        rc = varve_open(settings->path, options, &engine->store, err);
    varve_options_destroy(options);
    if (rc < 0)
        return rc;
    attributes.element_type = (uint32_t)settings->element;
    attributes.page_bytes_hint = settings->page_bytes;
    rc = varve_namespace_open(engine->store, "bench", &attributes, &engine->ns, err);
    if (rc < 0)
        (void)varve_close(engine->store, NULL); /* the first error wins */
    return rc;
}

static int
engine_open(const struct engine_settings *settings, struct engine **out, varve_error *err)
{
    struct engine *engine = calloc(1, sizeof(*engine));
    int rc;

    if (engine == NULL)
        return error_set(err, VARVE_E_NOMEM, "no memory for an engine");
    rc = open_store(settings, engine, err);
    if (rc < 0)
        free(engine);
    else
        *out = engine;
    return rc;
}

static int
engine_open_threads(const struct engine_settings *settings, struct engine **out, varve_error *err)
{
    struct engine_settings with_threads = *settings;

    with_threads.io_engine = "threads";
    return engine_open(&with_threads, out, err);
}

static int
engine_put(struct engine *engine, const varve_id *parent, varve_page *pages, size_t count, varve_error *err)
{
    return varve_put_batch(engine->store, engine->ns, parent, pages, count, 0, err);
}

static int64_t
engine_probe(struct engine *engine, const varve_id *ids, size_t count, varve_error *err)
{
    return varve_probe(engine->store, engine->ns, ids, count, NULL, err);
}

static int
engine_get(struct engine *engine, varve_page *pages, size_t count, varve_error *err)
{
    return varve_get_batch(engine->store, engine->ns, pages, count, err);
}

static int
engine_sync(struct engine *engine, varve_error *err)
{
    return varve_sync(engine->store, err);
}

static int
engine_close(struct engine *engine, varve_error *err)
{
    int rc = varve_close(engine->store, err);

    free(engine);
    return rc;
}

static bool
engine_stat(struct engine *engine, const char *name, uint64_t *value)
{
    struct store_stats stats;

    store_stats_read(engine->store, &stats);
    return store_stats_find(&stats, name, value);
}

const struct engine_ops engine_varve = {
    .name = "varve",
    .description = "the store itself: an LSM index over an append-only log, io_uring where it works",
    .open = engine_open,
    .put = engine_put,
    .probe = engine_probe,
    .get = engine_get,
    .sync = engine_sync,
    .close = engine_close,
    .stat = engine_stat,
};

const struct engine_ops engine_varve_threads = {
    .name = "varve-threads",
    .description = "the store with its thread pool instead of io_uring, as in containers that forbid that",
    .open = engine_open_threads,
    .put = engine_put,
    .probe = engine_probe,
    .get = engine_get,
    .sync = engine_sync,
    .close = engine_close,
    .stat = engine_stat,
};
