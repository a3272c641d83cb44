/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reuse.h - how often blocks would be found in caches of other sizes, from a sample of their uses.
 *
 * An LRU stack (Mattson et al., 1970) of the blocks whose hash falls in one of 2^shift classes: the depth at which a block is found, times 2^shift, is
 * the cache size that would have held it (SHARDS, Waldspurger et al., FAST '15). Uses outside of the sample cost a comparison.
 *
 * Threads: any. A use that finds another one being noted is left out.
 */
#ifndef VARVE_INDEX_REUSE_H
#define VARVE_INDEX_REUSE_H

#include <stdatomic.h>
#include <stdint.h>

#define REUSE_DEPTH   512 /* sampled blocks that are remembered */
#define REUSE_BUCKETS 64

struct reuse {
    atomic_flag busy;
    uint32_t shift;
    uint32_t used;                 /* of the stack */
    uint64_t stack[REUSE_DEPTH];   /* hashes, the youngest first */
    uint64_t found[REUSE_BUCKETS]; /* uses by depth, in steps of REUSE_DEPTH / REUSE_BUCKETS */
    uint64_t uses;
};

/* What was noted since the last reuse_take(). */
struct reuse_sample {
    uint64_t uses;
    uint64_t found[REUSE_BUCKETS];
    uint64_t step_blocks; /* blocks of cache that one bucket stands for */
};

/* Caches of up to `blocks_max` blocks are judged. */
void reuse_init(struct reuse *reuse, uint64_t blocks_max);
/* A block was used; `hash`: of which file and block it is, well mixed. */
void reuse_note(struct reuse *reuse, uint64_t hash);
void reuse_take(struct reuse *reuse, struct reuse_sample *out);

#endif
