/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Codecs that threads share: one is taken for a call, or for some calls in a row, and given back. As many exist as were ever
 * in use at once; of these at most `idle_max` stay when idle. The pool is its owner's: nothing here is global.
 */
#ifndef VARVE_CODEC_CODEC_POOL_H
#define VARVE_CODEC_CODEC_POOL_H

#include <stdint.h>

#include "base/lock.h"
#include "codec/codec.h"

#define CODEC_POOL_IDLE_MAX 64

struct codec_pool {
    struct env *env;
    uint32_t idle_max;
    struct mutex mutex; /* guards what follows; a leaf: nothing else is locked, allocated or coded under it */
    uint32_t idle_count;
    struct codec *idle[CODEC_POOL_IDLE_MAX];
};

/* idle_max: at most CODEC_POOL_IDLE_MAX. Keeps env until codec_pool_deinit(), which all codecs must have been given back before. */
void codec_pool_init(struct codec_pool *pool, struct env *env, uint32_t idle_max);
void codec_pool_deinit(struct codec_pool *pool);

/* Any thread. VARVE_E_NOMEM when none is idle and none can be made. The one given back last comes first: it is warm. */
int codec_pool_acquire(struct codec_pool *pool, struct codec **out);
void codec_pool_release(struct codec_pool *pool, struct codec *codec);

#endif
