/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between one owner and the next: what must not be lost, or written over, whichever of the processes notices first. Owners and peers are in one process, on a real
 * directory.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/options.h"
#include "directory.h"
#include "format/format.h"
#include "peer/role.h"
#include "varve.h"

#define PATH_BYTES 512
#define PAGES      16
#define PAGE_SIZE  65536
#define FILES_MAX  64

static char path[PATH_BYTES];

static int
set_up(void **state)
{
    const char *base = getenv("VARVE_TEST_DIR");

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/takeover.XXXXXX", base == NULL ? "/tmp" : base);
    assert_non_null(mkdtemp(path));
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    assert_int_equal(directory_delete(path), 0);
    return 0;
}

static varve_store *
open_store(bool share)
{
    static const struct env_settings settings = {
        .io_engine = "auto", .direct_io = "auto", .queue_depth = 32, .io_threads = 4, .create_dir = true};
    varve_options options;
    varve_store *store = NULL;
    varve_error err = {0};
    struct env *env;

    options_init(&options);
    options.capacity = UINT64_C(24) << 20;
    options.segment_bytes = UINT64_C(1) << 20;
    options.share = share;
    assert_int_equal(env_open_posix(path, &settings, &env, &err), VARVE_OK);
    if (role_open(env, &options, &store, &err) != VARVE_OK)
        fail_msg("%s", err.message);
    return store;
}

static varve_namespace *
namespace_get(varve_store *store, const char *name)
{
    varve_namespace *ns;

    assert_int_equal(varve_namespace_open(store, name, NULL, &ns, NULL), VARVE_OK);
    return ns;
}

/* Put a chain: pages that are stored. */
static size_t
put(varve_store *store, varve_namespace *ns, uint8_t chain)
{
    static uint8_t memory[PAGES * PAGE_SIZE] __attribute__((aligned(4096)));
    struct iovec iov[PAGES];
    varve_page pages[PAGES];
    size_t stored = 0;

    memset(memory, chain, sizeof(memory));
    for (size_t i = 0; i < PAGES; i++) {
        iov[i] = (struct iovec){memory + i * PAGE_SIZE, PAGE_SIZE};
        pages[i] = (varve_page){.id = {{chain, (uint8_t)i, 1}}, .iov = &iov[i], .iov_count = 1};
    }
    assert_int_equal(varve_put_batch(store, ns, NULL, pages, PAGES, 0, NULL), VARVE_OK);
    for (size_t i = 0; i < PAGES; i++)
        stored += pages[i].status == VARVE_OK;
    return stored;
}

/* Segments as a peer has them: open, under the names they had then. */
struct opened {
    int fds[FILES_MAX];
    char names[FILES_MAX][PATH_BYTES];
    size_t count;
};

static void
name_of(int fd, char name[PATH_BYTES])
{
    char link[64];
    ssize_t size;

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    size = readlink(link, name, PATH_BYTES - 1);
    assert_true(size > 0);
    name[size] = '\0';
}

static void
open_segments(struct opened *opened)
{
    DIR *directory = opendir(path);

    assert_non_null(directory);
    opened->count = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        int fd;

        if (strstr(entry->d_name, ".seg") == NULL)
            continue;
        assert_true(opened->count < FILES_MAX);
        fd = openat(dirfd(directory), entry->d_name, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        name_of(fd, opened->names[opened->count]);
        opened->fds[opened->count++] = fd;
    }
    (void)closedir(directory);
}

/* How many were dropped: these are empty, and the others are what they were. */
static size_t
close_segments(struct opened *opened)
{
    size_t dropped = 0;

    for (size_t i = 0; i < opened->count; i++) {
        char name[PATH_BYTES];
        struct stat about;

        assert_int_equal(fstat(opened->fds[i], &about), 0);
        name_of(opened->fds[i], name);
        if (about.st_nlink == 0)
            assert_int_equal(about.st_size, 0);
        else
            assert_string_equal(name, opened->names[i]);
        dropped += about.st_nlink == 0;
        (void)close(opened->fds[i]);
    }
    return dropped;
}

/* A peer that is stopped may still write to files of the owner before. An owner that shares with nobody does not write over them either. */
static void
test_alone_beside_writer(void **state)
{
    varve_check_report report = VARVE_CHECK_REPORT_INIT;
    varve_store *owner = open_store(true), *peer = open_store(true);
    char name[PATH_BYTES + 16];
    struct opened opened;
    int writers;

    (void)state;
    for (uint8_t chain = 1; chain < 20; chain++)
        assert_int_equal(put(peer, namespace_get(peer, "test"), chain), PAGES);
    assert_int_equal(varve_close(peer, NULL), VARVE_OK);
    assert_int_equal(varve_close(owner, NULL), VARVE_OK);
    open_segments(&opened);
    (void)snprintf(name, sizeof(name), "%s/%s", path, FORMAT_WRITERS_NAME);
    writers = open(name, O_RDWR | O_CLOEXEC);
    assert_true(writers >= 0);
    assert_int_equal(flock(writers, LOCK_SH), 0);
    owner = open_store(false);
    for (uint8_t chain = 100; chain < 150; chain++)
        (void)put(owner, namespace_get(owner, "test"), chain);
    assert_int_equal(varve_check(owner, VARVE_CHECK_DEEP, NULL, NULL, NULL, &report, NULL), VARVE_OK);
    assert_int_equal(report.problems, 0);
    assert_int_equal(varve_close(owner, NULL), VARVE_OK);
    assert_true(close_segments(&opened) > 10);
    (void)close(writers);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_alone_beside_writer, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
