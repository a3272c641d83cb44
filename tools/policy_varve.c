/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's own decisions (src/reclaim) on a store without data: segments are lists of page numbers. A put appends to the open segment of new
 * pages, reclaim takes the segment with the fewest live bytes and appends what lives in it to the open segment of survivors.
 */
#include <assert.h>
#include <stdlib.h>

#include "env/env.h"
#include "policy.h"
#include "reclaim/heat.h"
#include "reclaim/judge.h"
#include "reclaim/reclaim.h"

#define PAGE_BYTES 4096 /* any multiple of HEAT_UNIT */
#define SAMPLES    64   /* of the share of orphans */
#define NONE       UINT32_MAX

struct model_segment {
    struct heat_segment *heat; /* NULL: no such segment */
    uint32_t number;
    bool open;
    uint32_t count;
    uint32_t pages[];
};

/* A page's present copy. */
struct copy {
    uint32_t segment; /* NONE: none */
    uint32_t slot;
};

struct model {
    const struct policy_trace *trace;
    struct policy_result *result;
    struct heat *heat;
    struct reclaim reclaim;
    struct judge *judge;
    struct model_segment **segments;
    uint32_t segment_count; /* as many as fit in the capacity */
    uint32_t segment_pages;
    bool dropped; /* a segment, ever: before, nothing has to make room */
    uint32_t used;
    uint32_t *vacant; /* numbers of segments that are not there: segment_count - used */
    uint32_t open_new, open_survivors;
    struct copy *copies; /* by page */
};

static void *
memory_alloc(struct env *env, size_t size, size_t align)
{
    (void)env;
    (void)align;
    return malloc(size);
}

static void
memory_free(struct env *env, void *memory)
{
    (void)env;
    free(memory);
}

static const struct env_ops memory_only = {.alloc = memory_alloc, .free = memory_free};

static bool
is_sealed(const void *owner)
{
    const struct model_segment *segment = owner;

    return !segment->open;
}

static void
drop(struct model *model, uint32_t number)
{
    struct model_segment *segment = model->segments[number];

    for (uint32_t i = 0; i < segment->count; i++) {
        struct copy *copy = &model->copies[segment->pages[i]];

        if (copy->segment == number && copy->slot == i)
            copy->segment = NONE;
    }
    heat_segment_destroy(model->heat, segment->heat);
    segment->heat = NULL;
    model->dropped = true;
    model->used--;
    model->vacant[model->segment_count - model->used - 1] = number;
}

static bool
has_room(const struct model *model, uint32_t open)
{
    return open != NONE && model->segments[open]->count < model->segment_pages;
}

static void
seal(struct model *model, uint32_t *open)
{
    if (*open != NONE)
        model->segments[*open]->open = false;
    *open = NONE;
}

/* VARVE_MISS: no segment is free. */
static int
begin_segment(struct model *model, uint32_t *open)
{
    uint32_t number;

    seal(model, open);
    if (model->used == model->segment_count)
        return VARVE_MISS;
    number = model->vacant[model->segment_count - model->used - 1];
    model->segments[number]->heat = heat_segment_create(model->heat, model->segments[number]);
    if (model->segments[number]->heat == NULL)
        return VARVE_E_NOMEM;
    model->segments[number]->count = 0;
    model->segments[number]->open = true;
    model->used++;
    *open = number;
    return VARVE_OK;
}

static int
append(struct model *model, uint32_t open, uint32_t page, uint64_t value)
{
    struct model_segment *segment = model->segments[open];
    uint64_t place = (uint64_t)segment->count * PAGE_BYTES;

    model->copies[page] = (struct copy){open, segment->count};
    segment->pages[segment->count++] = page;
    return heat_add(model->heat, segment->heat, 1, &place, 1, place + PAGE_BYTES, value);
}

/* Copy a live page. Where no segment is left for it, it goes. */
static int
relocate(struct model *model, uint32_t page, uint64_t value)
{
    if (!has_room(model, model->open_survivors)) {
        int rc = begin_segment(model, &model->open_survivors);

        if (rc != VARVE_OK)
            return rc == VARVE_MISS ? VARVE_OK : rc;
    }
    model->result->relocated++;
    reclaim_note(&model->reclaim, 0, PAGE_BYTES);
    return append(model, model->open_survivors, page, value);
}

static int
reclaim_one(struct model *model)
{
    struct heat_segment *victim = reclaim_pick(&model->reclaim, is_sealed);
    struct model_segment *segment;
    uint32_t number;
    int rc = VARVE_OK;

    if (victim == NULL)
        return VARVE_MISS;
    segment = victim->owner;
    number = segment->number;
    segment->open = true; /* nobody else's victim */
    for (uint32_t i = 0; i < segment->count && rc == VARVE_OK; i++) {
        uint32_t page = segment->pages[i];

        if (model->copies[page].segment != number || model->copies[page].slot != i ||
            !heat_is_live(model->heat, victim, i))
            continue;
        rc = relocate(model, page, heat_value(model->heat, victim, i));
    }
    drop(model, number);
    return rc;
}

static uint64_t
survivors_room(const struct model *model)
{
    uint32_t open = model->open_survivors;

    return open == NONE ? 0 : (uint64_t)(model->segment_pages - model->segments[open]->count) * PAGE_BYTES;
}

/* Reclaim until there is room for another segment of new pages, and for reclaim itself. */
static int
make_room(struct model *model)
{
    int rc = VARVE_OK;

    heat_age(model->heat);
    while (rc == VARVE_OK && reclaim_is_due(&model->reclaim, model->segment_count - model->used, survivors_room(model)))
        rc = reclaim_one(model);
    return rc == VARVE_MISS ? VARVE_OK : rc;
}

/* Store a page that a request brought. */
static int
append_new(struct model *model, uint32_t page, uint64_t value)
{
    int rc = VARVE_OK;

    if (!has_room(model, model->open_new)) {
        seal(model, &model->open_new);
        rc = make_room(model);
        if (rc == VARVE_OK)
            rc = begin_segment(model, &model->open_new);
    }
    if (rc == VARVE_OK)
        rc = append(model, model->open_new, page, value);
    reclaim_note(&model->reclaim, PAGE_BYTES, 0);
    if (rc == VARVE_OK && reclaim_prepares(&model->reclaim) &&
        model->segments[model->open_new]->count == (model->segment_pages + 1) / 2)
        rc = make_room(model);
    return rc;
}

/* The judge sees what is asked for; page numbers, mixed, stand for ids. */
static void
ask_judge(struct judge *judge, const uint32_t *pages, size_t count)
{
    struct judge_call call;

    judge_begin(judge, &call, count);
    for (size_t i = 0; i < count; i++) {
        uint64_t id = (pages[i] + UINT64_C(1)) * 0xbf58476d1ce4e5b9u;

        id = (id ^ id >> 27) * 0x94d049bb133111ebu;
        judge_asked(judge, &call, id ^ id >> 31, i);
    }
    judge_end(judge, &call);
}

static int
play_request(struct model *model, const uint32_t *pages, size_t count)
{
    uint64_t value = heat_clock(model->heat, count), demotion;
    size_t hits = 0;
    int rc = VARVE_OK;

    ask_judge(model->judge, pages, count);
    while (hits < count && model->copies[pages[hits]].segment != NONE)
        hits++;
    model->result->hits += hits;
    demotion = model->dropped ? judge_demotion(model->judge, model->heat) : 0;
    for (size_t i = 0; i < count && rc == VARVE_OK; i++) {
        struct copy *copy = &model->copies[pages[i]];
        uint64_t used = value - i - (i < hits ? 0 : demotion);

        if (copy->segment != NONE) {
            heat_touch(model->heat, model->segments[copy->segment]->heat, copy->slot, used);
        } else if (reclaim_admits(&model->reclaim, (i + 1) * PAGE_BYTES)) {
            model->result->written++;
            rc = append_new(model, pages[i], used);
        }
    }
    heat_age(model->heat);
    return rc;
}

/* Live pages with a missing ancestor. A parent has a smaller number than its children, so one pass does. */
static double
orphan_rate(const struct model *model, uint8_t *reachable)
{
    uint64_t live = 0, orphans = 0;

    for (uint32_t page = 0; page < model->trace->page_count; page++) {
        const struct copy *copy = &model->copies[page];
        uint32_t parent = model->trace->parents[page];

        reachable[page] = copy->segment != NONE && (parent == NONE || reachable[parent] != 0);
        if (copy->segment == NONE || !heat_is_live(model->heat, model->segments[copy->segment]->heat, copy->slot))
            continue;
        live++;
        orphans += reachable[page] == 0;
    }
    return live == 0 ? 0.0 : (double)orphans / (double)live;
}

static int
play(struct model *model)
{
    const struct policy_trace *trace = model->trace;
    uint8_t *reachable = malloc(trace->page_count + 1u);
    size_t every = trace->requests / SAMPLES + 1, samples = 0;
    int rc = reachable == NULL ? VARVE_E_NOMEM : VARVE_OK;

    for (size_t r = 0; r < trace->requests && rc == VARVE_OK; r++) {
        rc = play_request(model, trace->pages + trace->first[r], trace->first[r + 1] - trace->first[r]);
        if (rc == VARVE_OK && (r + 1) % every == 0) {
            model->result->orphan_rate += orphan_rate(model, reachable);
            samples++;
        }
    }
    if (samples > 0)
        model->result->orphan_rate /= (double)samples;
    free(reachable);
    return rc;
}

static int
model_create(struct model *model, struct env *env, uint64_t capacity)
{
    uint32_t count;

    model->segment_pages = capacity < UINT64_C(2) * RECLAIM_SEGMENTS ? 1 : (uint32_t)(capacity / RECLAIM_SEGMENTS);
    count = model->segment_count = (uint32_t)(capacity / model->segment_pages);
    model->heat = heat_create(env, 0);
    model->judge = judge_create(env, capacity);
    model->segments = calloc(count, sizeof(model->segments[0]));
    model->vacant = malloc(count * sizeof(model->vacant[0]));
    model->copies = malloc((model->trace->page_count + 1u) * sizeof(model->copies[0]));
    if (model->heat == NULL || model->judge == NULL || model->segments == NULL || model->vacant == NULL ||
        model->copies == NULL)
        return VARVE_E_NOMEM;
    for (uint32_t i = 0; i < model->trace->page_count; i++)
        model->copies[i].segment = NONE;
    for (uint32_t i = 0; i < count; i++) {
        struct model_segment *segment = calloc(1, sizeof(*segment) + model->segment_pages * sizeof(segment->pages[0]));

        if (segment == NULL)
            return VARVE_E_NOMEM;
        segment->number = i;
        model->segments[i] = segment;
        model->vacant[i] = count - 1 - i;
    }
    reclaim_init(&model->reclaim, model->heat, capacity * PAGE_BYTES, (uint64_t)model->segment_pages * PAGE_BYTES);
    return VARVE_OK;
}

static void
model_destroy(struct model *model)
{
    for (uint32_t i = 0; model->segments != NULL && i < model->segment_count; i++) {
        if (model->segments[i] != NULL)
            heat_segment_destroy(model->heat, model->segments[i]->heat);
        free(model->segments[i]);
    }
    free(model->segments);
    free(model->vacant);
    free(model->copies);
    judge_destroy(model->judge);
    heat_destroy(model->heat);
}

int
policy_varve(const struct policy_trace *trace, uint64_t capacity, struct policy_result *result)
{
    struct model model = {.trace = trace, .result = result, .open_new = NONE, .open_survivors = NONE};
    struct env env = {.ops = &memory_only};
    int rc;

    *result = (struct policy_result){0};
    rc = model_create(&model, &env, capacity);
    if (rc == VARVE_OK)
        rc = play(&model);
    model_destroy(&model);
    return rc;
}
