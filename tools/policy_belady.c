/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Belady's MIN: the page whose next use is farthest goes, and need not even be stored. Of pages that are next used by the same request, the deepest goes
 * first; since whoever uses a page uses its ancestors, too, no hole comes into a chain.
 */
#include <stdlib.h>

#include "policy.h"

#define NEVER UINT32_MAX

/* A resident page as it was when it was used last; stale when the page was used since. */
struct item {
    uint32_t next; /* request that uses it next */
    uint32_t depth;
    uint32_t page;
};

struct heap {
    struct item *items; /* the farthest first */
    size_t count, room;
};

static int
farther(const struct item *a, const struct item *b)
{
    return a->next != b->next ? a->next > b->next : a->depth > b->depth;
}

static int
heap_push(struct heap *heap, struct item item)
{
    size_t at = heap->count;

    if (heap->count == heap->room) {
        size_t room = heap->room == 0 ? 1024 : heap->room * 2;
        struct item *items = reallocarray(heap->items, room, sizeof(items[0]));

        if (items == NULL)
            return VARVE_E_NOMEM;
        heap->items = items;
        heap->room = room;
    }
    heap->count++;
    while (at > 0 && farther(&item, &heap->items[(at - 1) / 2])) {
        heap->items[at] = heap->items[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap->items[at] = item;
    return VARVE_OK;
}

static struct item
heap_pop(struct heap *heap)
{
    struct item top = heap->items[0], last = heap->items[--heap->count];
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && farther(&heap->items[child + 1], &heap->items[child]))
            child++;
        if (!farther(&heap->items[child], &last))
            break;
        heap->items[at] = heap->items[child];
        at = child;
    }
    heap->items[at] = last;
    return top;
}

/* The request that uses each access's page next. */
static uint32_t *
next_uses(const struct policy_trace *trace)
{
    uint32_t *nexts = malloc((trace->accesses + 1) * sizeof(nexts[0]));
    uint32_t *seen = malloc((trace->page_count + 1u) * sizeof(seen[0]));

    if (nexts != NULL && seen != NULL) {
        for (uint32_t i = 0; i < trace->page_count; i++)
            seen[i] = NEVER;
        for (size_t r = trace->requests; r > 0; r--) {
            for (size_t i = trace->first[r - 1]; i < trace->first[r]; i++) {
                nexts[i] = seen[trace->pages[i]];
                seen[trace->pages[i]] = (uint32_t)(r - 1);
            }
        }
    } else {
        free(nexts);
        nexts = NULL;
    }
    free(seen);
    return nexts;
}

struct belady {
    const struct policy_trace *trace;
    uint32_t *nexts;    /* by access */
    uint32_t *resident; /* by page: its next use, or 0: not there (no page is next used by request 0) */
    struct heap heap;
    uint64_t count;
};

static int
play_request(struct belady *belady, size_t r, uint64_t capacity, struct policy_result *result)
{
    const struct policy_trace *trace = belady->trace;
    size_t at = trace->first[r];

    while (at < trace->first[r + 1] && belady->resident[trace->pages[at]] != 0)
        at++;
    result->hits += at - trace->first[r];
    for (size_t i = trace->first[r]; i < trace->first[r + 1]; i++) {
        uint32_t page = trace->pages[i];
        struct item item = {belady->nexts[i], trace->depths[page], page};

        belady->count += belady->resident[page] == 0;
        belady->resident[page] = item.next;
        if (heap_push(&belady->heap, item) != VARVE_OK)
            return VARVE_E_NOMEM;
    }
    while (belady->count > capacity) {
        struct item item = heap_pop(&belady->heap);

        if (belady->resident[item.page] != item.next)
            continue; /* stale */
        belady->resident[item.page] = 0;
        belady->count--;
    }
    /* What is left of the request's new pages had to be written. */
    for (size_t i = at; i < trace->first[r + 1]; i++)
        result->written += belady->resident[trace->pages[i]] != 0;
    return VARVE_OK;
}

int
policy_belady(const struct policy_trace *trace, uint64_t capacity, struct policy_result *result)
{
    struct belady belady = {.trace = trace};
    int rc = VARVE_E_NOMEM;

    *result = (struct policy_result){0};
    belady.nexts = next_uses(trace);
    belady.resident = calloc(trace->page_count + 1u, sizeof(uint32_t));
    if (belady.nexts != NULL && belady.resident != NULL) {
        rc = VARVE_OK;
        for (size_t r = 0; r < trace->requests && rc == VARVE_OK; r++)
            rc = play_request(&belady, r, capacity, result);
    }
    free(belady.nexts);
    free(belady.resident);
    free(belady.heap.items);
    return rc;
}
