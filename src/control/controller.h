/* SPDX-License-Identifier: Apache-2.0 */
/*
 * controller.h - which configuration the index should have, and when it is worth changing to it. Decisions without I/O.
 *
 * Each window of work is averaged into a mix, the cost of every configuration of a small grid is predicted for it, and what standing still has cost since the last
 * switch is added up. A switch is made when that regret exceeds twice what the switch costs: so whatever the workload does, no more is spent on moving than half of
 * what was lost by standing still (the rule of ski rental). A switch that measures worse than its prediction is taken back, and the next one waits longer.
 * While the index costs less than a hundredth of the payload's I/O the controller sleeps.
 *
 * Threads: the caller serialises all calls on one struct controller.
 */
#ifndef VARVE_CONTROL_CONTROLLER_H
#define VARVE_CONTROL_CONTROLLER_H

#include <stdbool.h>

#include "control/cost.h"
#include "env/env.h"

enum control_mode {
    CONTROL_ON,      /* as above */
    CONTROL_OFF,     /* measures, and decides nothing */
    CONTROL_NOMINAL, /* the cheapest for each window, with what a switch costs, but without average, regret, waiting or revert: for comparison */
};

enum control_event {
    CONTROL_NONE,
    CONTROL_SWITCH, /* to what is cheaper */
    CONTROL_REVERT, /* back, since it was not */
    CONTROL_SLEEP,  /* the index is not worth tuning */
    CONTROL_WAKE,
};

/* A decision, with the numbers that it was taken on. */
struct control_decision {
    enum control_event event;
    struct control_choice from, to;
    struct control_mix mix;
    double cost_from, cost_to;   /* predicted, seconds a second */
    double regret, switch_cost;  /* seconds */
    double error_from, error_to; /* of a revert: measured cost over predicted, of both */
};

/* What the grid is made of. */
struct control_bounds {
    uint64_t memory_bytes; /* for memtables and block cache together */
    uint64_t memtables;    /* that there may be at once: the active one, and those that wait for their flush */
    uint64_t memtable_bytes_min;
    uint64_t cache_bytes_min;
    uint32_t fingerprint_bits_min;
};

struct controller;

/* NULL: out of memory. `start` need not be in the grid. */
struct controller *controller_create(struct env *env, const struct control_bounds *bounds,
                                     const struct control_choice *start);
/* NULL is a no-op. */
void controller_destroy(struct controller *controller);

/*
 * If mode or start are others than before: begin anew at the start, without regret, and return true. A new controller has mode CONTROL_ON.
 */
bool controller_configure(struct controller *controller, enum control_mode mode, const struct control_choice *start);

/*
 * A window of `seconds` has ended: `mix` is its work, `layout` and `constants` are as they are now. The decision is to be carried out by the caller; event
 * CONTROL_NONE: nothing is.
 */
void controller_window(struct controller *controller, const struct control_mix *mix, double seconds,
                       const struct control_constants *constants, const struct outlook_layout *layout,
                       struct control_decision *out);

struct control_choice controller_choice(const struct controller *controller);
bool controller_asleep(const struct controller *controller);
/* The averaged mix. */
struct control_mix controller_mix(const struct controller *controller);

/* One row of the grid, as it is judged now. */
struct control_row {
    struct control_choice choice;
    struct control_cost cost;
    bool current, best;
};

/*
 * All configurations for `mix`, the current one first if it is not in the grid. Returns how many there are; fills at most `room`. A mix, constants or a layout other than
 * the controller's own may be given: nothing is changed by it.
 */
size_t controller_rows(struct controller *controller, const struct control_mix *mix,
                       const struct control_constants *constants, const struct outlook_layout *layout,
                       struct control_row *rows, size_t room);

#endif
