/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Get: find where the pages are, join neighbours into large reads, verify each page as soon as its last read is in, while others are
 * still on their way.
 *
 * Reads go straight into the caller's buffers where address, offset and length suit direct I/O; other pages are read into a bounce
 * buffer and copied. A page is an answer only when its checksum, taken with the id that was asked for, holds.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "store/pages.h"
#include "store/store.h"

#define READ_PARTS_MAX       512                  /* buffers of one read */
#define READS_IN_FLIGHT_MAX  256                  /* reads of one call, beyond the queue's depth they wait in memory */
#define BOUNCE_IN_FLIGHT_MAX ((uint64_t)32 << 20) /* bytes of bounce buffers of one call */
#define BANDWIDTH_SAMPLE_MIN ((uint64_t)1 << 20)  /* smaller batches measure latency */

/* One page of the batch. */
struct fetch {
    struct location location;
    uint32_t pending; /* reads in flight */
    int rc;           /* first failure: 0 or -errno */
    bool wanted;      /* found, and its buffers are large enough */
    bool aligned;
    bool corrupt; /* to be forgotten after the batch */
};

struct get {
    varve_store *store;
    varve_page *pages;
    struct fetch *fetches;
    size_t count;
    uint32_t ns_id;
    bool expires; /* the namespace has a time to live */
    struct env_queue *queue;
    uint32_t reads;        /* in flight */
    uint64_t bounce_bytes; /* in flight */
    uint64_t bytes;        /* read and verified */
    uint64_t piece_bytes;  /* of the largest read: store_piece_bytes() */
};

/* A piece of one page that one read brings. */
struct part {
    uint32_t page;
    uint32_t size;
    uint64_t page_offset;
    uint64_t read_offset; /* from the start of the read */
};

/* One read: a range of a segment, with the parts of pages that lie in it. */
struct read {
    struct io io; /* first */
    struct get *get;
    struct segment *segment;
    uint8_t *bounce;
    uint64_t bounce_bytes;
    uint32_t part_count;
    uint32_t iov_count;
    struct part *parts;
    struct iovec *iov;
};

/* A read that is being put together. */
struct plan {
    uint64_t segment;
    uint64_t offset; /* in the segment, aligned */
    uint64_t bytes;
    bool aligned;
    uint32_t part_count;
    uint32_t iov_count;
    struct part parts[READ_PARTS_MAX];
    struct iovec iov[READ_PARTS_MAX];
};

/* Copy `size` bytes to the page's buffers, from page_offset on. */
static void
copy_to_page(const varve_page *page, uint64_t page_offset, const uint8_t *from, uint64_t size)
{
    for (uint32_t i = 0; i < page->iov_count && size > 0; i++) {
        uint64_t length = page->iov[i].iov_len;
        uint64_t part;

        if (page_offset >= length) {
            page_offset -= length;
            continue;
        }
        part = length - page_offset < size ? length - page_offset : size;
        memcpy((uint8_t *)page->iov[i].iov_base + page_offset, from, (size_t)part);
        from += part;
        size -= part;
        page_offset = 0;
    }
}

/* All of a page is in: it becomes an answer, or a miss. */
static void
settle_page(struct get *get, uint32_t index)
{
    struct fetch *fetch = &get->fetches[index];
    varve_page *page = &get->pages[index];
    struct counters *counters = &get->store->counters;

    if (fetch->rc == -ESTALE) {
        page->status = VARVE_MISS; /* its segment was dropped since it was found */
        COUNT(counters, get_misses, 1);
        return;
    }
    if (fetch->rc < 0 && fetch->rc != -ENODATA) {
        page->status = fetch->rc == -ENOMEM ? VARVE_E_NOMEM : VARVE_E_IO;
        COUNT(counters, get_errors, 1);
        return;
    }
    if (fetch->rc == -ENODATA ||
        hash_page(get->ns_id, &page->id, page->iov, page->iov_count, fetch->location.size) != fetch->location.sum) {
        page->status = VARVE_MISS;
        fetch->corrupt = true;
        COUNT(counters, get_corrupt, 1);
        return;
    }
    page->status = VARVE_OK;
    get->bytes += fetch->location.size;
    COUNT(counters, get_pages, 1);
    COUNT(counters, get_bytes, fetch->location.size);
}

static void
part_done(struct get *get, uint32_t page, int rc)
{
    struct fetch *fetch = &get->fetches[page];

    if (rc < 0 && fetch->rc == 0)
        fetch->rc = rc;
    assert(fetch->pending > 0);
    if (--fetch->pending == 0)
        settle_page(get, page);
}

static void
read_done(struct io *io)
{
    struct read *read = (struct read *)io;
    struct get *get = read->get;
    struct env *env = get->store->env;

    for (uint32_t i = 0; i < read->part_count; i++) {
        const struct part *part = &read->parts[i];

        if (read->bounce != NULL && io->result == 0) {
            copy_to_page(&get->pages[part->page], part->page_offset, read->bounce + part->read_offset, part->size);
            COUNT(&get->store->counters, get_copied_bytes, part->size);
        }
        part_done(get, part->page, io->result);
    }
    log_file_release(get->store->log, read->segment);
    log_release(get->store->log, read->segment);
    get->reads--;
    get->bounce_bytes -= read->bounce_bytes;
    env_free(env, read->bounce);
    env_free(env, read);
}

/*
 * A read with the plan's parts and buffers, its segment's file held. 0, or -errno: -ESTALE the segment was dropped, -ENODATA
 * its file is not there.
 */
static int
read_create(struct get *get, const struct plan *plan, struct read **out)
{
    varve_store *store = get->store;
    struct env *env = store->env;
    size_t iov_count = plan->aligned ? plan->iov_count : 1;
    varve_error reason;
    struct read *read;
    int rc = -ENOMEM;

    read =
        env->ops->alloc(env, sizeof(*read) + plan->part_count * sizeof(struct part) + iov_count * sizeof(struct iovec),
                        _Alignof(struct read));
    if (read == NULL)
        return rc;
    *read = (struct read){.get = get, .part_count = plan->part_count, .iov_count = (uint32_t)iov_count};
    read->parts = (struct part *)(void *)(read + 1);
    read->iov = (struct iovec *)(void *)(read->parts + plan->part_count);
    memcpy(read->parts, plan->parts, plan->part_count * sizeof(struct part));
    if (plan->aligned) {
        memcpy(read->iov, plan->iov, iov_count * sizeof(struct iovec));
    } else {
        read->bounce = env->ops->alloc(env, (size_t)plan->bytes, IO_ALIGN_MAX);
        if (read->bounce == NULL)
            goto fail;
        read->bounce_bytes = plan->bytes;
        read->iov[0] = (struct iovec){read->bounce, (size_t)plan->bytes};
    }
    rc = -ESTALE;
    read->segment = log_acquire(store->log, plan->segment);
    if (read->segment == NULL)
        goto fail;
    if (log_file_acquire(store->log, read->segment, &read->io.file, &reason) != VARVE_OK) {
        rc = reason.os_errno == ENOENT ? -ENODATA : -reason.os_errno;
        log_release(store->log, read->segment);
        goto fail;
    }
    *out = read;
    return 0;

fail:
    env_free(env, read->bounce);
    env_free(env, read);
    return rc;
}

/* The plan can not be read: its pages get the reason. */
static void
fail_plan(struct get *get, const struct plan *plan, int reason)
{
    for (uint32_t i = 0; i < plan->part_count; i++)
        part_done(get, plan->parts[i].page, reason);
}

/* Send off the plan, if it holds anything, and begin an empty one. */
static void
submit_plan(struct get *get, struct plan *plan)
{
    struct env *env = get->store->env;
    struct read *read = NULL;
    int rc;

    if (plan->part_count == 0)
        return;
    while (get->reads >= READS_IN_FLIGHT_MAX || get->bounce_bytes >= BOUNCE_IN_FLIGHT_MAX)
        env->ops->wait(get->queue, 1);
    rc = read_create(get, plan, &read);
    if (read == NULL) {
        fail_plan(get, plan, rc);
    } else {
        read->io.op = ENV_OP_READ;
        read->io.iov = read->iov;
        read->io.iov_count = read->iov_count;
        read->io.offset = plan->offset;
        read->io.done = read_done;
        get->reads++;
        get->bounce_bytes += read->bounce_bytes;
        COUNT(&get->store->counters, get_reads, 1);
        io_submit(get->queue, &read->io);
    }
    plan->part_count = plan->iov_count = 0;
    plan->bytes = 0;
}

/* Append [page_offset, page_offset + size) of the page's buffers to the plan's iovecs. False: they do not fit. */
static bool
add_buffers(struct plan *plan, const varve_page *page, uint64_t page_offset, uint64_t size)
{
    uint32_t iov_count = plan->iov_count;

    for (uint32_t i = 0; i < page->iov_count && size > 0; i++) {
        uint64_t length = page->iov[i].iov_len;
        uint64_t part;

        if (page_offset >= length) {
            page_offset -= length;
            continue;
        }
        part = length - page_offset < size ? length - page_offset : size;
        if (iov_count == READ_PARTS_MAX)
            return false;
        plan->iov[iov_count++] = (struct iovec){(uint8_t *)page->iov[i].iov_base + page_offset, (size_t)part};
        size -= part;
        page_offset = 0;
    }
    plan->iov_count = iov_count;
    return true;
}

/*
 * Add one piece of a page to the plan, after sending the plan off if it does not continue it. `io_align` is the device's: an old store may
 * hold pages that are less aligned.
 */
static void
plan_piece(struct get *get, struct plan *plan, uint32_t index, uint64_t page_offset, uint64_t size)
{
    const struct fetch *fetch = &get->fetches[index];
    uint64_t io_align = get->store->env->io_align;
    uint64_t from = fetch->location.offset + page_offset;
    uint64_t begin = from & ~(io_align - 1);
    uint64_t end = (from + size + io_align - 1) & ~(io_align - 1);
    bool joins = plan->part_count > 0 && plan->part_count < READ_PARTS_MAX && plan->aligned == fetch->aligned &&
                 plan->segment == fetch->location.segment && begin >= plan->offset &&
                 (fetch->aligned ? begin == plan->offset + plan->bytes : begin <= plan->offset + plan->bytes) &&
                 end - plan->offset <= get->piece_bytes;

    if (joins && fetch->aligned)
        joins = add_buffers(plan, &get->pages[index], page_offset, size);
    if (!joins) {
        bool added = true;

        submit_plan(get, plan);
        plan->segment = fetch->location.segment;
        plan->offset = begin;
        plan->aligned = fetch->aligned;
        if (fetch->aligned)
            added = add_buffers(plan, &get->pages[index], page_offset, size);
        assert(added); /* a page has at most VARVE_PAGE_IOV_MAX buffers */
        (void)added;
    }
    if (end > plan->offset + plan->bytes)
        plan->bytes = end - plan->offset;
    plan->parts[plan->part_count++] = (struct part){
        .page = index, .size = (uint32_t)size, .page_offset = page_offset, .read_offset = from - plan->offset};
}

/* Decide what each page needs: nothing (a miss, empty, buffers too small), or reading. */
static void
find_pages(struct get *get)
{
    struct counters *counters = &get->store->counters;
    struct index_view *view = index_view_acquire(get->store->index);
    uint64_t io_align = get->store->env->io_align;
    struct index_cursor cursor;
    struct touches touches;

    touches_begin(&touches, get->store, view, get->count, get->expires);
    touches.unless_recent = true; /* a chain is read in several calls, soon after it was probed */

    index_cursor_init(&cursor, view);
    for (size_t i = 0; i < get->count; i++) {
        struct fetch *fetch = &get->fetches[i];
        varve_page *page = &get->pages[i];
        uint64_t room;

        page->size = 0;
        if (!page_buffer_bytes(page, &room)) {
            page->status = VARVE_E_ARG;
            continue;
        }
        /* A codec that this version does not know is as good as absent. */
        if (!index_cursor_find(&cursor, get->ns_id, &page->id, &fetch->location) ||
            (get->expires && !limits_serve(get->store, get->ns_id, &page->id, &fetch->location)) ||
            fetch->location.codec != 0) {
            page->status = VARVE_MISS;
            COUNT(counters, get_misses, 1);
            continue;
        }
        page->size = fetch->location.size;
        touches_add(&touches, &fetch->location, (int64_t)i);
        if (room < page->size) {
            page->status = VARVE_E_ARG;
            continue;
        }
        fetch->wanted = page->size > 0;
        fetch->aligned =
            fetch->location.offset % io_align == 0 && page_is_aligned(page, page->size, (uint32_t)io_align);
        if (page->size == 0)
            settle_page(get, (uint32_t)i);
    }
    touches_end(&touches);
    index_cursor_deinit(&cursor);
    index_view_release(view);
}

static void
read_pages(struct get *get, struct plan *plan)
{
    uint64_t piece_bytes, total = 0;

    for (size_t i = 0; i < get->count; i++)
        total += get->fetches[i].wanted ? get->pages[i].size : 0;
    get->piece_bytes = piece_bytes = store_piece_bytes(get->store, total);
    plan->part_count = plan->iov_count = 0;
    plan->bytes = 0;
    for (size_t i = 0; i < get->count; i++) {
        uint64_t size = get->pages[i].size;

        if (!get->fetches[i].wanted)
            continue;
        get->fetches[i].pending = (uint32_t)((size + piece_bytes - 1) / piece_bytes);
        for (uint64_t at = 0; at < size; at += piece_bytes)
            plan_piece(get, plan, (uint32_t)i, at, size - at < piece_bytes ? size - at : piece_bytes);
    }
    submit_plan(get, plan);
    io_drain(get->queue);
}

/* Pages that failed their checksum must not be found again: the next put of them stores them anew. */
static void
forget_corrupt(struct get *get)
{
    for (size_t i = 0; i < get->count; i++) {
        if (get->fetches[i].corrupt)
            (void)store_forget(get->store, &get->pages[i].id, &get->fetches[i].location, NULL);
    }
}

static void
average(_Atomic uint64_t *value, uint64_t sample)
{
    uint64_t old = atomic_load_explicit(value, memory_order_relaxed);

    /* Lost updates of concurrent calls only make it a little slower to follow. 1/5: as the controller's windows. */
    atomic_store_explicit(value, old == 0 ? sample : old - old / 5 + sample / 5, memory_order_relaxed);
}

static void
measure(struct get *get, uint64_t began_ns)
{
    uint64_t elapsed_ns = get->store->env->ops->now_ns(get->store->env) - began_ns;

    COUNT(&get->store->counters, get_time_us, elapsed_ns / 1000);
    if (get->bytes == 0 || elapsed_ns == 0)
        return;
    if (get->bytes >= BANDWIDTH_SAMPLE_MIN)
        average(&get->store->read_bandwidth, (uint64_t)((double)get->bytes * 1e9 / (double)elapsed_ns));
    else
        average(&get->store->read_latency_ns, elapsed_ns);
}

struct read_speed
store_read_speed(const varve_store *store)
{
    struct read_speed speed = {
        .bandwidth = atomic_load_explicit(&store->read_bandwidth, memory_order_relaxed),
        .latency_us = atomic_load_explicit(&store->read_latency_ns, memory_order_relaxed) / 1000,
    };

    /* Until something was read: an ordinary NVMe drive, 100 us and 2 GB/s. */
    if (speed.bandwidth == 0)
        speed.bandwidth = 2000000000u;
    if (speed.latency_us == 0)
        speed.latency_us = 100;
    return speed;
}

uint64_t
read_speed_us(const struct read_speed *speed, uint64_t bytes)
{
    return speed->latency_us + (uint64_t)((double)bytes * 1e6 / (double)speed->bandwidth);
}

int
varve_get_batch(varve_store *store, varve_namespace *ns, varve_page *pages, size_t count, varve_error *err)
{
    struct get get = {.store = store, .pages = pages, .count = count};
    struct plan *plan = NULL;
    uint64_t began_ns;
    int rc = pages_check_call(store, ns, pages, count, err);

    if (rc != VARVE_OK)
        return rc;
    COUNT(&store->counters, get_calls, 1);
    get.expires = limits_begin(ns, true);
    get.ns_id = atomic_load_explicit(&ns->ns_id, memory_order_acquire);
    began_ns = store->env->ops->now_ns(store->env);
    get.fetches = env_zalloc(store->env, count * sizeof(get.fetches[0]));
    plan = store->env->ops->alloc(store->env, sizeof(*plan), _Alignof(struct plan));
    if (get.fetches == NULL || plan == NULL) {
        rc = error_set(err, VARVE_E_NOMEM, "out of memory for a batch of %zu pages", count);
    } else {
        rc = io_queue_acquire(store->pool, &get.queue);
        if (rc < 0)
            rc = error_os(err, rc, "open an I/O queue");
    }
    if (rc == VARVE_OK) {
        find_pages(&get);
        read_pages(&get, plan);
        io_queue_release(store->pool, get.queue);
        forget_corrupt(&get);
        measure(&get, began_ns);
    } else {
        for (size_t i = 0; i < count; i++)
            pages[i].status = rc;
        COUNT(&store->counters, get_errors, count);
        rc = VARVE_OK;
    }
    env_free(store->env, plan);
    env_free(store->env, get.fetches);
    return rc;
}
