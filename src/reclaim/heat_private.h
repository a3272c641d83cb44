/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heat_private.h - what the parts of heat share: heat.c keeps segments and their pages, heat_touch.c changes stamps, heat_ring.c moves the clock and
 * the horizon.
 *
 * Bytes are counted by stamp, so each change of a stamp, and of where the next page begins, is between heat_uncount() and heat_count().
 * segment->live_bytes holds all pages that are not HEAT_DEAD, heat->live_bytes and bytes_at[] those from the horizon on.
 */
#ifndef VARVE_RECLAIM_HEAT_PRIVATE_H
#define VARVE_RECLAIM_HEAT_PRIVATE_H

#include "reclaim/heat.h"

static inline uint64_t
heat_epoch_now(const struct heat *heat)
{
    return heat->clock >> heat->shift;
}

static inline uint16_t
heat_stamp_of(uint64_t epoch) /* from the horizon to now */
{
    return (uint16_t)(epoch % HEAT_EPOCHS + 1);
}

static inline uint16_t
heat_stamp_at(const struct heat *heat, uint64_t value)
{
    uint64_t epoch = value >> heat->shift;

    return epoch < heat->horizon ? HEAT_DEAD : heat_stamp_of(epoch);
}

/* Epochs between a stamp that is neither dead nor pinned and the stamp of now: the latest one that has it. */
static inline uint32_t
heat_stamp_age(uint16_t stamp, uint16_t stamp_now)
{
    return stamp <= stamp_now ? (uint32_t)stamp_now - stamp : stamp_now + HEAT_EPOCHS - stamp;
}

static inline uint64_t
heat_epoch_of(const struct heat *heat, uint16_t stamp)
{
    uint64_t now = heat_epoch_now(heat);
    uint64_t age = heat_stamp_age(stamp, heat_stamp_of(now));

    return age <= now ? now - age : 0;
}

static inline bool
heat_stamp_is_live(const struct heat *heat, uint16_t stamp)
{
    return stamp == HEAT_PINNED || (stamp != HEAT_DEAD && heat_epoch_of(heat, stamp) >= heat->horizon);
}

/* From the page up to page `next`, or to the end of the segment: next is at most segment->count. */
static inline uint64_t
heat_bytes_between(const struct heat_segment *segment, uint32_t page, uint32_t next)
{
    return (uint64_t)((next < segment->count ? segment->at[next] : segment->end) - segment->at[page]) * HEAT_UNIT;
}

void heat_uncount(struct heat *heat, struct heat_segment *segment, uint32_t page);
void heat_count(struct heat *heat, struct heat_segment *segment, uint32_t page);
void heat_set_stamp(struct heat *heat, struct heat_segment *segment, uint32_t page, uint16_t stamp);

#endif
