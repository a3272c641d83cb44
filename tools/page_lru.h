/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of numbered pages with a limit, least recently used ones leaving first. Whoever uses the pages of a chain from leaf to root makes every
 * ancestor younger than its descendants, so that what leaves is always the end of a chain. One thread at a time.
 */
#ifndef VARVE_TOOLS_PAGE_LRU_H
#define VARVE_TOOLS_PAGE_LRU_H

#include <stdbool.h>
#include <stdint.h>

struct page_lru {
    uint32_t *younger, *older; /* by page */
    uint8_t *resident;
    uint32_t youngest, oldest;
    uint64_t count, capacity;
};

/* For pages 0 to page_count - 1. VARVE_OK or VARVE_E_NOMEM. */
int page_lru_init(struct page_lru *lru, uint32_t page_count, uint64_t capacity);
void page_lru_deinit(struct page_lru *lru); /* a zeroed one, too */

bool page_lru_has(const struct page_lru *lru, uint32_t page);

/* The page is now the youngest. True: it was not there before. */
bool page_lru_use(struct page_lru *lru, uint32_t page);

#endif
