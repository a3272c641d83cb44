/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that look pages up without moving them: probe, exists, touch, remove. */
#include "base/error.h"
#include "store/calls.h"
#include "store/forget.h"
#include "store/pages.h"

/* A lookup of many ids of one namespace, on one snapshot. */
struct walk {
    varve_store *store;
    struct index_view *view;
    struct index_cursor cursor;
    struct touches *touches; /* NULL: of a call that touches nothing */
    uint64_t losses;         /* log_losses() when the view was made */
    int views;               /* made so far */
    uint32_t ns_id;
    bool expires; /* the namespace has a time to live */
};

static void
look(struct walk *walk)
{
    walk->losses = log_losses(walk->store->log);
    walk->view = index_view_acquire(walk->store->index);
    walk->views++;
    index_cursor_init(&walk->cursor, walk->view);
}

static void
walk_begin(struct walk *walk, varve_store *store, varve_namespace *ns, bool uses)
{
    *walk = (struct walk){.store = store, .expires = limits_begin(ns, uses)};
    walk->ns_id = atomic_load_explicit(&ns->ns_id, memory_order_acquire);
    look(walk);
}

static void
walk_touches(struct walk *walk, struct touches *touches, size_t count)
{
    walk->touches = touches;
    touches_begin(touches, walk->store, walk->view, count, walk->expires);
}

static void
walk_end(struct walk *walk)
{
    index_cursor_deinit(&walk->cursor);
    index_view_release(walk->view);
}

static bool
walk_find(struct walk *walk, const varve_id *id, struct location *location)
{
    while (!index_cursor_find(&walk->cursor, walk->ns_id, id, location) ||
           (walk->expires && !limits_serve(walk->store, walk->ns_id, id, location))) {
        if (walk->views == LOOKUPS_MAX || log_losses(walk->store->log) == walk->losses)
            return false;
        walk_end(walk);
        look(walk);
        if (walk->touches != NULL)
            walk->touches->view = walk->view;
    }
    return true;
}

static bool
follows(const struct location *location, const struct location *before)
{
    return location->segment == before->segment && location->offset >= before->offset + before->size &&
           location->offset - before->offset - before->size < LOG_BLOCK_BYTES;
}

int64_t
store_probe(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, const struct read_speed *speed,
            varve_estimate *estimate)
{
    struct location location, before = {.segment = 0};
    struct touches touches;
    struct walk walk;
    uint64_t bytes = 0, coded_bytes = 0;
    uint32_t extents = 0;
    size_t found;

    walk_begin(&walk, store, ns, true);
    walk_touches(&walk, &touches, count);
    if (count > 0)
        touches_name(&touches, walk.ns_id, &ids[count - 1]);
    for (found = 0; found < count && walk_find(&walk, &ids[found], &location); found++) {
        touches_add(&touches, &location, (int64_t)found);
        if (estimate == NULL)
            continue;
        bytes += location.size;
        coded_bytes += location.codec == CODING_NONE ? 0 : location.size;
        extents += !follows(&location, &before);
        before = location;
        if (estimate->prefix_bytes != NULL)
            estimate->prefix_bytes[found] = bytes;
        if (estimate->prefix_time_us != NULL)
            estimate->prefix_time_us[found] = read_speed_us(speed, bytes, coded_bytes);
    }
    touches_end(&touches);
    recency_asked(store, walk.ns_id, ids, count);
    walk_end(&walk);
    if (estimate != NULL)
        estimate->extents = extents;
    COUNT(&store->counters, probe_calls, 1);
    COUNT(&store->counters, probe_pages, count);
    COUNT(&store->counters, probe_hits, found);
    return (int64_t)found;
}

void
store_exists_batch(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, uint8_t *exists)
{
    struct location location;
    struct walk walk;

    walk_begin(&walk, store, ns, false);
    for (size_t i = 0; i < count; i++)
        exists[i] = walk_find(&walk, &ids[i], &location);
    walk_end(&walk);
    COUNT(&store->counters, exists_pages, count);
}

int64_t
store_touch(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count)
{
    struct location location;
    struct touches touches;
    struct walk walk;
    int64_t found = 0;

    walk_begin(&walk, store, ns, true);
    walk_touches(&walk, &touches, count);
    for (size_t i = 0; i < count; i++) {
        if (walk_find(&walk, &ids[i], &location)) {
            touches_add(&touches, &location, (int64_t)i);
            found++;
        }
    }
    touches_end(&touches);
    walk_end(&walk);
    COUNT(&store->counters, touch_pages, (uint64_t)found);
    return found;
}

/* Forget the copy at `location`. moves_lock held. */
static int
forget_copy(varve_store *store, const varve_id *id, const struct location *location, varve_error *err)
{
    struct manifest_item item = removal_item(location->segment, location->offset, id->bytes);
    int rc = store_forget_pages(store, &item, 1, false, err);

    if (rc == VARVE_OK && location->size > 0) /* a page without bytes lies where the next one does */
        recency_kill(store, location->segment, location->offset);
    return rc;
}

int
store_forget(varve_store *store, const varve_id *id, const struct location *location, varve_error *err)
{
    int rc;

    mutex_lock(&store->moves_lock);
    rc = forget_copy(store, id, location, err);
    mutex_unlock(&store->moves_lock);
    return rc;
}

/*
 * Forget every copy of a page: a race of two puts may have stored it twice, and reclaim may have copied it. The view is of now, and no copy is made while
 * moves_lock is held. VARVE_OK, or VARVE_MISS: there was none.
 */
static int
remove_page(varve_store *store, uint32_t ns_id, const varve_id *id, varve_error *err)
{
    struct index_view *view;
    struct index_cursor cursor;
    struct location location;
    int result = VARVE_MISS, rc = VARVE_OK;

    mutex_lock(&store->moves_lock);
    view = index_view_acquire(store->index);
    for (;;) {
        bool found;

        index_cursor_init(&cursor, view); /* a used one remembers that the segment had no removals */
        found = index_cursor_find(&cursor, ns_id, id, &location);
        index_cursor_deinit(&cursor);
        if (!found)
            break;
        result = VARVE_OK;
        rc = forget_copy(store, id, &location, err);
        if (rc != VARVE_OK)
            break;
    }
    index_view_release(view);
    mutex_unlock(&store->moves_lock);
    return rc != VARVE_OK ? rc : result;
}

int64_t
store_remove_batch(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, varve_error *err)
{
    int64_t removed = 0;
    uint32_t ns_id;
    int rc = store_writable(store, err);

    if (rc != VARVE_OK)
        return rc;
    ns_id = atomic_load_explicit(&ns->ns_id, memory_order_acquire);
    for (size_t i = 0; i < count && rc >= VARVE_OK; i++) {
        rc = remove_page(store, ns_id, &ids[i], err);
        removed += rc == VARVE_OK;
    }
    COUNT(&store->counters, remove_pages, (uint64_t)removed);
    return rc < VARVE_OK ? rc : removed;
}
