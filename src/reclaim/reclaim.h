/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reclaim.h - how much of the space live pages may take, and which segment makes room: decisions without I/O, for the store and for `varve replay
 * --policy-only`.
 *
 * Live pages get a share of the space; the rest is dead pages in segments that still stand, and the more there are of them, the fewer live ones a
 * victim holds. So the share is what write amplification allows: it goes up while reclaim copies little, and down when it copies much. (Fixed shares
 * were measured: 90 % costs agents 2 points of hits for nothing, 95 % costs chat a third more writes.)
 *
 * Threads: as struct heat.
 */
#ifndef VARVE_RECLAIM_RECLAIM_H
#define VARVE_RECLAIM_RECLAIM_H

#include "reclaim/heat.h"

/* Segments that a capacity is cut into, where it is not so large that segments of the usual size are many more. */
#define RECLAIM_SEGMENTS 256

struct reclaim {
    struct heat *heat;
    uint64_t bytes;      /* space for segments */
    uint32_t live_share; /* of it, for live pages: in thousandths */
    double written;      /* bytes of new pages lately */
    double copied;       /* and of survivors */
};

void reclaim_init(struct reclaim *reclaim, struct heat *heat, uint64_t bytes);
/* The space has changed. */
void reclaim_set_bytes(struct reclaim *reclaim, uint64_t bytes);

/*
 * The segment to reclaim: the one with the fewest live bytes of those that `may` go. Where even that one is nearly all alive, more pages die first:
 * space is needed, and copying would make none. NULL: none may go.
 */
struct heat_segment *reclaim_pick(struct reclaim *reclaim, bool (*may)(const void *owner));

/* A segment of new pages is full; `copied` bytes of survivors were written since the last. */
void reclaim_note(struct reclaim *reclaim, uint64_t written, uint64_t copied);

#endif
