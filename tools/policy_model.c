/* SPDX-License-Identifier: Apache-2.0 */
#include "policy_model.h"

#include <stdlib.h>

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
        struct model_copy *copy = &model->copies[segment->pages[i]];

        if (copy->segment == number && copy->slot == i)
            copy->segment = MODEL_NONE;
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
    return open != MODEL_NONE && model->segments[open]->count < model->segment_pages;
}

static void
seal(struct model *model, uint32_t *open)
{
    if (*open != MODEL_NONE)
        model->segments[*open]->open = false;
    *open = MODEL_NONE;
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
    uint64_t place = (uint64_t)segment->count * MODEL_PAGE_BYTES;

    model->copies[page] = (struct model_copy){open, segment->count};
    segment->pages[segment->count++] = page;
    return heat_add(model->heat, segment->heat, 1, &place, 1, place + MODEL_PAGE_BYTES, value);
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
    reclaim_note(&model->reclaim, 0, MODEL_PAGE_BYTES);
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

    return open == MODEL_NONE ? 0 : (uint64_t)(model->segment_pages - model->segments[open]->count) * MODEL_PAGE_BYTES;
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
    reclaim_note(&model->reclaim, MODEL_PAGE_BYTES, 0);
    if (rc == VARVE_OK && reclaim_prepares(&model->reclaim) &&
        model->segments[model->open_new]->count == (model->segment_pages + 1) / 2)
        rc = make_room(model);
    return rc;
}

/* Page numbers, mixed, stand for ids. */
void
model_ask_judge(struct model *model, const uint32_t *pages, size_t count)
{
    struct judge_call call;

    judge_begin(model->judge, &call, count);
    for (size_t i = 0; i < count; i++) {
        uint64_t id = (pages[i] + UINT64_C(1)) * 0xbf58476d1ce4e5b9u;

        id = (id ^ id >> 27) * 0x94d049bb133111ebu;
        judge_asked(model->judge, &call, id ^ id >> 31, i);
    }
    judge_end(model->judge, &call);
}

uint64_t
model_demotion(const struct model *model)
{
    return model->dropped ? judge_demotion(model->judge, model->heat) : 0;
}

bool
model_has(const struct model *model, uint32_t page)
{
    return model->copies[page].segment != MODEL_NONE;
}

uint64_t
model_value(const struct model *model, uint32_t page)
{
    const struct model_copy *copy = &model->copies[page];

    return copy->segment == MODEL_NONE ? 0 : heat_value(model->heat, model->segments[copy->segment]->heat, copy->slot);
}

bool
model_is_live(const struct model *model, uint32_t page)
{
    const struct model_copy *copy = &model->copies[page];

    return copy->segment != MODEL_NONE && heat_is_live(model->heat, model->segments[copy->segment]->heat, copy->slot);
}

int
model_use(struct model *model, uint32_t page, uint64_t chain_pages, uint64_t value)
{
    const struct model_copy *copy = &model->copies[page];

    if (copy->segment != MODEL_NONE) {
        heat_touch(model->heat, model->segments[copy->segment]->heat, copy->slot, value);
    } else if (reclaim_admits(&model->reclaim, chain_pages * MODEL_PAGE_BYTES)) {
        model->result->written++;
        return append_new(model, page, value);
    }
    return VARVE_OK;
}

int
model_create(struct model *model, uint32_t page_count, uint64_t capacity, struct policy_result *result)
{
    uint32_t count;

    *model = (struct model){.env = {.ops = &memory_only},
                            .result = result,
                            .open_new = MODEL_NONE,
                            .open_survivors = MODEL_NONE,
                            .page_count = page_count};
    model->segment_pages = capacity < UINT64_C(2) * RECLAIM_SEGMENTS ? 1 : (uint32_t)(capacity / RECLAIM_SEGMENTS);
    count = model->segment_count = (uint32_t)(capacity / model->segment_pages);
    model->heat = heat_create(&model->env, 0);
    model->judge = judge_create(&model->env, capacity);
    model->segments = calloc(count, sizeof(model->segments[0]));
    model->vacant = malloc(count * sizeof(model->vacant[0]));
    model->copies = malloc((page_count + 1u) * sizeof(model->copies[0]));
    if (model->heat == NULL || model->judge == NULL || model->segments == NULL || model->vacant == NULL ||
        model->copies == NULL)
        return VARVE_E_NOMEM;
    for (uint32_t i = 0; i < page_count; i++)
        model->copies[i].segment = MODEL_NONE;
    for (uint32_t i = 0; i < count; i++) {
        struct model_segment *segment = calloc(1, sizeof(*segment) + model->segment_pages * sizeof(segment->pages[0]));

        if (segment == NULL)
            return VARVE_E_NOMEM;
        segment->number = i;
        model->segments[i] = segment;
        model->vacant[i] = count - 1 - i;
    }
    reclaim_init(&model->reclaim, model->heat, capacity * MODEL_PAGE_BYTES,
                 (uint64_t)model->segment_pages * MODEL_PAGE_BYTES);
    return VARVE_OK;
}

void
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
