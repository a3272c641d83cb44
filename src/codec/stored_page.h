/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stored_page.h - bytes of a coded page. All integers are little-endian.
 *
 *   0   uint8    version, 1
 *   1   uint8    element (enum varve_element)
 *   2   uint16   zero
 *   4   uint32   bytes of the page
 *   8   uint32   for each plane, those of the first block first: stored bytes, and the top bit where it is coded; a block is 65,536
 *                elements, or what is left
 *       ...      the planes, in that order: a zstd frame, shorter than the plane, where coded, else as they are
 *       ...      the bytes after the last whole element
 *
 * A decoder holds all lengths against each other and the total before it looks at a plane.
 */
#ifndef VARVE_CODEC_STORED_PAGE_H
#define VARVE_CODEC_STORED_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "varve.h"

#define STORED_PAGE_VERSION        1
#define STORED_PAGE_FIXED_BYTES    8
#define STORED_PAGE_BLOCK_ELEMENTS 65536 /* one block of zstd a plane; split and coded planes stay in the L2 cache */

struct stored_page {
    uint64_t size;     /* bytes of the page */
    uint64_t elements; /* whole ones */
    uint32_t tail;     /* bytes after them */
    uint32_t element;  /* enum varve_element */
    uint32_t width;    /* bytes of an element, and planes */
    uint32_t blocks;
};

/* Fill *out for a page; VARVE_E_ARG: no such element, or too large. */
int stored_page_make(uint32_t element, uint64_t size, struct stored_page *out);

/* Where the planes begin. */
uint64_t stored_page_header_bytes(const struct stored_page *page);

/* Elements of one block. */
size_t stored_page_block_elements(const struct stored_page *page, uint32_t block);

/* One plane in the table, which lies at the beginning of the stored bytes. */
void stored_page_set_length(const struct stored_page *page, uint32_t block, uint32_t plane, uint32_t length, bool coded,
                            uint8_t *out);
uint32_t stored_page_get_length(const struct stored_page *page, uint32_t block, uint32_t plane, const uint8_t *in,
                                bool *coded);

/* Write the fixed part; the table is the caller's to fill. */
void stored_page_encode(const struct stored_page *page, uint8_t *out);

/* VARVE_OK: the table is complete, each length is possible, and together they fill exactly `stored` bytes. Else VARVE_E_CORRUPT. */
int stored_page_decode(const uint8_t *in, uint64_t stored, struct stored_page *out);

#endif
