/* SPDX-License-Identifier: Apache-2.0 */
/* Edits of the files of a store; see fuzz_directory.h. An edit is its kind, the file, and what the kind needs; missing bytes are zero. */
#include "fuzz_directory.h"

#include <stdio.h>

#include "base/hash.h"
#include "base/wire.h"
#include "format/format.h"
#include "format/log_format.h"
#include "format/manifest_format.h"
#include "format/run_format.h"
#include "fuzz.h"

#define FILE_BYTES_MAX ((size_t)256 * 1024)
#define PATCH_MAX      16

/* Offsets of fields and checksums: docs/FORMAT.md. */
#define SEGMENT_SUM_AT       32
#define EXTENT_MAGIC         0x54585456u
#define EXTENT_COUNT_AT      76
#define EXTENT_PAGE_BYTES_AT 80
#define EXTENT_TABLE_SUM_AT  56
#define EXTENT_SUM_AT        120
#define MANIFEST_SALT_AT     16
#define MANIFEST_SUM_AT      56
#define RUN_BLOCKS_AT        20
#define RUN_SALT_AT          24
#define RUN_NUMBER_AT        32
#define RUN_INDEX_SUM_AT     56
#define RUN_LOCATOR_SUM_AT   64
#define RUN_BUCKETS_AT       96
#define RUN_SUM_AT           8 /* of blocks, too */

enum edit_kind {
    EDIT_PATCH,     /* offset, bytes */
    EDIT_PATCH_END, /* offset from the end, bytes */
    EDIT_FIELD,     /* 4 KiB block, offset in its first bytes, bytes */
    EDIT_RESIZE,    /* new size */
    EDIT_REMOVE,
    EDIT_COPY_FILE, /* kind and number of the copy */
    EDIT_COPY_PART, /* offset, other file, offset there, length */
    EDIT_ZERO,      /* offset, length */
    EDIT_KINDS,
};

static size_t
take_offset(struct wire_reader *reader, size_t limit)
{
    return limit == 0 ? 0 : wire_read32(reader) % limit;
}

static size_t
at_most(size_t value, size_t limit)
{
    return value < limit ? value : limit;
}

static void
patch(struct image_file *file, size_t at, struct wire_reader *reader)
{
    size_t count = at_most(wire_read8(reader) % PATCH_MAX + 1u, file->size - at);

    for (size_t i = 0; i < count; i++)
        file->data[at + i] = wire_read8(reader);
}

static void
copy_file(struct image *image, const struct image_file *file, struct wire_reader *reader)
{
    static const enum format_file_kind kinds[] = {FORMAT_FILE_SEGMENT, FORMAT_FILE_RUN, FORMAT_FILE_MANIFEST};
    unsigned kind = wire_read8(reader) % 4;
    uint64_t number = wire_read8(reader);
    char name[FORMAT_NAME_MAX];
    struct image_file *copy;

    if (number >= 0xf0) /* the largest numbers that have a name */
        number |= UINT64_MAX << 8;
    if (kind == 3)
        (void)snprintf(name, sizeof(name), "%s", number % 2 == 0 ? FORMAT_CURRENT_NAME : FORMAT_CURRENT_TMP_NAME);
    else
        format_file_name(kinds[kind], number, name);
    copy = image_find(image, name);
    if (copy == file)
        return;
    if (copy == NULL)
        copy = image_add(image, name);
    if (copy == NULL)
        return;
    image_resize(copy, file->size);
    if (file->size > 0)
        memcpy(copy->data, file->data, file->size);
}

static void
copy_part(struct image *image, struct image_file *file, struct wire_reader *reader)
{
    size_t from_at = take_offset(reader, file->size);
    struct image_file *to = &image->files[wire_read8(reader) % image->count];
    size_t to_at = take_offset(reader, to->size);
    size_t length = wire_read32(reader) % 8192u;

    length = at_most(at_most(length, file->size - from_at), to->size - to_at);
    if (length > 0)
        memmove(to->data + to_at, file->data + from_at, length);
}

static void
edit_once(struct image *image, struct wire_reader *reader)
{
    enum edit_kind kind = (enum edit_kind)(wire_read8(reader) % EDIT_KINDS);
    struct image_file *file = &image->files[wire_read8(reader) % image->count];
    size_t at;

    switch ((int)kind) {
    case EDIT_PATCH:
        patch(file, take_offset(reader, file->size), reader);
        return;
    case EDIT_PATCH_END:
        at = take_offset(reader, file->size);
        patch(file, file->size == 0 ? 0 : file->size - 1 - at, reader);
        return;
    case EDIT_FIELD:
        at = (size_t)wire_read8(reader) % (file->size / 4096 + 1) * 4096;
        at += wire_read8(reader);
        patch(file, at_most(at, file->size), reader);
        return;
    case EDIT_RESIZE:
        image_resize(file, take_offset(reader, FILE_BYTES_MAX));
        return;
    case EDIT_REMOVE:
        if (image->count > 1)
            image_remove(image, file);
        return;
    case EDIT_COPY_FILE:
        copy_file(image, file, reader);
        return;
    case EDIT_COPY_PART:
        copy_part(image, file, reader);
        return;
    default:
        at = take_offset(reader, file->size);
        memset(file->data + at, 0, at_most(wire_read32(reader) % 8192u, file->size - at));
        return;
    }
}

void
directory_edit(struct image *image, const uint8_t *data, size_t size)
{
    struct wire_reader reader = wire_reader_make(data, size);

    while (!reader.failed && reader.next < reader.end)
        edit_once(image, &reader);
}

size_t
directory_edit_example(struct sim_rng *rng, uint8_t *out)
{
    sim_rng_fill(rng, out, DIRECTORY_EDIT_BYTES);
    if (sim_rng_chance(rng, 700)) /* a field with a small or an extreme value, in a structure near the start */
        out[0] = EDIT_FIELD;
    else
        return 2 + sim_rng_below(rng, DIRECTORY_EDIT_BYTES - 2);
    out[2] = (uint8_t)sim_rng_below(rng, 8);
    out[3] = (uint8_t)sim_rng_below(rng, 128);
    out[4] = (uint8_t)sim_rng_below(rng, 8);
    if (sim_rng_chance(rng, 500))
        memset(out + 5, sim_rng_chance(rng, 500) ? 0xff : 0, 8);
    return 5 + (size_t)out[4] + 1;
}

static void
fix_segment(uint8_t *data, size_t size)
{
    if (size < SEGMENT_HEADER_BYTES)
        return;
    wire_put64(data + SEGMENT_SUM_AT, hash_bytes(data, SEGMENT_SUM_AT));
    for (size_t at = SEGMENT_HEADER_BYTES; at + EXTENT_FIXED_BYTES <= size; at += LOG_BLOCK_BYTES) {
        uint8_t *head = data + at;
        uint64_t table = wire_get32(head + EXTENT_COUNT_AT) *
                         (uint64_t)(wire_get32(head + EXTENT_PAGE_BYTES_AT) == UINT32_MAX ? 44 : 40);

        if (wire_get32(head) != EXTENT_MAGIC)
            continue;
        if (table <= size - at - EXTENT_FIXED_BYTES)
            wire_put64(head + EXTENT_TABLE_SUM_AT, hash_bytes(head + EXTENT_FIXED_BYTES, (size_t)table));
        wire_put64(head + EXTENT_SUM_AT, hash_bytes(head, EXTENT_SUM_AT));
    }
}

static void
fix_manifest(uint8_t *data, size_t size)
{
    size_t at = MANIFEST_HEADER_BYTES;

    if (size < MANIFEST_HEADER_BYTES)
        return;
    wire_put64(data + MANIFEST_SUM_AT, hash_bytes(data, MANIFEST_SUM_AT));
    for (uint64_t sequence = 0; size - at >= MANIFEST_FRAME_BYTES; sequence++) {
        uint32_t items = wire_get32(data + at + 4);

        if (items > size - at - MANIFEST_FRAME_BYTES)
            return;
        manifest_record_seal(data + at, items, wire_get64(data + MANIFEST_SALT_AT), sequence);
        at += MANIFEST_FRAME_BYTES + (size_t)items;
    }
}

/* A checksum at byte 8 of a structure, computed with `seed` in its place. */
static void
fix_inner(uint8_t *data, size_t size, uint64_t seed)
{
    wire_put64(data + RUN_SUM_AT, seed);
    wire_put64(data + RUN_SUM_AT, hash_bytes(data, size));
}

static void
fix_run(uint8_t *data, size_t size)
{
    uint8_t *footer = data + size - RUN_FOOTER_BYTES;
    struct run_footer geometry = {.bucket_count = 0};
    uint64_t index, locator;

    if (size < RUN_FOOTER_BYTES)
        return;
    geometry.block_count = wire_get32(footer + RUN_BLOCKS_AT);
    geometry.bucket_count = wire_get64(footer + RUN_BUCKETS_AT) & UINT32_MAX;
    index = run_index_offset(&geometry);
    locator = run_locator_offset(&geometry);
    for (uint32_t i = 0; i < geometry.block_count && (uint64_t)(i + 1) * BLOCK_BYTES <= size; i++)
        fix_inner(data + (size_t)i * BLOCK_BYTES, BLOCK_BYTES,
                  block_seed(wire_get64(footer + RUN_SALT_AT), wire_get64(footer + RUN_NUMBER_AT), i));
    if (run_file_bytes(&geometry) == size) {
        wire_put64(footer + RUN_INDEX_SUM_AT, hash_bytes(data + index, (size_t)(locator - index)));
        wire_put64(footer + RUN_LOCATOR_SUM_AT,
                   hash_bytes(data + locator, (size_t)(size - RUN_FOOTER_BYTES - locator)));
    }
    fix_inner(footer, RUN_FOOTER_BYTES, 0);
}

void
directory_fix_sums(struct image *image)
{
    for (size_t i = 0; i < image->count; i++) {
        struct image_file *file = &image->files[i];
        uint64_t number;

        switch ((int)format_parse_name(file->name, &number)) {
        case FORMAT_FILE_SEGMENT:
            fix_segment(file->data, file->size);
            break;
        case FORMAT_FILE_MANIFEST:
            fix_manifest(file->data, file->size);
            break;
        case FORMAT_FILE_RUN:
            fix_run(file->data, file->size);
            break;
        default:
            break;
        }
    }
}
