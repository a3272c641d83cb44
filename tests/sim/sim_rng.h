/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_rng.h - the random numbers of the simulation: splitmix64, so that one 64-bit seed replays a whole run on every machine. Each
 * part (disk, crash, driver) has a stream of its own, so that a draw more in one does not change the others.
 */
#ifndef VARVE_SIM_RNG_H
#define VARVE_SIM_RNG_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct sim_rng {
    uint64_t state;
};

static inline uint64_t
sim_mix(uint64_t v)
{
    v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9u;
    v = (v ^ (v >> 27)) * 0x94d049bb133111ebu;
    return v ^ (v >> 31);
}

/* A stream of its own for every (seed, stream). */
static inline struct sim_rng
sim_rng_make(uint64_t seed, uint64_t stream)
{
    return (struct sim_rng){.state = sim_mix(seed + 0x9e3779b97f4a7c15u) ^ sim_mix(stream * 0xd1342543de82ef95u + 1)};
}

static inline uint64_t
sim_rng_next(struct sim_rng *rng)
{
    rng->state += 0x9e3779b97f4a7c15u;
    return sim_mix(rng->state);
}

/* 0 <= result < limit */
static inline uint64_t
sim_rng_below(struct sim_rng *rng, uint64_t limit)
{
    assert(limit > 0);
    return sim_rng_next(rng) % limit;
}

/* first <= result <= last */
static inline uint64_t
sim_rng_between(struct sim_rng *rng, uint64_t first, uint64_t last)
{
    assert(first <= last);
    return first + sim_rng_below(rng, last - first + 1);
}

static inline bool
sim_rng_chance(struct sim_rng *rng, uint32_t per_mille)
{
    return sim_rng_below(rng, 1000) < per_mille;
}

/* Small values as likely as large ones: 1 <= result <= limit, uniform in the number of bits. */
static inline uint64_t
sim_rng_log(struct sim_rng *rng, uint64_t limit)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(limit);
    uint64_t top = (uint64_t)1 << sim_rng_below(rng, bits);

    return sim_rng_between(rng, top, 2 * top - 1 < limit ? 2 * top - 1 : limit);
}

static inline void
sim_rng_fill(struct sim_rng *rng, void *data, size_t size)
{
    uint8_t *p = data;

    while (size > 0) {
        uint64_t word = sim_rng_next(rng);
        size_t part = size < sizeof(word) ? size : sizeof(word);

        memcpy(p, &word, part);
        p += part;
        size -= part;
    }
}

#endif
