/* SPDX-License-Identifier: Apache-2.0 */
/* What a serving simulation found, for people (a table of the runs) and for programs (a JSON object a run). */
#ifndef VARVE_TOOLS_SERVE_REPORT_H
#define VARVE_TOOLS_SERVE_REPORT_H

#include "serve/serve.h"

struct serve_report {
    const char *engine;
    const char *model;
    const char *gpu;
    const char *policy;
    const char *trace_path;
    const struct serve_trace *trace;
    const struct serve_settings *settings;
    const struct serve_result *result;
    double scale;
    uint64_t page_bytes; /* as stored: scaled */
    uint64_t bytes_read;
    uint64_t bytes_written;
    uint64_t wrong_bytes;
    uint64_t pages_failed;
    double write_busy_us;
    double seconds; /* that the run took */
};

/* The value that `percent` of values[0, count) do not exceed; 0 when there are none. Sorted, ascending. */
double serve_percentile(const double *values, size_t count, double percent);

/* VARVE_OK or VARVE_E_NOMEM. */
int serve_report_json(const struct serve_report *report);
void serve_report_head(const struct serve_report *report);
int serve_report_row(const struct serve_report *report);

#endif
