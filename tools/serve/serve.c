/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop. Everything that can happen at the present moment happens; then time goes on to the next event. A read and a write that are under way at the same
 * time share the device: each goes on at half of its speed.
 */
#include "serve/serve.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "base/error.h"
#include "serve/engine_model.h"

#define US_PER_S        1e6
#define FIRST_GUESS     1e9 /* bytes a second, before anything was loaded */
#define HOST_SHARE      0.5 /* of host memory that loads may fill */
#define TOKENS_PER_KI   1024.0
#define SHARED_SLOWDOWN 2.0
#define BACKLOG_MAX     8    /* requests whose pages wait to be written while a load goes first */
#define MOMENT_US       1e-6 /* below this, a rest is a rounding error */

static double
both_us(const struct transfer *one, const struct transfer *other)
{
    return one->request == NULL ? DBL_MAX : one->left_us * (other->request != NULL ? SHARED_SLOWDOWN : 1.0);
}

/* Ask storage for what follows the first `asked` pages. */
static int
ask(struct serve_engine *engine, struct request *request, varve_error *err)
{
    const struct serve_settings *settings = engine->settings;
    uint64_t page_tokens = engine->trace->page_tokens;
    bool short_one = false;

    request->answer_us = engine->now_us;
    if ((request->cacheable - request->asked) * page_tokens < settings->threshold_tokens ||
        request->cacheable == request->asked ||
        (double)engine->pages_pending >= HOST_SHARE * (double)settings->host_pages)
        return VARVE_OK;
    while (!short_one && request->found < request->cacheable) {
        size_t left = request->cacheable - request->found;
        size_t count = left < settings->batch ? left : (size_t)settings->batch;
        double us = 0;
        int64_t found = engine->storage->probe(engine->storage->arg, request->pages + request->found, count, &us, err);

        if (found < 0)
            return (int)found;
        request->found += (size_t)found;
        request->answer_us += us;
        short_one = (size_t)found < count;
    }
    engine->result->tokens_resident += (request->found - request->asked) * page_tokens;
    request->loading = (request->found - request->asked) * page_tokens >= settings->threshold_tokens &&
                       request->found > request->asked;
    request->reserved = request->loading ? request->found - request->asked : 0;
    engine->pages_pending += request->reserved;
    return VARVE_OK;
}

static int
arrive(struct serve_engine *engine, double arrival_us, varve_error *err)
{
    const struct serve_settings *settings = engine->settings;
    struct request *request = &engine->requests[engine->next++];
    double ki;
    size_t on_gpu;
    int rc = VARVE_OK;

    request->state = REQUEST_WAITING;
    request->arrival_us = arrival_us;
    request->cacheable = (size_t)((request->prompt->tokens - 1) / engine->trace->page_tokens);
    request->asked = request->found = serve_match(engine, request, &on_gpu);
    if (engine->storage != NULL)
        rc = ask(engine, request, err);
    request->stored = request->found;
    request->have_first = request->have_end = settings->plan ? request->found : request->asked;
    ki = (double)((request->found - request->asked) * engine->trace->page_tokens) / TOKENS_PER_KI;
    request->deadline_us =
        arrival_us + fmin(settings->timeout_max_us, settings->timeout_us + settings->timeout_ki_us * ki);
    if (!request->loading)
        request->have_first = request->have_end = request->asked;
    return rc;
}

/* Requests whose time has come. */
static int
admit(struct serve_engine *engine, varve_error *err)
{
    const struct serve_settings *settings = engine->settings;
    int rc = VARVE_OK;

    while (rc == VARVE_OK && engine->next < engine->count) {
        double arrival_us = engine->requests[engine->next].prompt->arrival_us / settings->speed;

        if (settings->in_flight > 0) {
            if (engine->next - engine->done >= settings->in_flight)
                break;
            arrival_us = engine->now_us;
        }
        if (arrival_us > engine->now_us)
            break;
        rc = arrive(engine, arrival_us, err);
    }
    return rc;
}

/* First token: the pages are in memory, and what storage lacks is on its way there. */
static void
finish(struct serve_engine *engine, struct request *request)
{
    size_t pages = request->prompt->pages, in_host = 0;

    engine->result->ttft_us[request - engine->requests] = engine->now_us - request->arrival_us;
    request->state = REQUEST_DONE;
    engine->done++;
    while (engine->oldest < engine->next && engine->requests[engine->oldest].state == REQUEST_DONE)
        engine->oldest++;
    while (in_host < pages && page_lru_has(&engine->host, request->pages[in_host]))
        in_host++;
    for (size_t i = pages; i > 0; i--) {
        (void)page_lru_use(&engine->gpu, request->pages[i - 1]);
        (void)page_lru_use(&engine->host, request->pages[i - 1]);
    }
    /* What came to host memory since then was written for the request that brought it. */
    if (in_host > request->stored)
        request->stored = in_host;
    if (engine->storage != NULL && request->stored < pages)
        engine->to_write[engine->write_count++] = request;
}

static int
start_read(struct serve_engine *engine, varve_error *err)
{
    struct transfer *read = &engine->read;

    for (size_t i = engine->oldest; i < engine->next; i++) {
        struct request *request = &engine->requests[i];
        int rc;

        if (!serve_next_load(engine, request, &read->first, &read->end))
            continue;
        rc = engine->storage->get(engine->storage->arg, request->pages + read->first, read->end - read->first,
                                  read->loaded, &read->left_us, err);
        read->request = request;
        read->began_us = engine->now_us;
        read->expected_us = engine->speed.latency_us + engine->speed.page_us * (double)(read->end - read->first);
        engine->result->read_busy_us += read->left_us;
        engine->result->pages_read += read->end - read->first;
        return rc;
    }
    return VARVE_OK;
}

static int
start_write(struct serve_engine *engine, varve_error *err)
{
    struct transfer *write = &engine->write;
    struct request *request;
    size_t left;

    if (engine->write_first == engine->write_count)
        return VARVE_OK;
    /* Somebody waits for a load and nobody for a write. */
    if (engine->settings->plan && engine->read.request != NULL &&
        engine->write_count - engine->write_first <= BACKLOG_MAX)
        return VARVE_OK;
    request = engine->to_write[engine->write_first];
    left = request->prompt->pages - request->stored;
    write->request = request;
    write->first = request->stored;
    write->end = write->first + (left < engine->settings->batch ? left : (size_t)engine->settings->batch);
    engine->result->pages_written += write->end - write->first;
    return engine->storage->put(engine->storage->arg, write->first > 0 ? &request->pages[write->first - 1] : NULL,
                                request->pages + write->first, write->end - write->first, &write->left_us, err);
}

static void
end_read(struct serve_engine *engine)
{
    struct transfer *read = &engine->read;
    struct request *request = read->request;
    size_t count = read->end - read->first, good = 0;

    serve_speed_observe(&engine->speed, count, engine->now_us - read->began_us);
    read->request = NULL;
    if (!request->loading)
        return; /* nobody waits for it any more */
    if (engine->settings->plan) {
        while (good < count && read->loaded[count - 1 - good])
            good++;
        request->have_first -= good;
        if (good > 0) {
            request->waiting = false;
            request->patience_us = -1;
        }
    } else {
        while (good < count && read->loaded[good])
            good++;
        request->have_end += good;
    }
    if (good < count) {
        /* A page was lost between the probe and now: it is to be written again. */
        request->stored = engine->settings->plan ? request->have_first - 1 : request->have_end;
        request->loading = false;
    } else if (!engine->settings->plan && request->have_end == request->found) {
        request->loading = false;
    }
}

static void
end_write(struct serve_engine *engine)
{
    struct request *request = engine->write.request;

    request->stored = engine->write.end;
    if (request->stored == request->prompt->pages)
        engine->write_first++;
    engine->write.request = NULL;
}

static void
end_compute(struct serve_engine *engine)
{
    struct request *request = engine->running;

    engine->running = NULL;
    if (request->state == REQUEST_LAST)
        finish(engine, request);
}

/* All that ends now and starts now. */
static int
act(struct serve_engine *engine, varve_error *err)
{
    int rc;

    if (engine->read.request != NULL && engine->read.left_us <= MOMENT_US)
        end_read(engine);
    if (engine->write.request != NULL && engine->write.left_us <= MOMENT_US)
        end_write(engine);
    if (engine->running != NULL && engine->running_until_us <= engine->now_us)
        end_compute(engine);
    rc = admit(engine, err);
    if (rc == VARVE_OK && engine->read.request == NULL)
        rc = start_read(engine, err);
    if (rc == VARVE_OK && engine->write.request == NULL)
        rc = start_write(engine, err);
    if (rc == VARVE_OK && engine->running == NULL)
        rc = serve_schedule(engine, err);
    return rc;
}

static double
next_event_us(const struct serve_engine *engine)
{
    double next_us = engine->running != NULL ? engine->running_until_us : engine->look_again_us;

    next_us = fmin(next_us, engine->now_us + both_us(&engine->read, &engine->write));
    next_us = fmin(next_us, engine->now_us + both_us(&engine->write, &engine->read));
    if (engine->next < engine->count && engine->settings->in_flight == 0)
        next_us = fmin(next_us, engine->requests[engine->next].prompt->arrival_us / engine->settings->speed);
    if (engine->next < engine->count && engine->next - engine->done < engine->settings->in_flight)
        next_us = engine->now_us;
    for (size_t i = engine->oldest; i < engine->next; i++) {
        if (engine->requests[i].loading && engine->requests[i].answer_us > engine->now_us)
            next_us = fmin(next_us, engine->requests[i].answer_us);
    }
    return next_us;
}

static void
advance(struct serve_engine *engine, double next_us)
{
    double us = next_us - engine->now_us;

    if (engine->read.request != NULL && engine->write.request != NULL)
        us /= SHARED_SLOWDOWN;
    engine->read.left_us = fmax(0, engine->read.left_us - us);
    engine->write.left_us = fmax(0, engine->write.left_us - us);
    engine->now_us = next_us;
}

static int
loop(struct serve_engine *engine, varve_error *err)
{
    while (engine->done < engine->count) {
        double next_us;
        int rc = act(engine, err);

        if (rc != VARVE_OK)
            return rc;
        if (engine->done == engine->count)
            break;
        next_us = next_event_us(engine);
        assert(next_us < DBL_MAX && next_us >= engine->now_us);
        advance(engine, next_us);
    }
    engine->result->makespan_us = engine->now_us;
    return VARVE_OK;
}

static int
engine_init(struct serve_engine *engine, varve_error *err)
{
    const struct serve_trace *trace = engine->trace;
    const struct serve_settings *settings = engine->settings;
    size_t longest = 1;
    int rc;

    engine->count = engine->result->requests = trace->pages.requests;
    engine->result->tokens = trace->tokens;
    engine->look_again_us = DBL_MAX;
    engine->speed = serve_speed_make((double)settings->page_bytes * US_PER_S / FIRST_GUESS);
    engine->requests = calloc(engine->count, sizeof(*engine->requests));
    engine->to_write = calloc(engine->count, sizeof(struct request *));
    engine->result->ttft_us = calloc(engine->count, sizeof(double));
    rc = page_lru_init(&engine->gpu, trace->pages.page_count, settings->gpu_pages);
    if (rc == VARVE_OK)
        rc = page_lru_init(&engine->host, trace->pages.page_count, settings->host_pages);
    for (size_t i = 0; engine->requests != NULL && i < engine->count; i++) {
        engine->requests[i].prompt = &trace->prompts[i];
        engine->requests[i].pages = trace->pages.pages + trace->pages.first[i];
        longest = trace->prompts[i].pages > longest ? trace->prompts[i].pages : longest;
    }
    engine->plan_times = calloc(longest, sizeof(*engine->plan_times));
    if (rc != VARVE_OK || engine->requests == NULL || engine->to_write == NULL || engine->plan_times == NULL ||
        engine->result->ttft_us == NULL)
        return error_set(err, VARVE_E_NOMEM, "no memory for %zu requests", engine->count);
    return VARVE_OK;
}

int
serve_run(const struct serve_trace *trace, const struct serve_settings *settings, const struct serve_storage *storage,
          struct serve_result *result, varve_error *err)
{
    struct serve_engine engine = {.trace = trace, .settings = settings, .storage = storage, .result = result};
    int rc;

    assert(settings->batch >= 1 && settings->batch <= SERVE_BATCH && settings->speed > 0);
    *result = (struct serve_result){0};
    rc = engine_init(&engine, err);
    if (rc == VARVE_OK)
        rc = loop(&engine, err);
    page_lru_deinit(&engine.gpu);
    page_lru_deinit(&engine.host);
    free(engine.requests);
    free(engine.to_write);
    free(engine.plan_times);
    return rc;
}

void
serve_result_free(struct serve_result *result)
{
    free(result->ttft_us);
    *result = (struct serve_result){0};
}
