/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of a store: relaxed atomics, made from stats.def. */
#ifndef VARVE_API_STATS_H
#define VARVE_API_STATS_H

#include <stdatomic.h>
#include <stdint.h>

struct counters {
#define COUNTER(name, help) _Atomic uint64_t name;
#define GAUGE(name, help)
#include "api/stats.def"
#undef COUNTER
#undef GAUGE
};

/* What gauges are filled into: computed by store_gauges(). */
struct gauges {
#define COUNTER(name, help)
#define GAUGE(name, help) uint64_t name;
#include "api/stats.def"
#undef COUNTER
#undef GAUGE
};

#define COUNT(counters, name, n) ((void)atomic_fetch_add_explicit(&(counters)->name, (n), memory_order_relaxed))

#endif
