/* SPDX-License-Identifier: Apache-2.0 */
/* Segments and the places of their pages. */
#include <assert.h>
#include <string.h>

#include "reclaim/heat_private.h"
#include "varve.h"

#define ROOM_FIRST      64u
#define SPAN_ROOM_FIRST 2u

struct heat *
heat_create(struct env *env, uint64_t live_max)
{
    struct heat *heat = env_zalloc(env, sizeof(*heat));

    if (heat != NULL) {
        heat->env = env;
        heat->live_max = live_max;
        heat->clock = heat->horizon = HEAT_EPOCHS; /* so that values of a while ago do not fall below 0 */
    }
    return heat;
}

void
heat_destroy(struct heat *heat)
{
    if (heat == NULL)
        return;
    assert(heat->first == NULL);
    while (heat->group_count > 0)
        heat_group_destroy(heat, heat->groups[0]->ns_id);
    env_free(heat->env, heat->groups);
    env_free(heat->env, heat);
}

void
heat_set_target(struct heat *heat, uint64_t live_max)
{
    heat->live_max = live_max;
}

struct heat_segment *
heat_segment_create(struct heat *heat, void *owner)
{
    struct heat_segment *segment = env_zalloc(heat->env, sizeof(*segment));

    if (segment == NULL)
        return NULL;
    segment->owner = owner;
    segment->next = heat->first;
    if (heat->first != NULL)
        heat->first->prev = segment;
    heat->first = segment;
    heat->segment_count++;
    return segment;
}

void
heat_segment_destroy(struct heat *heat, struct heat_segment *segment)
{
    if (segment == NULL)
        return;
    for (struct heat_part part = {0}; heat_next_part(heat, segment, false, &part);)
        heat_kill_part(heat, segment, &part);
    if (heat->sweep == segment)
        heat->sweep = segment->next;
    if (segment->prev != NULL)
        segment->prev->next = segment->next;
    else
        heat->first = segment->next;
    if (segment->next != NULL)
        segment->next->prev = segment->prev;
    heat->segment_count--;
    env_free(heat->env, segment->at);
    env_free(heat->env, segment->spans);
    env_free(heat->env, segment);
}

/* Places and stamps are one allocation: places first. */
int
heat_set_room(struct heat *heat, struct heat_segment *segment, uint32_t room)
{
    uint32_t *at =
        heat->env->ops->alloc(heat->env, (size_t)room * (sizeof(uint32_t) + sizeof(uint16_t)), _Alignof(uint32_t));

    if (at == NULL)
        return VARVE_E_NOMEM;
    if (segment->count > 0) {
        memcpy(at, segment->at, segment->count * sizeof(at[0]));
        memcpy(at + room, segment->stamps, segment->count * sizeof(segment->stamps[0]));
    }
    env_free(heat->env, segment->at);
    segment->at = at;
    segment->stamps = (uint16_t *)(void *)(at + room);
    segment->room = room;
    return VARVE_OK;
}

void
heat_segment_trim(struct heat *heat, struct heat_segment *segment)
{
    if (segment->count > 0 && segment->count < segment->room)
        (void)heat_set_room(heat, segment, segment->count);
}

uint64_t
heat_bytes(const struct heat_segment *segment, uint32_t page)
{
    return heat_bytes_between(segment, page, page + 1);
}

/* The first page at or after `at`. */
static uint32_t
lower_bound(const struct heat_segment *segment, uint32_t at)
{
    uint32_t low = 0, high = segment->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (segment->at[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint32_t
heat_find(const struct heat_segment *segment, uint64_t place, uint32_t guess)
{
    uint32_t at = (uint32_t)(place / HEAT_UNIT);
    uint32_t page;

    if (guess < segment->count && segment->at[guess] == at)
        return guess;
    page = lower_bound(segment, at);
    return page < segment->count && segment->at[page] == at ? page : segment->count;
}

uint32_t
heat_find_from(const struct heat_segment *segment, uint64_t place)
{
    uint64_t at = place / HEAT_UNIT + (place % HEAT_UNIT != 0);

    return at > UINT32_MAX ? segment->count : lower_bound(segment, (uint32_t)at);
}

/* The span that holds the pages from `at` on: the last one that begins there or before; span_count: none. */
static uint32_t
span_of(const struct heat_segment *segment, uint32_t at)
{
    uint32_t low = 0, high = segment->span_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (segment->spans[middle].at <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low == 0 ? segment->span_count : low - 1;
}

bool
heat_next_part(const struct heat *heat, const struct heat_segment *segment, bool by_namespace, struct heat_part *part)
{
    if (part->end >= segment->count)
        return false;
    part->first = part->end;
    part->end = segment->count;
    if (!by_namespace && heat->group_count == 0)
        return true;
    part->ns_id = segment->spans[part->next_span].ns_id;
    part->group = heat_group_of(heat, part->ns_id);
    part->next_span++;
    if (part->next_span < segment->span_count)
        part->end = lower_bound(segment, segment->spans[part->next_span].at);
    return true;
}

struct heat_part
heat_part_at(const struct heat *heat, const struct heat_segment *segment, uint32_t page)
{
    struct heat_part part = {.end = page};

    if (heat->group_count > 0)
        part.next_span = span_of(segment, segment->at[page]);
    (void)heat_next_part(heat, segment, false, &part);
    return part;
}

int
heat_make_span_room(struct heat *heat, struct heat_segment *segment, uint32_t more)
{
    uint32_t room = segment->span_room == 0 ? SPAN_ROOM_FIRST : segment->span_room;
    struct heat_span *spans;

    while (room < segment->span_count + more)
        room *= 2;
    if (room == segment->span_room)
        return VARVE_OK;
    spans = heat->env->ops->alloc(heat->env, room * sizeof(spans[0]), _Alignof(struct heat_span));
    if (spans == NULL)
        return VARVE_E_NOMEM;
    if (segment->span_count > 0)
        memcpy(spans, segment->spans, segment->span_count * sizeof(spans[0]));
    env_free(heat->env, segment->spans);
    segment->spans = spans;
    segment->span_room = room;
    return VARVE_OK;
}

static void
add_span(struct heat_segment *segment, uint32_t index, struct heat_span span)
{
    memmove(segment->spans + index + 1, segment->spans + index,
            (segment->span_count - index) * sizeof(segment->spans[0]));
    segment->spans[index] = span;
    segment->span_count++;
}

/* Pages from `at` on, up to the page at `next` if there is one, are ns_id's. There is room for two spans. */
static void
mark_namespace(struct heat_segment *segment, uint32_t ns_id, uint32_t at, const uint32_t *next)
{
    uint32_t before = span_of(segment, at);
    bool known = before < segment->span_count;
    uint32_t index = known ? before + 1 : 0;
    uint32_t before_ns = known ? segment->spans[before].ns_id : 0;

    if (known && before_ns == ns_id)
        return;
    /* What lies behind belongs to the namespace it belonged to. */
    if (known && next != NULL && span_of(segment, *next) == before)
        add_span(segment, index, (struct heat_span){*next, before_ns});
    add_span(segment, index, (struct heat_span){at, ns_id});
}

/* Room for `more` pages. */
static int
make_room(struct heat *heat, struct heat_segment *segment, uint32_t more)
{
    uint32_t room = segment->room == 0 ? ROOM_FIRST : segment->room;

    while (room < segment->count + more)
        room *= 2;
    return room == segment->room ? VARVE_OK : heat_set_room(heat, segment, room);
}

/* Before page `index`; places and stamps are the caller's to fill. */
static void
open_gap(struct heat_segment *segment, uint32_t index, uint32_t more)
{
    uint32_t behind = segment->count - index;

    memmove(segment->at + index + more, segment->at + index, behind * sizeof(segment->at[0]));
    memmove(segment->stamps + index + more, segment->stamps + index, behind * sizeof(segment->stamps[0]));
    segment->count += more;
}

/* How many of the pages lie at places of their own: pages without bytes share that of the page behind them. */
static uint32_t
distinct(const uint64_t *places, uint32_t page_count, uint64_t end)
{
    uint32_t found = 0;

    for (uint32_t i = 0; i < page_count; i++)
        found += (i + 1 < page_count ? places[i + 1] : end) > places[i];
    return found;
}

/* Pages of which none is known. *known: one is, and nothing has changed. */
static int
add_new(struct heat *heat, struct heat_segment *segment, uint32_t ns_id, const uint64_t *places, uint32_t page_count,
        uint64_t end, uint64_t value, bool *known)
{
    uint32_t at = (uint32_t)(places[0] / HEAT_UNIT), more = distinct(places, page_count, end);
    uint32_t end_at = (uint32_t)((end + HEAT_UNIT - 1) / HEAT_UNIT);
    uint32_t index = lower_bound(segment, at), page = index;
    bool last = index == segment->count;
    uint32_t next = last ? 0 : segment->at[index];
    struct heat_group *group = heat_group_of(heat, ns_id), *before = NULL;

    assert(value <= heat->clock);
    *known = !last && next < end_at;
    if (more == 0 || *known)
        return VARVE_OK;
    if (heat_make_span_room(heat, segment, 2) != VARVE_OK || make_room(heat, segment, more) != VARVE_OK)
        return VARVE_E_NOMEM;
    if (index > 0) {
        before = heat_part_at(heat, segment, index - 1).group;
        heat_uncount(heat, before, segment, index - 1);
    }
    mark_namespace(segment, ns_id, at, last ? NULL : &next);
    open_gap(segment, index, more);
    if (segment->used < value)
        segment->used = value;
    if (last)
        segment->end = end_at;
    for (uint32_t i = 0; i < page_count; i++) {
        if ((i + 1 < page_count ? places[i + 1] : end) == places[i])
            continue;
        segment->at[page] = (uint32_t)(places[i] / HEAT_UNIT);
        segment->stamps[page++] = heat_stamp_at(heat, group, i < value ? value - i : 0);
    }
    if (index > 0)
        heat_count(heat, before, segment, index - 1);
    for (uint32_t i = index; i < index + more; i++)
        heat_count(heat, group, segment, i);
    return VARVE_OK;
}

int
heat_add(struct heat *heat, struct heat_segment *segment, uint32_t ns_id, const uint64_t *places, uint32_t page_count,
         uint64_t end, uint64_t value)
{
    bool known;
    int rc = add_new(heat, segment, ns_id, places, page_count, end, value, &known);

    for (uint32_t i = 0; i < page_count && page_count > 1 && known && rc == VARVE_OK; i++) {
        bool same;

        rc = add_new(heat, segment, ns_id, &places[i], 1, i + 1 < page_count ? places[i + 1] : end,
                     i < value ? value - i : 0, &same);
    }
    return rc;
}
