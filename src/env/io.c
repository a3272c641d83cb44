/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io.c - whole transfers over an env's queues, and queues kept for reuse. A transfer is always in one of two states:
 * one env_io of it is in flight, or done() has run. Progress is only ever counted where the next request is still
 * allowed to start: a transfer aligned for direct I/O goes on from the last aligned byte and moves the few bytes after
 * it again.
 */
#include "env/io.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/lock.h"

#define RETRIES_MAX 100 /* for one transfer: interrupted, refused for now, or no byte further */

static uint64_t
iov_size(const struct iovec *iov, uint32_t count)
{
    uint64_t size = 0;

    for (uint32_t i = 0; i < count; i++)
        size += iov[i].iov_len;
    return size;
}

/* Must the rest of the transfer, too, start where direct I/O may start? Judged by the request: files do not tell. */
static bool
is_aligned(const struct io *io)
{
    const struct env *env = io->file->env;
    uint64_t bits = io->offset;

    if (!env->direct_io)
        return false;
    for (uint32_t i = 0; i < io->iov_count; i++)
        bits |= (uintptr_t)io->iov[i].iov_base | io->iov[i].iov_len;
    return (bits & (env->io_align - 1)) == 0;
}

/* Step over the first `size` bytes, of which there are more. */
static void
advance(struct io *io, uint64_t size)
{
    io->offset += size;
    while (size >= io->iov->iov_len) {
        size -= io->iov->iov_len;
        io->iov++;
        io->iov_count--;
        assert(io->iov_count > 0);
    }
    io->iov->iov_base = (char *)io->iov->iov_base + size;
    io->iov->iov_len -= size;
}

static void step(struct env_io *env_io);

static void
start(struct io *io)
{
    io->env_io = (struct env_io){
        .op = io->op,
        .iov_count = io->iov_count,
        .iov = io->iov,
        .file = io->file,
        .offset = io->offset,
        .done = step,
        .arg = io,
    };
    io->queue->env->ops->submit(io->queue, &io->env_io);
}

static void
finish(struct io *io, int result)
{
    io->result = result;
    if (io->done != NULL)
        io->done(io);
}

/* Count an attempt that brought nothing. 0: try again; else `rc`. */
static int
give_up_after_many(struct io *io, int rc)
{
    return ++io->retries > RETRIES_MAX ? rc : 0;
}

/* `moved` bytes of more were transferred: 0 when the rest is to be tried, else -errno. */
static int
go_on_after(struct io *io, uint64_t moved)
{
    uint64_t kept = moved;
    uint64_t file_size;
    int rc;

    if (is_aligned(io))
        kept -= moved % io->file->env->io_align;
    if (kept > 0) {
        advance(io, kept);
        return 0;
    }
    if (io->op == ENV_OP_WRITE)
        return give_up_after_many(io, -EIO);
    /* A direct read of less than one unit: the end of the file is not aligned, most likely. */
    rc = io->file->env->ops->size(io->file, &file_size);
    if (rc < 0)
        return rc;
    return io->offset + moved >= file_size ? -ENODATA : give_up_after_many(io, -EIO);
}

/* The one place that judges a result. Runs inside wait(). */
static void
step(struct env_io *env_io)
{
    struct io *io = env_io->arg;
    int64_t result = env_io->result;
    uint64_t size = iov_size(io->iov, io->iov_count);
    int rc;

    if (result == -EINTR || result == -EAGAIN)
        rc = give_up_after_many(io, (int)result);
    else if (result < 0)
        rc = (int)result;
    else if (result == 0)
        rc = io->op == ENV_OP_READ ? -ENODATA : -EIO;
    else if ((uint64_t)result < size)
        rc = go_on_after(io, (uint64_t)result);
    else {
        assert((uint64_t)result == size);
        finish(io, 0);
        return;
    }
    if (rc < 0)
        finish(io, rc);
    else
        start(io);
}

void
io_submit(struct env_queue *queue, struct io *io)
{
    assert(io->op == ENV_OP_READ || io->op == ENV_OP_WRITE);
    assert(io->iov_count >= 1 && io->iov_count <= IOV_MAX);
    assert(iov_size(io->iov, io->iov_count) > 0);
    io->queue = queue;
    io->retries = 0;
    io->result = 0;
    start(io);
}

void
io_drain(struct env_queue *queue)
{
    while (queue->in_flight > 0)
        queue->env->ops->wait(queue, queue->in_flight);
}

struct io_queue_pool {
    struct env *env;
    struct mutex lock;
    /* Guarded by lock. */
    struct env_queue **idle; /* the first idle_count are there; last in, first out: its memory is warm */
    uint32_t idle_count;
    uint32_t opened;   /* queues there are, idle or not */
    uint32_t capacity; /* of idle; at least opened, so that a release cannot fail */
};

int
io_queue_pool_create(struct env *env, struct io_queue_pool **out)
{
    struct io_queue_pool *pool = env_zalloc(env, sizeof(*pool));

    if (pool == NULL)
        return -ENOMEM;
    pool->env = env;
    mutex_init(&pool->lock);
    *out = pool;
    return 0;
}

void
io_queue_pool_destroy(struct io_queue_pool *pool)
{
    if (pool == NULL)
        return;
    assert(pool->idle_count == pool->opened);
    for (uint32_t i = 0; i < pool->idle_count; i++)
        pool->env->ops->queue_close(pool->idle[i]);
    mutex_deinit(&pool->lock);
    env_free(pool->env, pool->idle);
    env_free(pool->env, pool);
}

/* Count one more queue as open and make sure that it can be put back. Lock held. */
static int
reserve_place(struct io_queue_pool *pool)
{
    uint32_t capacity = pool->capacity == 0 ? 8 : pool->capacity * 2;
    struct env_queue **grown;

    if (pool->opened == pool->capacity) {
        grown = env_zalloc(pool->env, capacity * sizeof(struct env_queue *));
        if (grown == NULL)
            return -ENOMEM;
        if (pool->idle_count > 0)
            memcpy(grown, pool->idle, pool->idle_count * sizeof(struct env_queue *));
        env_free(pool->env, pool->idle);
        pool->idle = grown;
        pool->capacity = capacity;
    }
    pool->opened++;
    return 0;
}

int
io_queue_acquire(struct io_queue_pool *pool, struct env_queue **out)
{
    int rc;

    mutex_lock(&pool->lock);
    if (pool->idle_count > 0) {
        *out = pool->idle[--pool->idle_count];
        mutex_unlock(&pool->lock);
        return 0;
    }
    rc = reserve_place(pool);
    mutex_unlock(&pool->lock);
    if (rc < 0)
        return rc;
    rc = pool->env->ops->queue_open(pool->env, out);
    if (rc < 0) {
        mutex_lock(&pool->lock);
        pool->opened--;
        mutex_unlock(&pool->lock);
    }
    return rc;
}

void
io_queue_release(struct io_queue_pool *pool, struct env_queue *queue)
{
    assert(queue->in_flight == 0);
    mutex_lock(&pool->lock);
    assert(pool->idle_count < pool->opened);
    pool->idle[pool->idle_count++] = queue;
    mutex_unlock(&pool->lock);
}

static int
transfer_on(struct env_queue *queue, enum env_op op, struct env_file *file, void *buf, size_t size, uint64_t offset)
{
    struct iovec iov = {.iov_base = buf, .iov_len = size};
    struct io io = {.op = op, .file = file, .iov = &iov, .iov_count = 1, .offset = offset};

    io_submit(queue, &io);
    io_drain(queue);
    return io.result;
}

static int
transfer(struct io_queue_pool *pool, enum env_op op, struct env_file *file, void *buf, size_t size, uint64_t offset)
{
    struct env_queue *queue;
    int rc;

    if (size == 0)
        return 0;
    rc = io_queue_acquire(pool, &queue);
    if (rc < 0)
        return rc;
    rc = transfer_on(queue, op, file, buf, size, offset);
    io_queue_release(pool, queue);
    return rc;
}

int
io_queue_write(struct env_queue *queue, struct env_file *file, const void *buf, size_t size, uint64_t offset)
{
    return transfer_on(queue, ENV_OP_WRITE, file, (void *)(uintptr_t)buf, size, offset);
}

int
io_read(struct io_queue_pool *pool, struct env_file *file, void *buf, size_t size, uint64_t offset)
{
    return transfer(pool, ENV_OP_READ, file, buf, size, offset);
}

int
io_write(struct io_queue_pool *pool, struct env_file *file, const void *buf, size_t size, uint64_t offset)
{
    return transfer(pool, ENV_OP_WRITE, file, (void *)(uintptr_t)buf, size, offset);
}
