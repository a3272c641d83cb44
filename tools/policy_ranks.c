/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ranks of a server, which share one store: each probes for every request and stores pages of its own, and a request hits as far as all ranks have its
 * pages. They ask in any order, store later than they asked, each by as many requests as it lags behind just then, and now and then one gives up on a put.
 *
 * `together` is what there is to compare with: a store of whole pages, that have the parts of all ranks. A page is stored when the last rank has stored its
 * part, and not at all where one gave up. So what it hits less is due to lag and lost writes, and what the ranks hit less than it, to parts of one page that
 * were not kept alike.
 */
#include <stdlib.h>

#include "policy.h"
#include "policy_model.h"
#include "random.h"
#include "reclaim/kin.h"

#define LAG_REQUESTS 16 /* that a rank's lag lasts for */

struct group {
    const struct policy_trace *trace;
    const struct policy_ranks *ranks;
    struct model model;
    struct kin kin;
    uint32_t stores; /* parts of a page: ranks, or 1 */
    size_t *hits;    /* of each request so far: of the group */
    size_t *stored;  /* by part: requests whose puts it is through with */
};

/* The same for all who ask, whatever they have asked before. */
static uint64_t
draw(const struct group *group, uint64_t what, uint64_t request, uint64_t rank)
{
    return random_mix(random_mix(random_mix(group->ranks->seed * 4 + what) ^ request) ^ rank);
}

static bool
gives_up(const struct group *group, size_t request, uint32_t rank)
{
    return draw(group, 0, request, rank) % 1000 < group->ranks->given_up;
}

static size_t
lag_of(const struct group *group, size_t request, uint32_t rank)
{
    return (size_t)(draw(group, 1, request / LAG_REQUESTS, rank) % (group->ranks->lag + 1));
}

static size_t
pages_of(const struct group *group, size_t request, const uint32_t **pages)
{
    const struct policy_trace *trace = group->trace;

    *pages = trace->pages + trace->first[request];
    return trace->first[request + 1] - trace->first[request];
}

static uint32_t
part_of(const struct group *group, uint32_t page, uint32_t part)
{
    return page * group->stores + part;
}

/*
 * The value of the first page of a request's chain, as recency.c has it: behind a parent that was used just now, a call is as old as that; and the same call of another
 * rank is as old as the first.
 */
static uint64_t
begin_call(struct group *group, const uint32_t *pages, size_t first, size_t count, uint32_t part, uint64_t *demotion)
{
    struct heat *heat = group->model.heat;
    struct kin_call call = {.id = random_mix(pages[count - 1])};
    const struct kin_call *same = kin_take(&group->kin, heat, call.id, part + 1);
    uint64_t value, parent = 0;

    if (same != NULL) {
        *demotion = same->demotion;
        return same->value + count - 1;
    }
    if (first > 0)
        parent = model_value(&group->model, part_of(group, pages[first - 1], part));
    value = parent != 0 && heat_is_recent(heat, parent) ? parent + first - 1 : heat_clock(heat, count);
    call.value = value - (count - 1);
    *demotion = call.demotion = model_demotion(&group->model);
    kin_note(&group->kin, heat, &call, part + 1);
    return value;
}

/* Store one part of what a request did not hit. Above it no page is older than what is below. */
static int
put(struct group *group, size_t request, uint32_t part)
{
    struct model *model = &group->model;
    const uint32_t *pages;
    size_t count = pages_of(group, request, &pages), first = group->hits[request];
    uint64_t value, demotion;
    int rc = VARVE_OK;

    if (first == count)
        return VARVE_OK;
    value = begin_call(group, pages, first, count, part, &demotion);
    for (size_t i = 0; i < count && rc == VARVE_OK; i++) {
        uint32_t page = part_of(group, pages[i], part);

        if (i >= first)
            rc = model_use(model, page, (i + 1) * kin_width(&group->kin), value - i - demotion);
        else if (model_has(model, page))
            rc = model_use(model, page, 0, value - i);
    }
    heat_age(model->heat);
    return rc;
}

/* Whether a part of a request is stored before request `now` is asked for, and whether it is at all. Of a whole page: by all ranks. */
static bool
is_due(const struct group *group, size_t request, size_t now, uint32_t part, bool *given_up)
{
    uint32_t first = group->stores == 1 ? 0 : part, last = group->stores == 1 ? group->ranks->count - 1 : part;
    bool due = true;

    *given_up = false;
    for (uint32_t rank = first; rank <= last; rank++) {
        due = due && request + lag_of(group, now, rank) < now;
        *given_up = *given_up || gives_up(group, request, rank);
    }
    return due;
}

/* All that the ranks store before request `now`. */
static int
store_due(struct group *group, size_t now)
{
    int rc = VARVE_OK;

    for (uint32_t part = 0; part < group->stores && rc == VARVE_OK; part++) {
        size_t *stored = &group->stored[part];
        bool given_up;

        while (rc == VARVE_OK && *stored < now && is_due(group, *stored, now, part, &given_up)) {
            if (!given_up)
                rc = put(group, *stored, part);
            (*stored)++;
        }
    }
    return rc;
}

/* One rank asks: what it has from the front is used. `parts`: room for its pages. */
static size_t
probe(struct group *group, const uint32_t *pages, size_t count, uint32_t part, uint32_t *parts)
{
    struct model *model = &group->model;
    uint64_t value, demotion;
    size_t hits = 0;

    for (size_t i = 0; i < count; i++)
        parts[i] = part_of(group, pages[i], part);
    model_ask_judge(model, parts, count);
    while (hits < count && model_has(model, parts[hits]))
        hits++;
    if (hits == 0)
        return 0;
    value = begin_call(group, pages, 0, count, part, &demotion);
    for (size_t i = 0; i < hits; i++)
        (void)model_use(model, parts[i], 0, value - i); /* stored ones: nothing that fails */
    heat_age(model->heat);
    return hits;
}

static int
play(struct group *group, uint32_t *parts)
{
    const uint32_t stores = group->stores;
    int rc = VARVE_OK;

    for (size_t request = 0; request < group->trace->requests && rc == VARVE_OK; request++) {
        const uint32_t *pages;
        size_t count = pages_of(group, request, &pages);
        uint32_t first = (uint32_t)(draw(group, 2, request, 0) % stores);

        rc = store_due(group, request);
        group->hits[request] = count;
        for (uint32_t i = 0; i < stores && rc == VARVE_OK; i++) {
            size_t hits = probe(group, pages, count, (first + i) % stores, parts);

            if (hits < group->hits[request])
                group->hits[request] = hits;
        }
        group->model.result->hits += group->hits[request];
    }
    return rc;
}

int
policy_ranks(const struct policy_trace *trace, uint64_t capacity, const struct policy_ranks *ranks,
             struct policy_result *result)
{
    struct group group = {.trace = trace, .ranks = ranks, .stores = ranks->together ? 1 : ranks->count};
    uint32_t *parts = malloc((trace->accesses + 1) * sizeof(*parts));
    int rc = VARVE_E_NOMEM;

    *result = (struct policy_result){0};
    group.hits = calloc(trace->requests + 1, sizeof(group.hits[0]));
    group.stored = calloc(group.stores, sizeof(group.stored[0]));
    if (trace->page_count <= UINT32_MAX / group.stores)
        rc = model_create(&group.model, trace->page_count * group.stores, capacity * group.stores, result);
    if (rc == VARVE_OK)
        rc = parts == NULL || group.hits == NULL || group.stored == NULL ? VARVE_E_NOMEM : play(&group, parts);
    model_destroy(&group.model);
    free(group.hits);
    free(group.stored);
    free(parts);
    result->written /= group.stores;
    result->relocated /= group.stores;
    return rc;
}
