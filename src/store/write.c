/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Put: leave out what is stored already, give every run of new pages its place on a branch, write it as extents, insert those into the
 * index. No lock is held while anything is written.
 */
#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "store/calls.h"
#include "store/pages.h"
#include "store/put.h"

#define LOG_WAIT_MS 10 /* for other puts' writes, before asking again */

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

/* Wait for the extents and insert them, in order. */
static void
finish_extents(struct put *put)
{
    struct extent_write *next;

    io_drain(put->batch.queue);
    for (struct extent_write *extent = put->extents; extent != NULL; extent = next) {
        struct entry entry = extent_write_entry(extent);
        int rc = extent_write_install(extent);

        next = extent->next;
        for (uint32_t i = 0; i < extent->header.count; i++)
            extent->pages[i]->status = rc;
        if (rc == VARVE_OK) {
            put->source->stored(put, &entry, (size_t)(extent->pages[0] - put->pages));
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
            put->source->wait(put, LOG_WAIT_MS);
        else
            return rc;
    }
}

/* Write one run of new pages as extents. A failure is the status of the pages from there on. */
static void
write_group(struct put *put, varve_page **pages, size_t count)
{
    struct extent_header key_part;

    put->source->place(put, (size_t)(pages[0] - put->pages), count, &key_part);
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

/* Write each maximal run of new pages. */
static void
write_groups(struct put *put, varve_page **todo)
{
    size_t i = 0;

    while (i < put->count) {
        size_t count = 0;

        if (put->pages[i].status != STATUS_PENDING) {
            i++;
            continue;
        }
        while (i < put->count && put->pages[i].status == STATUS_PENDING)
            todo[count++] = &put->pages[i++];
        write_group(put, todo, count);
        todo += count;
    }
}

static int
run_put(struct put *put, varve_namespace *ns, const varve_id *parent)
{
    varve_store *store = put->store;
    struct env *env = store->env;
    uint32_t *first_of = env->ops->alloc(env, put->count * sizeof(first_of[0]), _Alignof(uint32_t));
    varve_page **todo = env->ops->alloc(env, put->count * sizeof(varve_page *), _Alignof(varve_page *));
    int rc = first_of == NULL || todo == NULL ? VARVE_E_NOMEM : find_repeats(put, first_of);

    if (rc == VARVE_OK) {
        for (size_t i = 0; i < put->count; i++) {
            if (first_of[i] != i)
                put->pages[i].status = VARVE_OK; /* settled below */
        }
        rc = put->source->begin(put, ns, parent);
        if (rc == VARVE_OK) {
            write_groups(put, todo);
            finish_extents(put);
            encode_end(&put->batch);
        }
        put->source->end(put);
    }
    for (size_t i = 0; rc == VARVE_OK && i < put->count; i++) {
        if (first_of[i] == i)
            continue;
        put->pages[i].status = put->pages[first_of[i]].status;
        COUNT(&store->counters, put_duplicates, put->pages[i].status != VARVE_SKIPPED);
    }
    env_free(env, first_of);
    env_free(env, todo);
    return rc;
}

/* A page that failed must not look stored to the pages behind it; count them. */
void
put_count(struct put *put)
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

void
put_fail(struct put *put, int status)
{
    for (size_t i = 0; i < put->count; i++)
        put->pages[i].status = status;
}

int
put_run(struct put *put, varve_namespace *ns, const varve_id *parent)
{
    varve_store *store = put->store;
    int rc;

    put->ns_id = atomic_load_explicit(&ns->ns_id, memory_order_acquire);
    put->extents_end = &put->extents;
    put->batch.store = store;
    put->batch.element = (enum varve_element)ns->element_type;
    bounce_begin(&put->batch.bounce, &store->bounce_memory, store->options.io_bytes);
    check_pages(put);
    rc = io_queue_acquire(store->pool, &put->batch.queue);
    if (rc < 0) {
        rc = error_os(NULL, rc, "open an I/O queue");
    } else {
        rc = run_put(put, ns, parent);
        io_queue_release(store->pool, put->batch.queue);
    }
    bounce_end(&put->batch.bounce);
    if (rc != VARVE_OK) /* nothing can be stored now: said page by page */
        put_fail(put, rc);
    return rc;
}

static int
place_begin(struct put *put, varve_namespace *ns, const varve_id *parent)
{
    struct placement *placement = put->source_arg;
    int rc = placement_begin(placement, ns, parent);

    put->ns_id = placement->ns_id; /* it may just have been cleared */
    return rc;
}

static void
place_run(struct put *put, size_t first, size_t count, struct extent_header *key_part)
{
    placement_place(put->source_arg, first, count, key_part);
}

static void
place_stored(struct put *put, const struct entry *entry, size_t first)
{
    placement_stored(put->source_arg, entry, first);
}

static void
place_wait(struct put *put, uint64_t time_ms)
{
    log_wait(put->store->log, time_ms);
}

static void
place_end(struct put *put)
{
    placement_end(put->source_arg);
}

static const struct put_source put_here = {
    .begin = place_begin, .place = place_run, .stored = place_stored, .wait = place_wait, .end = place_end};

void
store_put_done(varve_store *store)
{
    if (log_has_work(store->log) || store_sync_due(store) || space_is_short(store))
        store_wake_background(store);
}

int
store_put_batch(varve_store *store, varve_namespace *ns, const varve_id *parent, varve_page *pages, size_t count,
                unsigned flags)
{
    struct placement placement = {.store = store, .pages = pages, .count = count};
    struct put put = {.store = store,
                      .pages = pages,
                      .count = count,
                      .source = &put_here,
                      .source_arg = &placement,
                      .batch = {.target = &write_to_log}};
    uint64_t began_ns = store->env->ops->now_ns(store->env);
    int rc = store_writable(store, NULL);

    COUNT(&store->counters, put_calls, 1);
    if (rc == VARVE_OK)
        rc = store_wait_for_room(store, NULL);
    if (rc == VARVE_OK)
        rc = put_run(&put, ns, parent);
    if (rc == VARVE_OK && (flags & VARVE_PUT_SYNC) != 0)
        rc = store_sync(store, NULL);
    if (rc != VARVE_OK)
        put_fail(&put, rc); /* or stored, but not as durably as was asked for */
    put_count(&put);
    COUNT(&store->counters, put_time_us, (store->env->ops->now_ns(store->env) - began_ns) / 1000);
    store_put_done(store);
    return VARVE_OK;
}
