/* SPDX-License-Identifier: Apache-2.0 */
#include "format/manifest_format.h"

#include <assert.h>
#include <string.h>

#include "format/entry_format.h"
#include "format/format.h"
#include "varve.h"

#define MANIFEST_MAGIC 0x4e414d56u /* "VMAN" */
#define RECORD_MAGIC   0x54494445u /* "EDIT" */

/* Offsets in the header. */
enum {
    HEADER_AT_MAGIC = 0,     /* 00-03 */
    HEADER_AT_VERSION = 4,   /* 04-05; 06-07 zero */
    HEADER_AT_NUMBER = 8,    /* 08-15 */
    HEADER_AT_SALT = 16,     /* 16-23 */
    HEADER_AT_STORE_ID = 24, /* 24-39; 40-55 zero */
    HEADER_AT_SUM = 56,      /* 56-63 XXH3-64 of 00-55 */
};

/* Offsets in the frame of a record. */
enum {
    FRAME_AT_MAGIC = 0,    /* 00-03 */
    FRAME_AT_SIZE = 4,     /* 04-07 of the items */
    FRAME_AT_SEQUENCE = 8, /* 08-15 from 0 */
    FRAME_AT_SUM = 16,     /* 16-23 XXH3-64 of (XXH3-64 of the items, salt, 00-15) */
};

void
manifest_header_encode(const struct manifest_header *header, uint8_t *buf)
{
    memset(buf, 0, MANIFEST_HEADER_BYTES);
    wire_put32(buf + HEADER_AT_MAGIC, MANIFEST_MAGIC);
    wire_put16(buf + HEADER_AT_VERSION, FORMAT_VERSION);
    wire_put64(buf + HEADER_AT_NUMBER, header->number);
    wire_put64(buf + HEADER_AT_SALT, header->salt);
    memcpy(buf + HEADER_AT_STORE_ID, header->store_id, sizeof(header->store_id));
    wire_put64(buf + HEADER_AT_SUM, hash_bytes(buf, HEADER_AT_SUM));
}

int
manifest_header_decode(const uint8_t *buf, struct manifest_header *out)
{
    if (wire_get32(buf + HEADER_AT_MAGIC) != MANIFEST_MAGIC ||
        wire_get64(buf + HEADER_AT_SUM) != hash_bytes(buf, HEADER_AT_SUM))
        return VARVE_E_CORRUPT;
    if (wire_get16(buf + HEADER_AT_VERSION) > FORMAT_VERSION)
        return VARVE_E_VERSION;
    out->number = wire_get64(buf + HEADER_AT_NUMBER);
    out->salt = wire_get64(buf + HEADER_AT_SALT);
    memcpy(out->store_id, buf + HEADER_AT_STORE_ID, sizeof(out->store_id));
    return VARVE_OK;
}

size_t
manifest_item_bound(const struct manifest_item *item)
{
    size_t bound = 1 + 8 * WIRE_VARINT_MAX + ID_PREFIX_BYTES;

    if (item->kind == MANIFEST_NAMESPACE)
        bound += item->u.ns.name_size;
    return bound;
}

uint8_t *
manifest_item_encode(const struct manifest_item *item, uint8_t *p)
{
    *p++ = (uint8_t)item->kind;
    switch (item->kind) {
    case MANIFEST_COUNTERS:
        p = wire_put_varint(p, item->u.counters.next_number);
        return wire_put_varint(p, item->u.counters.next_branch);
    case MANIFEST_NAMESPACE:
        p = wire_put_varint(p, item->u.ns.ns_id);
        p = wire_put_varint(p, item->u.ns.element_type);
        p = wire_put_varint(p, item->u.ns.page_bytes_hint);
        p = wire_put_varint(p, item->u.ns.name_size);
        memcpy(p, item->u.ns.name, item->u.ns.name_size);
        return p + item->u.ns.name_size;
    case MANIFEST_SEGMENT_ADD:
        p = wire_put_varint(p, item->u.segment.number);
        p = wire_put_varint(p, item->u.segment.salt);
        p = wire_put_varint(p, item->u.segment.bytes);
        *p++ = item->u.segment.align_shift;
        return p;
    case MANIFEST_SEGMENT_SEAL:
        p = wire_put_varint(p, item->u.segment.number);
        return wire_put_varint(p, item->u.segment.bytes);
    case MANIFEST_SEGMENT_USE:
        p = wire_put_varint(p, item->u.segment.number);
        p = wire_put_varint(p, item->u.segment.ns_id);
        p = wire_put_varint(p, item->u.segment.use_pages);
        return wire_put_varint(p, item->u.segment.use_bytes);
    case MANIFEST_SEGMENT_DROP:
        return wire_put_varint(p, item->u.segment.number);
    case MANIFEST_SEGMENT_INDEXED:
        p = wire_put_varint(p, item->u.segment.number);
        return wire_put_varint(p, item->u.segment.offset);
    case MANIFEST_RUN_ADD:
        p = wire_put_varint(p, item->u.run.number);
        p = wire_put_varint(p, item->u.run.file_bytes);
        p = wire_put_varint(p, item->u.run.pages);
        p = wire_put_varint(p, item->u.run.entries);
        p = wire_put_varint(p, item->u.run.blocks);
        return wire_put_varint(p, item->u.run.level);
    case MANIFEST_RUN_REMOVE:
        return wire_put_varint(p, item->u.run.number);
    case MANIFEST_PAGE_REMOVE:
        p = wire_put_varint(p, item->u.segment.number);
        p = wire_put_varint(p, item->u.segment.offset);
        memcpy(p, item->u.segment.id_prefix, ID_PREFIX_BYTES);
        return p + ID_PREFIX_BYTES;
    }
    assert(false); /* all kinds are handled above */
    return p;
}

static uint64_t
record_sum(const uint8_t *record, uint32_t size, uint64_t salt)
{
    uint8_t covered[8 + 8 + FRAME_AT_SUM];

    wire_put64(covered, hash_bytes(record + MANIFEST_FRAME_BYTES, size));
    wire_put64(covered + 8, salt);
    memcpy(covered + 16, record, FRAME_AT_SUM);
    return hash_bytes(covered, sizeof(covered));
}

void
manifest_record_seal(uint8_t *record, uint32_t size, uint64_t salt, uint64_t sequence)
{
    wire_put32(record + FRAME_AT_MAGIC, RECORD_MAGIC);
    wire_put32(record + FRAME_AT_SIZE, size);
    wire_put64(record + FRAME_AT_SEQUENCE, sequence);
    wire_put64(record + FRAME_AT_SUM, record_sum(record, size, salt));
}

size_t
manifest_record_check(const uint8_t *data, size_t size, uint64_t salt, uint64_t sequence)
{
    uint32_t items;

    if (size < MANIFEST_FRAME_BYTES || wire_get32(data + FRAME_AT_MAGIC) != RECORD_MAGIC ||
        wire_get64(data + FRAME_AT_SEQUENCE) != sequence)
        return 0;
    items = wire_get32(data + FRAME_AT_SIZE);
    if (items > MANIFEST_RECORD_BYTES_MAX || items > size - MANIFEST_FRAME_BYTES ||
        wire_get64(data + FRAME_AT_SUM) != record_sum(data, items, salt))
        return 0;
    return MANIFEST_FRAME_BYTES + (size_t)items;
}

static uint32_t
read_varint32(struct wire_reader *reader)
{
    uint64_t value = wire_read_varint(reader);

    if (value > UINT32_MAX)
        reader->failed = true;
    return (uint32_t)value;
}

static uint64_t
read_limited(struct wire_reader *reader, uint64_t limit)
{
    uint64_t value = wire_read_varint(reader);

    if (value > limit)
        reader->failed = true;
    return value;
}

/* A file number, or a branch. */
static uint64_t
read_number(struct wire_reader *reader)
{
    return read_limited(reader, FORMAT_NUMBER_READ_MAX);
}

static void
decode_namespace(struct wire_reader *reader, struct manifest_item *out)
{
    out->u.ns.ns_id = read_varint32(reader);
    out->u.ns.element_type = read_varint32(reader);
    out->u.ns.page_bytes_hint = wire_read_varint(reader);
    out->u.ns.name_size = read_varint32(reader);
    out->u.ns.name = (const char *)wire_read_bytes(reader, out->u.ns.name_size);
    if (out->u.ns.name == NULL || out->u.ns.name_size == 0 || out->u.ns.name_size > VARVE_NAMESPACE_NAME_MAX ||
        memchr(out->u.ns.name, '\0', out->u.ns.name_size) != NULL)
        reader->failed = true;
}

static void
decode_segment_item(struct wire_reader *reader, struct manifest_item *out)
{
    const uint8_t *prefix;

    out->u.segment.number = read_number(reader);
    switch ((int)out->kind) {
    case MANIFEST_SEGMENT_ADD:
        out->u.segment.salt = wire_read_varint(reader);
        out->u.segment.bytes = wire_read_varint(reader);
        out->u.segment.align_shift = wire_read8(reader);
        break;
    case MANIFEST_SEGMENT_SEAL:
        out->u.segment.bytes = wire_read_varint(reader);
        break;
    case MANIFEST_SEGMENT_USE:
        out->u.segment.ns_id = read_varint32(reader);
        out->u.segment.use_pages = wire_read_varint(reader);
        out->u.segment.use_bytes = wire_read_varint(reader);
        break;
    case MANIFEST_SEGMENT_INDEXED:
        out->u.segment.offset = wire_read_varint(reader);
        break;
    case MANIFEST_PAGE_REMOVE:
        out->u.segment.offset = wire_read_varint(reader);
        prefix = wire_read_bytes(reader, ID_PREFIX_BYTES);
        if (prefix != NULL)
            memcpy(out->u.segment.id_prefix, prefix, ID_PREFIX_BYTES);
        break;
    default:
        break;
    }
    if (out->u.segment.bytes > ENTRY_OFFSET_MAX || out->u.segment.offset > ENTRY_OFFSET_MAX)
        reader->failed = true;
}

bool
manifest_item_decode(struct wire_reader *reader, struct manifest_item *out)
{
    if (reader->failed || reader->next == reader->end)
        return false;
    memset(out, 0, sizeof(*out));
    out->kind = (enum manifest_item_kind)wire_read8(reader);
    switch (out->kind) {
    case MANIFEST_COUNTERS:
        out->u.counters.next_number = read_limited(reader, FORMAT_COUNTER_READ_MAX);
        out->u.counters.next_branch = read_limited(reader, FORMAT_COUNTER_READ_MAX);
        break;
    case MANIFEST_NAMESPACE:
        decode_namespace(reader, out);
        break;
    case MANIFEST_SEGMENT_ADD:
    case MANIFEST_SEGMENT_SEAL:
    case MANIFEST_SEGMENT_USE:
    case MANIFEST_SEGMENT_DROP:
    case MANIFEST_SEGMENT_INDEXED:
    case MANIFEST_PAGE_REMOVE:
        decode_segment_item(reader, out);
        break;
    case MANIFEST_RUN_ADD:
        out->u.run.number = read_number(reader);
        out->u.run.file_bytes = wire_read_varint(reader);
        out->u.run.pages = wire_read_varint(reader);
        out->u.run.entries = wire_read_varint(reader);
        out->u.run.blocks = read_varint32(reader);
        out->u.run.level = read_varint32(reader);
        break;
    case MANIFEST_RUN_REMOVE:
        out->u.run.number = read_number(reader);
        break;
    default:
        reader->failed = true;
        break;
    }
    return !reader->failed;
}
