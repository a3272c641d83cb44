/* SPDX-License-Identifier: Apache-2.0 */
#include "reclaim/reclaim.h"

#define SHARE_FIRST 900u
#define SHARE_MIN   800u
#define SHARE_MAX   970u
#define SHARE_STEP  2u

/* Copied bytes by written bytes: below the one the share rises, above the other it falls. The target is an amplification of at most 1.2. */
#define COPIED_LOW  0.08
#define COPIED_HIGH 0.12

#define MEMORY 0.95 /* of the averages, a segment: some 20 segments count */

#define LIVE_IN_VICTIM_PERCENT 95

static void
set_target(struct reclaim *reclaim)
{
    heat_set_target(reclaim->heat, reclaim->bytes / 1000 * reclaim->live_share);
}

void
reclaim_init(struct reclaim *reclaim, struct heat *heat, uint64_t bytes)
{
    *reclaim = (struct reclaim){.heat = heat, .bytes = bytes, .live_share = SHARE_FIRST};
    set_target(reclaim);
}

void
reclaim_set_bytes(struct reclaim *reclaim, uint64_t bytes)
{
    reclaim->bytes = bytes;
    set_target(reclaim);
}

struct heat_segment *
reclaim_pick(struct reclaim *reclaim, bool (*may)(const void *owner))
{
    struct heat *heat = reclaim->heat;

    for (;;) {
        struct heat_segment *victim = heat_coldest(heat, may);
        uint64_t bytes = victim == NULL ? 0 : (uint64_t)victim->end * HEAT_UNIT;
        uint64_t live;

        if (victim == NULL || victim->live_bytes <= bytes / 100 * LIVE_IN_VICTIM_PERCENT)
            return victim;
        live = heat->live_bytes;
        heat_shrink(heat, bytes);
        if (heat->live_bytes == live) /* all is pinned, or was used just now */
            return victim;
        heat_sweep_all(heat);
    }
}

void
reclaim_note(struct reclaim *reclaim, uint64_t written, uint64_t copied)
{
    double ratio;

    reclaim->written = reclaim->written * MEMORY + (double)written;
    reclaim->copied = reclaim->copied * MEMORY + (double)copied;
    ratio = reclaim->copied / reclaim->written;
    if (ratio < COPIED_LOW && reclaim->live_share + SHARE_STEP <= SHARE_MAX)
        reclaim->live_share += SHARE_STEP;
    else if (ratio > COPIED_HIGH && reclaim->live_share >= SHARE_MIN + SHARE_STEP)
        reclaim->live_share -= SHARE_STEP;
    set_target(reclaim);
}
