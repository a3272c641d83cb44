/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks and footers of run files from arbitrary bytes. A block that passes its check can be walked from any place, and its entries coded again
 * fill at most one block, which says the same.
 */
#include <string.h>

#include "base/hash.h"
#include "base/wire.h"
#include "format/run_format.h"
#include "fuzz.h"

#define SEED UINT64_C(0x5eed)

static uint8_t block[BLOCK_BYTES];
static struct block_builder builder; /* large */

/* A checksum at byte 8, computed with `seed` in its place. */
static void
fix_sum(uint8_t *data, size_t size, uint64_t seed)
{
    wire_put64(data + 8, seed);
    wire_put64(data + 8, hash_bytes(data, size));
}

static bool
same_entry(const struct entry *a, const struct entry *b)
{
    return key_compare(&a->key, &b->key) == 0 && a->parent_branch == b->parent_branch &&
           a->parent_depth == b->parent_depth && a->count == b->count && a->segment == b->segment &&
           a->offset == b->offset && a->codec == b->codec && a->align_shift == b->align_shift &&
           (a->sizes == NULL) == (b->sizes == NULL) && (a->sizes != NULL || a->page_bytes == b->page_bytes) &&
           memcmp(a->ids, b->ids, (size_t)a->count * ID_PREFIX_BYTES) == 0 &&
           memcmp(a->sums, b->sums, (size_t)a->count * 8) == 0 &&
           (a->sizes == NULL || memcmp(a->sizes, b->sizes, (size_t)a->count * 4) == 0);
}

static void
check_entry(const struct entry *entry)
{
    struct location location;

    fuzz_require(entry->count >= 1 && entry->count <= ENTRY_PAGES_MAX, "an entry has too many pages");
    for (uint32_t i = 0; i < entry->count; i++) {
        entry_locate(entry, i, &location);
        fuzz_require(location.size <= VARVE_PAGE_BYTES_MAX && location.offset >= entry->offset &&
                         location.offset <= ENTRY_OFFSET_MAX,
                     "a page lies outside of everything");
    }
}

/* A walk that is resumed behind `before` gives what the walk from the start gave next. */
static void
check_resume(const struct block_place *place, const struct entry *before, const struct entry *next)
{
    struct block_walk walk;
    struct entry entry;

    block_walk_resume(&walk, block, place, before);
    fuzz_require(block_walk_next(&walk, &entry) && same_entry(&entry, next), "a resumed walk goes elsewhere");
}

/* The same entries in both blocks. */
static void
check_again(void)
{
    static uint8_t again[BLOCK_BYTES];
    struct block_walk walk, walk_again;
    struct entry entry, entry_again;

    block_builder_seal(&builder, again, SEED + 1);
    fuzz_require(block_check(again, SEED + 1), "a block coded again is not valid");
    fuzz_require(!block_check(again, SEED), "a block is valid in another place");
    block_walk_init(&walk, block);
    block_walk_init(&walk_again, again);
    while (block_walk_next(&walk, &entry))
        fuzz_require(block_walk_next(&walk_again, &entry_again) && same_entry(&entry, &entry_again),
                     "an entry changes when it is coded again");
    fuzz_require(!block_walk_next(&walk_again, &entry_again), "there are more entries than were coded");
}

static void
check_block(void)
{
    struct block_place place = {.head = 0};
    struct block_walk walk;
    struct entry entry, before;
    uint32_t pages = 0;

    if (!block_check(block, SEED))
        return;
    block_builder_init(&builder);
    block_walk_init(&walk, block);
    while (block_walk_next(&walk, &entry)) {
        check_entry(&entry);
        if (place.head != 0)
            check_resume(&place, &before, &entry);
        pages += entry.count;
        fuzz_require(block_builder_add(&builder, &entry) == entry.count, "what was decoded can not be coded");
        place = block_walk_place(&walk);
        before = entry;
    }
    fuzz_require(pages == block_pages(block) && place.head == 0, "pages were lost");
    check_again();
}

static void
check_footer(uint8_t *page)
{
    struct run_footer footer, again;
    uint8_t coded[RUN_FOOTER_BYTES];

    if (run_footer_decode(page, &footer) != VARVE_OK)
        return;
    run_footer_encode(coded, &footer);
    fuzz_require(run_footer_decode(coded, &again) == VARVE_OK && run_file_bytes(&again) == run_file_bytes(&footer) &&
                     again.salt == footer.salt && again.file_number == footer.file_number &&
                     again.pages == footer.pages && key_compare(&again.last_key, &footer.last_key) == 0,
                 "a footer changes when it is coded again");
    fuzz_require(run_file_bytes(&footer) > run_locator_offset(&footer) &&
                     run_locator_offset(&footer) >= run_index_offset(&footer),
                 "the sections of a run overlap");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t page[RUN_FOOTER_BYTES];

    if (size < 2)
        return 0;
    memset(block, 0, sizeof(block));
    memcpy(block, data + 1, size - 1 < sizeof(block) ? size - 1 : sizeof(block));
    memcpy(page, block, sizeof(page));
    if (FUZZ_FIX_SUMS(data[0])) {
        fix_sum(block, sizeof(block), SEED);
        fix_sum(page, sizeof(page), 0);
    }
    check_block();
    check_footer(page);
    return 0;
}

static size_t
example_footer(struct sim_rng *rng, uint8_t *out)
{
    struct run_footer footer = {.salt = 1,
                                .file_number = sim_rng_log(rng, 1000),
                                .entries = 10,
                                .pages = 100,
                                .bucket_count = sim_rng_log(rng, 1000),
                                .block_count = (uint32_t)sim_rng_log(rng, 100),
                                .entry_pages_max = 10,
                                .slot_bytes = (uint8_t)sim_rng_between(rng, 4, 5),
                                .block_bits = 7,
                                .fingerprint_bits = 14};

    run_footer_encode(out, &footer);
    return RUN_FOOTER_BYTES;
}

static size_t
example_block(struct sim_rng *rng, uint8_t *out)
{
    uint64_t count = sim_rng_log(rng, 60);
    struct key key = {.ns_id = 1, .branch = 1};
    uint8_t arrays[64 * ENTRY_PAGE_BYTES_MAX];

    block_builder_init(&builder);
    for (uint64_t i = 0; i < count; i++) {
        struct entry entry = {.key = key,
                              .count = (uint32_t)sim_rng_log(rng, 64),
                              .segment = sim_rng_between(rng, 1, 3),
                              .offset = sim_rng_chance(rng, 20) ? ENTRY_OFFSET_MAX - (sim_rng_below(rng, 64) << 12)
                                                                : sim_rng_below(rng, 1000) << 12,
                              .page_bytes = (uint32_t)sim_rng_log(rng, 1u << 20),
                              .align_shift = (uint8_t)sim_rng_between(rng, 9, 12),
                              .ids = arrays,
                              .sums = arrays + 64 * ID_PREFIX_BYTES};

        sim_rng_fill(rng, arrays, sizeof(arrays));
        memset(arrays + 64 * (ID_PREFIX_BYTES + 8), 1, 64 * 4);
        entry.sizes = sim_rng_chance(rng, 300) ? arrays + 64 * (ID_PREFIX_BYTES + 8) : NULL;
        if (sim_rng_chance(rng, 300))
            entry.parent_branch = sim_rng_log(rng, 100);
        if (block_builder_add(&builder, &entry) < entry.count)
            break;
        key.depth += entry.count;
        key.branch += sim_rng_below(rng, 2);
    }
    block_builder_seal(&builder, out, SEED);
    return BLOCK_BYTES;
}

size_t
fuzz_example(struct sim_rng *rng, uint8_t *out)
{
    out[0] = (uint8_t)sim_rng_below(rng, 2);
    return 1 + (sim_rng_chance(rng, 200) ? example_footer(rng, out + 1) : example_block(rng, out + 1));
}
