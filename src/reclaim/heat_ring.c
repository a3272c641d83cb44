/* SPDX-License-Identifier: Apache-2.0 */
/* The clock, the horizon, and what follows from them: epochs that double, pages that die, victims. */
#include <string.h>

#include "reclaim/heat_private.h"

#define SWEEP_EPOCHS 8192u /* every segment is looked at at least once in so many epochs */
#define STALE_SHARE  64u   /* of the live set's span that the horizon may move before victims are judged anew */

void
heat_sweep(struct heat *heat, struct heat_segment *segment, bool (*gone)(void *arg, uint32_t ns_id), void *arg)
{
    uint32_t span = 0;
    bool all_gone = false;

    for (uint32_t i = 0; i < segment->count; i++) {
        if (span < segment->span_count && segment->spans[span].at <= segment->at[i]) {
            all_gone = gone != NULL && gone(arg, segment->spans[span].ns_id);
            span++;
        }
        if (segment->stamps[i] != HEAT_DEAD && (all_gone || !heat_stamp_is_live(heat, segment->stamps[i])))
            heat_set_stamp(heat, segment, i, HEAT_DEAD);
    }
}

void
heat_sweep_all(struct heat *heat)
{
    for (struct heat_segment *segment = heat->first; segment != NULL; segment = segment->next)
        heat_sweep(heat, segment, NULL, NULL);
    heat->sweep_debt = 0;
    heat->swept_horizon = heat->horizon;
}

/* Epochs twice as long: stamps are halved. O(pages), but each time at twice the age of the last. */
static void
coarsen(struct heat *heat)
{
    heat_sweep_all(heat);
    memset(heat->bytes_at, 0, sizeof(heat->bytes_at));
    for (struct heat_segment *segment = heat->first; segment != NULL; segment = segment->next) {
        for (uint32_t i = 0; i < segment->count; i++) {
            if (segment->stamps[i] == HEAT_DEAD || segment->stamps[i] == HEAT_PINNED)
                continue;
            segment->stamps[i] = heat_stamp_of(heat_epoch_of(heat, segment->stamps[i]) / 2);
            heat->bytes_at[segment->stamps[i]] += heat_bytes(segment, i);
        }
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
    uint64_t before;

    while (((heat->clock + depth + 1) >> heat->shift) - heat->horizon > HEAT_SPAN_MAX)
        coarsen(heat);
    before = heat_epoch_now(heat);
    heat->clock += depth + 1;
    sweep_some(heat, heat_epoch_now(heat) - before);
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
}

void
heat_age(struct heat *heat)
{
    age_to(heat, heat->live_max);
}

void
heat_shrink(struct heat *heat, uint64_t bytes)
{
    uint64_t live = heat->live_bytes + heat->pinned_bytes;

    age_to(heat, live > bytes ? live - bytes : 0);
}

static bool
colder(const struct heat_segment *a, const struct heat_segment *b)
{
    return a->live_bytes != b->live_bytes ? a->live_bytes < b->live_bytes : a->used < b->used;
}

struct heat_segment *
heat_coldest(struct heat *heat, bool (*may)(const void *owner))
{
    struct heat_segment *coldest = NULL;

    if ((heat->horizon - heat->swept_horizon) * STALE_SHARE > heat_epoch_now(heat) - heat->horizon)
        heat_sweep_all(heat);
    for (struct heat_segment *segment = heat->first; segment != NULL; segment = segment->next) {
        if (may(segment->owner) && (coldest == NULL || colder(segment, coldest)))
            coldest = segment;
    }
    return coldest;
}
