/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the disk gives without a store: one preallocated file, one page an operation, a window of `batch` operations
 * that is refilled as each completes, through the engine's own io_uring queue (its thread pool where io_uring is
 * forbidden).
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "bench.h"
#include "cli.h"
#include "env/io.h"
#include "page_buffers.h"

#define RAW_FILE "raw"

struct raw_slot {
    struct io io; /* first: io.done gets it */
    struct raw *raw;
    struct iovec iov;
    void *buffer;
};

struct raw {
    const struct bench_settings *settings;
    struct env *env;
    struct env_file *file;
    struct env_queue *queue;
    struct raw_slot *slots;
    uint8_t *memory;
    uint64_t *order; /* of the chains; NULL: as they lie */
    uint64_t stride; /* bytes of an operation */
    enum env_op op;
    uint64_t position; /* next chain in the order */
    uint64_t depth;    /* next page of it */
    int rc;            /* the first failure, -errno */
};

/* The file offset of the next page, or false when all have been asked for. */
static bool
next_offset(struct raw *raw, uint64_t *offset)
{
    uint64_t chain;

    if (raw->rc < 0 || raw->position == bench_chain_count(raw->settings))
        return false;
    chain = raw->order == NULL ? raw->position : raw->order[raw->position];
    *offset = (chain * raw->settings->chain + raw->depth) * raw->stride;
    if (++raw->depth == bench_chain_pages(raw->settings, chain)) {
        raw->depth = 0;
        raw->position++;
    }
    return true;
}

static void slot_done(struct io *io);

static void
slot_start(struct raw_slot *slot)
{
    struct raw *raw = slot->raw;
    uint64_t offset;

    assert(raw != NULL);
    if (!next_offset(raw, &offset))
        return;
    slot->iov = (struct iovec){slot->buffer, (size_t)raw->stride};
    slot->io = (struct io){.op = raw->op,
                           .file = raw->file,
                           .iov = &slot->iov,
                           .iov_count = 1,
                           .offset = offset,
                           .done = slot_done,
                           .arg = slot};
    io_submit(raw->queue, &slot->io);
}

static void
slot_done(struct io *io)
{
    struct raw_slot *slot = io->arg;

    if (io->result < 0 && slot->raw->rc == 0)
        slot->raw->rc = io->result;
    slot_start(slot);
}

static int
raw_pass(struct raw *raw, enum env_op op, uint64_t *order, const char *phase, const struct bench_sink *sink,
         varve_error *err)
{
    struct bench_result result = bench_result_make("raw", phase);
    struct bench_clock clock = {0};

    raw->op = op;
    raw->order = order;
    raw->position = 0;
    raw->depth = 0;
    bench_clock_start(&clock);
    for (size_t i = 0; i < raw->settings->batch; i++)
        slot_start(&raw->slots[i]);
    io_drain(raw->queue);
    if (raw->rc == 0 && op == ENV_OP_WRITE)
        raw->rc = raw->env->ops->sync(raw->file);
    bench_clock_stop(&clock);
    if (raw->rc < 0)
        return error_os(err, raw->rc, "%s", phase);
    result.bytes = raw->settings->pages * raw->stride;
    result.pages = raw->settings->pages;
    result.io_engine = raw->env->name;
    result.seconds = (double)clock.wall_ns / 1e9;
    result.core_seconds = (double)clock.cpu_ns / 1e9;
    sink->result(sink->arg, &result);
    return VARVE_OK;
}

static int
raw_open_file(struct raw *raw, varve_error *err)
{
    const struct env_ops *ops = raw->env->ops;
    int rc;

    rc = ops->open(raw->env, RAW_FILE, ENV_OPEN_CREATE | ENV_OPEN_DIRECT, &raw->file);
    if (rc < 0)
        return error_os(err, rc, "create the raw file");
    rc = ops->preallocate(raw->file, raw->settings->pages * raw->stride);
    if (rc < 0)
        return error_os(err, rc, "reserve space for the raw file");
    rc = ops->queue_open(raw->env, &raw->queue);
    if (rc < 0)
        return error_os(err, rc, "open an I/O queue");
    return VARVE_OK;
}

static int
raw_alloc(struct raw *raw, const struct page_content *content, varve_error *err)
{
    size_t count = (size_t)raw->settings->batch;

    raw->slots = calloc(count, sizeof(*raw->slots));
    raw->memory = page_memory_alloc(count * raw->stride);
    if (raw->slots == NULL || raw->memory == NULL)
        return error_set(err, VARVE_E_NOMEM, "no memory for %zu buffers: ask for a smaller --batch", count);
    for (size_t i = 0; i < count; i++) {
        varve_id id = {{(uint8_t)i, (uint8_t)(i >> 8)}};

        raw->slots[i].raw = raw;
        raw->slots[i].buffer = raw->memory + i * raw->stride;
        page_content_fill(content, &id, 0, raw->slots[i].buffer, (size_t)raw->stride);
    }
    return VARVE_OK;
}

int
bench_raw(const struct bench_settings *settings, const char *path, const struct page_content *content,
          const struct bench_sink *sink, varve_error *err)
{
    const struct env_settings env_settings = {.io_engine = "auto",
                                              .direct_io = "auto",
                                              .queue_depth = (uint32_t)settings->batch,
                                              .io_threads = 32,
                                              .create_dir = true};
    struct raw raw = {.settings = settings};
    uint64_t *order = bench_chain_order(settings);
    int rc;

    if (order == NULL)
        return error_set(err, VARVE_E_NOMEM, "no memory for the order of the chains");
    rc = env_open_posix(path, &env_settings, &raw.env, err);
    if (rc < 0) {
        free(order);
        return rc;
    }
    raw.stride = (settings->page_bytes + raw.env->io_align - 1) / raw.env->io_align * raw.env->io_align;
    rc = raw_open_file(&raw, err);
    if (rc == VARVE_OK)
        rc = raw_alloc(&raw, content, err);
    if (rc == VARVE_OK)
        rc = raw_pass(&raw, ENV_OP_WRITE, NULL, "raw_write", sink, err);
    if (rc == VARVE_OK)
        rc = raw_pass(&raw, ENV_OP_READ, order, "raw_read", sink, err);
    if (raw.queue != NULL)
        raw.env->ops->queue_close(raw.queue);
    if (raw.file != NULL)
        raw.env->ops->close(raw.file);
    raw.env->ops->destroy(raw.env);
    free(raw.memory);
    free(raw.slots);
    free(order);
    return rc;
}
