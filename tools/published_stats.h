/* SPDX-License-Identifier: Apache-2.0 */
/*
 * published_stats.h - the statistics that the process which has a store open writes next to it, for those who cannot open it: DIR.prom, in
 * Prometheus text format (the SGLang plugin's `metrics_file`).
 */
#ifndef VARVE_TOOLS_PUBLISHED_STATS_H
#define VARVE_TOOLS_PUBLISHED_STATS_H

#include <stdbool.h>

enum published_format {
    PUBLISHED_TEXT,       /* samples only */
    PUBLISHED_PROMETHEUS, /* as it is */
    PUBLISHED_JSON,       /* an object: sample with its labels -> value */
};

/* Print those of the store in directory `path`, and how old they are on standard error. False: there are none. */
bool published_stats_print(const char *path, enum published_format format);

#endif
