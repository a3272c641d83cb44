/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plain_env.h - the simplest env: pread and pwrite in a temporary directory, done at once in env_wait(). With switches
 * to make the n-th allocation, or reads of one file range, fail. Everything but the switches is thread-safe.
 */
#ifndef VARVE_TESTS_PLAIN_ENV_H
#define VARVE_TESTS_PLAIN_ENV_H

#include <stdatomic.h>

#include "env/env.h"

struct plain_env {
    struct env env; /* first */
    int dir_fd;
    atomic_long allocs;           /* allocations not yet freed */
    atomic_long alloc_fails_in;   /* the allocation that brings it from 1 to 0 fails; <= 0: none does */
    atomic_long write_fails_in;   /* the same for writes */
    atomic_long sync_fails_in;    /* and for file and directory syncs */
    _Atomic(uint64_t) bad_offset; /* reads that touch this byte of any file fail; UINT64_MAX: none */
    _Atomic(uint64_t) random;
    char path[256];
};

/* Make a new directory under `parent` (NULL: $TMPDIR, or /tmp). Exits the test on failure. */
struct plain_env *plain_env_create(const char *parent);
/* Remove the directory and everything in it. Fails the test if memory or files are still held. */
void plain_env_destroy(struct plain_env *env);

#endif
