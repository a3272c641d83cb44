/* SPDX-License-Identifier: Apache-2.0 */
/* The clock, the horizon, and what follows from them: epochs that double, pages that die, victims. */
#include <string.h>

#include "reclaim/heat_private.h"

#define SWEEP_EPOCHS 8192u /* every segment is looked at at least once in so many epochs */
#define STALE_SHARE  64u   /* of the live set's span that the horizon may move before victims are judged anew */
#define OLD_WEIGHT                                                                                                     \
    4u /* a live page about to die stands in the way of a victim like 1 + so many that were used just now */

void
heat_sweep_part(struct heat *heat, struct heat_segment *segment, const struct heat_part *part)
{
    const uint16_t now = heat_stamp_of(heat_epoch_now(heat));
    const uint64_t live_age = heat_epoch_now(heat) - heat_horizon(heat, part->group);

    for (uint32_t i = part->first; i < part->end; i++) {
        uint16_t stamp = segment->stamps[i];

        if (stamp != HEAT_DEAD && stamp != HEAT_PINNED && heat_stamp_age(stamp, now) > live_age)
            heat_set_stamp(heat, part->group, segment, i, HEAT_DEAD);
    }
}

/* Live bytes, each weighed by its age as a part of the live set's. */
static uint64_t
weigh_by_age(const struct heat *heat, const struct heat_segment *segment)
{
    const uint16_t now = heat_stamp_of(heat_epoch_now(heat));
    const uint64_t live_age = heat_epoch_now(heat) - heat->horizon;
    uint64_t sum = 0;

    for (uint32_t page = 0, next; page < segment->count; page = next) {
        uint16_t stamp = segment->stamps[page];

        next = heat_skip_stamp(segment->stamps, page + 1, segment->count, stamp);
        if (stamp != HEAT_DEAD && stamp != HEAT_PINNED)
            sum += heat_bytes_between(segment, page, next) / HEAT_UNIT * heat_stamp_age(stamp, now);
    }
    return live_age == 0 ? 0 : sum / live_age * HEAT_UNIT;
}

void
heat_sweep(struct heat *heat, struct heat_segment *segment, bool (*gone)(void *arg, uint32_t ns_id), void *arg)
{
    for (struct heat_part part = {0}; heat_next_part(heat, segment, gone != NULL, &part);) {
        if (gone != NULL && gone(arg, part.ns_id))
            heat_kill_part(heat, segment, &part);
        else
            heat_sweep_part(heat, segment, &part);
    }
    segment->old_bytes = weigh_by_age(heat, segment);
}

void
heat_sweep_all(struct heat *heat)
{
    for (struct heat_segment *segment = heat->first; segment != NULL; segment = segment->next)
        heat_sweep(heat, segment, NULL, NULL);
    heat->sweep_debt = 0;
    heat->swept_horizon = heat->horizon;
    heat->group_died = 0;
}

/* Stamps of epochs twice as long, and their bytes. Nothing is dead that is not HEAT_DEAD. */
static void
coarsen_part(struct heat *heat, struct heat_segment *segment, const struct heat_part *part)
{
    for (uint32_t page = part->first, next; page < part->end; page = next) {
        uint16_t stamp = segment->stamps[page];
        uint64_t epoch, bytes;

        next = heat_skip_stamp(segment->stamps, page + 1, part->end, stamp);
        if (stamp == HEAT_DEAD || stamp == HEAT_PINNED)
            continue;
        epoch = heat_epoch_of(heat, stamp) / 2;
        stamp = heat_stamp_of(epoch);
        for (uint32_t i = page; i < next; i++)
            segment->stamps[i] = stamp;
        bytes = heat_bytes_between(segment, page, next);
        heat->bytes_at[stamp] += bytes;
        if (part->group != NULL)
            *heat_group_bytes(part->group, epoch) += bytes;
    }
}

/* Epochs twice as long: stamps are halved. O(pages), but each time at twice the age of the last. */
static void
coarsen(struct heat *heat)
{
    heat_sweep_all(heat);
    memset(heat->bytes_at, 0, sizeof(heat->bytes_at));
    heat_groups_coarsen(heat);
    for (struct heat_segment *segment = heat->first; segment != NULL; segment = segment->next) {
        for (struct heat_part part = {0}; heat_next_part(heat, segment, false, &part);)
            coarsen_part(heat, segment, &part);
    }
    heat->shift++;
    heat->horizon /= 2;
    heat->swept_horizon /= 2;
}

/* Time for every segment to be looked at once in SWEEP_EPOCHS. */
static void
sweep_some(struct heat *heat, uint64_t epochs)
{
    if (epochs >= SWEEP_EPOCHS) {
        heat_sweep_all(heat);
        return;
    }
    for (heat->sweep_debt += epochs * heat->segment_count; heat->sweep_debt >= SWEEP_EPOCHS;
         heat->sweep_debt -= SWEEP_EPOCHS) {
        if (heat->sweep == NULL)
            heat->sweep = heat->first;
        if (heat->sweep == NULL)
            return;
        heat_sweep(heat, heat->sweep, NULL, NULL);
        heat->sweep = heat->sweep->next;
    }
}

uint64_t
heat_clock(struct heat *heat, uint64_t depth)
{
    while (((heat->clock + depth + 1) >> heat->shift) - heat->horizon > HEAT_SPAN_MAX)
        coarsen(heat);
    /* First, since dead stamps could be mistaken for live ones after a long silence. */
    sweep_some(heat, ((heat->clock + depth + 1) >> heat->shift) - heat_epoch_now(heat));
    heat->clock += depth + 1;
    return heat->clock;
}

/* Pages die, the least recently used first, until live and pinned ones take at most `most`. */
static void
age_to(struct heat *heat, uint64_t most)
{
    while (heat->live_bytes + heat->pinned_bytes > most && heat->horizon < heat_epoch_now(heat)) {
        uint16_t stamp = heat_stamp_of(heat->horizon++);

        heat->live_bytes -= heat->bytes_at[stamp];
        heat->bytes_at[stamp] = 0;
    }
    heat_groups_follow(heat, heat->horizon);
}

void
heat_age(struct heat *heat)
{
    heat_groups_age(heat);
    age_to(heat, heat->live_max);
}

void
heat_shrink(struct heat *heat, uint64_t bytes)
{
    uint64_t live = heat->live_bytes + heat->pinned_bytes;

    age_to(heat, live > bytes ? live - bytes : 0);
}

static uint64_t
cost_of(const struct heat_segment *segment)
{
    uint64_t old = segment->old_bytes < segment->live_bytes ? segment->old_bytes : segment->live_bytes;

    return segment->live_bytes + OLD_WEIGHT * old;
}

static bool
colder(const struct heat_segment *a, const struct heat_segment *b)
{
    uint64_t cost_a = cost_of(a), cost_b = cost_of(b);

    return cost_a != cost_b ? cost_a < cost_b : a->used < b->used;
}

struct heat_segment *
heat_coldest(struct heat *heat, bool (*may)(const void *owner))
{
    struct heat_segment *coldest = NULL;

    if ((heat->horizon - heat->swept_horizon) * STALE_SHARE > heat_epoch_now(heat) - heat->horizon ||
        heat->group_died > heat->live_bytes / STALE_SHARE)
        heat_sweep_all(heat);
    for (struct heat_segment *segment = heat->first; segment != NULL; segment = segment->next) {
        if ((coldest == NULL || colder(segment, coldest)) && may(segment->owner))
            coldest = segment;
    }
    if (coldest != NULL)
        heat_sweep(heat, coldest, NULL, NULL);
    return coldest;
}
