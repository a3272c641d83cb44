/* SPDX-License-Identifier: Apache-2.0 */
/* sim_trouble.h - what goes wrong beside crashes, drawn from a stream of random numbers. */
#ifndef VARVE_SIM_TROUBLE_H
#define VARVE_SIM_TROUBLE_H

#include "sim_disk.h"

enum sim_trouble_kind {
    SIM_TROUBLE_ERRORS,     /* operations fail, once or a few times */
    SIM_TROUBLE_STICKY,     /* and never work again, in this life */
    SIM_TROUBLE_MEMORY,     /* allocations */
    SIM_TROUBLE_FULL,       /* the file system has little room, for a while */
    SIM_TROUBLE_LOST_SYNC,  /* these are lies: the store may lose pages */
    SIM_TROUBLE_LOST_WRITE, /**/
    SIM_TROUBLE_MISDIRECT,  /**/
    SIM_TROUBLE_FLIP,       /**/
    SIM_TROUBLE_KINDS,
};

#define SIM_TROUBLE_LIES SIM_TROUBLE_LOST_SYNC /* the first of them */

/* One of `kinds`, a bit each; at least one is set. */
enum sim_trouble_kind sim_trouble_draw(uint32_t kinds, struct sim_rng *rng);

/* Something of that kind goes wrong from now on, or after at most skip_max operations. */
void sim_trouble_begin(struct sim_disk *disk, enum sim_trouble_kind kind, uint64_t skip_max, struct sim_rng *rng);

#endif
