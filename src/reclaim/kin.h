/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kin.h - the same call in several namespaces has one age.
 *
 * The ranks of a server keep parts of one page under the same id, each in a namespace of its own, and a request hits as far as all of them have its pages. So
 * the parts should die together. But ranks call one after another, and each call would be younger than the one before: in a store that is filled by the parts of
 * a few requests, every rank would keep other pages. Here the first namespace that makes a call decides its age, and the others, which make the same call a
 * little later, get the same one. The next call of a namespace that had it already is a new one.
 *
 * A call is known by the id of its last page, which commits to all before it. Nothing says which namespaces belong together: equal ids do. So the pools of one rank
 * age together as well; and namespaces that have nothing to do with each other, as two models that are asked the same, which costs the later one at most
 * 1/KIN_SHARE of the age at which pages die.
 *
 * Threads: the caller serialises all calls on one struct kin.
 */
#ifndef VARVE_RECLAIM_KIN_H
#define VARVE_RECLAIM_KIN_H

#include "reclaim/heat.h"

#define KIN_CALLS 1024u /* that are remembered: a power of two */
#define KIN_SHARE 2u    /* an age is given again for this part of the live set's age */

struct kin_call {
    uint64_t id;         /* 0: none */
    uint64_t value;      /* of the last page; those before it are younger, each by one */
    uint64_t demotion;   /* and what the call stores is older than that */
    uint64_t clock;      /* when it was new */
    uint64_t namespaces; /* that had it: bits, by the rest of their number */
};

struct kin {
    uint32_t made;          /* new calls */
    uint32_t width, widest; /* namespaces that made the same call: at most, of late, and in this period */
    struct kin_call calls[KIN_CALLS];
};

/*
 * A call of namespace ns_id on a chain, whose last page has an id of which these are any 64 bits that are as good as random: the same call as another namespace made a
 * while ago, and this one did not. NULL: it is new, and to be noted.
 */
const struct kin_call *kin_take(struct kin *kin, const struct heat *heat, uint64_t id, uint32_t ns_id);
void kin_note(struct kin *kin, const struct heat *heat, const struct kin_call *call, uint32_t ns_id);

/* Namespaces that make the same calls, of late: 1 where there are no ranks. */
uint32_t kin_width(const struct kin *kin);

#endif
