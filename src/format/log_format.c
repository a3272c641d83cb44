/* SPDX-License-Identifier: Apache-2.0 */
#include "format/log_format.h"

#include <assert.h>
#include <string.h>

#include "base/wire.h"
#include "format/format.h"

#define SEGMENT_MAGIC       0x47455356u /* "VSEG" */
#define EXTENT_MAGIC        0x54585456u /* "VTXT" */
#define PAGE_BYTES_IN_TABLE 0xffffffffu /* page_bytes of an extent whose sizes differ */
#define ALIGN_SHIFT_MIN     9
#define ALIGN_SHIFT_MAX     12

/* Offsets in the segment header. */
enum {
    SEGMENT_AT_MAGIC = 0,       /* 00-03 */
    SEGMENT_AT_VERSION = 4,     /* 04-05 */
    SEGMENT_AT_ALIGN_SHIFT = 6, /* 06; 07 zero */
    SEGMENT_AT_NUMBER = 8,      /* 08-15 */
    SEGMENT_AT_SALT = 16,       /* 16-23 */
    SEGMENT_AT_BYTES = 24,      /* 24-31 */
    SEGMENT_AT_SUM = 32,        /* 32-39 XXH3-64 of 00-31; the rest is zero */
};

/* Offsets in the fixed part of an extent header. */
enum {
    EXTENT_AT_MAGIC = 0,          /* 00-03 */
    EXTENT_AT_VERSION = 4,        /* 04-05 */
    EXTENT_AT_CODEC = 6,          /* 06 */
    EXTENT_AT_ALIGN_SHIFT = 7,    /* 07 */
    EXTENT_AT_SALT = 8,           /* 08-15 */
    EXTENT_AT_OFFSET = 16,        /* 16-23 */
    EXTENT_AT_BRANCH = 24,        /* 24-31 */
    EXTENT_AT_PARENT_BRANCH = 32, /* 32-39 */
    EXTENT_AT_SYNCED = 40,        /* 40-47 */
    EXTENT_AT_BYTES = 48,         /* 48-55 */
    EXTENT_AT_TABLE_SUM = 56,     /* 56-63 XXH3-64 of ids, checksums, sizes */
    EXTENT_AT_NS_ID = 64,         /* 64-67 */
    EXTENT_AT_DEPTH = 68,         /* 68-71 */
    EXTENT_AT_PARENT_DEPTH = 72,  /* 72-75 */
    EXTENT_AT_COUNT = 76,         /* 76-79 */
    EXTENT_AT_PAGE_BYTES = 80,    /* 80-83; 84-119 zero */
    EXTENT_AT_SUM = 120,          /* 120-127 XXH3-64 of 00-119 */
};

void
segment_header_encode(const struct segment_header *header, uint8_t *buf)
{
    memset(buf, 0, SEGMENT_HEADER_BYTES);
    wire_put32(buf + SEGMENT_AT_MAGIC, SEGMENT_MAGIC);
    wire_put16(buf + SEGMENT_AT_VERSION, FORMAT_VERSION);
    buf[SEGMENT_AT_ALIGN_SHIFT] = header->align_shift;
    wire_put64(buf + SEGMENT_AT_NUMBER, header->number);
    wire_put64(buf + SEGMENT_AT_SALT, header->salt);
    wire_put64(buf + SEGMENT_AT_BYTES, header->bytes);
    wire_put64(buf + SEGMENT_AT_SUM, hash_bytes(buf, SEGMENT_AT_SUM));
}

enum log_decode
segment_header_decode(const uint8_t *buf, struct segment_header *out)
{
    if (wire_get32(buf + SEGMENT_AT_MAGIC) != SEGMENT_MAGIC ||
        wire_get64(buf + SEGMENT_AT_SUM) != hash_bytes(buf, SEGMENT_AT_SUM))
        return LOG_DECODE_BAD;
    if (wire_get16(buf + SEGMENT_AT_VERSION) > FORMAT_VERSION)
        return LOG_DECODE_NEWER;
    out->align_shift = buf[SEGMENT_AT_ALIGN_SHIFT];
    out->number = wire_get64(buf + SEGMENT_AT_NUMBER);
    out->salt = wire_get64(buf + SEGMENT_AT_SALT);
    out->bytes = wire_get64(buf + SEGMENT_AT_BYTES);
    if (out->align_shift < ALIGN_SHIFT_MIN || out->align_shift > ALIGN_SHIFT_MAX)
        return LOG_DECODE_BAD;
    return LOG_DECODE_OK;
}

static uint32_t
table_bytes(uint32_t count, bool uniform)
{
    return count * (VARVE_ID_BYTES + 8 + (uniform ? 0u : 4u));
}

uint32_t
extent_header_size(uint32_t count, bool uniform, uint8_t align_shift)
{
    assert(count > 0 && count <= EXTENT_PAGES_MAX);
    return (uint32_t)log_pad(EXTENT_FIXED_BYTES + table_bytes(count, uniform), align_shift);
}

void
extent_header_encode(const struct extent_header *header, uint8_t *buf)
{
    bool uniform = header->sizes == NULL;
    uint32_t table = table_bytes(header->count, uniform);

    assert(header->header_bytes == extent_header_size(header->count, uniform, header->align_shift));
    memset(buf, 0, EXTENT_FIXED_BYTES);
    memset(buf + EXTENT_FIXED_BYTES + table, 0, header->header_bytes - EXTENT_FIXED_BYTES - table);
    wire_put32(buf + EXTENT_AT_MAGIC, EXTENT_MAGIC);
    wire_put16(buf + EXTENT_AT_VERSION, FORMAT_VERSION);
    buf[EXTENT_AT_CODEC] = header->codec;
    buf[EXTENT_AT_ALIGN_SHIFT] = header->align_shift;
    wire_put64(buf + EXTENT_AT_SALT, header->salt);
    wire_put64(buf + EXTENT_AT_OFFSET, header->offset);
    wire_put64(buf + EXTENT_AT_BRANCH, header->branch);
    wire_put64(buf + EXTENT_AT_PARENT_BRANCH, header->parent_branch);
    wire_put64(buf + EXTENT_AT_SYNCED, header->synced_offset);
    wire_put64(buf + EXTENT_AT_BYTES, header->extent_bytes);
    wire_put64(buf + EXTENT_AT_TABLE_SUM, hash_bytes(buf + EXTENT_FIXED_BYTES, table));
    wire_put32(buf + EXTENT_AT_NS_ID, header->ns_id);
    wire_put32(buf + EXTENT_AT_DEPTH, header->depth);
    wire_put32(buf + EXTENT_AT_PARENT_DEPTH, header->parent_depth);
    wire_put32(buf + EXTENT_AT_COUNT, header->count);
    wire_put32(buf + EXTENT_AT_PAGE_BYTES, uniform ? header->page_bytes : PAGE_BYTES_IN_TABLE);
    wire_put64(buf + EXTENT_AT_SUM, hash_bytes(buf, EXTENT_AT_SUM));
}

/* Whether sizes and extent_bytes agree: all lengths are ours only when they do. */
static bool
extent_lengths_agree(const struct extent_header *header)
{
    uint64_t bytes = header->header_bytes;

    for (uint32_t i = 0; i < header->count; i++) {
        uint32_t size = extent_page_size(header, i);

        if (size > VARVE_PAGE_BYTES_MAX)
            return false;
        bytes += log_pad(size, header->align_shift);
    }
    return log_pad(bytes, 12) == header->extent_bytes;
}

enum log_decode
extent_header_decode(const uint8_t *buf, size_t size, uint64_t salt, uint64_t offset, struct extent_header *out)
{
    uint32_t table;
    bool uniform;

    assert(size >= EXTENT_FIXED_BYTES);
    if (wire_get32(buf + EXTENT_AT_MAGIC) != EXTENT_MAGIC || wire_get64(buf + EXTENT_AT_SALT) != salt ||
        wire_get64(buf + EXTENT_AT_OFFSET) != offset ||
        wire_get64(buf + EXTENT_AT_SUM) != hash_bytes(buf, EXTENT_AT_SUM))
        return LOG_DECODE_BAD;
    if (wire_get16(buf + EXTENT_AT_VERSION) > FORMAT_VERSION)
        return LOG_DECODE_NEWER;
    *out = (struct extent_header){
        .salt = salt,
        .offset = offset,
        .branch = wire_get64(buf + EXTENT_AT_BRANCH),
        .parent_branch = wire_get64(buf + EXTENT_AT_PARENT_BRANCH),
        .synced_offset = wire_get64(buf + EXTENT_AT_SYNCED),
        .extent_bytes = wire_get64(buf + EXTENT_AT_BYTES),
        .ns_id = wire_get32(buf + EXTENT_AT_NS_ID),
        .depth = wire_get32(buf + EXTENT_AT_DEPTH),
        .parent_depth = wire_get32(buf + EXTENT_AT_PARENT_DEPTH),
        .count = wire_get32(buf + EXTENT_AT_COUNT),
        .page_bytes = wire_get32(buf + EXTENT_AT_PAGE_BYTES),
        .codec = buf[EXTENT_AT_CODEC],
        .align_shift = buf[EXTENT_AT_ALIGN_SHIFT],
    };
    if (out->count == 0 || out->count > EXTENT_PAGES_MAX || out->align_shift < ALIGN_SHIFT_MIN ||
        out->align_shift > ALIGN_SHIFT_MAX || out->branch == 0 || out->branch > FORMAT_NUMBER_READ_MAX ||
        out->depth > UINT32_MAX - 2 * EXTENT_PAGES_MAX) /* each of its pages may be the first of another extent */
        return LOG_DECODE_BAD;
    uniform = out->page_bytes != PAGE_BYTES_IN_TABLE;
    table = table_bytes(out->count, uniform);
    out->header_bytes = extent_header_size(out->count, uniform, out->align_shift);
    if (size < EXTENT_FIXED_BYTES + table)
        return LOG_DECODE_SHORT;
    if (wire_get64(buf + EXTENT_AT_TABLE_SUM) != hash_bytes(buf + EXTENT_FIXED_BYTES, table))
        return LOG_DECODE_BAD;
    out->ids = buf + EXTENT_FIXED_BYTES;
    out->sums = out->ids + (size_t)out->count * VARVE_ID_BYTES;
    out->sizes = uniform ? NULL : out->sums + (size_t)out->count * 8;
    return extent_lengths_agree(out) ? LOG_DECODE_OK : LOG_DECODE_BAD;
}

uint32_t
extent_page_size(const struct extent_header *header, uint32_t index)
{
    return header->sizes == NULL ? header->page_bytes : wire_get32(header->sizes + (size_t)index * 4);
}
