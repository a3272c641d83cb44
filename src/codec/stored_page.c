/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/stored_page.h"

#include "base/wire.h"
#include "codec/planes.h"

#define AT_VERSION 0
#define AT_ELEMENT 1
#define AT_ZERO    2
#define AT_SIZE    4
#define CODED      (UINT32_C(1) << 31)

int
stored_page_make(uint32_t element, uint64_t size, struct stored_page *out)
{
    uint32_t width = planes_count(element);

    if (width == 0 || size > VARVE_PAGE_BYTES_MAX)
        return VARVE_E_ARG;
    *out = (struct stored_page){.size = size, .elements = size / width, .element = element, .width = width};
    out->tail = (uint32_t)(size % width);
    out->blocks = (uint32_t)((out->elements + STORED_PAGE_BLOCK_ELEMENTS - 1) / STORED_PAGE_BLOCK_ELEMENTS);
    return VARVE_OK;
}

static size_t
length_offset(const struct stored_page *page, uint32_t block, uint32_t plane)
{
    return STORED_PAGE_FIXED_BYTES + 4 * ((size_t)block * page->width + plane);
}

uint64_t
stored_page_header_bytes(const struct stored_page *page)
{
    return length_offset(page, page->blocks, 0);
}

void
stored_page_set_length(const struct stored_page *page, uint32_t block, uint32_t plane, uint32_t length, bool coded,
                       uint8_t *out)
{
    wire_put32(out + length_offset(page, block, plane), length | (coded ? CODED : 0));
}

uint32_t
stored_page_get_length(const struct stored_page *page, uint32_t block, uint32_t plane, const uint8_t *in, bool *coded)
{
    uint32_t length = wire_get32(in + length_offset(page, block, plane));

    *coded = (length & CODED) != 0;
    return length & ~CODED;
}

size_t
stored_page_block_elements(const struct stored_page *page, uint32_t block)
{
    uint64_t left = page->elements - (uint64_t)block * STORED_PAGE_BLOCK_ELEMENTS;

    return left < STORED_PAGE_BLOCK_ELEMENTS ? (size_t)left : STORED_PAGE_BLOCK_ELEMENTS;
}

void
stored_page_encode(const struct stored_page *page, uint8_t *out)
{
    out[AT_VERSION] = STORED_PAGE_VERSION;
    out[AT_ELEMENT] = (uint8_t)page->element;
    wire_put16(out + AT_ZERO, 0);
    wire_put32(out + AT_SIZE, (uint32_t)page->size);
}

int
stored_page_decode(const uint8_t *in, uint64_t stored, struct stored_page *out)
{
    uint64_t need;

    if (stored < STORED_PAGE_FIXED_BYTES || in[AT_VERSION] != STORED_PAGE_VERSION || wire_get16(in + AT_ZERO) != 0 ||
        stored_page_make(in[AT_ELEMENT], wire_get32(in + AT_SIZE), out) != VARVE_OK)
        return VARVE_E_CORRUPT;
    need = stored_page_header_bytes(out);
    if (stored < need)
        return VARVE_E_CORRUPT;
    for (uint32_t block = 0; block < out->blocks; block++) {
        for (uint32_t plane = 0; plane < out->width; plane++) {
            size_t count = stored_page_block_elements(out, block);
            bool coded;
            uint32_t length = stored_page_get_length(out, block, plane, in, &coded);

            if (coded ? length >= count : length != count)
                return VARVE_E_CORRUPT;
            need += length;
        }
    }
    return stored == need + out->tail ? VARVE_OK : VARVE_E_CORRUPT;
}
