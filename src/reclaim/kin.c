/* SPDX-License-Identifier: Apache-2.0 */
#include "reclaim/kin.h"

#define PERIOD 256u /* new calls, after which the width is what it was in them */

static struct kin_call *
call_of(struct kin *kin, uint64_t id)
{
    return &kin->calls[id & (KIN_CALLS - 1)];
}

static uint64_t
bit_of(uint32_t ns_id)
{
    return UINT64_C(1) << (ns_id & 63);
}

static bool
is_lately(const struct heat *heat, uint64_t clock)
{
    return heat->clock - clock <= (heat->clock - (heat->horizon << heat->shift)) / KIN_SHARE;
}

/* A time to live runs from the use itself: where marks tell times apart, an age is given again only between two of them. */
static bool
is_marked_since(const struct heat *heat, uint32_t ns_id, const struct kin_call *call)
{
    const struct heat_group *group = heat_group_find(heat, ns_id);

    return group != NULL && call->value < group->marked;
}

const struct kin_call *
kin_take(struct kin *kin, const struct heat *heat, uint64_t id, uint32_t ns_id)
{
    struct kin_call *call = call_of(kin, id);
    uint32_t width;

    if (id == 0 || call->id != id || (call->namespaces & bit_of(ns_id)) != 0 || !is_lately(heat, call->clock) ||
        is_marked_since(heat, ns_id, call))
        return NULL;
    call->namespaces |= bit_of(ns_id);
    width = (uint32_t)__builtin_popcountll(call->namespaces);
    if (width > kin->widest)
        kin->widest = width;
    if (width > kin->width)
        kin->width = width;
    return call;
}

void
kin_note(struct kin *kin, const struct heat *heat, const struct kin_call *call, uint32_t ns_id)
{
    struct kin_call *place = call_of(kin, call->id);

    *place = *call;
    place->clock = heat->clock;
    place->namespaces = bit_of(ns_id);
    if (++kin->made % PERIOD != 0)
        return;
    kin->width = kin->widest;
    kin->widest = 1;
}

uint32_t
kin_width(const struct kin *kin)
{
    return kin->width > 1 ? kin->width : 1;
}
