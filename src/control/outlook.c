/* SPDX-License-Identifier: Apache-2.0 */
#include "control/outlook.h"

#include <assert.h>
#include <math.h>

#define LEVEL_PASSES_MAX 64 /* merges that one flush may set off; far more than there are levels */

struct play {
    struct outlook_run runs[OUTLOOK_RUNS_MAX];
    size_t count;
    double page_bytes;
    double merged_pages;
};

/* A run that holds the share f of all pages has a part of a conversation of n turns with probability 1 - (1 - f)^n. */
static void
add_spread(const struct outlook_run *runs, size_t count, struct outlook *out)
{
    double pages = 0;

    for (size_t i = 0; i < count; i++)
        pages += runs[i].pages;
    for (size_t i = 0; i < count && pages > 0; i++) {
        double without = 1 - runs[i].pages / pages;

        for (int power = 0; power < OUTLOOK_TURNS; power++) {
            out->spread[power] += 1 - without;
            without *= without;
        }
    }
    out->runs += (double)count;
}

static void
merge_picked(struct play *play, const struct level_run *picks, uint32_t level)
{
    double pages = 0;
    size_t kept = 0;

    for (size_t i = 0; i < play->count; i++) {
        if (picks[i].picked)
            pages += play->runs[i].pages;
        else
            play->runs[kept++] = play->runs[i];
    }
    play->runs[kept++] = (struct outlook_run){.pages = pages, .level = level};
    play->count = kept;
    play->merged_pages += pages;
}

/* All merges that are due, as index_merge() would do them. */
static void
settle(struct play *play, const struct level_shape *shape, uint32_t grown)
{
    static const struct level_run none;
    struct level_run picks[OUTLOOK_RUNS_MAX];

    for (int passes = 0; passes < LEVEL_PASSES_MAX; passes++) {
        uint32_t level;

        for (size_t i = 0; i < play->count; i++) {
            picks[i] = none;
            picks[i].bytes = (uint64_t)(play->runs[i].pages * play->page_bytes);
            picks[i].level = play->runs[i].level;
        }
        level = level_pick(shape, grown, picks, play->count);
        if (level == 0)
            return;
        merge_picked(play, picks, level);
        grown |= UINT32_C(1) << level;
    }
}

void
outlook_play(const struct outlook_layout *layout, const struct level_shape *shape, double flush_pages, unsigned flushes,
             struct outlook *out)
{
    struct play play = {.count = layout->count, .page_bytes = layout->page_bytes};
    unsigned played = 0;

    assert(layout->count <= OUTLOOK_RUNS_MAX);
    *out = (struct outlook){.passes = 0};
    for (size_t i = 0; i < layout->count; i++)
        play.runs[i] = layout->runs[i];
    settle(&play, shape, UINT32_MAX);
    out->settle_pages = play.merged_pages;
    play.merged_pages = 0;
    while (played < flushes && play.count < OUTLOOK_RUNS_MAX) {
        play.runs[play.count++] = (struct outlook_run){.pages = flush_pages, .level = 1};
        settle(&play, shape, UINT32_C(1) << 1);
        add_spread(play.runs, play.count, out);
        played++;
    }
    if (played == 0) { /* none were asked for, or there are more runs than can be played */
        add_spread(play.runs, play.count, out);
        return;
    }
    out->passes = play.merged_pages / (flush_pages * played);
    out->runs /= played;
    for (int power = 0; power < OUTLOOK_TURNS; power++)
        out->spread[power] /= played;
}

void
outlook_now(const struct outlook_layout *layout, struct outlook *out)
{
    *out = (struct outlook){.passes = 0};
    add_spread(layout->runs, layout->count, out);
}

double
outlook_spread(const struct outlook *outlook, double turns)
{
    double power = log2(turns < 1 ? 1 : turns);
    int below = (int)power;

    if (below >= OUTLOOK_TURNS - 1)
        return outlook->spread[OUTLOOK_TURNS - 1];
    return outlook->spread[below] + (power - below) * (outlook->spread[below + 1] - outlook->spread[below]);
}

double
outlook_turns(const struct outlook *outlook, double spread)
{
    int above = 0;
    double step;

    while (above < OUTLOOK_TURNS && outlook->spread[above] < spread)
        above++;
    if (above == 0)
        return 1;
    if (above == OUTLOOK_TURNS)
        return exp2(OUTLOOK_TURNS - 1);
    step = outlook->spread[above] - outlook->spread[above - 1];
    return exp2(above - 1 + (step > 0 ? (spread - outlook->spread[above - 1]) / step : 0));
}
