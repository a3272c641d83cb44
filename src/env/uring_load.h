/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring_load.h - liburing, loaded while the program runs, so that the store runs where it is not installed. Only what
 * liburing.h does not define inline is looked up.
 */
#ifndef VARVE_ENV_URING_LOAD_H
#define VARVE_ENV_URING_LOAD_H

#include <liburing.h>

#include "varve.h"

struct uring_library {
    void *handle;
    int (*queue_init_params)(unsigned entries, struct io_uring *ring, struct io_uring_params *params);
    void (*queue_exit)(struct io_uring *ring);
    int (*submit_and_wait)(struct io_uring *ring, unsigned wait_count);
};

/* 0, or VARVE_E_IO with the loader's reason. */
int uring_library_load(struct uring_library *library, varve_error *err);
void uring_library_unload(struct uring_library *library);

#endif
