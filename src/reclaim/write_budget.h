/* SPDX-License-Identifier: Apache-2.0 */
/*
 * write_budget.h - how much of a put is stored, so that all that the store writes stays within so many bytes a day: a token bucket.
 *
 * The bucket fills at the budget's rate and holds an hour of it. New pages are paid for when they are admitted, everything else (headers, padding, survivors,
 * index, manifest) when it was written; what a put wrote less than its pages have (coded pages) comes back. While the bucket is at least half full all is
 * admitted; below that the share of a batch that is shrinks in proportion, so that the load is matched without being switched on and off. The
 * share is the first pages of a batch: what is left out are ends of chains, and no page is stored without the one before it.
 *
 * (CacheLib's DynamicRandomAP does the same for single objects: every minute it multiplies the probability of admission by target over actual
 * rate, within 25 %, and tosses a coin for each object. Chains forbid the coin: half of the pages of a chain chosen at random are worth next to nothing. And the
 * level of a bucket needs no period to be averaged over, forgives bursts up to its depth, and bounds the bytes of any interval.)
 *
 * Pure: no clock is read here. Threads: the caller's lock.
 */
#ifndef VARVE_RECLAIM_WRITE_BUDGET_H
#define VARVE_RECLAIM_WRITE_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WRITE_BUDGET_DAY_NS  UINT64_C(86400000000000)
#define WRITE_BUDGET_DEPTHS  24 /* a day's budget is so many times what the bucket holds */
#define WRITE_BUDGET_DAY_MAX ((uint64_t)1 << 60)

struct write_budget {
    uint64_t day_bytes; /* 0: none, and nothing is counted */
    int64_t tokens;     /* bytes; below 0: the last batch was more than there was */
    uint64_t part;      /* of the next token, in 1/WRITE_BUDGET_DAY_NS bytes */
    uint64_t at_ns;     /* when it was filled last */
};

/* Begins, or goes on, with another rate: a bucket that had none is full. */
void write_budget_set(struct write_budget *budget, uint64_t day_bytes, uint64_t now_ns);

/* Bytes were admitted, or written otherwise; below 0: less was written than admitted. */
void write_budget_charge(struct write_budget *budget, int64_t bytes);

/* How many of the first of `count` new pages of one batch are to be stored. What they have is to be charged. */
size_t write_budget_admit(struct write_budget *budget, uint64_t now_ns, size_t count);

#endif
