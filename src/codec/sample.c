/* SPDX-License-Identifier: Apache-2.0 */
/* codec_sample(): what encoding would make of a page, from the entropy of its planes at a few places. */
#include "codec/codec.h"
#include "codec/entropy.h"
#include "codec/iov_cursor.h"
#include "codec/planes.h"
#include "codec/stored_page.h"

#define RUNS         16
#define RUN_ELEMENTS 128

/* Elements at the places of the sample, or all of a short page. Returns how many. */
static size_t
gather(const struct stored_page *page, struct iov_cursor cursor, uint8_t *elements)
{
    size_t run_bytes = (size_t)RUN_ELEMENTS * page->width;
    uint64_t at = 0;

    if (page->elements < (uint64_t)RUNS * RUN_ELEMENTS) {
        iov_cursor_read(&cursor, elements, (size_t)page->elements * page->width);
        return (size_t)page->elements;
    }
    for (uint32_t i = 0; i < RUNS; i++) {
        uint64_t begin = entropy_run_begin(i, RUNS, RUN_ELEMENTS, page->elements) * page->width;

        iov_cursor_skip(&cursor, (size_t)(begin - at));
        iov_cursor_read(&cursor, elements + i * run_bytes, run_bytes);
        at = begin + run_bytes;
    }
    return (size_t)RUNS * RUN_ELEMENTS;
}

uint32_t
codec_sample(enum varve_element element, const struct iovec *iov, uint32_t iov_count)
{
    uint8_t elements[RUNS * RUN_ELEMENTS * PLANES_MAX], split[PLANES_MAX][RUNS * RUN_ELEMENTS];
    uint8_t *const planes[PLANES_MAX] = {split[0], split[1], split[2], split[3]};
    struct stored_page page;
    uint64_t bits = 0, bytes;
    size_t count;

    if (stored_page_make(element, iov_total(iov, iov_count), &page) != VARVE_OK || page.elements == 0 ||
        element == VARVE_ELEMENT_BYTES)
        return 1000;
    count = gather(&page, iov_cursor_make(iov, iov_count), elements);
    planes_split(planes_best(), page.width, elements, count, planes);
    for (uint32_t plane = 0; plane < page.width; plane++) {
        uint32_t plane_bits = entropy_of_bytes(planes[plane], count);

        bits += plane_bits < ENTROPY_CODED_MAX ? plane_bits : 8 * ENTROPY_ONE_BIT;
    }
    bytes = page.elements * bits / (8 * ENTROPY_ONE_BIT) + stored_page_header_bytes(&page);
    return bytes < page.size ? (uint32_t)(bytes * 1000 / page.size) : 1000;
}
