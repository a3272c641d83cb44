/* SPDX-License-Identifier: Apache-2.0 */
#include "control/cost.h"

#include <math.h>

#include "format/run_format.h"

double
control_flush_pages(const struct control_constants *constants, uint64_t memtable_bytes)
{
    double pages = (double)memtable_bytes * constants->memtable_pages;
    double most = constants->memtable_extents * constants->extent_pages;

    pages = most > 0 && most < pages ? most : pages;
    return pages < 1 ? 1 : pages;
}

double
control_miss_ratio(const struct control_mix *mix, const struct control_constants *constants, double cache_bytes)
{
    double uses = 0, found = 0, steps = cache_bytes / constants->reuse_step_bytes;

    for (int i = 0; i <= REUSE_BUCKETS; i++)
        uses += mix->uses[i];
    if (uses <= 0)
        return 1;
    for (int i = 0; i < REUSE_BUCKETS; i++) {
        double part = steps - i; /* of this step that the cache covers */

        found += mix->uses[i] * (part >= 1 ? 1 : part > 0 ? part : 0);
    }
    return 1 - found / uses;
}

static double
false_rate(const struct control_constants *constants, uint32_t bits)
{
    return constants->false_rate * exp2((double)constants->false_bits - (double)bits);
}

void
control_cost_of(const struct control_mix *mix, const struct control_constants *constants,
                const struct control_levels *levels, const struct control_choice *choice, struct control_cost *out)
{
    double turns = outlook_turns(levels->now, mix->walks > 0 ? mix->searches_found / mix->walks : 1);
    double now = outlook_spread(levels->now, turns);
    /* A walk searches once in each run that its conversation lies in. */
    double found = now > 0 ? mix->searches_found * outlook_spread(levels->outlook, turns) / now : mix->searches_found;
    double missing = mix->searches - mix->searches_found;
    /* One that finds its page has asked half of the others on the way. */
    double asked_in_vain = missing * levels->outlook->runs + found * (levels->outlook->runs - 1) / 2;
    double pins = found + asked_in_vain * false_rate(constants, choice->fingerprint_bits) + mix->onward_pins;
    double misses = control_miss_ratio(mix, constants, (double)choice->cache_bytes);
    double merged = mix->pages_put * levels->outlook->passes;
    double run_bytes = levels->pages * levels->page_bytes;
    double cached = run_bytes > 0 ? fmin(1, (double)choice->cache_bytes / run_bytes) : 0;

    *out = (struct control_cost){
        .reads = pins * misses * constants->read_s,
        .locators = (asked_in_vain + found) * constants->locator_s,
        .flushes = mix->pages_put * constants->flush_page_s +
                   mix->pages_put / control_flush_pages(constants, choice->memtable_bytes) * constants->flush_s,
        .merges = merged * constants->merge_page_s,
        /* Blocks of merged runs that were cached and would have been found again. */
        .refills = fmin(merged * levels->page_bytes / BLOCK_BYTES * cached, pins * (1 - misses)) * constants->read_s,
    };
    out->total = out->reads + out->locators + out->flushes + out->merges + out->refills;
}
