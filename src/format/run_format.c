/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks and footer of run files; see run_format.h. A checksum lies inside the bytes that it covers: while it is
 * computed, its place holds the seed.
 */
#include "format/run_format.h"

#include <assert.h>
#include <string.h>

#include "format/format.h"

#define BLOCK_MAGIC  0x4b42                       /* "BK" */
#define FOOTER_MAGIC UINT64_C(0x6e75725665767261) /* "arveVrun" */

#define BLOCK_SUM_AT  8
#define HEAD_BYTES_AT 16
#define FOOTER_SUM_AT 8

static uint64_t
sum_with(uint8_t *data, size_t size, size_t sum_at, uint64_t seed)
{
    uint64_t held = wire_get64(data + sum_at);
    uint64_t sum;

    wire_put64(data + sum_at, seed);
    sum = hash_bytes(data, size);
    wire_put64(data + sum_at, held);
    return sum;
}

uint64_t
block_seed(uint64_t salt, uint64_t file_number, uint32_t block)
{
    uint8_t place[20];

    wire_put64(place, salt);
    wire_put64(place + 8, file_number);
    wire_put32(place + 16, block);
    return hash_bytes(place, sizeof(place));
}

/* Sizes, and with them offsets: any part of the entry can be coded as an entry of its own. */
static bool
sizes_valid(const struct entry *entry)
{
    for (uint32_t i = 0; entry->sizes != NULL && i < entry->count; i++) {
        if (entry_size(entry, i) > VARVE_PAGE_BYTES_MAX)
            return false;
    }
    return entry_page_offset(entry, entry->count) <= ENTRY_OFFSET_MAX;
}

static uint32_t
sized_pages(const uint8_t *block)
{
    return wire_get16(block + 6);
}

bool
block_check(uint8_t *block, uint64_t seed)
{
    uint32_t entries = wire_get16(block + 2);
    struct key before = {0};
    struct block_walk walk;
    struct entry entry;
    uint32_t walked = 0;

    if (wire_get16(block) != BLOCK_MAGIC ||
        wire_get64(block + BLOCK_SUM_AT) != sum_with(block, BLOCK_BYTES, BLOCK_SUM_AT, seed))
        return false;
    if (entries == 0 || block_heads(block) + wire_get16(block + HEAD_BYTES_AT) > BLOCK_BYTES)
        return false;
    block_walk_init(&walk, block);
    while (block_walk_next(&walk, &entry)) {
        if (!sizes_valid(&entry) || key_compare(&before, &entry.key) > 0)
            return false;
        before = entry.key;
        walked++;
    }
    return walked == entries && !walk.reader.failed && walk.reader.next == walk.reader.end &&
           walk.page == block_pages(block) && walk.sized_page == sized_pages(block);
}

void
block_builder_init(struct block_builder *builder)
{
    builder->used = BLOCK_HEADER_BYTES;
    builder->entries = 0;
    builder->pages = 0;
    builder->sized_pages = 0;
    builder->head_bytes = 0;
    builder->base = (struct entry_base){0};
}

/* How many pages of the entry to put into `room` bytes, its head being `head` bytes long. */
static uint32_t
pages_that_fit(const struct entry *entry, size_t head, size_t room)
{
    size_t per_page = entry_bytes_per_page(entry);
    uint32_t fit;

    if (head + per_page > room)
        return 0;
    fit = (uint32_t)((room - head) / per_page);
    if (fit >= entry->count)
        return entry->count;
    if (entry->count - fit < BLOCK_SPLIT_MIN && entry->count > BLOCK_SPLIT_MIN)
        fit = entry->count - BLOCK_SPLIT_MIN;
    return fit < BLOCK_SPLIT_MIN ? 0 : fit;
}

uint32_t
block_builder_add(struct block_builder *builder, const struct entry *entry)
{
    uint8_t head[ENTRY_HEAD_MAX];
    size_t room = BLOCK_BYTES - builder->used;
    struct entry part = *entry;
    size_t head_bytes = entry_encode_head(head, &builder->base, entry);

    part.count = pages_that_fit(entry, head_bytes, room);
    if (part.count == 0) {
        assert(builder->entries > 0);
        return 0;
    }
    if (part.count < entry->count)
        head_bytes = entry_encode_head(head, &builder->base, &part);
    memcpy(builder->heads + builder->head_bytes, head, head_bytes);
    builder->head_bytes += (uint32_t)head_bytes;
    memcpy(builder->ids + (size_t)builder->pages * ID_PREFIX_BYTES, part.ids, (size_t)part.count * ID_PREFIX_BYTES);
    memcpy(builder->sums + (size_t)builder->pages * 8, part.sums, (size_t)part.count * 8);
    builder->pages += part.count;
    if (part.sizes != NULL) {
        memcpy(builder->sizes + (size_t)builder->sized_pages * 4, part.sizes, (size_t)part.count * 4);
        builder->sized_pages += part.count;
    }
    builder->used += (uint32_t)head_bytes + part.count * entry_bytes_per_page(&part);
    builder->entries++;
    builder->base = entry_base_after(&part);
    assert(builder->used <= BLOCK_BYTES);
    return part.count;
}

void
block_builder_seal(const struct block_builder *builder, uint8_t *block, uint64_t seed)
{
    uint8_t *p = block + BLOCK_HEADER_BYTES;

    assert(builder->entries > 0);
    memset(block, 0, BLOCK_HEADER_BYTES);
    wire_put16(block, BLOCK_MAGIC);
    wire_put16(block + 2, (uint16_t)builder->entries);
    wire_put16(block + 4, (uint16_t)builder->pages);
    wire_put16(block + 6, (uint16_t)builder->sized_pages);
    wire_put16(block + HEAD_BYTES_AT, (uint16_t)builder->head_bytes);
    memcpy(p, builder->ids, (size_t)builder->pages * ID_PREFIX_BYTES);
    p += (size_t)builder->pages * ID_PREFIX_BYTES;
    memcpy(p, builder->sums, (size_t)builder->pages * 8);
    p += (size_t)builder->pages * 8;
    memcpy(p, builder->sizes, (size_t)builder->sized_pages * 4);
    p += (size_t)builder->sized_pages * 4;
    memcpy(p, builder->heads, builder->head_bytes);
    p += builder->head_bytes;
    assert(p - block == (ptrdiff_t)builder->used);
    memset(p, 0, BLOCK_BYTES - builder->used);
    wire_put64(block + BLOCK_SUM_AT, sum_with(block, BLOCK_BYTES, BLOCK_SUM_AT, seed));
}

void
block_walk_init(struct block_walk *walk, const uint8_t *block)
{
    *walk = (struct block_walk){
        .block = block,
        .reader = wire_reader_make(block + block_heads(block), wire_get16(block + HEAD_BYTES_AT)),
    };
}

void
block_walk_resume(struct block_walk *walk, const uint8_t *block, const struct block_place *place,
                  const struct entry *before)
{
    uint32_t end = block_heads(block) + wire_get16(block + HEAD_BYTES_AT);

    assert(place->head <= end);
    *walk = (struct block_walk){
        .block = block,
        .reader = wire_reader_make(block + place->head, end - place->head),
        .base = entry_base_after(before),
        .page = place->page,
        .sized_page = place->sized_page,
    };
}

bool
block_walk_next(struct block_walk *walk, struct entry *out)
{
    const uint8_t *block = walk->block;
    uint32_t pages = block_pages(block);
    bool has_sizes;

    if (walk->reader.next == walk->reader.end)
        return false;
    if (!entry_decode_head(&walk->reader, &walk->base, out, &has_sizes) || out->count > pages - walk->page ||
        (has_sizes && out->count > sized_pages(block) - walk->sized_page)) {
        walk->reader.failed = true; /* a malformed head may end where the heads do: block_check() must not miss it */
        return false;
    }
    out->ids = block_id(block, walk->page);
    out->sums = block_id(block, pages) + (size_t)walk->page * 8;
    walk->page += out->count;
    if (has_sizes) {
        out->sizes = block_id(block, pages) + (size_t)pages * 8 + (size_t)walk->sized_page * 4;
        walk->sized_page += out->count;
    }
    walk->base = entry_base_after(out);
    return true;
}

struct block_place
block_walk_place(const struct block_walk *walk)
{
    if (walk->reader.next == walk->reader.end)
        return (struct block_place){.head = 0};
    return (struct block_place){
        .head = (uint32_t)(walk->reader.next - walk->block),
        .page = walk->page,
        .sized_page = walk->sized_page,
    };
}

void
run_key_encode(uint8_t *out, const struct key *key)
{
    wire_put32(out, key->ns_id);
    wire_put32(out + 4, key->depth);
    wire_put64(out + 8, key->branch);
}

struct key
run_key_decode(const uint8_t *in)
{
    return (struct key){.ns_id = wire_get32(in), .depth = wire_get32(in + 4), .branch = wire_get64(in + 8)};
}

uint64_t
run_index_offset(const struct run_footer *footer)
{
    return (uint64_t)footer->block_count * BLOCK_BYTES;
}

uint64_t
run_locator_offset(const struct run_footer *footer)
{
    return run_index_offset(footer) + run_padded((uint64_t)footer->block_count * RUN_KEY_BYTES);
}

uint64_t
run_file_bytes(const struct run_footer *footer)
{
    return run_locator_offset(footer) + run_padded(footer->bucket_count * RUN_BUCKET_BYTES) + RUN_FOOTER_BYTES;
}

void
run_footer_encode(uint8_t *page, const struct run_footer *footer)
{
    memset(page, 0, RUN_FOOTER_BYTES);
    wire_put64(page, FOOTER_MAGIC);
    wire_put32(page + 16, FORMAT_VERSION);
    wire_put32(page + 20, footer->block_count);
    wire_put64(page + 24, footer->salt);
    wire_put64(page + 32, footer->file_number);
    wire_put64(page + 40, footer->entries);
    wire_put64(page + 48, footer->pages);
    wire_put64(page + 56, footer->index_sum);
    wire_put64(page + 64, footer->locator_sum);
    run_key_encode(page + 72, &footer->last_key);
    wire_put32(page + 88, footer->entry_pages_max);
    wire_put64(page + 96, footer->bucket_count);
    page[104] = footer->slot_bytes;
    page[105] = footer->block_bits;
    page[106] = footer->page_bits;
    page[107] = footer->fingerprint_bits;
    wire_put64(page + FOOTER_SUM_AT, sum_with(page, RUN_FOOTER_BYTES, FOOTER_SUM_AT, 0));
}

static bool
footer_consistent(const struct run_footer *footer)
{
    unsigned bits = (unsigned)footer->block_bits + footer->page_bits + footer->fingerprint_bits;

    if (footer->slot_bytes != 4 && footer->slot_bytes != 5)
        return false;
    if (footer->block_bits < 1 || footer->block_bits > 31 || footer->page_bits > BLOCK_PAGES_BITS ||
        footer->fingerprint_bits < 1 || footer->fingerprint_bits > 32 || bits > 8U * footer->slot_bytes)
        return false;
    if (footer->block_count == 0 || footer->block_count > (uint32_t)1 << footer->block_bits)
        return false;
    return footer->bucket_count >= 1 && footer->bucket_count <= UINT32_MAX && footer->entry_pages_max >= 1 &&
           footer->entry_pages_max <= ENTRY_PAGES_MAX;
}

int
run_footer_decode(uint8_t *page, struct run_footer *out)
{
    if (wire_get64(page) != FOOTER_MAGIC)
        return VARVE_E_CORRUPT;
    if (wire_get64(page + FOOTER_SUM_AT) != sum_with(page, RUN_FOOTER_BYTES, FOOTER_SUM_AT, 0))
        return VARVE_E_CORRUPT;
    if (wire_get32(page + 16) > FORMAT_VERSION)
        return VARVE_E_VERSION;
    *out = (struct run_footer){
        .salt = wire_get64(page + 24),
        .file_number = wire_get64(page + 32),
        .entries = wire_get64(page + 40),
        .pages = wire_get64(page + 48),
        .index_sum = wire_get64(page + 56),
        .locator_sum = wire_get64(page + 64),
        .bucket_count = wire_get64(page + 96),
        .last_key = run_key_decode(page + 72),
        .block_count = wire_get32(page + 20),
        .entry_pages_max = wire_get32(page + 88),
        .slot_bytes = page[104],
        .block_bits = page[105],
        .page_bits = page[106],
        .fingerprint_bits = page[107],
    };
    return footer_consistent(out) ? VARVE_OK : VARVE_E_CORRUPT;
}
