/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz.h - a fuzz target is one parser and two functions. With clang's -fsanitize=fuzzer only LLVMFuzzerTestOneInput() is used;
 * fuzz_main.c runs a target without it: on files, and on mutations of the target's own examples, from a seed.
 *
 * The first byte of an input says whether checksums are put right before the parser sees the rest: without that, no mutation
 * would ever get past them.
 */
#ifndef VARVE_FUZZ_FUZZ_H
#define VARVE_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "../sim/sim_rng.h"

#define FUZZ_INPUT_MAX   (64 * 1024)
#define FUZZ_FIX_SUMS(b) (((b)&1) != 0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A valid input of the target; returns its length, at most FUZZ_INPUT_MAX. */
size_t fuzz_example(struct sim_rng *rng, uint8_t *out);

/* The parser gave something that it must not: print what, and abort. */
void fuzz_require(int condition, const char *what);

#endif
