/* SPDX-License-Identifier: Apache-2.0 */
/* Invariant: latency_us >= 0 and page_us > 0, whatever was observed. */
#include "serve/speed.h"

#include <math.h>

#define KEPT        0.9
#define PRIOR       0.1 /* the weight of what was expected: gone after a few observations */
#define SHARE_LEAST 0.5 /* of the time is the pages': a fit to a noisy device says otherwise now and then */
#define PAGE_US_MIN 1e-3

struct serve_speed
serve_speed_make(double page_us)
{
    struct serve_speed speed = {.weight = PRIOR,
                                .pages = PRIOR,
                                .us = PRIOR * page_us,
                                .pages_pages = PRIOR,
                                .pages_us = PRIOR * page_us,
                                .page_us = fmax(page_us, PAGE_US_MIN)};

    return speed;
}

void
serve_speed_observe(struct serve_speed *speed, size_t pages, double us)
{
    double n = (double)pages, mean_pages, mean_us, variance, slope;

    speed->weight = KEPT * speed->weight + 1;
    speed->pages = KEPT * speed->pages + n;
    speed->us = KEPT * speed->us + us;
    speed->pages_pages = KEPT * speed->pages_pages + n * n;
    speed->pages_us = KEPT * speed->pages_us + n * us;
    mean_pages = speed->pages / speed->weight;
    mean_us = speed->us / speed->weight;
    variance = speed->pages_pages / speed->weight - mean_pages * mean_pages;
    /* With sizes that hardly differ the slope is noise: then all of the time is the pages'. */
    slope = mean_us / mean_pages;
    if (variance > 0.01 * mean_pages * mean_pages)
        slope =
            fmin(slope, fmax(SHARE_LEAST * slope, (speed->pages_us / speed->weight - mean_pages * mean_us) / variance));
    speed->page_us = fmax(slope, PAGE_US_MIN);
    speed->latency_us = fmax(0, mean_us - slope * mean_pages);
}
