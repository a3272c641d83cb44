/* SPDX-License-Identifier: Apache-2.0 */
#include "shared_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/options.h"
#include "peer/role.h"

#define STATS_MAX 256

varve_store *
shared_store_open(const char *path, const struct shared_store_settings *settings)
{
    static const struct env_settings env_settings = {
        .io_engine = "auto", .direct_io = "auto", .queue_depth = 32, .io_threads = 4, .create_dir = true};
    varve_options options;
    varve_store *store = NULL;
    varve_error err = {0};
    struct env *env;

    options_init(&options);
    options.capacity = settings->capacity;
    options.segment_bytes = UINT64_C(1) << 20;
    options.share = settings->share;
    options.peer_timeout_ms = settings->timeout_ms;
    assert_int_equal(env_open_posix(path, &env_settings, &env, &err), VARVE_OK);
    if (settings->ops != NULL)
        env->share = settings->ops;
    if (role_open(env, &options, &store, &err) != VARVE_OK)
        fail_msg("%s", err.message);
    return store;
}

uint64_t
shared_store_stat(varve_store *store, const char *name)
{
    uint64_t values[STATS_MAX] = {0};
    size_t count = varve_stats_get(store, values, STATS_MAX);

    for (size_t i = 0; i < count; i++) {
        if (strcmp(varve_stat_describe(i)->name, name) == 0)
            return values[i];
    }
    fail_msg("no statistic %s", name);
    return 0;
}
