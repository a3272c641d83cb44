/* SPDX-License-Identifier: Apache-2.0 */
/* sim_seeds.h - which runs a simulator is to make, as its command line and files of seeds name them, and how it says which one failed. */
#ifndef VARVE_TESTS_SIM_SEEDS_H
#define VARVE_TESTS_SIM_SEEDS_H

#include <stdbool.h>
#include <stdint.h>

/* "A..B". False: it is not that. */
bool sim_seeds_range(const char *text, uint64_t *first, uint64_t *last);

/* A run of a file; `how` is what follows its seed and operations, or empty. False, and nothing was run: that means nothing. */
typedef bool sim_seeds_run(void *arg, uint64_t seed, uint64_t ops, const char *how);
/*
 * Make the runs that a file names, a line each: SEED OPS, and what `form` shows beyond that, then # and why. Returns how many there were, or -1, having said what is
 * wrong.
 */
int64_t sim_seeds_file(const char *path, const char *form, sim_seeds_run *run, void *arg);

/* An assertion, or a sanitizer, ends the process: it then prints `repro`, which stays the caller's. */
void sim_seeds_repro(const char *repro);

#endif
