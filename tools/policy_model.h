/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy_model.h - the store's own decisions (src/reclaim) on a store without data: segments are lists of page numbers. A put appends to the open segment
 * of new pages, reclaim takes the segment with the fewest live bytes and appends what lives in it to the open segment of survivors.
 */
#ifndef VARVE_TOOLS_POLICY_MODEL_H
#define VARVE_TOOLS_POLICY_MODEL_H

#include "env/env.h"
#include "policy.h"
#include "reclaim/heat.h"
#include "reclaim/judge.h"
#include "reclaim/reclaim.h"

#define MODEL_PAGE_BYTES 4096 /* any multiple of HEAT_UNIT */
#define MODEL_NONE       UINT32_MAX

struct model_segment {
    struct heat_segment *heat; /* NULL: no such segment */
    uint32_t number;
    bool open;
    uint32_t count;
    uint32_t pages[];
};

/* A page's present copy. */
struct model_copy {
    uint32_t segment; /* MODEL_NONE: none */
    uint32_t slot;
};

struct model {
    struct env env;
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
    uint32_t page_count;
    struct model_copy *copies; /* by page */
};

/* A store of `capacity` pages for pages numbered below page_count. VARVE_OK, or VARVE_E_NOMEM; destroy it in either case. */
int model_create(struct model *model, uint32_t page_count, uint64_t capacity, struct policy_result *result);
void model_destroy(struct model *model);

bool model_has(const struct model *model, uint32_t page);
bool model_is_live(const struct model *model, uint32_t page);
/* Of its last use; 0: dead, or not there. */
uint64_t model_value(const struct model *model, uint32_t page);

/* The judge sees a request. */
void model_ask_judge(struct model *model, const uint32_t *pages, size_t count);
/* By how much new pages are older than the call that brings them. */
uint64_t model_demotion(const struct model *model);

/*
 * A page was used at `value`: it is touched, or stored, unless the chain that ends with it, of `chain_pages`, is longer than the store. VARVE_OK or VARVE_E_NOMEM.
 */
int model_use(struct model *model, uint32_t page, uint64_t chain_pages, uint64_t value);

#endif
