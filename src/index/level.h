/* SPDX-License-Identifier: Apache-2.0 */
/*
 * level.h - which runs to merge, and into which level. Pure.
 *
 * At most K runs on every level but the last, Z on the last non-empty one. A level that received a run and has more is
 * merged into one run, all of it; the result goes down while it is larger than its level may hold (base x T^level),
 * taking along the runs of each level that its arrival would overfill at once.
 */
#ifndef VARVE_INDEX_LEVEL_H
#define VARVE_INDEX_LEVEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LEVEL_MAX 31 /* deepest level; base x T^31 is more than any disk */

struct level_shape {
    uint32_t size_ratio;      /* T, at least 2 */
    uint32_t runs_per_level;  /* K, at least 1 */
    uint32_t runs_last_level; /* Z, at least 1 */
    uint64_t base_bytes;      /* about what a flush writes */
};

struct level_run {
    uint64_t bytes;
    uint32_t level; /* 1..LEVEL_MAX */
    bool picked;    /* out */
};

/*
 * `grown` has bit n set where level n received a run since the last decision: only those are looked at, so a change of
 * shape by itself starts nothing. Returns the level for the output and marks the inputs (at least two), or 0: nothing
 * to merge.
 */
uint32_t level_pick(const struct level_shape *shape, uint32_t grown, struct level_run *runs, size_t count);

#endif
