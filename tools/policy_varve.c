/* SPDX-License-Identifier: Apache-2.0 */
/* One process and its store: each request is one call. */
#include <stdlib.h>

#include "policy.h"
#include "policy_model.h"

#define SAMPLES 64 /* of the share of orphans */

static int
play_request(struct model *model, const uint32_t *pages, size_t count)
{
    uint64_t value = heat_clock(model->heat, count), demotion;
    size_t hits = 0;
    int rc = VARVE_OK;

    model_ask_judge(model, pages, count);
    while (hits < count && model_has(model, pages[hits]))
        hits++;
    model->result->hits += hits;
    demotion = model_demotion(model);
    for (size_t i = 0; i < count && rc == VARVE_OK; i++)
        rc = model_use(model, pages[i], i + 1, value - i - (i < hits ? 0 : demotion));
    heat_age(model->heat);
    return rc;
}

/* Live pages with a missing ancestor. A parent has a smaller number than its children, so one pass does. */
static double
orphan_rate(const struct model *model, const struct policy_trace *trace, uint8_t *reachable)
{
    uint64_t live = 0, orphans = 0;

    for (uint32_t page = 0; page < trace->page_count; page++) {
        uint32_t parent = trace->parents[page];

        reachable[page] = model_has(model, page) && (parent == MODEL_NONE || reachable[parent] != 0);
        if (!model_is_live(model, page))
            continue;
        live++;
        orphans += reachable[page] == 0;
    }
    return live == 0 ? 0.0 : (double)orphans / (double)live;
}

static int
play(struct model *model, const struct policy_trace *trace)
{
    uint8_t *reachable = malloc(trace->page_count + 1u);
    size_t every = trace->requests / SAMPLES + 1, samples = 0;
    int rc = reachable == NULL ? VARVE_E_NOMEM : VARVE_OK;

    for (size_t r = 0; r < trace->requests && rc == VARVE_OK; r++) {
        rc = play_request(model, trace->pages + trace->first[r], trace->first[r + 1] - trace->first[r]);
        if (rc == VARVE_OK && (r + 1) % every == 0) {
            model->result->orphan_rate += orphan_rate(model, trace, reachable);
            samples++;
        }
    }
    if (samples > 0)
        model->result->orphan_rate /= (double)samples;
    free(reachable);
    return rc;
}

int
policy_varve(const struct policy_trace *trace, uint64_t capacity, struct policy_result *result)
{
    struct model model;
    int rc;

    *result = (struct policy_result){0};
    rc = model_create(&model, trace->page_count, capacity, result);
    if (rc == VARVE_OK)
        rc = play(&model, trace);
    model_destroy(&model);
    return rc;
}
