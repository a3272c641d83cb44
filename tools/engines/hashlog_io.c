/* SPDX-License-Identifier: Apache-2.0 */
#include "engines/hashlog_io.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "codec/iov_cursor.h"

#define TRANSFER_BYTES_MAX ((uint64_t)1 << 20)

/* Places [first, first + count) of the call, which follow each other in the log. */
struct hashlog_transfer {
    struct io io;
    struct hashlog_call *call;
    size_t first;
    size_t count;
    uint64_t bytes;  /* padded */
    bool direct;     /* between the log and the caller's buffers */
    uint8_t *bounce; /* else through this */
    struct iovec bounce_iov;
};

uint64_t
hashlog_padded(const struct env *env, uint64_t size)
{
    return (size + env->io_align - 1) & ~(uint64_t)(env->io_align - 1);
}

int
hashlog_call_init(struct hashlog_call *call, struct env *env, struct env_file *log, varve_page *pages, size_t count)
{
    size_t iov_count = 0;

    *call = (struct hashlog_call){.env = env, .log = log, .pages = pages, .count = count};
    for (size_t i = 0; i < count; i++)
        iov_count += pages[i].iov_count;
    call->places = reallocarray(NULL, count, sizeof(*call->places));
    call->transfers = reallocarray(NULL, count, sizeof(*call->transfers));
    call->iovs = reallocarray(NULL, iov_count + 1, sizeof(*call->iovs));
    return call->places != NULL && call->transfers != NULL && call->iovs != NULL ? VARVE_OK : VARVE_E_NOMEM;
}

void
hashlog_call_deinit(struct hashlog_call *call)
{
    for (size_t i = 0; i < call->transfer_count; i++)
        free(call->transfers[i].bounce);
    free(call->places);
    free(call->transfers);
    free(call->iovs);
}

/* Can the device move these very bytes? */
static bool
is_direct(const struct env *env, const struct hashlog_place *place)
{
    const varve_page *page = place->page;
    uint64_t bits = 0;

    for (uint32_t i = 0; i < page->iov_count; i++)
        bits |= (uintptr_t)page->iov[i].iov_base | page->iov[i].iov_len;
    return (bits & (env->io_align - 1)) == 0 && iov_total(page->iov, page->iov_count) == place->size;
}

/* May the place go into the last transfer, too? */
static bool
joins(const struct hashlog_call *call, const struct hashlog_place *place, bool direct, uint64_t bytes)
{
    const struct hashlog_transfer *last;

    if (call->transfer_count == 0)
        return false;
    last = &call->transfers[call->transfer_count - 1];
    return last->direct == direct && last->io.offset + last->bytes == place->offset &&
           last->bytes + bytes <= TRANSFER_BYTES_MAX && last->io.iov_count + place->page->iov_count <= IOV_MAX;
}

static void
add_place(struct hashlog_call *call, size_t index)
{
    const struct hashlog_place *place = &call->places[index];
    uint64_t bytes = hashlog_padded(call->env, place->size);
    bool direct = is_direct(call->env, place);
    struct hashlog_transfer *transfer;

    if (!joins(call, place, direct, bytes)) {
        transfer = &call->transfers[call->transfer_count++];
        *transfer =
            (struct hashlog_transfer){.call = call, .first = index, .direct = direct, .io.offset = place->offset};
        transfer->io.iov = call->iovs + call->iov_count;
    }
    transfer = &call->transfers[call->transfer_count - 1];
    transfer->count++;
    transfer->bytes += bytes;
    for (uint32_t i = 0; direct && i < place->page->iov_count; i++) {
        if (place->page->iov[i].iov_len == 0)
            continue;
        call->iovs[call->iov_count++] = place->page->iov[i];
        transfer->io.iov_count++;
    }
}

static void
fail_pages(const struct hashlog_transfer *transfer, int status)
{
    for (size_t i = 0; i < transfer->count; i++)
        transfer->call->places[transfer->first + i].page->status = status;
}

static void
copy_pages(struct hashlog_transfer *transfer, enum env_op op)
{
    uint8_t *bytes = transfer->bounce;

    for (size_t i = 0; i < transfer->count; i++) {
        const struct hashlog_place *place = &transfer->call->places[transfer->first + i];
        struct iov_cursor cursor = iov_cursor_make(place->page->iov, place->page->iov_count);
        size_t padded = (size_t)hashlog_padded(transfer->call->env, place->size);

        if (op == ENV_OP_READ)
            iov_cursor_write(&cursor, bytes, (size_t)place->size);
        else {
            iov_cursor_read(&cursor, bytes, (size_t)place->size);
            memset(bytes + place->size, 0, padded - (size_t)place->size);
        }
        bytes += padded;
    }
}

static uint64_t
checksum_of(const struct hashlog_place *place)
{
    return hash_page(0, &place->page->id, place->page->iov, place->page->iov_count, place->size);
}

static void
transfer_done(struct io *io)
{
    struct hashlog_transfer *transfer = io->arg;

    if (io->result < 0) {
        /* A log that ends early was damaged: its pages are not there. */
        fail_pages(transfer, io->result == -ENODATA ? VARVE_MISS : error_os(NULL, io->result, "transfer"));
        return;
    }
    if (io->op == ENV_OP_WRITE)
        return;
    if (!transfer->direct)
        copy_pages(transfer, ENV_OP_READ);
    for (size_t i = 0; i < transfer->count; i++) {
        const struct hashlog_place *place = &transfer->call->places[transfer->first + i];

        if (checksum_of(place) != place->checksum)
            place->page->status = VARVE_MISS;
    }
}

static void
start(struct hashlog_transfer *transfer, struct env_queue *queue, enum env_op op)
{
    if (transfer->bytes == 0)
        return;
    if (!transfer->direct) {
        transfer->bounce =
            aligned_alloc(IO_ALIGN_MAX, (size_t)(transfer->bytes + IO_ALIGN_MAX - 1) / IO_ALIGN_MAX * IO_ALIGN_MAX);
        if (transfer->bounce == NULL) {
            fail_pages(transfer, VARVE_E_NOMEM);
            return;
        }
        if (op == ENV_OP_WRITE)
            copy_pages(transfer, op);
        transfer->bounce_iov = (struct iovec){transfer->bounce, (size_t)transfer->bytes};
        transfer->io.iov = &transfer->bounce_iov;
        transfer->io.iov_count = 1;
    }
    transfer->io.op = op;
    transfer->io.file = transfer->call->log;
    transfer->io.done = transfer_done;
    transfer->io.arg = transfer;
    io_submit(queue, &transfer->io);
}

int
hashlog_call_run(struct hashlog_call *call, struct io_queue_pool *queues, enum env_op op)
{
    struct env_queue *queue;
    int rc = io_queue_acquire(queues, &queue);

    if (rc < 0)
        return error_os(NULL, rc, "open a queue");
    for (size_t i = 0; i < call->active_count; i++)
        add_place(call, i);
    for (size_t i = 0; i < call->transfer_count; i++)
        start(&call->transfers[i], queue, op);
    if (op == ENV_OP_WRITE) {
        call->env->ops->wait(queue, 0);
        for (size_t i = 0; i < call->active_count; i++)
            call->places[i].checksum = checksum_of(&call->places[i]);
    }
    io_drain(queue);
    io_queue_release(queues, queue);
    return VARVE_OK;
}
