/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bucket of a value: values below 32 have one each; above, the position of the highest bit selects a group of 32
 * and the five bits below it the bucket in the group. Invariant: bucket_of() grows with the value and bucket_last() is
 * its inverse.
 */
#include "histogram.h"

#include <assert.h>

#define LINEAR_COUNT (1u << HISTOGRAM_LINEAR_BITS)

static unsigned
bucket_of(uint64_t value)
{
    unsigned high;
    unsigned shift;

    if (value < LINEAR_COUNT)
        return (unsigned)value;
    high = 63u - (unsigned)__builtin_clzll(value);
    shift = high - HISTOGRAM_LINEAR_BITS;
    return ((shift + 1) << HISTOGRAM_LINEAR_BITS) + (unsigned)((value >> shift) & (LINEAR_COUNT - 1));
}

/* The largest value that falls into the bucket. */
static uint64_t
bucket_last(unsigned bucket)
{
    unsigned shift;
    uint64_t first;

    if (bucket < LINEAR_COUNT)
        return bucket;
    shift = (bucket >> HISTOGRAM_LINEAR_BITS) - 1;
    first = ((uint64_t)LINEAR_COUNT + (bucket & (LINEAR_COUNT - 1))) << shift;
    return first + (((uint64_t)1 << shift) - 1);
}

void
histogram_add(struct histogram *histogram, uint64_t value)
{
    unsigned bucket = bucket_of(value);

    assert(bucket < HISTOGRAM_BUCKETS);
    histogram->buckets[bucket]++;
    histogram->count++;
    histogram->sum += value;
    if (value > histogram->max)
        histogram->max = value;
}

void
histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
    into->count += from->count;
    into->sum += from->sum;
    if (from->max > into->max)
        into->max = from->max;
}

uint64_t
histogram_percentile(const struct histogram *histogram, double percent)
{
    double wanted = (double)histogram->count * percent / 100.0;
    uint64_t seen = 0;

    assert(percent >= 0.0 && percent <= 100.0);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (histogram->buckets[i] > 0 && (double)seen >= wanted) {
            uint64_t last = bucket_last(i);

            return last < histogram->max ? last : histogram->max;
        }
    }
    return 0;
}
