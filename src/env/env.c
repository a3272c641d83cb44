/* SPDX-License-Identifier: Apache-2.0 */
/* env.c - what every environment has in common, real or simulated. */
#include "env/env.h"

#include <stdalign.h>
#include <string.h>

void *
env_zalloc(struct env *env, size_t size)
{
    void *ptr = env->ops->alloc(env, size, alignof(max_align_t));

    if (ptr != NULL)
        memset(ptr, 0, size);
    return ptr;
}

int
env_cut(struct env *env, const char *name)
{
    struct env_file *file;

    /* What fails leaves the bytes to whoever has the file open, for as long as that is. */
    if (env->ops->open(env, name, 0, &file) == 0) {
        (void)env->ops->truncate(file, 0);
        env->ops->close(file);
    }
    return env->ops->unlink(env, name);
}
