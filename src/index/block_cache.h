/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_cache.h - verified blocks of runs in memory, up to a bound.
 *
 * A block in the cache passed block_check(); a pinned one stays as it is. 16 shards, each with a mutex and a CLOCK
 * hand; no mutex is held while a block is read. When every frame of a shard is pinned, the reader gets a frame of its
 * own.
 */
#ifndef VARVE_INDEX_BLOCK_CACHE_H
#define VARVE_INDEX_BLOCK_CACHE_H

#include <stdatomic.h>

#include "base/lock.h"
#include "env/io.h"
#include "index/reuse.h"

struct run;

/* A frame. Fields but pins and data's bytes are guarded by the shard's mutex. */
struct block_ref {
    uint8_t *data; /* BLOCK_BYTES; read-only while pinned; NULL until first used */
    uint64_t file; /* number of the run file */
    uint32_t block;
    uint32_t heads; /* block_heads(), to fetch them without waiting for the header */
    uint32_t chain; /* next frame of the same bucket, or of the free list */
    atomic_uint pins;
    bool cached;     /* in the shard's table */
    bool referenced; /* since the hand came by */
    bool transient;  /* belongs to the reader, freed when it lets go */
};

struct block_shard {
    struct mutex mutex;
    struct block_ref *frames; /* frame_max, used from the front */
    uint32_t *buckets;        /* bucket_count (a power of two) heads of chains */
    uint32_t frame_max;
    uint32_t frame_count; /* taken into use so far */
    uint32_t bucket_count;
    uint32_t free; /* list of frames that hold nothing */
    uint32_t hand;
    uint32_t held;     /* frames with memory */
    uint32_t held_max; /* as many may have it; fewer than frame_max while the cache is kept smaller than it may get */
    uint64_t hits, misses;
};

#define BLOCK_CACHE_SHARDS 16

struct block_cache {
    struct env *env;
    struct io_queue_pool *pool;
    struct block_shard shards[BLOCK_CACHE_SHARDS];
    struct reuse reuse;
    _Atomic(uint64_t) reads, read_ns; /* blocks read, and the time that their readers waited */
    _Atomic(uint64_t) corrupt;        /* blocks that failed their check */
    _Atomic(uint64_t) read_errors;    /* blocks the device did not give */
};

/* A cache of `bytes` now, which block_cache_resize() may make as large as `bytes_max`. VARVE_OK or VARVE_E_NOMEM. */
int block_cache_init(struct block_cache *cache, struct env *env, struct io_queue_pool *pool, uint64_t bytes,
                     uint64_t bytes_max);
void block_cache_deinit(struct block_cache *cache);

/* Gives back the memory of blocks that are too many, but for pinned ones, whose frames are reused later. */
void block_cache_resize(struct block_cache *cache, uint64_t bytes);
/* Memory held. */
uint64_t block_cache_bytes(struct block_cache *cache);

/*
 * Pin a block of a run, reading it if need be. VARVE_OK: *out, until block_cache_unpin(). VARVE_E_CORRUPT, VARVE_E_IO,
 * VARVE_E_NOMEM: counted, nothing pinned.
 */
int block_cache_pin(struct block_cache *cache, const struct run *run, uint32_t block, struct block_ref **out);
void block_cache_unpin(struct block_cache *cache, struct block_ref *ref);

#endif
