/* SPDX-License-Identifier: Apache-2.0 */
/* Segments and the places of their pages. */
#include <assert.h>
#include <string.h>

#include "reclaim/heat_private.h"
#include "varve.h"

#define ROOM_FIRST 64u

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
    for (uint32_t i = 0; i < segment->count; i++)
        heat_uncount(heat, segment, i);
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
static int
set_room(struct heat *heat, struct heat_segment *segment, uint32_t room)
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
        (void)set_room(heat, segment, segment->count);
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

static int
add_span(struct heat *heat, struct heat_segment *segment, uint32_t index, struct heat_span span)
{
    if (segment->span_count == segment->span_room) {
        uint32_t room = segment->span_room == 0 ? 2 : segment->span_room * 2;
        struct heat_span *spans = heat->env->ops->alloc(heat->env, room * sizeof(spans[0]), _Alignof(struct heat_span));

        if (spans == NULL)
            return VARVE_E_NOMEM;
        if (segment->span_count > 0)
            memcpy(spans, segment->spans, segment->span_count * sizeof(spans[0]));
        env_free(heat->env, segment->spans);
        segment->spans = spans;
        segment->span_room = room;
    }
    memmove(segment->spans + index + 1, segment->spans + index,
            (segment->span_count - index) * sizeof(segment->spans[0]));
    segment->spans[index] = span;
    segment->span_count++;
    return VARVE_OK;
}

/* Pages from `at` on, up to the page at `next` if there is one, are ns_id's. Nothing is changed on failure but a span too many. */
static int
mark_namespace(struct heat *heat, struct heat_segment *segment, uint32_t ns_id, uint32_t at, const uint32_t *next)
{
    uint32_t before = span_of(segment, at);
    uint32_t index = before == segment->span_count ? 0 : before + 1;
    bool known = before < segment->span_count;
    uint32_t before_ns = known ? segment->spans[before].ns_id : 0;
    int rc = VARVE_OK;

    if (known && before_ns == ns_id)
        return VARVE_OK;
    /* What lies behind belongs to the namespace it belonged to. */
    if (known && next != NULL && span_of(segment, *next) == before)
        rc = add_span(heat, segment, index, (struct heat_span){*next, before_ns});
    return rc == VARVE_OK ? add_span(heat, segment, index, (struct heat_span){at, ns_id}) : rc;
}

/* Make room for `more` pages before page `index`; their places and stamps are the caller's to fill. */
static int
open_gap(struct heat *heat, struct heat_segment *segment, uint32_t index, uint32_t more)
{
    uint32_t behind = segment->count - index, room = segment->room == 0 ? ROOM_FIRST : segment->room;

    while (room < segment->count + more)
        room *= 2;
    if (room > segment->room && set_room(heat, segment, room) != VARVE_OK)
        return VARVE_E_NOMEM;
    memmove(segment->at + index + more, segment->at + index, behind * sizeof(segment->at[0]));
    memmove(segment->stamps + index + more, segment->stamps + index, behind * sizeof(segment->stamps[0]));
    segment->count += more;
    return VARVE_OK;
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

int
heat_add(struct heat *heat, struct heat_segment *segment, uint32_t ns_id, const uint64_t *places, uint32_t page_count,
         uint64_t end, uint64_t value)
{
    uint32_t at = (uint32_t)(places[0] / HEAT_UNIT), more = distinct(places, page_count, end);
    uint32_t index = lower_bound(segment, at), page = index;
    bool last = index == segment->count;
    uint32_t next = last ? 0 : segment->at[index];

    if (more == 0 || (!last && next < end / HEAT_UNIT)) /* known already */
        return VARVE_OK;
    if (mark_namespace(heat, segment, ns_id, at, last ? NULL : &next) != VARVE_OK)
        return VARVE_E_NOMEM;
    if (index > 0)
        heat_uncount(heat, segment, index - 1);
    if (open_gap(heat, segment, index, more) != VARVE_OK) {
        if (index > 0)
            heat_count(heat, segment, index - 1);
        return VARVE_E_NOMEM;
    }
    if (segment->used < value)
        segment->used = value;
    if (last)
        segment->end = (uint32_t)((end + HEAT_UNIT - 1) / HEAT_UNIT);
    for (uint32_t i = 0; i < page_count; i++) {
        if ((i + 1 < page_count ? places[i + 1] : end) == places[i])
            continue;
        segment->at[page] = (uint32_t)(places[i] / HEAT_UNIT);
        segment->stamps[page++] = heat_stamp_at(heat, value - i);
    }
    for (uint32_t i = index > 0 ? index - 1 : 0; i < index + more; i++)
        heat_count(heat, segment, i);
    return VARVE_OK;
}
