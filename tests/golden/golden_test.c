/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stores that earlier builds wrote, one set a format version: `golden_test DIR`, with DIR/NAME.tar.gz and DIR/NAME.pages for each image. This build
 * opens each, serves every listed page byte for byte, and nothing else, and so once more after a reopen. A store of a newer version is
 * refused and left as it is.
 */
#include "api_util.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xxhash.h>

#include "golden_pages.h"

#define FILE_BYTES  (1 << 20)
#define VERSION_NEW 999

static const char *const settings[] = {"capacity=16M", "memtable_bytes=256K", "block_cache_bytes=256K", NULL};
static const char *golden_dir;

/* A line of the list of an image. */
struct line {
    const char *kind, *ns; /* views into the text */
    uint32_t chain, first, count;
    size_t size;
};

static void
line_parse(char *text, struct line *line)
{
    const char *words[6];
    char *next = text;

    for (size_t i = 0; i < 6; i++) {
        words[i] = strtok_r(i == 0 ? text : NULL, " \n", &next);
        assert_non_null(words[i]);
    }
    *line = (struct line){.kind = words[0],
                          .ns = words[1],
                          .chain = (uint32_t)strtoul(words[2], NULL, 10),
                          .first = (uint32_t)strtoul(words[3], NULL, 10),
                          .count = (uint32_t)strtoul(words[4], NULL, 10),
                          .size = strtoul(words[5], NULL, 10)};
    assert_true(line->count > 0);
}

static void
unpack(const char *image, char *path)
{
    char archive[2 * PATH_BYTES];
    pid_t child;
    int status;

    scratch_create(path);
    (void)snprintf(archive, sizeof(archive), "%s/%s.tar.gz", golden_dir, image);
    child = fork();
    if (child == 0) {
        (void)execlp("tar", "tar", "-xzf", archive, "-C", path, "--strip-components=1", (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* Every page of the line is read right, or is not there. Returns how many are. */
static uint64_t
verify_line(varve_store *store, const char *image, const struct line *line)
{
    varve_namespace *ns = namespace_get(store, line->ns);
    varve_id *ids = calloc(GOLDEN_CHAIN_MAX, sizeof(*ids));
    uint8_t *bytes = malloc(line->size + 1), *wanted = malloc(line->size + 1);
    bool present = strcmp(line->kind, "present") == 0;

    assert_true(ids != NULL && bytes != NULL && wanted != NULL);
    golden_ids(line->chain, line->first + line->count, ids);
    for (uint32_t i = line->first; i < line->first + line->count; i++) {
        struct iovec iov = {bytes, line->size + 1};
        varve_page page = {.id = ids[i], .iov = &iov, .iov_count = 1};

        assert_int_equal(varve_get_batch(store, ns, &page, 1, NULL), VARVE_OK);
        if (page.status != (present ? VARVE_OK : VARVE_MISS))
            fail_msg("%s: page %u of chain %u in %s: status %d", image, i, line->chain, line->ns, page.status);
        golden_fill(&ids[i], wanted, line->size);
        if (present && (page.size != line->size || memcmp(bytes, wanted, line->size) != 0))
            fail_msg("%s: page %u of chain %u in %s has other bytes", image, i, line->chain, line->ns);
    }
    if (present && line->first == 0)
        assert_true(varve_probe(store, ns, ids, line->count, NULL, NULL) >= (int64_t)line->count);
    free(ids);
    free(bytes);
    free(wanted);
    return present ? line->count : 0;
}

/* What the iterator counts, one page after the other. */
static uint64_t
iterate(varve_store *store)
{
    varve_item item = VARVE_ITEM_INIT;
    varve_iter *iter = NULL;
    uint64_t count = 0;

    assert_int_equal(varve_iter_open(store, NULL, VARVE_ITER_PAGES, &iter, NULL), VARVE_OK);
    while (varve_iter_next(iter, &item, NULL) == VARVE_OK)
        count += item.namespace_name != NULL; /* of a namespace that is not cleared */
    varve_iter_close(iter);
    return count;
}

static void
verify_image(const char *image, const char *path)
{
    varve_store *store = store_open_with(path, settings);
    char name[2 * PATH_BYTES], text[256];
    uint64_t present = 0;
    struct line line;
    FILE *list;

    (void)snprintf(name, sizeof(name), "%s/%s.pages", golden_dir, image);
    list = fopen(name, "r");
    assert_non_null(list);
    while (fgets(text, sizeof(text), list) != NULL) {
        line_parse(text, &line);
        present += verify_line(store, image, &line);
    }
    (void)fclose(list);
    assert_true(present > 0);
    assert_int_equal(iterate(store), present);
    check_clean(store);
    store_close(store);
}

static void
test_images(void **state)
{
    DIR *dir = opendir(golden_dir);
    const struct dirent *entry;
    int images = 0;

    (void)state;
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        char path[PATH_BYTES], image[64];
        const char *end = strstr(entry->d_name, ".tar.gz");

        if (end == NULL)
            continue;
        (void)snprintf(image, sizeof(image), "%.*s", (int)(end - entry->d_name), entry->d_name);
        unpack(image, path);
        verify_image(image, path);
        verify_image(image, path);
        scratch_remove(path);
        images++;
    }
    (void)closedir(dir);
    assert_true(images >= 5);
}

/* A structure that says its version, and its checksum: of `covered` bytes, with zero in its own place. */
struct versioned {
    const char *image;
    const char *suffix;
    long from_end; /* else at the start of the file */
    long at;
    int version_at;
    size_t covered;
    int sum_at;
};

static size_t
read_whole(const char *path, const char *name, uint8_t *data)
{
    char file_name[2 * PATH_BYTES];
    size_t size;
    FILE *file;

    (void)snprintf(file_name, sizeof(file_name), "%s/%s", path, name);
    file = fopen(file_name, "rb");
    assert_non_null(file);
    size = fread(data, 1, FILE_BYTES, file);
    (void)fclose(file);
    assert_true(size < FILE_BYTES);
    return size;
}

/* A digest of all files of a store, but for LOCK, which names its last owner. */
static uint64_t
digest(const char *path)
{
    static uint8_t data[FILE_BYTES];
    DIR *dir = opendir(path);
    const struct dirent *entry;
    uint64_t sum = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, "LOCK") != 0)
            sum += XXH3_64bits_withSeed(data, read_whole(path, entry->d_name, data),
                                        XXH3_64bits(entry->d_name, strlen(entry->d_name)));
    }
    (void)closedir(dir);
    return sum;
}

/* Raise the version in the first file with the suffix, and make the checksum hold. */
static void
make_newer(const char *path, const struct versioned *what)
{
    static uint8_t data[FILE_BYTES];
    char name[2 * PATH_BYTES], found[64] = "";
    DIR *dir = opendir(path);
    const struct dirent *entry;
    uint8_t *structure;
    uint64_t sum;
    size_t size;
    FILE *file;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        if (strstr(entry->d_name, what->suffix) != NULL && (found[0] == '\0' || strcmp(entry->d_name, found) < 0))
            (void)snprintf(found, sizeof(found), "%.63s", entry->d_name);
    }
    (void)closedir(dir);
    size = read_whole(path, found, data);
    structure = what->from_end > 0 ? data + size - (size_t)what->from_end : data + what->at;
    assert_int_equal(structure[what->version_at + 1], 0);
    structure[what->version_at] = VERSION_NEW & 0xff;
    structure[what->version_at + 1] = VERSION_NEW >> 8;
    memset(structure + what->sum_at, 0, 8);
    sum = XXH3_64bits(structure, what->covered);
    memcpy(structure + what->sum_at, &sum, 8);
    (void)snprintf(name, sizeof(name), "%s/%s", path, found);
    file = fopen(name, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void
test_newer_version(void **state)
{
    static const struct versioned cases[] = {
        {"clean", ".manifest", 0, 0, 4, 56, 56},
        {"clean", ".run", 4096, 0, 16, 4096, 8},
        {"killed", ".seg", 0, 0, 4, 32, 32},
        {"killed", ".seg", 0, 4096, 4, 120, 120},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char path[PATH_BYTES];
        varve_error err;
        uint64_t before;

        unpack(cases[i].image, path);
        make_newer(path, &cases[i]);
        before = digest(path);
        assert_int_equal(store_open_fails(path, settings, &err), VARVE_E_VERSION);
        if (digest(path) != before)
            fail_msg("%s: the refused store is not as it was (%s)", cases[i].image, cases[i].suffix);
        scratch_remove(path);
    }
}

int
main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_images),
        cmocka_unit_test(test_newer_version),
    };

    if (argc != 2)
        return 2;
    golden_dir = argv[1];
    scratch_require((uint64_t)16 << 20);
    return cmocka_run_group_tests_name("golden", tests, NULL, NULL);
}
