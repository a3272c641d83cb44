/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outlook.h - what the levels of the index will look like under a shape, and what keeping them so takes. Pure.
 *
 * The next flushes are played from the runs as they are, with level_pick() itself: so a shape is judged by the merges that it will really make, the
 * first ones after a change included, and not by a formula for levels that are full. (The formulas, Dostoevsky's, are the check in
 * tests/unit/outlook_test.c.)
 */
#ifndef VARVE_CONTROL_OUTLOOK_H
#define VARVE_CONTROL_OUTLOOK_H

#include <stddef.h>
#include <stdint.h>

#include "index/level.h"

#define OUTLOOK_RUNS_MAX 256
#define OUTLOOK_TURNS    12 /* powers of two of turns: 1 to 2,048 */

struct outlook_run {
    double pages;
    uint32_t level;
};

/* The index as it is, and how it grows. */
struct outlook_layout {
    struct outlook_run runs[OUTLOOK_RUNS_MAX];
    size_t count;
    double page_bytes;   /* of a run file, a page */
    uint64_t base_bytes; /* level_shape.base_bytes */
};

struct outlook {
    double settle_pages; /* merged before the first flush, where the layout has more runs than the shape allows */
    double passes;       /* times that a page is merged, in the mean of the pages flushed */
    double runs;         /* in the mean of the flushes */
    /*
     * Runs that hold a part of a conversation of 2^i turns that came at times of their own: in each of which a walk along it searches once. In the mean
     * of the flushes.
     */
    double spread[OUTLOOK_TURNS];
};

/*
 * First make the layout keep to the shape; then play `flushes` memtables of `flush_pages` pages, perhaps none. *out are the levels in the mean after each flush, or
 * without any.
 */
void outlook_play(const struct outlook_layout *layout, const struct level_shape *shape, double flush_pages,
                  unsigned flushes, struct outlook *out);

/* The layout as it is: nothing is merged. */
void outlook_now(const struct outlook_layout *layout, struct outlook *out);

/* Runs that a conversation of so many turns (at least 1) lies in. */
double outlook_spread(const struct outlook *outlook, double turns);
/* The turns for which outlook_spread() is `spread`: 1 to 2^(OUTLOOK_TURNS - 1). */
double outlook_turns(const struct outlook *outlook, double spread);

#endif
