/* SPDX-License-Identifier: Apache-2.0 */
/*
 * locator.h - the memory-resident part of a run: page id fingerprint -> block, and about where in it. Filter and
 * address in one.
 *
 * A table of 64-byte buckets, each a cache line, filled in order. A slot is fingerprint | block | page, from high bits
 * to low, where page is the page's index in the block without its low bits: as many as there is room for, so that a
 * lookup compares a part of the block's ids and not all. Zero is an empty slot; fingerprint 0 is stored as 1. Slots
 * have 4 bytes (16 a bucket) where block and fingerprint fit into 32 bits, else 5 (12 a bucket). A page whose bucket
 * is full goes to the next: a lookup goes on while buckets are full.
 *
 * Threads: built by one; then immutable and read by any number.
 */
#ifndef VARVE_INDEX_LOCATOR_H
#define VARVE_INDEX_LOCATOR_H

#include "env/env.h"

struct locator {
    struct env *env;
    uint8_t *buckets; /* aligned for direct I/O; `bytes` long */
    uint64_t bucket_count;
    uint64_t bytes; /* bucket_count x 64, padded to 4 KiB */
    uint8_t slot_bytes;
    uint8_t block_bits;
    uint8_t page_bits;
    uint8_t fingerprint_bits;
};

/*
 * Choose the layout for up to `pages` pages in `blocks` blocks, with fingerprints of at least `fingerprint_bits` (and
 * of 15, which keeps false positives under 1 in 1,000) as far as a slot has room. Fills all but env and buckets.
 */
void locator_plan(struct locator *locator, uint64_t pages, uint64_t blocks, uint32_t fingerprint_bits);

/* Memory for a planned locator, all slots empty; VARVE_OK or VARVE_E_NOMEM. */
int locator_alloc(struct env *env, struct locator *locator);
void locator_free(struct locator *locator);

/* At most as many as it was planned for. */
void locator_insert(struct locator *locator, uint64_t hash, uint32_t block, uint32_t page);

/*
 * Where the page of this hash may be: pages `first` to `end` - 1 of a block. `end` may lie behind the block's last
 * page.
 */
struct locator_match {
    uint32_t block;
    uint32_t first;
    uint32_t end;
};

struct locator_probe {
    const struct locator *locator;
    uint64_t bucket;
    uint64_t buckets_left;
    uint64_t fingerprint;
    uint32_t matches; /* slots of the present bucket not given yet, a bit each */
};

void locator_probe_init(struct locator_probe *probe, const struct locator *locator, uint64_t hash);
/* The next place; false: no more. */
bool locator_probe_next(struct locator_probe *probe, struct locator_match *out);

/* Fetch the line that a probe of this hash begins with. */
void locator_prefetch(const struct locator *locator, uint64_t hash);

#endif
