/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io.h - above the seam: whole transfers. Short reads and writes go on where they stopped, EINTR and EAGAIN are tried
 * again (a bounded number of times), the end of a file is an error for a read that needs its bytes. On a file opened
 * with ENV_OPEN_DIRECT, offsets, lengths and addresses are the caller's to align.
 */
#ifndef VARVE_ENV_IO_H
#define VARVE_ENV_IO_H

#include "env/env.h"

#define IO_ALIGN_MAX 4096 /* every device's granularity divides it */

/*
 * A whole transfer in flight. The caller fills op, file, iov, iov_count, offset, done and arg, keeps everything alive
 * until done() has run, and then looks at `result`: 0, or -errno (-ENODATA: the file ended first). The iovecs
 * (1..IOV_MAX, one byte or more in all) are the caller's but are advanced by short transfers, so they must be writable
 * and private to this transfer. done() runs once, inside wait(), and may submit more; it may be NULL.
 */
struct io {
    struct env_io env_io; /* first */
    struct env_queue *queue;
    enum env_op op;
    struct env_file *file;
    struct iovec *iov;
    uint32_t iov_count;
    uint32_t retries;
    uint64_t offset;
    int result;
    void (*done)(struct io *io);
    void *arg;
};

/* Never fails: errors come as results. Starts with the next wait() or io_drain() on the queue. */
void io_submit(struct env_queue *queue, struct io *io);

/* Wait until nothing is in flight on the queue, what done() submits included. */
void io_drain(struct env_queue *queue);

/* One write of one buffer, start to end. 0 or -errno. */
int io_queue_write(struct env_queue *queue, struct env_file *file, const void *buf, size_t size, uint64_t offset);

/* Queues kept for reuse: opening one costs a system call or three. Thread-safe. */
struct io_queue_pool;

/* One transfer of one buffer, start to end, on a queue of the pool. 0, or -errno (-ENODATA: past the end). */
int io_read(struct io_queue_pool *pool, struct env_file *file, void *buf, size_t size, uint64_t offset);
int io_write(struct io_queue_pool *pool, struct env_file *file, const void *buf, size_t size, uint64_t offset);

/* 0 or -errno. Destroy (NULL is a no-op) when every queue is released and before the env. */
int io_queue_pool_create(struct env *env, struct io_queue_pool **out);
void io_queue_pool_destroy(struct io_queue_pool *pool);

/*
 * A queue for the calling thread alone until it releases it, with nothing in flight. 0 or -errno; a release cannot
 * fail.
 */
int io_queue_acquire(struct io_queue_pool *pool, struct env_queue **out);
void io_queue_release(struct io_queue_pool *pool, struct env_queue *queue);

#endif
