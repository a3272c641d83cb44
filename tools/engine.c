/* SPDX-License-Identifier: Apache-2.0 */
/* The names of the engines. VARVE_HAVE_ROCKSDB and VARVE_HAVE_LMDB come from the build. */
#include "engine.h"

#include <string.h>

#include "engines/engines.h"

static const struct engine_entry {
    const char *name;
    const struct engine_ops *ops; /* NULL: left out of this build */
    const char *missing;
} entries[] = {
    {"varve", &engine_varve, NULL},     {"varve-threads", &engine_varve_threads, NULL},
    {"file", &engine_file, NULL},       {"file-threads", &engine_file_threads, NULL},
#ifdef VARVE_HAVE_ROCKSDB
    {"rocksdb", &engine_rocksdb, NULL}, {"rocksdb-inline", &engine_rocksdb_inline, NULL},
#else
    {"rocksdb", NULL, "librocksdb-dev"}, {"rocksdb-inline", NULL, "librocksdb-dev"},
#endif
#ifdef VARVE_HAVE_LMDB
    {"lmdb", &engine_lmdb, NULL},
#else
    {"lmdb", NULL, "liblmdb-dev"},
#endif
    {"hashlog", &engine_hashlog, NULL},
};

#define ENTRY_COUNT (sizeof(entries) / sizeof(entries[0]))

const struct engine_ops *
engine_find(const char *name, const char **missing)
{
    *missing = NULL;
    for (size_t i = 0; i < ENTRY_COUNT; i++) {
        if (strcmp(entries[i].name, name) == 0) {
            *missing = entries[i].missing;
            return entries[i].ops;
        }
    }
    return NULL;
}

const struct engine_ops *
engine_at(size_t index)
{
    for (size_t i = 0; i < ENTRY_COUNT; i++) {
        if (entries[i].ops != NULL && index-- == 0)
            return entries[i].ops;
    }
    return NULL;
}
