/* SPDX-License-Identifier: Apache-2.0 */
/* Planes in plain C, which defines what every other variant gives; and the choice among them. */
#include "codec/planes.h"

#include <assert.h>
#include <string.h>

/* A pair of bytes, rotated to the left as 16 bits, and back. */
#define ROTATED_LOW(b0, b1)    ((uint8_t)((b0) << 1 | (b1) >> 7))
#define ROTATED_HIGH(b0, b1)   ((uint8_t)((b1) << 1 | (b0) >> 7))
#define UNROTATED_0(low, high) ((uint8_t)((low) >> 1 | (high) << 7))
#define UNROTATED_1(low, high) ((uint8_t)((high) >> 1 | (low) << 7))

void
planes_split2_from(size_t first, const uint8_t *elements, size_t count, uint8_t *const *planes)
{
    const uint8_t *restrict b = elements;
    uint8_t *restrict low = planes[0], *restrict high = planes[1];

    for (size_t i = first; i < count; i++) {
        low[i] = ROTATED_LOW(b[2 * i], b[2 * i + 1]);
        high[i] = ROTATED_HIGH(b[2 * i], b[2 * i + 1]);
    }
}

void
planes_split4_from(size_t first, const uint8_t *elements, size_t count, uint8_t *const *planes)
{
    const uint8_t *restrict b = elements;
    uint8_t *restrict b0 = planes[0], *restrict b1 = planes[1], *restrict low = planes[2], *restrict high = planes[3];

    for (size_t i = first; i < count; i++) {
        b0[i] = b[4 * i];
        b1[i] = b[4 * i + 1];
        low[i] = ROTATED_LOW(b[4 * i + 2], b[4 * i + 3]);
        high[i] = ROTATED_HIGH(b[4 * i + 2], b[4 * i + 3]);
    }
}

void
planes_join2_from(size_t first, const uint8_t *const *planes, size_t count, uint8_t *elements)
{
    const uint8_t *restrict low = planes[0], *restrict high = planes[1];
    uint8_t *restrict b = elements;

    for (size_t i = first; i < count; i++) {
        b[2 * i] = UNROTATED_0(low[i], high[i]);
        b[2 * i + 1] = UNROTATED_1(low[i], high[i]);
    }
}

void
planes_join4_from(size_t first, const uint8_t *const *planes, size_t count, uint8_t *elements)
{
    const uint8_t *restrict b0 = planes[0], *restrict b1 = planes[1];
    const uint8_t *restrict low = planes[2], *restrict high = planes[3];
    uint8_t *restrict b = elements;

    for (size_t i = first; i < count; i++) {
        b[4 * i] = b0[i];
        b[4 * i + 1] = b1[i];
        b[4 * i + 2] = UNROTATED_0(low[i], high[i]);
        b[4 * i + 3] = UNROTATED_1(low[i], high[i]);
    }
}

static void
plain_split2(const uint8_t *elements, size_t count, uint8_t *const *planes)
{
    planes_split2_from(0, elements, count, planes);
}

static void
plain_split4(const uint8_t *elements, size_t count, uint8_t *const *planes)
{
    planes_split4_from(0, elements, count, planes);
}

static void
plain_join2(const uint8_t *const *planes, size_t count, uint8_t *elements)
{
    planes_join2_from(0, planes, count, elements);
}

static void
plain_join4(const uint8_t *const *planes, size_t count, uint8_t *elements)
{
    planes_join4_from(0, planes, count, elements);
}

const struct planes_ops planes_plain = {"plain", plain_split2, plain_split4, plain_join2, plain_join4};

const struct planes_ops *
planes_best(void)
{
    const struct planes_ops *best = &planes_plain, *next;

    for (size_t i = 0; (next = planes_x86(i)) != NULL; i++)
        best = next;
    for (size_t i = 0; (next = planes_neon(i)) != NULL; i++)
        best = next;
    return best;
}

uint32_t
planes_count(uint32_t element)
{
    static const uint8_t widths[] = {[VARVE_ELEMENT_BYTES] = 1,
                                     [VARVE_ELEMENT_BF16] = 2,
                                     [VARVE_ELEMENT_FP16] = 2,
                                     [VARVE_ELEMENT_FP32] = 4,
                                     [VARVE_ELEMENT_FP8] = 1};

    return element < sizeof(widths) ? widths[element] : 0;
}

void
planes_split(const struct planes_ops *ops, uint32_t width, const uint8_t *elements, size_t count,
             uint8_t *const *planes)
{
    assert(width == 1 || width == 2 || width == 4);
    if (width == 1)
        memcpy(planes[0], elements, count);
    else if (width == 2)
        ops->split2(elements, count, planes);
    else
        ops->split4(elements, count, planes);
}

void
planes_join(const struct planes_ops *ops, uint32_t width, const uint8_t *const *planes, size_t count, uint8_t *elements)
{
    assert(width == 1 || width == 2 || width == 4);
    if (width == 1)
        memcpy(elements, planes[0], count);
    else if (width == 2)
        ops->join2(planes, count, elements);
    else
        ops->join4(planes, count, elements);
}
