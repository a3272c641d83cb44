/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env_open_test.c - opening the real environment: what is refused and with what words, direct I/O on, off and absent,
 * no permission, and io_uring forbidden by a system call filter, before and after it was chosen. What gives up rights
 * for good runs in a child. Works in a new directory under the working directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "env/env.h"
#include "env/io.h"

static struct env_settings
settings_of(const char *engine)
{
    return (struct env_settings){.io_engine = engine, .direct_io = "auto", .queue_depth = 8, .io_threads = 3};
}

static void
make_dir(char dir[32])
{
    (void)snprintf(dir, 32, "env_test_XXXXXX");
    assert_non_null(mkdtemp(dir));
}

static const char *
path_in(const char *dir, const char *name, char path[96])
{
    (void)snprintf(path, 96, "%s/%s", dir, name);
    return path;
}

static const struct refusal {
    const char *path; /* within the test's directory, which has a file "file" */
    struct env_settings settings;
    int code;
    const char *part; /* of the message */
} refusals[] = {
    {"none", {"threads", "auto", 8, 2, false}, VARVE_E_NOSTORE, "does not exist"},
    {"none/below", {"threads", "auto", 8, 2, true}, VARVE_E_NOSTORE, "parent does not exist"},
    {"file", {"threads", "auto", 8, 2, true}, VARVE_E_ARG, "not a directory"},
    {"file/below", {"threads", "auto", 8, 2, true}, VARVE_E_ARG, "not a directory"},
    {".", {"fast", "auto", 8, 2, true}, VARVE_E_ARG, "give auto, uring or threads"},
    {".", {"threads", "yes", 8, 2, true}, VARVE_E_ARG, "give auto, on or off"},
    {".", {"threads", "auto", 0, 2, true}, VARVE_E_ARG, "queue_depth"},
    {".", {"threads", "auto", 8, 0, true}, VARVE_E_ARG, "io_threads"},
};

static void
test_refusals(void **state)
{
    char dir[32];
    char path[96];
    int fd;

    (void)state;
    make_dir(dir);
    fd = open(path_in(dir, "file", path), O_CREAT | O_WRONLY, 0600);
    assert_int_equal(close(fd), 0);
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        const struct refusal *r = &refusals[i];
        struct env *env = NULL;
        varve_error err;

        assert_int_equal(env_open_posix(path_in(dir, r->path, path), &r->settings, &env, &err), r->code);
        assert_int_equal(err.code, r->code);
        if (strstr(err.message, r->part) == NULL)
            fail_msg("case %zu: %s", i, err.message);
        assert_int_equal(env_open_posix(path, &r->settings, &env, NULL), r->code);
    }
    assert_int_equal(unlink(path_in(dir, "file", path)), 0);
    assert_int_equal(rmdir(dir), 0);
}

/* Direct I/O as asked: off is off, and on is on or an error that says why. The probe leaves no file behind. */
static void
test_direct_io_setting(void **state)
{
    struct env_settings settings = settings_of("threads");
    char dir[32];
    char path[96];
    struct env *env;
    varve_error err;

    (void)state;
    make_dir(dir);
    settings.create_dir = true;
    settings.direct_io = "off";
    assert_int_equal(env_open_posix(path_in(dir, "new", path), &settings, &env, &err), VARVE_OK);
    assert_false(env->direct_io);
    assert_int_equal(env->io_align, 512);
    env->ops->destroy(env);
    settings.direct_io = "on";
    if (env_open_posix(path, &settings, &env, &err) == VARVE_OK) {
        assert_true(env->direct_io);
        env->ops->destroy(env);
    } else {
        assert_non_null(strstr(err.message, "no direct I/O"));
    }
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

/* Run a check in a child, which may give up rights for good. True means passed. */
static void
in_child(bool (*check)(const char *dir), const char *dir)
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0)
        _exit(check(dir) ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static bool
child_without_rights(const char *dir)
{
    struct env_settings settings = settings_of("auto");
    struct env *env;
    struct env_file *file;
    varve_error err;
    bool passed;

    if (geteuid() == 0 && setuid(65534) < 0)
        return false;
    if (chdir(dir) < 0)
        return false;
    if (env_open_posix("closed", &settings, &env, &err) != VARVE_E_READONLY ||
        strstr(err.message, "no permission") == NULL)
        return false;
    /* Readable, not writable: opens for reading, and says so when files are to be made. */
    if (env_open_posix("readable", &settings, &env, &err) != VARVE_OK)
        return false;
    passed = !env->direct_io && env->ops->lock(env, "LOCK", &file) == -EACCES &&
             env->ops->open(env, "f", ENV_OPEN_CREATE, &file) == -EACCES;
    env->ops->destroy(env);
    settings.direct_io = "on";
    return passed && env_open_posix("readable", &settings, &env, &err) == VARVE_E_READONLY &&
           strstr(err.message, "temporary file") != NULL;
}

static void
test_no_permission(void **state)
{
    char dir[32];
    char path[96];

    (void)state;
    make_dir(dir);
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(mkdir(path_in(dir, "closed", path), 0000), 0);
    assert_int_equal(mkdir(path_in(dir, "readable", path), 0555), 0);
    in_child(child_without_rights, dir);
    assert_int_equal(rmdir(path_in(dir, "closed", path)), 0);
    assert_int_equal(rmdir(path_in(dir, "readable", path)), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void
keep_result(struct env_io *io)
{
    *(int64_t *)io->arg = io->result;
}

/* From now on this process gets an error from one system call, as in a container that forbids it. */
static bool
forbid(uint32_t syscall_number, uint32_t os_errno)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, syscall_number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | os_errno),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static bool
falls_back(const char *dir)
{
    struct env_settings settings = settings_of("auto");
    struct env *env;
    varve_error err;
    bool passed;

    if (env_open_posix(dir, &settings, &env, &err) != VARVE_OK)
        return false;
    passed = strcmp(env->name, "threads") == 0;
    env->ops->destroy(env);
    settings.io_engine = "uring";
    return passed && env_open_posix(dir, &settings, &env, &err) < 0 && strstr(err.message, "io_engine=uring") != NULL;
}

static bool
child_setup_forbidden(const char *dir)
{
    return forbid(SYS_io_uring_setup, ENOSYS) && falls_back(dir);
}

static bool
child_enter_forbidden(const char *dir)
{
    return forbid(SYS_io_uring_enter, EPERM) && falls_back(dir);
}

static void
test_uring_forbidden(void **state)
{
    char dir[32];

    (void)state;
    make_dir(dir);
    in_child(child_setup_forbidden, dir);
    in_child(child_enter_forbidden, dir);
    assert_int_equal(rmdir(dir), 0);
}

/* A ring that stops working fails what it is given, each operation once, and loses none. */
static bool
child_forbidden_later(const char *dir)
{
    struct env_settings settings = settings_of("uring");
    static struct env_io ios[20];
    static int64_t results[20];
    uint8_t buf[16] = "x";
    const struct iovec iov = {.iov_base = buf, .iov_len = sizeof(buf)};
    struct env_queue *queue;
    struct env_file *file;
    struct env *env;

    if (env_open_posix(dir, &settings, &env, NULL) < 0 || env->ops->open(env, "f", ENV_OPEN_CREATE, &file) < 0 ||
        env->ops->unlink(env, "f") < 0 || env->ops->queue_open(env, &queue) < 0 || !forbid(SYS_io_uring_enter, EPERM))
        return false;
    for (uint32_t i = 0; i < 20; i++) {
        ios[i] = (struct env_io){
            .op = ENV_OP_WRITE, .iov = &iov, .iov_count = 1, .file = file, .done = keep_result, .arg = &results[i]};
        env->ops->submit(queue, &ios[i]);
    }
    io_drain(queue);
    for (uint32_t i = 0; i < 20; i++)
        if (results[i] != -EPERM)
            return false;
    env->ops->queue_close(queue);
    env->ops->close(file);
    env->ops->destroy(env);
    return true;
}

static void
test_uring_forbidden_later(void **state)
{
    struct env_settings settings = settings_of("uring");
    char dir[32];
    struct env *env;
    bool works;

    (void)state;
    make_dir(dir);
    works = env_open_posix(dir, &settings, &env, NULL) == VARVE_OK;
    if (works) {
        env->ops->destroy(env);
        in_child(child_forbidden_later, dir);
    }
    assert_int_equal(rmdir(dir), 0);
    if (!works)
        skip();
}

/* Where the file system cannot reserve space, a file gets its length, and never a shorter one. */
static bool
child_without_fallocate(const char *dir)
{
    struct env_settings settings = settings_of("threads");
    struct env_file *file;
    struct env *env;
    uint64_t longer = 0;
    uint64_t same = 0;

    if (!forbid(SYS_fallocate, EOPNOTSUPP) || env_open_posix(dir, &settings, &env, NULL) < 0 ||
        env->ops->open(env, "f", ENV_OPEN_CREATE, &file) < 0 || env->ops->unlink(env, "f") < 0)
        return false;
    if (env->ops->preallocate(file, 10000) < 0 || env->ops->size(file, &longer) < 0 ||
        env->ops->preallocate(file, 5000) < 0 || env->ops->size(file, &same) < 0)
        return false;
    env->ops->close(file);
    env->ops->destroy(env);
    return longer == 10000 && same == 10000;
}

static void
test_no_fallocate(void **state)
{
    char dir[32];

    (void)state;
    make_dir(dir);
    in_child(child_without_fallocate, dir);
    assert_int_equal(rmdir(dir), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),        cmocka_unit_test(test_direct_io_setting),
        cmocka_unit_test(test_no_permission),   cmocka_unit_test(test_no_fallocate),
        cmocka_unit_test(test_uring_forbidden), cmocka_unit_test(test_uring_forbidden_later),
    };

    return cmocka_run_group_tests_name("env open", tests, NULL, NULL);
}
