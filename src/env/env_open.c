/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env_open.c - env_open_posix(): find or make the directory, settle direct I/O, choose the backend. What "auto" falls
 * back from is never an error; what was asked for by name and cannot be had always is, with the reason.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "env/env_posix.h"

#define DIR_MODE        0700
#define QUEUE_DEPTH_MAX 4096
#define IO_THREADS_MAX  1024

static bool
is_one_of(const char *value, const char *const *choices)
{
    for (size_t i = 0; choices[i] != NULL; i++)
        if (strcmp(value, choices[i]) == 0)
            return true;
    return false;
}

static int
check_settings(const struct env_settings *settings, varve_error *err)
{
    static const char *const engines[] = {"auto", "uring", "threads", NULL};
    static const char *const direct[] = {"auto", "on", "off", NULL};

    if (!is_one_of(settings->io_engine, engines))
        return error_set(err, VARVE_E_ARG, "io_engine '%s': give auto, uring or threads", settings->io_engine);
    if (!is_one_of(settings->direct_io, direct))
        return error_set(err, VARVE_E_ARG, "direct_io '%s': give auto, on or off", settings->direct_io);
    if (settings->queue_depth < 1 || settings->queue_depth > QUEUE_DEPTH_MAX)
        return error_set(err, VARVE_E_ARG, "queue_depth %u: give 1 to %d", settings->queue_depth, QUEUE_DEPTH_MAX);
    if (settings->io_threads < 1 || settings->io_threads > IO_THREADS_MAX)
        return error_set(err, VARVE_E_ARG, "io_threads %u: give 1 to %d", settings->io_threads, IO_THREADS_MAX);
    return VARVE_OK;
}

/* Make the entry of a new directory durable, else a power failure could take the whole store. */
static int
sync_parent(int dir_fd)
{
    int fd = openat(dir_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc;

    if (fd < 0)
        return -errno;
    rc = fsync(fd) < 0 ? -errno : 0;
    (void)close(fd);
    return rc;
}

static int
open_error(const char *path, int os_errno, varve_error *err)
{
    switch (os_errno) {
    case ENOENT:
        return error_set(err, VARVE_E_NOSTORE, "directory '%s' does not exist", path);
    case ENOTDIR:
        return error_set(err, VARVE_E_ARG, "'%s' is not a directory", path);
    case EACCES:
        return error_os(err, -os_errno, "no permission to use directory '%s'", path);
    default:
        return error_os(err, -os_errno, "open directory '%s'", path);
    }
}

static int
make_error(const char *path, int os_errno, varve_error *err)
{
    switch (os_errno) {
    case ENOENT:
        return error_set(err, VARVE_E_NOSTORE, "cannot make directory '%s': its parent does not exist", path);
    case ENOTDIR:
        return error_set(err, VARVE_E_ARG, "cannot make directory '%s': its parent is not a directory", path);
    case EACCES:
        return error_os(err, -os_errno, "no permission to make directory '%s'", path);
    default:
        return error_os(err, -os_errno, "make directory '%s'", path);
    }
}

/* A descriptor of the directory, or VARVE_E_*. */
static int
open_directory(const char *path, bool create, varve_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool made = false;
    int rc;

    if (fd < 0 && errno == ENOENT && create) {
        made = mkdir(path, DIR_MODE) == 0;
        if (!made && errno != EEXIST)
            return make_error(path, errno, err);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (fd < 0)
        return open_error(path, errno, err);
    if (faccessat(fd, ".", X_OK, AT_EACCESS) < 0) {
        rc = open_error(path, errno, err);
        (void)close(fd);
        return rc;
    }
    rc = made ? sync_parent(fd) : 0;
    if (rc < 0) {
        (void)close(fd);
        return error_os(err, rc, "sync the parent of the new directory '%s'", path);
    }
    return fd;
}

static int
settle_direct_io(struct posix_env *env, const char *path, const char *wish, varve_error *err)
{
    int align;

    if (strcmp(wish, "off") == 0)
        return VARVE_OK;
    align = direct_io_probe(env->dir_fd);
    if (align > 0) {
        env->env.direct_io = true;
        env->env.io_align = (uint32_t)align;
        return VARVE_OK;
    }
    if (strcmp(wish, "auto") == 0)
        return VARVE_OK; /* a read-only file system ends here too: opening files for writing will say so */
    if (align < 0)
        return error_os(err, align, "direct_io=on: cannot make a temporary file in '%s' to try it", path);
    return error_set(err, VARVE_E_ARG, "direct_io=on: the file system of '%s' has no direct I/O; use direct_io=auto",
                     path);
}

static int
attach_backend(struct posix_env *env, const char *wish, varve_error *err)
{
    if (strcmp(wish, "uring") == 0)
        return env_uring_attach(env, err);
    if (strcmp(wish, "auto") == 0 && env_uring_attach(env, NULL) == VARVE_OK)
        return VARVE_OK;
    return env_pool_attach(env, err);
}

int
env_open_posix(const char *path, const struct env_settings *settings, struct env **out, varve_error *err)
{
    struct posix_env *env;
    int dir_fd;
    int rc;

    assert(path != NULL);
    assert(settings != NULL);
    assert(out != NULL);
    rc = check_settings(settings, err);
    if (rc < 0)
        return rc;
    dir_fd = open_directory(path, settings->create_dir, err);
    if (dir_fd < 0)
        return dir_fd;
    env = posix_env_create(dir_fd, settings);
    if (env == NULL) {
        (void)close(dir_fd);
        return error_set(err, VARVE_E_NOMEM, "out of memory opening directory '%s'", path);
    }
    rc = settle_direct_io(env, path, settings->direct_io, err);
    if (rc < 0)
        goto fail;
    rc = attach_backend(env, settings->io_engine, err);
    if (rc < 0)
        goto fail;
    *out = &env->env;
    return VARVE_OK;

fail:
    posix_env_destroy(&env->env);
    return rc;
}
