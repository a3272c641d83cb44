/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ages.h - time, for pages that only know the clock of src/reclaim/heat.h: samples of what the clock was when, so that a time to live becomes a
 * horizon.
 *
 * A sample says: what was used before this clock value, was used by a call that began at this time at the latest. One is taken when a call has used
 * something since the last one, and 1/AGES_A_TTL of the time to live has passed. So a page is never too old before the time to live is over since the call
 * that used it last began, and always when 1/AGES_A_TTL more has passed, whoever asks and however seldom: nothing has to tick meanwhile.
 *
 * Pure: no clock is read here. Threads: the caller's lock.
 */
#ifndef VARVE_RECLAIM_AGES_H
#define VARVE_RECLAIM_AGES_H

#include <stdbool.h>
#include <stdint.h>

#define AGES_A_TTL   32u                    /* samples in a time to live, about */
#define AGES_SAMPLES (2u * AGES_A_TTL + 8u) /* at most two in the time of one */

struct ages {
    uint64_t ttl_ns;
    uint64_t used_ns;    /* when the last call that used something began */
    uint64_t sampled_ns; /* time of the newest sample there was */
    uint32_t first, count;
    struct {
        uint64_t time_ns;
        uint64_t clock;
    } samples[AGES_SAMPLES]; /* a ring; ascending */
};

/* What was used before `clock` counts as used now. */
void ages_begin(struct ages *ages, uint64_t ttl_ns, uint64_t now_ns, uint64_t clock);

/* Time for another sample? Then heat_group_mark() gives the clock value for ages_sample(). */
bool ages_sample_due(const struct ages *ages, uint64_t now_ns);
void ages_sample(struct ages *ages, uint64_t clock);

/* A call that uses something begins: after the sample that is due. */
void ages_use(struct ages *ages, uint64_t now_ns);

/* What was used before this clock value is too old; 0: nothing that was not before. */
uint64_t ages_expired(struct ages *ages, uint64_t now_ns);

#endif
