/* SPDX-License-Identifier: Apache-2.0 */
/* A doubly linked list in arrays. Invariant: a page is linked exactly if it is resident, and there are at most `capacity` of them. */
#include "page_lru.h"

#include <stdlib.h>

#include "varve.h"

#define NONE UINT32_MAX

int
page_lru_init(struct page_lru *lru, uint32_t page_count, uint64_t capacity)
{
    *lru = (struct page_lru){.youngest = NONE, .oldest = NONE, .capacity = capacity};
    lru->younger = malloc((page_count + (size_t)1) * sizeof(uint32_t));
    lru->older = malloc((page_count + (size_t)1) * sizeof(uint32_t));
    lru->resident = calloc(page_count + (size_t)1, 1);
    if (lru->younger != NULL && lru->older != NULL && lru->resident != NULL)
        return VARVE_OK;
    page_lru_deinit(lru);
    return VARVE_E_NOMEM;
}

void
page_lru_deinit(struct page_lru *lru)
{
    free(lru->younger);
    free(lru->older);
    free(lru->resident);
    *lru = (struct page_lru){0};
}

bool
page_lru_has(const struct page_lru *lru, uint32_t page)
{
    return lru->resident[page] != 0;
}

static void
unlink_page(struct page_lru *lru, uint32_t page)
{
    if (lru->younger[page] != NONE)
        lru->older[lru->younger[page]] = lru->older[page];
    else
        lru->youngest = lru->older[page];
    if (lru->older[page] != NONE)
        lru->younger[lru->older[page]] = lru->younger[page];
    else
        lru->oldest = lru->younger[page];
}

bool
page_lru_use(struct page_lru *lru, uint32_t page)
{
    bool added = lru->resident[page] == 0;

    if (added) {
        lru->resident[page] = 1;
        lru->count++;
    } else {
        unlink_page(lru, page);
    }
    lru->younger[page] = NONE;
    lru->older[page] = lru->youngest;
    if (lru->youngest != NONE)
        lru->younger[lru->youngest] = page;
    else
        lru->oldest = page;
    lru->youngest = page;
    if (lru->count > lru->capacity) {
        uint32_t victim = lru->oldest;

        unlink_page(lru, victim);
        lru->resident[victim] = 0;
        lru->count--;
    }
    return added;
}
