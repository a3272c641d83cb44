/* SPDX-License-Identifier: Apache-2.0 */
/* A trace with its pages numbered. A page is what its chain makes it: equal ids after different prefixes are different pages. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "policy.h"
#include "trace_read.h"

/* Chain digest -> page number, open addressing. */
struct page_table {
    uint64_t *digests; /* 0: empty */
    uint32_t *numbers;
    size_t slots, used;
};

/* `memory` with room for `needed` items at least, moved perhaps; NULL: out of memory, and nothing has changed. */
static void *
grow(void *memory, size_t *room, size_t needed, size_t item_bytes)
{
    size_t wanted = *room == 0 ? 1024 : *room;
    void *grown;

    if (needed <= *room)
        return memory;
    while (wanted < needed)
        wanted *= 2;
    grown = reallocarray(memory, wanted, item_bytes);
    if (grown != NULL)
        *room = wanted;
    return grown;
}

static size_t
slot_of(const struct page_table *table, uint64_t digest)
{
    size_t slot = (size_t)(digest >> 7) & (table->slots - 1);

    while (table->digests[slot] != 0 && table->digests[slot] != digest)
        slot = (slot + 1) & (table->slots - 1);
    return slot;
}

static int
table_grow(struct page_table *table)
{
    struct page_table larger = {.slots = table->slots == 0 ? 4096 : table->slots * 2, .used = table->used};

    larger.digests = calloc(larger.slots, sizeof(larger.digests[0]));
    larger.numbers = calloc(larger.slots, sizeof(larger.numbers[0]));
    if (larger.digests == NULL || larger.numbers == NULL) {
        free(larger.digests);
        free(larger.numbers);
        return VARVE_E_NOMEM;
    }
    for (size_t i = 0; i < table->slots; i++) {
        if (table->digests[i] != 0) {
            size_t slot = slot_of(&larger, table->digests[i]);

            larger.digests[slot] = table->digests[i];
            larger.numbers[slot] = table->numbers[i];
        }
    }
    free(table->digests);
    free(table->numbers);
    *table = larger;
    return VARVE_OK;
}

/* The digest of a page, from that of the page before it: SplitMix64's mixing, twice. 64 bits tell some million pages apart. */
static uint64_t
digest_of(uint64_t before, uint64_t hash_id)
{
    uint64_t x = before ^ (hash_id + 0x9e3779b97f4a7c15u);

    for (int i = 0; i < 2; i++) {
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
        x = (x ^ x >> 27) * 0x94d049bb133111ebu;
        x ^= x >> 31;
    }
    return x == 0 ? 1 : x;
}

static int
add_page(struct policy_trace *trace, uint32_t parent, uint32_t depth)
{
    uint32_t *parents = grow(trace->parents, &trace->parent_room, trace->page_count + 1u, sizeof(uint32_t));
    uint32_t *depths = grow(trace->depths, &trace->depth_room, trace->page_count + 1u, sizeof(uint32_t));

    if (parents != NULL)
        trace->parents = parents;
    if (depths != NULL)
        trace->depths = depths;
    if (parents == NULL || depths == NULL)
        return VARVE_E_NOMEM;
    parents[trace->page_count] = parent;
    depths[trace->page_count] = depth;
    trace->page_count++;
    return VARVE_OK;
}

static int
add_request(struct policy_trace *trace, struct page_table *table, const struct trace_request *request)
{
    size_t *first = grow(trace->first, &trace->request_room, trace->requests + 2, sizeof(size_t));
    uint32_t *pages = NULL;
    uint32_t parent = UINT32_MAX;
    uint64_t digest = 1;

    if (first != NULL) {
        trace->first = first;
        pages = grow(trace->pages, &trace->access_room, trace->accesses + request->hash_count + 1, sizeof(uint32_t));
    }
    if (pages == NULL)
        return VARVE_E_NOMEM;
    trace->pages = pages;
    trace->first[trace->requests] = trace->accesses;
    for (size_t i = 0; i < request->hash_count; i++) {
        size_t slot;

        if (table->used * 2 >= table->slots && table_grow(table) != VARVE_OK)
            return VARVE_E_NOMEM;
        digest = digest_of(digest, request->hash_ids[i]);
        slot = slot_of(table, digest);
        if (table->digests[slot] == 0) {
            if (add_page(trace, parent, (uint32_t)i) != VARVE_OK)
                return VARVE_E_NOMEM;
            table->digests[slot] = digest;
            table->numbers[slot] = trace->page_count - 1;
            table->used++;
        }
        parent = table->numbers[slot];
        trace->pages[trace->accesses++] = parent;
    }
    trace->first[++trace->requests] = trace->accesses;
    return VARVE_OK;
}

int
policy_trace_read(const char *path, uint64_t limit, struct policy_trace *trace,
                  int (*note)(void *arg, const struct trace_request *request, varve_error *err), void *arg,
                  varve_error *err)
{
    struct trace_request request = {0};
    struct trace_reader *reader;
    struct page_table table = {0};
    int rc;

    *trace = (struct policy_trace){0};
    rc = trace_reader_open(path, &reader, err);
    if (rc != VARVE_OK)
        return rc;
    while ((limit == 0 || trace->requests < limit) && (rc = trace_reader_next(reader, &request, err)) == VARVE_OK) {
        rc = add_request(trace, &table, &request);
        if (rc != VARVE_OK) {
            if (err != NULL)
                *err = (varve_error){.code = rc, .message = "out of memory for the trace"};
            break;
        }
        if (note != NULL && (rc = note(arg, &request, err)) != VARVE_OK)
            break;
    }
    free(table.digests);
    free(table.numbers);
    trace_request_deinit(&request);
    trace_reader_close(reader);
    return rc == VARVE_MISS ? VARVE_OK : rc;
}

int
policy_trace_load(const char *path, uint64_t limit, struct policy_trace *trace, varve_error *err)
{
    return policy_trace_read(path, limit, trace, NULL, NULL, err);
}

void
policy_trace_free(struct policy_trace *trace)
{
    free(trace->first);
    free(trace->pages);
    free(trace->parents);
    free(trace->depths);
}
