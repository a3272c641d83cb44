/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lookups. A chain is stored in order, so the likely place of the next page is after the last one: in the same entry,
 * or at the start of the next entry in the block. Only when it is not there are memtables and locators asked.
 *
 * A match whose segment is gone, or that was removed, is no answer: the same id may have been put again, so the search
 * goes on.
 */
#include <assert.h>
#include <string.h>

#include "index/view.h"

/* Runs whose locator lines are fetched ahead of looking at the first. */
#define PREFETCH_RUNS 32
#define TIMED_SHARE   128 /* searches, of which one is timed */

void
index_cursor_init(struct index_cursor *cursor, struct index_view *view)
{
    *cursor = (struct index_cursor){.view = view};
}

static void
let_go(struct index_cursor *cursor)
{
    if (cursor->block != NULL)
        block_cache_unpin(&cursor->view->index->cache, cursor->block);
    cursor->block = NULL;
    cursor->node = NULL;
    cursor->has_entry = false;
}

void
index_cursor_deinit(struct index_cursor *cursor)
{
    struct index_counters *counters = &cursor->view->index->counters;

    let_go(cursor);
    counter_add(&counters->lookups, cursor->lookups);
    counter_add(&counters->locator_hits, cursor->locator_hits);
    counter_add(&counters->locator_false_hits, cursor->locator_false_hits);
    if (cursor->searches > 0) {
        counter_add(&counters->walks, cursor->searches_found > 0);
        counter_add(&counters->searches, cursor->searches);
        counter_add(&counters->searches_found, cursor->searches_found);
        counter_add(&counters->searches_onward, cursor->searches_onward);
        counter_add(&counters->locators_probed, cursor->searches * cursor->view->run_count);
    }
    if (cursor->locators_timed > 0) {
        counter_add(&counters->locators_timed, cursor->locators_timed);
        counter_add(&counters->locators_ns, cursor->locators_ns);
    }
    index_cursor_init(cursor, cursor->view);
}

static bool
is_live(struct index_cursor *cursor, const struct entry *entry, uint32_t page)
{
    const struct index_hooks *hooks = &cursor->view->index->hooks;

    if (!cursor->has_state || cursor->state_segment != entry->segment) {
        cursor->state = hooks->segment_state(hooks->arg, entry->segment);
        cursor->state_segment = entry->segment;
        cursor->has_state = true;
    }
    if (cursor->state == SEGMENT_GONE)
        return false;
    return cursor->state == SEGMENT_LIVE ||
           !hooks->page_removed(hooks->arg, entry->segment, entry_page_offset(entry, page), entry_id(entry, page));
}

/* The chain is expected to go on after this page. Consumes nothing: the caller has set block or node, and entry. */
static void
arrive(struct index_cursor *cursor, uint32_t page, struct location *out)
{
    entry_locate(&cursor->entry, page, out);
    cursor->next_in_entry = page + 1;
    cursor->has_entry = true;
}

static void
remember_next(struct index_cursor *cursor, const struct block_walk *walk)
{
    struct block_place place = block_walk_place(walk);

    cursor->next_in_block = place.head;
    cursor->next_page = place.page;
    cursor->next_sized_page = place.sized_page;
}

/* The entry that follows in the block or memtable. A walk in the block is left behind it. */
static bool
next_entry(const struct index_cursor *cursor, struct block_walk *walk, const struct mem_entry **node, struct entry *out)
{
    struct block_place place = {cursor->next_in_block, cursor->next_page, cursor->next_sized_page};

    if (cursor->node != NULL) {
        *node = memtable_next(cursor->node);
        if (*node != NULL)
            *out = (*node)->entry;
        return *node != NULL;
    }
    if (place.head == 0)
        return false;
    block_walk_resume(walk, cursor->block->data, &place, &cursor->entry);
    return block_walk_next(walk, out);
}

/* Step to the entry that follows, if the branch goes on in it without a gap. */
static bool
advance(struct index_cursor *cursor)
{
    const struct entry *before = &cursor->entry;
    struct key expected = {before->key.ns_id, before->key.depth + before->count, before->key.branch};
    const struct mem_entry *node = NULL;
    struct block_walk walk;
    struct entry next;

    if (!next_entry(cursor, &walk, &node, &next) || key_compare(&next.key, &expected) != 0)
        return false;
    cursor->node = node;
    if (node == NULL)
        remember_next(cursor, &walk);
    cursor->entry = next;
    cursor->next_in_entry = 0;
    return true;
}

/* The page after the last one found, if it is the one that is asked for. */
static bool
find_next(struct index_cursor *cursor, uint32_t ns_id, const uint8_t *id, struct location *out)
{
    uint32_t page;

    if (!cursor->has_entry || cursor->entry.key.ns_id != ns_id)
        return false;
    if (cursor->next_in_entry == cursor->entry.count && !advance(cursor))
        return false;
    page = cursor->next_in_entry;
    if (memcmp(entry_id(&cursor->entry, page), id, ID_PREFIX_BYTES) != 0 || !is_live(cursor, &cursor->entry, page))
        return false;
    arrive(cursor, page, out);
    return true;
}

static bool
find_in_memtable(struct index_cursor *cursor, const struct memtable *memtable, uint32_t ns_id, const uint8_t *id,
                 uint64_t hash, struct location *out)
{
    struct memtable_probe probe;
    const struct mem_entry *node;
    uint32_t page = 0;

    memtable_probe_init(&probe, memtable, hash);
    while ((node = memtable_probe_next(&probe, ns_id, id, &page)) != NULL) {
        if (!is_live(cursor, &node->entry, page))
            continue;
        let_go(cursor);
        cursor->node = node;
        cursor->entry = node->entry;
        arrive(cursor, page, out);
        return true;
    }
    return false;
}

/*
 * The page of the id among pages first..end - 1 of the block; `end`: it is not there. The first 8 bytes decide nearly
 * always.
 */
static uint32_t
scan_ids(const uint8_t *block, uint32_t first, uint32_t end, const uint8_t *id)
{
    uint64_t want;

    memcpy(&want, id, sizeof(want));
    for (uint32_t i = first; i < end; i++) {
        uint64_t have;

        memcpy(&have, block_id(block, i), sizeof(have));
        if (have == want && memcmp(block_id(block, i), id, ID_PREFIX_BYTES) == 0)
            return i;
    }
    return end;
}

/* The entry that page `page` of the block belongs to. */
static void
walk_to_page(struct block_walk *walk, uint32_t page, struct entry *out)
{
    bool found = true;

    while (found && walk->page <= page)
        found = block_walk_next(walk, out);
    assert(found); /* the block was checked: its entries have all its pages */
}

/* Look through a part of a pinned block. true: the cursor has taken it over. *seen: the id was there, live or not. */
static bool
find_in_block(struct index_cursor *cursor, struct block_ref *block, const struct locator_match *match, uint32_t ns_id,
              const uint8_t *id, struct location *out, bool *seen)
{
    uint32_t pages = block_pages(block->data);
    uint32_t end = match->end < pages ? match->end : pages;
    struct block_walk walk;
    struct entry entry = {.count = 0};

    block_walk_init(&walk, block->data);
    for (uint32_t page = scan_ids(block->data, match->first, end, id); page < end;
         page = scan_ids(block->data, page + 1, end, id)) {
        uint32_t index;

        __builtin_prefetch(block_id(block->data, pages) + (size_t)page * 8); /* its sum */
        walk_to_page(&walk, page, &entry);
        index = page - (walk.page - entry.count);
        if (entry.key.ns_id != ns_id)
            continue;
        *seen = true;
        if (!is_live(cursor, &entry, index))
            continue;
        let_go(cursor);
        cursor->block = block;
        cursor->entry = entry;
        remember_next(cursor, &walk);
        arrive(cursor, index, out);
        return true;
    }
    return false;
}

/* Header, heads and ids lie apart: fetch them all at once. */
static void
prefetch_block(const struct block_ref *block, uint32_t page)
{
    __builtin_prefetch(block->data);
    __builtin_prefetch(block->data + block->heads);
    __builtin_prefetch(block_id(block->data, page));
    __builtin_prefetch(block_id(block->data, page + 4));
}

static bool
find_in_run(struct index_cursor *cursor, const struct run *run, uint32_t ns_id, const uint8_t *id, uint64_t hash,
            struct location *out)
{
    struct block_cache *cache = &cursor->view->index->cache;
    struct locator_probe probe;
    struct locator_match match;

    locator_probe_init(&probe, &run->locator, hash);
    while (locator_probe_next(&probe, &match)) {
        struct block_ref *block;
        bool seen = false;

        cursor->locator_hits++;
        if (match.block >= run->meta.blocks)
            continue;
        if (block_cache_pin(cache, run, match.block, &block) < 0) {
            cursor->unread = true;
            continue;
        }
        prefetch_block(block, match.first);
        if (find_in_block(cursor, block, &match, ns_id, id, out, &seen))
            return true;
        block_cache_unpin(cache, block);
        if (!seen)
            cursor->locator_false_hits++;
    }
    return false;
}

/* All memtables, then the locators of all runs. */
static bool
search(struct index_cursor *cursor, uint32_t ns_id, const varve_id *id, uint64_t hash, struct location *out)
{
    const struct index_view *view = cursor->view;

    for (uint32_t i = 0; i < view->run_count && i < PREFETCH_RUNS; i++)
        locator_prefetch(&view->runs[i]->locator, hash);
    for (uint32_t i = 0; i < view->memtable_count; i++)
        memtable_prefetch(view->memtables[i], hash);
    for (uint32_t i = 0; i < view->memtable_count; i++) {
        if (find_in_memtable(cursor, view->memtables[i], ns_id, id->bytes, hash, out))
            return true;
    }
    for (uint32_t i = 0; i < view->run_count; i++) {
        if (find_in_run(cursor, view->runs[i], ns_id, id->bytes, hash, out)) {
            cursor->searches_found++;
            return true;
        }
    }
    return false;
}

/* What locators cost, from searches in which they all said no: one of TIMED_SHARE. */
static bool
search_timed(struct index_cursor *cursor, uint32_t ns_id, const varve_id *id, uint64_t hash, struct location *out)
{
    struct env *env = cursor->view->index->env;
    uint64_t begin_ns = env->ops->now_ns(env), hits = cursor->locator_hits;
    bool found = search(cursor, ns_id, id, hash, out);

    if (!found && cursor->locator_hits == hits) {
        cursor->locators_ns += env->ops->now_ns(env) - begin_ns;
        cursor->locators_timed += cursor->view->run_count;
    }
    return found;
}

/* The walk has come to the end of a block: what is next lies at the beginning of another, most likely in the same run. */
static bool
is_at_block_end(const struct index_cursor *cursor)
{
    return cursor->has_entry && cursor->block != NULL && cursor->next_in_block == 0 &&
           cursor->next_in_entry == cursor->entry.count;
}

bool
index_cursor_find(struct index_cursor *cursor, uint32_t ns_id, const varve_id *id, struct location *out)
{
    uint64_t run = is_at_block_end(cursor) ? cursor->block->file : 0;
    bool found;
    uint64_t hash;

    cursor->lookups++;
    cursor->unread = false;
    if (find_next(cursor, ns_id, id->bytes, out))
        return true;
    cursor->searches++;
    hash = hash_id(ns_id, id->bytes);
    found = hash % TIMED_SHARE == 0 ? search_timed(cursor, ns_id, id, hash, out) : search(cursor, ns_id, id, hash, out);
    if (found && run != 0 && cursor->node == NULL && cursor->block->file == run)
        cursor->searches_onward++;
    return found;
}
