/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ablation.h - what the ablations share: settings, rows of figures, and the figures that the kernel keeps of this process. One file an ablation; each
 * builds what it measures below settings->dir, and removes it. What fails ends the program.
 */
#ifndef VARVE_BENCH_ABLATION_H
#define VARVE_BENCH_ABLATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "varve.h"

#define ABLATION_PATH_BYTES  4096
#define ABLATION_FIGURES_MAX 20
#define ABLATION_HITS_PART   4   /* of --lookups: pages that are there, which take longer to find */
#define ABLATION_BATCH       128 /* pages a call to an engine, at most */

struct ablation_settings {
    const char *dir;
    uint64_t pages;         /* of the index, for order, extents and locator */
    uint64_t hashlog_small; /* pages of the two sizes of store that hashlog is compared at; 0: not at this one */
    uint64_t hashlog_large;
    uint64_t chain; /* pages of one */
    uint64_t bytes; /* of payload, a store */
    uint64_t
        lookups; /* of single pages that are not there, while all is in memory; of pages that are there a quarter */
    uint64_t seed;
    bool json;
};

/* One line of the result: figures of one variant in one scene. */
struct ablation_row {
    const char *ablation;
    const char *variant;
    const char *scene;
    const char *missing; /* what to install for a variant that was left out of this build; NULL: it is there */
    size_t count;
    struct {
        const char *key;
        double value;
    } figures[ABLATION_FIGURES_MAX];
};

struct ablation_row ablation_row_make(const char *ablation, const char *variant, const char *scene);
void ablation_row_put(struct ablation_row *row, const char *key, double value);
void ablation_row_print(const struct ablation_settings *settings, const struct ablation_row *row);

/* End the program with what went wrong. */
_Noreturn void ablation_fail(const char *what);

static inline void
ablation_must(bool holds, const char *what)
{
    if (!holds)
        ablation_fail(what);
}

/* The id of a page; of chains from ABLATION_ABSENT on nothing is ever put. */
#define ABLATION_ABSENT (UINT64_C(1) << 40)
varve_id ablation_page_id(uint64_t seed, uint64_t chain, uint64_t depth);

/* Bytes that this process had the device write, or read, so far (/proc/self/io). */
uint64_t ablation_io_bytes(const char *which);

/* Pages of all whole chains: what order and locator index. */
static inline uint64_t
ablation_pages(const struct ablation_settings *settings)
{
    return settings->pages - settings->pages % settings->chain;
}

/* settings->dir/name, in a buffer that the next call overwrites. */
const char *ablation_path(const struct ablation_settings *settings, const char *name);

/* The ablations. */
void ablation_order(const struct ablation_settings *settings);
void ablation_locator(const struct ablation_settings *settings);
void ablation_values(const struct ablation_settings *settings);
void ablation_hashlog(const struct ablation_settings *settings);

#endif
