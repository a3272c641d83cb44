/* SPDX-License-Identifier: Apache-2.0 */
#include "format/heat_format.h"

#include <stdbool.h>
#include <string.h>

#include "base/hash.h"
#include "base/wire.h"
#include "format/format.h"
#include "varve.h"

#define HEADER_MAGIC 0x54414856u /* "VHAT" */
#define RECORD_MAGIC 0x47535448u /* "HTSG" */

/* Offsets in the header. */
enum {
    HEADER_AT_MAGIC = 0,    /* 00-03 */
    HEADER_AT_VERSION = 4,  /* 04-05 */
    HEADER_AT_SHIFT = 6,    /* 06; 07 zero */
    HEADER_AT_CLOCK = 8,    /* 08-15 */
    HEADER_AT_HORIZON = 16, /* 16-23; 24-503 zero */
    HEADER_AT_SUM = 504,    /* 504-511 XXH3-64 of 0-503 */
};

/* Offsets in the head of a record. */
enum {
    HEAD_AT_MAGIC = 0,    /* 00-03 */
    HEAD_AT_VERSION = 4,  /* 04-05 */
    HEAD_AT_SHIFT = 6,    /* 06; 07 zero */
    HEAD_AT_NUMBER = 8,   /* 08-15 */
    HEAD_AT_SALT = 16,    /* 16-23 */
    HEAD_AT_CLOCK = 24,   /* 24-31 */
    HEAD_AT_USED = 32,    /* 32-39 */
    HEAD_AT_COUNT = 40,   /* 40-43 */
    HEAD_AT_END = 44,     /* 44-47 */
    HEAD_AT_SPANS = 48,   /* 48-51; 52-63 zero */
    HEAD_AT_COLUMNS = 64, /* 64-71 XXH3-64 of what follows the head, zeros at its end included */
    HEAD_AT_SUM = 72,     /* 72-79 XXH3-64 of 00-71 */
};

void
heat_header_encode(const struct heat_header *header, uint8_t *buf)
{
    memset(buf, 0, HEAT_HEADER_BYTES);
    wire_put32(buf + HEADER_AT_MAGIC, HEADER_MAGIC);
    wire_put16(buf + HEADER_AT_VERSION, FORMAT_VERSION);
    buf[HEADER_AT_SHIFT] = header->shift;
    wire_put64(buf + HEADER_AT_CLOCK, header->clock);
    wire_put64(buf + HEADER_AT_HORIZON, header->horizon);
    wire_put64(buf + HEADER_AT_SUM, hash_bytes(buf, HEADER_AT_SUM));
}

int
heat_header_decode(const uint8_t *data, size_t size, struct heat_header *out)
{
    if (size < HEAT_HEADER_BYTES || wire_get32(data + HEADER_AT_MAGIC) != HEADER_MAGIC ||
        wire_get64(data + HEADER_AT_SUM) != hash_bytes(data, HEADER_AT_SUM))
        return VARVE_E_CORRUPT;
    if (wire_get16(data + HEADER_AT_VERSION) > FORMAT_VERSION)
        return VARVE_E_VERSION;
    out->shift = data[HEADER_AT_SHIFT];
    out->clock = wire_get64(data + HEADER_AT_CLOCK);
    out->horizon = wire_get64(data + HEADER_AT_HORIZON);
    if (out->shift > HEAT_SHIFT_MAX || out->clock > HEAT_CLOCK_MAX || out->horizon > out->clock)
        return VARVE_E_CORRUPT;
    return VARVE_OK;
}

size_t
heat_record_bytes(uint32_t count, uint32_t span_count)
{
    size_t bytes =
        HEAT_HEAD_BYTES + (size_t)span_count * HEAT_SPAN_BYTES + (size_t)count * (HEAT_PLACE_BYTES + HEAT_STAMP_BYTES);

    return (bytes + HEAT_RECORD_ALIGN - 1) / HEAT_RECORD_ALIGN * HEAT_RECORD_ALIGN;
}

size_t
heat_record_places_at(const struct heat_record *record)
{
    return HEAT_HEAD_BYTES + (size_t)record->span_count * HEAT_SPAN_BYTES;
}

size_t
heat_record_stamps_at(const struct heat_record *record)
{
    return heat_record_places_at(record) + (size_t)record->count * HEAT_PLACE_BYTES;
}

void
heat_record_seal(const struct heat_record *record, uint8_t *buf)
{
    size_t bytes = heat_record_bytes(record->count, record->span_count);
    size_t used = heat_record_stamps_at(record) + (size_t)record->count * HEAT_STAMP_BYTES;

    memset(buf + used, 0, bytes - used);
    memset(buf, 0, HEAT_HEAD_BYTES);
    wire_put32(buf + HEAD_AT_MAGIC, RECORD_MAGIC);
    wire_put16(buf + HEAD_AT_VERSION, FORMAT_VERSION);
    buf[HEAD_AT_SHIFT] = record->shift;
    wire_put64(buf + HEAD_AT_NUMBER, record->number);
    wire_put64(buf + HEAD_AT_SALT, record->salt);
    wire_put64(buf + HEAD_AT_CLOCK, record->clock);
    wire_put64(buf + HEAD_AT_USED, record->used);
    wire_put32(buf + HEAD_AT_COUNT, record->count);
    wire_put32(buf + HEAD_AT_END, record->end);
    wire_put32(buf + HEAD_AT_SPANS, record->span_count);
    wire_put64(buf + HEAD_AT_COLUMNS, hash_bytes(buf + HEAT_HEAD_BYTES, bytes - HEAT_HEAD_BYTES));
    wire_put64(buf + HEAD_AT_SUM, hash_bytes(buf, HEAD_AT_SUM));
}

int
heat_record_decode(const uint8_t *data, size_t size, struct heat_record *out)
{
    if (size < HEAT_HEAD_BYTES || wire_get32(data + HEAD_AT_MAGIC) != RECORD_MAGIC ||
        wire_get64(data + HEAD_AT_SUM) != hash_bytes(data, HEAD_AT_SUM))
        return VARVE_E_CORRUPT;
    if (wire_get16(data + HEAD_AT_VERSION) > FORMAT_VERSION)
        return VARVE_E_VERSION;
    out->shift = data[HEAD_AT_SHIFT];
    out->number = wire_get64(data + HEAD_AT_NUMBER);
    out->salt = wire_get64(data + HEAD_AT_SALT);
    out->clock = wire_get64(data + HEAD_AT_CLOCK);
    out->used = wire_get64(data + HEAD_AT_USED);
    out->count = wire_get32(data + HEAD_AT_COUNT);
    out->end = wire_get32(data + HEAD_AT_END);
    out->span_count = wire_get32(data + HEAD_AT_SPANS);
    if (out->shift > HEAT_SHIFT_MAX || out->clock > HEAT_CLOCK_MAX || out->used > out->clock ||
        out->number > FORMAT_NUMBER_READ_MAX || out->count > HEAT_PAGES_MAX || out->span_count > out->count ||
        (out->span_count == 0) != (out->count == 0) || heat_record_bytes(out->count, out->span_count) > size)
        return VARVE_E_CORRUPT;
    return VARVE_OK;
}

/* Each begins with a page, the first one with the first page, and they are in order. Places are too, and the pages end behind the last. */
static bool
columns_hold(const struct heat_record *record, const uint8_t *spans, const uint8_t *places)
{
    uint32_t next_span = 0;

    for (uint32_t i = 0; i < record->count; i++) {
        uint32_t at = wire_get32(places + (size_t)i * HEAT_PLACE_BYTES);
        uint32_t behind = i + 1 < record->count ? wire_get32(places + (size_t)(i + 1) * HEAT_PLACE_BYTES) : record->end;
        bool begins = next_span < record->span_count && wire_get32(spans + (size_t)next_span * HEAT_SPAN_BYTES) == at;

        if (at >= behind || (i == 0 && !begins))
            return false;
        next_span += begins;
    }
    return next_span == record->span_count;
}

int
heat_record_check(const struct heat_record *record, const uint8_t *data)
{
    size_t bytes = heat_record_bytes(record->count, record->span_count);

    if (wire_get64(data + HEAD_AT_COLUMNS) != hash_bytes(data + HEAT_HEAD_BYTES, bytes - HEAT_HEAD_BYTES) ||
        !columns_hold(record, data + HEAT_HEAD_BYTES, data + heat_record_places_at(record)))
        return VARVE_E_CORRUPT;
    return VARVE_OK;
}

size_t
heat_record_find(const uint8_t *data, size_t size, size_t offset, struct heat_record *out)
{
    for (offset = (offset + HEAT_RECORD_ALIGN - 1) / HEAT_RECORD_ALIGN * HEAT_RECORD_ALIGN; offset < size;
         offset += HEAT_RECORD_ALIGN) {
        if (heat_record_decode(data + offset, size - offset, out) == VARVE_OK)
            return offset;
    }
    return size;
}
