/* SPDX-License-Identifier: Apache-2.0 */
/* Names are looked up in varve_stat_describe(), whose order is that of the values. */
#include "store_stats.h"

#include <math.h>
#include <string.h>

void
store_stats_read(varve_store *store, struct store_stats *stats)
{
    size_t known = varve_stats_get(store, stats->values, STORE_STATS_MAX);

    stats->count = known < STORE_STATS_MAX ? known : STORE_STATS_MAX;
}

bool
store_stats_find(const struct store_stats *stats, const char *name, uint64_t *value)
{
    for (size_t i = 0; i < stats->count; i++) {
        if (strcmp(varve_stat_describe(i)->name, name) == 0) {
            *value = stats->values[i];
            return true;
        }
    }
    return false;
}

double
store_stats_write_amplification(const struct store_stats *stats)
{
    uint64_t log_bytes;
    uint64_t index_bytes;
    uint64_t manifest_bytes;
    uint64_t put_bytes;

    if (!store_stats_find(stats, "log_bytes_written", &log_bytes) ||
        !store_stats_find(stats, "index_bytes_written", &index_bytes) ||
        !store_stats_find(stats, "manifest_bytes_written", &manifest_bytes) ||
        !store_stats_find(stats, "put_bytes", &put_bytes) || put_bytes == 0)
        return (double)NAN;
    return (double)(log_bytes + index_bytes + manifest_bytes) / (double)put_bytes;
}
