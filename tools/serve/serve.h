/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A modelled serving engine that plays a trace: memory on the GPU and on the host that keep pages by LRU, one queue for prefill, one thread that loads from
 * storage, one that writes new pages to it. Time is simulated: computing takes what serve_cost says, and an I/O what it took when it was done, for real, at
 * the moment its turn came. The same trace, settings and durations give the same result. docs/serving.md has the rules.
 */
#ifndef VARVE_TOOLS_SERVE_SERVE_H
#define VARVE_TOOLS_SERVE_SERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "serve/cost.h"
#include "serve/trace.h"

#define SERVE_BATCH 128 /* pages a call of the engine's storage interface, at most */

/* When a request that waits for storage is run nevertheless: SGLang's --hicache-storage-prefetch-policy. */
enum serve_policy {
    SERVE_WAIT_COMPLETE,
    SERVE_TIMEOUT,
    SERVE_BEST_EFFORT,
    SERVE_POLICY_COUNT,
};

struct serve_settings {
    struct serve_cost cost;
    uint64_t page_bytes; /* of the model: not scaled */
    double copy_bytes_s; /* host to device */
    uint64_t gpu_pages;
    uint64_t host_pages;
    enum serve_policy policy;  /* without a plan */
    bool plan;                 /* load or recompute: the GPU computes the head while the tail is loaded */
    double timeout_us;         /* of SERVE_TIMEOUT: this, */
    double timeout_ki_us;      /* and this for each 1,024 tokens, */
    double timeout_max_us;     /* at most this */
    uint64_t threshold_tokens; /* fewer are not worth asking storage for */
    uint64_t batch;            /* pages a call, at most SERVE_BATCH */
    uint64_t in_flight;        /* requests at a time; 0: at the times of the trace */
    double speed;              /* times of the trace are divided by it */
};

/*
 * Storage. Each call takes pages of one chain in order (numbers of the trace) and says in *us how long that took. VARVE_OK or a negative
 * code with *err; probe: how many of the first pages are stored; get: which pages were loaded.
 */
struct serve_storage {
    void *arg;
    int64_t (*probe)(void *arg, const uint32_t *pages, size_t count, double *us, varve_error *err);
    int (*get)(void *arg, const uint32_t *pages, size_t count, bool *loaded, double *us, varve_error *err);
    int (*put)(void *arg, const uint32_t *parent, const uint32_t *pages, size_t count, double *us, varve_error *err);
};

struct serve_result {
    size_t requests;
    double *ttft_us; /* by request */
    double makespan_us;
    uint64_t tokens;          /* of all prompts; the rest are parts of it */
    uint64_t tokens_gpu;      /* found on the GPU */
    uint64_t tokens_host;     /* and beyond that in host memory */
    uint64_t tokens_resident; /* and beyond that in storage */
    uint64_t tokens_returned; /* loaded when the request was run */
    uint64_t tokens_used;     /* and not computed */
    uint64_t tokens_computed;
    uint64_t tokens_recomputed; /* of these, in storage */
    uint64_t pages_read;
    uint64_t pages_written;
    double gpu_busy_us;
    double read_busy_us;
};

/* storage NULL: recompute only. VARVE_OK or *err. Free the result in either case. */
int serve_run(const struct serve_trace *trace, const struct serve_settings *settings,
              const struct serve_storage *storage, struct serve_result *result, varve_error *err);
void serve_result_free(struct serve_result *result);

#endif
