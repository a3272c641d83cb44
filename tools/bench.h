/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The benchmark: the phases of an engine, and the raw speed of the same disk in the same run, with the same page size
 * and the same order. One client thread; times are those inside the calls, on buffers that were made before.
 */
#ifndef VARVE_TOOLS_BENCH_H
#define VARVE_TOOLS_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine.h"
#include "page_content.h"
#include "varve.h"

struct bench_settings {
    const char *dir;
    uint64_t page_bytes;
    uint64_t pages;
    uint64_t batch;
    uint64_t chain; /* pages a chain; the last may be shorter */
    uint64_t seed;
    enum varve_element element; /* what the namespace declares the pages to be; they look like bf16 in any case */
    bool verify;
    bool progress;
};

/* One line of the result. Fields that do not apply are NaN. */
struct bench_result {
    const char *engine;
    const char *phase;
    const char *io_engine; /* uring or threads; NULL: the engine's own */
    const char *codec;     /* the store's option, NULL where there is no store */
    uint64_t bytes;
    uint64_t pages;
    double seconds;
    double core_seconds;
    double call_us_p50;
    double call_us_p99;
    double us_per_chain;
    double open_ms;
    double index_bytes_per_page;
    double codec_ratio; /* bytes put for each byte they are stored in, of pages that were coded */
    uint64_t wrong_bytes;
    uint64_t missing_pages;
    bool checks_pages; /* the last two apply */
};

struct bench_result bench_result_make(const char *engine, const char *phase);

/* Called with each result as soon as it is there. */
struct bench_sink {
    void (*result)(void *arg, const struct bench_result *result);
    void *arg;
};

/* Wall and processor time of the process between start and stop, summed up. */
struct bench_clock {
    uint64_t wall_ns;
    uint64_t cpu_ns;
    uint64_t wall_start_ns;
    uint64_t cpu_start_ns;
};

void bench_clock_start(struct bench_clock *clock);
void bench_clock_stop(struct bench_clock *clock);

/* Chains are visited in an order drawn from the seed. Freed with free(); NULL: out of memory. */
uint64_t *bench_chain_order(const struct bench_settings *settings);
uint64_t bench_chain_count(const struct bench_settings *settings);
uint64_t bench_chain_pages(const struct bench_settings *settings, uint64_t chain);

/* What is measured, with its settings. */
struct bench_subject {
    const char *label; /* of its results; NULL: its I/O engine */
    const struct engine_ops *ops;
    struct engine_settings settings;
    const char *codec; /* of its results */
};

/* Put, open, probe, get, verify. VARVE_OK or an error with *err. */
int bench_engine(const struct bench_settings *settings, const struct bench_subject *subject,
                 const struct page_content *content, const struct bench_sink *sink, varve_error *err);

/* Sequential writes and reads in the order of the gets, `batch` in flight, on one file in the directory `path`. */
int bench_raw(const struct bench_settings *settings, const char *path, const struct page_content *content,
              const struct bench_sink *sink, varve_error *err);

#endif
