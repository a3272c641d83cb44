/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segment and extent headers from arbitrary bytes. What is accepted has lengths that agree, so walking all pages stays inside the
 * extent; it says the same coded again; it is accepted in its own place only; and a block of a run can hold it.
 */
#include <string.h>

#include "base/hash.h"
#include "base/wire.h"
#include "format/format.h"
#include "format/log_format.h"
#include "format/run_format.h"
#include "fuzz.h"

#define SALT   UINT64_C(0x1122334455667788)
#define OFFSET UINT64_C(8192)

/* Offsets of the checksums: docs/FORMAT.md. */
#define SEGMENT_SUM_AT      32
#define EXTENT_COUNT_AT     76
#define EXTENT_PAGE_AT      80
#define EXTENT_TABLE_SUM_AT 56
#define EXTENT_SUM_AT       120
#define EXTENT_VERSION_AT   4
#define EXTENT_RESERVED_AT  84
#define SEGMENT_RESERVED_AT 7

static void
fix_sums(uint8_t *data, size_t size)
{
    size_t count = wire_get32(data + EXTENT_COUNT_AT);
    size_t table = count * (VARVE_ID_BYTES + 8 + (wire_get32(data + EXTENT_PAGE_AT) == UINT32_MAX ? 4u : 0u));

    wire_put64(data + 8, SALT);
    wire_put64(data + 16, OFFSET);
    if (table <= size - EXTENT_FIXED_BYTES)
        wire_put64(data + EXTENT_TABLE_SUM_AT, hash_bytes(data + EXTENT_FIXED_BYTES, table));
    wire_put64(data + EXTENT_SUM_AT, hash_bytes(data, EXTENT_SUM_AT));
}

/* Versions that this code reads are written as its own; reserved bytes are not looked at. */
static void
check_segment_again(uint8_t *data, const struct segment_header *header)
{
    uint8_t coded[SEGMENT_HEADER_BYTES];

    data[SEGMENT_RESERVED_AT] = 0;
    wire_put16(data + EXTENT_VERSION_AT, FORMAT_VERSION);
    segment_header_encode(header, coded);
    fuzz_require(memcmp(coded, data, SEGMENT_SUM_AT) == 0, "a segment header changes when it is coded again");
}

static void
check_extent_again(const uint8_t *data, const struct extent_header *header)
{
    static uint8_t fixed[EXTENT_FIXED_BYTES], coded[EXTENT_HEADER_BYTES_MAX];
    size_t table = (size_t)header->count * (VARVE_ID_BYTES + 8 + (header->sizes == NULL ? 0u : 4u));
    struct extent_header again;

    memcpy(fixed, data, sizeof(fixed));
    wire_put16(fixed + EXTENT_VERSION_AT, FORMAT_VERSION);
    memset(fixed + EXTENT_RESERVED_AT, 0, EXTENT_SUM_AT - EXTENT_RESERVED_AT);
    memcpy(coded + EXTENT_FIXED_BYTES, data + EXTENT_FIXED_BYTES, table);
    extent_header_encode(header, coded);
    fuzz_require(memcmp(coded, fixed, EXTENT_SUM_AT) == 0, "an extent header changes when it is coded again");
    fuzz_require(extent_header_decode(coded, header->header_bytes, SALT, OFFSET, &again) == LOG_DECODE_OK,
                 "an extent header is not accepted when it is coded again");
    fuzz_require(extent_header_decode(coded, header->header_bytes, SALT + 1, OFFSET, &again) == LOG_DECODE_BAD &&
                     extent_header_decode(coded, header->header_bytes, SALT, OFFSET + 4096, &again) == LOG_DECODE_BAD,
                 "an extent header is accepted in another place");
    fuzz_require(extent_header_decode(coded, EXTENT_FIXED_BYTES + table - 1, SALT, OFFSET, &again) == LOG_DECODE_SHORT,
                 "a part of an extent header is taken for all of it");
}

/* As replay makes an entry of it. */
static void
check_entry(const struct extent_header *header)
{
    static uint8_t prefixes[EXTENT_PAGES_MAX * ID_PREFIX_BYTES], block[BLOCK_BYTES];
    static struct block_builder builder; /* large */
    struct entry entry = {.key = {.ns_id = header->ns_id, .depth = header->depth, .branch = header->branch},
                          .parent_branch = header->parent_branch,
                          .parent_depth = header->parent_depth,
                          .count = header->count,
                          .segment = 1,
                          .offset = header->offset + header->header_bytes,
                          .page_bytes = header->page_bytes,
                          .codec = header->codec,
                          .align_shift = header->align_shift,
                          .ids = prefixes,
                          .sums = header->sums,
                          .sizes = header->sizes};
    uint32_t done = 0;

    while (done < entry.count) {
        struct entry rest = entry_slice(&entry, done, entry.count - done);

        block_builder_init(&builder);
        done += block_builder_add(&builder, &rest);
        block_builder_seal(&builder, block, 1);
        fuzz_require(block_check(block, 1), "a run can not hold an extent");
    }
}

static void
check_extent(const uint8_t *data, size_t size)
{
    struct extent_header header;
    uint64_t bytes = 0, ids = 0;

    switch (extent_header_decode(data, size, SALT, OFFSET, &header)) {
    case LOG_DECODE_OK:
        break;
    case LOG_DECODE_SHORT:
        fuzz_require(header.header_bytes <= EXTENT_HEADER_BYTES_MAX && header.header_bytes > size,
                     "a short header asks for too much, or for nothing");
        return;
    case LOG_DECODE_BAD:
    case LOG_DECODE_NEWER:
        return;
    }
    fuzz_require(header.count >= 1 && header.count <= EXTENT_PAGES_MAX && header.branch != 0, "fields out of range");
    for (uint32_t i = 0; i < header.count; i++) {
        uint32_t page_size = extent_page_size(&header, i);

        fuzz_require(page_size <= VARVE_PAGE_BYTES_MAX, "a page is too large");
        bytes += log_pad(page_size, header.align_shift);
        ids += header.ids[(size_t)i * VARVE_ID_BYTES + 31] + header.sums[(size_t)i * 8 + 7]; /* all of them are there */
    }
    fuzz_require(ids <= UINT64_MAX / 2 && log_pad(header.header_bytes + bytes, 12) == header.extent_bytes,
                 "pages and extent do not agree");
    check_extent_again(data, &header);
    check_entry(&header);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t copy[FUZZ_INPUT_MAX];
    struct segment_header segment;
    size_t length =
        size - 1 < SEGMENT_HEADER_BYTES ? SEGMENT_HEADER_BYTES : size - 1; /* a file has a block, at least */

    if (size < 1 || size > sizeof(copy))
        return 0;
    memset(copy, 0, SEGMENT_HEADER_BYTES);
    memcpy(copy, data + 1, size - 1);
    if (FUZZ_FIX_SUMS(data[0]))
        wire_put64(copy + SEGMENT_SUM_AT, hash_bytes(copy, SEGMENT_SUM_AT));
    if (segment_header_decode(copy, &segment) == LOG_DECODE_OK) {
        fuzz_require(segment.align_shift >= 9 && segment.align_shift <= 12, "a segment's alignment is out of range");
        check_segment_again(copy, &segment);
    }
    memset(copy, 0, SEGMENT_HEADER_BYTES);
    memcpy(copy, data + 1, size - 1);
    if (FUZZ_FIX_SUMS(data[0]))
        fix_sums(copy, length);
    check_extent(copy, length);
    return 0;
}

static size_t
example_segment(struct sim_rng *rng, uint8_t *out)
{
    struct segment_header header = {.number = sim_rng_log(rng, 1000),
                                    .salt = SALT,
                                    .bytes = sim_rng_log(rng, 1u << 30),
                                    .align_shift = (uint8_t)sim_rng_between(rng, 9, 12)};

    segment_header_encode(&header, out);
    return SEGMENT_HEADER_BYTES;
}

static size_t
example_extent(struct sim_rng *rng, uint8_t *out)
{
    uint32_t count = (uint32_t)sim_rng_log(rng, EXTENT_PAGES_MAX);
    bool uniform = sim_rng_chance(rng, 500);
    struct extent_header header = {.salt = SALT,
                                   .offset = OFFSET,
                                   .branch = sim_rng_log(rng, 1u << 20),
                                   .ns_id = (uint32_t)sim_rng_below(rng, 10),
                                   .depth = (uint32_t)sim_rng_below(rng, 1000),
                                   .count = count,
                                   .page_bytes = (uint32_t)sim_rng_log(rng, 1u << 20),
                                   .align_shift = (uint8_t)sim_rng_between(rng, 9, 12)};
    uint64_t bytes;

    if (sim_rng_chance(rng, 50)) /* at the limits, and behind them */
        header.depth = UINT32_MAX - (uint32_t)sim_rng_below(rng, 3 * EXTENT_PAGES_MAX);
    if (sim_rng_chance(rng, 50))
        header.page_bytes = (uint32_t)VARVE_PAGE_BYTES_MAX - 2 + (uint32_t)sim_rng_below(rng, 5);
    if (sim_rng_chance(rng, 50))
        header.branch = FORMAT_NUMBER_READ_MAX - 2 + sim_rng_below(rng, 5);
    bytes = header.header_bytes = extent_header_size(count, uniform, header.align_shift);

    sim_rng_fill(rng, extent_table_ids(out), (size_t)count * (VARVE_ID_BYTES + 8));
    if (!uniform) {
        header.sizes = extent_table_sizes(out, count);
        for (uint32_t i = 0; i < count; i++)
            wire_put32(extent_table_sizes(out, count) + (size_t)i * 4, (uint32_t)sim_rng_log(rng, 1u << 20));
    }
    for (uint32_t i = 0; i < count; i++)
        bytes += log_pad(extent_page_size(&header, i), header.align_shift);
    header.extent_bytes = log_pad(bytes, 12);
    extent_header_encode(&header, out);
    return header.header_bytes;
}

size_t
fuzz_example(struct sim_rng *rng, uint8_t *out)
{
    size_t size;

    out[0] = (uint8_t)sim_rng_below(rng, 2);
    size = sim_rng_chance(rng, 200) ? example_segment(rng, out + 1) : example_extent(rng, out + 1);
    return 1 + size;
}
