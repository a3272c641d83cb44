/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grid.h - the configurations that the controller chooses from, and what each costs. Pure.
 *
 * Shapes (T, K, Z) times memtables (what they do not take of the memory is the block cache's) times widths of fingerprints. The outlook of a shape depends on the levels as
 * they are and on the flushes to come, not on the rest of the mix, so outlooks are kept until one of these has changed by a tenth.
 */
#ifndef VARVE_CONTROL_GRID_H
#define VARVE_CONTROL_GRID_H

#include <stdbool.h>

#include "control/controller.h"

#define GRID_SHAPES    ((size_t)19)
#define GRID_MEMTABLES ((size_t)6)
#define GRID_WIDTHS    ((size_t)2)
#define GRID_COUNT     (GRID_SHAPES * GRID_MEMTABLES * GRID_WIDTHS)

/* Configurations that need not be in the grid: indexes behind it. */
#define GRID_CURRENT  GRID_COUNT
#define GRID_PREVIOUS (GRID_COUNT + 1)
#define GRID_OWN      2

/* What all outlooks were played for: the same, so that they can be compared. */
struct grid_basis {
    bool valid;
    unsigned flushes_log2; /* of those of the horizon, with the smallest memtable */
    double pages, pages_put;
    double age_s;
    struct control_constants constants;
    struct outlook_layout layout;
};

struct grid {
    struct control_bounds bounds;
    struct control_choice start;
    struct grid_basis basis;
    struct outlook now;
    struct outlook outlooks[GRID_SHAPES][GRID_MEMTABLES];
    struct outlook own_outlooks[GRID_OWN];
    struct control_choice own[GRID_OWN];
    double pages, page_bytes; /* of the layout */
};

/* `start`: the configuration of the options, whose shape is one of the grid's. */
void grid_init(struct grid *grid, const struct control_bounds *bounds, const struct control_choice *start);

/*
 * Bring the outlooks up to date for the layout, `seconds` after the last time, and for the flushes of this mix; `own` are the choice in force and the one before.
 */
void grid_update(struct grid *grid, const struct control_mix *mix, const struct control_constants *constants,
                 const struct outlook_layout *layout, const struct control_choice own[GRID_OWN], double seconds);

/* Pages that the shape asks to be merged in the levels as they are, before any flush. */
double grid_backlog(const struct control_choice *choice, const struct outlook_layout *layout);

struct control_choice grid_choice(const struct grid *grid, size_t index);
void grid_cost(const struct grid *grid, const struct control_mix *mix, const struct control_constants *constants,
               size_t index, struct control_cost *out);
const struct outlook *grid_outlook(const struct grid *grid, size_t index);
/* The cheapest, and its cost; GRID_CURRENT where none is cheaper. */
size_t grid_best(const struct grid *grid, const struct control_mix *mix, const struct control_constants *constants,
                 double *cost);
/* The index of a choice; GRID_CURRENT: it is not in the grid. */
size_t grid_find(const struct grid *grid, const struct control_choice *choice);

#endif
