/* SPDX-License-Identifier: Apache-2.0 */
/* Beside the page numbers of policy_trace: times, tokens and page ids. */
#include "serve/trace.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/error.h"
#include "replay.h"
#include "trace_read.h"

#define US_PER_MS       1000.0
#define PAGE_TOKENS_MAX (1u << 20)

static int
reserve(struct serve_trace *trace)
{
    size_t prompts = trace->pages.requests, pages = trace->pages.page_count;

    if (prompts > trace->prompt_room) {
        size_t room = 2 * prompts;
        struct serve_prompt *grown = reallocarray(trace->prompts, room, sizeof(*grown));

        if (grown == NULL)
            return VARVE_E_NOMEM;
        trace->prompts = grown;
        trace->prompt_room = room;
    }
    if (pages > trace->id_room) {
        size_t room = 2 * pages;
        varve_id *grown = reallocarray(trace->ids, room, sizeof(*grown));

        if (grown == NULL)
            return VARVE_E_NOMEM;
        trace->ids = grown;
        trace->id_room = room;
    }
    return VARVE_OK;
}

static int
add_ids(struct serve_trace *trace, const struct trace_request *request)
{
    const uint32_t *pages = trace->pages.pages + trace->pages.first[trace->pages.requests - 1];
    varve_id *ids = reallocarray(NULL, request->hash_count + 1, sizeof(*ids));
    int rc = ids == NULL ? VARVE_E_NOMEM : replay_chain(request, ids);

    for (size_t i = 0; rc == VARVE_OK && i < request->hash_count; i++)
        trace->ids[pages[i]] = ids[i];
    free(ids);
    return rc;
}

static int
add_prompt(void *arg, const struct trace_request *request, varve_error *err)
{
    struct serve_trace *trace = arg;
    uint64_t tokens = request->hash_count * request->block_size;
    struct serve_prompt *prompt;

    if (request->block_size == 0 || request->block_size > PAGE_TOKENS_MAX)
        return error_set(err, VARVE_E_ARG, "blocks of %" PRIu64 " tokens: at most %u", request->block_size,
                         PAGE_TOKENS_MAX);
    if (trace->page_tokens == 0)
        trace->page_tokens = request->block_size;
    if (request->block_size != trace->page_tokens)
        return error_set(err, VARVE_E_ARG, "blocks of %" PRIu64 " tokens after some of %" PRIu64, request->block_size,
                         trace->page_tokens);
    if (reserve(trace) != VARVE_OK || add_ids(trace, request) != VARVE_OK)
        return error_set(err, VARVE_E_NOMEM, "out of memory for the trace");
    /* The last block may not be full. Lengths that do not fit the blocks are not believed. */
    if (request->input_length <= tokens && request->input_length + request->block_size > tokens)
        tokens = request->input_length;
    prompt = &trace->prompts[trace->pages.requests - 1];
    *prompt = (struct serve_prompt){.arrival_us = (double)request->timestamp_ms * US_PER_MS,
                                    .tokens = tokens > 0 ? tokens : 1,
                                    .pages = (size_t)(tokens / request->block_size),
                                    .stage = request->stage};
    trace->tokens += prompt->tokens;
    return VARVE_OK;
}

int
serve_trace_load(const char *path, uint64_t limit, struct serve_trace *trace, varve_error *err)
{
    double start = 0, latest = 0;
    int rc;

    *trace = (struct serve_trace){0};
    rc = policy_trace_read(path, limit, &trace->pages, add_prompt, trace, err);
    for (size_t i = 0; i < trace->pages.requests && rc == VARVE_OK; i++) {
        struct serve_prompt *prompt = &trace->prompts[i];

        if (i == 0)
            start = prompt->arrival_us;
        prompt->arrival_us = prompt->arrival_us - start > latest ? prompt->arrival_us - start : latest;
        latest = prompt->arrival_us; /* time does not go back */
    }
    if (rc == VARVE_OK && trace->pages.requests == 0)
        return error_set(err, VARVE_E_ARG, "the trace has no requests");
    return rc;
}

void
serve_trace_free(struct serve_trace *trace)
{
    policy_trace_free(&trace->pages);
    free(trace->prompts);
    free(trace->ids);
    *trace = (struct serve_trace){0};
}
