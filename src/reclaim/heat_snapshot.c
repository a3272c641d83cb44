/* SPDX-License-Identifier: Apache-2.0 */
/* The heat as bytes, a segment at a time, and back. Stamps are those of the moment when a record was encoded, so each record says which that was. */
#include <assert.h>
#include <string.h>

#include "base/wire.h"
#include "format/heat_format.h"
#include "reclaim/heat_private.h"
#include "varve.h"

void
heat_snapshot_header(const struct heat *heat, uint8_t *buf)
{
    struct heat_header header = {
        .clock = heat->clock, .horizon = heat->horizon << heat->shift, .shift = (uint8_t)heat->shift};

    heat_header_encode(&header, buf);
}

size_t
heat_snapshot_bytes(const struct heat_segment *segment)
{
    return heat_record_bytes(segment->count, segment->span_count);
}

size_t
heat_snapshot_segment(const struct heat *heat, const struct heat_segment *segment, const struct heat_file *file,
                      uint8_t *buf, size_t room)
{
    struct heat_record record = {.number = file->number,
                                 .salt = file->salt,
                                 .clock = heat->clock,
                                 .used = segment->used,
                                 .count = segment->count,
                                 .end = segment->end,
                                 .span_count = segment->span_count,
                                 .shift = (uint8_t)heat->shift};
    uint8_t *p = buf + HEAT_HEAD_BYTES;

    if (heat_snapshot_bytes(segment) > room)
        return 0;
    for (uint32_t i = 0; i < segment->span_count; i++, p += HEAT_SPAN_BYTES) {
        wire_put32(p, segment->spans[i].at);
        wire_put32(p + 4, segment->spans[i].ns_id);
    }
    for (uint32_t i = 0; i < segment->count; i++, p += HEAT_PLACE_BYTES)
        wire_put32(p, segment->at[i]);
    for (struct heat_part part = {0}; heat_next_part(heat, segment, false, &part);) {
        for (uint32_t i = part.first; i < part.end; i++, p += HEAT_STAMP_BYTES) {
            uint16_t stamp = segment->stamps[i];

            wire_put16(p, heat_stamp_is_live(heat, part.group, stamp) ? stamp : HEAT_DEAD);
        }
    }
    heat_record_seal(&record, buf);
    return heat_snapshot_bytes(segment);
}

int
heat_restore_header(struct heat *heat, const uint8_t *data, size_t size)
{
    struct heat_header header;
    int rc = heat_header_decode(data, size, &header);

    assert(heat->group_count == 0 && heat->live_bytes == 0 && heat->pinned_bytes == 0);
    if (rc != VARVE_OK)
        return rc;
    if (header.clock < HEAT_EPOCHS || (header.clock >> header.shift) - (header.horizon >> header.shift) > HEAT_SPAN_MAX)
        return VARVE_E_CORRUPT;
    heat->clock = header.clock;
    heat->shift = header.shift;
    heat->horizon = heat->swept_horizon = header.horizon >> header.shift;
    return VARVE_OK;
}

/* The stamp that means now what `stamp` meant then. */
static uint16_t
stamp_now(const struct heat *heat, const struct heat_group *group, const struct heat_record *record, uint16_t stamp)
{
    uint64_t epoch = record->clock >> record->shift, age;

    if (stamp == HEAT_DEAD || stamp == HEAT_PINNED)
        return stamp;
    age = heat_stamp_age(stamp, heat_stamp_of(epoch));
    return age <= epoch ? heat_stamp_at(heat, group, (epoch - age) << record->shift) : HEAT_DEAD;
}

static int
make_segment_room(struct heat *heat, struct heat_segment *segment, const struct heat_record *record)
{
    int rc = record->count == segment->room ? VARVE_OK : heat_set_room(heat, segment, record->count);

    return rc == VARVE_OK ? heat_make_span_room(heat, segment, record->span_count) : rc;
}

int
heat_restore_segment(struct heat *heat, struct heat_segment *segment, const struct heat_file *file, const uint8_t *data,
                     size_t size)
{
    struct heat_record record;
    const uint8_t *spans = data + HEAT_HEAD_BYTES, *places, *stamps;
    int rc = heat_record_decode(data, size, &record);

    if (rc == VARVE_OK && (segment->count > 0 || record.number != file->number || record.salt != file->salt ||
                           record.end > file->bytes / HEAT_UNIT))
        rc = VARVE_E_CORRUPT;
    if (rc == VARVE_OK)
        rc = heat_record_check(&record, data);
    if (rc == VARVE_OK)
        rc = make_segment_room(heat, segment, &record);
    if (rc != VARVE_OK)
        return rc;
    if (record.clock > heat->clock) /* encoded after the header */
        (void)heat_clock(heat, record.clock - heat->clock - 1);
    places = data + heat_record_places_at(&record);
    stamps = data + heat_record_stamps_at(&record);
    for (uint32_t i = 0; i < record.span_count; i++)
        segment->spans[i] = (struct heat_span){wire_get32(spans + (size_t)i * HEAT_SPAN_BYTES),
                                               wire_get32(spans + (size_t)i * HEAT_SPAN_BYTES + 4)};
    for (uint32_t i = 0; i < record.count; i++)
        segment->at[i] = wire_get32(places + (size_t)i * HEAT_PLACE_BYTES);
    segment->count = record.count;
    segment->span_count = record.span_count;
    segment->end = record.end;
    segment->used = record.used;
    for (struct heat_part part = {0}; heat_next_part(heat, segment, false, &part);) {
        for (uint32_t i = part.first; i < part.end; i++) {
            segment->stamps[i] =
                stamp_now(heat, part.group, &record, wire_get16(stamps + (size_t)i * HEAT_STAMP_BYTES));
            heat_count(heat, part.group, segment, i);
        }
    }
    return VARVE_OK;
}
