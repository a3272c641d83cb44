/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env_sync_test.c - what the real environment asks the kernel for when it is told to make something durable, and that it passes on what the
 * kernel says. No file that is read back can show that. fsync and fdatasync are wrapped at link time: calls are noted, and may fail.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "env/env.h"

int __real_fsync(int fd);     /* NOLINT(bugprone-reserved-identifier): the linker's name */
int __real_fdatasync(int fd); /* NOLINT(bugprone-reserved-identifier) */
int __wrap_fsync(int fd);     /* NOLINT(bugprone-reserved-identifier) */
int __wrap_fdatasync(int fd); /* NOLINT(bugprone-reserved-identifier) */

/* What was synced since note_nothing(). */
static struct {
    unsigned calls;
    bool all_metadata; /* the last call was fsync */
    ino_t inode;       /* of the last call */
    int fail_errno;    /* what the next call fails with, 0: it works */
} synced;

static const struct env_settings settings = {
    .io_engine = "threads", .direct_io = "off", .queue_depth = 1, .io_threads = 1, .create_dir = true};
static char dir[32];
static struct env *env;

static void
note_nothing(int fail_errno)
{
    memset(&synced, 0, sizeof(synced));
    synced.fail_errno = fail_errno;
}

static int
note(int fd, bool all_metadata)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    synced.calls++;
    synced.all_metadata = all_metadata;
    synced.inode = st.st_ino;
    if (synced.fail_errno == 0)
        return all_metadata ? __real_fsync(fd) : __real_fdatasync(fd);
    errno = synced.fail_errno;
    synced.fail_errno = 0;
    return -1;
}

int
__wrap_fsync(int fd) /* NOLINT(bugprone-reserved-identifier) */
{
    return note(fd, true);
}

int
__wrap_fdatasync(int fd) /* NOLINT(bugprone-reserved-identifier) */
{
    return note(fd, false);
}

static ino_t
inode_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_ino;
}

static struct env *
open_env(const char *path)
{
    struct env *opened;
    varve_error err;

    assert_int_equal(env_open_posix(path, &settings, &opened, &err), VARVE_OK);
    return opened;
}

static int
setup(void **state)
{
    (void)state;
    (void)snprintf(dir, 32, "env_sync_test_XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    env = open_env(dir);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    env->ops->destroy(env);
    return rmdir(dir);
}

static void
test_file(void **state)
{
    char path[64];
    struct env_file *file;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/file", dir);
    assert_int_equal(env->ops->open(env, "file", ENV_OPEN_CREATE, &file), 0);
    note_nothing(0);
    assert_int_equal(env->ops->sync(file), 0);
    assert_int_equal(synced.calls, 1);
    assert_int_equal(synced.inode, inode_of(path));

    note_nothing(EINTR);
    assert_int_equal(env->ops->sync(file), 0);
    assert_int_equal(synced.calls, 2);

    note_nothing(EIO); /* final: it is not tried again */
    assert_int_equal(env->ops->sync(file), -EIO);
    assert_int_equal(synced.calls, 1);
    env->ops->close(file);
    assert_int_equal(env->ops->unlink(env, "file"), 0);
}

static void
test_directory(void **state)
{
    (void)state;
    note_nothing(0);
    assert_int_equal(env->ops->sync_dir(env), 0);
    assert_int_equal(synced.calls, 1);
    assert_int_equal(synced.inode, inode_of(dir));
    assert_true(synced.all_metadata);

    note_nothing(EINTR);
    assert_int_equal(env->ops->sync_dir(env), 0);
    assert_int_equal(synced.calls, 2);

    note_nothing(EIO);
    assert_int_equal(env->ops->sync_dir(env), -EIO);
    assert_int_equal(synced.calls, 1);
}

/* A directory that was made is durable in its parent; one that was there is not our business. */
static void
test_new_directory(void **state)
{
    struct env *other;
    varve_error err;
    char path[64];

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/new", dir);
    note_nothing(0);
    other = open_env(path);
    assert_int_equal(synced.calls, 1);
    assert_int_equal(synced.inode, inode_of(dir));
    assert_true(synced.all_metadata);
    other->ops->destroy(other);

    note_nothing(0);
    other = open_env(path);
    assert_int_equal(synced.calls, 0);
    other->ops->destroy(other);
    assert_int_equal(rmdir(path), 0);

    note_nothing(EIO);
    assert_int_equal(env_open_posix(path, &settings, &other, &err), VARVE_E_IO);
    assert_int_equal(err.os_errno, EIO);
    assert_int_equal(rmdir(path), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_new_directory, setup, teardown),
    };

    return cmocka_run_group_tests_name("env_sync", tests, NULL, NULL);
}
