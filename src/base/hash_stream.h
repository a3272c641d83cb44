/* SPDX-License-Identifier: Apache-2.0 */
/* The body of HASH_STREAM, for each kind of vector that it is compiled with: XXH3-64 of the first `size` > 0 bytes of the iovecs. */
uint64_t
HASH_STREAM(const struct iovec *iov, uint32_t iov_count, uint64_t size, uint64_t seed)
{
    XXH3_state_t state;

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
