/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/entropy.h"

#include <assert.h>

/* log2 of n >= 1: the position of the highest bit, and for the bits below it a parabola that is off by 0.008 bits at most. */
static uint32_t
log2_fixed(uint32_t n)
{
    uint32_t exponent = 31 - (uint32_t)__builtin_clz(n);
    uint32_t fraction = (uint32_t)(((uint64_t)n << 10 >> exponent) & 1023);

    return exponent * 1024 + fraction + fraction * (1024 - fraction) * 352 / (1024 * 1024);
}

uint32_t
entropy_of_bytes(const uint8_t *bytes, size_t count)
{
    uint32_t counts[4][256] = {{0}}; /* equal neighbours do not wait for each other */
    uint64_t sum = 0, bits;
    uint64_t symbols = 0;

    assert(count <= ENTROPY_BYTES_MAX);
    if (count == 0)
        return 0;
    for (size_t i = 0; i < count; i++)
        counts[i % 4][bytes[i]]++;
    for (uint32_t value = 0; value < 256; value++) {
        uint32_t n = counts[0][value] + counts[1][value] + counts[2][value] + counts[3][value];

        if (n > 0) {
            sum += (uint64_t)n * log2_fixed(n);
            symbols++;
        }
    }
    /* Miller and Madow: a sample of n bytes misses about (symbols - 1) / (2 n ln 2) bits. */
    bits = log2_fixed((uint32_t)count) + (symbols - 1) * 739 / count;
    bits = bits > sum / count ? bits - sum / count : 0;
    return (uint32_t)(bits < 8 * ENTROPY_ONE_BIT ? bits : 8 * ENTROPY_ONE_BIT);
}

uint64_t
entropy_run_begin(uint32_t index, uint32_t runs, uint32_t length, uint64_t total)
{
    uint64_t stride = total / runs;

    assert(stride >= length);
    return index * stride + (index * UINT64_C(0x9e3779b97f4a7c15) >> 32) % (stride - length + 1);
}
