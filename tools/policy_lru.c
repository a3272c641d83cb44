/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page-granular LRU, chains touched from leaf to root, so that the victim is always the end of a chain. What a store that could drop and write single
 * pages at no cost would keep.
 */
#include <stdlib.h>

#include "policy.h"

#define NONE UINT32_MAX

struct lru {
    uint32_t *younger, *older; /* by page */
    uint8_t *resident;
    uint32_t youngest, oldest;
    uint64_t count;
};

static void
unlink_page(struct lru *lru, uint32_t page)
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

static void
use(struct lru *lru, uint32_t page, uint64_t capacity, struct policy_result *result)
{
    if (lru->resident[page] != 0) {
        unlink_page(lru, page);
    } else {
        lru->resident[page] = 1;
        lru->count++;
        result->written++;
    }
    lru->younger[page] = NONE;
    lru->older[page] = lru->youngest;
    if (lru->youngest != NONE)
        lru->younger[lru->youngest] = page;
    else
        lru->oldest = page;
    lru->youngest = page;
    if (lru->count > capacity) {
        uint32_t victim = lru->oldest;

        unlink_page(lru, victim);
        lru->resident[victim] = 0;
        lru->count--;
    }
}

int
policy_lru(const struct policy_trace *trace, uint64_t capacity, struct policy_result *result)
{
    struct lru lru = {.youngest = NONE, .oldest = NONE};
    int rc = VARVE_E_NOMEM;

    *result = (struct policy_result){0};
    lru.younger = malloc((trace->page_count + 1u) * sizeof(uint32_t));
    lru.older = malloc((trace->page_count + 1u) * sizeof(uint32_t));
    lru.resident = calloc(trace->page_count + 1u, 1);
    if (lru.younger != NULL && lru.older != NULL && lru.resident != NULL) {
        for (size_t r = 0; r < trace->requests; r++) {
            const uint32_t *pages = trace->pages + trace->first[r];
            size_t count = trace->first[r + 1] - trace->first[r], hits = 0;

            while (hits < count && lru.resident[pages[hits]] != 0)
                hits++;
            result->hits += hits;
            for (size_t i = count; i > 0; i--)
                use(&lru, pages[i - 1], capacity, result);
        }
        rc = VARVE_OK;
    }
    free(lru.younger);
    free(lru.older);
    free(lru.resident);
    return rc;
}
