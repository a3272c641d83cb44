/* SPDX-License-Identifier: Apache-2.0 */
/* Presence of pages under overlapping calls; threads_model.h has the rules. */
#include "threads_model.h"

#include <stdlib.h>

#include "sim_log.h"

static const struct certainty uncertain = {.since = MODEL_NEVER};

struct model *
model_create(uint32_t namespaces, uint32_t pages)
{
    struct model *model = sim_alloc(sizeof(*model));
    size_t count = (size_t)namespaces * pages;

    model->namespaces = namespaces;
    model->pages = pages;
    model->table = sim_alloc(count * sizeof(*model->table));
    for (size_t i = 0; i < count; i++)
        model->table[i].seen = model->table[i].acked = model->table[i].durable = uncertain;
    return model;
}

void
model_destroy(struct model *model)
{
    free(model->table);
    free(model);
}

struct model_page *
model_page(struct model *model, uint32_t ns, uint32_t page)
{
    assert(ns < model->namespaces && page < model->pages);
    return &model->table[(size_t)ns * model->pages + page];
}

uint64_t
model_tick(struct model *model)
{
    return ++model->now;
}

uint64_t
model_put_begin(struct model *model, uint32_t ns, const uint32_t *pages, size_t count)
{
    for (size_t i = 0; i < count; i++)
        model_page(model, ns, pages[i])->puts++;
    return model_tick(model);
}

/* Certain since now, unless it is already, and as many drops are accounted for. */
static void
make_certain(struct certainty *certainty, uint64_t now, uint64_t drops)
{
    if (certainty->since == MODEL_NEVER || certainty->drops < drops)
        *certainty = (struct certainty){.since = now, .drops = drops};
}

void
model_put_end(struct model *model, uint32_t ns, uint32_t page, uint64_t begin, uint64_t drops, bool stored, bool synced)
{
    struct model_page *state = model_page(model, ns, page);
    uint64_t now = model_tick(model);

    assert(state->puts > 0);
    state->puts--;
    state->last_put = now;
    if (!stored || state->destroyers > 0 || state->destroyed >= begin)
        return;
    make_certain(&state->seen, now, drops);
    make_certain(&state->acked, now, drops);
    if (synced)
        make_certain(&state->durable, now, drops);
}

static void
destroy_begin(struct model_page *state)
{
    state->destroyers++;
    state->seen = state->acked = state->durable = uncertain;
}

static void
destroy_end(struct model_page *state, uint64_t begin, uint64_t now, bool done)
{
    assert(state->destroyers > 0);
    state->destroyers--;
    state->destroyed = now;
    if (!done)
        return;
    if (state->gone < begin)
        state->gone = begin;
    if (state->killed < begin) {
        state->killed = begin;
        state->killed_end = now;
    }
}

uint64_t
model_remove_begin(struct model *model, uint32_t ns, const uint32_t *pages, size_t count)
{
    model->destroyers++;
    model->destroying++;
    for (size_t i = 0; i < count; i++)
        destroy_begin(model_page(model, ns, pages[i]));
    return model_tick(model);
}

void
model_remove_end(struct model *model, uint32_t ns, const uint32_t *pages, size_t count, uint64_t begin, bool done)
{
    uint64_t now = model_tick(model);

    model->destroying--;
    for (size_t i = 0; i < count; i++)
        destroy_end(model_page(model, ns, pages[i]), begin, now, done);
}

uint64_t
model_clear_begin(struct model *model, uint32_t ns)
{
    model->destroyers++;
    model->destroying++;
    for (uint32_t page = 0; page < model->pages; page++)
        destroy_begin(model_page(model, ns, page));
    return model_tick(model);
}

void
model_clear_end(struct model *model, uint32_t ns, uint64_t begin, bool done)
{
    uint64_t now = model_tick(model);

    model->destroying--;
    for (uint32_t page = 0; page < model->pages; page++) {
        struct model_page *state = model_page(model, ns, page);

        destroy_end(state, begin, now, done);
        if (done && state->killed_durable < begin)
            state->killed_durable = begin;
    }
}

void
model_sync_end(struct model *model, uint64_t begin)
{
    (void)model_tick(model);
    for (size_t i = 0; i < (size_t)model->namespaces * model->pages; i++) {
        struct model_page *state = &model->table[i];

        if (state->acked.since < begin)
            make_certain(&state->durable, state->acked.since, state->acked.drops);
        if (state->killed_end < begin && state->killed_durable < state->killed)
            state->killed_durable = state->killed;
    }
}

void
model_crash(struct model *model, enum sim_crash_mode mode)
{
    (void)model_tick(model);
    assert(model->destroying == 0);
    for (size_t i = 0; i < (size_t)model->namespaces * model->pages; i++) {
        struct model_page *state = &model->table[i];

        assert(state->puts == 0 && state->destroyers == 0);
        if (mode == SIM_CRASH_POWER) {
            state->seen = state->acked = state->durable;
            state->killed = state->killed_durable;
        }
        state->gone = state->killed;
    }
}

void
model_death(struct model *model)
{
    (void)model_tick(model);
    model->deaths++;
    for (size_t i = 0; i < (size_t)model->namespaces * model->pages; i++)
        model->table[i].gone = model->table[i].killed;
}

struct model_look
model_look_begin(struct model *model, uint64_t drops, uint32_t ns, const uint32_t *pages, size_t count)
{
    struct model_look look = {.drops = drops, .deaths = model->deaths, .ns = ns};

    if (pages == NULL)
        count = (size_t)model->namespaces * model->pages;
    look.gone = sim_alloc(2 * count * sizeof(*look.gone));
    look.killed = look.gone + count;
    for (size_t i = 0; i < count; i++) {
        const struct model_page *state = pages == NULL ? &model->table[i] : model_page(model, ns, pages[i]);

        look.gone[i] = state->gone;
        look.killed[i] = state->killed;
    }
    look.begin = model_tick(model);
    return look;
}

void
model_look_end(struct model_look *look)
{
    free(look->gone);
}

bool
model_may_be(struct model *model, const struct model_look *look, size_t index, uint32_t ns, uint32_t page)
{
    const struct model_page *state = model_page(model, ns, page);
    uint64_t gone = look->deaths == model->deaths ? look->gone[index] : look->killed[index];

    return state->puts > 0 || state->last_put > gone;
}

bool
model_must_be(struct model *model, const struct model_look *look, uint32_t ns, uint32_t page)
{
    return model_page(model, ns, page)->seen.since < look->begin;
}

void
model_saw(struct model *model, const struct model_look *look, uint32_t ns, uint32_t page, bool present)
{
    struct model_page *state = model_page(model, ns, page);

    if (!present && state->gone < look->begin && look->deaths == model->deaths)
        state->gone = look->begin;
    if (present && state->destroyers == 0 && state->destroyed < look->begin)
        make_certain(&state->seen, model_tick(model), look->drops);
}
