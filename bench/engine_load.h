/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts and gets of whole chains on one engine: ids from ablation_page_id(), bytes that were made before the clock runs. One thread. What fails ends the program.
 */
#ifndef VARVE_BENCH_ENGINE_LOAD_H
#define VARVE_BENCH_ENGINE_LOAD_H

#include "ablation.h"
#include "engine.h"
#include "page_buffers.h"

struct engine_load {
    const struct ablation_settings *settings;
    const struct engine_ops *ops;
    struct engine *engine; /* NULL: not open */
    struct engine_settings open_settings;
    varve_options *options; /* varve's; NULL: its defaults */
    uint64_t page_bytes;
    char path[ABLATION_PATH_BYTES];
    struct page_buffers pool, target; /* what is put, and what is read into */
    varve_id *ids;                    /* of a chain */
    varve_page *pages;                /* of a call */
};

/* `capacity` bytes on disk, for engines that have such a limit. `block_cache` is a value of varve's option, or NULL. */
void engine_load_init(struct engine_load *load, const struct ablation_settings *settings, const struct engine_ops *ops,
                      uint64_t page_bytes, uint64_t capacity, const char *block_cache);
/* Closes the engine, and removes its directory. */
void engine_load_deinit(struct engine_load *load);

void engine_load_open(struct engine_load *load);
/* Out of memory, the page cache included. */
void engine_load_close(struct engine_load *load);

/* Put a chain of settings->chain pages, in calls of ABLATION_BATCH; seconds inside the calls. */
double engine_load_put(struct engine_load *load, uint64_t chain);
/* Read it back. All pages must be there. */
double engine_load_get(struct engine_load *load, uint64_t chain);
double engine_load_sync(struct engine_load *load);
/* How many of the first `count` pages of the chain from `depth` on are there; *seconds grows. */
uint64_t engine_load_probe(struct engine_load *load, uint64_t chain, uint64_t depth, uint64_t count, double *seconds);

/* Wait until nothing is written any more: flushes and merges are done; seconds it took, less the wait at rest. */
double engine_load_rest(void);

/* 0: the engine does not say. */
uint64_t engine_load_stat(struct engine_load *load, const char *name);

#endif
