/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coded pages through the public API: what comes back is what was put, whatever the option said in between; sizes are those of the pages as put; and
 * damage is a miss.
 */
#include "api_util.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_MAX    ((size_t)200000)
#define CHAINS      24
#define CHAIN_PAGES 12
#define ROOM        (PAGE_MAX + 16) /* a page, and bytes that must stay as they are */
#define THREADS     4

static const char *const settings_on[] = {"capacity=256M", "segment_bytes=2M", "codec=on", "codec_threads=3", NULL};

/* Bytes that look like bf16: signs, mantissas and the low bits of exponents are noise. Every fourth chain is noise altogether. */
static void
tensor_fill(uint64_t chain, const varve_id *id, uint8_t *bytes, size_t size)
{
    uint64_t rng;

    memcpy(&rng, id->bytes, sizeof(rng));
    for (size_t i = 0; i < size; i++) {
        uint8_t noise = (uint8_t)(rng_next(&rng) >> 32);

        bytes[i] = i % 2 == 0 || chain % 4 == 3 ? noise : (uint8_t)((noise & 0x83) | 0x3c);
    }
}

static size_t
tensor_size(uint64_t chain, uint64_t index)
{
    static const size_t sizes[] = {0, 1, 2, 3, 511, 4096, 65536, 131072, 131074, 140001, PAGE_MAX};

    return chain % 2 == 0 ? 65536 : sizes[(chain * 7 + index * 3) % (sizeof(sizes) / sizeof(sizes[0]))];
}

static varve_namespace *
open_tensors(varve_store *store, const char *name, enum varve_element element)
{
    varve_namespace_attributes attributes = VARVE_NAMESPACE_ATTRIBUTES_INIT;
    varve_namespace *ns = NULL;

    attributes.element_type = (uint32_t)element;
    assert_int_equal(varve_namespace_open(store, name, &attributes, &ns, NULL), VARVE_OK);
    return ns;
}

/* Pages of one chain, each in three buffers of odd lengths and addresses. */
struct tensors {
    uint8_t *memory;
    struct iovec iov[CHAIN_PAGES][3];
    varve_page pages[CHAIN_PAGES];
};

static void
tensors_init(struct tensors *tensors, uint64_t chain, size_t extra)
{
    tensors->memory = malloc(CHAIN_PAGES * ROOM);
    assert_non_null(tensors->memory);
    memset(tensors->memory, 0xee, CHAIN_PAGES * ROOM);
    for (size_t i = 0; i < CHAIN_PAGES; i++) {
        size_t size = tensor_size(chain, i) + extra, first = size / 3, second = size / 2;
        uint8_t *at = tensors->memory + i * ROOM;

        tensors->iov[i][0] = (struct iovec){at, first};
        tensors->iov[i][1] = (struct iovec){at + first, second - first};
        tensors->iov[i][2] = (struct iovec){at + second, size - second};
        tensors->pages[i] = (varve_page){.id = page_id(chain, i), .iov = tensors->iov[i], .iov_count = 3};
    }
}

static void
put_tensors(varve_store *store, varve_namespace *ns, uint64_t chain)
{
    struct tensors tensors;

    tensors_init(&tensors, chain, 0);
    for (size_t i = 0; i < CHAIN_PAGES; i++)
        tensor_fill(chain, &tensors.pages[i].id, tensors.memory + i * ROOM, tensor_size(chain, i));
    assert_int_equal(varve_put_batch(store, ns, NULL, tensors.pages, CHAIN_PAGES, 0, NULL), VARVE_OK);
    for (size_t i = 0; i < CHAIN_PAGES; i++)
        assert_int_equal(tensors.pages[i].status, VARVE_OK);
    free(tensors.memory);
}

/* Pages that are right; the others must be misses, and those that are right leave the rest of the buffers alone. */
static size_t
get_tensors(varve_store *store, varve_namespace *ns, uint64_t chain)
{
    uint8_t *wanted = malloc(ROOM);
    struct tensors tensors;
    size_t right = 0;

    tensors_init(&tensors, chain, 16);
    assert_non_null(wanted);
    assert_int_equal(varve_get_batch(store, ns, tensors.pages, CHAIN_PAGES, NULL), VARVE_OK);
    for (size_t i = 0; i < CHAIN_PAGES; i++) {
        size_t size = tensor_size(chain, i);

        if (tensors.pages[i].status == VARVE_MISS)
            continue;
        assert_int_equal(tensors.pages[i].status, VARVE_OK);
        assert_int_equal(tensors.pages[i].size, size);
        memset(wanted, 0xee, ROOM);
        tensor_fill(chain, &tensors.pages[i].id, wanted, size);
        if (memcmp(wanted, tensors.memory + i * ROOM, size + 16) != 0)
            fail_msg("page %zu of chain %llu has other bytes", i, (unsigned long long)chain);
        right++;
    }
    free(wanted);
    free(tensors.memory);
    return right;
}

static void
test_what_was_put_comes_back(void **state)
{
    static const char *const codecs[] = {"on", "off", "auto"};
    struct fixture *fixture = fixture_create(settings_on);
    uint64_t rng = rng_seed(1);
    bool put[CHAINS] = {false};
    varve_namespace *ns = open_tensors(fixture->store, "tensors", VARVE_ELEMENT_BF16);

    (void)state;
    for (int step = 0; step < 150; step++) {
        uint64_t chain = rng_below(&rng, CHAINS);

        if (rng_below(&rng, 8) == 0)
            assert_int_equal(varve_option_set(fixture->store, "codec", codecs[rng_below(&rng, 3)], NULL), VARVE_OK);
        if (rng_below(&rng, 40) == 0) {
            fixture_reopen(fixture, settings_on);
            ns = open_tensors(fixture->store, "tensors", VARVE_ELEMENT_BF16);
        }
        if (rng_below(&rng, 2) == 0) {
            put_tensors(fixture->store, ns, chain);
            put[chain] = true;
        }
        assert_int_equal(get_tensors(fixture->store, ns, chain), put[chain] ? CHAIN_PAGES : 0);
    }
    fixture_destroy(fixture);
}

static void
test_statistics_and_sizes(void **state)
{
    struct fixture *fixture = fixture_create(settings_on);
    varve_namespace *ns = open_tensors(fixture->store, "tensors", VARVE_ELEMENT_BF16);
    varve_estimate estimate = VARVE_ESTIMATE_INIT;
    uint64_t prefix_bytes[CHAIN_PAGES], put, stored;
    varve_id ids[CHAIN_PAGES];
    struct tensors small;

    (void)state;
    put_tensors(fixture->store, ns, 2);
    put_tensors(fixture->store, ns, 3); /* noise */
    put = stat_value(fixture->store, "codec_put_bytes");
    stored = stat_value(fixture->store, "codec_put_stored_bytes");
    assert_int_equal(put, (uint64_t)CHAIN_PAGES * 65536);
    assert_true(stored * 135 < put * 100);
    assert_int_equal(stat_value(fixture->store, "codec_extents"), 1);
    assert_int_equal(stat_value(fixture->store, "codec_left_out_saving"), 1);
    assert_int_equal(stat_value(fixture->store, "codec_ratio_percent"), put * 100 / stored);

    /* What a probe promises is what must be read. */
    for (size_t i = 0; i < CHAIN_PAGES; i++)
        ids[i] = page_id(2, i);
    estimate.prefix_bytes = prefix_bytes;
    assert_int_equal(varve_probe(fixture->store, ns, ids, CHAIN_PAGES, &estimate, NULL), CHAIN_PAGES);
    assert_int_equal(prefix_bytes[CHAIN_PAGES - 1], stored);

    /* Buffers that are large enough for the stored bytes, but not for the page; none at all. */
    tensors_init(&small, 2, 0);
    small.iov[0][2].iov_len -= 1;
    small.pages[1].iov_count = 0;
    assert_int_equal(varve_get_batch(fixture->store, ns, small.pages, CHAIN_PAGES, NULL), VARVE_OK);
    for (size_t i = 0; i < CHAIN_PAGES; i++) {
        assert_int_equal(small.pages[i].status, i < 2 ? VARVE_E_ARG : VARVE_OK);
        assert_int_equal(small.pages[i].size, 65536);
    }
    free(small.memory);
    assert_int_equal(stat_value(fixture->store, "codec_get_pages"), CHAIN_PAGES - 2);
    assert_int_equal(stat_value(fixture->store, "get_bytes"), (CHAIN_PAGES - 2) * 65536);

    /* Off, and where nobody says that the bytes are floats. */
    assert_int_equal(varve_option_set(fixture->store, "codec", "off", NULL), VARVE_OK);
    put_tensors(fixture->store, ns, 4);
    assert_int_equal(stat_value(fixture->store, "codec_left_out_option"), 1);
    assert_int_equal(varve_option_set(fixture->store, "codec", "on", NULL), VARVE_OK);
    put_tensors(fixture->store, fixture->ns, 6);
    assert_int_equal(stat_value(fixture->store, "codec_extents"), 1);
    assert_int_equal(get_tensors(fixture->store, fixture->ns, 6), CHAIN_PAGES);
    fixture_destroy(fixture);
}

/* auto codes nothing before a get has shown how fast the device is; then what it does depends on the machine, but what comes back does not. */
static void
test_auto_measures_first(void **state)
{
    static const char *const settings[] = {"capacity=256M", "segment_bytes=16M", NULL};
    struct fixture *fixture = fixture_create(settings);
    varve_namespace *ns = open_tensors(fixture->store, "tensors", VARVE_ELEMENT_BF16);
    struct batch batch;

    (void)state;
    put_tensors(fixture->store, ns, 2);
    assert_int_equal(stat_value(fixture->store, "codec_left_out_unmeasured"), 1);
    batch_init(&batch, 100, 0, 32, 65536, 0);
    batch_fill(&batch);
    batch_put(fixture->store, fixture->ns, NULL, &batch);
    batch_get(fixture->store, fixture->ns, &batch);
    batch_free(&batch);
    for (uint64_t chain = 4; chain < 40; chain += 2)
        put_tensors(fixture->store, ns, chain);
    for (uint64_t chain = 2; chain < 40; chain += 2)
        assert_int_equal(get_tensors(fixture->store, ns, chain), CHAIN_PAGES);
    fixture_destroy(fixture);
}

/* Flip a bit in the middle of each 4 KiB of payload of every segment. */
static void
damage_segments(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        char name[2 * PATH_BYTES];
        struct stat status;
        int fd;

        if (strstr(entry->d_name, ".seg") == NULL)
            continue;
        (void)snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        fd = open(name, O_RDWR);
        assert_true(fd >= 0 && fstat(fd, &status) == 0);
        for (off_t at = 8192 + 2048; at < status.st_size; at += 4096) {
            uint8_t byte;

            assert_int_equal(pread(fd, &byte, 1, at), 1);
            byte ^= 0x10;
            assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        }
        (void)close(fd);
    }
    (void)closedir(dir);
}

static void
test_damage_is_a_miss(void **state)
{
    struct fixture *fixture = fixture_create(settings_on);
    varve_namespace *ns = open_tensors(fixture->store, "tensors", VARVE_ELEMENT_BF16);

    (void)state;
    put_tensors(fixture->store, ns, 2);
    store_close(fixture->store);
    damage_segments(fixture->path);
    fixture->store = store_open_with(fixture->path, settings_on);
    ns = open_tensors(fixture->store, "tensors", VARVE_ELEMENT_BF16);
    assert_int_equal(get_tensors(fixture->store, ns, 2), 0);
    assert_int_equal(stat_value(fixture->store, "get_corrupt"), CHAIN_PAGES);
    put_tensors(fixture->store, ns, 2); /* they were forgotten */
    assert_int_equal(stat_value(fixture->store, "put_pages"), CHAIN_PAGES);
    assert_int_equal(get_tensors(fixture->store, ns, 2), CHAIN_PAGES);
    fixture_destroy(fixture);
}

struct worker {
    varve_store *store;
    varve_namespace *ns;
    uint64_t number;
    pthread_t thread;
};

static void *
worker_main(void *arg)
{
    struct worker *worker = arg;

    for (uint64_t i = 0; i < 12; i++) {
        uint64_t chain = worker->number * 100 + i;

        put_tensors(worker->store, worker->ns, chain);
        put_tensors(worker->store, worker->ns, 1000 + i); /* the same for all */
        assert_int_equal(get_tensors(worker->store, worker->ns, chain), CHAIN_PAGES);
        assert_int_equal(get_tensors(worker->store, worker->ns, 1000 + i), CHAIN_PAGES);
        assert_int_equal(varve_option_set(worker->store, "codec", (i + worker->number) % 4 == 0 ? "off" : "on", NULL),
                         VARVE_OK);
    }
    return NULL;
}

static void
test_threads(void **state)
{
    struct fixture *fixture = fixture_create(settings_on);
    varve_namespace *ns = open_tensors(fixture->store, "tensors", VARVE_ELEMENT_BF16);
    struct worker workers[THREADS];

    (void)state;
    for (uint64_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.store = fixture->store, .ns = ns, .number = i + 1};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]), 0);
    }
    for (uint64_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    assert_true(stat_value(fixture->store, "codec_get_pages") > 0);
    fixture_destroy(fixture);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_put_comes_back),
        cmocka_unit_test(test_statistics_and_sizes),
        cmocka_unit_test(test_auto_measures_first),
        cmocka_unit_test(test_damage_is_a_miss),
        cmocka_unit_test(test_threads),
    };

    scratch_require((uint64_t)300 << 20);
    return cmocka_run_group_tests_name("coded", tests, NULL, NULL);
}
