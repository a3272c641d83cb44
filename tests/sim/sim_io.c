/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queues of the simulated disk. Nothing happens at submit; wait() completes operations in an order drawn from the seed, among
 * those the device sees. A read sees the bytes at that moment, a write is part of the current bytes from that moment on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim_internal.h"
#include "sim_log.h"

#define IOV_COUNT_MAX 1024 /* IOV_MAX of Linux */

struct sim_queue {
    struct env_queue base;
    struct env_io **pending; /* in the order of submission */
    size_t count, room;
    struct sim_queue *next; /* of disk->queues */
};

static struct sim_queue *
queue_of(struct env_queue *queue)
{
    return (struct sim_queue *)(void *)queue;
}

static struct sim_disk *
disk_of(struct env_queue *queue)
{
    return (struct sim_disk *)(void *)queue->env;
}

static struct sim_file *
file_of(const struct env_io *io)
{
    return (struct sim_file *)(void *)io->file;
}

int
sim_queue_open(struct env *env, struct env_queue **out)
{
    struct sim_disk *disk = (struct sim_disk *)(void *)env;
    struct sim_queue *queue;

    if (!sim_alive(disk))
        return -EIO;
    if (sim_fault_match(disk, SIM_OP_ALLOC, "queue") != NULL)
        return -ENOMEM;
    queue = sim_alloc(sizeof(*queue));
    queue->base.env = env;
    queue->base.depth = disk->settings.queue_depth;
    queue->next = disk->queues;
    disk->queues = queue;
    disk->queues_open++;
    *out = &queue->base;
    return 0;
}

void
sim_queue_close(struct env_queue *base)
{
    struct sim_queue *queue = queue_of(base);
    struct sim_disk *disk = disk_of(base);
    struct sim_queue **link = &disk->queues;

    if (queue->count > 0)
        sim_violation(disk, "queue closed with %zu operations in flight", queue->count);
    while (*link != queue)
        link = &(*link)->next;
    *link = queue->next;
    disk->queues_open--;
    free(queue->pending);
    free(queue);
}

void
sim_submit(struct env_queue *base, struct env_io *io)
{
    struct sim_queue *queue = queue_of(base);

    assert(io->done != NULL && io->file != NULL);
    if (queue->count == queue->room) {
        queue->room = 2 * queue->room + 16;
        queue->pending = sim_realloc(queue->pending, queue->room * sizeof(*queue->pending));
    }
    queue->pending[queue->count++] = io;
    base->in_flight++;
}

static size_t
io_bytes(const struct env_io *io)
{
    size_t size = 0;

    for (uint32_t i = 0; i < io->iov_count; i++)
        size += io->iov[i].iov_len;
    return size;
}

/* What the kernel answers to operations that break the rules of direct I/O. */
static bool
io_valid(struct sim_disk *disk, const struct env_io *io)
{
    const struct sim_file *file = file_of(io);
    uint64_t mask = disk->settings.io_align - 1;
    uint64_t bits = io->offset;

    if (io->iov_count == 0 || io->iov_count > IOV_COUNT_MAX) {
        sim_violation(disk, "%u buffers in one operation on %s", io->iov_count, file->name);
        return false;
    }
    if (io->op == ENV_OP_WRITE && file->read_only) {
        sim_violation(disk, "write to %s through a handle for reading", file->name);
        return false;
    }
    if (!file->direct)
        return true;
    for (uint32_t i = 0; i < io->iov_count; i++)
        bits |= (uint64_t)(uintptr_t)io->iov[i].iov_base | io->iov[i].iov_len;
    if ((bits & mask) != 0) {
        sim_violation(disk, "direct I/O on %s is not aligned: offset %llu, %zu bytes", file->name,
                      (unsigned long long)io->offset, io_bytes(io));
        return false;
    }
    return true;
}

/* The first `size` bytes of the buffers, in one piece; the caller frees it. */
static uint8_t *
gather(const struct env_io *io, size_t size)
{
    uint8_t *data = sim_alloc(size);
    size_t done = 0;

    for (uint32_t i = 0; i < io->iov_count && done < size; i++) {
        size_t part = io->iov[i].iov_len < size - done ? io->iov[i].iov_len : size - done;

        if (part > 0)
            memcpy(data + done, io->iov[i].iov_base, part);
        done += part;
    }
    return data;
}

static void
scatter(const struct env_io *io, const uint8_t *data, size_t size)
{
    size_t done = 0;

    for (uint32_t i = 0; i < io->iov_count && done < size; i++) {
        size_t part = io->iov[i].iov_len < size - done ? io->iov[i].iov_len : size - done;

        if (part > 0)
            memcpy(io->iov[i].iov_base, data + done, part);
        done += part;
    }
}

static void
capture(struct sim_disk *disk, const struct env_io *io)
{
    size_t size = io_bytes(io);
    uint8_t *data;

    if (io->op != ENV_OP_WRITE || !io_valid(disk, io))
        return;
    data = gather(io, size);
    sim_change_add(file_of(io)->inode, io->offset, data, size)->in_flight = true;
    free(data);
}

void
sim_queues_capture(struct sim_disk *disk)
{
    for (struct sim_queue *queue = disk->queues; queue != NULL; queue = queue->next) {
        for (size_t i = 0; i < queue->count; i++)
            capture(disk, queue->pending[i]);
    }
}

/* Fewer bytes than asked for, now and then: whole blocks on a direct file. */
static size_t
shorten(struct sim_disk *disk, const struct env_io *io, size_t size)
{
    size_t unit = file_of(io)->direct ? disk->settings.io_align : 1;

    if (size <= unit || !sim_rng_chance(&disk->rng, disk->settings.short_per_mille))
        return size;
    return sim_rng_between(&disk->rng, 1, (size - 1) / unit) * unit;
}

static int64_t
do_read(struct sim_disk *disk, const struct env_io *io)
{
    const struct sim_bytes *bytes = &file_of(io)->inode->current;
    size_t size = shorten(disk, io, io_bytes(io));

    if (io->offset >= bytes->size)
        return 0;
    if (size > bytes->size - io->offset)
        size = bytes->size - io->offset;
    scatter(io, bytes->data + io->offset, size);
    return (int64_t)size;
}

static int64_t
do_write(struct sim_disk *disk, const struct env_io *io, const struct sim_fault *fault)
{
    struct sim_file *file = file_of(io);
    size_t size = shorten(disk, io, io_bytes(io));
    uint64_t offset = io->offset;
    enum sim_gate gate = sim_gate(disk);
    uint8_t *data;
    int rc;

    if (gate == SIM_GATE_LAST)
        capture(disk, io);
    if (gate != SIM_GATE_GO)
        return -EIO;
    rc = sim_room(disk, file->inode, offset + size);
    if (rc < 0)
        return rc;
    if (fault != NULL && fault->kind == SIM_FAULT_LOST_WRITE)
        return (int64_t)size;
    if (fault != NULL && fault->kind == SIM_FAULT_MISDIRECT && file->inode->current.size > size)
        offset = sim_rng_below(&disk->rng, (file->inode->current.size - size) / 512 + 1) * 512;
    data = gather(io, size);
    sim_change_add(file->inode, offset, data, size);
    sim_bytes_write(&file->inode->current, offset, data, size);
    free(data);
    sim_note_used(disk);
    return (int64_t)size;
}

static int64_t
perform(struct sim_disk *disk, const struct env_io *io)
{
    enum sim_op op = io->op == ENV_OP_WRITE ? SIM_OP_WRITE : SIM_OP_READ;
    const struct sim_fault *fault;

    if (!sim_alive(disk))
        return -EIO;
    if (!io_valid(disk, io))
        return -EINVAL;
    disk->now_ns += sim_rng_between(&disk->rng, 5000, 100000);
    if (sim_rng_chance(&disk->rng, disk->settings.again_per_mille))
        return sim_rng_chance(&disk->rng, 500) ? -EINTR : -EAGAIN;
    fault = sim_fault_match(disk, op, file_of(io)->name);
    if (fault != NULL && fault->kind == SIM_FAULT_ERROR)
        return -fault->error;
    return op == SIM_OP_WRITE ? do_write(disk, io, fault) : do_read(disk, io);
}

static void
complete_one(struct sim_queue *queue)
{
    struct sim_disk *disk = disk_of(&queue->base);
    size_t window = queue->count < queue->base.depth ? queue->count : queue->base.depth;
    size_t at = sim_rng_below(&disk->rng, window);
    struct env_io *io = queue->pending[at];

    memmove(queue->pending + at, queue->pending + at + 1, (queue->count - at - 1) * sizeof(*queue->pending));
    queue->count--;
    io->result = perform(disk, io);
    sim_log("  %s %s %zu at %llu = %lld", io->op == ENV_OP_WRITE ? "write" : "read", file_of(io)->name, io_bytes(io),
            (unsigned long long)io->offset, (long long)io->result);
    queue->base.in_flight--;
    io->done(io);
}

void
sim_wait(struct env_queue *base, uint32_t at_least)
{
    struct sim_queue *queue = queue_of(base);
    struct sim_disk *disk = disk_of(base);
    uint32_t done = 0;

    (void)sim_alive(disk);
    if (at_least > queue->count)
        sim_violation(disk, "wait for %u operations, %zu in flight", at_least, queue->count);
    while (queue->count > 0 && (done < at_least || sim_rng_chance(&disk->rng, 300))) {
        complete_one(queue);
        done++;
    }
}
