/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic on entries: where a page lies, and parts of an entry as entries. Pure; nothing is copied, a slice points
 * into the memory of the whole.
 */
#include "index/entry.h"

#include <assert.h>

uint64_t
entry_page_offset(const struct entry *entry, uint32_t index)
{
    uint64_t offset = entry->offset;

    assert(index <= entry->count);
    if (entry->sizes == NULL)
        return offset + index * entry_padded(entry, entry->page_bytes);
    for (uint32_t i = 0; i < index; i++)
        offset += entry_padded(entry, wire_get32(entry->sizes + (size_t)i * 4));
    return offset;
}

struct entry
entry_slice(const struct entry *entry, uint32_t first, uint32_t count)
{
    struct entry slice = *entry;

    assert(first + count <= entry->count);
    if (first > 0) {
        slice.key.depth += first;
        slice.offset = entry_page_offset(entry, first);
        slice.parent_branch = 0; /* the branch goes on */
        slice.parent_depth = 0;
    }
    slice.count = count;
    slice.ids += (size_t)first * ID_PREFIX_BYTES;
    slice.sums += (size_t)first * 8;
    if (slice.sizes != NULL)
        slice.sizes += (size_t)first * 4;
    return slice;
}

void
entry_locate(const struct entry *entry, uint32_t index, struct location *out)
{
    assert(index < entry->count);
    *out = (struct location){
        .key = {.ns_id = entry->key.ns_id, .depth = entry->key.depth + index, .branch = entry->key.branch},
        .segment = entry->segment,
        .offset = entry_page_offset(entry, index),
        .sum = entry_sum(entry, index),
        .size = entry_size(entry, index),
        .codec = entry->codec,
    };
}
