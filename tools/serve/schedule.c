/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who runs next, and what of it is computed.
 *
 * Without a plan, as SGLang does: the first in order of arrival whose load is complete, or is waited for no longer (policy); what was loaded by then is a
 * prefix, and the rest is computed.
 *
 * With a plan: strictly in order of arrival, and the end of the found prefix is loaded first. When the GPU gets to the request, varve_plan() says how much of the head is to be
 * computed while the tail is loaded, again after each piece of it and after each call of the storage. Loading goes backward until it meets the computation, so that whatever the device does,
 * the request is not later than without storage, but for one piece and the accuracy of the estimate.
 */
#include <assert.h>
#include <float.h>
#include <math.h>

#include "serve/engine_model.h"

#define PIECE_TOKENS 2048 /* computed at a time while a load is under way */
#define GAP_PARTS    4    /* what is loaded next: this part of what lies between the computed and the loaded pages */
#define LATENCIES    2    /* that a load takes at least, */
#define GAP_PARTS_MIN                                                                                                  \
    2 /* but no larger part than this: a call that is not back when the GPU gets there was for nothing */
#define US_PER_S        1e6
#define MOMENT_US       1.0 /* no shorter one is worth waiting for */
#define OVERDUE_AT_MOST 2.0
#define OVERDUE_FACTOR  0.5 /* what is late is expected to take this part of its age longer */

size_t
serve_match(const struct serve_engine *engine, const struct request *request, size_t *on_gpu)
{
    size_t matched = 0;

    while (matched < request->cacheable && page_lru_has(&engine->gpu, request->pages[matched]))
        matched++;
    *on_gpu = matched;
    while (matched < request->cacheable && (page_lru_has(&engine->host, request->pages[matched]) ||
                                            page_lru_has(&engine->gpu, request->pages[matched])))
        matched++;
    return matched;
}

static void
occupy(struct serve_engine *engine, struct request *request, double us)
{
    engine->running = request;
    engine->running_until_us = engine->now_us + us;
    engine->result->gpu_busy_us += us;
}

/* The request's turn has come: what memory holds of it is settled now. */
static void
begin(struct serve_engine *engine, struct request *request)
{
    size_t on_gpu, matched = serve_match(engine, request, &on_gpu);
    struct serve_result *result = engine->result;
    uint64_t page_tokens = engine->trace->page_tokens;

    request->state = REQUEST_BEGUN;
    request->patience_us = -1;
    request->computed = matched;
    request->on_gpu = on_gpu;
    request->on_host = matched - on_gpu;
    result->tokens_gpu += on_gpu * page_tokens;
    result->tokens_host += request->on_host * page_tokens;
}

/* Compute all that is neither in memory nor loaded, to the first token. Copies to the GPU go on layer by layer beside it. */
static void
run_to_end(struct serve_engine *engine, struct request *request)
{
    const struct serve_settings *settings = engine->settings;
    uint64_t page_tokens = engine->trace->page_tokens, tokens = request->prompt->tokens;
    size_t from = request->computed, use = from > request->have_first ? from : request->have_first, used = 0, known;
    double us, copy_us;

    if (request->have_end > use && request->have_end > request->have_first)
        used = request->have_end - use;
    us = serve_cost_us(&settings->cost, from * page_tokens, used > 0 ? use * page_tokens : tokens);
    engine->result->tokens_computed += used > 0 ? (use - from) * page_tokens : tokens - from * page_tokens;
    if (used > 0) {
        us += serve_cost_us(&settings->cost, request->have_end * page_tokens, tokens);
        engine->result->tokens_computed += tokens - request->have_end * page_tokens;
    }
    copy_us = (double)((request->on_host + used) * settings->page_bytes) * US_PER_S / settings->copy_bytes_s;
    engine->result->tokens_returned += (request->have_end - request->have_first) * page_tokens;
    engine->result->tokens_used += used * page_tokens;
    known = request->on_gpu + request->on_host > request->asked ? request->on_gpu + request->on_host : request->asked;
    if (request->found > known)
        engine->result->tokens_recomputed += (request->found - known - used) * page_tokens;
    engine->pages_pending -= request->reserved;
    request->loading = false;
    request->state = REQUEST_LAST;
    occupy(engine, request, fmax(us, copy_us));
}

static void
run_piece(struct serve_engine *engine, struct request *request, size_t pages)
{
    uint64_t page_tokens = engine->trace->page_tokens, from = request->computed * page_tokens;

    request->computed += pages;
    engine->result->tokens_computed += pages * page_tokens;
    occupy(engine, request, serve_cost_us(&engine->settings->cost, from, from + pages * page_tokens));
}

static bool
waits(const struct serve_engine *engine, const struct request *request)
{
    switch (engine->settings->policy) {
    case SERVE_WAIT_COMPLETE:
        return request->loading;
    case SERVE_TIMEOUT:
        return request->loading && engine->now_us < request->deadline_us;
    case SERVE_BEST_EFFORT:
    case SERVE_POLICY_COUNT:
        break;
    }
    return false;
}

static void
schedule_by_policy(struct serve_engine *engine)
{
    for (size_t i = engine->oldest; i < engine->next; i++) {
        struct request *request = &engine->requests[i];

        if (request->state != REQUEST_WAITING)
            continue;
        if (!waits(engine, request)) {
            begin(engine, request);
            run_to_end(engine, request);
            return;
        }
        if (engine->settings->policy == SERVE_TIMEOUT)
            engine->look_again_us = fmin(engine->look_again_us, request->deadline_us);
    }
}

/* How long the call that is under way will take from now on, as far as one can know. */
static double
expect_rest_us(const struct serve_engine *engine, const struct transfer *transfer)
{
    double age_us = engine->now_us - transfer->began_us;

    return fmax(MOMENT_US, age_us < transfer->expected_us ? transfer->expected_us - age_us : OVERDUE_FACTOR * age_us);
}

/* How many times slower the device is than expected, as far as the call under way shows. */
static double
lateness(const struct serve_engine *engine, const struct transfer *transfer)
{
    return fmax(1, (engine->now_us - transfer->began_us) / fmax(MOMENT_US, transfer->expected_us));
}

/* Time to load each prefix of the pages from `computed` to `found`. Of tails, the differences count: what is loaded takes no time. */
static size_t
estimate(const struct serve_engine *engine, const struct request *request)
{
    const struct transfer *read = &engine->read;
    size_t count = request->found - request->computed;
    bool mine = read->request == request;
    double rest_us = read->request != NULL ? expect_rest_us(engine, read) : 0;
    double page_us = engine->speed.page_us * (read->request != NULL ? lateness(engine, read) : 1);
    double us = engine->speed.latency_us + (mine ? 0 : rest_us);

    for (size_t i = 0; i < count; i++) {
        size_t page = request->computed + i;

        /* The pages of a call come all at once: whichever of them is needed, the whole rest of it passes. */
        if (mine && page == read->end - 1)
            us += rest_us;
        else if (page < (mine ? read->first : request->have_first))
            us += page_us;
        engine->plan_times[i] = (uint64_t)us;
    }
    return count;
}

/* Of the pages from `computed` to `found`. */
static int
make_plan(const struct serve_engine *engine, const struct request *request, varve_load_plan *plan, varve_error *err)
{
    varve_prefill prefill = VARVE_PREFILL_INIT;
    uint64_t page_tokens = engine->trace->page_tokens;
    size_t count = estimate(engine, request);

    prefill.page_tokens = (uint32_t)page_tokens;
    prefill.tokens_before = request->computed * page_tokens;
    prefill.tokens_after = request->prompt->tokens - request->found * page_tokens;
    prefill.token_us = engine->settings->cost.token_us;
    prefill.depth_us = engine->settings->cost.depth_us;
    return varve_plan(&prefill, engine->plan_times, count, VARVE_PLAN_TAIL, plan, err);
}

/*
 * The GPU may be idle for a load that is expected to take less time than a page does to compute: for twice as long as expected, and no longer than computing a
 * page takes. If nothing came by then, pages are computed until something does. So a device that keeps less than it promised costs at most that, once a
 * request. False: do not wait.
 */
static bool
wait_for_load(struct serve_engine *engine, struct request *request)
{
    uint64_t page_tokens = engine->trace->page_tokens, from = request->computed * page_tokens;
    double rest_us = expect_rest_us(engine, &engine->read);

    if (request->patience_us < 0)
        request->patience_us =
            fmin(serve_cost_us(&engine->settings->cost, from, from + page_tokens), OVERDUE_AT_MOST * rest_us);
    if (request->patience_us <= MOMENT_US)
        return false;
    request->waiting = true;
    request->waiting_since_us = engine->now_us;
    engine->look_again_us = engine->now_us + fmin(request->patience_us, rest_us);
    return true;
}

static void
end_waiting(const struct serve_engine *engine, struct request *request)
{
    if (request->waiting)
        request->patience_us = fmax(0, request->patience_us - (engine->now_us - request->waiting_since_us));
    request->waiting = false;
}

static int
schedule_by_plan(struct serve_engine *engine, varve_error *err)
{
    struct request *request = engine->oldest < engine->next ? &engine->requests[engine->oldest] : NULL;
    varve_load_plan plan = VARVE_LOAD_PLAN_INIT;
    uint64_t piece = PIECE_TOKENS / engine->trace->page_tokens, gap, head;
    int rc;

    if (request == NULL)
        return VARVE_OK;
    if (request->state == REQUEST_WAITING)
        begin(engine, request);
    end_waiting(engine, request);
    if (!request->loading || request->computed >= request->have_first) {
        run_to_end(engine, request);
        return VARVE_OK;
    }
    if (request->answer_us > engine->now_us)
        return VARVE_OK; /* the probe's answer is an event */
    if (piece == 0)
        piece = 1;
    if (request->computed < request->asked) {
        /* They left memory while the request waited, and are not being loaded. */
        run_piece(engine, request,
                  request->asked - request->computed < piece ? request->asked - request->computed : (size_t)piece);
        return VARVE_OK;
    }
    gap = request->have_first - request->computed;
    rc = make_plan(engine, request, &plan, err);
    if (rc != VARVE_OK)
        return rc;
    /* Where nothing is to be loaded, loading goes on all the same: it costs the request nothing, and shows when the device gets faster. */
    head = plan.count == 0 ? gap : plan.first < gap ? plan.first : gap;
    if (head > 0)
        run_piece(engine, request, head < piece ? (size_t)head : (size_t)piece);
    else if (!wait_for_load(engine, request))
        run_piece(engine, request, 1);
    return VARVE_OK;
}

int
serve_schedule(struct serve_engine *engine, varve_error *err)
{
    assert(engine->running == NULL);
    engine->look_again_us = DBL_MAX;
    if (engine->settings->plan)
        return schedule_by_plan(engine, err);
    schedule_by_policy(engine);
    return VARVE_OK;
}

bool
serve_next_load(const struct serve_engine *engine, const struct request *request, size_t *first, size_t *end)
{
    size_t batch = (size_t)engine->settings->batch;
    size_t floor = request->computed > request->asked ? request->computed : request->asked, gap;
    double wanted;

    if (!request->loading || request->answer_us > engine->now_us)
        return false;
    if (!engine->settings->plan) {
        *first = request->have_end;
        *end = request->found - *first < batch ? request->found : *first + batch;
        return *end > *first;
    }
    if (request->have_first <= floor)
        return false;
    gap = request->have_first - floor;
    wanted = fmax((double)gap / GAP_PARTS, LATENCIES * engine->speed.latency_us / engine->speed.page_us);
    wanted = ceil(fmin(wanted, (double)gap / GAP_PARTS_MIN));
    batch = wanted < (double)batch ? (size_t)wanted : batch;
    *end = request->have_first;
    *first = *end - batch;
    return true;
}
