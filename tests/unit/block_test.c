/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks: what goes in comes out, nothing else gets through the check, splitting wastes little, and arbitrary bytes do
 * no harm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <stdlib.h>

#include "format/run_format.h"
#include "index_model.h"

#define SEED UINT64_C(0x1234)

static struct block_builder builder;
static struct model_entry made;

static void
assert_same_entry(const struct entry *a, const struct entry *b)
{
    assert_int_equal(key_compare(&a->key, &b->key), 0);
    assert_int_equal(a->count, b->count);
    assert_true(a->segment == b->segment && a->offset == b->offset);
    assert_true(a->parent_branch == b->parent_branch && a->parent_depth == b->parent_depth);
    assert_true(a->codec == b->codec && a->align_shift == b->align_shift);
    assert_memory_equal(a->ids, b->ids, (size_t)a->count * ID_PREFIX_BYTES);
    assert_memory_equal(a->sums, b->sums, (size_t)a->count * 8);
    assert_int_equal(a->sizes == NULL, b->sizes == NULL);
    for (uint32_t i = 0; i < a->count; i++)
        assert_int_equal(entry_size(a, i), entry_size(b, i));
}

/* An entry after `before` in key order, with any fields: far, near, extreme. */
static void
random_entry(uint64_t *seed, const struct entry *before, struct model_entry *out)
{
    struct key key = before->key;
    uint32_t count = model_random(seed) % 4 == 0 ? 1 : 1 + (uint32_t)(model_random(seed) % ENTRY_PAGES_MAX);
    uint64_t segment = model_random(seed) % 3 == 0 ? model_random(seed) : before->segment;
    uint8_t shift = (uint8_t)(ENTRY_SHIFT_MIN + model_random(seed) % 4);

    if (before->count > 0 && model_random(seed) % 3 != 0 && key.depth < UINT32_MAX - 2 * ENTRY_PAGES_MAX - 1)
        key.depth += before->count;
    else if (model_random(seed) % 4 == 0 && key.branch < UINT64_MAX)
        key = (struct key){key.ns_id, (uint32_t)(model_random(seed) % 5000),
                           key.branch + 1 + model_random(seed) % (UINT64_MAX - key.branch)};
    else if (key.ns_id < UINT32_MAX)
        key = (struct key){key.ns_id + 1, UINT32_MAX - ENTRY_PAGES_MAX - (uint32_t)(model_random(seed) % 3),
                           model_random(seed)};
    model_fill_uniform(out, &key, count, segment, 0, (uint32_t)(model_random(seed) % (VARVE_PAGE_BYTES_MAX + 1)));
    if (model_random(seed) % 3 == 0)
        out->entry.sizes = out->sizes;
    out->entry.align_shift = shift;
    out->entry.codec = (uint8_t)(model_random(seed) % 3 / 2);
    if (model_random(seed) % 2 == 0 && before->count > 0 && before->align_shift == shift &&
        entry_page_offset(before, before->count) <= ENTRY_OFFSET_MAX)
        out->entry.offset = entry_page_offset(before, before->count);
    else
        out->entry.offset = model_random(seed) % (ENTRY_OFFSET_MAX + 1) >> shift << shift;
    if (entry_page_offset(&out->entry, count) > ENTRY_OFFSET_MAX) /* it has to end in the segment, too */
        out->entry.offset = 0;
    out->entry.parent_branch = model_random(seed) % 4 == 0 ? model_random(seed) : 0;
    out->entry.parent_depth = out->entry.parent_branch != 0 ? (uint32_t)model_random(seed) : 0;
}

#define KEPT_MAX 1000

static void
test_round_trip(void **state)
{
    uint64_t seed = model_seed();
    struct model_entry *kept = calloc(KEPT_MAX, sizeof(*kept));
    uint8_t block[BLOCK_BYTES];

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct entry before = {.count = 0};
        struct block_walk walk;
        struct entry entry;
        uint32_t count = 0;

        block_builder_init(&builder);
        for (;;) {
            uint32_t taken;

            random_entry(&seed, &before, &kept[count]);
            taken = block_builder_add(&builder, &kept[count].entry);
            if (taken == 0)
                break;
            kept[count].entry.count = taken;
            before = kept[count++].entry;
            if (taken < kept[count - 1].entry.count || count == KEPT_MAX)
                break;
        }
        memset(block, 0xa5, sizeof(block));
        block_builder_seal(&builder, block, SEED);
        assert_true(block_check(block, SEED));
        assert_false(block_check(block, SEED + 1));
        block_walk_init(&walk, block);
        for (uint32_t i = 0; i < count; i++) {
            if (i > 0 && i % 3 == 0) { /* leave and come back, as cursors do */
                struct block_place place = block_walk_place(&walk);

                block_walk_resume(&walk, block, &place, &entry);
            }
            assert_true(block_walk_next(&walk, &entry));
            assert_same_entry(&entry, &kept[i].entry);
        }
        assert_false(block_walk_next(&walk, &entry));
        assert_int_equal(block_walk_place(&walk).head, 0);
    }
    free(kept);
}

/* Entries of one size, laid out as put batches are: how full are blocks, and what does a page take? */
static void
test_density(void **state)
{
    static const struct {
        uint32_t count;
        double bytes_per_page_max;
    } cases[] = {{1, 36.5}, {4, 27.5}, {7, 26.5}, {8, 26.5}, {15, 26.0}, {16, 25.5}, {128, 24.6}, {1024, 24.6}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t blocks = 1;
        uint64_t pages = 0;

        block_builder_init(&builder);
        for (uint64_t branch = 1; pages < 40000; branch++) {
            struct key key = {1, 0, branch};
            struct entry rest;

            model_fill_uniform(&made, &key, cases[i].count, 3, branch * cases[i].count << 20, 65536);
            for (rest = made.entry; rest.count > 0;) {
                uint32_t taken = block_builder_add(&builder, &rest);

                if (taken == 0) {
                    assert_true(builder.used >= BLOCK_BYTES - BLOCK_SLACK_MAX);
                    block_builder_init(&builder);
                    blocks++;
                } else {
                    assert_true(taken >= BLOCK_SPLIT_MIN || taken == rest.count);
                    assert_true(rest.count - taken >= BLOCK_SPLIT_MIN || rest.count == taken);
                }
                rest = entry_slice(&rest, taken, rest.count - taken);
            }
            pages += cases[i].count;
        }
        if ((double)(blocks * BLOCK_BYTES) / (double)pages > cases[i].bytes_per_page_max)
            fail_msg("entries of %u pages: %.2f bytes a page", cases[i].count,
                     (double)(blocks * BLOCK_BYTES) / (double)pages);
    }
}

static void
make_block(uint8_t *block, uint64_t *seed)
{
    struct entry before = {.count = 0};
    uint32_t taken;

    block_builder_init(&builder);
    do {
        random_entry(seed, &before, &made);
        made.entry.count = 1 + made.entry.count % 60;
        taken = block_builder_add(&builder, &made.entry);
        before = made.entry;
    } while (taken > 0);
    block_builder_seal(&builder, block, SEED);
}

static void
test_flipped_bits(void **state)
{
    uint64_t seed = model_seed();
    uint8_t block[BLOCK_BYTES];

    (void)state;
    make_block(block, &seed);
    for (uint32_t bit = 0; bit < BLOCK_BYTES * 8; bit += 1 + (uint32_t)(model_random(&seed) % 7)) {
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(block_check(block, SEED));
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(block_check(block, SEED));
}

/*
 * Damage under a right checksum (our own bug, or malice): the structure is checked, too, and walking stays in the
 * block.
 */
static void
test_damage_with_right_sum(void **state)
{
    uint64_t seed = model_seed();
    uint8_t good[BLOCK_BYTES];
    uint8_t block[BLOCK_BYTES];
    uint32_t accepted = 0;

    (void)state;
    make_block(good, &seed);
    for (int round = 0; round < 3000; round++) {
        uint32_t heads = block_heads(good);

        memcpy(block, good, sizeof(block));
        for (uint64_t n = 1 + model_random(&seed) % 3; n > 0; n--) {
            uint64_t at = model_random(&seed) % 2 == 0 ? heads + model_random(&seed) % (BLOCK_BYTES - heads)
                                                       : 2 + model_random(&seed) % 6;

            block[at] = (uint8_t)model_random(&seed);
        }
        wire_put64(block + 8, SEED);
        wire_put64(block + 8, hash_bytes(block, sizeof(block)));
        if (block_check(block, SEED)) {
            struct block_walk walk;
            struct entry entry;

            accepted++;
            block_walk_init(&walk, block);
            while (block_walk_next(&walk, &entry)) {
                assert_true(entry.count >= 1 && entry.count <= ENTRY_PAGES_MAX);
                assert_true(entry.ids >= block && entry_id(&entry, entry.count) <= block + BLOCK_BYTES);
                assert_true(entry.sums >= block && entry.sums + (size_t)entry.count * 8 <= block + BLOCK_BYTES);
                assert_true(entry_page_offset(&entry, entry.count) >= entry.offset);
            }
        }
    }
    assert_true(accepted < 3000); /* some damage changes nothing that matters */
}

static void
test_footer(void **state)
{
    struct run_footer footer = {
        .salt = 1,
        .file_number = 2,
        .entries = 3,
        .pages = 4,
        .index_sum = 5,
        .locator_sum = 6,
        .bucket_count = 7,
        .last_key = {8, 9, 10},
        .block_count = 11,
        .entry_pages_max = 12,
        .slot_bytes = 4,
        .block_bits = 4,
        .page_bits = 3,
        .fingerprint_bits = 25,
    };
    struct run_footer out;
    uint8_t page[RUN_FOOTER_BYTES];
    uint8_t again[RUN_FOOTER_BYTES];

    (void)state;
    run_footer_encode(page, &footer);
    assert_int_equal(run_footer_decode(page, &out), VARVE_OK);
    run_footer_encode(again, &out);
    assert_memory_equal(again, page, sizeof(page));
    for (uint32_t bit = 0; bit < RUN_FOOTER_BYTES * 8; bit++) {
        page[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(run_footer_decode(page, &out), VARVE_OK);
        page[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    page[16] = 200; /* the version; a newer one is believed only when the checksum holds */
    assert_int_equal(run_footer_decode(page, &out), VARVE_E_CORRUPT);
    wire_put64(page + 8, 0);
    wire_put64(page + 8, hash_bytes(page, sizeof(page)));
    assert_int_equal(run_footer_decode(page, &out), VARVE_E_VERSION);

    footer.fingerprint_bits = 26; /* does not fit into the slot */
    run_footer_encode(page, &footer);
    assert_int_equal(run_footer_decode(page, &out), VARVE_E_CORRUPT);
    footer.fingerprint_bits = 25;
    footer.block_count = 17; /* more than block_bits can name */
    run_footer_encode(page, &footer);
    assert_int_equal(run_footer_decode(page, &out), VARVE_E_CORRUPT);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_density),
        cmocka_unit_test(test_flipped_bits), cmocka_unit_test(test_damage_with_right_sum),
        cmocka_unit_test(test_footer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
