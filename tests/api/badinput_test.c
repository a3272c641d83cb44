/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wrong arguments and wrong directories: each gets its code and a message, loses nothing, and stops nobody. This program is linked with
 * the library's internals for one purpose: to write headers of a newer format whose checksums hold.
 */
#include "api_util.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/wire.h"
#include "format/format.h"

#define NOBODY 65534

static const char *const settings[] = {"capacity=16M", NULL};

/* A directory that holds a closed store with a chain of 20 pages of 1,000 bytes. */
static void
make_store(char *path)
{
    varve_store *store;

    scratch_create(path);
    store = store_open_with(path, settings);
    chain_put(store, namespace_get(store, "test"), 1, 20, 1000);
    store_close(store);
}

static void
file_path(const char *dir, const char *name, char *path)
{
    (void)snprintf(path, 2 * PATH_BYTES, "%s/%s", dir, name);
}

static void
write_file(const char *dir, const char *name, const char *text)
{
    char path[2 * PATH_BYTES];
    FILE *file;

    file_path(dir, name, path);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void
test_wrong_directories(void **state)
{
    static const char *const no_create[] = {"create=off", NULL};
    char path[PATH_BYTES], below[2 * PATH_BYTES];
    varve_error err;

    (void)state;
    scratch_create(path);
    file_path(path, "absent", below);
    assert_int_equal(store_open_fails(below, no_create, &err), VARVE_E_NOSTORE);
    file_path(path, "absent/below", below);
    assert_int_equal(store_open_fails(below, NULL, &err), VARVE_E_NOSTORE);
    write_file(path, "notes.txt", "not a store\n");
    assert_int_equal(store_open_fails(path, NULL, &err), VARVE_E_NOSTORE);
    file_path(path, "notes.txt", below);
    assert_int_equal(store_open_fails(below, NULL, &err), VARVE_E_ARG);
    file_path(path, "notes.txt/below", below);
    (void)store_open_fails(below, NULL, &err);
    file_path(path, "notes.txt", below);
    assert_int_equal(unlink(below), 0);
    assert_int_equal(store_open_fails(path, no_create, &err), VARVE_E_NOSTORE);
    assert_int_equal(store_open_fails("", NULL, &err), VARVE_E_ARG);
    assert_int_equal(varve_open(NULL, NULL, NULL, &err), VARVE_E_ARG);
    scratch_remove(path);
}

static void
test_in_use(void **state)
{
    static const char *const alone[] = {"share=off", NULL};
    varve_options *options = options_from(alone);
    char path[PATH_BYTES];
    varve_store *store;
    varve_error err;
    pid_t child;
    int status;

    (void)state;
    make_store(path);
    child = fork(); /* before this process opens it: a store does not survive a fork */
    if (child == 0) {
        varve_store *own;

        for (int tries = 0; tries < 1000; tries++) {
            int rc = varve_open(path, options, &own, &err);

            if (rc == VARVE_E_LOCKED)
                _exit(strstr(err.message, "in use") != NULL ? 0 : 2);
            if (rc != VARVE_OK || varve_close(own, NULL) != VARVE_OK)
                _exit(3);
            (void)usleep(1000);
        }
        _exit(1);
    }
    while (varve_open(path, options, &store, &err) == VARVE_E_LOCKED)
        (void)usleep(500);
    assert_int_equal(store_open_fails(path, alone, &err), VARVE_E_LOCKED); /* in the same process, too */
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 0);
    chain_get(store, namespace_get(store, "test"), 1, 20, 1000);
    store_close(store);
    varve_options_destroy(options);
    scratch_remove(path);
}

/* Give up privileges, where there are any, and open a store that may only be read. Exit code 0: refused as it should be. */
static int
open_without_permission(const char *path)
{
    varve_store *store = NULL;
    varve_error err = {0};

    if (geteuid() == 0 && (setgid(NOBODY) != 0 || setuid(NOBODY) != 0))
        return 77;
    if (access(path, R_OK | X_OK) != 0)
        return 77; /* some directory above is private */
    if (varve_open(path, NULL, &store, &err) != VARVE_E_READONLY)
        return 1;
    return strlen(err.message) > 10 ? 0 : 2;
}

static void
test_read_only_directory(void **state)
{
    char path[PATH_BYTES];
    int status;
    pid_t child;

    (void)state;
    make_store(path);
    if (geteuid() == 0)
        assert_int_equal(chown(path, NOBODY, NOBODY), 0);
    assert_int_equal(chmod(path, 0500), 0);
    child = fork();
    if (child == 0)
        _exit(open_without_permission(path));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(chmod(path, 0700), 0);
    scratch_remove(path);
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Patch a little-endian 16-bit version at `at`, and the checksum at `sum_at` of the bytes before it. */
static void
make_newer(const char *dir, const char *suffix, size_t at, size_t sum_at, bool sum_covers_itself)
{
    static uint8_t buf[4096];
    char path[2 * PATH_BYTES] = "";
    DIR *entries = opendir(dir);
    const struct dirent *entry;
    off_t from = 0;
    int fd;

    assert_non_null(entries);
    while ((entry = readdir(entries)) != NULL) {
        if (strstr(entry->d_name, suffix) != NULL)
            file_path(dir, entry->d_name, path);
    }
    (void)closedir(entries);
    fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    if (sum_covers_itself) /* the footer of a run */
        from = lseek(fd, 0, SEEK_END) - (off_t)sizeof(buf);
    assert_true(pread(fd, buf, sizeof(buf), from) >= 64);
    wire_put16(buf + at, FORMAT_VERSION + 1);
    if (sum_covers_itself) {
        wire_put64(buf + sum_at, 0);
        wire_put64(buf + sum_at, hash_bytes(buf, sizeof(buf)));
        assert_int_equal(pwrite(fd, buf, sizeof(buf), from), sizeof(buf));
    } else {
        wire_put64(buf + sum_at, hash_bytes(buf, sum_at));
        assert_int_equal(pwrite(fd, buf, sum_at + 8, 0), sum_at + 8);
    }
    (void)close(fd);
}

static void
test_newer_version(void **state)
{
    static const struct {
        const char *suffix;
        size_t at, sum_at;
        bool footer;
    } files[] = {{".manifest", 4, 56, false}, {".run", 16, 8, true}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        char path[PATH_BYTES];
        varve_error err;

        make_store(path);
        make_newer(path, files[i].suffix, files[i].at, files[i].sum_at, files[i].footer);
        assert_int_equal(store_open_fails(path, NULL, &err), VARVE_E_VERSION);
        assert_non_null(strstr(err.message, "upgrade"));
        scratch_remove(path);
    }
}

static void
test_capacity_too_small(void **state)
{
    static const char *const tiny[] = {"capacity=1M", NULL};
    static const char *const least[] = {"capacity=4M", NULL};
    varve_options *options = varve_options_create();
    char path[PATH_BYTES];
    struct batch batch;
    varve_store *store;
    varve_namespace *ns;
    varve_error err = {0};

    (void)state;
    scratch_create(path);
    if (varve_options_set(options, "capacity", "1M", &err) == VARVE_OK)
        (void)store_open_fails(path, tiny, &err);
    else
        assert_non_null(strstr(err.message, "capacity"));
    varve_options_destroy(options);
    store = store_open_with(path, least);
    ns = namespace_get(store, "test");
    batch_init(&batch, 1, 0, 3, 3 << 20, 0); /* more than half of the capacity */
    batch.iov[0].iov_len = 1000;
    batch.iov[2].iov_len = 2000;
    batch_fill(&batch);
    assert_int_equal(varve_put_batch(store, ns, NULL, batch.pages, 3, 0, &err), VARVE_OK);
    assert_int_equal(batch.pages[0].status, VARVE_OK);
    assert_int_equal(batch.pages[1].status, VARVE_E_NOSPC);
    assert_int_equal(batch.pages[2].status, VARVE_OK);
    batch_free(&batch);
    for (size_t chain = 2; chain < 50; chain++) /* and it goes on within its limit */
        chain_put(store, ns, chain, 16, 16384);
    chain_get(store, ns, 49, 16, 16384);
    assert_true(stat_value(store, "disk_bytes") <= 4u << 20);
    check_clean(store);
    store_close(store);
    scratch_remove(path);
}

/* Calls whose arguments are wrong: VARVE_E_ARG, nothing attempted. */
static void
test_arguments(void **state)
{
    char path[PATH_BYTES], name[VARVE_NAMESPACE_NAME_MAX + 2];
    varve_namespace_attributes attributes = VARVE_NAMESPACE_ATTRIBUTES_INIT;
    varve_check_report report = VARVE_CHECK_REPORT_INIT;
    varve_item item = VARVE_ITEM_INIT;
    varve_namespace *ns, *foreign;
    varve_store *store, *other;
    char other_path[PATH_BYTES];
    varve_iter *iter;
    varve_page page = {.id = page_id(1, 0)};
    varve_error err;
    uint8_t exists;

    (void)state;
    make_store(path);
    make_store(other_path);
    store = store_open_with(path, settings);
    other = store_open_with(other_path, settings);
    ns = namespace_get(store, "test");
    foreign = namespace_get(other, "test");
#define REFUSED(call)                                                                                                  \
    do {                                                                                                               \
        err = (varve_error){0};                                                                                        \
        assert_int_equal(call, VARVE_E_ARG);                                                                           \
        assert_true(strlen(err.message) > 10);                                                                         \
    } while (0)
    REFUSED(varve_put_batch(NULL, ns, NULL, &page, 1, 0, &err));
    REFUSED(varve_put_batch(store, NULL, NULL, &page, 1, 0, &err));
    REFUSED(varve_put_batch(store, foreign, NULL, &page, 1, 0, &err));
    REFUSED(varve_put_batch(store, ns, NULL, NULL, 1, 0, &err));
    REFUSED(varve_put_batch(store, ns, NULL, &page, 0, 0, &err));
    REFUSED(varve_put_batch(store, ns, NULL, &page, SIZE_MAX, 0, &err));
    REFUSED(varve_put_batch(store, ns, NULL, &page, 1, 0xf0, &err));
    REFUSED(varve_get_batch(NULL, ns, &page, 1, &err));
    REFUSED(varve_get_batch(store, foreign, &page, 1, &err));
    REFUSED(varve_get_batch(store, ns, NULL, 1, &err));
    REFUSED(varve_get_batch(store, ns, &page, SIZE_MAX, &err));
    REFUSED(varve_probe(store, ns, NULL, 1, NULL, &err));
    REFUSED(varve_probe(store, ns, &page.id, SIZE_MAX, NULL, &err));
    REFUSED(varve_probe(NULL, NULL, &page.id, 1, NULL, &err));
    REFUSED(varve_exists_batch(store, ns, &page.id, 1, NULL, &err));
    REFUSED(varve_exists_batch(store, foreign, &page.id, 1, &exists, &err));
    REFUSED(varve_touch(store, NULL, &page.id, 1, &err));
    REFUSED(varve_remove_batch(store, ns, NULL, 1, &err));
    REFUSED(varve_namespace_open(store, "", NULL, &ns, &err));
    memset(name, 'n', sizeof(name));
    name[VARVE_NAMESPACE_NAME_MAX + 1] = '\0';
    REFUSED(varve_namespace_open(store, name, NULL, &ns, &err));
    REFUSED(varve_namespace_open(store, NULL, NULL, &ns, &err));
    attributes.struct_size = 0;
    REFUSED(varve_namespace_open(store, "n", &attributes, &ns, &err));
    attributes = (varve_namespace_attributes)VARVE_NAMESPACE_ATTRIBUTES_INIT;
    attributes.element_type = 99;
    REFUSED(varve_namespace_open(store, "n", &attributes, &ns, &err));
    REFUSED(varve_namespace_clear(store, NULL, &err));
    REFUSED(varve_namespace_clear(store, foreign, &err));
    REFUSED(varve_iter_open(store, foreign, VARVE_ITER_PAGES, &iter, &err));
    REFUSED(varve_iter_open(store, NULL, (enum varve_iter_kind)9, &iter, &err));
    REFUSED(varve_iter_next(NULL, &item, &err));
    REFUSED(varve_sync(NULL, &err));
    REFUSED(varve_option_set(store, "io_engine", "threads", &err));
    REFUSED(varve_option_set(store, NULL, "x", &err));
    REFUSED(varve_check(NULL, 0, NULL, NULL, NULL, &report, &err));
#undef REFUSED
    varve_iter_close(NULL);
    assert_int_equal(varve_close(NULL, &err), VARVE_OK);
    name[VARVE_NAMESPACE_NAME_MAX] = '\0'; /* the longest */
    ns = namespace_get(store, name);
    chain_put(store, ns, 7, 3, 100);
    check_clean(store);
    store_close(store);
    store = store_open_with(path, settings);
    chain_get(store, namespace_get(store, name), 7, 3, 100);
    chain_get(store, namespace_get(store, "test"), 1, 20, 1000);
    store_close(store);
    store_close(other);
    scratch_remove(path);
    scratch_remove(other_path);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_directories),   cmocka_unit_test(test_in_use),
        cmocka_unit_test(test_read_only_directory), cmocka_unit_test(test_newer_version),
        cmocka_unit_test(test_capacity_too_small),  cmocka_unit_test(test_arguments),
    };

    scratch_require((uint64_t)64 << 20);
    return cmocka_run_group_tests_name("badinput", tests, NULL, NULL);
}
