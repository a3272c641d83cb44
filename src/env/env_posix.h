/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env_posix.h - what the two real environments share: a directory, files, and everything but queues (env_posix.c). A
 * backend (env_uring.c, env_pool.c) attaches itself by filling in the queue functions of env->table. Private to
 * src/env.
 */
#ifndef VARVE_ENV_ENV_POSIX_H
#define VARVE_ENV_ENV_POSIX_H

#include "env/env.h"

struct pool;
struct uring_library;

struct posix_env {
    struct env env; /* first */
    struct env_ops table;
    int dir_fd;
    uint32_t queue_depth;
    uint32_t io_threads;
    struct pool *pool;           /* of the thread pool backend, else NULL */
    struct uring_library *uring; /* of the io_uring backend, else NULL */
    uint32_t *alive;             /* a page that is wiped in children of fork(); NULL: the kernel has no such thing */
};

struct posix_file {
    struct env_file file; /* first */
    int fd;
};

/* Operations in order, linked through env_io.next. */
struct io_list {
    struct env_io *head;
    struct env_io *tail; /* valid where head is not NULL */
};

static inline void
io_list_push(struct io_list *list, struct env_io *io)
{
    io->next = NULL;
    if (list->head == NULL)
        list->head = io;
    else
        list->tail->next = io;
    list->tail = io;
}

/* The first operation, taken off the list, or NULL. */
static inline struct env_io *
io_list_pop(struct io_list *list)
{
    struct env_io *io = list->head;

    if (io != NULL)
        list->head = io->next;
    return io;
}

/* Move all of `from` behind `to`. */
static inline void
io_list_append(struct io_list *to, struct io_list *from)
{
    if (from->head == NULL)
        return;
    if (to->head == NULL)
        to->head = from->head;
    else
        to->tail->next = from->head;
    to->tail = from->tail;
    from->head = NULL;
}

static inline int
posix_file_fd(const struct env_file *file)
{
    return ((const struct posix_file *)file)->fd;
}

/*
 * Everything but queues; the caller owns dir_fd until this returns, then posix_env_destroy() closes it. NULL: no
 * memory.
 */
struct posix_env *posix_env_create(int dir_fd, const struct env_settings *settings);
void posix_env_destroy(struct env *base);

/* An env_file for a descriptor, which it then owns. NULL when out of memory; fd is then still the caller's. */
struct env_file *posix_file_wrap(struct env *env, int fd);

/* openat() that is not disturbed by signals: a descriptor, or -errno. */
int posix_open_retry(int dir_fd, const char *name, int flags);

/* Tell people, in the lock file, who holds the lock. */
void posix_lock_describe(int fd);

/* env_share.c: the operations of env->share, and the page behind env->alive. */
extern const struct env_share_ops posix_share_ops;
void posix_alive_create(struct posix_env *env);
void posix_alive_destroy(struct posix_env *env);

/*
 * Find out whether files in the directory take direct I/O, and in which granularity. 0: none. 512..4096: the
 * granularity. Negative errno: no temporary file could be made there to ask.
 */
int direct_io_probe(int dir_fd);

/* Make io_uring or the thread pool the backend. 0, or VARVE_E_* with the reason; the env is then as before. */
int env_uring_attach(struct posix_env *env, varve_error *err);
void env_uring_detach(struct posix_env *env);
int env_pool_attach(struct posix_env *env, varve_error *err);
void env_pool_detach(struct posix_env *env);

#endif
