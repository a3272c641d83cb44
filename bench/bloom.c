/* SPDX-License-Identifier: Apache-2.0 */
#include "bloom.h"

#include <stdlib.h>
#include <string.h>

#define LINE_BITS  512u
#define LINE_BYTES (LINE_BITS / 8)

/* hash / 2^64 of `range`. */
static uint64_t
scale(uint64_t hash, uint64_t range)
{
    __extension__ typedef unsigned __int128 wide;

    return (uint64_t)(((wide)hash * range) >> 64);
}

/* The place of bit `i` of a key. The steps of the second hash are odd, and its bits are not those that chose the line. */
static uint64_t
bit_of(const struct bloom *bloom, uint64_t hash, unsigned i)
{
    uint64_t step = (hash >> 32 | hash << 32) | 1;

    if (bloom->one_line)
        return scale(hash, bloom->line_count) * LINE_BITS +
               (((uint32_t)hash + i * (uint32_t)(step >> 16)) * 0x9e3779b9u >> 23);
    return scale(hash + i * step, bloom->line_count * LINE_BITS);
}

bool
bloom_init(struct bloom *bloom, uint64_t keys, bool one_line)
{
    *bloom = (struct bloom){.line_count = keys * BLOOM_BITS_PER_KEY / LINE_BITS + 1, .one_line = one_line};
    bloom->words = aligned_alloc(LINE_BYTES, (size_t)bloom_bytes(bloom));
    if (bloom->words != NULL)
        memset(bloom->words, 0, (size_t)bloom_bytes(bloom));
    return bloom->words != NULL;
}

void
bloom_deinit(struct bloom *bloom)
{
    free(bloom->words);
}

uint64_t
bloom_bytes(const struct bloom *bloom)
{
    return bloom->line_count * LINE_BYTES;
}

void
bloom_insert(struct bloom *bloom, uint64_t hash)
{
    for (unsigned i = 0; i < BLOOM_HASHES; i++) {
        uint64_t bit = bit_of(bloom, hash, i);

        bloom->words[bit / 64] |= UINT64_C(1) << bit % 64;
    }
}

bool
bloom_test(const struct bloom *bloom, uint64_t hash)
{
    for (unsigned i = 0; i < BLOOM_HASHES; i++) {
        uint64_t bit = bit_of(bloom, hash, i);

        if ((bloom->words[bit / 64] >> bit % 64 & 1) == 0)
            return false;
    }
    return true;
}

void
bloom_prefetch(const struct bloom *bloom, uint64_t hash)
{
    __builtin_prefetch(&bloom->words[bit_of(bloom, hash, 0) / 64]);
}
