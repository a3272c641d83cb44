/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env_uring.c - I/O by io_uring, one ring a queue. submit() only appends to a list; wait() moves the list into the ring
 * as far as the depth allows, so a system call carries many operations, and hands out completions as they come. Every
 * operation is in exactly one of: queue->waiting, the submission ring, the kernel; and a submission that fails becomes
 * its result.
 *
 * The kernel gets no pointers to name operations by, but a slot and how often that slot was used: a completion that comes twice, or for an
 * operation that has ended, names nothing and is dropped. With a pointer it would end an operation that has only just begun.
 *
 * A queue is used by one thread at a time but moves between threads. That rules out IORING_SETUP_SINGLE_ISSUER and
 * DEFER_TASKRUN, which bind a ring to one thread for good (-EEXIST for the next), and registered ring descriptors,
 * which belong to a thread. COOP_TASKRUN has no such tie: it only spares the interrupt of a thread that will enter the
 * kernel anyway, and we always wait inside the kernel.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "env/env_posix.h"
#include "env/uring_load.h"

#define REFUSED_MAX 100 /* times a millisecond that a short-of-memory kernel may refuse a submission */

/*
 * Enter the kernel for completions while others are still in flight, so that done() and the device work side by side.
 */
#define WAIT_PART 4

struct uring_slot {
    struct env_io *io;  /* NULL: free */
    uint32_t uses;      /* so far */
    uint32_t next_free; /* of a free one: the next, or depth */
};

struct uring_queue {
    struct env_queue queue; /* first */
    const struct uring_library *library;
    struct io_uring ring;
    struct io_list waiting;
    uint32_t in_ring; /* in the submission ring or in the kernel; at most depth */
    uint32_t refused; /* times in a row */
    uint32_t first_free;
    struct uring_slot slots[]; /* depth of them */
};

static struct uring_queue *
uring_queue_of(struct env_queue *queue)
{
    return (struct uring_queue *)queue;
}

/* Give `io` a slot, and return the name by which the kernel will speak of it. */
static uint64_t
name_io(struct uring_queue *queue, struct env_io *io)
{
    uint32_t index = queue->first_free;
    struct uring_slot *slot = &queue->slots[index];

    assert(index < queue->queue.depth && slot->io == NULL);
    queue->first_free = slot->next_free;
    slot->io = io;
    return (uint64_t)slot->uses << 32 | index;
}

/* The operation of that name, whose slot is then free, or NULL. */
static struct env_io *
take_named(struct uring_queue *queue, uint64_t name)
{
    uint32_t index = (uint32_t)name;
    struct uring_slot *slot = &queue->slots[index];
    struct env_io *io;

    if (index >= queue->queue.depth || slot->uses != (uint32_t)(name >> 32) || slot->io == NULL)
        return NULL;
    io = slot->io;
    slot->io = NULL;
    slot->uses++;
    slot->next_free = queue->first_free;
    queue->first_free = index;
    return io;
}

static void
prepare(struct uring_queue *queue, struct io_uring_sqe *sqe, struct env_io *io)
{
    int fd = posix_file_fd(io->file);
    bool one = io->iov_count == 1 && io->iov->iov_len <= UINT32_MAX;

    if (io->op == ENV_OP_READ && one)
        io_uring_prep_read(sqe, fd, io->iov->iov_base, (unsigned)io->iov->iov_len, io->offset);
    else if (io->op == ENV_OP_READ)
        io_uring_prep_readv(sqe, fd, io->iov, io->iov_count, io->offset);
    else if (one)
        io_uring_prep_write(sqe, fd, io->iov->iov_base, (unsigned)io->iov->iov_len, io->offset);
    else
        io_uring_prep_writev(sqe, fd, io->iov, io->iov_count, io->offset);
    sqe->user_data = name_io(queue, io);
}

static void
fill_ring(struct uring_queue *queue)
{
    while (queue->waiting.head != NULL && queue->in_ring < queue->queue.depth) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&queue->ring);

        assert(sqe != NULL); /* the ring has room for depth */
        prepare(queue, sqe, io_list_pop(&queue->waiting));
        queue->in_ring++;
    }
}

static void
complete(struct uring_queue *queue, struct env_io *io, int64_t result)
{
    assert(queue->queue.in_flight > 0);
    queue->queue.in_flight--;
    io->result = result;
    io->done(io);
}

static uint32_t
reap(struct uring_queue *queue)
{
    struct io_uring_cqe *cqe;
    unsigned head, seen = 0;
    uint32_t count = 0;

    io_uring_for_each_cqe(&queue->ring, head, cqe)
    {
        struct env_io *io = take_named(queue, cqe->user_data);

        seen++;
        if (io == NULL)
            continue;
        assert(queue->in_ring > 0);
        queue->in_ring--;
        complete(queue, io, cqe->res);
        count++;
    }
    io_uring_cq_advance(&queue->ring, seen);
    return count;
}

/* Take back what the kernel has not accepted, with `rc` as its result. Returns how many completed so. */
static uint32_t
fail_unsubmitted(struct uring_queue *queue, int rc)
{
    struct io_uring_sq *sq = &queue->ring.sq;
    unsigned accepted = io_uring_smp_load_acquire(sq->khead);
    struct io_list failed = {NULL, NULL};
    struct env_io *io;
    uint32_t count = 0;

    for (unsigned i = accepted; i != sq->sqe_tail; i++) {
        io = take_named(queue, sq->sqes[i & sq->ring_mask].user_data);
        if (io != NULL)
            io_list_push(&failed, io);
    }
    sq->sqe_head = accepted;
    sq->sqe_tail = accepted;
    io_uring_smp_store_release(sq->ktail, accepted);
    while ((io = io_list_pop(&failed)) != NULL) {
        queue->in_ring--;
        complete(queue, io, rc);
        count++;
    }
    return count;
}

/*
 * One system call: submit what is in the ring, wait for `wait_count` completions. May return early. Returns
 * how many operations it completed by itself because they cannot be submitted.
 */
static uint32_t
enter_kernel(struct uring_queue *queue, uint32_t wait_count)
{
    const struct timespec pause = {.tv_sec = 0, .tv_nsec = 1000000};
    int rc = queue->library->submit_and_wait(&queue->ring, wait_count);
    bool transient = rc == -EAGAIN || rc == -EBUSY;

    if (rc >= 0 || rc == -EINTR) {
        queue->refused = 0;
        return 0;
    }
    /* Sleeping also lets completions of what the kernel accepted earlier arrive. */
    (void)nanosleep(&pause, NULL);
    if (transient && ++queue->refused < REFUSED_MAX)
        return 0;
    queue->refused = 0;
    return fail_unsubmitted(queue, rc);
}

static uint32_t
wait_count_of(const struct uring_queue *queue, uint32_t remaining)
{
    uint32_t part = queue->in_ring / WAIT_PART;

    if (part == 0)
        part = queue->in_ring == 0 ? 0 : 1;
    return part < remaining ? part : remaining;
}

static void
uring_submit(struct env_queue *base, struct env_io *io)
{
    io_list_push(&uring_queue_of(base)->waiting, io);
    base->in_flight++;
}

static void
uring_wait(struct env_queue *base, uint32_t at_least)
{
    struct uring_queue *queue = uring_queue_of(base);
    uint32_t wanted = at_least < base->in_flight ? at_least : base->in_flight;
    uint32_t completed = 0;

    do {
        fill_ring(queue);
        completed += enter_kernel(queue, completed < wanted ? wait_count_of(queue, wanted - completed) : 0);
        completed += reap(queue);
    } while (completed < wanted);
}

static int
uring_queue_open(struct env *base, struct env_queue **out)
{
    struct posix_env *env = (struct posix_env *)base;
    struct uring_queue *queue = env_zalloc(base, sizeof(*queue) + env->queue_depth * sizeof(queue->slots[0]));
    struct io_uring_params params;
    int rc;

    if (queue == NULL)
        return -ENOMEM;
    queue->queue.env = base;
    queue->queue.depth = env->queue_depth;
    queue->library = env->uring;
    for (uint32_t i = 0; i < env->queue_depth; i++)
        queue->slots[i].next_free = i + 1;
    memset(&params, 0, sizeof(params));
    params.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL; /* Linux 5.19, 5.18 */
    rc = env->uring->queue_init_params(env->queue_depth, &queue->ring, &params);
    if (rc == -EINVAL) {
        memset(&params, 0, sizeof(params));
        rc = env->uring->queue_init_params(env->queue_depth, &queue->ring, &params);
    }
    /* Older kernels (before 5.12) charge rings to the small limit of locked memory: the tenth queue would fail. */
    if (rc == 0 && (params.features & IORING_FEAT_NATIVE_WORKERS) == 0) {
        env->uring->queue_exit(&queue->ring);
        rc = -ENOSYS;
    }
    if (rc < 0) {
        env_free(base, queue);
        return rc;
    }
    *out = &queue->queue;
    return 0;
}

static void
uring_queue_close(struct env_queue *base)
{
    struct uring_queue *queue = uring_queue_of(base);

    assert(base->in_flight == 0);
    queue->library->queue_exit(&queue->ring);
    env_free(base->env, queue);
}

static void
probe_done(struct env_io *io)
{
    *(bool *)io->arg = true;
}

/* Read a file in memory through a queue: sandboxes may allow a ring to be made and forbid its use. */
static int
probe_read(struct posix_env *env, int fd)
{
    static const char mark[] = "varve io_uring probe";
    char buf[sizeof(mark)] = "";
    const struct iovec iov = {.iov_base = buf, .iov_len = sizeof(buf)};
    struct posix_file file = {.file = {.env = &env->env}, .fd = fd};
    bool done = false;
    struct env_io io = {
        .op = ENV_OP_READ, .iov = &iov, .iov_count = 1, .file = &file.file, .done = probe_done, .arg = &done};
    struct env_queue *queue;
    int rc;

    if (pwrite(fd, mark, sizeof(mark), 0) != sizeof(mark))
        return -EIO;
    rc = uring_queue_open(&env->env, &queue);
    if (rc < 0)
        return rc;
    uring_submit(queue, &io);
    uring_wait(queue, 1);
    assert(done);
    uring_queue_close(queue);
    if (io.result < 0)
        return (int)io.result;
    return io.result == sizeof(mark) && memcmp(buf, mark, sizeof(mark)) == 0 ? 0 : -EIO;
}

static int
probe(struct posix_env *env)
{
    int fd = memfd_create("varve-probe", MFD_CLOEXEC);
    int rc;

    if (fd < 0)
        return -errno;
    rc = probe_read(env, fd);
    (void)close(fd);
    return rc;
}

int
env_uring_attach(struct posix_env *env, varve_error *err)
{
    int rc;

    assert(env->uring == NULL);
    env->uring = env_zalloc(&env->env, sizeof(*env->uring));
    if (env->uring == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory for io_uring");
    rc = uring_library_load(env->uring, err);
    if (rc < 0) {
        env_free(&env->env, env->uring);
        env->uring = NULL;
        return rc;
    }
    rc = probe(env);
    if (rc < 0) {
        env_uring_detach(env);
        return error_os(err, rc, "io_engine=uring: io_uring does not work here (use auto or threads)");
    }
    env->table.queue_open = uring_queue_open;
    env->table.queue_close = uring_queue_close;
    env->table.submit = uring_submit;
    env->table.wait = uring_wait;
    env->env.name = "uring";
    return VARVE_OK;
}

void
env_uring_detach(struct posix_env *env)
{
    if (env->uring == NULL)
        return;
    uring_library_unload(env->uring);
    env_free(&env->env, env->uring);
    env->uring = NULL;
}
