/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The locator of a run; see locator.h. The upper half of the hash picks the bucket and the lower half is the
 * fingerprint, so the two are independent. Load: 4/5 of 16-slot buckets and 9/10 of 12-slot ones, that is 5.0 and 5.9
 * bytes a page.
 */
#include "index/locator.h"

#include <assert.h>
#include <string.h>

#include "base/wire.h"
#include "format/run_format.h"

#define SLOTS_OF_4 UINT32_C(16)
#define SLOTS_OF_5 UINT32_C(12)
/*
 * Under 1 false positive in 1,000: a lookup compares 25 slots of 4 bytes (1.5 buckets at their load), or 50 of 5
 * bytes.
 */
#define FINGERPRINT_BITS_4   15
#define FINGERPRINT_BITS_5   18
#define FINGERPRINT_BITS_MAX 32

static uint32_t
slots_per_bucket(const struct locator *locator)
{
    return locator->slot_bytes == 4 ? SLOTS_OF_4 : SLOTS_OF_5;
}

static uint64_t
bucket_of(const struct locator *locator, uint64_t hash)
{
    return ((hash >> 32) * locator->bucket_count) >> 32;
}

static uint32_t
place_bits(const struct locator *locator)
{
    return (uint32_t)locator->block_bits + locator->page_bits;
}

static uint64_t
fingerprint_of(const struct locator *locator, uint64_t hash)
{
    uint64_t fingerprint = hash & ((UINT64_C(1) << locator->fingerprint_bits) - 1);

    return fingerprint == 0 ? 1 : fingerprint;
}

void
locator_plan(struct locator *locator, uint64_t pages, uint64_t blocks, uint32_t fingerprint_bits)
{
    uint32_t block_bits = 1;
    uint32_t least = fingerprint_bits < FINGERPRINT_BITS_4 ? FINGERPRINT_BITS_4 : fingerprint_bits;
    uint32_t room;

    while (block_bits < 31 && UINT64_C(1) << block_bits < blocks)
        block_bits++;
    *locator = (struct locator){.slot_bytes = block_bits + least <= 32 ? 4 : 5, .block_bits = (uint8_t)block_bits};
    if (locator->slot_bytes == 5 && least < FINGERPRINT_BITS_5)
        least = FINGERPRINT_BITS_5;
    room = 8U * locator->slot_bytes - block_bits;
    if (room > least)
        locator->page_bits = (uint8_t)(room - least < BLOCK_PAGES_BITS ? room - least : BLOCK_PAGES_BITS);
    room -= locator->page_bits;
    locator->fingerprint_bits = (uint8_t)(room < FINGERPRINT_BITS_MAX ? room : FINGERPRINT_BITS_MAX);
    locator->bucket_count = locator->slot_bytes == 4 ? pages * 5 / (UINT64_C(4) * SLOTS_OF_4) + 1
                                                     : pages * 10 / (UINT64_C(9) * SLOTS_OF_5) + 1;
    assert(locator->bucket_count <= UINT32_MAX);
    locator->bytes = run_padded(locator->bucket_count * RUN_BUCKET_BYTES);
}

int
locator_alloc(struct env *env, struct locator *locator)
{
    locator->env = env;
    locator->buckets = env->ops->alloc(env, (size_t)locator->bytes, RUN_PAD_BYTES);
    if (locator->buckets == NULL)
        return VARVE_E_NOMEM;
    memset(locator->buckets, 0, (size_t)locator->bytes);
    return VARVE_OK;
}

void
locator_free(struct locator *locator)
{
    if (locator->buckets != NULL)
        env_free(locator->env, locator->buckets);
    locator->buckets = NULL;
}

static uint64_t
slot_get(const struct locator *locator, const uint8_t *bucket, uint32_t slot)
{
    const uint8_t *p = bucket + (size_t)slot * locator->slot_bytes;

    if (locator->slot_bytes == 4)
        return wire_get32(p);
    return wire_get32(p) | (uint64_t)p[4] << 32;
}

void
locator_insert(struct locator *locator, uint64_t hash, uint32_t block, uint32_t page)
{
    uint64_t bucket = bucket_of(locator, hash);
    uint64_t place = (uint64_t)block << locator->page_bits | page >> (BLOCK_PAGES_BITS - locator->page_bits);
    uint64_t value = fingerprint_of(locator, hash) << place_bits(locator) | place;
    uint32_t slots = slots_per_bucket(locator);

    assert(block < UINT32_C(1) << locator->block_bits && page < 1 << BLOCK_PAGES_BITS);
    for (uint64_t tried = 0; tried < locator->bucket_count; tried++) {
        uint8_t *p = locator->buckets + bucket * RUN_BUCKET_BYTES;

        for (uint32_t slot = 0; slot < slots; slot++) {
            uint8_t *at = p + (size_t)slot * locator->slot_bytes;

            if (slot_get(locator, p, slot) != 0)
                continue;
            wire_put32(at, (uint32_t)value);
            if (locator->slot_bytes == 5)
                at[4] = (uint8_t)(value >> 32);
            return;
        }
        bucket = bucket + 1 == locator->bucket_count ? 0 : bucket + 1;
    }
    assert(false && "more pages than the locator was planned for");
}

void
locator_prefetch(const struct locator *locator, uint64_t hash)
{
    __builtin_prefetch(locator->buckets + bucket_of(locator, hash) * RUN_BUCKET_BYTES);
}

/* Compare a whole bucket, branch-free: bit n of the result is set where slot n has the fingerprint. */
static uint32_t
bucket_matches(const struct locator *locator, uint64_t bucket, uint64_t fingerprint)
{
    const uint8_t *p = locator->buckets + bucket * RUN_BUCKET_BYTES;
    uint32_t matches = 0;

    if (locator->slot_bytes == 4) {
        uint32_t bits = place_bits(locator);
        uint32_t want = (uint32_t)(fingerprint << bits);

        for (uint32_t slot = 0; slot < SLOTS_OF_4; slot++) {
            uint32_t value = wire_get32(p + (size_t)slot * 4);

            matches |= (uint32_t)(((value ^ want) >> bits) == 0) << slot;
        }
        return matches;
    }
    for (uint32_t slot = 0; slot < SLOTS_OF_5; slot++)
        matches |= (uint32_t)(slot_get(locator, p, slot) >> place_bits(locator) == fingerprint) << slot;
    return matches;
}

void
locator_probe_init(struct locator_probe *probe, const struct locator *locator, uint64_t hash)
{
    *probe = (struct locator_probe){
        .locator = locator,
        .bucket = bucket_of(locator, hash),
        .buckets_left = locator->bucket_count - 1,
        .fingerprint = fingerprint_of(locator, hash),
    };
    probe->matches = bucket_matches(locator, probe->bucket, probe->fingerprint);
}

bool
locator_probe_next(struct locator_probe *probe, struct locator_match *out)
{
    const struct locator *locator = probe->locator;
    const uint8_t *bucket = locator->buckets + probe->bucket * RUN_BUCKET_BYTES;

    for (;;) {
        if (probe->matches != 0) {
            uint64_t slot = slot_get(locator, bucket, (uint32_t)__builtin_ctz(probe->matches));
            uint32_t drop = BLOCK_PAGES_BITS - locator->page_bits;

            probe->matches &= probe->matches - 1;
            out->block = (uint32_t)(slot >> locator->page_bits & ((UINT64_C(1) << locator->block_bits) - 1));
            out->first = (uint32_t)(slot & ((UINT64_C(1) << locator->page_bits) - 1)) << drop;
            out->end = out->first + (UINT32_C(1) << drop);
            return true;
        }
        if (slot_get(locator, bucket, slots_per_bucket(locator) - 1) == 0 || probe->buckets_left == 0)
            return false;
        probe->buckets_left--;
        probe->bucket = probe->bucket + 1 == locator->bucket_count ? 0 : probe->bucket + 1;
        bucket = locator->buckets + probe->bucket * RUN_BUCKET_BYTES;
        probe->matches = bucket_matches(locator, probe->bucket, probe->fingerprint);
    }
}
