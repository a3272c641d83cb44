/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page-granular LRU, chains touched from leaf to root, so that the victim is always the end of a chain. What a store that could drop and write single
 * pages at no cost would keep.
 */
#include "page_lru.h"
#include "policy.h"

int
policy_lru(const struct policy_trace *trace, uint64_t capacity, struct policy_result *result)
{
    struct page_lru lru;
    int rc = page_lru_init(&lru, trace->page_count, capacity);

    *result = (struct policy_result){0};
    for (size_t r = 0; rc == VARVE_OK && r < trace->requests; r++) {
        const uint32_t *pages = trace->pages + trace->first[r];
        size_t count = trace->first[r + 1] - trace->first[r], hits = 0;

        while (hits < count && page_lru_has(&lru, pages[hits]))
            hits++;
        result->hits += hits;
        for (size_t i = count; i > 0; i--)
            result->written += page_lru_use(&lru, pages[i - 1]);
    }
    page_lru_deinit(&lru);
    return rc;
}
