/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bloom filters, what runs usually have in front of them: an absent key is there with a probability of about 1 % at 10 bits a key. Two kinds: bits spread over
 * the whole filter by double hashing, and all bits of a key in one cache line (as RocksDB has it since version 6.6), which costs some precision.
 */
#ifndef VARVE_BENCH_BLOOM_H
#define VARVE_BENCH_BLOOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOOM_BITS_PER_KEY 10
#define BLOOM_HASHES       7 /* ln 2 times as many as bits: the best */

struct bloom {
    uint64_t *words;     /* aligned to cache lines */
    uint64_t line_count; /* of 512 bits */
    bool one_line;       /* all bits of a key in one line */
};

/* false: out of memory. */
bool bloom_init(struct bloom *bloom, uint64_t keys, bool one_line);
void bloom_deinit(struct bloom *bloom);
uint64_t bloom_bytes(const struct bloom *bloom);

/* `hash`: 64 good bits. */
void bloom_insert(struct bloom *bloom, uint64_t hash);
bool bloom_test(const struct bloom *bloom, uint64_t hash);
/* Fetch the line that a test begins with. */
void bloom_prefetch(const struct bloom *bloom, uint64_t hash);

#endif
