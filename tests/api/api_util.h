/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the public API share: scratch directories, stores opened with options, and pages whose bytes follow from
 * their id, so that any page that is read can be verified without remembering what was put.
 */
#ifndef VARVE_TESTS_API_API_UTIL_H
#define VARVE_TESTS_API_API_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "varve.h"

#define PATH_BYTES 512

/* A new empty directory under VARVE_TEST_DIR, else TMPDIR, else /tmp. path: PATH_BYTES. */
void scratch_create(char *path);
/* Remove the files in it, and the directory. */
void scratch_remove(const char *path);
/* Exits with 77 (skipped) where VARVE_TEST_DIR does not exist or has less than `bytes` free. */
void scratch_require(uint64_t bytes);
/* Copy all files of one flat directory into another, existing one. */
void scratch_copy(const char *from, const char *to);

/* Options from "name=value" strings, NULL-terminated; any mistake fails the test. */
varve_options *options_from(const char *const *settings);
/* Open with such settings (NULL: defaults); fails the test with the message. */
varve_store *store_open_with(const char *path, const char *const *settings);
/* varve_open() that is expected to fail; returns the code after checking that the message says something. */
int store_open_fails(const char *path, const char *const *settings, varve_error *err);
void store_close(varve_store *store);
varve_namespace *namespace_get(varve_store *store, const char *name);
uint64_t stat_value(varve_store *store, const char *name);
/* varve_check() with every page read; fails the test on any problem. */
void check_clean(varve_store *store);

/* A store in a scratch directory with a namespace "test": what most tests begin with, and leave clean. */
struct fixture {
    char path[PATH_BYTES];
    varve_store *store;
    varve_namespace *ns;
};
struct fixture *fixture_create(const char *const *settings);
/* Close and open again. */
void fixture_reopen(struct fixture *fixture, const char *const *settings);
/* check_clean(), close, remove. */
void fixture_destroy(struct fixture *fixture);

/* Pseudo-random numbers from a seed: splitmix64. */
uint64_t rng_next(uint64_t *state);
uint64_t rng_below(uint64_t *state, uint64_t bound);
/* VARVE_TEST_SEED, or `seed`; prints which. */
uint64_t rng_seed(uint64_t seed);

/* The id of page `index` of chain `chain`. */
varve_id page_id(uint64_t chain, uint64_t index);
/* The bytes that belong to an id. */
void page_fill(const varve_id *id, uint8_t *bytes, size_t size);
bool page_right(const varve_id *id, const uint8_t *bytes, size_t size);

/* A batch of pages of one chain in one buffer: page i has `size` bytes (or sizes[i]) and one iovec. */
struct batch {
    size_t count;
    varve_page *pages;
    struct iovec *iov;
    uint8_t *bytes; /* aligned to 4 KiB; pages begin at multiples of 4 KiB, plus `skew` */
    size_t bytes_size;
};

void batch_init(struct batch *batch, uint64_t chain, uint64_t first, size_t count, size_t size, size_t skew);
void batch_init_sizes(struct batch *batch, uint64_t chain, uint64_t first, size_t count, const size_t *sizes,
                      size_t skew);
void batch_free(struct batch *batch);
/* Fill the buffers with the bytes of the ids; with zeros. */
void batch_fill(struct batch *batch);
void batch_wipe(struct batch *batch);

/* Put, or get and compare: every page must come out as VARVE_OK. */
void batch_put(varve_store *store, varve_namespace *ns, const varve_id *parent, struct batch *batch);
void batch_get(varve_store *store, varve_namespace *ns, struct batch *batch);
/* Get: each page is right or a miss. Returns how many are right. */
size_t batch_get_some(varve_store *store, varve_namespace *ns, struct batch *batch);

/* Put `count` pages of a chain, and read them back. */
void chain_put(varve_store *store, varve_namespace *ns, uint64_t chain, size_t count, size_t size);
void chain_get(varve_store *store, varve_namespace *ns, uint64_t chain, size_t count, size_t size);
/* How many of its first `count` pages a probe finds. */
int64_t chain_probe(varve_store *store, varve_namespace *ns, uint64_t chain, size_t count);

#endif
