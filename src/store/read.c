/* SPDX-License-Identifier: Apache-2.0 */
/* Get: find where the pages are, have them read and settled, forget those that are damaged, and learn from how long it took. */
#include "store/read.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "store/calls.h"
#include "store/pages.h"

void
read_place(struct get *get, uint32_t index)
{
    struct fetch *fetch = &get->fetches[index];
    const struct location *location = &fetch->location;
    varve_page *page = &get->pages[index];
    uint64_t io_align = get->store->env->io_align;

    fetch->read_bytes = location->size;
    if (location->codec == CODING_NONE) {
        page->size = location->size;
        if (fetch->room < page->size) {
            page->status = VARVE_E_ARG;
            return;
        }
        fetch->aligned = location->offset % io_align == 0 && page_is_aligned(page, page->size, (uint32_t)io_align);
    } else if (location->offset % io_align == 0) {
        fetch->aligned = true;
        fetch->read_bytes = (location->size + io_align - 1) & ~(io_align - 1);
    }
    fetch->wanted = location->size > 0;
    if (!fetch->wanted)
        read_settle_empty(get, index);
}

static bool
is_missed(const struct get *get, size_t index)
{
    return get->pages[index].status == VARVE_MISS && !get->fetches[index].corrupt;
}

bool
read_seeks(struct get *get, size_t index)
{
    struct fetch *fetch = &get->fetches[index];
    varve_page *page = &get->pages[index];

    if (get->again && !is_missed(get, index)) {
        fetch->wanted = false;
        return false;
    }
    *fetch = (struct fetch){.rc = 0};
    page->size = 0;
    if (page_buffer_bytes(page, &fetch->room)) {
        page->status = VARVE_MISS;
        return true;
    }
    page->status = VARVE_E_ARG;
    return false;
}

bool
read_find(struct get *get, struct index_cursor *cursor, const varve_id *id, struct location *location)
{
    /* A codec that this version does not know is as good as absent. */
    return index_cursor_find(cursor, get->ns_id, id, location) &&
           (!get->expires || limits_serve(get->store, get->ns_id, id, location)) && location->codec <= CODING_PLANES;
}

/* Decide what each page needs: nothing (a miss, empty, buffers too small), or reading. */
static void
log_locate(struct get *get)
{
    struct index_view *view;
    struct index_cursor cursor;
    struct touches touches;

    get->losses = log_losses(get->store->log);
    view = index_view_acquire(get->store->index);
    touches_begin(&touches, get->store, view, get->count, get->expires);
    touches_name(&touches, get->ns_id, &get->pages[get->count - 1].id);
    touches.unless_recent = true; /* a chain is read in several calls, soon after it was probed */

    index_cursor_init(&cursor, view);
    for (size_t i = 0; i < get->count; i++) {
        struct fetch *fetch = &get->fetches[i];

        if (!read_seeks(get, i) || !read_find(get, &cursor, &get->pages[i].id, &fetch->location))
            continue;
        touches_add(&touches, &fetch->location, (int64_t)i);
        read_place(get, (uint32_t)i);
    }
    touches_end(&touches);
    index_cursor_deinit(&cursor);
    index_view_release(view);
}

static bool
log_lost(const struct get *get)
{
    return log_losses(get->store->log) != get->losses;
}

static int
log_open(struct get *get, uint64_t number, struct read_file *out)
{
    struct log *log = get->store->log;
    struct segment *segment = log_acquire(log, number);
    varve_error reason;

    if (segment == NULL)
        return -ESTALE;
    if (log_file_acquire(log, segment, &out->file, &reason) != VARVE_OK) {
        log_release(log, segment);
        if (reason.os_errno == ENOENT) /* it may have been dropped just now */
            return log_segment_state(log, number) == SEGMENT_GONE ? -ESTALE : -ENODATA;
        return -reason.os_errno;
    }
    out->held = segment;
    return 0;
}

static void
log_close(struct get *get, struct read_file *file)
{
    log_file_release(get->store->log, file->held);
    log_release(get->store->log, file->held);
}

/* Pages that failed their checksum must not be found again: the next put of them stores them anew. */
static void
forget_damaged(struct get *get)
{
    for (size_t i = 0; i < get->count; i++) {
        if (get->fetches[i].corrupt)
            (void)store_forget(get->store, &get->pages[i].id, &get->fetches[i].location, NULL);
    }
}

static const struct read_source read_from_log = {
    .locate = log_locate, .lost = log_lost, .open = log_open, .close = log_close, .damaged = forget_damaged};

/* Pages that were moved, or dropped, since they were found, or while they were looked for. Returns how many were missed. */
static uint64_t
read_missed(struct get *get, struct read_plan *plan)
{
    uint64_t missed = 0;

    for (int lookups = 1;; lookups++) {
        missed = 0;
        for (size_t i = 0; i < get->count; i++)
            missed += is_missed(get, i);
        if (missed == 0 || lookups == LOOKUPS_MAX || !get->source->lost(get))
            return missed;
        COUNT(&get->store->counters, get_moved, missed);
        get->again = true;
        get->stale = false;
        get->source->locate(get);
        read_pages(get, plan);
    }
}

/* What this get decoded in all its time. */
static void
measure_coded(struct get *get, uint64_t elapsed_ns)
{
    struct counters *counters = &get->store->counters;
    struct coding *coding = &get->store->coding;

    COUNT(counters, codec_get_pages, get->decoded.pages);
    COUNT(counters, codec_get_bytes, get->decoded.bytes);
    COUNT(counters, codec_get_stored_bytes, get->decoded.stored_bytes);
    COUNT(counters, codec_decode_us, get->decoded.time_ns / 1000);
    coding_measured(coding, get->decoded.bytes, get->decoded.stored_bytes, get->decoded.time_ns);
    /* Where most was coded: how fast such gets are. */
    if (get->decoded.bytes >= BANDWIDTH_SAMPLE_MIN && get->decoded.stored_bytes > get->stored_bytes / 10 * 9)
        store_average(&coding->coded_bandwidth, bytes_per_second(get->decoded.bytes, elapsed_ns));
}

/*
 * How fast the device was: until the last read came in, with what it gave to other gets in that time, or several calls at once would each measure their share. Where
 * pages were decoded meanwhile, it may have waited for that, and is at least that fast.
 */
static void
measure(struct get *get, uint64_t began_ns)
{
    varve_store *store = get->store;
    uint64_t elapsed_ns = store->env->ops->now_ns(store->env) - began_ns;
    uint64_t read_ns = get->last_read_ns > began_ns ? get->last_read_ns - began_ns : 0, bandwidth;

    COUNT(&store->counters, get_time_us, elapsed_ns / 1000);
    if (get->decoded.pages > 0)
        measure_coded(get, elapsed_ns);
    if (get->stored_bytes == 0 || read_ns == 0)
        return;
    bandwidth = bytes_per_second(get->device_bytes, read_ns);
    if (get->stored_bytes < BANDWIDTH_SAMPLE_MIN)
        store_average(&store->read_latency_ns, read_ns);
    else if (get->decoded.pages == 0 || bandwidth > atomic_load_explicit(&store->read_bandwidth, memory_order_relaxed))
        store_average(&store->read_bandwidth, bandwidth);
}

static void
report_damage(struct get *get)
{
    for (size_t i = 0; i < get->count; i++) {
        if (get->fetches[i].corrupt) {
            get->source->damaged(get);
            return;
        }
    }
}

int
read_run(struct get *get, varve_error *err)
{
    varve_store *store = get->store;
    struct read_plan *plan;
    uint64_t began_ns = store->env->ops->now_ns(store->env);
    int rc = VARVE_OK;

    COUNT(&store->counters, get_calls, 1);
    get->ready_end = &get->ready;
    get->device_began = atomic_load_explicit(&store->device_bytes, memory_order_relaxed);
    get->fetches = env_zalloc(store->env, get->count * sizeof(get->fetches[0]));
    plan = read_plan_create(store->env);
    if (get->fetches == NULL || plan == NULL) {
        rc = error_set(err, VARVE_E_NOMEM, "out of memory for a batch of %zu pages", get->count);
    } else {
        rc = io_queue_acquire(store->pool, &get->queue);
        if (rc < 0)
            rc = error_os(err, rc, "open an I/O queue");
    }
    if (rc == VARVE_OK) {
        get->source->locate(get);
        read_pages(get, plan);
        COUNT(&store->counters, get_misses, read_missed(get, plan));
        io_queue_release(store->pool, get->queue);
        bounce_end(&get->bounce);
        report_damage(get);
        measure(get, began_ns);
    } else {
        for (size_t i = 0; i < get->count; i++)
            get->pages[i].status = rc;
        COUNT(&store->counters, get_errors, get->count);
    }
    env_free(store->env, plan);
    env_free(store->env, get->fetches);
    return VARVE_OK;
}

int
store_get_batch(varve_store *store, varve_namespace *ns, varve_page *pages, size_t count, varve_error *err)
{
    struct get get = {.store = store, .pages = pages, .count = count, .source = &read_from_log};

    get.expires = limits_begin(ns, true);
    get.ns_id = atomic_load_explicit(&ns->ns_id, memory_order_acquire);
    return read_run(&get, err);
}
