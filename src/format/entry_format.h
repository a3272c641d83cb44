/* SPDX-License-Identifier: Apache-2.0 */
/*
 * entry_format.h - the head of an index entry in a block: varints, coded against the entry before it in the same
 * block. Its arrays (ids, sums, sizes) lie in the columns of the block, raw, so a decoded entry is a view into the
 * block (run_format.h). docs/FORMAT.md, "Index entry".
 *
 *   u8      flags (ENTRY_F_*; others must be zero)
 *   varint  count, 1..ENTRY_PAGES_MAX
 *   varint  zigzag(ns id - ns id before), varint zigzag(branch - branch before)   unless SAME_BRANCH
 *   varint  zigzag(depth - (SAME_BRANCH ? depth after the last page before : 0))   unless CONTIGUOUS
 *   varint  zigzag(segment - segment before)                                       unless FOLLOWS
 *   varint  offset in units of 1 << align_shift, or, in the same segment,
 *           zigzag of its distance from the end of the entry before, in those units unless FOLLOWS
 *   u8 codec, u8 align_shift, and varint page_bytes unless SIZES (then it is 0)     unless SAME_SHAPE
 *   varint  parent branch, varint parent depth                                     if PARENT
 */
#ifndef VARVE_FORMAT_ENTRY_FORMAT_H
#define VARVE_FORMAT_ENTRY_FORMAT_H

#include "index/entry.h"

#define ENTRY_HEAD_MAX       72                  /* bytes of the longest head */
#define ENTRY_PAGE_BYTES_MAX 28                  /* bytes a page takes in the arrays, at most */
#define ENTRY_OFFSET_MAX     ((uint64_t)1 << 48) /* of a first page in its segment */
#define ENTRY_SHIFT_MIN      9
#define ENTRY_SHIFT_MAX      12

/* What the entry before leaves behind for coding the next one. All zero at the start of a block. */
struct entry_base {
    struct key end; /* depth: that of the page after its last */
    uint64_t segment;
    uint64_t end_offset;
    uint32_t page_bytes;
    uint8_t codec;
    uint8_t align_shift;
    bool has_sizes;
};

/* Bytes of the arrays of one page. */
static inline uint32_t
entry_bytes_per_page(const struct entry *entry)
{
    return ID_PREFIX_BYTES + 8 + (entry->sizes == NULL ? 0U : 4U);
}

struct entry_base entry_base_after(const struct entry *entry);

/* Write the head; returns its length, at most ENTRY_HEAD_MAX. */
size_t entry_encode_head(uint8_t *head, const struct entry_base *base, const struct entry *entry);

/*
 * Decode the head at the reader; the arrays are the caller's to fill in, `sizes` only where *has_sizes. false:
 * malformed. Every field has been checked against its limits then.
 */
bool entry_decode_head(struct wire_reader *reader, const struct entry_base *base, struct entry *out, bool *has_sizes);

#endif
