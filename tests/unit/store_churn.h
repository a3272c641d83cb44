/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_churn.h - a small store on the simulated disk (store_life.h) that reclaim keeps within its capacity: hot chains, which are used again and again, and cold
 * ones, which nobody asks for once they are written.
 */
#ifndef VARVE_TESTS_STORE_CHURN_H
#define VARVE_TESTS_STORE_CHURN_H

#include "store_life.h"

#define CHAIN_PAGES 16
#define PAGE_BYTES  8192
#define CHAIN_BYTES ((uint64_t)CHAIN_PAGES * PAGE_BYTES)
#define CAPACITY    ((uint64_t)8 << 20)
#define KEPT        4   /* files of dropped segments, at most, that are kept before one has to be removed */
#define HOT         100 /* hot chains from here on */
#define HOT_CHAINS  10
#define HOT_PAGES   (HOT_CHAINS * CHAIN_PAGES)
#define COLD        1000 /* and cold ones */

/* A store of CAPACITY with segments of 256 KiB. */
int churn_setup(void **state);
int churn_teardown(void **state);

/* How many of `count` pages of a chain, from `first` on, are found in a row; it is a use of them. */
int64_t churn_probe(uint32_t chain, uint32_t first, uint32_t count);
/* Background work, until there is none. */
void churn_work(void);
/* Write `bytes` of cold chains, with background work after each, and the hot ones used in between. Never more than the ceiling is used. */
void churn(uint64_t bytes, bool use_hot);
/* Hot chains, each put between cold ones, so that they lie scattered. */
void churn_put_hot(void);
/* The same, and then the store is filled, while they are used. */
void churn_fill(void);
/* Pages of the hot chains that are there, with their right bytes. */
uint32_t churn_hot_right(void);
/* The next victim that has live pages; asserts that there is one. */
void churn_begin_job(void);

#endif
