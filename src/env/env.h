/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env.h - the seam to the operating system. Nothing else in the engine opens files, reads clocks, draws random numbers
 * or allocates memory, so the simulated disk of tests/sim can stand in for all of it.
 *
 * An env is bound to one directory; names are file names in it. Calls return 0 or a non-negative value, or a negative
 * errno. Retry and short transfers lie above the seam (io.h), and so do bounce buffers (its callers), so that tests
 * exercise them.
 *
 * To implement an env: embed `struct env` as the first field. Same for env_file and env_queue.
 */
#ifndef VARVE_ENV_ENV_H
#define VARVE_ENV_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "varve.h"

struct env;
struct env_io;

struct env_file {
    struct env *env;
};

/* A place to have I/O in flight. Used by one thread at a time; any number of queues may exist. */
struct env_queue {
    struct env *env;
    uint32_t depth;     /* operations the device sees at once; more may be submitted, they wait inside */
    uint32_t in_flight; /* submitted and not completed */
};

enum env_open_flags {
    ENV_OPEN_READ = 1,   /* else read and write */
    ENV_OPEN_CREATE = 2, /* create; -EEXIST if it is there */
    ENV_OPEN_DIRECT = 4, /* bypass the page cache where env->direct_io; offsets, lengths, addresses are then aligned */
};

enum env_op {
    ENV_OP_READ = 1,
    ENV_OP_WRITE = 2,
};

/*
 * One operation. Caller-owned, with its iovecs, from env_submit() until `done` has run. `done` runs inside env_wait()
 * on the waiting thread, exactly once; it may submit more.
 */
struct env_io {
    enum env_op op;
    uint32_t iov_count; /* 1..IOV_MAX (1024) */
    const struct iovec *iov;
    struct env_file *file;
    uint64_t offset;
    int64_t result; /* bytes moved (may be short), or -errno */
    void (*done)(struct env_io *io);
    void *arg;           /* the caller's */
    struct env_io *next; /* the env's, while in flight */
};

struct env_ops {
    int (*open)(struct env *env, const char *name, unsigned flags, struct env_file **out);
    void (*close)(struct env_file *file);
    int (*size)(struct env_file *file, uint64_t *size);       /* length in bytes */
    int (*allocated)(struct env_file *file, uint64_t *bytes); /* bytes held on the device */
    int (*preallocate)(struct env_file *file,
                       uint64_t size); /* reserve space, extend length to size; reads give zeros */
    int (*truncate)(struct env_file *file, uint64_t size);
    int (*sync)(struct env_file *file); /* fdatasync: data and length are durable on return */
    int (*rename)(struct env *env, const char *from, const char *to); /* replaces */
    int (*unlink)(struct env *env, const char *name);
    int (*sync_dir)(struct env *env); /* directory entries are durable on return */
    int (*list)(struct env *env, int (*each)(void *arg, const char *name), void *arg); /* stops when each() < 0 */
    int (*lock)(struct env *env, const char *name,
                struct env_file **out);                  /* exclusive; -EWOULDBLOCK if held elsewhere */
    int (*free_space)(struct env *env, uint64_t *bytes); /* of the file system, for an ordinary user */

    int (*queue_open)(struct env *env, struct env_queue **out);
    void (*queue_close)(struct env_queue *queue); /* nothing in flight */
    /* Never fails: errors come as results. Starts nothing by itself. */
    void (*submit)(struct env_queue *queue, struct env_io *io);
    /*
     * Start what was submitted, then run done() of at least min(at_least, in_flight) operations; 0 only starts. What
     * done() submits starts in this call or the next. To wait for in_flight is cheapest: done() runs as operations
     * finish anyway.
     */
    void (*wait)(struct env_queue *queue, uint32_t at_least);

    uint64_t (*now_ns)(struct env *env);      /* monotonic */
    uint64_t (*realtime_ns)(struct env *env); /* since 1970: for people to read, it may jump */
    uint64_t (*random)(struct env *env);      /* for salts: unpredictable in production, seeded in tests */
    void *(*alloc)(
        struct env *env, size_t size,
        size_t
            align); /* align: power of two, from 2 MiB on huge pages where there are any; NULL when out of memory; not zeroed */
    void (*free)(struct env *env, void *ptr);
    void (*destroy)(struct env *env);
};

/* One end of a connection between two processes that use the directory, or where such connections are taken. */
struct env_socket {
    struct env *env;
};

/*
 * How processes that use one directory talk: streams of bytes, with open files passed along. Only processes of the same user are heard.
 * All calls return 0 or a non-negative value, or a negative errno. Any thread; but one sends and one receives on a socket at a time.
 */
struct env_share_ops {
    /* Take connections at `name`, which is made anew: the caller has the directory's lock. */
    int (*listen)(struct env *env, const char *name, struct env_socket **out);
    /* The next one. -EAGAIN: none within timeout_ms; -EACCES: one of another user was turned away. */
    int (*accept)(struct env_socket *listener, uint64_t timeout_ms, struct env_socket **out);
    /* -ENOENT, -ECONNREFUSED: nobody listens. -EACCES: who listens is another user. */
    int (*connect)(struct env *env, const char *name, struct env_socket **out);
    /* Send some of the bytes, with `file` (NULL: none). How many, 1 at least. -EAGAIN: none in timeout_ms; -EPIPE: nobody reads. */
    int64_t (*send)(struct env_socket *socket, const struct iovec *iov, uint32_t iov_count, const struct env_file *file,
                    uint64_t timeout_ms);
    /* Receive some bytes: how many; 0: the other end is gone; -EAGAIN: none in timeout_ms. `file` (NULL: none is taken) gets one that came along. */
    int64_t (*receive)(struct env_socket *socket, void *buf, size_t size, uint64_t timeout_ms, struct env_file **file);
    /* Both ends hear of it; whoever waits on the socket wakes up. By any thread. */
    void (*shutdown)(struct env_socket *socket);
    void (*close)(struct env_socket *socket);
    /* As env_ops.lock, but never waiting; shared: with others that are shared. */
    int (*lock)(struct env *env, const char *name, bool shared, struct env_file **out);
    /* One shared lock of a file that is open: take it, -EWOULDBLOCK while it is held exclusively; let go. */
    int (*lock_shared)(struct env_file *file);
    void (*unlock)(struct env_file *file);
    void (*sleep_ms)(struct env *env, uint64_t time_ms);
};

struct env {
    const struct env_ops *ops;
    const struct env_share_ops *share; /* NULL: processes can not share the directory */
    const volatile uint32_t *alive;    /* 1, and in a child of fork() 0; NULL: not known */
    const char *name;                  /* "uring", "threads", "sim": shown in stats */
    uint32_t io_align;                 /* granularity of direct I/O: addresses, offsets, lengths; 512..4096 */
    bool direct_io;                    /* ENV_OPEN_DIRECT is honoured */
    uint32_t cores; /* this process may run on; 0: not to be asked about, do all work on the thread that has it */
};

struct env_settings {
    const char *io_engine; /* "auto", "uring", "threads" */
    const char *direct_io; /* "auto", "on", "off": auto falls back where the file system has none */
    uint32_t queue_depth;
    uint32_t io_threads; /* of the thread pool */
    bool create_dir;     /* make the directory (not its parents) when absent */
};

/*
 * Open the real environment for directory `path`. auto: io_uring if a probe shows that it works here, else the pool.
 * VARVE_E_NOSTORE: no such directory, or no parent to make it in; VARVE_E_ARG: not a directory, or a bad setting;
 * VARVE_E_READONLY: no permission. A directory that can only be read opens; what makes or changes files there then
 * fails with -EROFS or -EACCES. The caller owns the env: ops->destroy(), after its queues and files are closed.
 */
int env_open_posix(const char *path, const struct env_settings *settings, struct env **out, varve_error *err);

/* Remove a file that other processes may have open: its bytes are given back at once, and they read nothing any more. 0 or -errno, of the removal. */
int env_cut(struct env *env, const char *name);

/* Zeroed memory aligned for any type, or NULL. */
void *env_zalloc(struct env *env, size_t size);

static inline void
env_free(struct env *env, void *ptr)
{
    if (ptr != NULL)
        env->ops->free(env, ptr);
}

#endif
