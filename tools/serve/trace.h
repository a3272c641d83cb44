/* SPDX-License-Identifier: Apache-2.0 */
/* A request trace in memory, as a serving engine sees it: when, how many tokens, which full pages. Immutable once loaded. */
#ifndef VARVE_TOOLS_SERVE_TRACE_H
#define VARVE_TOOLS_SERVE_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include "policy.h"
#include "varve.h"

struct serve_prompt {
    double arrival_us; /* from the first request */
    uint64_t tokens;   /* at least 1 */
    size_t pages;      /* full ones: a page that is not full is computed, and never cached */
    uint64_t stage;    /* 0: the trace has no stages */
};

struct serve_trace {
    struct policy_trace pages; /* request r's: pages.pages + pages.first[r] */
    struct serve_prompt *prompts;
    size_t prompt_room;
    varve_id *ids; /* by page */
    size_t id_room;
    uint64_t page_tokens;
    uint64_t tokens; /* of all prompts */
};

/* limit 0: all requests. VARVE_OK, or *err. Free it in either case. */
int serve_trace_load(const char *path, uint64_t limit, struct serve_trace *trace, varve_error *err);
void serve_trace_free(struct serve_trace *trace);

#endif
