/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies at a position of a branch. Ordered search: an entry that covers depth d begins at most as many pages
 * before d as the largest entry has, so each memtable and run is looked at in that window only.
 */
#include "index/view.h"

/* What an entry must be to matter: it covers `key` and the page there is live. */
static bool
covers(const struct index_view *view, const struct entry *entry, const struct key *key)
{
    const struct index_hooks *hooks = &view->index->hooks;
    enum segment_state state;
    uint32_t page;

    if (entry->key.ns_id != key->ns_id || entry->key.branch != key->branch || entry->key.depth > key->depth ||
        key->depth - entry->key.depth >= entry->count)
        return false;
    page = key->depth - entry->key.depth;
    state = hooks->segment_state(hooks->arg, entry->segment);
    if (state == SEGMENT_GONE)
        return false;
    return state == SEGMENT_LIVE ||
           !hooks->page_removed(hooks->arg, entry->segment, entry_page_offset(entry, page), entry_id(entry, page));
}

/* The least key that an entry of at most `pages` pages can have and still cover `key`. */
static struct key
window_start(const struct key *key, uint32_t pages)
{
    struct key start = *key;

    start.depth = key->depth >= pages ? key->depth - pages + 1 : 0;
    return start;
}

/* What is known once the entry's owner may have taken it away. */
static void
give(const struct entry *entry, const struct key *key, struct index_slot *out)
{
    *out = (struct index_slot){
        .first = entry->key,
        .parent_branch = entry->parent_branch,
        .parent_depth = entry->parent_depth,
        .segment = entry->segment,
        .offset = entry->offset,
        .end = entry_page_offset(entry, key->depth - entry->key.depth + 1),
    };
}

static bool
find_in_memtable(const struct index_view *view, const struct memtable *memtable, const struct key *key,
                 struct index_slot *out)
{
    uint32_t pages = atomic_load_explicit(&memtable->entry_pages_max, memory_order_relaxed);
    struct key start;

    if (pages == 0)
        return false;
    start = window_start(key, pages);
    for (const struct mem_entry *node = memtable_seek(memtable, &start);
         node != NULL && key_compare(&node->entry.key, key) <= 0; node = memtable_next(node)) {
        if (covers(view, &node->entry, key)) {
            give(&node->entry, key, out);
            return true;
        }
    }
    return false;
}

static bool
find_in_block(const struct index_view *view, const uint8_t *block, const struct key *key, struct index_slot *out)
{
    struct block_walk walk;
    struct entry entry;

    block_walk_init(&walk, block);
    while (block_walk_next(&walk, &entry) && key_compare(&entry.key, key) <= 0) {
        if (covers(view, &entry, key)) {
            give(&entry, key, out);
            return true;
        }
    }
    return false;
}

static bool
find_in_run(const struct index_view *view, const struct run *run, const struct key *key, struct index_slot *out)
{
    struct block_cache *cache = &view->index->cache;
    struct key start = window_start(key, run->entry_pages_max);
    uint32_t block;

    if (key->ns_id > run->last_key.ns_id || (key->ns_id == run->last_key.ns_id && key->branch > run->last_key.branch))
        return false;
    block = run_find_block(run, key);
    if (block == UINT32_MAX)
        return false;
    for (;;) {
        struct block_ref *ref;
        bool found = false;

        if (block_cache_pin(cache, run, block, &ref) == VARVE_OK) {
            found = find_in_block(view, ref->data, key, out);
            block_cache_unpin(cache, ref);
        }
        if (found || block == 0 || key_compare(&run->first_keys[block], &start) < 0)
            return found;
        block--;
    }
}

bool
index_find_key(struct index_view *view, const struct key *key, struct index_slot *out)
{
    for (uint32_t i = 0; i < view->memtable_count; i++) {
        if (find_in_memtable(view, view->memtables[i], key, out))
            return true;
    }
    for (uint32_t i = 0; i < view->run_count; i++) {
        if (find_in_run(view, view->runs[i], key, out))
            return true;
    }
    return false;
}
