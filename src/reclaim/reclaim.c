/* SPDX-License-Identifier: Apache-2.0 */
#include "reclaim/reclaim.h"

/* The share of live pages when the budget is empty, and when it is full: in thousandths of the space. */
#define SHARE_MIN 850u
#define SHARE_MAX 985u

#define BUDGET_PERCENT 15u /* of the bytes of new pages: an amplification of 1.15 */
#define BUDGET_PART    50u /* it holds at most this part of the space, so that no quiet time pays for a burst of copies */

#define DYING_PART                                                                                                     \
    256u /* this part of the live set dies where no victim is cheap: else all segments were swept for each one */

#define PREPARE_SEGMENTS 128u /* in a store of fewer, one that waits empty would cost more hits than it saves time */

/* Each turn of the search for a victim looks at all pages: after so many, twice as many die in each. */
#define PATIENT_TURNS 16u

static int64_t
budget_max(const struct reclaim *reclaim)
{
    return (int64_t)(reclaim->bytes / BUDGET_PART);
}

static void
set_target(struct reclaim *reclaim)
{
    uint64_t budget = reclaim->budget > 0 ? (uint64_t)reclaim->budget : 0, whole = (uint64_t)budget_max(reclaim);
    uint64_t share = SHARE_MIN + (whole == 0 ? 0 : (SHARE_MAX - SHARE_MIN) * budget / whole);

    heat_set_target(reclaim->heat, reclaim->bytes / 1000 * share);
}

void
reclaim_init(struct reclaim *reclaim, struct heat *heat, uint64_t bytes, uint64_t segment_bytes)
{
    *reclaim = (struct reclaim){.heat = heat};
    reclaim_set_bytes(reclaim, bytes, segment_bytes);
    reclaim->budget = budget_max(reclaim);
    set_target(reclaim);
}

void
reclaim_set_bytes(struct reclaim *reclaim, uint64_t bytes, uint64_t segment_bytes)
{
    reclaim->bytes = bytes;
    reclaim->segment_bytes = segment_bytes;
    reclaim_note(reclaim, 0, 0);
}

bool
reclaim_is_due(const struct reclaim *reclaim, uint64_t free_segments, uint64_t survivors_room)
{
    if (!reclaim_prepares(reclaim))
        return free_segments == 0;
    return free_segments == 0 || (free_segments == 1 && survivors_room < reclaim->segment_bytes / 2);
}

bool
reclaim_prepares(const struct reclaim *reclaim)
{
    return reclaim->bytes / reclaim->segment_bytes >= PREPARE_SEGMENTS;
}

bool
reclaim_admits(const struct reclaim *reclaim, uint64_t chain_bytes)
{
    uint64_t reserve = reclaim_prepares(reclaim) ? 2 * reclaim->segment_bytes : 0;

    return chain_bytes + reserve <= reclaim->bytes;
}

/* Live bytes that a victim may have. An eighth is allowed in any case: emptier segments may be long in coming, and new pages cannot wait. */
static uint64_t
live_max(const struct reclaim *reclaim, const struct heat_segment *segment)
{
    uint64_t bytes = (uint64_t)segment->end * HEAT_UNIT;
    uint64_t paid = bytes / 8 + (reclaim->budget > 0 ? (uint64_t)reclaim->budget : 0);

    return paid < bytes / 2 ? paid : bytes / 2;
}

struct heat_segment *
reclaim_pick(struct reclaim *reclaim, bool (*may)(const void *owner))
{
    struct heat *heat = reclaim->heat;

    for (unsigned turn = 0;; turn++) {
        struct heat_segment *victim = heat_coldest(heat, may);
        unsigned haste = turn > PATIENT_TURNS ? turn - PATIENT_TURNS : 0;
        uint64_t live;

        if (victim == NULL || victim->live_bytes <= live_max(reclaim, victim))
            return victim;
        if (heat->horizon == heat->swept_horizon) {
            live = heat->live_bytes;
            heat_shrink(heat, reclaim->segment_bytes / 2 + (haste < 8 ? live / DYING_PART << haste : live));
            if (heat->live_bytes == live) /* all is pinned, or was used just now */
                return victim;
        }
        heat_sweep_all(heat);
    }
}

void
reclaim_note(struct reclaim *reclaim, uint64_t written, uint64_t copied)
{
    reclaim->budget += (int64_t)(written * BUDGET_PERCENT / 100) - (int64_t)copied;
    if (reclaim->budget > budget_max(reclaim))
        reclaim->budget = budget_max(reclaim);
    set_target(reclaim);
}
