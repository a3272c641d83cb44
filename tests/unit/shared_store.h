/* SPDX-License-Identifier: Apache-2.0 */
/* shared_store.h - stores of several owners and peers in one process, on a real directory, with other ways to talk than the real one. What fails here, fails the test. */
#ifndef VARVE_TESTS_SHARED_STORE_H
#define VARVE_TESTS_SHARED_STORE_H

#include "env/env.h"
#include "varve.h"

struct shared_store_settings {
    bool share;
    uint64_t capacity, timeout_ms;
    const struct env_share_ops *ops; /* NULL: the real ones */
};

/* With segments of 1 MiB. */
varve_store *shared_store_open(const char *path, const struct shared_store_settings *settings);
uint64_t shared_store_stat(varve_store *store, const char *name);

#endif
