/* SPDX-License-Identifier: Apache-2.0 */
#define XXH_INLINE_ALL
#include "base/hash.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

#include "base/hash_wide.h"
#include "base/wire.h"

#define HASH_STREAM hash_stream_plain
#include "base/hash_stream.h"

/* With the widest vectors that this processor has. */
static uint64_t
hash_stream(const struct iovec *iov, uint32_t iov_count, uint64_t size, uint64_t seed)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        return hash_stream_wide(iov, iov_count, size, seed);
#endif
    return hash_stream_plain(iov, iov_count, size, seed);
}

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
    uint64_t seed;

    wire_put32(name, ns_id);
    memcpy(name + 4, id->bytes, VARVE_ID_BYTES);
    seed = XXH3_64bits(name, sizeof(name));
    if (size == 0)
        return XXH3_64bits_withSeed("", 0, seed);
    return hash_stream(iov, iov_count, size, seed);
}
