/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Put: leave out what is stored already, give every run of new pages its place on a branch, write it as extents, insert those into the
 * index. No lock is held while anything is written.
 */
#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "store/extent_write.h"
#include "store/pages.h"

/* Extents in one memtable, at most: each costs a read of its header when the store is opened after a crash. */

/* Pages that lie deeper have no known children: depths that come from disk must not overflow. */
#define PARENT_DEPTH_MAX (UINT32_MAX - VARVE_BATCH_PAGES_MAX - 2 * EXTENT_PAGES_MAX)

#define LOG_WAIT_MS 10 /* for other puts' writes, before asking again */

#define STATUS_PENDING INT32_MAX /* in pages[].status while the put runs: to be written */

/* One varve_put_batch(). */
struct put {
    varve_store *store;
    varve_page *pages;
    size_t count;
    uint32_t ns_id;
    bool expires;     /* the namespace has a time to live */
    bool parent_gone; /* one was given, and is not stored */
    struct write_batch batch;
    struct touches touches;
    varve_page **todo;  /* pages to write, in order, as groups */
    struct key parent;  /* of the first page, when that is new; branch 0: none, or not known */
    struct key *places; /* count: where a page that is stored lies; branch 0: not known */
    struct extent_write *extents, **extents_end;
};

int
store_insert(varve_store *store, const struct entry *entry)
{
    int rc = VARVE_OK;

    if (!index_has_room(store->index, entry->count) || store->active_extents >= ACTIVE_EXTENTS_MAX)
        rc = store_rotate(store);
    if (rc == VARVE_OK)
        rc = index_insert(store->index, entry);
    if (rc == VARVE_OK) {
        store->active_extents++;
        atomic_fetch_add_explicit(&store->active_pages, entry->count, memory_order_relaxed);
    }
    return rc;
}

/* Give every page a status or STATUS_PENDING, and its size. */
static void
check_pages(struct put *put)
{
    for (size_t i = 0; i < put->count; i++) {
        varve_page *page = &put->pages[i];

        if (!page_buffer_bytes(page, &page->size) || page->size > VARVE_PAGE_BYTES_MAX)
            page->status = VARVE_E_ARG;
        else if (page->size > put->store->page_bytes_max)
            page->status = VARVE_E_NOSPC;
        else
            page->status = STATUS_PENDING;
    }
}

/* The second and later occurrences of an id in the batch count as stored already, if the first is stored. */
static int
find_repeats(struct put *put, uint32_t *first_of)
{
    struct env *env = put->store->env;
    size_t slots = 2;
    uint32_t *table;

    while (slots < put->count * 2)
        slots *= 2;
    table = env_zalloc(env, slots * sizeof(table[0])); /* page index + 1 */
    if (table == NULL)
        return VARVE_E_NOMEM;
    for (size_t i = 0; i < put->count; i++) {
        size_t slot = (size_t)hash_id(put->ns_id, put->pages[i].id.bytes) & (slots - 1);

        first_of[i] = (uint32_t)i;
        if (put->pages[i].status != STATUS_PENDING)
            continue;
        while (table[slot] != 0 &&
               memcmp(put->pages[table[slot] - 1].id.bytes, put->pages[i].id.bytes, VARVE_ID_BYTES) != 0)
            slot = (slot + 1) & (slots - 1);
        if (table[slot] == 0)
            table[slot] = (uint32_t)i + 1;
        else
            first_of[i] = table[slot] - 1;
    }
    env_free(env, table);
    return VARVE_OK;
}

/* The parent of a first page that is new. One that is too old must not be served again: then it only says where on disk to go on. */
static void
find_parent(struct put *put, struct index_cursor *cursor, const varve_id *id)
{
    struct location location;

    put->parent_gone = true;
    if (!index_cursor_find(cursor, put->ns_id, id, &location))
        return;
    put->parent = location.key;
    if (put->expires && !limits_serve(put->store, put->ns_id, id, &location))
        return;
    put->parent_gone = false;
    touches_add(&put->touches, &location, -1);
}

/* Find what is stored: status OK, place known, to be touched. Of a chain that begins with a new page, the parent. */
static void
find_stored(struct put *put, struct index_view *view, const varve_id *parent_id)
{
    struct index_cursor cursor;
    struct location location;

    index_cursor_init(&cursor, view);
    for (size_t i = 0; i < put->count; i++) {
        if (put->pages[i].status != STATUS_PENDING)
            continue;
        if (index_cursor_find(&cursor, put->ns_id, &put->pages[i].id, &location)) {
            put->pages[i].status = VARVE_OK;
            put->places[i] = location.key;
            touches_add(&put->touches, &location, (int64_t)i);
            COUNT(&put->store->counters, put_duplicates, 1);
        } else if (i == 0 && parent_id != NULL) {
            find_parent(put, &cursor, parent_id);
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
assign_place(struct put *put, struct index_view *view, const struct key *parent, uint32_t count, bool *begins_branch)
{
    varve_store *store = put->store;
    struct key place = {.ns_id = put->ns_id};
    struct entry taken;
    struct branch_tip *tip;
    bool goes_on = false;

    if (parent->branch != 0) {
        place.branch = parent->branch;
        place.depth = parent->depth + 1;
        goes_on = !index_find_key(view, &place, &taken);
    }
    mutex_lock(&store->write_lock);
    if (goes_on) {
        tip = tip_slot(store, put->ns_id, place.branch);
        /* A put in flight may have taken the slot after the view was made. */
        if (tip->branch == place.branch && tip->ns_id == put->ns_id && tip->next_depth > place.depth)
            goes_on = false;
    }
    if (!goes_on)
        place.branch = store->next_branch++;
    tip = tip_slot(store, put->ns_id, place.branch);
    *tip = (struct branch_tip){.ns_id = put->ns_id, .next_depth = place.depth + count, .branch = place.branch};
    mutex_unlock(&store->write_lock);
    *begins_branch = !goes_on;
    return place;
}

/*
 * How many of the batch's pages can be hit, in a full store: none whose parent is given and gone, and none further from the root than the store is large, which would
 * push out what leads to them.
 */
static size_t
within_reach(struct put *put)
{
    varve_store *store = put->store;
    uint64_t depth = put->parent.branch != 0 ? put->parent.depth + UINT64_C(1) : 0;
    uint64_t chain_bytes = depth * log_pad(put->pages[0].size, store->align_shift);
    size_t count = 0;

    if (!atomic_load_explicit(&store->recency.judging, memory_order_relaxed))
        return put->count;
    if (put->parent_gone)
        return 0;
    mutex_lock(&store->recency.lock);
    while (count < put->count) {
        chain_bytes += log_pad(put->pages[count].size, store->align_shift);
        if (!reclaim_admits(&store->recency.reclaim, chain_bytes))
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
admit(struct put *put)
{
    bool budget = admission_day_bytes(put->store) != 0;
    size_t reach = within_reach(put), count = 0, admitted = 0, seen = 0;

    if (!budget && reach == put->count)
        return;
    for (size_t i = 0; i < reach && (!budget || put->pages[i].status >= VARVE_OK); i++) {
        if (put->pages[i].status == STATUS_PENDING)
            put->todo[count++] = &put->pages[i];
    }
    if (!budget)
        admitted = count;
    else if (!put->parent_gone)
        admitted = admission_admit(put->store, put->todo, count);
    for (size_t i = 0; i < put->count; i++) {
        if (put->pages[i].status == STATUS_PENDING && seen++ >= admitted)
            put->pages[i].status = VARVE_SKIPPED;
    }
}

/* Wait for the extents and insert them, in order. */
static void
finish_extents(struct put *put)
{
    varve_store *store = put->store;
    struct extent_write *next;

    io_drain(put->batch.queue);
    for (struct extent_write *extent = put->extents; extent != NULL; extent = next) {
        struct entry entry = extent_write_entry(extent);
        int rc = extent_write_install(extent);

        next = extent->next;
        for (uint32_t i = 0; i < extent->header.count; i++)
            extent->pages[i]->status = rc;
        if (rc == VARVE_OK) {
            recency_add(store, &entry, touches_new_value(&put->touches, (size_t)(extent->pages[0] - put->pages)));
            extent_write_count(extent);
        }
        extent_write_destroy(extent);
    }
    put->extents = NULL;
    put->extents_end = &put->extents;
}

/*
 * Begin one extent. When the log is out of room because of writes in flight, this put's own are finished first, so that no put waits
 * for itself.
 */
static int
begin_extent(struct put *put, const struct extent_header *key_part, varve_page **pages, size_t count)
{
    struct extent_write *extent;
    int rc;

    for (;;) {
        rc = store_writable(put->store, NULL); /* it may have failed since the put began */
        if (rc != VARVE_OK)
            return rc;
        rc = extent_write_begin(&put->batch, key_part, pages, count, &extent, NULL);
        if (rc == VARVE_OK) {
            *put->extents_end = extent;
            put->extents_end = &extent->next;
            return (int)extent->header.count;
        }
        if ((rc == VARVE_MISS || rc == VARVE_E_NOSPC) && put->extents != NULL)
            finish_extents(put);
        else if (rc == VARVE_MISS)
            log_wait(put->store->log, LOG_WAIT_MS);
        else
            return rc;
    }
}

/* Write one run of new pages as extents. A failure is the status of the pages from there on. */
static void
write_group(struct put *put, struct index_view *view, const struct key *parent, varve_page **pages, size_t count)
{
    struct extent_header key_part = {.ns_id = put->ns_id};
    bool begins_branch;
    struct key place = assign_place(put, view, parent, (uint32_t)count, &begins_branch);

    key_part.branch = place.branch;
    key_part.depth = place.depth;
    if (begins_branch && parent->branch != 0) {
        key_part.parent_branch = parent->branch;
        key_part.parent_depth = parent->depth;
    }
    while (count > 0) {
        int begun = begin_extent(put, &key_part, pages, count);

        if (begun < 0) {
            for (size_t i = 0; i < count; i++)
                pages[i]->status = begun;
            return;
        }
        pages += begun;
        count -= (size_t)begun;
        key_part.depth += (uint32_t)begun;
        key_part.parent_branch = 0;
    }
}

/* Write each maximal run of new pages; the parent of a run is the stored page before it, if that is known. */
static void
write_groups(struct put *put, struct index_view *view)
{
    static const struct key unknown;
    struct key parent = put->parent;
    size_t i = 0, todo = 0;

    while (i < put->count) {
        size_t first = todo;

        if (put->pages[i].status != STATUS_PENDING) {
            parent = put->places[i];
            i++;
            continue;
        }
        while (i < put->count && put->pages[i].status == STATUS_PENDING)
            put->todo[todo++] = &put->pages[i++];
        write_group(put, view, parent.depth > PARENT_DEPTH_MAX ? &unknown : &parent, put->todo + first, todo - first);
    }
}

static int
run_put(struct put *put, const varve_id *parent, varve_error *err)
{
    varve_store *store = put->store;
    struct env *env = store->env;
    uint32_t *first_of = env->ops->alloc(env, put->count * sizeof(first_of[0]), _Alignof(uint32_t));
    struct index_view *view;
    int rc = VARVE_OK;

    put->todo = env->ops->alloc(env, put->count * sizeof(varve_page *), _Alignof(varve_page *));
    put->places = env_zalloc(env, put->count * sizeof(put->places[0]));
    if (first_of == NULL || put->todo == NULL || put->places == NULL)
        rc = VARVE_E_NOMEM;
    if (rc == VARVE_OK)
        rc = find_repeats(put, first_of);
    if (rc == VARVE_OK) {
        for (size_t i = 0; i < put->count; i++) {
            if (first_of[i] != i)
                put->pages[i].status = VARVE_OK; /* settled below */
        }
        view = index_view_acquire(store->index);
        touches_begin(&put->touches, store, view, put->count, put->expires);
        find_stored(put, view, parent);
        touches_end(&put->touches); /* now: reclaim for the new pages must not take what was found */
        admit(put);
        write_groups(put, view);
        finish_extents(put);
        encode_end(&put->batch);
        index_view_release(view);
        for (size_t i = 0; i < put->count; i++) {
            if (first_of[i] == i)
                continue;
            put->pages[i].status = put->pages[first_of[i]].status;
            COUNT(&store->counters, put_duplicates, put->pages[i].status != VARVE_SKIPPED);
        }
    }
    env_free(env, first_of);
    env_free(env, put->todo);
    env_free(env, put->places);
    return rc == VARVE_OK ? rc : error_set(err, rc, "out of memory for a batch of %zu pages", put->count);
}

/* A page that failed must not look stored to the pages behind it; count them. */
static void
count_errors(struct put *put)
{
    struct counters *counters = &put->store->counters;

    for (size_t i = 0; i < put->count; i++) {
        int status = put->pages[i].status;

        assert(status != STATUS_PENDING);
        COUNT(counters, put_skipped, status == VARVE_SKIPPED);
        COUNT(counters, put_errors, status < 0);
        COUNT(counters, put_errors_space, status == VARVE_E_NOSPC);
        COUNT(counters, put_errors_device, status == VARVE_E_IO);
        COUNT(counters, put_errors_memory, status == VARVE_E_NOMEM);
        COUNT(counters, put_errors_readonly, status == VARVE_E_READONLY);
    }
}

static void
fail_all(varve_page *pages, size_t count, int status)
{
    for (size_t i = 0; i < count; i++)
        pages[i].status = status;
}

int
varve_put_batch(varve_store *store, varve_namespace *ns, const varve_id *parent, varve_page *pages, size_t count,
                unsigned flags, varve_error *err)
{
    struct put put = {.store = store, .pages = pages, .count = count};
    uint64_t begin_ns;
    int rc;

    rc = pages_check_call(store, ns, pages, count, err);
    if (rc == VARVE_OK && (flags & ~(unsigned)VARVE_PUT_SYNC) != 0)
        rc = error_set(err, VARVE_E_ARG, "unknown put flags 0x%x", flags);
    if (rc != VARVE_OK)
        return rc;
    COUNT(&store->counters, put_calls, 1);
    begin_ns = store->env->ops->now_ns(store->env);
    put.expires = limits_begin(ns, true);
    put.ns_id = atomic_load_explicit(&ns->ns_id, memory_order_acquire);
    put.extents_end = &put.extents;
    put.batch.store = store;
    bounce_begin(&put.batch.bounce, &store->bounce_memory, store->options.io_bytes);
    put.batch.element = (enum varve_element)ns->element_type;
    check_pages(&put);
    rc = store_writable(store, NULL);
    if (rc == VARVE_OK)
        rc = store_wait_for_room(store, NULL);
    if (rc == VARVE_OK) {
        rc = io_queue_acquire(store->pool, &put.batch.queue);
        if (rc < 0)
            rc = error_os(NULL, rc, "open an I/O queue");
    }
    if (rc != VARVE_OK) { /* nothing can be stored now: say so page by page */
        fail_all(pages, count, rc);
        count_errors(&put);
        return VARVE_OK;
    }
    rc = run_put(&put, parent, err);
    io_queue_release(store->pool, put.batch.queue);
    bounce_end(&put.batch.bounce);
    if (rc != VARVE_OK)
        fail_all(pages, count, rc);
    else if ((flags & VARVE_PUT_SYNC) != 0 && (rc = store_sync(store, NULL)) != VARVE_OK)
        fail_all(pages, count, rc); /* stored, but not as durably as was asked for */
    count_errors(&put);
    COUNT(&store->counters, put_time_us, (store->env->ops->now_ns(store->env) - begin_ns) / 1000);
    if (log_has_work(store->log) || store_sync_due(store) || space_is_short(store))
        store_wake_background(store);
    return VARVE_OK;
}
