/* SPDX-License-Identifier: Apache-2.0 */
/* Stamps of pages, and the bytes that are counted by them. */
#include <assert.h>
#include <string.h>

#include "reclaim/heat_private.h"

void
heat_uncount(struct heat *heat, struct heat_segment *segment, uint32_t page)
{
    uint16_t stamp = segment->stamps[page];
    uint64_t bytes = heat_bytes(segment, page);

    if (stamp == HEAT_DEAD)
        return;
    assert(segment->live_bytes >= bytes);
    segment->live_bytes -= bytes;
    if (stamp == HEAT_PINNED) {
        heat->pinned_bytes -= bytes;
    } else if (heat_stamp_is_live(heat, stamp)) {
        heat->bytes_at[stamp] -= bytes;
        heat->live_bytes -= bytes;
    }
}

void
heat_count(struct heat *heat, struct heat_segment *segment, uint32_t page)
{
    uint16_t stamp = segment->stamps[page];
    uint64_t bytes = heat_bytes(segment, page);

    if (stamp == HEAT_DEAD)
        return;
    segment->live_bytes += bytes;
    if (stamp == HEAT_PINNED) {
        heat->pinned_bytes += bytes;
    } else if (heat_stamp_is_live(heat, stamp)) {
        heat->bytes_at[stamp] += bytes;
        heat->live_bytes += bytes;
    }
}

/* The first page from `page` on, or `end`, that has another stamp. */
static inline uint32_t
skip_stamp(const uint16_t *stamps, uint32_t page, uint32_t end, uint16_t stamp)
{
    const uint64_t four_stamps = UINT64_C(0x0001000100010001) * stamp;

    for (; end - page >= 4; page += 4) {
        uint64_t next;

        memcpy(&next, stamps + page, sizeof(next));
        if (next != four_stamps)
            break;
    }
    while (page < end && stamps[page] == stamp)
        page++;
    return page;
}

/* What a run of touches has in common. */
struct touch {
    struct heat *heat;
    struct heat_segment *segment;
    uint64_t live_age; /* epochs from the horizon to now */
    uint16_t now;      /* the stamp of the present epoch */
    uint32_t changed;  /* the first page of which the stamp changed */
};

/*
 * Pages [page, end) were used `age` epochs ago. Neighbours that have had the same stamp so far are one sum: their bytes lie between the places of the
 * first and of the page behind the last.
 */
static inline void
touch_epoch(struct touch *touch, uint32_t page, uint32_t end, uint32_t age)
{
    struct heat *heat = touch->heat;
    struct heat_segment *segment = touch->segment;
    uint16_t stamp = (uint16_t)(touch->now > age ? touch->now - age : touch->now + HEAT_EPOCHS - age);

    while (page < end) {
        uint16_t old = segment->stamps[page];
        uint32_t next = skip_stamp(segment->stamps, page + 1, end, old);
        uint32_t old_age = heat_stamp_age(old, touch->now);

        if (old != HEAT_PINNED && (old == HEAT_DEAD || old_age > age)) {
            uint64_t bytes = heat_bytes_between(segment, page, next);

            if (old == HEAT_DEAD)
                segment->live_bytes += bytes;
            if (old == HEAT_DEAD || old_age > touch->live_age)
                heat->live_bytes += bytes;
            else
                heat->bytes_at[old] -= bytes;
            heat->bytes_at[stamp] += bytes;
            for (uint32_t i = page; i < next; i++)
                segment->stamps[i] = stamp;
            touch->changed = touch->changed < page ? touch->changed : page;
        }
        page = next;
    }
}

void
heat_touch_run(struct heat *heat, struct heat_segment *segment, uint32_t first, uint32_t page_count, uint64_t value)
{
    const uint64_t now = heat_epoch_now(heat), oldest = heat->horizon << heat->shift;
    const uint64_t epoch_values = UINT64_C(1) << heat->shift;
    struct touch touch = {heat, segment, now - heat->horizon, heat_stamp_of(now), UINT32_MAX};
    uint64_t same_epoch = (value & (epoch_values - 1)) + 1; /* pages from `page` on */
    uint32_t age, end, page = first;

    assert(first <= segment->count && page_count <= segment->count - first && value <= heat->clock);
    if (value < oldest)
        return;
    /* What was used before the horizon stays as it is. */
    end = first + (page_count <= value - oldest ? page_count : (uint32_t)(value - oldest) + 1);
    for (age = (uint32_t)(now - (value >> heat->shift)); page < end; age++) {
        uint32_t until = same_epoch < end - page ? page + (uint32_t)same_epoch : end;

        touch_epoch(&touch, page, until, age);
        page = until;
        same_epoch = epoch_values;
    }
    if (touch.changed < end && segment->used < value - (touch.changed - first))
        segment->used = value - (touch.changed - first);
}

void
heat_touch(struct heat *heat, struct heat_segment *segment, uint32_t page, uint64_t value)
{
    heat_touch_run(heat, segment, page, 1, value);
}

void
heat_set_stamp(struct heat *heat, struct heat_segment *segment, uint32_t page, uint16_t stamp)
{
    heat_uncount(heat, segment, page);
    segment->stamps[page] = stamp;
    heat_count(heat, segment, page);
}

void
heat_kill(struct heat *heat, struct heat_segment *segment, uint32_t page)
{
    heat_set_stamp(heat, segment, page, HEAT_DEAD);
}

void
heat_pin(struct heat *heat, struct heat_segment *segment, uint32_t page)
{
    heat_set_stamp(heat, segment, page, HEAT_PINNED);
}

void
heat_unpin(struct heat *heat, struct heat_segment *segment, uint32_t page, uint64_t value)
{
    if (segment->stamps[page] == HEAT_PINNED)
        heat_set_stamp(heat, segment, page, heat_stamp_at(heat, value));
}

bool
heat_is_recent(const struct heat *heat, uint64_t value)
{
    uint64_t span = heat->clock - (heat->horizon << heat->shift);

    return value >= heat->clock - span / HEAT_RECENT_SHARE;
}

bool
heat_is_live(const struct heat *heat, const struct heat_segment *segment, uint32_t page)
{
    return heat_stamp_is_live(heat, segment->stamps[page]);
}

uint64_t
heat_value(const struct heat *heat, const struct heat_segment *segment, uint32_t page)
{
    uint16_t stamp = segment->stamps[page];

    if (stamp == HEAT_PINNED)
        return UINT64_MAX;
    return stamp == HEAT_DEAD ? 0 : heat_epoch_of(heat, stamp) << heat->shift;
}
