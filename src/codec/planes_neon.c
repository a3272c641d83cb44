/* SPDX-License-Identifier: Apache-2.0 */
/* Planes with the vectors of 64-bit ARM, which every one has. Loads and stores of interleaved bytes do most of it. */
#include "codec/planes.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#define VECTOR_BYTES 16

static inline uint8x16_t
rotated_left(uint8x16_t byte, uint8x16_t other) /* one byte of a pair, whose 16 bits are rotated by one */
{
    return vorrq_u8(vshlq_n_u8(byte, 1), vshrq_n_u8(other, 7));
}

static inline uint8x16_t
rotated_right(uint8x16_t byte, uint8x16_t other)
{
    return vorrq_u8(vshrq_n_u8(byte, 1), vshlq_n_u8(other, 7));
}

static void
neon_split2(const uint8_t *elements, size_t count, uint8_t *const *planes)
{
    size_t i = 0;

    for (; i + VECTOR_BYTES <= count; i += VECTOR_BYTES) {
        uint8x16x2_t b = vld2q_u8(elements + 2 * i);

        vst1q_u8(planes[0] + i, rotated_left(b.val[0], b.val[1]));
        vst1q_u8(planes[1] + i, rotated_left(b.val[1], b.val[0]));
    }
    planes_split2_from(i, elements, count, planes);
}

static void
neon_split4(const uint8_t *elements, size_t count, uint8_t *const *planes)
{
    size_t i = 0;

    for (; i + VECTOR_BYTES <= count; i += VECTOR_BYTES) {
        uint8x16x4_t b = vld4q_u8(elements + 4 * i);

        vst1q_u8(planes[0] + i, b.val[0]);
        vst1q_u8(planes[1] + i, b.val[1]);
        vst1q_u8(planes[2] + i, rotated_left(b.val[2], b.val[3]));
        vst1q_u8(planes[3] + i, rotated_left(b.val[3], b.val[2]));
    }
    planes_split4_from(i, elements, count, planes);
}

static void
neon_join2(const uint8_t *const *planes, size_t count, uint8_t *elements)
{
    size_t i = 0;

    for (; i + VECTOR_BYTES <= count; i += VECTOR_BYTES) {
        uint8x16_t low = vld1q_u8(planes[0] + i), high = vld1q_u8(planes[1] + i);
        uint8x16x2_t b = {{rotated_right(low, high), rotated_right(high, low)}};

        vst2q_u8(elements + 2 * i, b);
    }
    planes_join2_from(i, planes, count, elements);
}

static void
neon_join4(const uint8_t *const *planes, size_t count, uint8_t *elements)
{
    size_t i = 0;

    for (; i + VECTOR_BYTES <= count; i += VECTOR_BYTES) {
        uint8x16_t low = vld1q_u8(planes[2] + i), high = vld1q_u8(planes[3] + i);
        uint8x16x4_t b = {
            {vld1q_u8(planes[0] + i), vld1q_u8(planes[1] + i), rotated_right(low, high), rotated_right(high, low)}};

        vst4q_u8(elements + 4 * i, b);
    }
    planes_join4_from(i, planes, count, elements);
}

static const struct planes_ops neon = {"neon", neon_split2, neon_split4, neon_join2, neon_join4};

const struct planes_ops *
planes_neon(size_t index)
{
    return index == 0 ? &neon : NULL;
}

#else

const struct planes_ops *
planes_neon(size_t index)
{
    (void)index;
    return NULL;
}

#endif
