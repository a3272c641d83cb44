/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merge picking; see level.h. Each pick takes two runs or more and leaves one, so picking on ends whatever the shape.
 */
#include "index/level.h"

#include <assert.h>

struct level_sums {
    uint32_t runs[LEVEL_MAX + 2];
    uint64_t bytes[LEVEL_MAX + 2];
    uint32_t last; /* deepest non-empty level */
};

static void
sum_up(const struct level_run *runs, size_t count, struct level_sums *sums)
{
    *sums = (struct level_sums){.last = 0};
    for (size_t i = 0; i < count; i++) {
        assert(runs[i].level >= 1 && runs[i].level <= LEVEL_MAX);
        sums->runs[runs[i].level]++;
        sums->bytes[runs[i].level] += runs[i].bytes;
        if (runs[i].level > sums->last)
            sums->last = runs[i].level;
    }
}

/* base x T^level, or UINT64_MAX where that is more. */
static uint64_t
level_bytes_max(const struct level_shape *shape, uint32_t level)
{
    uint64_t bytes = shape->base_bytes;

    for (uint32_t i = 0; i < level; i++) {
        if (__builtin_mul_overflow(bytes, (uint64_t)shape->size_ratio, &bytes))
            return UINT64_MAX;
    }
    return bytes;
}

static uint32_t
level_runs_max(const struct level_shape *shape, uint32_t level, uint32_t last)
{
    return level < last ? shape->runs_per_level : shape->runs_last_level;
}

uint32_t
level_pick(const struct level_shape *shape, uint32_t grown, struct level_run *runs, size_t count)
{
    struct level_sums sums;
    uint32_t taken; /* levels whose runs are inputs, a bit each */
    uint32_t level = 1;
    uint64_t bytes;

    assert(shape->size_ratio >= 2 && shape->runs_per_level >= 1 && shape->runs_last_level >= 1);
    sum_up(runs, count, &sums);
    while (level <= sums.last &&
           ((grown >> level & 1) == 0 || sums.runs[level] <= level_runs_max(shape, level, sums.last)))
        level++;
    if (level > sums.last)
        return 0;

    taken = UINT32_C(1) << level;
    bytes = sums.bytes[level];
    while (level < LEVEL_MAX && bytes > level_bytes_max(shape, level)) {
        level++;
        if (sums.runs[level] > 0 && sums.runs[level] + 1 > level_runs_max(shape, level, sums.last)) {
            taken |= UINT32_C(1) << level;
            bytes += sums.bytes[level];
        }
    }
    for (size_t i = 0; i < count; i++)
        runs[i].picked = (taken >> runs[i].level & 1) != 0;
    return level;
}
