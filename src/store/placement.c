/* SPDX-License-Identifier: Apache-2.0 */
#include "store/placement.h"

/* Pages that lie deeper have no known children: depths that come from disk must not overflow. */
#define PARENT_DEPTH_MAX (UINT32_MAX - VARVE_BATCH_PAGES_MAX - 2 * EXTENT_PAGES_MAX)

/* The parent of a first page that is new. One that is too old must not be served again: then it only says where on disk to go on. */
static void
find_parent(struct placement *placement, struct index_cursor *cursor, const varve_id *id)
{
    struct location location;

    placement->parent_gone = true;
    if (!index_cursor_find(cursor, placement->ns_id, id, &location))
        return;
    placement->parent = location.key;
    if (placement->expires && !limits_serve(placement->store, placement->ns_id, id, &location))
        return;
    placement->parent_gone = false;
    touches_add(&placement->touches, &location, -1);
}

/* Find what is stored: status OK, place known, to be touched. Of a chain that begins with a new page, the parent. */
static void
find_stored(struct placement *placement, struct index_view *view, const varve_id *parent_id)
{
    struct index_cursor cursor;
    struct location location;

    index_cursor_init(&cursor, view);
    for (size_t i = 0; i < placement->count; i++) {
        if (placement->pages[i].status != STATUS_PENDING)
            continue;
        if (index_cursor_find(&cursor, placement->ns_id, &placement->pages[i].id, &location)) {
            placement->pages[i].status = VARVE_OK;
            placement->places[i] = location.key;
            touches_add(&placement->touches, &location, (int64_t)i);
            COUNT(&placement->store->counters, put_duplicates, 1);
        } else if (i == 0 && parent_id != NULL) {
            find_parent(placement, &cursor, parent_id);
        }
    }
    index_cursor_deinit(&cursor);
}

static struct branch_tip *
tip_slot(varve_store *store, uint32_t ns_id, uint64_t branch)
{
    return &store->tips[(branch * 0x9e3779b97f4a7c15u + ns_id) >> 52 & (TIP_SLOTS - 1)];
}

/*
 * Give a run of `count` new pages after `parent` (branch 0: none, or unknown) its place: the parent's branch if the slot after
 * the parent is free, else a new branch.
 */
static struct key
assign_place(struct placement *placement, struct index_view *view, const struct key *parent, uint32_t count,
             bool *begins_branch)
{
    varve_store *store = placement->store;
    struct key place = {.ns_id = placement->ns_id};
    struct index_slot taken;
    struct branch_tip *tip;
    bool goes_on = false;

    if (parent->branch != 0) {
        place.branch = parent->branch;
        place.depth = parent->depth + 1;
        goes_on = !index_find_key(view, &place, &taken);
    }
    mutex_lock(&store->write_lock);
    if (goes_on) {
        tip = tip_slot(store, placement->ns_id, place.branch);
        /* A put in flight may have taken the slot after the view was made. */
        if (tip->branch == place.branch && tip->ns_id == placement->ns_id && tip->next_depth > place.depth)
            goes_on = false;
    }
    if (!goes_on)
        place.branch = store->next_branch++;
    tip = tip_slot(store, placement->ns_id, place.branch);
    *tip = (struct branch_tip){.ns_id = placement->ns_id, .next_depth = place.depth + count, .branch = place.branch};
    mutex_unlock(&store->write_lock);
    *begins_branch = !goes_on;
    return place;
}

/*
 * How many of the batch's pages can be hit, in a full store: none whose parent is given and gone, and none further from the root than the store is large, which would
 * push out what leads to them. Ranks that store their parts of the same pages have the store together.
 */
static size_t
within_reach(struct placement *placement)
{
    varve_store *store = placement->store;
    uint64_t depth = placement->parent.branch != 0 ? placement->parent.depth + UINT64_C(1) : 0;
    uint64_t chain_bytes = depth * log_pad(placement->pages[0].size, store->align_shift);
    uint32_t width;
    size_t count = 0;

    if (!atomic_load_explicit(&store->recency.judging, memory_order_relaxed))
        return placement->count;
    if (placement->parent_gone)
        return 0;
    mutex_lock(&store->recency.lock);
    width = kin_width(&store->recency.kin);
    while (count < placement->count) {
        chain_bytes += log_pad(placement->pages[count].size, store->align_shift);
        if (!reclaim_admits(&store->recency.reclaim, chain_bytes * width))
            break;
        count++;
    }
    mutex_unlock(&store->recency.lock);
    return count;
}

/*
 * Leave out, once the store is full, what could not be hit; with a write budget, new pages that it does not allow, the last ones of the batch, and those that would
 * be stored without the page before them.
 */
static void
admit(struct placement *placement, varve_page **todo)
{
    bool budget = admission_day_bytes(placement->store) != 0;
    size_t reach = within_reach(placement), count = 0, admitted = 0, seen = 0;

    if (!budget && reach == placement->count)
        return;
    for (size_t i = 0; i < reach && (!budget || placement->pages[i].status >= VARVE_OK); i++) {
        if (placement->pages[i].status == STATUS_PENDING)
            todo[count++] = &placement->pages[i];
    }
    if (!budget)
        admitted = count;
    else if (!placement->parent_gone)
        admitted = admission_admit(placement->store, todo, count);
    for (size_t i = 0; i < placement->count; i++) {
        if (placement->pages[i].status == STATUS_PENDING && seen++ >= admitted)
            placement->pages[i].status = VARVE_SKIPPED;
    }
}

int
placement_begin(struct placement *placement, varve_namespace *ns, const varve_id *parent)
{
    varve_store *store = placement->store;
    struct env *env = store->env;
    struct index_view *view;
    varve_page **todo;

    placement->expires = limits_begin(ns, true);
    placement->ns_id = atomic_load_explicit(&ns->ns_id, memory_order_acquire);
    placement->places = env_zalloc(env, placement->count * sizeof(placement->places[0]));
    todo = env->ops->alloc(env, placement->count * sizeof(todo[0]), _Alignof(varve_page *));
    if (placement->places == NULL || todo == NULL) {
        env_free(env, todo);
        return VARVE_E_NOMEM;
    }
    view = index_view_acquire(store->index);
    touches_begin(&placement->touches, store, view, placement->count, placement->expires);
    touches_name(&placement->touches, placement->ns_id, &placement->pages[placement->count - 1].id);
    find_stored(placement, view, parent);
    touches_end(&placement->touches); /* now: reclaim for the new pages must not take what was found */
    index_view_release(view);
    placement->touches.view = NULL; /* what was found is stamped: the rest asks nothing of it */
    admit(placement, todo);
    env_free(env, todo);
    return VARVE_OK;
}

void
placement_place(struct placement *placement, size_t first, size_t count, struct extent_header *key_part)
{
    static const struct key unknown;
    const struct key *parent = first == 0 ? &placement->parent : &placement->places[first - 1];
    struct index_view *view = index_view_acquire(placement->store->index);
    struct key place;
    bool begins_branch;

    if (parent->depth > PARENT_DEPTH_MAX)
        parent = &unknown;
    place = assign_place(placement, view, parent, (uint32_t)count, &begins_branch);
    index_view_release(view);
    *key_part = (struct extent_header){.ns_id = placement->ns_id, .branch = place.branch, .depth = place.depth};
    if (begins_branch && parent->branch != 0) {
        key_part->parent_branch = parent->branch;
        key_part->parent_depth = parent->depth;
    }
}

void
placement_stored(struct placement *placement, const struct entry *entry, size_t first)
{
    recency_add(placement->store, entry, touches_new_value(&placement->touches, first));
}

void
placement_end(struct placement *placement)
{
    env_free(placement->store->env, placement->places);
}
