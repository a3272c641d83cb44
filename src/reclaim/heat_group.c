/* SPDX-License-Identifier: Apache-2.0 */
/* Groups: limits of single namespaces, on the same clock and stamps as those of the whole. */
#include <string.h>

#include "reclaim/heat_private.h"
#include "varve.h"

#define GROUP_ROOM_FIRST 4u

/* The first group of ns_id or a greater one. */
static size_t
group_bound(const struct heat *heat, uint32_t ns_id)
{
    size_t low = 0, high = heat->group_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (heat->groups[middle]->ns_id < ns_id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct heat_group *
heat_group_of(const struct heat *heat, uint32_t ns_id)
{
    size_t index = group_bound(heat, ns_id);

    return index < heat->group_count && heat->groups[index]->ns_id == ns_id ? heat->groups[index] : NULL;
}

const struct heat_group *
heat_group_find(const struct heat *heat, uint32_t ns_id)
{
    return heat_group_of(heat, ns_id);
}

static int
make_group_room(struct heat *heat)
{
    size_t room = heat->group_room == 0 ? GROUP_ROOM_FIRST : heat->group_room * 2;
    struct heat_group **groups;

    if (heat->group_count < heat->group_room)
        return VARVE_OK;
    groups = heat->env->ops->alloc(heat->env, room * sizeof(struct heat_group *), _Alignof(struct heat_group *));
    if (groups == NULL)
        return VARVE_E_NOMEM;
    if (heat->group_count > 0)
        memcpy(groups, heat->groups, heat->group_count * sizeof(struct heat_group *));
    env_free(heat->env, heat->groups);
    heat->groups = groups;
    heat->group_room = room;
    return VARVE_OK;
}

/* The pages of the namespace that are there already; they are counted in the whole. */
static void
count_part(const struct heat *heat, const struct heat_segment *segment, const struct heat_part *part,
           struct heat_group *group)
{
    for (uint32_t i = part->first; i < part->end; i++) {
        uint16_t stamp = segment->stamps[i];

        if (stamp == HEAT_PINNED) {
            group->pinned_bytes += heat_bytes(segment, i);
        } else if (heat_stamp_is_live(heat, group, stamp)) {
            group->live_bytes += heat_bytes(segment, i);
            *heat_group_bytes(group, heat_epoch_of(heat, stamp)) += heat_bytes(segment, i);
        }
    }
}

int
heat_group_create(struct heat *heat, uint32_t ns_id, uint64_t quota)
{
    size_t index = group_bound(heat, ns_id);
    struct heat_group *group = heat_group_of(heat, ns_id);

    if (group != NULL) {
        group->quota = quota;
        return VARVE_OK;
    }
    if (make_group_room(heat) != VARVE_OK)
        return VARVE_E_NOMEM;
    group = env_zalloc(heat->env, sizeof(*group));
    if (group == NULL)
        return VARVE_E_NOMEM;
    group->ns_id = ns_id;
    group->quota = quota;
    group->horizon = heat->horizon;
    for (const struct heat_segment *segment = heat->first; segment != NULL; segment = segment->next) {
        for (struct heat_part part = {0}; heat_next_part(heat, segment, true, &part);) {
            if (part.ns_id == ns_id)
                count_part(heat, segment, &part, group);
        }
    }
    memmove(heat->groups + index + 1, heat->groups + index, (heat->group_count - index) * sizeof(struct heat_group *));
    heat->groups[index] = group;
    heat->group_count++;
    return VARVE_OK;
}

void
heat_group_destroy(struct heat *heat, uint32_t ns_id)
{
    size_t index = group_bound(heat, ns_id);
    struct heat_group *group = heat_group_of(heat, ns_id);

    if (group == NULL)
        return;
    /* What its horizon has passed must not come back to life. */
    for (struct heat_segment *segment = heat->first; segment != NULL; segment = segment->next) {
        for (struct heat_part part = {0}; heat_next_part(heat, segment, true, &part);) {
            if (part.group == group)
                heat_sweep_part(heat, segment, &part);
        }
    }
    heat->group_count--;
    memmove(heat->groups + index, heat->groups + index + 1, (heat->group_count - index) * sizeof(struct heat_group *));
    env_free(heat->env, group);
}

void
heat_gone(struct heat *heat, uint32_t ns_id)
{
    for (struct heat_segment *segment = heat->first; segment != NULL; segment = segment->next) {
        for (struct heat_part part = {0}; heat_next_part(heat, segment, true, &part);) {
            if (part.ns_id == ns_id)
                heat_kill_part(heat, segment, &part);
        }
    }
    heat_group_destroy(heat, ns_id);
}

/* What it counted before `horizon` is not live any more, in its own account. Returns how much that was. */
static uint64_t
take_before(struct heat_group *group, uint64_t horizon)
{
    uint64_t died = 0;

    for (; group->horizon < horizon; group->horizon++) {
        uint64_t *bytes = heat_group_bytes(group, group->horizon);

        died += *bytes;
        *bytes = 0;
    }
    group->live_bytes -= died;
    return died;
}

void
heat_groups_follow(struct heat *heat, uint64_t horizon)
{
    for (size_t i = 0; i < heat->group_count; i++)
        (void)take_before(heat->groups[i], horizon);
}

/* One epoch more of the namespace is dead, while others of the same epoch live on. */
static void
advance(struct heat *heat, struct heat_group *group)
{
    uint16_t stamp = heat_stamp_of(group->horizon);
    uint64_t died = take_before(group, group->horizon + 1);

    heat->bytes_at[stamp] -= died;
    heat->live_bytes -= died;
    heat->group_died += died;
}

void
heat_groups_age(struct heat *heat)
{
    for (size_t i = 0; i < heat->group_count; i++) {
        struct heat_group *group = heat->groups[i];

        while (group->live_bytes + group->pinned_bytes > group->quota && group->horizon < heat_epoch_now(heat))
            advance(heat, group);
    }
}

uint64_t
heat_group_mark(struct heat *heat, uint32_t ns_id)
{
    struct heat_group *group = heat_group_of(heat, ns_id);
    uint64_t before = heat->clock;

    while (before >> heat->shift == heat_epoch_now(heat)) /* more than once where epochs become longer meanwhile */
        (void)heat_clock(heat, (((heat_epoch_now(heat) + 1) << heat->shift) - heat->clock) - 1);
    if (group != NULL)
        group->marked = heat->clock;
    return heat->clock;
}

void
heat_expire(struct heat *heat, uint32_t ns_id, uint64_t value)
{
    struct heat_group *group = heat_group_of(heat, ns_id);
    uint64_t epoch = (value < heat->clock ? value : heat->clock) >> heat->shift;

    while (group != NULL && group->horizon < epoch)
        advance(heat, group);
}

void
heat_groups_coarsen(struct heat *heat)
{
    for (size_t i = 0; i < heat->group_count; i++) {
        memset(heat->groups[i]->bytes_at, 0, sizeof(heat->groups[i]->bytes_at));
        heat->groups[i]->horizon /= 2;
    }
}
