/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long it takes to load pages, learned from the loads so far: latency_us a call and page_us a page, fitted by least squares in which each
 * observation weighs a tenth less than the one after it.
 */
#ifndef VARVE_TOOLS_SERVE_SPEED_H
#define VARVE_TOOLS_SERVE_SPEED_H

#include <stddef.h>

struct serve_speed {
    double weight, pages, us, pages_pages, pages_us; /* sums */
    double latency_us;
    double page_us;
};

/* Before anything was observed, a page is expected to take page_us. */
struct serve_speed serve_speed_make(double page_us);

void serve_speed_observe(struct serve_speed *speed, size_t pages, double us);

#endif
