/* SPDX-License-Identifier: Apache-2.0 */
/* The public functions that are not a module's own: versions, errors, opening by path, options of an open store, statistics. */
#include <string.h>

#include "base/error.h"
#include "store/store.h"

int
varve_version_number(void)
{
    return VARVE_VERSION_NUMBER;
}

const char *
varve_strerror(int code)
{
    switch (code) {
    case VARVE_OK:
        return "VARVE_OK: success";
    case VARVE_MISS:
        return "VARVE_MISS: no such page";
    case VARVE_SKIPPED:
        return "VARVE_SKIPPED: not stored on purpose: over the write budget, or out of reach in a full store";
    case VARVE_E_ARG:
        return "VARVE_E_ARG: bad argument";
    case VARVE_E_NOMEM:
        return "VARVE_E_NOMEM: out of memory";
    case VARVE_E_IO:
        return "VARVE_E_IO: the device failed";
    case VARVE_E_NOSPC:
        return "VARVE_E_NOSPC: no space: free some, or raise the capacity";
    case VARVE_E_CORRUPT:
        return "VARVE_E_CORRUPT: a file failed its checksum: run varve check";
    case VARVE_E_VERSION:
        return "VARVE_E_VERSION: written by a newer version: upgrade";
    case VARVE_E_LOCKED:
        return "VARVE_E_LOCKED: the store is in use";
    case VARVE_E_READONLY:
        return "VARVE_E_READONLY: no writes are taken: check the disk, then reopen the store";
    case VARVE_E_NOSTORE:
        return "VARVE_E_NOSTORE: the directory holds no store";
    default:
        return "unknown status";
    }
}

int
varve_open(const char *path, const varve_options *options, varve_store **out, varve_error *err)
{
    varve_options given;
    char io_engine[32], direct_io[32];
    struct env_settings settings = {0};
    struct env *env;
    int rc;

    if (path == NULL || *path == '\0' || out == NULL)
        return error_set(err, VARVE_E_ARG, "varve_open: path and out must be given");
    if (options != NULL)
        given = *options;
    else
        options_init(&given);
    settings.io_engine = options_word(&given, "io_engine", io_engine, sizeof(io_engine));
    settings.direct_io = options_word(&given, "direct_io", direct_io, sizeof(direct_io));
    settings.queue_depth = (uint32_t)given.queue_depth;
    settings.io_threads = (uint32_t)given.io_threads;
    settings.create_dir = given.create != 0;
    rc = env_open_posix(path, &settings, &env, err);
    if (rc != VARVE_OK)
        return rc;
    rc = store_open(env, &given, out, err);
    if (rc != VARVE_OK)
        env->ops->destroy(env);
    return rc;
}

int
varve_sync(varve_store *store, varve_error *err)
{
    if (store == NULL)
        return error_set(err, VARVE_E_ARG, "varve_sync: a store must be given");
    return store_sync(store, err);
}

int
varve_option_set(varve_store *store, const char *name, const char *value, varve_error *err)
{
    const varve_option_desc *desc = NULL;
    int rc;

    if (store == NULL || name == NULL || value == NULL)
        return error_set(err, VARVE_E_ARG, "varve_option_set: store, name and value must be given");
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

size_t
varve_io_align(const varve_store *store)
{
    return store->env->io_align;
}

static const varve_stat_desc descriptions[] = {
#define COUNTER(name_, help_) {#name_, help_, 0},
#define GAUGE(name_, help_)   {#name_, help_, 1},
#include "api/stats.def"
#undef COUNTER
#undef GAUGE
};

#define STAT_COUNT (sizeof(descriptions) / sizeof(descriptions[0]))

const varve_stat_desc *
varve_stat_describe(size_t index)
{
    return index < STAT_COUNT ? &descriptions[index] : NULL;
}

/* The value at *index, where there is room for it; and one on. */
static void
give(uint64_t *values, size_t count, size_t *index, uint64_t value)
{
    if (*index < count)
        values[*index] = value;
    (*index)++;
}

size_t
varve_stats_get(varve_store *store, uint64_t *values, size_t count)
{
    struct counters *counters = &store->counters;
    struct gauges gauges = {0};
    size_t i = 0;

    store_gauges(store, &gauges);
#define COUNTER(name, help) give(values, count, &i, atomic_load_explicit(&counters->name, memory_order_relaxed));
#define GAUGE(name, help)   give(values, count, &i, gauges.name);
#include "api/stats.def"
#undef COUNTER
#undef GAUGE
    return i;
}
