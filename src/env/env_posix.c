/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env_posix.c - files, directory, clock, randomness and memory of the real environments. One directory descriptor is
 * held for the life of the env and every name is resolved against it, so the store survives a rename of its directory
 * and a change of the working directory. Files are private to the user: cached pages reveal prompts.
 */
#include "env/env_posix.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define LOCK_WAIT_MS  1000
#define LOCK_PAUSE_MS 20

#define FILE_MODE 0600

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

static struct posix_env *
posix_env_of(struct env *env)
{
    return (struct posix_env *)env;
}

struct env_file *
posix_file_wrap(struct env *env, int fd)
{
    struct posix_file *file = env_zalloc(env, sizeof(*file));

    if (file == NULL)
        return NULL;
    file->file.env = env;
    file->fd = fd;
    return &file->file;
}

int
posix_open_retry(int dir_fd, const char *name, int flags)
{
    int fd;

    do
        fd = openat(dir_fd, name, flags | O_CLOEXEC, FILE_MODE);
    while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

static int
posix_open(struct env *env, const char *name, unsigned flags, struct env_file **out)
{
    int os_flags = (flags & ENV_OPEN_READ) != 0 ? O_RDONLY : O_RDWR;
    int fd;

    if ((flags & ENV_OPEN_CREATE) != 0)
        os_flags |= O_CREAT | O_EXCL;
    if ((flags & ENV_OPEN_DIRECT) != 0 && env->direct_io)
        os_flags |= O_DIRECT;
    fd = posix_open_retry(posix_env_of(env)->dir_fd, name, os_flags);
    if (fd < 0)
        return fd;
    *out = posix_file_wrap(env, fd);
    if (*out == NULL) {
        (void)close(fd);
        if ((flags & ENV_OPEN_CREATE) != 0)
            (void)unlinkat(posix_env_of(env)->dir_fd, name, 0);
        return -ENOMEM;
    }
    return 0;
}

static void
posix_close(struct env_file *file)
{
    /* What close() could report was reported by sync, or nobody asked for durability. */
    (void)close(posix_file_fd(file));
    env_free(file->env, file);
}

static int
posix_size(struct env_file *file, uint64_t *size)
{
    struct stat st;

    if (fstat(posix_file_fd(file), &st) < 0)
        return -errno;
    *size = (uint64_t)st.st_size;
    return 0;
}

static int
posix_allocated(struct env_file *file, uint64_t *bytes)
{
    struct stat st;

    if (fstat(posix_file_fd(file), &st) < 0)
        return -errno;
    *bytes = (uint64_t)st.st_blocks * 512; /* st_blocks counts 512 bytes whatever the block size */
    return 0;
}

static int
posix_truncate(struct env_file *file, uint64_t size)
{
    int rc;

    do
        rc = ftruncate(posix_file_fd(file), (off_t)size);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

static int
posix_preallocate(struct env_file *file, uint64_t size)
{
    uint64_t present = 0;
    int rc;

    if (size == 0)
        return 0;
    do
        rc = fallocate(posix_file_fd(file), 0, 0, (off_t)size);
    while (rc < 0 && errno == EINTR);
    if (rc == 0)
        return 0;
    if (errno != EOPNOTSUPP)
        return -errno;

    /* The file system cannot reserve: give the file its length at least, and never a shorter one. */
    rc = posix_size(file, &present);
    if (rc < 0 || present >= size)
        return rc;
    return posix_truncate(file, size);
}

static int
posix_sync(struct env_file *file)
{
    int rc;

    /* fdatasync also writes the metadata that reading the data back needs, a changed length among it. */
    do
        rc = fdatasync(posix_file_fd(file));
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

static int
posix_rename(struct env *env, const char *from, const char *to)
{
    int dir_fd = posix_env_of(env)->dir_fd;

    return renameat(dir_fd, from, dir_fd, to) < 0 ? -errno : 0;
}

static int
posix_unlink(struct env *env, const char *name)
{
    return unlinkat(posix_env_of(env)->dir_fd, name, 0) < 0 ? -errno : 0;
}

static int
posix_sync_dir(struct env *env)
{
    int rc;

    do
        rc = fsync(posix_env_of(env)->dir_fd);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

static int
posix_list(struct env *env, int (*each)(void *arg, const char *name), void *arg)
{
    /* A description of its own: a dup() would share its position with lists that run at the same time. */
    int fd = posix_open_retry(posix_env_of(env)->dir_fd, ".", O_RDONLY | O_DIRECTORY);
    const struct dirent *entry;
    DIR *dir;
    int rc = 0;

    if (fd < 0)
        return fd;
    dir = fdopendir(fd);
    if (dir == NULL) {
        rc = -errno;
        (void)close(fd);
        return rc;
    }
    while (rc >= 0) {
        errno = 0;
        entry = readdir(dir);
        if (entry == NULL) {
            rc = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = each(arg, entry->d_name);
    }
    (void)closedir(dir);
    return rc < 0 ? rc : 0;
}

/* Tell people who holds the lock. Nothing depends on the text, so a full disk is no failure here. */
void
posix_lock_describe(int fd)
{
    char host[256] = "";
    char text[320];
    int size;

    if (gethostname(host, sizeof(host) - 1) < 0)
        host[0] = '\0';
    size = snprintf(text, sizeof(text), "%ld %s\n", (long)getpid(), host);
    assert(size > 0 && (size_t)size < sizeof(text));
    if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)size, 0) < 0)
        (void)ftruncate(fd, 0);
}

/*
 * Lock without waiting, but for an owner on its way out: a killed process keeps its lock until the kernel has taken down its memory and the
 * I/O it had in flight, and a server restarted at once should not fail for that.
 */
static int
lock_fd(int fd)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000L};

    for (int waited_ms = 0;; waited_ms += LOCK_PAUSE_MS) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno != EINTR && (errno != EWOULDBLOCK || waited_ms >= LOCK_WAIT_MS))
            return -errno;
        (void)nanosleep(&pause, NULL);
    }
}

/*
 * The file stays behind when the lock is released: to unlink it would let two processes lock two files of one
 * name. flock() belongs to the open file description, so a second open in this process is refused as well.
 */
static int
posix_lock(struct env *env, const char *name, struct env_file **out)
{
    int fd = posix_open_retry(posix_env_of(env)->dir_fd, name, O_RDWR | O_CREAT);
    int rc;

    if (fd < 0)
        return fd;
    rc = lock_fd(fd);
    if (rc < 0)
        goto fail;
    *out = posix_file_wrap(env, fd);
    if (*out == NULL) {
        rc = -ENOMEM;
        goto fail;
    }
    posix_lock_describe(fd);
    return 0;

fail:
    (void)close(fd);
    return rc;
}

static int
posix_free_space(struct env *env, uint64_t *bytes)
{
    struct statvfs fs;

    if (fstatvfs(posix_env_of(env)->dir_fd, &fs) < 0)
        return -errno;
    *bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    return 0;
}

static uint64_t
clock_ns(clockid_t clock)
{
    struct timespec now;

    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t
posix_now_ns(struct env *env)
{
    (void)env;
    return clock_ns(CLOCK_MONOTONIC);
}

static uint64_t
posix_realtime_ns(struct env *env)
{
    (void)env;
    return clock_ns(CLOCK_REALTIME);
}

static uint64_t
posix_random(struct env *env)
{
    uint64_t value = 0;
    ssize_t got;

    (void)env;
    do
        got = getrandom(&value, sizeof(value), 0);
    while (got < 0 && errno == EINTR);
    assert(got == sizeof(value)); /* cannot fail otherwise since Linux 3.17 */
    return value;
}

/*
 * Hints. Small pages that the allocator had in there already, of something freed before, are given up first: they would stay. What they hold is nothing to anyone.
 */
static void
ask_for_huge_pages(void *ptr, size_t size)
{
    size &= ~(HUGE_PAGE_BYTES - 1);
    if (size > 0 && madvise(ptr, size, MADV_HUGEPAGE) == 0)
        (void)madvise(ptr, size, MADV_DONTNEED);
}

static void *
posix_alloc(struct env *env, size_t size, size_t align)
{
    void *ptr = NULL;

    (void)env;
    assert(align != 0 && (align & (align - 1)) == 0);
    if (align < sizeof(void *))
        align = sizeof(void *);
    if (posix_memalign(&ptr, align, size) != 0)
        return NULL;
    if (align >= HUGE_PAGE_BYTES)
        ask_for_huge_pages(ptr, size);
    return ptr;
}

static void
posix_free(struct env *env, void *ptr)
{
    (void)env;
    free(ptr);
}

static uint32_t
count_cores(void)
{
    cpu_set_t set;
    int count = 1;

    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        count = CPU_COUNT(&set);
    return count < 1 ? 1 : (uint32_t)count;
}

struct posix_env *
posix_env_create(int dir_fd, const struct env_settings *settings)
{
    struct posix_env *env = calloc(1, sizeof(*env));

    if (env == NULL)
        return NULL;
    env->table = (struct env_ops){
        .open = posix_open,
        .close = posix_close,
        .size = posix_size,
        .allocated = posix_allocated,
        .preallocate = posix_preallocate,
        .truncate = posix_truncate,
        .sync = posix_sync,
        .rename = posix_rename,
        .unlink = posix_unlink,
        .sync_dir = posix_sync_dir,
        .list = posix_list,
        .lock = posix_lock,
        .free_space = posix_free_space,
        .now_ns = posix_now_ns,
        .realtime_ns = posix_realtime_ns,
        .random = posix_random,
        .alloc = posix_alloc,
        .free = posix_free,
        .destroy = posix_env_destroy,
    };
    env->env.ops = &env->table;
    env->env.share = &posix_share_ops;
    posix_alive_create(env);
    env->env.io_align = 512;
    env->env.cores = count_cores();
    env->dir_fd = dir_fd;
    env->queue_depth = settings->queue_depth;
    env->io_threads = settings->io_threads;
    return env;
}

void
posix_env_destroy(struct env *base)
{
    struct posix_env *env = posix_env_of(base);

    env_pool_detach(env);
    env_uring_detach(env);
    posix_alive_destroy(env);
    (void)close(env->dir_fd);
    free(env);
}
