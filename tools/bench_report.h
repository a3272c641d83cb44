/* SPDX-License-Identifier: Apache-2.0 */
/* The results of a bench, as a table or as JSON, one line each as soon as it is there, beside those of the raw disk. */
#ifndef VARVE_TOOLS_BENCH_REPORT_H
#define VARVE_TOOLS_BENCH_REPORT_H

#include "bench.h"

struct bench_report {
    const struct bench_settings *settings;
    const char *content; /* bytes or bf16 */
    bool json;
    /* Filled by results. */
    double raw_write_gb_per_s; /* NaN: not measured */
    double raw_read_gb_per_s;
    uint64_t wrong_bytes;
    uint64_t missing_pages;
};

/* The head of the table. */
void bench_report_begin(struct bench_report *report);

/* For bench_sink: `arg` is the report. */
void bench_report_result(void *arg, const struct bench_result *result);

/* An engine that was left out of this build, and what to install. */
void bench_report_missing(const struct bench_report *report, const char *engine, const char *package);

#endif
