/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env_uring_none.c - stands in for env_uring.c in builds without the headers of liburing: only the thread pool is
 * there.
 */
#include "base/error.h"
#include "env/env_posix.h"

int
env_uring_attach(struct posix_env *env, varve_error *err)
{
    (void)env;
    return error_set(err, VARVE_E_ARG, "io_engine=uring: this library was built without io_uring; use auto or threads");
}

void
env_uring_detach(struct posix_env *env)
{
    (void)env;
}
