/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env_pool.c - I/O by a pool of threads in pread() and pwrite(), for where io_uring is forbidden: Docker and containerd
 * do so by default.
 *
 * All queues share the threads. A queue's operations are collected without a lock and published as a batch by wait(); a
 * ring of the queues that have work is served in turn, one operation each, so a small read is not stuck behind a large
 * batch. A thread that waits for everything it submitted does part of the work itself; so there is progress, too,
 * where no thread can be started. Threads start when first needed and live until the env is destroyed.
 *
 * One lock, pool->lock, guards the ring and all queues' lists. It is held for list operations only, and once per
 * operation: the end of one and the start of the next share it. It is a leaf: nothing else is locked under it.
 */
#include "env/env_posix.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/error.h"
#include "base/lock.h"

struct pool_queue {
    struct env_queue queue; /* first */
    struct pool *pool;

    /* The user's thread alone. */
    struct io_list collected;
    uint32_t collected_count;

    /* Guarded by pool->lock. */
    struct io_list waiting; /* not empty exactly while the queue is in the ring */
    struct io_list finished;
    uint32_t finished_count;
    uint32_t running; /* in the hands of pool threads */
    uint32_t wanted;  /* the user sleeps until so many are finished; 0: it does not sleep */
    struct cond wake;
    struct pool_queue *ring_next;
    struct pool_queue *ring_prev;
};

struct pool {
    struct mutex lock;
    struct cond work;
    struct pool_queue *ring; /* the queue to serve next, NULL: no work */
    uint32_t idle;           /* threads asleep on `work` that nobody has called yet */
    uint32_t called;         /* threads that were called and have not woken yet */
    uint32_t started;
    uint32_t started_max;
    bool stopping;
    pthread_t threads[];
};

static struct pool_queue *
pool_queue_of(struct env_queue *queue)
{
    return (struct pool_queue *)queue;
}

static void
ring_insert(struct pool *pool, struct pool_queue *queue)
{
    struct pool_queue *first = pool->ring;

    if (first == NULL) {
        queue->ring_next = queue;
        queue->ring_prev = queue;
        pool->ring = queue;
        return;
    }
    /* Before the one served next: that is last in turn. */
    queue->ring_next = first;
    queue->ring_prev = first->ring_prev;
    queue->ring_prev->ring_next = queue;
    first->ring_prev = queue;
}

static void
ring_remove(struct pool *pool, struct pool_queue *queue)
{
    if (queue->ring_next == queue) {
        assert(pool->ring == queue);
        pool->ring = NULL;
        return;
    }
    queue->ring_prev->ring_next = queue->ring_next;
    queue->ring_next->ring_prev = queue->ring_prev;
    if (pool->ring == queue)
        pool->ring = queue->ring_next;
}

/* The queue's next operation, which must exist. Lock held. */
static struct env_io *
take(struct pool *pool, struct pool_queue *queue)
{
    struct env_io *io = io_list_pop(&queue->waiting);

    assert(io != NULL);
    if (queue->waiting.head == NULL)
        ring_remove(pool, queue);
    return io;
}

/* Lock held: whoever sleeps on the queue cannot close it before we let go of it. */
static void
finish(struct pool_queue *queue, struct env_io *io)
{
    io_list_push(&queue->finished, io);
    queue->finished_count++;
    if (queue->wanted != 0 && queue->finished_count >= queue->wanted) {
        queue->wanted = 0;
        cond_signal(&queue->wake);
    }
}

static void
perform(struct env_io *io)
{
    int fd = posix_file_fd(io->file);
    off_t offset = (off_t)io->offset;
    ssize_t moved;

    if (io->iov_count == 1 && io->op == ENV_OP_READ)
        moved = pread(fd, io->iov->iov_base, io->iov->iov_len, offset);
    else if (io->iov_count == 1)
        moved = pwrite(fd, io->iov->iov_base, io->iov->iov_len, offset);
    else if (io->op == ENV_OP_READ)
        moved = preadv(fd, io->iov, (int)io->iov_count, offset);
    else
        moved = pwritev(fd, io->iov, (int)io->iov_count, offset);
    io->result = moved < 0 ? -errno : moved;
}

static void *
worker_main(void *arg)
{
    struct pool *pool = arg;

    mutex_lock(&pool->lock);
    while (!pool->stopping) {
        struct pool_queue *queue = pool->ring;
        struct env_io *io;

        if (queue == NULL) {
            pool->idle++;
            while (pool->called == 0 && !pool->stopping)
                cond_wait(&pool->work, &pool->lock);
            if (pool->called > 0)
                pool->called--;
            continue;
        }
        pool->ring = queue->ring_next;
        io = take(pool, queue);
        queue->running++;
        mutex_unlock(&pool->lock);
        perform(io);
        mutex_lock(&pool->lock);
        queue->running--;
        finish(queue, io);
    }
    mutex_unlock(&pool->lock);
    return NULL;
}

/* Start one more thread; lock held. Signals are for the host's threads, not for ours. */
static bool
start_worker(struct pool *pool)
{
    sigset_t all;
    sigset_t before;
    bool started;

    (void)sigfillset(&all);
    lock_must(pthread_sigmask(SIG_SETMASK, &all, &before));
    started = pthread_create(&pool->threads[pool->started], NULL, worker_main, pool) == 0;
    lock_must(pthread_sigmask(SIG_SETMASK, &before, NULL));
    if (!started)
        return false;
    (void)pthread_setname_np(pool->threads[pool->started], "varve-io");
    pool->started++;
    return true;
}

/*
 * Get `count` threads to work: sleeping ones first, then new ones. Lock held, but let go of while they are woken: they
 * would all run into it.
 */
static void
call_workers(struct pool *pool, uint32_t count)
{
    uint32_t calls = count < pool->idle ? count : pool->idle;

    pool->idle -= calls;
    pool->called += calls;
    count -= calls;
    while (count > 0 && pool->started < pool->started_max && start_worker(pool))
        count--;
    if (calls == 0)
        return;
    mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < calls; i++)
        cond_signal(&pool->work);
    mutex_lock(&pool->lock);
}

/* Does the user wait for everything there is? Then it can as well do a part of it. */
static bool
waits_for_all(const struct pool_queue *queue, uint32_t remaining)
{
    return remaining >= queue->queue.in_flight;
}

/* Give what was collected to the threads. Lock held before and after, not all the time. */
static void
publish(struct pool_queue *queue, uint32_t remaining)
{
    uint32_t count = queue->collected_count;

    if (count == 0)
        return;
    if (queue->waiting.head == NULL)
        ring_insert(queue->pool, queue);
    io_list_append(&queue->waiting, &queue->collected);
    queue->collected_count = 0;
    call_workers(queue->pool, waits_for_all(queue, remaining) ? count - 1 : count);
}

/* Run done() of what is finished, without the lock, which is held before and after. Returns how many. */
static uint32_t
run_finished(struct pool_queue *queue)
{
    struct io_list list = queue->finished;
    uint32_t count = queue->finished_count;
    struct env_io *io;

    if (count == 0)
        return 0;
    queue->finished.head = NULL;
    queue->finished_count = 0;
    mutex_unlock(&queue->pool->lock);
    while ((io = io_list_pop(&list)) != NULL) {
        queue->queue.in_flight--;
        io->done(io);
    }
    mutex_lock(&queue->pool->lock);
    return count;
}

/* Do one of our own operations, or sleep until `remaining` are finished. Nothing is finished now; lock held. */
static void
help_or_sleep(struct pool_queue *queue, uint32_t remaining)
{
    struct pool *pool = queue->pool;
    struct env_io *io;

    /* A user that waits for less than everything wants to be back soon, so it helps only where nobody has begun. */
    if (queue->waiting.head != NULL && (waits_for_all(queue, remaining) || queue->running == 0)) {
        io = take(pool, queue);
        mutex_unlock(&pool->lock);
        perform(io);
        mutex_lock(&pool->lock);
        finish(queue, io);
        return;
    }
    queue->wanted = remaining;
    cond_wait(&queue->wake, &pool->lock);
    queue->wanted = 0;
}

static void
pool_submit(struct env_queue *base, struct env_io *io)
{
    struct pool_queue *queue = pool_queue_of(base);

    io_list_push(&queue->collected, io);
    queue->collected_count++;
    base->in_flight++;
}

static void
pool_wait(struct env_queue *base, uint32_t at_least)
{
    struct pool_queue *queue = pool_queue_of(base);
    uint32_t remaining = at_least < base->in_flight ? at_least : base->in_flight;

    mutex_lock(&queue->pool->lock);
    publish(queue, remaining);
    for (;;) {
        uint32_t count = run_finished(queue);

        remaining -= count < remaining ? count : remaining;
        publish(queue, remaining); /* what done() submitted */
        if (remaining == 0)
            break;
        if (queue->finished_count == 0)
            help_or_sleep(queue, remaining);
    }
    mutex_unlock(&queue->pool->lock);
}

static int
pool_queue_open(struct env *base, struct env_queue **out)
{
    struct posix_env *env = (struct posix_env *)base;
    struct pool_queue *queue = env_zalloc(base, sizeof(*queue));

    if (queue == NULL)
        return -ENOMEM;
    queue->queue.env = base;
    queue->queue.depth = env->io_threads + 1; /* the waiting thread helps */
    queue->pool = env->pool;
    cond_init(&queue->wake);
    *out = &queue->queue;
    return 0;
}

static void
pool_queue_close(struct env_queue *base)
{
    struct pool_queue *queue = pool_queue_of(base);

    assert(base->in_flight == 0);
    cond_deinit(&queue->wake);
    env_free(base->env, queue);
}

int
env_pool_attach(struct posix_env *env, varve_error *err)
{
    struct pool *pool;

    assert(env->pool == NULL);
    pool = env_zalloc(&env->env, sizeof(*pool) + env->io_threads * sizeof(pool->threads[0]));
    if (pool == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory for %u I/O threads", env->io_threads);
    pool->started_max = env->io_threads;
    mutex_init(&pool->lock);
    cond_init(&pool->work);
    env->pool = pool;
    env->table.queue_open = pool_queue_open;
    env->table.queue_close = pool_queue_close;
    env->table.submit = pool_submit;
    env->table.wait = pool_wait;
    env->env.name = "threads";
    return VARVE_OK;
}

void
env_pool_detach(struct posix_env *env)
{
    struct pool *pool = env->pool;

    if (pool == NULL)
        return;
    assert(pool->ring == NULL);
    mutex_lock(&pool->lock);
    pool->stopping = true;
    cond_broadcast(&pool->work);
    mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->started; i++)
        lock_must(pthread_join(pool->threads[i], NULL));
    cond_deinit(&pool->work);
    mutex_deinit(&pool->lock);
    env_free(&env->env, pool);
    env->pool = NULL;
}
