/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heat_private.h - what the parts of heat share: heat.c keeps segments and their pages, heat_touch.c changes stamps, heat_ring.c moves the clock and
 * the horizon, heat_group.c has the limits of namespaces, heat_snapshot.c the bytes that a restart begins with.
 *
 * Bytes are counted by stamp, so each change of a stamp, and of where the next page begins, is between heat_uncount() and heat_count().
 * segment->live_bytes holds all pages that are not HEAT_DEAD; heat->live_bytes and bytes_at[] those from their horizon on, and the group of a page's
 * namespace, where it has one, counts its part of them once more. `group` is NULL for pages of a namespace without one.
 */
#ifndef VARVE_RECLAIM_HEAT_PRIVATE_H
#define VARVE_RECLAIM_HEAT_PRIVATE_H

#include <string.h>

#include "reclaim/heat.h"

static inline uint64_t
heat_epoch_now(const struct heat *heat)
{
    return heat->clock >> heat->shift;
}

static inline uint64_t
heat_horizon(const struct heat *heat, const struct heat_group *group)
{
    return group == NULL ? heat->horizon : group->horizon;
}

static inline uint16_t
heat_stamp_of(uint64_t epoch) /* from the horizon to now */
{
    return (uint16_t)(epoch % HEAT_EPOCHS + 1);
}

static inline uint16_t
heat_stamp_at(const struct heat *heat, const struct heat_group *group, uint64_t value)
{
    uint64_t epoch = value >> heat->shift;

    return epoch < heat_horizon(heat, group) ? HEAT_DEAD : heat_stamp_of(epoch);
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
heat_stamp_is_live(const struct heat *heat, const struct heat_group *group, uint16_t stamp)
{
    return stamp == HEAT_PINNED || (stamp != HEAT_DEAD && heat_epoch_of(heat, stamp) >= heat_horizon(heat, group));
}

/* The group's live bytes of an epoch from the horizon to now. */
static inline uint64_t *
heat_group_bytes(struct heat_group *group, uint64_t epoch)
{
    return &group->bytes_at[epoch % HEAT_GROUP_EPOCHS];
}

/* From the page up to page `next`, or to the end of the segment: next is at most segment->count. */
static inline uint64_t
heat_bytes_between(const struct heat_segment *segment, uint32_t page, uint32_t next)
{
    return (uint64_t)((next < segment->count ? segment->at[next] : segment->end) - segment->at[page]) * HEAT_UNIT;
}

/* The first page from `page` on, or `end`, that has another stamp. */
static inline uint32_t
heat_skip_stamp(const uint16_t *stamps, uint32_t page, uint32_t end, uint16_t stamp)
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

/* Pages [first, end) of a segment, all of one namespace, or, where that makes no difference, all there are. */
struct heat_part {
    uint32_t first, end;
    uint32_t ns_id; /* 0: not asked for */
    struct heat_group *group;
    uint32_t next_span;
};

/*
 * The part after `part`, which begins as {0}. by_namespace: also where no namespace has a group. False: there is none.
 *
 *     for (struct heat_part part = {0}; heat_next_part(heat, segment, false, &part);)
 */
bool heat_next_part(const struct heat *heat, const struct heat_segment *segment, bool by_namespace,
                    struct heat_part *part);
/* The part that the page is in; it begins with the page. */
struct heat_part heat_part_at(const struct heat *heat, const struct heat_segment *segment, uint32_t page);

/* Room for so many pages in all, at least as many as there are; for so many more spans. VARVE_OK or VARVE_E_NOMEM. */
int heat_set_room(struct heat *heat, struct heat_segment *segment, uint32_t room);
int heat_make_span_room(struct heat *heat, struct heat_segment *segment, uint32_t more);

void heat_uncount(struct heat *heat, struct heat_group *group, struct heat_segment *segment, uint32_t page);
void heat_count(struct heat *heat, struct heat_group *group, struct heat_segment *segment, uint32_t page);
void heat_set_stamp(struct heat *heat, struct heat_group *group, struct heat_segment *segment, uint32_t page,
                    uint16_t stamp);

/* All pages of the part become HEAT_DEAD. */
void heat_kill_part(struct heat *heat, struct heat_segment *segment, const struct heat_part *part);
/* Pages of the part that were used before their horizon become HEAT_DEAD. */
void heat_sweep_part(struct heat *heat, struct heat_segment *segment, const struct heat_part *part);

struct heat_group *heat_group_of(const struct heat *heat, uint32_t ns_id);
/* The horizon of all moves to `horizon`: what every group counted before it is dead. */
void heat_groups_follow(struct heat *heat, uint64_t horizon);
/* Let pages die until every namespace is within its quota. */
void heat_groups_age(struct heat *heat);
/* Before all pages are counted anew at epochs twice as long. */
void heat_groups_coarsen(struct heat *heat);

#endif
