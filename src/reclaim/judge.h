/* SPDX-License-Identifier: Apache-2.0 */
/*
 * judge.h - how young a page is when it comes: a page that was never used twice may deserve less time than the others, or not, and only the traffic can
 * say. The judge plays it: caches of a sample of the pages, each with another answer, and the answer that hit most is the store's.
 *
 * Answer 0 is plain least-recently-used order, and stays unless another one has been clearly better for long. Pages are sampled by their ids, one of
 * so many that a cache of the store's size shrinks to JUDGE_PAGES at most: O(1) a page, and bounded memory.
 *
 * How it is used: judge_begin() to judge_end() for each request, with all the pages it asked for. A page that is stored, and every page behind it on its chain, is
 * then used at judge_demotion() before the call's value (heat.h); and so are the ancestors that a put touches, so that no page is younger than its
 * parent. Pages that were read are used at the call's value as ever.
 *
 * Threads: the caller serialises all calls on one struct judge.
 */
#ifndef VARVE_RECLAIM_JUDGE_H
#define VARVE_RECLAIM_JUDGE_H

#include "reclaim/heat.h"

#define JUDGE_PAGES   4096u
#define JUDGE_ANSWERS 3u

struct judge;

/* A store of so many pages, at least 1. NULL: out of memory. */
struct judge *judge_create(struct env *env, uint64_t pages);
/* NULL is a no-op. */
void judge_destroy(struct judge *judge);

/* One request, while its pages are shown to the judge. */
struct judge_call {
    uint64_t value;
    double asked; /* of the sample */
    struct {
        uint64_t demotion;
        double hits;
        bool missed;
    } answers[JUDGE_ANSWERS];
};

/* A request of `count` pages: each in turn, root first, by any 64 bits of its id that are as good as random; then the end. */
void judge_begin(struct judge *judge, struct judge_call *call, size_t count);
void judge_asked(struct judge *judge, struct judge_call *call, uint64_t id, size_t index);
void judge_end(struct judge *judge, const struct judge_call *call);

/* By how much a new page is older than the call that brought it: a part of the age that the live set reaches back to. */
uint64_t judge_demotion(const struct judge *judge, const struct heat *heat);
/* The answer that is in force: 0 is LRU. */
unsigned judge_answer(const struct judge *judge);

#endif
