/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A locator. From the table of a run file, arbitrary bytes under a footer that was accepted: every probe comes to its end and stays in range.
 * And one built from the input: every page that was inserted is found again.
 */
#include <stdlib.h>
#include <string.h>

#include "../sim/sim_disk.h"
#include "base/hash.h"
#include "base/wire.h"
#include "format/run_format.h"
#include "fuzz.h"
#include "index/locator.h"

#define GEOMETRY_BYTES 4 /* bits of slot, block, page and fingerprint */
#define PAGES_MAX      400

/* All places where the page of this hash may be; true: `block` and `page` are among them. */
static bool
probe_all(const struct locator *locator, uint64_t hash, uint32_t block, uint32_t page)
{
    struct locator_probe probe;
    struct locator_match match;
    uint64_t steps = 0;
    bool found = false;

    locator_prefetch(locator, hash);
    locator_probe_init(&probe, locator, hash);
    while (locator_probe_next(&probe, &match)) {
        fuzz_require(match.block < UINT64_C(1) << locator->block_bits && match.first < match.end &&
                         match.end <= 1u << BLOCK_PAGES_BITS,
                     "a match is out of range");
        fuzz_require(steps++ < locator->bucket_count * 16, "a probe does not end");
        found = found || (match.block == block && match.first <= page && page < match.end);
    }
    return found;
}

static void
check_table(const uint8_t *data, size_t size)
{
    uint8_t footer_page[RUN_FOOTER_BYTES];
    struct run_footer footer = {.block_count = 1,
                                .entry_pages_max = 1,
                                .slot_bytes = data[0],
                                .block_bits = data[1],
                                .page_bits = data[2],
                                .fingerprint_bits = data[3],
                                .bucket_count = (size - GEOMETRY_BYTES) / RUN_BUCKET_BYTES};
    struct locator locator = {.bucket_count = footer.bucket_count,
                              .slot_bytes = data[0],
                              .block_bits = data[1],
                              .page_bits = data[2],
                              .fingerprint_bits = data[3]};

    run_footer_encode(footer_page, &footer);
    if (run_footer_decode(footer_page, &footer) != VARVE_OK)
        return;
    locator.bytes = locator.bucket_count * RUN_BUCKET_BYTES;
    locator.buckets = malloc((size_t)locator.bytes); /* without padding: an overrun is seen */
    if (locator.buckets == NULL)
        abort();
    memcpy(locator.buckets, data + GEOMETRY_BYTES, (size_t)locator.bytes);
    for (size_t at = 0; at + 8 <= locator.bytes; at += 4)
        (void)probe_all(&locator, wire_get64(locator.buckets + at), 0, 0);
    free(locator.buckets);
}

static uint64_t
page_hash(const uint8_t *data, size_t i)
{
    uint8_t seed[16] = {0};

    memcpy(seed, data, 8);
    wire_put64(seed + 8, i / 2); /* the same hash twice: two copies of a page */
    return hash_bytes(seed, sizeof(seed)) & (i % 16 == 0 ? ~(uint64_t)UINT32_MAX : UINT64_MAX); /* fingerprint 0, too */
}

static void
check_built(const uint8_t *data)
{
    static const struct sim_disk_settings settings = {
        .seed = 1, .io_align = 512, .sector_bytes = 512, .queue_depth = 1};
    uint32_t pages = (uint32_t)(wire_get16(data) % PAGES_MAX) + 1;
    uint32_t blocks = (wire_get32(data + 2) >> (data[6] % 32)) & 0x3fffffff;
    uint32_t bits = data[7] % 17 + 8u; /* as the option fingerprint_bits allows */
    struct sim_disk *disk = sim_disk_create(&settings);
    struct locator locator;

    blocks = blocks == 0 ? 1 : blocks;
    locator_plan(&locator, pages, blocks, bits);
    fuzz_require(locator_alloc(sim_disk_env(disk), &locator) == VARVE_OK, "no memory");
    for (uint32_t i = 0; i < pages; i++)
        locator_insert(&locator, page_hash(data, i), i % blocks, i * 7 % (1u << BLOCK_PAGES_BITS));
    for (uint32_t i = 0; i < pages; i++)
        fuzz_require(probe_all(&locator, page_hash(data, i), i % blocks, i * 7 % (1u << BLOCK_PAGES_BITS)),
                     "a page that was inserted is not found");
    locator_free(&locator);
    sim_disk_destroy(disk);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < GEOMETRY_BYTES + RUN_BUCKET_BYTES || size > FUZZ_INPUT_MAX)
        return 0;
    check_table(data, size);
    check_built(data + GEOMETRY_BYTES);
    return 0;
}

size_t
fuzz_example(struct sim_rng *rng, uint8_t *out)
{
    size_t buckets = sim_rng_log(rng, 8);

    out[0] = (uint8_t)sim_rng_between(rng, 4, 5);
    out[1] = (uint8_t)sim_rng_between(rng, 1, 12);
    out[2] = (uint8_t)sim_rng_between(rng, 0, 6);
    out[3] = (uint8_t)sim_rng_between(rng, 8, 14);
    memset(out + GEOMETRY_BYTES, 0, buckets * RUN_BUCKET_BYTES);
    for (size_t i = 0; i < buckets; i++) /* filled in order, some of them full */
        sim_rng_fill(rng, out + GEOMETRY_BYTES + i * RUN_BUCKET_BYTES,
                     sim_rng_chance(rng, 300) ? RUN_BUCKET_BYTES : sim_rng_below(rng, 16) * out[0]);
    return GEOMETRY_BYTES + buckets * RUN_BUCKET_BYTES;
}
