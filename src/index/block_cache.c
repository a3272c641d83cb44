/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block cache; see block_cache.h. A frame is in one of four states: never used, on the free list, cached (found in
 * the table), or loading (pinned by the one thread that reads into it, in no table). Pins are taken under the mutex
 * and given back without: a frame with no pins, seen under the mutex, is nobody's.
 */
#include "index/block_cache.h"

#include <assert.h>

#include "format/run_format.h"
#include "index/run_read.h"

#define NONE UINT32_MAX

/* Frames of a shard of a cache of so many bytes. */
static uint32_t
shard_frames(uint64_t bytes)
{
    uint64_t frames = bytes / BLOCK_CACHE_SHARDS / BLOCK_BYTES;

    return frames == 0 ? 1 : frames > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)frames;
}

static int
shard_init(struct block_shard *shard, struct env *env, uint64_t bytes, uint64_t bytes_max)
{
    mutex_init(&shard->mutex);
    shard->frame_max = shard_frames(bytes_max);
    shard->held_max = shard_frames(bytes);
    shard->bucket_count = 1;
    while (shard->bucket_count < shard->frame_max)
        shard->bucket_count *= 2;
    shard->free = NONE;
    shard->frames = env->ops->alloc(env, shard->frame_max * sizeof(*shard->frames), 64);
    shard->buckets = env->ops->alloc(env, shard->bucket_count * sizeof(*shard->buckets), 64);
    if (shard->frames == NULL || shard->buckets == NULL)
        return VARVE_E_NOMEM;
    for (uint32_t i = 0; i < shard->bucket_count; i++)
        shard->buckets[i] = NONE;
    return VARVE_OK;
}

int
block_cache_init(struct block_cache *cache, struct env *env, struct io_queue_pool *pool, uint64_t bytes,
                 uint64_t bytes_max)
{
    int rc = VARVE_OK;

    assert(bytes <= bytes_max);
    *cache = (struct block_cache){.env = env, .pool = pool};
    reuse_init(&cache->reuse, bytes_max / BLOCK_BYTES);
    for (int i = 0; i < BLOCK_CACHE_SHARDS; i++) {
        if (shard_init(&cache->shards[i], env, bytes, bytes_max) < 0)
            rc = VARVE_E_NOMEM;
    }
    if (rc < 0)
        block_cache_deinit(cache);
    return rc;
}

void
block_cache_deinit(struct block_cache *cache)
{
    for (int i = 0; i < BLOCK_CACHE_SHARDS; i++) {
        struct block_shard *shard = &cache->shards[i];

        for (uint32_t frame = 0; frame < shard->frame_count; frame++) {
            assert(atomic_load_explicit(&shard->frames[frame].pins, memory_order_relaxed) == 0);
            env_free(cache->env, shard->frames[frame].data);
        }
        env_free(cache->env, shard->frames);
        env_free(cache->env, shard->buckets);
        mutex_deinit(&shard->mutex);
    }
}

static uint64_t
block_hash(uint64_t file, uint32_t block)
{
    uint64_t hash = (file << 32 ^ file >> 32 ^ block) * UINT64_C(0x9e3779b97f4a7c15);

    return hash ^ hash >> 29;
}

static uint32_t *
bucket_of(struct block_shard *shard, uint64_t file, uint32_t block)
{
    return &shard->buckets[(block_hash(file, block) >> 8) & (shard->bucket_count - 1)];
}

static struct block_ref *
shard_find(struct block_shard *shard, uint64_t file, uint32_t block)
{
    uint32_t frame = *bucket_of(shard, file, block);

    while (frame != NONE && (shard->frames[frame].file != file || shard->frames[frame].block != block))
        frame = shard->frames[frame].chain;
    return frame == NONE ? NULL : &shard->frames[frame];
}

static void
shard_remove(struct block_shard *shard, struct block_ref *ref)
{
    uint32_t index = (uint32_t)(ref - shard->frames);
    uint32_t *link = bucket_of(shard, ref->file, ref->block);

    while (*link != index)
        link = &shard->frames[*link].chain;
    *link = ref->chain;
    ref->cached = false;
}

/* A victim by CLOCK: not pinned, not referenced since the last round. NULL: all are pinned. */
static struct block_ref *
shard_evict(struct block_shard *shard)
{
    for (uint32_t step = 0; step < 2 * shard->frame_count; step++) {
        struct block_ref *ref = &shard->frames[shard->hand];

        shard->hand = shard->hand + 1 >= shard->frame_count ? 0 : shard->hand + 1;
        if (!ref->cached || atomic_load_explicit(&ref->pins, memory_order_acquire) != 0)
            continue;
        if (ref->referenced) {
            ref->referenced = false;
            continue;
        }
        shard_remove(shard, ref);
        return ref;
    }
    return NULL;
}

/*
 * A frame for the caller to load into, pinned; NULL: none to be had. Its data may be NULL still: the caller counts as holding memory for it. Frames on the
 * free list without memory come behind those with it.
 */
static struct block_ref *
shard_take(struct block_shard *shard)
{
    struct block_ref *ref = NULL;
    bool full = shard->held >= shard->held_max;

    if (shard->free != NONE && (!full || shard->frames[shard->free].data != NULL)) {
        ref = &shard->frames[shard->free];
        shard->free = ref->chain;
    } else if (!full && shard->frame_count < shard->frame_max) {
        ref = &shard->frames[shard->frame_count++];
        *ref = (struct block_ref){.data = NULL};
    } else {
        ref = shard_evict(shard);
    }
    if (ref != NULL && ref->data == NULL)
        shard->held++;
    if (ref != NULL)
        atomic_store_explicit(&ref->pins, 1, memory_order_relaxed);
    return ref;
}

/* The frame holds nothing any more. The free list has frames with memory first. */
static void
shard_give(struct block_shard *shard, struct block_ref *ref)
{
    uint32_t *link = &shard->free;

    atomic_store_explicit(&ref->pins, 0, memory_order_relaxed);
    if (ref->data == NULL) {
        shard->held--;
        while (*link != NONE && shard->frames[*link].data != NULL)
            link = &shard->frames[*link].chain;
    }
    ref->chain = *link;
    *link = (uint32_t)(ref - shard->frames);
}

/* A frame whose memory is to go: one that holds nothing, else a victim. NULL: there is none. */
static struct block_ref *
shard_shrink(struct block_shard *shard)
{
    struct block_ref *ref;

    if (shard->free == NONE || shard->frames[shard->free].data == NULL)
        return shard_evict(shard);
    ref = &shard->frames[shard->free];
    shard->free = ref->chain;
    return ref;
}

void
block_cache_resize(struct block_cache *cache, uint64_t bytes)
{
    for (int i = 0; i < BLOCK_CACHE_SHARDS; i++) {
        struct block_shard *shard = &cache->shards[i];
        struct block_ref *ref;
        uint32_t frames = shard_frames(bytes);

        mutex_lock(&shard->mutex);
        shard->held_max = frames < shard->frame_max ? frames : shard->frame_max;
        while (shard->held > shard->held_max && (ref = shard_shrink(shard)) != NULL) {
            env_free(cache->env, ref->data);
            ref->data = NULL;
            shard_give(shard, ref);
        }
        mutex_unlock(&shard->mutex);
    }
}

uint64_t
block_cache_bytes(struct block_cache *cache)
{
    uint64_t held = 0;

    for (int i = 0; i < BLOCK_CACHE_SHARDS; i++) {
        mutex_lock(&cache->shards[i].mutex);
        held += cache->shards[i].held;
        mutex_unlock(&cache->shards[i].mutex);
    }
    return held * BLOCK_BYTES;
}

static struct block_ref *
transient_create(struct env *env)
{
    struct block_ref *ref = env_zalloc(env, sizeof(*ref));

    if (ref == NULL)
        return NULL;
    ref->transient = true;
    atomic_init(&ref->pins, 1);
    return ref;
}

static int
load(struct block_cache *cache, const struct run *run, uint32_t block, struct block_ref *ref)
{
    uint64_t begin_ns = cache->env->ops->now_ns(cache->env);
    int rc;

    if (ref->data == NULL)
        ref->data = cache->env->ops->alloc(cache->env, BLOCK_BYTES, RUN_PAD_BYTES);
    if (ref->data == NULL)
        return VARVE_E_NOMEM;
    rc = io_read(cache->pool, run->file, ref->data, BLOCK_BYTES, (uint64_t)block * BLOCK_BYTES);
    (void)atomic_fetch_add_explicit(&cache->reads, 1, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&cache->read_ns, cache->env->ops->now_ns(cache->env) - begin_ns,
                                    memory_order_relaxed);
    if (rc < 0) {
        (void)atomic_fetch_add_explicit(&cache->read_errors, 1, memory_order_relaxed);
        return VARVE_E_IO;
    }
    if (!block_check(ref->data, block_seed(run->salt, run->meta.number, block))) {
        (void)atomic_fetch_add_explicit(&cache->corrupt, 1, memory_order_relaxed);
        return VARVE_E_CORRUPT;
    }
    ref->heads = block_heads(ref->data);
    return VARVE_OK;
}

static void
transient_destroy(struct env *env, struct block_ref *ref)
{
    env_free(env, ref->data);
    env_free(env, ref);
}

/* Take a loaded frame into the table, unless another thread was faster: then its frame is the one. */
static struct block_ref *
shard_publish(struct block_shard *shard, struct block_ref *ref, uint64_t file, uint32_t block)
{
    struct block_ref *other = shard_find(shard, file, block);
    uint32_t *bucket;

    if (other != NULL) {
        (void)atomic_fetch_add_explicit(&other->pins, 1, memory_order_relaxed);
        shard_give(shard, ref);
        return other;
    }
    bucket = bucket_of(shard, file, block);
    ref->file = file;
    ref->block = block;
    ref->cached = true;
    ref->referenced = false;
    ref->chain = *bucket;
    *bucket = (uint32_t)(ref - shard->frames);
    return ref;
}

int
block_cache_pin(struct block_cache *cache, const struct run *run, uint32_t block, struct block_ref **out)
{
    uint64_t hash = block_hash(run->meta.number, block);
    struct block_shard *shard = &cache->shards[hash % BLOCK_CACHE_SHARDS];
    struct block_ref *ref;
    int rc;

    assert(block < run->meta.blocks);
    reuse_note(&cache->reuse, hash);
    mutex_lock(&shard->mutex);
    ref = shard_find(shard, run->meta.number, block);
    if (ref != NULL) {
        (void)atomic_fetch_add_explicit(&ref->pins, 1, memory_order_relaxed);
        ref->referenced = true;
        shard->hits++;
        mutex_unlock(&shard->mutex);
        *out = ref;
        return VARVE_OK;
    }
    shard->misses++;
    ref = shard_take(shard);
    mutex_unlock(&shard->mutex);

    if (ref == NULL)
        ref = transient_create(cache->env);
    if (ref == NULL)
        return VARVE_E_NOMEM;
    rc = load(cache, run, block, ref);
    if (ref->transient) {
        if (rc < 0)
            transient_destroy(cache->env, ref);
        else
            *out = ref;
        return rc;
    }
    mutex_lock(&shard->mutex);
    if (rc < 0)
        shard_give(shard, ref);
    else
        *out = shard_publish(shard, ref, run->meta.number, block);
    mutex_unlock(&shard->mutex);
    return rc;
}

void
block_cache_unpin(struct block_cache *cache, struct block_ref *ref)
{
    if (ref->transient)
        transient_destroy(cache->env, ref);
    else
        (void)atomic_fetch_sub_explicit(&ref->pins, 1, memory_order_release);
}
