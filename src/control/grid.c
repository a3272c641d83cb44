/* SPDX-License-Identifier: Apache-2.0 */
#include "control/grid.h"

#include <math.h>
#include <string.h>

#define HORIZON_S        60.0 /* of flushes that a shape is judged by */
#define FLUSHES_LOG2_MAX 6
#define CHANGED          1.1  /* what counts as a change of what outlooks are played for, */
#define AGE_MAX_S        1.0  /* and runs have changed after so long */
#define WIDER_BITS       4    /* a sixteenth of the false positives */
#define WIDER_BYTES      1.25 /* a page: slots of 5 bytes in place of 4, and their spare room */

/* T in {4, 6, 10}, K in {1, 2, 4, 8}, Z in {1, 2, 4}, no more runs than T - 1, nor more on the last level than on others. The last shape is that of the options. */
static const struct {
    uint32_t size_ratio, runs_per_level, runs_last_level;
} shapes[GRID_SHAPES - 1] = {
    {4, 1, 1},  {4, 2, 1},  {4, 2, 2},  {6, 1, 1},  {6, 2, 1},  {6, 2, 2},  {6, 4, 1},  {6, 4, 2},  {6, 4, 4},
    {10, 1, 1}, {10, 2, 1}, {10, 2, 2}, {10, 4, 1}, {10, 4, 2}, {10, 4, 4}, {10, 8, 1}, {10, 8, 2}, {10, 8, 4},
};

/* One memtable, of all memory: so many 64ths. Three of 20 leave the cache a sixteenth. */
static const uint32_t memtable_shares[GRID_MEMTABLES] = {1, 2, 4, 8, 13, 20};

void
grid_init(struct grid *grid, const struct control_bounds *bounds, const struct control_choice *start)
{
    memset(grid, 0, sizeof(*grid));
    grid->start = *start;
    grid->bounds = *bounds;
}

static uint64_t
memtable_bytes(const struct grid *grid, size_t memtable)
{
    uint64_t bytes = grid->bounds.memory_bytes / 64 * memtable_shares[memtable];

    return bytes > grid->bounds.memtable_bytes_min ? bytes : grid->bounds.memtable_bytes_min;
}

/* A point of the grid itself. */
static struct control_choice
point(const struct grid *grid, size_t index)
{
    const struct control_bounds *bounds = &grid->bounds;
    size_t width = index % GRID_WIDTHS, memtable = index / GRID_WIDTHS % GRID_MEMTABLES;
    size_t shape = index / GRID_WIDTHS / GRID_MEMTABLES;
    bool own = shape == GRID_SHAPES - 1;
    struct control_choice choice = {
        .size_ratio = own ? grid->start.size_ratio : shapes[shape].size_ratio,
        .runs_per_level = own ? grid->start.runs_per_level : shapes[shape].runs_per_level,
        .runs_last_level = own ? grid->start.runs_last_level : shapes[shape].runs_last_level,
        .fingerprint_bits = bounds->fingerprint_bits_min + (width > 0 ? WIDER_BITS : 0),
        .memtable_bytes = memtable_bytes(grid, memtable),
    };
    uint64_t taken =
        bounds->memtables * choice.memtable_bytes + (width > 0 ? (uint64_t)(WIDER_BYTES * grid->pages) : 0);

    choice.cache_bytes = bounds->memory_bytes > taken ? bounds->memory_bytes - taken : 0;
    if (choice.cache_bytes < bounds->cache_bytes_min)
        choice.cache_bytes = bounds->cache_bytes_min;
    return choice;
}

struct control_choice
grid_choice(const struct grid *grid, size_t index)
{
    return index < GRID_COUNT ? point(grid, index) : grid->own[index - GRID_COUNT];
}

static struct level_shape
level_shape_of(const struct control_choice *choice, const struct outlook_layout *layout)
{
    return (struct level_shape){
        .size_ratio = choice->size_ratio,
        .runs_per_level = choice->runs_per_level,
        .runs_last_level = choice->runs_last_level,
        .base_bytes = layout->base_bytes,
    };
}

double
grid_backlog(const struct control_choice *choice, const struct outlook_layout *layout)
{
    struct level_shape shape = level_shape_of(choice, layout);
    struct outlook outlook;

    outlook_play(layout, &shape, 1, 0, &outlook);
    return outlook.settle_pages;
}

static unsigned
flushes_within(double seconds, double pages_put, double flush_pages)
{
    double flushes = pages_put * seconds / flush_pages, most = exp2(FLUSHES_LOG2_MAX);

    return (unsigned)(flushes < most ? flushes : most);
}

static void
play(const struct grid_basis *basis, const struct control_choice *choice, struct outlook *out)
{
    struct level_shape shape = level_shape_of(choice, &basis->layout);
    double flush_pages = control_flush_pages(&basis->constants, choice->memtable_bytes);

    outlook_play(&basis->layout, &shape, flush_pages, flushes_within(HORIZON_S, basis->pages_put, flush_pages), out);
}

static bool
has_changed(double a, double b)
{
    return a > b * CHANGED || b > a * CHANGED;
}

static bool
runs_differ(const struct outlook_layout *a, const struct outlook_layout *b)
{
    return a->count != b->count || memcmp(a->runs, b->runs, a->count * sizeof(a->runs[0])) != 0;
}

/* Whether outlooks have to be played anew. */
static bool
basis_has_changed(const struct grid *grid, const struct control_mix *mix, const struct control_constants *constants,
                  const struct outlook_layout *layout, unsigned *flushes_log2)
{
    const struct grid_basis *basis = &grid->basis;
    double smallest = control_flush_pages(constants, memtable_bytes(grid, 0));

    for (*flushes_log2 = 0; *flushes_log2 <= FLUSHES_LOG2_MAX; (*flushes_log2)++) {
        if (flushes_within(HORIZON_S, mix->pages_put, smallest) < 1u << *flushes_log2)
            break;
    }
    return !basis->valid || (basis->age_s >= AGE_MAX_S && runs_differ(layout, &basis->layout)) ||
           has_changed(grid->pages, basis->pages) || layout->base_bytes != basis->layout.base_bytes ||
           has_changed(smallest, control_flush_pages(&basis->constants, memtable_bytes(grid, 0))) ||
           *flushes_log2 != basis->flushes_log2;
}

void
grid_update(struct grid *grid, const struct control_mix *mix, const struct control_constants *constants,
            const struct outlook_layout *layout, const struct control_choice own[GRID_OWN], double seconds)
{
    struct grid_basis *basis = &grid->basis;
    unsigned flushes_log2;
    bool all;

    outlook_now(layout, &grid->now);
    grid->page_bytes = layout->page_bytes;
    grid->pages = 0;
    for (size_t i = 0; i < layout->count; i++)
        grid->pages += layout->runs[i].pages;
    basis->age_s += seconds;
    all = basis_has_changed(grid, mix, constants, layout, &flushes_log2);
    if (all) {
        *basis = (struct grid_basis){.valid = true,
                                     .flushes_log2 = flushes_log2,
                                     .pages = grid->pages,
                                     .pages_put = mix->pages_put,
                                     .constants = *constants,
                                     .layout = *layout};
        for (size_t shape = 0; shape < GRID_SHAPES; shape++) {
            for (size_t memtable = 0; memtable < GRID_MEMTABLES; memtable++) {
                struct control_choice choice = point(grid, (shape * GRID_MEMTABLES + memtable) * GRID_WIDTHS);

                play(basis, &choice, &grid->outlooks[shape][memtable]);
            }
        }
    }
    for (size_t i = 0; i < GRID_OWN; i++) {
        if (all || memcmp(&own[i], &grid->own[i], sizeof(own[i])) != 0)
            play(basis, &own[i], &grid->own_outlooks[i]);
        grid->own[i] = own[i];
    }
}

const struct outlook *
grid_outlook(const struct grid *grid, size_t index)
{
    if (index >= GRID_COUNT)
        return &grid->own_outlooks[index - GRID_COUNT];
    return &grid->outlooks[index / GRID_WIDTHS / GRID_MEMTABLES][index / GRID_WIDTHS % GRID_MEMTABLES];
}

void
grid_cost(const struct grid *grid, const struct control_mix *mix, const struct control_constants *constants,
          size_t index, struct control_cost *out)
{
    struct control_choice choice = grid_choice(grid, index);
    const struct control_levels levels = {
        .now = &grid->now,
        .outlook = grid_outlook(grid, index),
        .pages = grid->pages,
        .page_bytes = grid->page_bytes,
    };

    control_cost_of(mix, constants, &levels, &choice, out);
}

size_t
grid_find(const struct grid *grid, const struct control_choice *choice)
{
    for (size_t i = 0; i < GRID_COUNT; i++) {
        struct control_choice one = point(grid, i);

        if (memcmp(&one, choice, sizeof(one)) == 0)
            return i;
    }
    return GRID_CURRENT;
}

size_t
grid_best(const struct grid *grid, const struct control_mix *mix, const struct control_constants *constants,
          double *cost)
{
    size_t best = GRID_CURRENT;
    struct control_cost one;

    grid_cost(grid, mix, constants, GRID_CURRENT, &one);
    *cost = one.total;
    for (size_t i = 0; i < GRID_COUNT; i++) {
        grid_cost(grid, mix, constants, i, &one);
        if (one.total < *cost) {
            *cost = one.total;
            best = i;
        }
    }
    return best;
}
