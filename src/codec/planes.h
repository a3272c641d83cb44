/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Splitting elements into byte planes, and joining them again. Element i, little-endian bytes b0 b1 (b2 b3), becomes byte i of each plane:
 *
 *   1 byte    plane 0: b0
 *   2 bytes   the 16 bits are rotated left by one, so that the sign is at the bottom; plane 0: their low byte, plane 1: their high byte
 *   4 bytes   plane 0: b0, plane 1: b1, planes 2 and 3: b2 b3 as above
 *
 * The last plane is the exponent: all 8 bits of that of bf16 and fp32; 5 bits and the top 3 of the mantissa of fp16. The variants give
 * equal bytes; they differ in speed alone.
 */
#ifndef VARVE_CODEC_PLANES_H
#define VARVE_CODEC_PLANES_H

#include <stddef.h>
#include <stdint.h>

#include "varve.h"

#define PLANES_MAX 4

/* Addresses need no alignment; planes overlap neither each other nor the elements. */
struct planes_ops {
    const char *name;
    void (*split2)(const uint8_t *elements, size_t count, uint8_t *const *planes);
    void (*split4)(const uint8_t *elements, size_t count, uint8_t *const *planes);
    void (*join2)(const uint8_t *const *planes, size_t count, uint8_t *elements);
    void (*join4)(const uint8_t *const *planes, size_t count, uint8_t *elements);
};

extern const struct planes_ops planes_plain; /* C alone */

/* The variants of this CPU besides planes_plain, slowest first; NULL from `index` on. Static storage. */
const struct planes_ops *planes_x86(size_t index);
const struct planes_ops *planes_neon(size_t index);

/* The fastest. */
const struct planes_ops *planes_best(void);

/* Bytes of an element, and so planes; 0: no such element. */
uint32_t planes_count(uint32_t element);

/* Parts of the planes, for what is too short for a vector: elements from `first` on. */
void planes_split2_from(size_t first, const uint8_t *elements, size_t count, uint8_t *const *planes);
void planes_split4_from(size_t first, const uint8_t *elements, size_t count, uint8_t *const *planes);
void planes_join2_from(size_t first, const uint8_t *const *planes, size_t count, uint8_t *elements);
void planes_join4_from(size_t first, const uint8_t *const *planes, size_t count, uint8_t *elements);

/* `width` bytes an element: 1, 2 or 4. */
void planes_split(const struct planes_ops *ops, uint32_t width, const uint8_t *elements, size_t count,
                  uint8_t *const *planes);
void planes_join(const struct planes_ops *ops, uint32_t width, const uint8_t *const *planes, size_t count,
                 uint8_t *elements);

#endif
