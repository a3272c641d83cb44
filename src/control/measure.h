/* SPDX-License-Identifier: Apache-2.0 */
/*
 * measure.h - from counters to a mix and to constants: what a window of work was, and what things cost in it; and the levels as they are. No I/O.
 */
#ifndef VARVE_CONTROL_MEASURE_H
#define VARVE_CONTROL_MEASURE_H

#include "control/cost.h"
#include "index/index.h"

/* Sums whose differences make a window. */
struct control_sums {
    struct index_stats index;
    uint64_t put_pages, extents; /* inserted into the index */
    uint64_t get_us, put_us;     /* of calls in reads and writes of payload */
    uint64_t flush_us;           /* of flushes, with the sync before each */
    uint64_t at_ns;
};

/* Until something was measured: an NVMe drive, and what gcc 12 made of merges and locators on a 2 GHz core. */
extern const struct control_constants control_constants_initial;

/* Average what the window from `a` to `b` says of the constants into them; what did not happen in it stays as it was. */
void control_measure_constants(struct control_constants *constants, const struct control_sums *a,
                               const struct control_sums *b);

/* `b` is later than `a`; `reuse` is of the time between. */
void control_measure_mix(const struct control_constants *constants, const struct control_sums *a,
                         const struct control_sums *b, const struct reuse_sample *reuse, struct control_mix *mix);

/* The levels of the index as they are. */
void control_measure_layout(struct index *index, struct outlook_layout *layout);

#endif
