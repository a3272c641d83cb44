/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A closed store, and one that was killed, with a bit flipped, a file cut, or a file gone: opening it either fails with a code and a
 * message, or the store serves right bytes and misses only. And what was lost can be put again, and is then there.
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

#define CHAINS      12
#define CHAIN_PAGES 40
#define FILES_MAX   64

static const char *const settings[] = {"capacity=16M", "segment_bytes=512K", "memtable_bytes=256K", NULL};

enum damage { FLIP_BIT, ZERO_SECTOR, TRUNCATE, EXTEND, DELETE, DAMAGES };

struct files {
    char names[FILES_MAX][64];
    size_t count;
};

static size_t
chain_size(uint64_t chain)
{
    return chain * 450;
}

static void
put_chains(const char *path)
{
    varve_store *store = store_open_with(path, settings);
    varve_namespace *ns = namespace_get(store, "damage");

    for (uint64_t chain = 0; chain < CHAINS; chain++)
        chain_put(store, ns, chain, CHAIN_PAGES, chain_size(chain));
    for (uint64_t chain = 100; chain < 130; chain++) /* fills memtables, so that there are runs */
        chain_put(store, ns, chain, 700, 0);
    store_close(store);
}

/* As put_chains(), by a process that is killed then: open segments, an index that lacks the last pages. */
static void
put_and_die(const char *path)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        varve_store *store = store_open_with(path, settings);
        varve_namespace *ns = namespace_get(store, "damage");

        for (uint64_t chain = 0; chain < CHAINS; chain++)
            chain_put(store, ns, chain, CHAIN_PAGES, chain_size(chain));
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static struct files
list_files(const char *path)
{
    struct files files = {.count = 0};
    DIR *dir = opendir(path);
    const struct dirent *entry;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, "LOCK") == 0 || strcmp(entry->d_name, "SOCKET") == 0 ||
            strcmp(entry->d_name, "WRITERS") == 0)
            continue;
        assert_true(files.count < FILES_MAX);
        (void)snprintf(files.names[files.count++], sizeof(files.names[0]), "%.63s", entry->d_name);
    }
    (void)closedir(dir);
    return files;
}

/* Do one random damage to one random file; describes it. */
static void
damage_file(const char *path, const struct files *files, uint64_t *rng, char *what)
{
    static uint8_t zeros[512];
    const char *name = files->names[rng_below(rng, files->count)];
    enum damage damage = rng_below(rng, 3) > 0 ? FLIP_BIT : (enum damage)rng_below(rng, DAMAGES);
    char file_name[2 * PATH_BYTES];
    struct stat status;
    uint64_t at;
    int fd;

    (void)snprintf(file_name, sizeof(file_name), "%s/%s", path, name);
    fd = open(file_name, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &status), 0);
    at = status.st_size == 0 ? 0 : rng_below(rng, (uint64_t)status.st_size);
    if (rng_below(rng, 3) == 0 && status.st_size > 4096) /* headers are small, and worth more */
        at = rng_below(rng, 256) + (rng_below(rng, 2) == 0 ? 0 : (uint64_t)status.st_size - 4096);
    (void)snprintf(what, PATH_BYTES, "damage %d to %s at %llu", (int)damage, name, (unsigned long long)at);
    if (status.st_size == 0) { /* begun, and never written */
        assert_int_equal(ftruncate(fd, 1), 0);
    } else if (damage == FLIP_BIT) {
        uint8_t byte;

        assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
        byte = (uint8_t)(byte ^ 1u << rng_below(rng, 8));
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    } else if (damage == ZERO_SECTOR) {
        assert_int_equal(pwrite(fd, zeros, sizeof(zeros), (off_t)(at & ~511ull)), sizeof(zeros));
    } else if (damage == TRUNCATE || damage == EXTEND) {
        assert_int_equal(ftruncate(fd, (off_t)at + (damage == EXTEND ? status.st_size : 0)), 0);
    } else {
        assert_int_equal(unlink(file_name), 0);
    }
    (void)close(fd);
}

/* Look at everything, then put everything again and look once more. */
static void
use_store(varve_store *store, const char *what)
{
    varve_namespace *ns = namespace_get(store, "damage");
    size_t missing = 0;

    for (int pass = 0; pass < 2; pass++) {
        for (uint64_t chain = 0; chain < CHAINS; chain++) {
            struct batch batch;
            size_t right;

            batch_init(&batch, chain, 0, CHAIN_PAGES, chain_size(chain), 0);
            right = batch_get_some(store, ns, &batch);
            if (pass == 1 && right < CHAIN_PAGES)
                fail_msg("%s: %zu pages of chain %d could not be put again", what, CHAIN_PAGES - right, (int)chain);
            missing += CHAIN_PAGES - right;
            batch_put(store, ns, NULL, &batch);
            batch_free(&batch);
        }
    }
    if (missing > 0)
        print_message("%s: %zu pages were lost, and put again\n", what, missing);
}

/* The file that was damaged may stay so until its segment is dropped, and a check then says it; but it comes to its end. */
static void
check_runs(varve_store *store, const char *what)
{
    varve_check_report report = VARVE_CHECK_REPORT_INIT;
    varve_error err = {0};

    if (varve_check(store, VARVE_CHECK_DEEP, NULL, NULL, NULL, &report, &err) != VARVE_OK)
        fail_msg("%s: check: %s", what, err.message);
    assert_true(report.pages_verified >= (uint64_t)CHAINS * CHAIN_PAGES);
}

static void
damage_again_and_again(const char *original, int rounds, uint64_t rng)
{
    const struct files files = list_files(original);
    int refused = 0;

    for (int round = 0; round < rounds; round++) {
        varve_options *options = options_from(settings);
        char path[PATH_BYTES], what[PATH_BYTES] = "";
        varve_store *store = NULL;
        varve_error err = {0};
        int rc;

        scratch_create(path);
        scratch_copy(original, path);
        damage_file(path, &files, &rng, what);
        rc = varve_open(path, options, &store, &err);
        if (rc == VARVE_OK) {
            use_store(store, what);
            store_close(store);
            store = store_open_with(path, settings);
            check_runs(store, what);
            store_close(store);
        } else {
            refused++;
            if ((rc != VARVE_E_CORRUPT && rc != VARVE_E_NOSTORE) || strlen(err.message) < 10)
                fail_msg("%s: %d %s", what, rc, err.message);
        }
        varve_options_destroy(options);
        scratch_remove(path);
    }
    print_message("%d of %d damaged stores were refused\n", refused, rounds);
    assert_true(refused < rounds / 2);
}

static void
test_closed_store(void **state)
{
    char path[PATH_BYTES];

    (void)state;
    scratch_create(path);
    put_chains(path);
    damage_again_and_again(path, 120, rng_seed(31));
    scratch_remove(path);
}

static void
test_killed_store(void **state)
{
    char path[PATH_BYTES];

    (void)state;
    scratch_create(path);
    put_and_die(path);
    damage_again_and_again(path, 80, rng_seed(32));
    scratch_remove(path);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closed_store),
        cmocka_unit_test(test_killed_store),
    };

    scratch_require((uint64_t)128 << 20);
    return cmocka_run_group_tests_name("damage", tests, NULL, NULL);
}
