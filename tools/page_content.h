/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a page, computed from its id: they look like a bf16 KV tensor, and whoever knows the id can check every
 * byte.
 *
 * Promises
 *  - Each 512-byte sector depends on the id and on its position, so lost, torn, swapped and misplaced sectors show.
 *  - Two ids never give the same page of 64 bytes or more, unless 256 random bits agree by accident.
 *  - Signs and mantissas are random; exponents are those of Gaussian values with a scale for each channel, so a codec
 *    finds what it would find in a real cache, and nothing repeats from page to page.
 *  - Making and checking run at several GB/s a core: one pass over memory, no multiplication a byte.
 */
#ifndef VARVE_TOOLS_PAGE_CONTENT_H
#define VARVE_TOOLS_PAGE_CONTENT_H

#include <stddef.h>
#include <stdint.h>

#include "varve.h"

struct page_content; /* immutable once created: any number of threads */

/* NULL when out of memory. The caller owns it. Takes some 20 ms. */
struct page_content *page_content_create(void);
void page_content_destroy(struct page_content *content);

/* Write bytes [offset, offset + size) of the page `id` to buf. */
void page_content_fill(const struct page_content *content, const varve_id *id, uint64_t offset, void *buf, size_t size);

/* How many bytes of buf differ from bytes [offset, offset + size) of the page `id`. */
uint64_t page_content_wrong_bytes(const struct page_content *content, const varve_id *id, uint64_t offset,
                                  const void *buf, size_t size);

#endif
