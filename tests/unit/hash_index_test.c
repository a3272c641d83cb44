/* SPDX-License-Identifier: Apache-2.0 */
/* engines/hash_index.c: random inserts and lookups against what was inserted; its image loads whole, or not at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engines/hash_index.h"
#include "random.h"

#define ENTRIES 20000

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

static void
insert(struct hash_index *index, uint64_t number, uint64_t offset)
{
    varve_id id = make_id(number);
    struct hash_entry entry = {
        .checksum = random_mix(number), .offset = offset & HASH_OFFSET_MAX, .size = number & HASH_SIZE_MAX};

    memcpy(entry.id_prefix, id.bytes, ID_PREFIX_BYTES);
    assert_int_equal(hash_index_reserve(index, 1), VARVE_OK);
    hash_index_insert(index, &entry);
}

static void
check(const struct hash_index *index)
{
    assert_int_equal(index->count, ENTRIES);
    for (uint64_t number = 0; number < 2 * ENTRIES; number++) {
        varve_id id = make_id(number);
        const struct hash_entry *entry = hash_index_find(index, &id);

        if (number >= ENTRIES) {
            assert_null(entry);
            continue;
        }
        assert_non_null(entry);
        assert_int_equal(entry->offset, number + 1);
        assert_int_equal(entry->size, number);
        assert_int_equal(entry->checksum, random_mix(number));
    }
}

static void
test_inserts_and_image(void **state)
{
    struct hash_index index, other;
    uint64_t log_end;
    uint8_t *image;
    size_t size;

    (void)state;
    assert_int_equal(hash_index_init(&index), VARVE_OK);
    for (uint64_t number = 0; number < ENTRIES; number++)
        insert(&index, number, number + 1);
    for (uint64_t number = 0; number < ENTRIES; number += 7)
        insert(&index, number, 5); /* there already */
    check(&index);
    image = hash_index_save(&index, (uint64_t)1 << 40, &size);
    assert_non_null(image);
    assert_int_equal(hash_index_init(&other), VARVE_OK);
    assert_int_equal(hash_index_load(&other, image, size, &log_end), VARVE_OK);
    assert_int_equal(log_end, (uint64_t)1 << 40);
    check(&other);
    free(image);
    hash_index_deinit(&other);
    hash_index_deinit(&index);
}

static int
load_alone(const uint8_t *image, size_t size)
{
    struct hash_index index;
    uint64_t log_end;
    int rc;

    assert_int_equal(hash_index_init(&index), VARVE_OK);
    rc = hash_index_load(&index, image, size, &log_end);
    hash_index_deinit(&index);
    return rc;
}

static void
test_damaged_image(void **state)
{
    struct hash_index index;
    uint8_t *image;
    size_t size;

    (void)state;
    assert_int_equal(hash_index_init(&index), VARVE_OK);
    for (uint64_t number = 0; number < 5; number++)
        insert(&index, number, number + 1);
    image = hash_index_save(&index, 1 << 20, &size);
    assert_non_null(image);
    assert_int_equal(load_alone(image, size), VARVE_OK);
    for (size_t cut = 0; cut < size; cut++)
        assert_int_equal(load_alone(image, cut), VARVE_E_CORRUPT);
    for (size_t bit = 0; bit < size * 8; bit++) {
        image[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(load_alone(image, size), VARVE_E_CORRUPT);
        image[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(image);
    hash_index_deinit(&index);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inserts_and_image),
        cmocka_unit_test(test_damaged_image),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
