/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_content.c: pieces agree with the whole, any changed byte is counted, sectors differ by id and place, exponents
 * look real.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "page_content.h"
#include "random.h"

#define PAGE_BYTES (64 * 1024 + 100)

static varve_id
make_id(uint64_t number)
{
    varve_id id;

    for (uint64_t i = 0; i < 4; i++) {
        uint64_t word = random_mix(number * 4 + i);

        memcpy(id.bytes + 8 * i, &word, sizeof(word));
    }
    return id;
}

static int
setup(void **state)
{
    *state = page_content_create();
    return *state == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
    page_content_destroy(*state);
    return 0;
}

static void
test_pieces_agree_with_whole(void **state)
{
    struct page_content *content = *state;
    struct random random = random_make(3);
    uint8_t *whole = malloc(PAGE_BYTES);
    varve_id id = make_id(1);

    print_message("seed 3\n");
    assert_non_null(whole);
    page_content_fill(content, &id, 0, whole, PAGE_BYTES);
    for (int round = 0; round < 2000; round++) {
        size_t offset = (size_t)random_below(&random, PAGE_BYTES);
        size_t size = (size_t)random_below(&random, random_below(&random, 2) == 0 ? 1200 : PAGE_BYTES);
        uint8_t *piece;

        if (size > PAGE_BYTES - offset)
            size = PAGE_BYTES - offset;
        piece = malloc(size == 0 ? 1 : size);
        assert_non_null(piece);
        page_content_fill(content, &id, offset, piece, size);
        assert_memory_equal(piece, whole + offset, size);
        assert_int_equal(page_content_wrong_bytes(content, &id, offset, piece, size), 0);
        free(piece);
    }
    free(whole);
}

static void
test_every_change_is_counted(void **state)
{
    struct page_content *content = *state;
    struct random random = random_make(5);
    uint8_t *page = malloc(PAGE_BYTES);
    varve_id id = make_id(2);

    print_message("seed 5\n");
    assert_non_null(page);
    page_content_fill(content, &id, 0, page, PAGE_BYTES);
    for (int round = 0; round < 500; round++) {
        size_t at[3];
        uint8_t change = (uint8_t)(1u << random_below(&random, 8));

        for (size_t i = 0; i < 3; i++) {
            at[i] = i * (PAGE_BYTES / 3) + (size_t)random_below(&random, PAGE_BYTES / 3);
            page[at[i]] ^= change;
        }
        assert_int_equal(page_content_wrong_bytes(content, &id, 0, page, PAGE_BYTES), 3);
        for (size_t i = 0; i < 3; i++)
            page[at[i]] ^= change;
    }
    free(page);
}

static void
test_sectors_differ(void **state)
{
    enum { IDS = 16, SECTORS = 64 };
    struct page_content *content = *state;
    uint8_t *sectors = malloc((size_t)IDS * SECTORS * 512);

    assert_non_null(sectors);
    for (size_t i = 0; i < IDS; i++) {
        varve_id id = make_id(100);

        id.bytes[2 * i] ^= 1; /* ids that differ in one bit */
        page_content_fill(content, &id, 0, sectors + i * SECTORS * 512, (size_t)SECTORS * 512);
    }
    for (size_t i = 0; i < (size_t)IDS * SECTORS; i++) {
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(sectors + 512 * i, sectors + 512 * j, 512);
    }
    free(sectors);
}

/* The noise repeats after 4 MiB; pages must not. */
static void
test_far_sectors_differ(void **state)
{
    struct page_content *content = *state;
    varve_id id = make_id(7);
    uint8_t sectors[16][512];

    for (size_t i = 0; i < 16; i++) {
        page_content_fill(content, &id, (uint64_t)i << 22, sectors[i], 512);
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(sectors[i], sectors[j], 512);
    }
}

/* What bf16 KV tensors look like: signs even, no infinity or NaN, most values within a few powers of two. */
static void
test_looks_like_bf16(void **state)
{
    struct page_content *content = *state;
    size_t count = (size_t)1 << 19;
    uint16_t *values = malloc(2 * count);
    varve_id id = make_id(8);
    size_t negative = 0;
    size_t usual = 0;

    assert_non_null(values);
    page_content_fill(content, &id, 0, values, 2 * count);
    for (size_t i = 0; i < count; i++) {
        unsigned exponent = (values[i] >> 7) & 0xff;

        assert_true(exponent < 0xff);
        negative += values[i] >> 15;
        usual += exponent >= 118 && exponent <= 134;
    }
    assert_true(negative > count * 49 / 100 && negative < count * 51 / 100);
    assert_true(usual > count * 98 / 100);
    free(values);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_agree_with_whole), cmocka_unit_test(test_every_change_is_counted),
        cmocka_unit_test(test_sectors_differ),          cmocka_unit_test(test_far_sectors_differ),
        cmocka_unit_test(test_looks_like_bf16),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
