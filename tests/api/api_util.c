/* SPDX-License-Identifier: Apache-2.0 */
#include "api_util.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define EXIT_SKIPPED 77
#define ALIGN        ((size_t)4096)

static const char *
scratch_root(void)
{
    const char *root = getenv("VARVE_TEST_DIR");

    if (root == NULL)
        root = getenv("TMPDIR");
    return root != NULL ? root : "/tmp";
}

void
scratch_require(uint64_t bytes)
{
    struct statvfs fs;

    if (statvfs(scratch_root(), &fs) != 0 || (uint64_t)fs.f_bavail * fs.f_frsize < bytes) {
        (void)printf("skipped: %s is not there, or has less than %" PRIu64 " MiB free\n", scratch_root(), bytes >> 20);
        exit(EXIT_SKIPPED);
    }
}

void
scratch_create(char *path)
{
    (void)snprintf(path, PATH_BYTES, "%s/varve-test-XXXXXX", scratch_root());
    assert_non_null(mkdtemp(path));
}

void
scratch_remove(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            assert_int_equal(unlinkat(dirfd(dir), entry->d_name, 0), 0);
    }
    (void)closedir(dir);
    assert_int_equal(rmdir(path), 0);
}

static void
copy_file(int from_dir, int to_dir, const char *name)
{
    static uint8_t buf[1 << 16];
    int from = openat(from_dir, name, O_RDONLY);
    int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t size;

    assert_true(from >= 0 && to >= 0);
    while ((size = read(from, buf, sizeof(buf))) > 0)
        assert_int_equal(write(to, buf, (size_t)size), size);
    assert_int_equal(size, 0);
    (void)close(from);
    (void)close(to);
}

void
scratch_copy(const char *from, const char *to)
{
    DIR *dir = opendir(from);
    int to_dir = open(to, O_RDONLY | O_DIRECTORY);
    const struct dirent *entry;

    assert_true(dir != NULL && to_dir >= 0);
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, "SOCKET") != 0)
            copy_file(dirfd(dir), to_dir, entry->d_name);
    }
    (void)closedir(dir);
    (void)close(to_dir);
}

varve_options *
options_from(const char *const *settings)
{
    varve_options *options = varve_options_create();

    assert_non_null(options);
    for (; settings != NULL && *settings != NULL; settings++) {
        char text[128], *value;
        varve_error err = {0};

        (void)snprintf(text, sizeof(text), "%s", *settings);
        value = strchr(text, '=');
        assert_non_null(value);
        *value++ = '\0';
        if (varve_options_set(options, text, value, &err) != VARVE_OK)
            fail_msg("%s: %s", *settings, err.message);
    }
    return options;
}

varve_store *
store_open_with(const char *path, const char *const *settings)
{
    varve_options *options = options_from(settings);
    varve_store *store = NULL;
    varve_error err = {0};
    int rc = varve_open(path, options, &store, &err);

    varve_options_destroy(options);
    if (rc != VARVE_OK)
        fail_msg("open %s: %d %s", path, rc, err.message);
    assert_non_null(store);
    return store;
}

int
store_open_fails(const char *path, const char *const *settings, varve_error *err)
{
    varve_options *options = options_from(settings);
    varve_store *store = NULL;
    int rc;

    *err = (varve_error){0};
    rc = varve_open(path, options, &store, err);
    varve_options_destroy(options);
    if (rc == VARVE_OK)
        (void)varve_close(store, NULL);
    assert_int_not_equal(rc, VARVE_OK);
    assert_int_equal(err->code, rc);
    assert_true(strlen(err->message) > 10);
    return rc;
}

void
store_close(varve_store *store)
{
    varve_error err = {0};

    if (varve_close(store, &err) != VARVE_OK)
        fail_msg("close: %s", err.message);
}

varve_namespace *
namespace_get(varve_store *store, const char *name)
{
    varve_namespace *ns = NULL;
    varve_error err = {0};

    if (varve_namespace_open(store, name, NULL, &ns, &err) != VARVE_OK)
        fail_msg("namespace %s: %s", name, err.message);
    assert_non_null(ns);
    return ns;
}

uint64_t
stat_value(varve_store *store, const char *name)
{
    uint64_t values[256];
    size_t count = varve_stats_get(store, values, 256);
    const varve_stat_desc *desc;

    assert_true(count <= 256);
    for (size_t i = 0; (desc = varve_stat_describe(i)) != NULL; i++) {
        if (strcmp(desc->name, name) == 0)
            return values[i];
    }
    fail_msg("no statistic %s", name);
    return 0;
}

static void
print_problem(void *arg, const char *text)
{
    (void)arg;
    print_error("check: %s\n", text);
}

void
check_clean(varve_store *store)
{
    varve_check_report report = VARVE_CHECK_REPORT_INIT;
    varve_error err = {0};

    if (varve_check(store, VARVE_CHECK_DEEP, print_problem, NULL, NULL, &report, &err) != VARVE_OK)
        fail_msg("check: %s", err.message);
    assert_int_equal(report.problems, 0);
}

struct fixture *
fixture_create(const char *const *settings)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    assert_non_null(fixture);
    scratch_create(fixture->path);
    fixture->store = store_open_with(fixture->path, settings);
    fixture->ns = namespace_get(fixture->store, "test");
    return fixture;
}

void
fixture_reopen(struct fixture *fixture, const char *const *settings)
{
    store_close(fixture->store);
    fixture->store = store_open_with(fixture->path, settings);
    fixture->ns = namespace_get(fixture->store, "test");
}

void
fixture_destroy(struct fixture *fixture)
{
    check_clean(fixture->store);
    store_close(fixture->store);
    scratch_remove(fixture->path);
    free(fixture);
}

uint64_t
rng_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t
rng_below(uint64_t *state, uint64_t bound)
{
    return rng_next(state) % bound;
}

uint64_t
rng_seed(uint64_t seed)
{
    const char *text = getenv("VARVE_TEST_SEED");

    if (text != NULL)
        seed = strtoull(text, NULL, 0);
    (void)printf("seed %" PRIu64 " (VARVE_TEST_SEED sets it)\n", seed);
    (void)fflush(stdout);
    return seed;
}

varve_id
page_id(uint64_t chain, uint64_t index)
{
    uint64_t state = chain * 1000003 + index;
    uint64_t words[VARVE_ID_BYTES / 8];
    varve_id id;

    for (size_t i = 0; i < VARVE_ID_BYTES / 8; i++)
        words[i] = rng_next(&state);
    memcpy(id.bytes, words, sizeof(id.bytes));
    return id;
}

void
page_fill(const varve_id *id, uint8_t *bytes, size_t size)
{
    uint64_t state, word;

    memcpy(&state, id->bytes, sizeof(state));
    for (size_t at = 0; at < size; at += sizeof(word)) {
        word = rng_next(&state);
        memcpy(bytes + at, &word, size - at < sizeof(word) ? size - at : sizeof(word));
    }
}

bool
page_right(const varve_id *id, const uint8_t *bytes, size_t size)
{
    uint64_t state, word;

    memcpy(&state, id->bytes, sizeof(state));
    for (size_t at = 0; at < size; at += sizeof(word)) {
        word = rng_next(&state);
        if (memcmp(bytes + at, &word, size - at < sizeof(word) ? size - at : sizeof(word)) != 0)
            return false;
    }
    return true;
}

void
batch_init_sizes(struct batch *batch, uint64_t chain, uint64_t first, size_t count, const size_t *sizes, size_t skew)
{
    size_t at = 0;

    *batch = (struct batch){.count = count};
    batch->pages = calloc(count, sizeof(batch->pages[0]));
    batch->iov = calloc(count, sizeof(batch->iov[0]));
    for (size_t i = 0; i < count; i++)
        batch->bytes_size += (sizes[i] + skew + ALIGN - 1) / ALIGN * ALIGN;
    batch->bytes_size += ALIGN;
    batch->bytes = aligned_alloc(ALIGN, batch->bytes_size);
    assert_true(batch->pages != NULL && batch->iov != NULL && batch->bytes != NULL);
    for (size_t i = 0; i < count; i++) {
        batch->iov[i] = (struct iovec){batch->bytes + at + skew, sizes[i]};
        batch->pages[i] = (varve_page){.id = page_id(chain, first + i), .iov = &batch->iov[i], .iov_count = 1};
        at += (sizes[i] + skew + ALIGN - 1) / ALIGN * ALIGN;
    }
}

void
batch_init(struct batch *batch, uint64_t chain, uint64_t first, size_t count, size_t size, size_t skew)
{
    size_t *sizes = calloc(count, sizeof(*sizes));

    assert_non_null(sizes);
    for (size_t i = 0; i < count; i++)
        sizes[i] = size;
    batch_init_sizes(batch, chain, first, count, sizes, skew);
    free(sizes);
}

void
batch_free(struct batch *batch)
{
    free(batch->pages);
    free(batch->iov);
    free(batch->bytes);
}

void
batch_fill(struct batch *batch)
{
    for (size_t i = 0; i < batch->count; i++)
        page_fill(&batch->pages[i].id, batch->iov[i].iov_base, batch->iov[i].iov_len);
}

void
batch_wipe(struct batch *batch)
{
    memset(batch->bytes, 0, batch->bytes_size);
}

void
batch_put(varve_store *store, varve_namespace *ns, const varve_id *parent, struct batch *batch)
{
    varve_error err = {0};

    batch_fill(batch);
    if (varve_put_batch(store, ns, parent, batch->pages, batch->count, 0, &err) != VARVE_OK)
        fail_msg("put: %s", err.message);
    for (size_t i = 0; i < batch->count; i++)
        assert_int_equal(batch->pages[i].status, VARVE_OK);
}

size_t
batch_get_some(varve_store *store, varve_namespace *ns, struct batch *batch)
{
    varve_error err = {0};
    size_t right = 0;

    batch_wipe(batch);
    if (varve_get_batch(store, ns, batch->pages, batch->count, &err) != VARVE_OK)
        fail_msg("get: %s", err.message);
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->pages[i].status == VARVE_MISS)
            continue;
        assert_int_equal(batch->pages[i].status, VARVE_OK);
        assert_int_equal(batch->pages[i].size, batch->iov[i].iov_len);
        assert_true(page_right(&batch->pages[i].id, batch->iov[i].iov_base, batch->iov[i].iov_len));
        right++;
    }
    return right;
}

void
batch_get(varve_store *store, varve_namespace *ns, struct batch *batch)
{
    assert_int_equal(batch_get_some(store, ns, batch), batch->count);
}

void
chain_put(varve_store *store, varve_namespace *ns, uint64_t chain, size_t count, size_t size)
{
    struct batch batch;

    batch_init(&batch, chain, 0, count, size, 0);
    batch_put(store, ns, NULL, &batch);
    batch_free(&batch);
}

void
chain_get(varve_store *store, varve_namespace *ns, uint64_t chain, size_t count, size_t size)
{
    struct batch batch;

    batch_init(&batch, chain, 0, count, size, 0);
    batch_get(store, ns, &batch);
    batch_free(&batch);
}

int64_t
chain_probe(varve_store *store, varve_namespace *ns, uint64_t chain, size_t count)
{
    varve_id *ids = calloc(count, sizeof(*ids));
    varve_error err = {0};
    int64_t found;

    assert_non_null(ids);
    for (size_t i = 0; i < count; i++)
        ids[i] = page_id(chain, i);
    found = varve_probe(store, ns, ids, count, NULL, &err);
    if (found < 0)
        fail_msg("probe: %s", err.message);
    free(ids);
    return found;
}
