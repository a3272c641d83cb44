/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crew.h - a few threads that help callers with work that comes in pieces. They are started when there is work for them, and belong to
 * whoever owns the crew.
 *
 * A piece that finds no helper free is the caller's to run, at once: so pieces never pile up, a crew of no helpers is no detour, and callers
 * do not wait for each other. Each call has a group; what helpers have run is handed back through it, so that only the caller's thread touches
 * the call's own state.
 */
#ifndef VARVE_CODEC_CREW_H
#define VARVE_CODEC_CREW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"

#define CREW_HELPERS_MAX 63

struct crew_group;

/* The caller's, until it is handed back. run() may be called on any thread. */
struct crew_task {
    struct crew_task *next;
    struct crew_group *group;
    void (*run)(struct crew_task *task);
};

/* The pieces of one call; zeroed before the first. One thread's, but for what helpers do to it under the crew's lock. */
struct crew_group {
    uint32_t pending;       /* waiting for a helper that was woken, or run by one */
    struct crew_task *done; /* run by one, and not yet handed back */
};

struct crew {
    struct mutex lock; /* guards the rest; a leaf, not held while a piece runs */
    struct cond work;
    struct cond done;
    struct crew_task *queue, **queue_end; /* at most one for each helper */
    uint32_t queued;
    uint32_t free; /* helpers that run nothing, those not yet started included */
    uint32_t helper_count, helper_max;
    bool stop;
    pthread_t helpers[CREW_HELPERS_MAX];
};

/* helper_max: at most CREW_HELPERS_MAX; 0: none. */
void crew_init(struct crew *crew, uint32_t helper_max);
/* No call is in progress. */
void crew_deinit(struct crew *crew);

/* Have a helper run the task. False: none is free, and nothing was done. */
bool crew_offer(struct crew *crew, struct crew_group *group, struct crew_task *task);

/* A task of the group that a helper has run, or NULL. */
struct crew_task *crew_collect(struct crew *crew, struct crew_group *group);
/* The same, but waits while there are any that have not run. NULL: all have been handed back. */
struct crew_task *crew_wait(struct crew *crew, struct crew_group *group);

#endif
