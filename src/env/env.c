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
