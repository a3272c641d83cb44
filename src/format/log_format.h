/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_format.h - bytes of a segment file: its header, and the headers of extents. Offsets: docs/FORMAT.md.
 *
 *   segment: [segment header, 4 KiB] [extent] [extent] ... [zeros up to the preallocated size, or what the file had before]
 *   extent:  [fixed header, 128 B][page ids][checksums][sizes][zeros up to 1 << align_shift]
 *            [page][zeros up to 1 << align_shift] [page] ... [zeros up to 4 KiB]
 *
 * A decoder trusts nothing: magic, version, checksum of the fixed part, then lengths against each other, then the checksum of the
 * table. A header is valid only in the segment (salt) and at the offset it was written for, so stale and copied bytes never are.
 */
#ifndef VARVE_FORMAT_LOG_FORMAT_H
#define VARVE_FORMAT_LOG_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "index/entry.h"

#define LOG_BLOCK_SHIFT      12
#define LOG_BLOCK_BYTES      4096 /* extents start at multiples of it */
#define SEGMENT_HEADER_BYTES LOG_BLOCK_BYTES
#define EXTENT_FIXED_BYTES   128
#define EXTENT_PAGES_MAX     ENTRY_PAGES_MAX
#define EXTENT_HEADER_BYTES_MAX                                                                                        \
    (EXTENT_FIXED_BYTES + EXTENT_PAGES_MAX * (VARVE_ID_BYTES + 8 + 4) + LOG_BLOCK_BYTES) /* with padding */

struct segment_header {
    uint64_t number;
    uint64_t salt;
    uint64_t bytes; /* preallocated length of the file */
    uint8_t align_shift;
};

/* Everything that an extent's header says. ids, sums, sizes: views into the buffer it was decoded from. */
struct extent_header {
    uint64_t salt;   /* of its segment */
    uint64_t offset; /* of the header in the segment file */
    uint64_t branch;
    uint64_t parent_branch; /* 0: none */
    uint64_t synced_offset; /* all of the segment before it was durable when this was written */
    uint64_t extent_bytes;  /* header, payload and padding */
    uint32_t header_bytes;  /* with padding: the payload starts at offset + header_bytes */
    uint32_t ns_id;
    uint32_t depth;
    uint32_t parent_depth;
    uint32_t count;
    uint32_t page_bytes; /* when sizes is NULL */
    uint8_t codec;
    uint8_t align_shift;
    const uint8_t *ids;   /* count x VARVE_ID_BYTES */
    const uint8_t *sums;  /* count x 8 */
    const uint8_t *sizes; /* count x 4, or NULL */
};

enum log_decode {
    LOG_DECODE_OK = 0,
    LOG_DECODE_SHORT, /* plausible so far: header_bytes says how many bytes are needed */
    LOG_DECODE_BAD,
    LOG_DECODE_NEWER, /* checksum holds, version is newer than this code */
};

/* buf: SEGMENT_HEADER_BYTES. */
void segment_header_encode(const struct segment_header *header, uint8_t *buf);
enum log_decode segment_header_decode(const uint8_t *buf, struct segment_header *out);

/* Bytes of the header of `count` pages, padded; `uniform` headers have no table of sizes. */
uint32_t extent_header_size(uint32_t count, bool uniform, uint8_t align_shift);

/* Room for a size padded to the alignment of payloads. */
static inline uint64_t
log_pad(uint64_t size, uint8_t align_shift)
{
    uint64_t mask = ((uint64_t)1 << align_shift) - 1;

    return (size + mask) & ~mask;
}

/*
 * Complete a header in place: the caller has written ids, sums (and sizes, when header->sizes is not NULL) at the places given by
 * extent_table_ids() and so on; this writes the fixed part, the checksums and the padding. buf: header->header_bytes bytes.
 */
void extent_header_encode(const struct extent_header *header, uint8_t *buf);

static inline uint8_t *
extent_table_ids(uint8_t *buf)
{
    return buf + EXTENT_FIXED_BYTES;
}

static inline uint8_t *
extent_table_sums(uint8_t *buf, uint32_t count)
{
    return extent_table_ids(buf) + (size_t)count * VARVE_ID_BYTES;
}

static inline uint8_t *
extent_table_sizes(uint8_t *buf, uint32_t count)
{
    return extent_table_sums(buf, count) + (size_t)count * 8;
}

/*
 * Decode the header that was written at `offset` of a segment with `salt`, from the `size` (>= EXTENT_FIXED_BYTES) bytes there. OK: every
 * field is checked, extent_bytes included. SHORT: call again with out->header_bytes bytes (at most EXTENT_HEADER_BYTES_MAX).
 */
enum log_decode extent_header_decode(const uint8_t *buf, size_t size, uint64_t salt, uint64_t offset,
                                     struct extent_header *out);

/* Stored size of the page at `index`. */
uint32_t extent_page_size(const struct extent_header *header, uint32_t index);

#endif
