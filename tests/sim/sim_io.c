/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queues of the simulated disk. Nothing happens at submit; wait() completes operations in an order drawn from the seed, among
 * those the device sees. A read sees the bytes at that moment, a write is part of the current bytes from that moment on. With several threads
 * (disk->idle) the device also works while nobody waits, on all queues, and some operations stall.
 */
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "sim_internal.h"
#include "sim_log.h"

#define IOV_COUNT_MAX 1024 /* IOV_MAX of Linux */

#define STALL_STEPS_MAX 4000
#define STALL_NS        30000000000u /* at most, where no steps are counted, unless the settings say less */

struct sim_pending {
    struct env_io *io;
    uint64_t due; /* device step before which it does not complete */
};

struct sim_queue {
    struct env_queue base;
    struct sim_pending *pending; /* in the order of submission */
    size_t count, room;
    struct env_io *completed; /* carried out, done() to run: a list, in any order */
    struct sim_queue *next;   /* of disk->queues */
};

static struct sim_queue *
queue_of(struct env_queue *queue)
{
    return (struct sim_queue *)(void *)queue;
}

static struct sim_disk *
disk_of(struct env_queue *queue)
{
    return sim_view_of(queue->env)->disk;
}

static struct sim_file *
file_of(const struct env_io *io)
{
    return (struct sim_file *)(void *)io->file;
}

int
sim_queue_open(struct env *env, struct env_queue **out)
{
    struct sim_disk *disk = sim_view_of(env)->disk;
    struct sim_queue *queue;

    if (!sim_alive(sim_view_of(env)))
        return -EIO;
    if (sim_fault_match(disk, SIM_OP_ALLOC, "queue") != NULL)
        return -ENOMEM;
    queue = sim_alloc(sizeof(*queue));
    queue->base.env = env;
    queue->base.depth = disk->settings.queue_depth;
    queue->next = disk->queues;
    disk->queues = queue;
    disk->queues_open++;
    sim_view_of(env)->held++;
    *out = &queue->base;
    return 0;
}

void
sim_queue_close(struct env_queue *base)
{
    struct sim_queue *queue = queue_of(base);
    struct sim_disk *disk = disk_of(base);
    struct sim_queue **link = &disk->queues;

    if (base->in_flight > 0)
        sim_violation(disk, "queue closed with %u operations in flight", base->in_flight);
    while (*link != queue)
        link = &(*link)->next;
    *link = queue->next;
    disk->queues_open--;
    sim_view_of(base->env)->held--;
    free(queue->pending);
    free(queue);
}

void
sim_submit(struct env_queue *base, struct env_io *io)
{
    struct sim_queue *queue = queue_of(base);
    struct sim_disk *disk = disk_of(base);
    uint64_t due = 0;

    assert(io->done != NULL && io->file != NULL);
    if (queue->count == queue->room) {
        queue->room = 2 * queue->room + 16;
        queue->pending = sim_realloc(queue->pending, queue->room * sizeof(*queue->pending));
    }
    if (sim_rng_chance(&disk->rng, disk->settings.stall_per_mille))
        due = disk->device_steps + sim_rng_log(&disk->rng, STALL_STEPS_MAX);
    queue->pending[queue->count++] = (struct sim_pending){io, due};
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
            capture(disk, queue->pending[i].io);
    }
}

static void
orphan(struct sim_view *view, const struct env_io *io)
{
    size_t size = io_bytes(io);
    struct sim_inode *inode = file_of(io)->inode;

    if (io->op != ENV_OP_WRITE || !io_valid(view->disk, io))
        return;
    if (view->orphan_count == view->orphan_room) {
        view->orphan_room = 2 * view->orphan_room + 16;
        view->orphans = sim_realloc(view->orphans, view->orphan_room * sizeof(*view->orphans));
    }
    inode->handles++;
    view->orphans[view->orphan_count++] =
        (struct sim_orphan){.inode = inode, .offset = io->offset, .size = size, .data = gather(io, size)};
}

void
sim_queues_orphan(struct sim_view *view)
{
    for (struct sim_queue *queue = view->disk->queues; queue != NULL; queue = queue->next) {
        for (size_t i = 0; i < queue->count && queue->base.env == &view->env; i++)
            orphan(view, queue->pending[i].io);
    }
}

/* Fewer bytes than asked for, now and then: whole blocks on a direct file. */
static size_t
shorten(struct sim_disk *disk, const struct env_io *io, size_t size)
{
    size_t unit = file_of(io)->direct ? disk->settings.io_align : 1;

    if (size <= unit || !sim_rng_chance(&disk->rng, disk->settings.short_per_mille))
        return size;
    disk->hits.shorts++;
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

/* Whether a read touches bytes that the platter does not give. */
static bool
is_bad(const struct sim_disk *disk, const struct env_io *io)
{
    uint64_t size = 0;

    for (uint32_t i = 0; i < io->iov_count; i++)
        size += io->iov[i].iov_len;
    return disk->bad_glob != NULL && fnmatch(disk->bad_glob, file_of(io)->name, 0) == 0 && io->offset < disk->bad_end &&
           io->offset + size > disk->bad_from;
}

void
sim_write_apply(struct sim_disk *disk, struct sim_inode *inode, uint64_t offset, const uint8_t *data, size_t size)
{
    sim_change_add(inode, offset, data, size);
    sim_bytes_write(&inode->current, offset, data, size);
    sim_note_used(disk);
}

static int64_t
do_write(struct sim_disk *disk, const struct env_io *io, const struct sim_fault *fault)
{
    struct sim_file *file = file_of(io);
    size_t size = shorten(disk, io, io_bytes(io));
    uint64_t offset = io->offset;
    enum sim_gate gate = sim_gate(sim_view_of(io->file->env));
    uint8_t *data;
    int rc;

    if (gate == SIM_GATE_LAST)
        capture(disk, io);
    if (gate != SIM_GATE_GO)
        return -EIO;
    rc = sim_room(disk, file->inode, offset + size);
    if (rc < 0)
        return rc;
    if (fault != NULL && fault->kind == SIM_FAULT_LOST_WRITE) {
        disk->hits.lost_writes++;
        return (int64_t)size;
    }
    if (fault != NULL && fault->kind == SIM_FAULT_MISDIRECT && file->inode->current.size > size) {
        offset = sim_rng_below(&disk->rng, (file->inode->current.size - size) / 512 + 1) * 512;
        disk->hits.misdirected += offset != io->offset;
    }
    data = gather(io, size);
    sim_write_apply(disk, file->inode, offset, data, size);
    free(data);
    return (int64_t)size;
}

static int64_t
perform(struct sim_disk *disk, const struct env_io *io)
{
    enum sim_op op = io->op == ENV_OP_WRITE ? SIM_OP_WRITE : SIM_OP_READ;
    const struct sim_fault *fault;

    if (!sim_alive(sim_view_of(io->file->env)))
        return -EIO;
    if (!io_valid(disk, io))
        return -EINVAL;
    disk->now_ns += sim_rng_between(&disk->rng, 5000, 100000);
    if (sim_rng_chance(&disk->rng, disk->settings.again_per_mille)) {
        disk->hits.agains++;
        return sim_rng_chance(&disk->rng, 500) ? -EINTR : -EAGAIN;
    }
    if (op == SIM_OP_READ && is_bad(disk, io)) {
        disk->faults_hit++;
        return -EIO;
    }
    fault = sim_fault_match(disk, op, file_of(io)->name);
    if (fault != NULL && fault->kind == SIM_FAULT_ERROR)
        return -fault->error;
    return op == SIM_OP_WRITE ? do_write(disk, io, fault) : do_read(disk, io);
}

/* Operations at the front of the queue that the device sees. */
static size_t
window_of(const struct sim_queue *queue)
{
    return queue->count < queue->base.depth ? queue->count : queue->base.depth;
}

/* Carry out the operation at `at`. */
static void
complete(struct sim_queue *queue, size_t at)
{
    struct sim_disk *disk = disk_of(&queue->base);
    struct env_io *io = queue->pending[at].io;

    disk->hits.stalls += queue->pending[at].due > 0;
    memmove(queue->pending + at, queue->pending + at + 1, (queue->count - at - 1) * sizeof(*queue->pending));
    queue->count--;
    io->result = perform(disk, io);
    sim_log("  %s %s %zu at %llu = %lld", io->op == ENV_OP_WRITE ? "write" : "read", file_of(io)->name, io_bytes(io),
            (unsigned long long)io->offset, (long long)io->result);
    io->next = queue->completed;
    queue->completed = io;
}

/* Carry out any operation that is not stalled; false: there is none. */
static bool
complete_due(struct sim_queue *queue)
{
    struct sim_disk *disk = disk_of(&queue->base);
    size_t window = window_of(queue), start = window == 0 ? 0 : sim_rng_below(&disk->rng, window);

    for (size_t i = 0; i < window; i++) {
        size_t at = (start + i) % window;

        if (queue->pending[at].due <= disk->device_steps || sim_is_down(sim_view_of(queue->base.env))) {
            complete(queue, at);
            return true;
        }
    }
    return false;
}

void
sim_disk_step(struct sim_disk *disk)
{
    size_t skip;

    disk->device_steps++;
    if (disk->queues_open == 0)
        return;
    skip = sim_rng_below(&disk->rng, disk->queues_open);
    for (struct sim_queue *queue = disk->queues; queue != NULL; queue = queue->next) {
        if (skip-- == 0) {
            (void)complete_due(queue);
            return;
        }
    }
}

/* Something of the queue is completed on return. */
static void
await(struct sim_queue *queue)
{
    struct sim_disk *disk = disk_of(&queue->base);
    uint64_t stall_ns = disk->settings.stall_ns == 0 ? STALL_NS : disk->settings.stall_ns;

    while (queue->completed == NULL) {
        bool alone = disk->idle == NULL || disk->idle() || sim_view_of(queue->base.env)->dead;

        if (!alone) {
            sim_disk_step(disk);
        } else if (queue->completed == NULL && !complete_due(queue)) { /* only stalled ones are left: time passes */
            disk->now_ns += sim_rng_between(&disk->rng, stall_ns / 10, stall_ns);
            complete(queue, sim_rng_below(&disk->rng, window_of(queue)));
        }
    }
}

/* The device finished some operation of the queue: tell its owner, which may submit more. */
static void
reap_one(struct sim_queue *queue)
{
    struct env_io *io = queue->completed;

    queue->completed = io->next;
    io->next = NULL;
    queue->base.in_flight--;
    io->done(io);
}

void
sim_wait(struct env_queue *base, uint32_t at_least)
{
    struct sim_queue *queue = queue_of(base);
    struct sim_disk *disk = disk_of(base);
    uint32_t done = 0;

    (void)sim_alive(sim_view_of(base->env));
    if (at_least > base->in_flight)
        sim_violation(disk, "wait for %u operations, %u in flight", at_least, base->in_flight);
    while (base->in_flight > 0 && (done < at_least || sim_rng_chance(&disk->rng, 300))) {
        if (done >= at_least && disk->idle != NULL && queue->completed == NULL)
            return;
        await(queue);
        reap_one(queue);
        done++;
    }
}
