/* SPDX-License-Identifier: Apache-2.0 */
/* Linear probing, at most 3/4 full; nothing is ever removed. The file is of this machine: in its byte order. */
#include "engines/hash_index.h"

#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 1024
#define MAGIC        0x31676f6c68736168u /* hashlog1 */

_Static_assert(sizeof(struct hash_entry) == 32, "two entries a cache line");

struct image_head {
    uint64_t magic;
    uint64_t count;
    uint64_t log_end;
    uint64_t checksum; /* of the entries, and of this head with the field 0 */
};

static size_t
slot_of(const struct hash_index *index, const uint8_t *id_prefix)
{
    return (size_t)hash_id(0, id_prefix) & (index->capacity - 1);
}

/* Zeroed, aligned to cache lines. */
static struct hash_entry *
alloc_entries(size_t capacity)
{
    struct hash_entry *entries = aligned_alloc(64, capacity * sizeof(*entries));

    if (entries != NULL)
        memset(entries, 0, capacity * sizeof(*entries));
    return entries;
}

int
hash_index_init(struct hash_index *index)
{
    *index = (struct hash_index){.entries = alloc_entries(CAPACITY_MIN), .capacity = CAPACITY_MIN};
    return index->entries != NULL ? VARVE_OK : VARVE_E_NOMEM;
}

void
hash_index_deinit(struct hash_index *index)
{
    free(index->entries);
}

void
hash_index_prefetch(const struct hash_index *index, const varve_id *id)
{
    __builtin_prefetch(&index->entries[slot_of(index, id->bytes)]);
}

/* The entry of the id, or the empty one where it belongs. */
static struct hash_entry *
find_slot(const struct hash_index *index, const uint8_t *id_prefix)
{
    size_t slot = slot_of(index, id_prefix);

    while (index->entries[slot].offset != 0 && memcmp(index->entries[slot].id_prefix, id_prefix, ID_PREFIX_BYTES) != 0)
        slot = (slot + 1) & (index->capacity - 1);
    return &index->entries[slot];
}

const struct hash_entry *
hash_index_find(const struct hash_index *index, const varve_id *id)
{
    const struct hash_entry *entry = find_slot(index, id->bytes);

    return entry->offset != 0 ? entry : NULL;
}

void
hash_index_insert(struct hash_index *index, const struct hash_entry *entry)
{
    struct hash_entry *slot = find_slot(index, entry->id_prefix);

    if (slot->offset != 0)
        return;
    *slot = *entry;
    index->count++;
}

int
hash_index_reserve(struct hash_index *index, size_t count)
{
    struct hash_index grown = {.capacity = index->capacity};

    while ((index->count + count) / 3 >= grown.capacity / 4)
        grown.capacity *= 2;
    if (grown.capacity == index->capacity)
        return VARVE_OK;
    grown.entries = alloc_entries(grown.capacity);
    if (grown.entries == NULL)
        return VARVE_E_NOMEM;
    for (size_t i = 0; i < index->capacity; i++) {
        if (index->entries[i].offset != 0)
            hash_index_insert(&grown, &index->entries[i]);
    }
    free(index->entries);
    *index = grown;
    return VARVE_OK;
}

static uint64_t
image_checksum(const struct image_head *head, const uint8_t *entries)
{
    struct image_head copy = *head;

    copy.checksum = head->count == 0 ? 0 : hash_bytes(entries, (size_t)head->count * sizeof(struct hash_entry));
    return hash_bytes(&copy, sizeof(copy));
}

uint8_t *
hash_index_save(const struct hash_index *index, uint64_t log_end, size_t *size)
{
    struct image_head head = {.magic = MAGIC, .count = index->count, .log_end = log_end};
    uint8_t *image, *p;

    *size = sizeof(head) + index->count * sizeof(struct hash_entry);
    image = malloc(*size);
    if (image == NULL)
        return NULL;
    p = image + sizeof(head);
    for (size_t i = 0; i < index->capacity; i++) {
        if (index->entries[i].offset == 0)
            continue;
        memcpy(p, &index->entries[i], sizeof(struct hash_entry));
        p += sizeof(struct hash_entry);
    }
    head.checksum = image_checksum(&head, image + sizeof(head));
    memcpy(image, &head, sizeof(head));
    return image;
}

int
hash_index_load(struct hash_index *index, const uint8_t *image, size_t size, uint64_t *log_end)
{
    struct image_head head;
    int rc;

    if (size < sizeof(head))
        return VARVE_E_CORRUPT;
    memcpy(&head, image, sizeof(head));
    if (head.magic != MAGIC || head.count != (size - sizeof(head)) / sizeof(struct hash_entry) ||
        (size - sizeof(head)) % sizeof(struct hash_entry) != 0 ||
        image_checksum(&head, image + sizeof(head)) != head.checksum)
        return VARVE_E_CORRUPT;
    rc = hash_index_reserve(index, (size_t)head.count);
    for (uint64_t i = 0; i < head.count && rc == VARVE_OK; i++) {
        struct hash_entry entry;

        memcpy(&entry, image + sizeof(head) + i * sizeof(entry), sizeof(entry));
        if (entry.offset == 0 || entry.offset * HASH_OFFSET_UNIT + entry.size > head.log_end)
            return VARVE_E_CORRUPT;
        hash_index_insert(index, &entry);
    }
    *log_end = head.log_end;
    return rc;
}
