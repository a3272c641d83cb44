/* SPDX-License-Identifier: Apache-2.0 */
#define XXH_INLINE_ALL
#include "base/hash.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

#include "base/wire.h"

uint64_t
hash_bytes(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

uint64_t
hash_id(uint32_t ns_id, const uint8_t id_prefix[ID_PREFIX_BYTES])
{
    return XXH3_64bits_withSeed(id_prefix, ID_PREFIX_BYTES, ns_id);
}

uint64_t
hash_page(uint32_t ns_id, const varve_id *id, const struct iovec *iov, uint32_t iov_count, uint64_t size)
{
    uint8_t name[4 + VARVE_ID_BYTES];
    XXH3_state_t state;
    uint64_t seed;

    wire_put32(name, ns_id);
    memcpy(name + 4, id->bytes, VARVE_ID_BYTES);
    seed = XXH3_64bits(name, sizeof(name));
    if (size == 0)
        return XXH3_64bits_withSeed("", 0, seed);
    assert(iov_count > 0);
    if (iov[0].iov_len >= size)
        return XXH3_64bits_withSeed(iov[0].iov_base, size, seed);

    XXH3_INITSTATE(&state);
    (void)XXH3_64bits_reset_withSeed(&state, seed);
    for (uint32_t i = 0; i < iov_count && size > 0; i++) {
        size_t part = iov[i].iov_len < size ? iov[i].iov_len : (size_t)size;

        (void)XXH3_64bits_update(&state, iov[i].iov_base, part);
        size -= part;
    }
    assert(size == 0);
    return XXH3_64bits_digest(&state);
}
