/* SPDX-License-Identifier: Apache-2.0 */
/* Joining adjacent entries; see join.h. */
#include "index/join.h"

#include <assert.h>
#include <string.h>

#define IDS_BYTES    ((size_t)ENTRY_PAGES_MAX * ID_PREFIX_BYTES)
#define SUMS_BYTES   ((size_t)ENTRY_PAGES_MAX * 8)
#define BUFFER_BYTES (IDS_BYTES + SUMS_BYTES + (size_t)ENTRY_PAGES_MAX * 4)

int
join_init(struct join *join, struct env *env)
{
    *join = (struct join){.env = env};
    for (int i = 0; i < 2; i++) {
        join->buffers[i] = env->ops->alloc(env, BUFFER_BYTES, 64);
        if (join->buffers[i] == NULL) {
            join_deinit(join);
            return VARVE_E_NOMEM;
        }
    }
    return VARVE_OK;
}

void
join_deinit(struct join *join)
{
    env_free(join->env, join->buffers[0]);
    env_free(join->env, join->buffers[1]);
    join->buffers[0] = join->buffers[1] = NULL;
}

/* How many of the first pages of `entry` are in `before` already, at the same place. */
static uint32_t
repeated(const struct entry *before, const struct entry *entry)
{
    uint32_t first;
    uint32_t count;

    if (before->count == 0 || before->segment != entry->segment || before->key.ns_id != entry->key.ns_id ||
        before->key.branch != entry->key.branch || entry->key.depth < before->key.depth)
        return 0;
    first = entry->key.depth - before->key.depth;
    if (first >= before->count || entry_page_offset(before, first) != entry->offset)
        return 0;
    count = before->count - first < entry->count ? before->count - first : entry->count;
    return memcmp(entry_id(before, first), entry->ids, (size_t)count * ID_PREFIX_BYTES) == 0 ? count : 0;
}

static bool
joinable(const struct join *join, const struct entry *entry)
{
    const struct entry *held = &join->held;

    return held->count > 0 && held->count + entry->count <= ENTRY_PAGES_MAX && held->segment == entry->segment &&
           held->key.ns_id == entry->key.ns_id && held->key.branch == entry->key.branch &&
           held->key.depth + held->count == entry->key.depth && join->held_end == entry->offset &&
           entry->parent_branch == 0 && held->codec == entry->codec && held->align_shift == entry->align_shift &&
           (held->sizes == NULL) == (entry->sizes == NULL) &&
           (held->sizes != NULL || held->page_bytes == entry->page_bytes);
}

/* Append the entry's arrays to those of held, which has `count` pages so far. */
static void
append_arrays(struct join *join, uint32_t count, const struct entry *entry)
{
    uint8_t *ids = join->buffers[join->buffer];
    uint8_t *sums = ids + IDS_BYTES;
    uint8_t *sizes = sums + SUMS_BYTES;

    assert(count + entry->count <= ENTRY_PAGES_MAX);
    memcpy(ids + (size_t)count * ID_PREFIX_BYTES, entry->ids, (size_t)entry->count * ID_PREFIX_BYTES);
    memcpy(sums + (size_t)count * 8, entry->sums, (size_t)entry->count * 8);
    if (entry->sizes != NULL)
        memcpy(sizes + (size_t)count * 4, entry->sizes, (size_t)entry->count * 4);
    join->held.ids = ids;
    join->held.sums = sums;
    join->held.sizes = entry->sizes != NULL ? sizes : NULL;
}

bool
join_put(struct join *join, const struct entry *entry, struct entry *out)
{
    struct entry rest = *entry;
    uint32_t again = repeated(&join->held, &rest);
    bool complete;

    if (again == 0)
        again = repeated(&join->given, &rest);
    if (again == rest.count) {
        join->pages_repeated += again;
        return false;
    }
    rest = entry_slice(&rest, again, rest.count - again);
    if (joinable(join, &rest)) {
        append_arrays(join, join->held.count, &rest);
        join->held.count += rest.count;
        join->held_end = entry_page_offset(&rest, rest.count);
        join->pages_repeated += again;
        return false;
    }
    rest = *entry; /* whole: its remainder might belong behind entries that are still to come */
    complete = join->held.count > 0;
    if (complete) {
        *out = join->held;
        join->given = join->held;
        join->buffer ^= 1;
    }
    join->held = rest;
    join->held_end = entry_page_offset(&rest, rest.count);
    append_arrays(join, 0, &rest);
    return complete;
}

bool
join_end(struct join *join, struct entry *out)
{
    if (join->held.count == 0)
        return false;
    *out = join->held;
    join->held.count = 0;
    return true;
}
