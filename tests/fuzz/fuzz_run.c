/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks and footers of run files from arbitrary bytes. A block that passes its check can be walked, and says the same coded again. */
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

static void
check_block(void)
{
    struct block_walk walk;
    struct entry entry;
    uint32_t pages = 0;

    if (!block_check(block, SEED))
        return;
    block_builder_init(&builder);
    block_walk_init(&walk, block);
    while (block_walk_next(&walk, &entry)) {
        fuzz_require(entry.count >= 1 && entry.count <= ENTRY_PAGES_MAX, "an entry has too many pages");
        for (uint32_t i = 0; i < entry.count; i++) {
            struct location location;

            entry_locate(&entry, i, &location);
            fuzz_require(location.size <= VARVE_PAGE_BYTES_MAX && location.offset >= entry.offset,
                         "a page lies outside of everything");
        }
        pages += entry.count;
        (void)block_builder_add(&builder, &entry); /* what was decoded can be coded */
    }
    fuzz_require(pages == block_pages(block), "pages were lost");
}

static void
check_footer(uint8_t *page)
{
    struct run_footer footer;

    if (run_footer_decode(page, &footer) != VARVE_OK)
        return;
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
                              .offset = sim_rng_below(rng, 1000) << 12,
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
