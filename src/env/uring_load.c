/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring_load.c - find liburing and the functions we need of it. The so-number fixes the layout of struct io_uring,
 * which inline code of its header compiled into us works on.
 */
#include "env/uring_load.h"

#include <dlfcn.h>
#include <string.h>

#include "base/error.h"

#define URING_SONAME "liburing.so.2"

/* ISO C has no cast from an object pointer to a function pointer; POSIX promises that the bits are the same. */
static int
look_up(void *handle, const char *name, void *function, size_t size, varve_error *err)
{
    void *address = dlsym(handle, name);

    if (address == NULL)
        return error_set(err, VARVE_E_IO, "io_engine=uring: " URING_SONAME " has no function %s", name);
    memcpy(function, &address, size);
    return VARVE_OK;
}

int
uring_library_load(struct uring_library *library, varve_error *err)
{
    const char *reason;
    int rc;

    library->handle = dlopen(URING_SONAME, RTLD_NOW | RTLD_LOCAL);
    if (library->handle == NULL) {
        reason = dlerror();
        return error_set(err, VARVE_E_IO,
                         "io_engine=uring: cannot load liburing (install it, or use auto or threads): %s",
                         reason != NULL ? reason : URING_SONAME);
    }
    rc = look_up(library->handle, "io_uring_queue_init_params", &library->queue_init_params,
                 sizeof(library->queue_init_params), err);
    if (rc == VARVE_OK)
        rc = look_up(library->handle, "io_uring_queue_exit", &library->queue_exit, sizeof(library->queue_exit), err);
    if (rc == VARVE_OK)
        rc = look_up(library->handle, "io_uring_submit_and_wait", &library->submit_and_wait,
                     sizeof(library->submit_and_wait), err);
    if (rc < 0)
        uring_library_unload(library);
    return rc;
}

void
uring_library_unload(struct uring_library *library)
{
    (void)dlclose(library->handle);
    library->handle = NULL;
}
