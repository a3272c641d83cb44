/* SPDX-License-Identifier: Apache-2.0 */
#include "reclaim/heat.h"

#include <assert.h>
#include <string.h>

#include "varve.h"

#define SWEEP_EPOCHS 8192u /* every segment is looked at at least once in so many epochs */
#define STALE_SHARE  64u   /* of the live set's span that the horizon may move before victims are judged anew */
#define ROOM_FIRST   64u

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

static uint64_t
epoch_now(const struct heat *heat)
{
    return heat->clock >> heat->shift;
}

static uint16_t
stamp_of(uint64_t epoch) /* from the horizon to now */
{
    return (uint16_t)(epoch % HEAT_EPOCHS + 1);
}

static uint16_t
stamp_at(const struct heat *heat, uint64_t value)
{
    uint64_t epoch = value >> heat->shift;

    return epoch < heat->horizon ? HEAT_DEAD : stamp_of(epoch);
}

/* The epoch of a stamp that is neither dead nor pinned: the latest one, up to now, that has it. */
static uint64_t
epoch_of(const struct heat *heat, uint16_t stamp)
{
    uint64_t now = epoch_now(heat);
    uint64_t age = (now + HEAT_EPOCHS - (stamp - 1u)) % HEAT_EPOCHS;

    return age <= now ? now - age : 0;
}

static bool
stamp_is_live(const struct heat *heat, uint16_t stamp)
{
    return stamp == HEAT_PINNED || (stamp != HEAT_DEAD && epoch_of(heat, stamp) >= heat->horizon);
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

/*
 * Bytes are counted by stamp, so each change of a stamp, and of where the next page begins, is between these two. segment->live_bytes holds all pages
 * that are not HEAT_DEAD, heat->live_bytes and bytes_at[] those from the horizon on.
 */
static void
uncount(struct heat *heat, struct heat_segment *segment, uint32_t page)
{
    uint16_t stamp = segment->stamps[page];
    uint64_t bytes = heat_bytes(segment, page);

    if (stamp == HEAT_DEAD)
        return;
    assert(segment->live_bytes >= bytes);
    segment->live_bytes -= bytes;
    if (stamp == HEAT_PINNED) {
        heat->pinned_bytes -= bytes;
    } else if (stamp_is_live(heat, stamp)) {
        heat->bytes_at[stamp] -= bytes;
        heat->live_bytes -= bytes;
    }
}

static void
count(struct heat *heat, struct heat_segment *segment, uint32_t page)
{
    uint16_t stamp = segment->stamps[page];
    uint64_t bytes = heat_bytes(segment, page);

    if (stamp == HEAT_DEAD)
        return;
    segment->live_bytes += bytes;
    if (stamp == HEAT_PINNED) {
        heat->pinned_bytes += bytes;
    } else if (stamp_is_live(heat, stamp)) {
        heat->bytes_at[stamp] += bytes;
        heat->live_bytes += bytes;
    }
}

void
heat_segment_destroy(struct heat *heat, struct heat_segment *segment)
{
    if (segment == NULL)
        return;
    for (uint32_t i = 0; i < segment->count; i++)
        uncount(heat, segment, i);
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
    uint32_t next = page + 1 < segment->count ? segment->at[page + 1] : segment->end;

    return (uint64_t)(next - segment->at[page]) * HEAT_UNIT;
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
        uncount(heat, segment, index - 1);
    if (open_gap(heat, segment, index, more) != VARVE_OK) {
        if (index > 0)
            count(heat, segment, index - 1);
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
        segment->stamps[page++] = stamp_at(heat, value - i);
    }
    for (uint32_t i = index > 0 ? index - 1 : 0; i < index + more; i++)
        count(heat, segment, i);
    return VARVE_OK;
}

void
heat_touch(struct heat *heat, struct heat_segment *segment, uint32_t page, uint64_t value)
{
    uint16_t old = segment->stamps[page];
    uint64_t epoch = value >> heat->shift;

    if (epoch < heat->horizon || old == HEAT_PINNED || (old != HEAT_DEAD && epoch_of(heat, old) >= epoch))
        return;
    uncount(heat, segment, page);
    segment->stamps[page] = stamp_of(epoch);
    count(heat, segment, page);
    if (segment->used < value)
        segment->used = value;
}

static void
set_stamp(struct heat *heat, struct heat_segment *segment, uint32_t page, uint16_t stamp)
{
    uncount(heat, segment, page);
    segment->stamps[page] = stamp;
    count(heat, segment, page);
}

void
heat_kill(struct heat *heat, struct heat_segment *segment, uint32_t page)
{
    set_stamp(heat, segment, page, HEAT_DEAD);
}

void
heat_pin(struct heat *heat, struct heat_segment *segment, uint32_t page)
{
    set_stamp(heat, segment, page, HEAT_PINNED);
}

void
heat_unpin(struct heat *heat, struct heat_segment *segment, uint32_t page, uint64_t value)
{
    if (segment->stamps[page] == HEAT_PINNED)
        set_stamp(heat, segment, page, stamp_at(heat, value));
}

bool
heat_is_live(const struct heat *heat, const struct heat_segment *segment, uint32_t page)
{
    return stamp_is_live(heat, segment->stamps[page]);
}

uint64_t
heat_value(const struct heat *heat, const struct heat_segment *segment, uint32_t page)
{
    uint16_t stamp = segment->stamps[page];

    if (stamp == HEAT_PINNED)
        return UINT64_MAX;
    return stamp == HEAT_DEAD ? 0 : epoch_of(heat, stamp) << heat->shift;
}

void
heat_sweep(struct heat *heat, struct heat_segment *segment, bool (*gone)(void *arg, uint32_t ns_id), void *arg)
{
    uint32_t span = 0;
    bool all_gone = false;

    for (uint32_t i = 0; i < segment->count; i++) {
        if (span < segment->span_count && segment->spans[span].at <= segment->at[i]) {
            all_gone = gone != NULL && gone(arg, segment->spans[span].ns_id);
            span++;
        }
        if (segment->stamps[i] != HEAT_DEAD && (all_gone || !stamp_is_live(heat, segment->stamps[i])))
            set_stamp(heat, segment, i, HEAT_DEAD);
    }
}

void
heat_sweep_all(struct heat *heat)
{
    for (struct heat_segment *segment = heat->first; segment != NULL; segment = segment->next)
        heat_sweep(heat, segment, NULL, NULL);
    heat->sweep_debt = 0;
    heat->swept_horizon = heat->horizon;
}

/* Epochs twice as long: stamps are halved. O(pages), but each time at twice the age of the last. */
static void
coarsen(struct heat *heat)
{
    heat_sweep_all(heat);
    memset(heat->bytes_at, 0, sizeof(heat->bytes_at));
    for (struct heat_segment *segment = heat->first; segment != NULL; segment = segment->next) {
        for (uint32_t i = 0; i < segment->count; i++) {
            if (segment->stamps[i] == HEAT_DEAD || segment->stamps[i] == HEAT_PINNED)
                continue;
            segment->stamps[i] = stamp_of(epoch_of(heat, segment->stamps[i]) / 2);
            heat->bytes_at[segment->stamps[i]] += heat_bytes(segment, i);
        }
    }
    heat->shift++;
    heat->horizon /= 2;
    heat->swept_horizon /= 2;
}

/* Time for every segment to be looked at once in SWEEP_EPOCHS. */
static void
sweep_some(struct heat *heat, uint64_t epochs)
{
    if (epochs >= SWEEP_EPOCHS) {
        heat_sweep_all(heat);
        return;
    }
    for (heat->sweep_debt += epochs * heat->segment_count; heat->sweep_debt >= SWEEP_EPOCHS;
         heat->sweep_debt -= SWEEP_EPOCHS) {
        if (heat->sweep == NULL)
            heat->sweep = heat->first;
        if (heat->sweep == NULL)
            return;
        heat_sweep(heat, heat->sweep, NULL, NULL);
        heat->sweep = heat->sweep->next;
    }
}

uint64_t
heat_clock(struct heat *heat, uint64_t depth)
{
    uint64_t before;

    while (((heat->clock + depth + 1) >> heat->shift) - heat->horizon > HEAT_SPAN_MAX)
        coarsen(heat);
    before = epoch_now(heat);
    heat->clock += depth + 1;
    sweep_some(heat, epoch_now(heat) - before);
    return heat->clock;
}

/* Pages die, the least recently used first, until live and pinned ones take at most `most`. */
static void
age_to(struct heat *heat, uint64_t most)
{
    while (heat->live_bytes + heat->pinned_bytes > most && heat->horizon < epoch_now(heat)) {
        uint16_t stamp = stamp_of(heat->horizon++);

        heat->live_bytes -= heat->bytes_at[stamp];
        heat->bytes_at[stamp] = 0;
    }
}

void
heat_age(struct heat *heat)
{
    age_to(heat, heat->live_max);
}

void
heat_shrink(struct heat *heat, uint64_t bytes)
{
    uint64_t live = heat->live_bytes + heat->pinned_bytes;

    age_to(heat, live > bytes ? live - bytes : 0);
}

static bool
colder(const struct heat_segment *a, const struct heat_segment *b)
{
    return a->live_bytes != b->live_bytes ? a->live_bytes < b->live_bytes : a->used < b->used;
}

struct heat_segment *
heat_coldest(struct heat *heat, bool (*may)(const void *owner))
{
    struct heat_segment *coldest = NULL;

    if ((heat->horizon - heat->swept_horizon) * STALE_SHARE > epoch_now(heat) - heat->horizon)
        heat_sweep_all(heat);
    for (struct heat_segment *segment = heat->first; segment != NULL; segment = segment->next) {
        if (may(segment->owner) && (coldest == NULL || colder(segment, coldest)))
            coldest = segment;
    }
    return coldest;
}
