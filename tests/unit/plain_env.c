/* SPDX-License-Identifier: Apache-2.0 */
/* A synchronous env for unit tests; see plain_env.h. */
#include "plain_env.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

struct plain_file {
    struct env_file file; /* first */
    int fd;
};

struct plain_queue {
    struct env_queue queue; /* first */
    struct env_io *first;
    struct env_io **last;
};

static struct plain_env *
plain(struct env *env)
{
    return (void *)env;
}

static int
fd_of(struct env_file *file)
{
    return ((struct plain_file *)(void *)file)->fd;
}

static int
result(int rc)
{
    return rc < 0 ? -errno : rc;
}

/* Counts a switch down; true for the one operation that is to fail. */
static bool
fails(atomic_long *countdown)
{
    return atomic_load(countdown) > 0 && atomic_fetch_sub(countdown, 1) == 1;
}

static void *
plain_alloc(struct env *env, size_t size, size_t align)
{
    void *ptr = NULL;

    if (fails(&plain(env)->alloc_fails_in))
        return NULL;
    if (posix_memalign(&ptr, align < sizeof(void *) ? sizeof(void *) : align, size) != 0)
        return NULL;
    (void)atomic_fetch_add(&plain(env)->allocs, 1);
    return ptr;
}

static void
plain_free(struct env *env, void *ptr)
{
    (void)atomic_fetch_sub(&plain(env)->allocs, 1);
    free(ptr);
}

static int
open_file(struct env *env, const char *name, int flags, struct env_file **out)
{
    struct plain_file *file = plain_alloc(env, sizeof(*file), 8);

    if (file == NULL)
        return -ENOMEM;
    file->file.env = env;
    file->fd = openat(plain(env)->dir_fd, name, flags | O_CLOEXEC, 0600);
    if (file->fd < 0) {
        int rc = -errno;

        plain_free(env, file);
        return rc;
    }
    *out = &file->file;
    return 0;
}

static int
plain_open(struct env *env, const char *name, unsigned flags, struct env_file **out)
{
    int how = flags & ENV_OPEN_READ ? O_RDONLY : O_RDWR;

    return open_file(env, name, flags & ENV_OPEN_CREATE ? how | O_CREAT | O_EXCL : how, out);
}

static void
plain_close(struct env_file *file)
{
    struct env *env = file->env;

    (void)close(fd_of(file));
    plain_free(env, file);
}

static int
plain_size(struct env_file *file, uint64_t *size)
{
    struct stat st;

    if (fstat(fd_of(file), &st) < 0)
        return -errno;
    *size = (uint64_t)st.st_size;
    return 0;
}

static int
plain_allocated(struct env_file *file, uint64_t *bytes)
{
    struct stat st;

    if (fstat(fd_of(file), &st) < 0)
        return -errno;
    *bytes = (uint64_t)st.st_blocks * 512;
    return 0;
}

static int
plain_preallocate(struct env_file *file, uint64_t size)
{
    return -posix_fallocate(fd_of(file), 0, (off_t)size);
}

static int
plain_truncate(struct env_file *file, uint64_t size)
{
    return result(ftruncate(fd_of(file), (off_t)size));
}

static int
plain_sync(struct env_file *file)
{
    return fails(&plain(file->env)->sync_fails_in) ? -EIO : 0;
}

static int
plain_rename(struct env *env, const char *from, const char *to)
{
    return result(renameat(plain(env)->dir_fd, from, plain(env)->dir_fd, to));
}

static int
plain_unlink(struct env *env, const char *name)
{
    return result(unlinkat(plain(env)->dir_fd, name, 0));
}

static int
plain_sync_dir(struct env *env)
{
    return fails(&plain(env)->sync_fails_in) ? -EIO : 0;
}

static int
plain_list(struct env *env, int (*each)(void *arg, const char *name), void *arg)
{
    DIR *dir = opendir(plain(env)->path);
    const struct dirent *item;
    int rc = 0;

    if (dir == NULL)
        return -errno;
    while (rc >= 0 && (item = readdir(dir)) != NULL) {
        if (strcmp(item->d_name, ".") != 0 && strcmp(item->d_name, "..") != 0)
            rc = each(arg, item->d_name);
    }
    (void)closedir(dir);
    return rc < 0 ? rc : 0;
}

static int
plain_lock(struct env *env, const char *name, struct env_file **out)
{
    int rc = open_file(env, name, O_RDWR | O_CREAT, out);

    if (rc == 0 && flock(fd_of(*out), LOCK_EX | LOCK_NB) < 0) {
        rc = -errno;
        plain_close(*out);
    }
    return rc;
}

static int
plain_free_space(struct env *env, uint64_t *bytes)
{
    struct statvfs st;

    if (fstatvfs(plain(env)->dir_fd, &st) < 0)
        return -errno;
    *bytes = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}

static int
plain_queue_open(struct env *env, struct env_queue **out)
{
    struct plain_queue *queue = plain_alloc(env, sizeof(*queue), 8);

    if (queue == NULL)
        return -ENOMEM;
    *queue = (struct plain_queue){.queue = {.env = env, .depth = 1}};
    queue->last = &queue->first;
    *out = &queue->queue;
    return 0;
}

static void
plain_queue_close(struct env_queue *queue)
{
    assert(queue->in_flight == 0);
    plain_free(queue->env, queue);
}

static void
plain_submit(struct env_queue *queue, struct env_io *io)
{
    struct plain_queue *mine = (void *)queue;

    io->next = NULL;
    *mine->last = io;
    mine->last = &io->next;
    queue->in_flight++;
}

static int64_t
transfer(struct plain_env *env, struct env_io *io)
{
    uint64_t bad = atomic_load(&env->bad_offset);
    uint64_t bytes = 0;
    ssize_t n;

    for (uint32_t i = 0; i < io->iov_count; i++)
        bytes += io->iov[i].iov_len;
    if (io->op == ENV_OP_WRITE) {
        if (fails(&env->write_fails_in))
            return -EIO;
        n = pwritev(fd_of(io->file), io->iov, (int)io->iov_count, (off_t)io->offset);
    } else {
        if (bad >= io->offset && bad < io->offset + bytes)
            return -EIO;
        n = preadv(fd_of(io->file), io->iov, (int)io->iov_count, (off_t)io->offset);
    }
    return n < 0 ? -errno : n;
}

static void
plain_wait(struct env_queue *queue, uint32_t at_least)
{
    struct plain_queue *mine = (void *)queue;

    (void)at_least;
    while (mine->first != NULL) {
        struct env_io *io = mine->first;

        mine->first = io->next;
        if (mine->first == NULL)
            mine->last = &mine->first;
        queue->in_flight--;
        io->result = transfer(plain(queue->env), io);
        io->done(io);
    }
}

static uint64_t
plain_now_ns(struct env *env)
{
    struct timespec now;

    (void)env;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The monotonic clock does: tests compare no dates. */
static uint64_t
plain_realtime_ns(struct env *env)
{
    return plain_now_ns(env);
}

static uint64_t
plain_random(struct env *env)
{
    return (atomic_fetch_add(&plain(env)->random, 1) + 1) * UINT64_C(0x9e3779b97f4a7c15);
}

static void
plain_destroy(struct env *env)
{
    plain_env_destroy(plain(env));
}

static const struct env_ops plain_ops = {
    .open = plain_open,
    .close = plain_close,
    .size = plain_size,
    .allocated = plain_allocated,
    .preallocate = plain_preallocate,
    .truncate = plain_truncate,
    .sync = plain_sync,
    .rename = plain_rename,
    .unlink = plain_unlink,
    .sync_dir = plain_sync_dir,
    .list = plain_list,
    .lock = plain_lock,
    .free_space = plain_free_space,
    .queue_open = plain_queue_open,
    .queue_close = plain_queue_close,
    .submit = plain_submit,
    .wait = plain_wait,
    .now_ns = plain_now_ns,
    .realtime_ns = plain_realtime_ns,
    .random = plain_random,
    .alloc = plain_alloc,
    .free = plain_free,
    .destroy = plain_destroy,
};

struct plain_env *
plain_env_create(const char *parent)
{
    struct plain_env *env = calloc(1, sizeof(*env));

    if (env == NULL)
        abort();
    if (parent == NULL)
        parent = getenv("TMPDIR");
    (void)snprintf(env->path, sizeof(env->path), "%s/varve-unit-XXXXXX", parent == NULL ? "/tmp" : parent);
    if (mkdtemp(env->path) == NULL) {
        perror(env->path);
        exit(1);
    }
    env->dir_fd = open(env->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    env->env = (struct env){.ops = &plain_ops, .name = "plain", .io_align = 512};
    atomic_store(&env->bad_offset, UINT64_MAX);
    return env;
}

static int
remove_file(void *arg, const char *name)
{
    return plain_unlink(arg, name);
}

void
plain_env_destroy(struct plain_env *env)
{
    long held = atomic_load(&env->allocs);

    (void)plain_list(&env->env, remove_file, &env->env);
    (void)rmdir(env->path);
    (void)close(env->dir_fd);
    free(env);
    if (held != 0) {
        (void)fprintf(stderr, "%ld allocations were not freed\n", held);
        abort();
    }
}
