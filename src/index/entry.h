/* SPDX-License-Identifier: Apache-2.0 */
/*
 * entry.h - what the index holds: an extent, or a part of one, under its key.
 *
 * Key order along a branch is token-prefix order. Keys are unique but for a race of two puts (harmless: the page id decides
 * what a lookup finds, the key only where it lies).
 */
#ifndef VARVE_INDEX_ENTRY_H
#define VARVE_INDEX_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/wire.h"

/* Pages of one entry: the most that one extent holds. */
#define ENTRY_PAGES_MAX 1024

struct key {
    uint32_t ns_id;  /* namespace id: a cleared namespace gets a new one */
    uint32_t depth;  /* of the first page, on its chain */
    uint64_t branch; /* from 1 */
};

/*
 * Consecutive pages of one branch that lie back to back in one segment. A view: ids, sums and sizes point into a memtable, a
 * block or a put in progress, whose owner keeps them alive.
 */
struct entry {
    struct key key;
    uint64_t parent_branch; /* 0: the branch goes on, or its root has no known parent */
    uint32_t parent_depth;
    uint32_t count; /* 1..ENTRY_PAGES_MAX */
    uint64_t segment;
    uint64_t offset;      /* of the first page's payload, in the segment file */
    uint32_t page_bytes;  /* stored size of every page, when sizes is NULL */
    uint8_t codec;        /* 0: stored as they are; others are not served by this version */
    uint8_t align_shift;  /* each payload starts at a multiple of 1 << align_shift (9..12) */
    const uint8_t *ids;   /* count x ID_PREFIX_BYTES */
    const uint8_t *sums;  /* count x 8, little-endian: hash_page() */
    const uint8_t *sizes; /* count x 4, little-endian stored sizes, or NULL: all are page_bytes */
};

/* Where one page is. */
struct location {
    struct key key; /* depth is the page's own */
    uint64_t segment;
    uint64_t offset;
    uint64_t sum;
    uint32_t size;
    uint8_t codec;
};

static inline int
key_compare(const struct key *a, const struct key *b)
{
    if (a->ns_id != b->ns_id)
        return a->ns_id < b->ns_id ? -1 : 1;
    if (a->branch != b->branch)
        return a->branch < b->branch ? -1 : 1;
    if (a->depth != b->depth)
        return a->depth < b->depth ? -1 : 1;
    return 0;
}

static inline const uint8_t *
entry_id(const struct entry *entry, uint32_t index)
{
    return entry->ids + (size_t)index * ID_PREFIX_BYTES;
}

static inline uint64_t
entry_sum(const struct entry *entry, uint32_t index)
{
    return wire_get64(entry->sums + (size_t)index * 8);
}

static inline uint32_t
entry_size(const struct entry *entry, uint32_t index)
{
    return entry->sizes == NULL ? entry->page_bytes : wire_get32(entry->sizes + (size_t)index * 4);
}

/* Bytes a page of `size` takes in the log. */
static inline uint64_t
entry_padded(const struct entry *entry, uint64_t size)
{
    uint64_t mask = ((uint64_t)1 << entry->align_shift) - 1;

    return (size + mask) & ~mask;
}

/* Offset in the segment of the page at `index`; O(1) when sizes are uniform, O(index) otherwise. */
uint64_t entry_page_offset(const struct entry *entry, uint32_t index);

/* The part of `entry` from page `first` on, `count` pages long; a view of the same memory. */
struct entry entry_slice(const struct entry *entry, uint32_t first, uint32_t count);

void entry_locate(const struct entry *entry, uint32_t index, struct location *out);

#endif
