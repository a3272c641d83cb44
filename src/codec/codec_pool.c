/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/codec_pool.h"

#include <assert.h>
#include <stddef.h>

void
codec_pool_init(struct codec_pool *pool, struct env *env, uint32_t idle_max)
{
    assert(idle_max <= CODEC_POOL_IDLE_MAX);
    pool->env = env;
    pool->idle_max = idle_max;
    pool->idle_count = 0;
    mutex_init(&pool->mutex);
}

void
codec_pool_deinit(struct codec_pool *pool)
{
    while (pool->idle_count > 0)
        codec_destroy(pool->idle[--pool->idle_count]);
    mutex_deinit(&pool->mutex);
}

int
codec_pool_acquire(struct codec_pool *pool, struct codec **out)
{
    struct codec *codec = NULL;

    mutex_lock(&pool->mutex);
    if (pool->idle_count > 0)
        codec = pool->idle[--pool->idle_count];
    mutex_unlock(&pool->mutex);
    if (codec == NULL)
        return codec_create(pool->env, out);
    *out = codec;
    return VARVE_OK;
}

void
codec_pool_release(struct codec_pool *pool, struct codec *codec)
{
    mutex_lock(&pool->mutex);
    if (pool->idle_count < pool->idle_max) {
        pool->idle[pool->idle_count++] = codec;
        codec = NULL;
    }
    mutex_unlock(&pool->mutex);
    codec_destroy(codec);
}
