/* SPDX-License-Identifier: Apache-2.0 */
/* The statistics of a store, by name, so that the command works with libraries that have more or fewer of them. */
#ifndef VARVE_TOOLS_STORE_STATS_H
#define VARVE_TOOLS_STORE_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "varve.h"

#define STORE_STATS_MAX 256

struct store_stats {
    size_t count;
    uint64_t values[STORE_STATS_MAX];
};

void store_stats_read(varve_store *store, struct store_stats *stats);

/* The statistic called `name`; false when the library has none. */
bool store_stats_find(const struct store_stats *stats, const char *name, uint64_t *value);

/* Bytes written to the device for each payload byte put: log, index and manifest. NaN where that is not known. */
double store_stats_write_amplification(const struct store_stats *stats);

#endif
