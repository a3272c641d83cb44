/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reclaim.h - how much of the space live pages may take, when space is short, and which segment makes room: decisions without I/O, for the store and for
 * `varve replay --policy-only`.
 *
 * Live pages get a share of the space; the rest is dead pages in segments that still stand, and the more there are of them, the fewer live ones a
 * victim holds. So the share is what write amplification allows. New pages pay into a budget, copies of survivors are paid from it, and the share follows what
 * is left: nearly all while reclaim copies little, less when the budget shrinks. A budget that is empty buys nothing, so the amplification of
 * everything written is bounded, not only the average of late. (Measured: docs/eviction.md.)
 *
 * Threads: as struct heat.
 */
#ifndef VARVE_RECLAIM_RECLAIM_H
#define VARVE_RECLAIM_RECLAIM_H

#include "reclaim/heat.h"

/* Segments that a capacity is cut into, where it is not so large that segments of the usual size are more. */
#define RECLAIM_SEGMENTS 2048

struct reclaim {
    struct heat *heat;
    uint64_t bytes;         /* space for segments */
    uint64_t segment_bytes; /* of a full one */
    int64_t budget;         /* bytes of survivors that may be copied */
};

void reclaim_init(struct reclaim *reclaim, struct heat *heat, uint64_t bytes, uint64_t segment_bytes);
/* The space has changed. */
void reclaim_set_bytes(struct reclaim *reclaim, uint64_t bytes, uint64_t segment_bytes);

/*
 * Whether a segment has to be reclaimed before the next one for new pages is begun: there must be one for them, and reclaim itself needs room for survivors.
 * Asked when the open one is full, and, in a store of more than a few segments, when it is half full, so that the next one can be prepared.
 * `free_segments`: as many more fit in the space. `survivors_room`: what the open segment of survivors still takes.
 */
bool reclaim_is_due(const struct reclaim *reclaim, uint64_t free_segments, uint64_t survivors_room);
bool reclaim_prepares(const struct reclaim *reclaim);

/*
 * Whether a page is worth storing whose chain takes `chain_bytes` up to its end. The end of a chain that is longer than the store would push out its own
 * middle, and could not be reached.
 */
bool reclaim_admits(const struct reclaim *reclaim, uint64_t chain_bytes);

/*
 * The segment to reclaim, of those that `may` go: heat_coldest(). It holds at most half a segment of live pages, and no more than the budget pays for:
 * where even the coldest has more, more pages die first. (Pinned ones do not, nor those used just now.) NULL: none may go.
 */
struct heat_segment *reclaim_pick(struct reclaim *reclaim, bool (*may)(const void *owner));

/* Bytes of new pages and of survivors that were written since the last call. */
void reclaim_note(struct reclaim *reclaim, uint64_t written, uint64_t copied);

#endif
