/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run_format.h - the bytes of a run file. docs/FORMAT.md, "Run file".
 *
 *   blocks       block_count x 16 KiB, block n at n x 16 KiB
 *   block index  block_count x 16 bytes: the first key of each block, ascending; zero-padded to 4 KiB
 *   locator      bucket_count x 64 bytes; zero-padded to 4 KiB
 *   footer       4 KiB
 *
 * Every section starts at a multiple of 4 KiB and has a checksum that covers its padding, so the file can be read with
 * direct I/O and no flipped bit goes unseen.
 */
#ifndef VARVE_FORMAT_RUN_FORMAT_H
#define VARVE_FORMAT_RUN_FORMAT_H

#include "format/entry_format.h"

#define BLOCK_BYTES        16384
#define BLOCK_HEADER_BYTES 32
#define RUN_PAD_BYTES      4096
#define RUN_FOOTER_BYTES   4096
#define RUN_KEY_BYTES      16
#define RUN_BUCKET_BYTES   64

/* Bytes of a block that may stay unused because an entry is not split into parts smaller than BLOCK_SPLIT_MIN pages. */
#define BLOCK_SPLIT_MIN 8
#define BLOCK_SLACK_MAX (2 * BLOCK_SPLIT_MIN * ENTRY_PAGE_BYTES_MAX + ENTRY_HEAD_MAX)

/*
 * Block: header, columns, heads, zeros. Columns, so that one page is found by looking at ids only, and entries by
 * looking at heads only. An entry's part of a column follows that of the entry before.
 *
 *   32...   ids    16 bytes a page
 *           sums   8 bytes a page
 *           sizes  4 bytes for each page of an entry that has sizes
 *           heads  entry_format.h
 *
 * Header. Little-endian.
 *   00-01 u16 magic               04-05 u16 pages
 *   02-03 u16 entries, at least 1 06-07 u16 pages with a size
 *   08-15 u64 XXH3 of the whole block with block_seed() in this place: a block that lies elsewhere fails it
 *   16-17 u16 bytes of the heads  18-31 zero
 */
#define BLOCK_PAGES_MAX  ((BLOCK_BYTES - BLOCK_HEADER_BYTES) / (ID_PREFIX_BYTES + 8))
#define BLOCK_PAGES_BITS 10 /* page indexes in a block are less than 1 << 10 */

static inline uint32_t
block_pages(const uint8_t *block)
{
    return wire_get16(block + 4);
}

/* Byte offset of the heads. */
static inline uint32_t
block_heads(const uint8_t *block)
{
    return BLOCK_HEADER_BYTES + block_pages(block) * (ID_PREFIX_BYTES + 8) + (uint32_t)wire_get16(block + 6) * 4;
}

static inline const uint8_t *
block_id(const uint8_t *block, uint32_t page)
{
    return block + BLOCK_HEADER_BYTES + (size_t)page * ID_PREFIX_BYTES;
}

uint64_t block_seed(uint64_t salt, uint64_t file_number, uint32_t block);

/*
 * Whether the block is what was written there: checksum, then every entry. Writes to the block, but leaves it as it
 * was.
 */
bool block_check(uint8_t *block, uint64_t seed);

/* Fills one block with entries in key order. */
struct block_builder {
    uint32_t used; /* bytes, header included */
    uint32_t entries;
    uint32_t pages;
    uint32_t sized_pages;
    uint32_t head_bytes;
    struct entry_base base;
    uint8_t ids[BLOCK_BYTES];
    uint8_t sums[BLOCK_BYTES / 2];
    uint8_t sizes[BLOCK_BYTES / 4];
    uint8_t heads[BLOCK_BYTES];
};

void block_builder_init(struct block_builder *builder);
/*
 * Append the first pages of the entry, as many as fit without leaving tiny parts. Returns how many; 0: the block is
 * full. An empty block takes at least one.
 */
uint32_t block_builder_add(struct block_builder *builder, const struct entry *entry);
/* Make the block's BLOCK_BYTES bytes. */
void block_builder_seal(const struct block_builder *builder, uint8_t *block, uint64_t seed);

/* Where in a block an entry begins: its head, and its parts of the columns. head 0: nowhere. */
struct block_place {
    uint32_t head; /* byte offset in the block */
    uint32_t page;
    uint32_t sized_page;
};

/* Steps through the entries of a block that passed block_check(). */
struct block_walk {
    const uint8_t *block;
    struct wire_reader reader; /* of heads */
    struct entry_base base;
    uint32_t page; /* of the next entry */
    uint32_t sized_page;
};

void block_walk_init(struct block_walk *walk, const uint8_t *block);
/* Go on at `place`, after the entry `before`. */
void block_walk_resume(struct block_walk *walk, const uint8_t *block, const struct block_place *place,
                       const struct entry *before);
/* false: the end. *out is a view into the block. */
bool block_walk_next(struct block_walk *walk, struct entry *out);
/* Where block_walk_next() goes on. */
struct block_place block_walk_place(const struct block_walk *walk);

static inline uint64_t
run_padded(uint64_t bytes)
{
    return (bytes + RUN_PAD_BYTES - 1) / RUN_PAD_BYTES * RUN_PAD_BYTES;
}

/*
 * Footer, the last 4 KiB. Little-endian.
 *   000-007 u64 magic             048-055 u64 pages             096-103 u64 bucket count
 *   008-015 u64 XXH3 of the footer with zero here               104     u8  slot bytes: 4 or 5
 *   016-019 u32 FORMAT_VERSION    056-063 u64 XXH3 of the index 105     u8  block bits
 *   020-023 u32 block count       064-071 u64 XXH3 of the locator 106   u8  page bits
 *   024-031 u64 salt              072-087 key of the last entry         107  u8  fingerprint bits
 *   032-039 u64 file number       088-091 u32 most pages of one entry
 *   040-047 u64 entries           092-095 u32 zero              108-... zero
 */
struct run_footer {
    uint64_t salt;
    uint64_t file_number;
    uint64_t entries;
    uint64_t pages;
    uint64_t index_sum;
    uint64_t locator_sum;
    uint64_t bucket_count;
    struct key last_key; /* of the last entry */
    uint32_t block_count;
    uint32_t entry_pages_max;
    uint8_t slot_bytes;
    uint8_t block_bits;
    uint8_t page_bits;
    uint8_t fingerprint_bits;
};

uint64_t run_index_offset(const struct run_footer *footer);
uint64_t run_locator_offset(const struct run_footer *footer);
uint64_t run_file_bytes(const struct run_footer *footer);

void run_footer_encode(uint8_t *page, const struct run_footer *footer);
/* VARVE_OK, VARVE_E_CORRUPT or VARVE_E_VERSION. On success the geometry is consistent and its sums do not overflow. */
int run_footer_decode(uint8_t *page, struct run_footer *out);

void run_key_encode(uint8_t *out, const struct key *key);
struct key run_key_decode(const uint8_t *in);

#endif
