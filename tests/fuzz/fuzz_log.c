/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segment and extent headers from arbitrary bytes. What is accepted has lengths that agree, so walking all pages stays inside the
 * extent.
 */
#include <string.h>

#include "base/hash.h"
#include "base/wire.h"
#include "format/log_format.h"
#include "fuzz.h"

#define SALT   UINT64_C(0x1122334455667788)
#define OFFSET UINT64_C(8192)

/* Offsets of the checksums: docs/FORMAT.md. */
#define SEGMENT_SUM_AT      32
#define EXTENT_COUNT_AT     76
#define EXTENT_PAGE_AT      80
#define EXTENT_TABLE_SUM_AT 56
#define EXTENT_SUM_AT       120

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
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t copy[FUZZ_INPUT_MAX];
    struct segment_header segment;

    if (size < 1 + SEGMENT_HEADER_BYTES || size > sizeof(copy))
        return 0;
    memcpy(copy, data + 1, size - 1);
    if (FUZZ_FIX_SUMS(data[0]))
        wire_put64(copy + SEGMENT_SUM_AT, hash_bytes(copy, SEGMENT_SUM_AT));
    if (segment_header_decode(copy, &segment) == LOG_DECODE_OK)
        fuzz_require(segment.align_shift >= 9 && segment.align_shift <= 12, "a segment's alignment is out of range");
    memcpy(copy, data + 1, size - 1);
    if (FUZZ_FIX_SUMS(data[0]))
        fix_sums(copy, size - 1);
    check_extent(copy, size - 1);
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
    uint64_t bytes = header.header_bytes = extent_header_size(count, uniform, header.align_shift);

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
    if (size < SEGMENT_HEADER_BYTES) { /* the parser is given what a file has there: at least a block */
        memset(out + 1 + size, 0, SEGMENT_HEADER_BYTES - size);
        size = SEGMENT_HEADER_BYTES;
    }
    return 1 + size;
}
