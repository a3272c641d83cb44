/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log-linear histogram of latencies: 32 buckets for each power of two, so a percentile is off by at most 1/32 of its
 * value, whatever the range. Fixed size, no allocation; one per thread, merged at the end.
 */
#ifndef VARVE_TOOLS_HISTOGRAM_H
#define VARVE_TOOLS_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_LINEAR_BITS 5
#define HISTOGRAM_BUCKETS     ((64 - HISTOGRAM_LINEAR_BITS + 1) << HISTOGRAM_LINEAR_BITS)

struct histogram {
    uint64_t count;
    uint64_t sum;
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* An all-zero histogram is empty. */
void histogram_add(struct histogram *histogram, uint64_t value);

/* Add all of `from` to `into`. */
void histogram_merge(struct histogram *into, const struct histogram *from);

/* A value that `percent` (0 to 100) of the values do not exceed, at most 1/32 above the smallest such; 0 when empty. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

#endif
