/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Synthetic request traces: four kinds of LLM traffic from one seed. Promise of the output: hash ids are equal exactly
 * where the prompts' prefixes are, they are numbered from 0 by first appearance, timestamps never go back, and the
 * same settings give the same requests everywhere.
 */
#ifndef VARVE_TOOLS_TRACE_GENERATE_H
#define VARVE_TOOLS_TRACE_GENERATE_H

#include <stdint.h>

#include "trace_read.h"

enum trace_kind {
    TRACE_CHAT,   /* conversations over a few shared system prompts, with time to think */
    TRACE_AGENT,  /* tool loops: few long chains that grow with every call */
    TRACE_DOCQA,  /* many questions about few long documents */
    TRACE_STAGES, /* ten phases of different sharing, prompts of one length */
    TRACE_KIND_COUNT,
};

#define TRACE_STAGE_COUNT 10

struct trace_settings {
    enum trace_kind kind;
    uint64_t seed;
    uint64_t requests;
    uint64_t prompt_tokens; /* of a first prompt; of a document; of every prompt in stages */
    uint64_t output_tokens; /* mean */
    double sharing;         /* 0 to 1: what that means depends on the kind */
    uint64_t turns;         /* mean requests of a conversation or task */
    double rate;            /* requests a second, mean */
    uint64_t block_size;    /* tokens a block */
    uint64_t users;         /* conversations or tasks at a time */
};

/* "chat", "agent", "docqa", "stages". */
const char *trace_kind_name(enum trace_kind kind);

/* The settings of the kind when nothing else is asked for. */
struct trace_settings trace_settings_default(enum trace_kind kind);

/*
 * Generate settings->requests requests and hand each to `emit`, whose return value other than VARVE_OK ends the work
 * and is returned. The request belongs to the generator. VARVE_E_NOMEM: out of memory. Settings must be at least 1
 * where they count things.
 */
int trace_generate(const struct trace_settings *settings, int (*emit)(void *arg, const struct trace_request *request),
                   void *arg);

#endif
