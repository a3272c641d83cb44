/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command's own random numbers: splitmix64 to spread a seed, xoshiro256** (Blackman and Vigna, public domain) to
 * draw. The same seed gives the same workload on every machine, so nothing here calls libc's rand() or libm.
 */
#ifndef VARVE_TOOLS_RANDOM_H
#define VARVE_TOOLS_RANDOM_H

#include <stdint.h>

struct random {
    uint64_t state[4];
};

/* One step of splitmix64: a bijection whose outputs look independent. */
static inline uint64_t
random_mix(uint64_t v)
{
    v += 0x9e3779b97f4a7c15u;
    v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9u;
    v = (v ^ (v >> 27)) * 0x94d049bb133111ebu;
    return v ^ (v >> 31);
}

static inline struct random
random_make(uint64_t seed)
{
    struct random random;

    for (int i = 0; i < 4; i++)
        random.state[i] = random_mix(seed + (uint64_t)i * 0x9e3779b97f4a7c15u);
    return random;
}

static inline uint64_t
random_rotate(uint64_t v, int by)
{
    return (v << by) | (v >> (64 - by));
}

static inline uint64_t
random_next(struct random *random)
{
    uint64_t *s = random->state;
    uint64_t result = random_rotate(s[1] * 5, 7) * 9;
    uint64_t shifted = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = random_rotate(s[3], 45);
    return result;
}

/* 0 <= result < bound; bound at least 1. The bias is under bound / 2^64. */
static inline uint64_t
random_below(struct random *random, uint64_t bound)
{
    __extension__ typedef unsigned __int128 wide;

    return (uint64_t)(((wide)random_next(random) * bound) >> 64);
}

/* 0 <= result < 1. */
static inline double
random_unit(struct random *random)
{
    return (double)(random_next(random) >> 11) * 0x1p-53;
}

/* Exponentially distributed with mean 1. The logarithm is a short series of exact operations, the same everywhere. */
static inline double
random_exponential(struct random *random)
{
    double value = (double)((random_next(random) >> 11) + 1) * 0x1p-53; /* above 0, at most 1 */
    double halvings = 0.0;
    double z;
    double square;

    while (value < 0.5) {
        value *= 2.0;
        halvings += 1.0;
    }
    z = (1.0 - value) / (1.0 + value); /* -ln(value) = 2 atanh(z), z at most 1/3 */
    square = z * z;
    z *= 2.0 * (1.0 + square * (1.0 / 3 + square * (1.0 / 5 + square * (1.0 / 7 + square * (1.0 / 9 + square / 11)))));
    return z + halvings * 0.69314718055994531;
}

#endif
