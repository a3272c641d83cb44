/* SPDX-License-Identifier: Apache-2.0 */
/* Stamps of pages, and the bytes that are counted by them. */
#include <assert.h>
#include <string.h>

#include "reclaim/heat_private.h"

/* bytes: modulo 2^64, so that what is taken away is added too. */
static void
account(struct heat *heat, struct heat_group *group, struct heat_segment *segment, uint16_t stamp, uint64_t bytes)
{
    uint64_t epoch;

    if (stamp == HEAT_DEAD)
        return;
    segment->live_bytes += bytes;
    if (stamp == HEAT_PINNED) {
        heat->pinned_bytes += bytes;
        if (group != NULL)
            group->pinned_bytes += bytes;
        return;
    }
    epoch = heat_epoch_of(heat, stamp);
    if (epoch < heat_horizon(heat, group))
        return;
    heat->bytes_at[stamp] += bytes;
    heat->live_bytes += bytes;
    if (group != NULL) {
        group->live_bytes += bytes;
        *heat_group_bytes(group, epoch) += bytes;
    }
}

void
heat_uncount(struct heat *heat, struct heat_group *group, struct heat_segment *segment, uint32_t page)
{
    uint64_t bytes = heat_bytes(segment, page);

    assert(segment->stamps[page] == HEAT_DEAD || segment->live_bytes >= bytes);
    account(heat, group, segment, segment->stamps[page], 0 - bytes);
}

void
heat_count(struct heat *heat, struct heat_group *group, struct heat_segment *segment, uint32_t page)
{
    account(heat, group, segment, segment->stamps[page], heat_bytes(segment, page));
}

/* What a run of touches has in common, and what it adds up to. Local to one call, so that its sums are in registers. */
struct touch {
    struct heat *heat;
    struct heat_group *group;
    struct heat_segment *segment;
    uint64_t epoch;     /* the present one */
    uint64_t live_age;  /* epochs from the horizon to now */
    uint16_t now;       /* the stamp of the present epoch */
    uint32_t changed;   /* the first page of which the stamp changed; UINT32_MAX: none */
    uint64_t revived;   /* bytes that were dead */
    uint64_t forgotten; /* of them, those that were swept */
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

    for (uint32_t next; page < end; page = next) {
        uint16_t old = segment->stamps[page];
        uint32_t old_age = heat_stamp_age(old, touch->now);
        uint64_t bytes;

        next = page + 1 == end ? end : heat_skip_stamp(segment->stamps, page + 1, end, old);
        if (old == HEAT_PINNED || (old != HEAT_DEAD && old_age <= age))
            continue;
        bytes = heat_bytes_between(segment, page, next);
        if (old == HEAT_DEAD || old_age > touch->live_age) {
            touch->revived += bytes;
            touch->forgotten += old == HEAT_DEAD ? bytes : 0;
        } else {
            heat->bytes_at[old] -= bytes;
            if (touch->group != NULL)
                *heat_group_bytes(touch->group, touch->epoch - old_age) -= bytes;
        }
        heat->bytes_at[stamp] += bytes;
        if (touch->group != NULL)
            *heat_group_bytes(touch->group, touch->epoch - age) += bytes;
        segment->stamps[page] = stamp;
        for (uint32_t i = page + 1; i < next; i++)
            segment->stamps[i] = stamp;
        touch->changed = touch->changed < page ? touch->changed : page;
    }
}

/* Pages [first, end), all of one namespace, or of some without limits. */
static inline void
touch_part(struct heat *heat, struct heat_group *group, struct heat_segment *segment, uint32_t first, uint32_t end,
           uint64_t value)
{
    const uint64_t now = heat_epoch_now(heat), horizon = heat_horizon(heat, group);
    const uint64_t oldest = horizon << heat->shift, epoch_values = UINT64_C(1) << heat->shift;
    uint64_t same_epoch = (value & (epoch_values - 1)) + 1; /* pages from `page` on */
    uint32_t age = (uint32_t)(now - (value >> heat->shift));
    struct touch touch = {heat, group, segment, now, now - horizon, heat_stamp_of(now), UINT32_MAX, 0, 0};

    if (value < oldest)
        return;
    if (end - first > value - oldest) /* what was used before the horizon stays as it is */
        end = first + (uint32_t)(value - oldest) + 1;
    for (uint32_t page = first, until; page < end; page = until) {
        until = same_epoch < end - page ? page + (uint32_t)same_epoch : end;
        touch_epoch(&touch, page, until, age++);
        same_epoch = epoch_values;
    }
    if (touch.changed == UINT32_MAX)
        return;
    heat->live_bytes += touch.revived;
    segment->live_bytes += touch.forgotten;
    if (group != NULL)
        group->live_bytes += touch.revived;
    if (segment->used < value - (touch.changed - first))
        segment->used = value - (touch.changed - first);
}

void
heat_touch_run(struct heat *heat, struct heat_segment *segment, uint32_t first, uint32_t page_count, uint64_t value)
{
    const uint32_t end = first + page_count;

    assert(first <= segment->count && page_count <= segment->count - first && value <= heat->clock);
    if (heat->group_count == 0) {
        touch_part(heat, NULL, segment, first, end, value);
        return;
    }
    for (uint32_t page = first; page < end;) {
        struct heat_part part = heat_part_at(heat, segment, page);
        uint32_t part_end = part.end < end ? part.end : end;

        touch_part(heat, part.group, segment, page, part_end, value - (page - first));
        page = part_end;
    }
}

void
heat_touch(struct heat *heat, struct heat_segment *segment, uint32_t page, uint64_t value)
{
    heat_touch_run(heat, segment, page, 1, value);
}

void
heat_set_stamp(struct heat *heat, struct heat_group *group, struct heat_segment *segment, uint32_t page, uint16_t stamp)
{
    heat_uncount(heat, group, segment, page);
    segment->stamps[page] = stamp;
    heat_count(heat, group, segment, page);
}

void
heat_kill_part(struct heat *heat, struct heat_segment *segment, const struct heat_part *part)
{
    for (uint32_t page = part->first, next; page < part->end; page = next) {
        uint16_t stamp = segment->stamps[page];

        next = heat_skip_stamp(segment->stamps, page + 1, part->end, stamp);
        account(heat, part->group, segment, stamp, 0 - heat_bytes_between(segment, page, next));
    }
    memset(segment->stamps + part->first, 0, (part->end - part->first) * sizeof(segment->stamps[0]));
}

void
heat_kill(struct heat *heat, struct heat_segment *segment, uint32_t page)
{
    heat_set_stamp(heat, heat_part_at(heat, segment, page).group, segment, page, HEAT_DEAD);
}

void
heat_pin(struct heat *heat, struct heat_segment *segment, uint32_t page)
{
    heat_set_stamp(heat, heat_part_at(heat, segment, page).group, segment, page, HEAT_PINNED);
}

void
heat_unpin(struct heat *heat, struct heat_segment *segment, uint32_t page, uint64_t value)
{
    struct heat_group *group = heat_part_at(heat, segment, page).group;

    if (segment->stamps[page] != HEAT_PINNED)
        return;
    heat_set_stamp(heat, group, segment, page, heat_stamp_at(heat, group, value));
    if (segment->used < value)
        segment->used = value;
}

static bool
is_recent(const struct heat *heat, const struct heat_group *group, uint64_t value)
{
    uint64_t span = heat->clock - (heat_horizon(heat, group) << heat->shift);

    return value >= heat->clock - span / HEAT_RECENT_SHARE && (group == NULL || value >= group->marked);
}

bool
heat_is_recent(const struct heat *heat, uint64_t value)
{
    return is_recent(heat, NULL, value);
}

bool
heat_is_recent_in(const struct heat *heat, uint32_t ns_id, uint64_t value)
{
    return is_recent(heat, heat_group_of(heat, ns_id), value);
}

bool
heat_is_live(const struct heat *heat, const struct heat_segment *segment, uint32_t page)
{
    return heat_stamp_is_live(heat, heat_part_at(heat, segment, page).group, segment->stamps[page]);
}

uint64_t
heat_value(const struct heat *heat, const struct heat_segment *segment, uint32_t page)
{
    uint16_t stamp = segment->stamps[page];

    if (stamp == HEAT_PINNED)
        return UINT64_MAX;
    return heat_is_live(heat, segment, page) ? heat_epoch_of(heat, stamp) << heat->shift : 0;
}
