/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scan of a segment against a model: files of extents and holes drawn from a printed seed, in which everything that looks like an extent and
 * is none has to be passed over: torn headers, headers of other places and other files, headers inside of payload.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "base/wire.h"
#include "format/format.h"
#include "log/extent_scan.h"
#include "plain_env.h"

#define FILE_BYTES_MAX ((size_t)4 << 20)
#define EXTENTS_MAX    1024
#define SALT           77
#define ROUNDS         150

static struct plain_env *env;
static struct io_queue_pool *pool;
static struct env_file *file;
static struct extent_scan *scan;
static uint8_t *image;
static uint64_t random_state;

struct place {
    uint64_t offset, bytes;
    uint32_t count;
};

static struct place expected[EXTENTS_MAX];
static size_t expected_count;

static uint64_t
draw(uint64_t limit)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (random_state >> 33) % limit;
}

/* A header, and garbage for payload. Returns the bytes of the extent, or 0 when it does not fit before `end`. */
static uint64_t
make_extent(uint64_t offset, uint64_t end, uint64_t salt, uint32_t count, uint32_t page_bytes)
{
    struct extent_header header = {
        .salt = salt, .offset = offset, .branch = 1, .ns_id = 1, .count = count, .align_shift = 9};
    uint8_t *at = image + offset;

    header.page_bytes = page_bytes;
    header.header_bytes = extent_header_size(count, true, header.align_shift);
    header.extent_bytes = log_pad(header.header_bytes + count * log_pad(page_bytes, header.align_shift), 12);
    if (header.extent_bytes > end - offset)
        return 0;
    memset(at, 0, header.header_bytes);
    for (uint64_t i = 0; i < (uint64_t)count * (VARVE_ID_BYTES + 8); i++)
        extent_table_ids(at)[i] = (uint8_t)draw(256);
    header.ids = extent_table_ids(at);
    header.sums = extent_table_sums(at, count);
    extent_header_encode(&header, at);
    for (uint64_t i = header.header_bytes; i < header.extent_bytes; i += 8)
        memset(at + i, (int)draw(256), 8);
    return header.extent_bytes;
}

/* Blocks without an extent, among them some that were one elsewhere. */
static uint64_t
make_hole(uint64_t offset, uint64_t end)
{
    uint64_t bytes = (1 + draw(40)) * LOG_BLOCK_BYTES;

    bytes = bytes < end - offset ? bytes : end - offset;
    memset(image + offset, draw(2) == 0 ? 0 : 0x5a, bytes);
    if (draw(2) == 0 && bytes > LOG_BLOCK_BYTES)
        (void)make_extent(offset + LOG_BLOCK_BYTES, offset + bytes, SALT + 1, 1, 100); /* of an earlier file */
    if (draw(2) == 0 && expected_count > 0 && bytes > LOG_BLOCK_BYTES)
        memcpy(image + offset, image + expected[draw(expected_count)].offset, LOG_BLOCK_BYTES);
    return bytes;
}

/* Fill the image to `end`, and say what is in it. */
static void
make_image(uint64_t end)
{
    static const uint32_t counts[] = {1, 1, 3, 60, 90, 250, 1000, EXTENT_PAGES_MAX};
    static const uint32_t sizes[] = {0, 1, 100, 512, 5000};
    uint64_t offset = SEGMENT_HEADER_BYTES;

    expected_count = 0;
    while (offset < end) {
        uint32_t count = counts[draw(sizeof(counts) / sizeof(counts[0]))];
        uint64_t bytes = draw(4) == 0 ? 0 : make_extent(offset, end, SALT, count, sizes[draw(5)]);

        if (bytes == 0) {
            offset += make_hole(offset, end);
            continue;
        }
        if (draw(8) == 0) /* torn: its payload is garbage, block by block */
            image[offset + draw(128 + (uint64_t)count * 40)] ^= 1;
        else
            expected[expected_count++] = (struct place){offset, bytes, count};
        if (draw(4) == 0 && bytes > 64 * LOG_BLOCK_BYTES && expected_count > 0) /* a page that is a copy of a header */
            memcpy(image + offset + bytes - LOG_BLOCK_BYTES, image + expected[0].offset, LOG_BLOCK_BYTES);
        offset += bytes;
    }
}

static void
write_image(uint64_t bytes)
{
    assert_int_equal(env->env.ops->truncate(file, 0), 0);
    assert_int_equal(io_write(pool, file, image, bytes, 0), 0);
}

/* All extents from `from` on that end before `end`. */
static void
require(uint64_t from, uint64_t end, uint64_t seed)
{
    struct extent_header header;
    int rc;

    extent_scan_begin(scan, file, SALT, from, end);
    for (size_t i = 0; i < expected_count; i++) {
        if (expected[i].offset < from || expected[i].offset + expected[i].bytes > end)
            continue;
        rc = extent_scan_next(scan, &header);
        if (rc != 1 || header.offset != expected[i].offset || header.extent_bytes != expected[i].bytes ||
            header.count != expected[i].count)
            fail_msg("seed %d: %d instead of the extent at %d", (int)seed, rc, (int)expected[i].offset);
        assert_memory_equal(extent_scan_encoded(&header), image + header.offset, header.header_bytes);
    }
    rc = extent_scan_next(scan, &header);
    if (rc != 0)
        fail_msg("seed %d: %d instead of the end", (int)seed, rc);
    assert_int_equal(extent_scan_next(scan, &header), 0);
}

static void
test_random(void **state)
{
    const char *text = getenv("VARVE_TEST_SEED");
    uint64_t first = text == NULL ? 1 : strtoull(text, NULL, 0);
    size_t extents = 0;

    (void)state;
    for (uint64_t seed = first; seed < first + ROUNDS; seed++) {
        const struct place *any;
        uint64_t end;

        random_state = seed;
        end = SEGMENT_HEADER_BYTES + draw(8) * (FILE_BYTES_MAX / 8) + draw(100) * LOG_BLOCK_BYTES;
        make_image(end);
        write_image(end);
        require(SEGMENT_HEADER_BYTES, end, seed);
        extents += expected_count;
        if (expected_count == 0)
            continue;
        any = &expected[draw(expected_count)];
        require(any->offset, end, seed);
        require(SEGMENT_HEADER_BYTES, any->offset + any->bytes - 1, seed); /* the last one is cut off */
        require(any->offset + any->bytes, any->offset, seed);              /* nothing to scan */
    }
    assert_true(extents > ROUNDS);
}

/*
 * Errors end the scan; it can begin anew. The second extent's header lies behind the first window, and is longer than what is read at once behind
 * a large extent: the device fails in the first read of it, or in the second.
 */
static void
test_errors(void **state)
{
    struct extent_header header;
    uint64_t bytes, at, end;

    (void)state;
    random_state = 1;
    at = SEGMENT_HEADER_BYTES + make_extent(SEGMENT_HEADER_BYTES, FILE_BYTES_MAX, SALT, 300, 5000);
    bytes = make_extent(at, FILE_BYTES_MAX, SALT, 1000, 0);
    end = at + bytes;
    expected[0] = (struct place){SEGMENT_HEADER_BYTES, at - SEGMENT_HEADER_BYTES, 300};
    expected[1] = (struct place){at, bytes, 1000};
    expected_count = 2;
    write_image(end);
    for (uint64_t bad = 0; bad <= 20000; bad += 20000) {
        atomic_store(&env->bad_offset, at + bad);
        extent_scan_begin(scan, file, SALT, SEGMENT_HEADER_BYTES, end);
        assert_int_equal(extent_scan_next(scan, &header), 1);
        assert_int_equal(extent_scan_next(scan, &header), -EIO);
        atomic_store(&env->bad_offset, UINT64_MAX);
        require(SEGMENT_HEADER_BYTES, end, 0);
    }
    require(SEGMENT_HEADER_BYTES, at + 16384, 0);                   /* ends in the second header */
    extent_scan_begin(scan, file, SALT, at, end + LOG_BLOCK_BYTES); /* ends behind the file */
    assert_int_equal(extent_scan_next(scan, &header), -ENODATA);
    wire_put16(image + at + 4, FORMAT_VERSION + 1);
    wire_put64(image + at + 120, hash_bytes(image + at, 120));
    write_image(end);
    extent_scan_begin(scan, file, SALT, SEGMENT_HEADER_BYTES, end);
    assert_int_equal(extent_scan_next(scan, &header), 1);
    assert_int_equal(extent_scan_next(scan, &header), -EPROTO);
}

/* Without memory there is no scan, and nothing is left of it. */
static void
test_no_memory(void **state)
{
    (void)state;
    for (int nth = 1; nth <= 2; nth++) {
        atomic_store(&env->alloc_fails_in, nth);
        assert_null(extent_scan_create(&env->env, pool));
    }
    extent_scan_destroy(NULL);
}

static int
setup(void **state)
{
    (void)state;
    env = plain_env_create(NULL);
    image = test_malloc(FILE_BYTES_MAX + EXTENT_HEADER_BYTES_MAX);
    assert_int_equal(io_queue_pool_create(&env->env, &pool), 0);
    assert_int_equal(env->env.ops->open(&env->env, "segment", ENV_OPEN_CREATE, &file), 0);
    scan = extent_scan_create(&env->env, pool);
    assert_non_null(scan);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    extent_scan_destroy(scan);
    env->env.ops->close(file);
    io_queue_pool_destroy(pool);
    test_free(image);
    plain_env_destroy(env);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
    };

    return cmocka_run_group_tests_name("extent_scan", tests, NULL, NULL);
}
