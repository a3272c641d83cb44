/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the modelled engine, shared by its event loop (serve.c) and its scheduler (schedule.c). */
#ifndef VARVE_TOOLS_SERVE_ENGINE_MODEL_H
#define VARVE_TOOLS_SERVE_ENGINE_MODEL_H

#include "page_lru.h"
#include "serve/serve.h"
#include "serve/speed.h"

enum request_state {
    REQUEST_AHEAD, /* has not arrived */
    REQUEST_WAITING,
    REQUEST_BEGUN, /* computed in part; the rest of it is loaded meanwhile */
    REQUEST_LAST,  /* on the GPU up to its first token */
    REQUEST_DONE,
};

struct request {
    const struct serve_prompt *prompt;
    const uint32_t *pages;
    enum request_state state;
    double arrival_us;
    double answer_us;   /* when the probe is back */
    double deadline_us; /* of SERVE_TIMEOUT */
    size_t cacheable;   /* pages that may be hit: one token is computed in any case */
    size_t asked;       /* storage was asked for what follows these pages, */
    size_t found;       /* and has the pages up to here */
    bool loading;       /* [asked, found) is being loaded, */
    size_t reserved;    /* and has room for so many pages in host memory */
    size_t have_first;  /* loaded so far */
    size_t have_end;
    size_t computed; /* pages in the engine's memory without loading, or being computed */
    size_t stored;   /* what follows these pages is to be written */
    size_t on_gpu;
    size_t on_host;
    bool waiting; /* with a plan: the GPU is idle for its load */
    double waiting_since_us;
    double patience_us; /* how long it may be, until the load brings something; below 0: not decided yet */
};

/* A call of the storage under way. Its true duration is known here, and to nobody who decides. */
struct transfer {
    struct request *request; /* NULL: idle */
    size_t first;
    size_t end;
    double left_us; /* of the duration alone on the device */
    double began_us;
    double expected_us;
    bool loaded[SERVE_BATCH];
};

struct serve_engine {
    const struct serve_trace *trace;
    const struct serve_settings *settings;
    const struct serve_storage *storage;
    struct serve_result *result;
    struct page_lru gpu;
    struct page_lru host;
    struct serve_speed speed;
    struct request *requests;
    size_t count;
    size_t next;          /* has not arrived */
    size_t oldest;        /* not done; all before it are */
    size_t done;          /* how many */
    size_t pages_pending; /* that loads may bring to host memory */
    double now_us;
    struct request *running; /* on the GPU; NULL: idle */
    double running_until_us;
    double look_again_us; /* the scheduler wants to be asked then, at the latest */
    struct transfer read;
    struct transfer write;
    struct request **to_write; /* FIFO of requests with pages to write */
    size_t write_first;
    size_t write_count;
    uint64_t *plan_times; /* room for the longest prompt */
};

/* Pages of the request's prompt in the engine's memory; *on_gpu: how many of these on the GPU. */
size_t serve_match(const struct serve_engine *engine, const struct request *request, size_t *on_gpu);

/* The GPU is idle: give it something to do, or set look_again_us. VARVE_OK or *err. */
int serve_schedule(struct serve_engine *engine, varve_error *err);

/* Which pages to load next. False: none. */
bool serve_next_load(const struct serve_engine *engine, const struct request *request, size_t *first, size_t *end);

#endif
