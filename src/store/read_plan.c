/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reads of a get: neighbours in the log are joined into large ones, straight to where the bytes are wanted, where address, offset and length suit
 * direct I/O: the caller's buffers, or the memory that a coded page is decoded from. Other pages, and those in many small pieces, are read into a bounce buffer
 * and copied (bounce.h).
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "codec/iov_cursor.h"
#include "store/pages.h"
#include "store/read.h"

#define READ_PARTS_MAX       512                  /* buffers of one read */
#define READ_PIECE_BYTES     ((uint64_t)32 << 10) /* smaller ones are faster to copy than to read into */
#define DECODE_IN_FLIGHT_MAX ((uint64_t)32 << 20) /* bytes of coded pages of one call, unless one alone has more */
#define READS_IN_FLIGHT_MAX  256                  /* reads of one call, beyond the queue's depth they wait in memory */

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
    struct read_file file;
    uint8_t *bounce; /* NULL: read into the pages' buffers */
    uint32_t part_count;
    uint32_t iov_count;
    struct part *parts;
    struct iovec *iov;
};

/* A read that is being put together. */
struct read_plan {
    uint64_t segment;
    uint64_t offset; /* in the segment, aligned */
    uint64_t bytes;
    bool aligned;
    uint32_t part_count;
    uint32_t iov_count;
    struct part parts[READ_PARTS_MAX];
    struct iovec iov[READ_PARTS_MAX];
};

/* Copy `size` bytes to where the page's bytes go, from page_offset on. */
static void
copy_to_page(const struct get *get, uint32_t index, uint64_t page_offset, const uint8_t *from, uint64_t size)
{
    uint32_t iov_count;
    const struct iovec *iov = fetch_target(get, index, &iov_count);

    for (uint32_t i = 0; i < iov_count && size > 0; i++) {
        uint64_t length = iov[i].iov_len;
        uint64_t part;

        if (page_offset >= length) {
            page_offset -= length;
            continue;
        }
        part = length - page_offset < size ? length - page_offset : size;
        memcpy((uint8_t *)iov[i].iov_base + page_offset, from, (size_t)part);
        from += part;
        size -= part;
        page_offset = 0;
    }
}

static void
read_done(struct io *io)
{
    struct read *read = (struct read *)io;
    struct get *get = read->get;
    struct env *env = get->store->env;
    uint64_t bytes = 0;

    get->last_read_ns = env->ops->now_ns(env);
    for (uint32_t i = 0; i < read->part_count; i++) {
        const struct part *part = &read->parts[i];

        bytes += part->size;
        if (read->bounce != NULL && io->result == 0) {
            copy_to_page(get, part->page, part->page_offset, read->bounce + part->read_offset, part->size);
            COUNT(&get->store->counters, get_copied_bytes, part->size);
        }
        read_part_done(get, part->page, io->result);
    }
    get->device_bytes =
        atomic_fetch_add_explicit(&get->store->device_bytes, bytes, memory_order_relaxed) + bytes - get->device_began;
    get->source->close(get, &read->file);
    get->reads--;
    bounce_give_back(&get->bounce, read->bounce);
    env_free(env, read);
}

/*
 * A read with the plan's parts and buffers, its segment's file held. 0, or -errno: -ESTALE the segment was dropped, -ENODATA
 * its file is not there.
 */
static int
read_create(struct get *get, const struct read_plan *plan, struct read **out)
{
    struct env *env = get->store->env;
    bool direct = plan->aligned && !bounce_pays(env, plan->bytes, plan->iov_count, READ_PIECE_BYTES);
    size_t iov_count = direct ? plan->iov_count : 1;
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
    if (direct) {
        memcpy(read->iov, plan->iov, iov_count * sizeof(struct iovec));
    } else {
        read->bounce = bounce_take(&get->bounce);
        if (read->bounce == NULL)
            goto fail;
        read->iov[0] = (struct iovec){read->bounce, (size_t)plan->bytes};
    }
    rc = get->source->open(get, plan->segment, &read->file);
    if (rc < 0) {
        get->stale = get->stale || rc == -ESTALE;
        goto fail;
    }
    read->io.file = read->file.file;
    *out = read;
    return 0;

fail:
    bounce_give_back(&get->bounce, read->bounce);
    env_free(env, read);
    return rc;
}

/* The plan can not be read: its pages get the reason. */
static void
fail_plan(struct get *get, const struct read_plan *plan, int reason)
{
    for (uint32_t i = 0; i < plan->part_count; i++)
        read_part_done(get, plan->parts[i].page, reason);
}

/* Send off the plan, if it holds anything, and begin an empty one. */
static void
submit_plan(struct get *get, struct read_plan *plan)
{
    struct read *read = NULL;
    int rc;

    if (plan->part_count == 0)
        return;
    while (get->reads >= READS_IN_FLIGHT_MAX || bounce_is_full(&get->bounce))
        read_progress(get);
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
        COUNT(&get->store->counters, get_reads, 1);
        io_submit(get->queue, &read->io);
        /* To the device now: many at once are held back in the kernel until it has mapped the buffers of all. */
        get->store->env->ops->wait(get->queue, 0);
    }
    plan->part_count = plan->iov_count = 0;
    plan->bytes = 0;
}

/* Append [page_offset, page_offset + size) of the page's buffers to the plan's iovecs. False: they do not fit. */
static bool
add_buffers(const struct get *get, struct read_plan *plan, uint32_t index, uint64_t page_offset, uint64_t size)
{
    uint32_t iov_count = plan->iov_count, target_count;
    const struct iovec *target = fetch_target(get, index, &target_count);

    if (target_count > READ_PARTS_MAX - iov_count)
        return false;
    for (uint32_t i = 0; i < target_count && size > 0; i++) {
        uint64_t length = target[i].iov_len;
        uint64_t part;

        if (page_offset >= length) {
            page_offset -= length;
            continue;
        }
        part = length - page_offset < size ? length - page_offset : size;
        iov_append(plan->iov, &iov_count, (uint8_t *)target[i].iov_base + page_offset, (size_t)part);
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
plan_piece(struct get *get, struct read_plan *plan, uint32_t index, uint64_t page_offset, uint64_t size)
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
        joins = add_buffers(get, plan, index, page_offset, size);
    if (!joins) {
        bool added = true;

        submit_plan(get, plan);
        plan->segment = fetch->location.segment;
        plan->offset = begin;
        plan->aligned = fetch->aligned;
        if (fetch->aligned)
            added = add_buffers(get, plan, index, page_offset, size);
        assert(added); /* a page has at most VARVE_PAGE_IOV_MAX buffers */
        (void)added;
    }
    if (end > plan->offset + plan->bytes)
        plan->bytes = end - plan->offset;
    plan->parts[plan->part_count++] = (struct part){
        .page = index, .size = (uint32_t)size, .page_offset = page_offset, .read_offset = from - plan->offset};
}

/* Memory for the page where it is coded, once what is in flight leaves some. */
static bool
prepare_page(struct get *get, struct read_plan *plan, uint32_t index)
{
    if (get->fetches[index].location.codec == CODING_NONE)
        return true;
    if (get->decode_bytes >= DECODE_IN_FLIGHT_MAX)
        submit_plan(get, plan);
    while (get->decode_bytes >= DECODE_IN_FLIGHT_MAX)
        read_progress(get);
    return decoding_create(get, index);
}

static void
plan_page(struct get *get, struct read_plan *plan, uint32_t index)
{
    struct fetch *fetch = &get->fetches[index];
    uint64_t size = fetch->read_bytes, piece_bytes = get->piece_bytes;

    if (!prepare_page(get, plan, index)) {
        fetch->pending = 1;
        read_part_done(get, index, -ENOMEM);
        return;
    }
    fetch->pending = (uint32_t)((size + piece_bytes - 1) / piece_bytes);
    for (uint64_t at = 0; at < size; at += piece_bytes)
        plan_piece(get, plan, index, at, size - at < piece_bytes ? size - at : piece_bytes);
}

struct read_plan *
read_plan_create(struct env *env)
{
    struct read_plan *plan = env->ops->alloc(env, sizeof(*plan), _Alignof(struct read_plan));

    if (plan != NULL) {
        plan->part_count = plan->iov_count = 0;
        plan->bytes = 0;
    }
    return plan;
}

void
read_pages(struct get *get, struct read_plan *plan)
{
    uint64_t total = 0;

    for (size_t i = 0; i < get->count; i++)
        total += get->fetches[i].wanted ? get->fetches[i].read_bytes : 0;
    get->piece_bytes = store_piece_bytes(get->store, total);
    bounce_begin(&get->bounce, &get->store->bounce_memory,
                 get->piece_bytes + UINT64_C(2) * IO_ALIGN_MAX); /* where it begins and ends within blocks */
    for (size_t i = 0; i < get->count; i++) {
        if (get->fetches[i].wanted)
            plan_page(get, plan, (uint32_t)i);
    }
    submit_plan(get, plan);
    while (get->decode_bytes > 0)
        read_progress(get);
    io_drain(get->queue);
}
