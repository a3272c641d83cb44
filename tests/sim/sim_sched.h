/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_sched.h - threads that run one at a time, in an order that follows from a seed.
 *
 * Threads are real, but only the one that holds the baton runs. It may lose it at every preemption point: a call of a mutex or a condition
 * variable, sched_point(), and, where the code was compiled with -fsanitize-coverage=trace-pc, any basic block. The pthread calls of the whole
 * program are caught at link time (-Wl,--wrap=...), so the code under test is unchanged; the clock it reads is the simulated one. Memory is
 * sequentially consistent here: weaker orders are for TSan. When no thread can go on, the run fails and says who waits for what.
 *
 * Threads may stand for several processes: each is of the group of the thread that made it, and a group can be stopped for a while.
 */
#ifndef VARVE_SIM_SCHED_H
#define VARVE_SIM_SCHED_H

#include <stdbool.h>
#include <stdint.h>

enum sched_policy {
    SCHED_RANDOM, /* now and then, any thread that can run */
    /*
     * The thread of highest priority that can run; priorities are random, and at few random steps the running thread's becomes the lowest. Finds a bug that
     * takes d such changes with a probability that does not depend on how rare its interleaving is: Burckhardt et al., "A Randomized
     * Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010.
     */
    SCHED_PRIORITIES,
};

struct sched_settings {
    uint64_t seed;
    enum sched_policy policy;
    uint32_t switch_per_mille;  /* SCHED_RANDOM: of points that choose a thread anew */
    uint32_t change_steps;      /* SCHED_PRIORITIES: in so many steps ... */
    uint32_t changes;           /* ... the running thread becomes the last so many times */
    uint32_t timeout_per_mille; /* of points at which some timed wait ends; not when `timely` */
    uint32_t blocks;            /* at most so many basic blocks between two points; 0: any number */
    uint64_t *clock_ns;         /* the simulated clock */
    uint32_t threads;           /* at a time; 0: 16 */
    bool
        timely; /* timed waits end at their time, and the clock goes on by itself only to the next of them; else at any time */
    bool trace; /* log every change of thread */
};

/* A process, as far as threads go. */
struct sched_group {
    uint64_t stopped_until_ns; /* nothing of it runs before */
};

/* The calling thread is scheduled from now on, and so is every thread made by one that is. One scheduler at a time. */
void sched_begin(const struct sched_settings *settings);
/* All threads but the caller must have been joined, and no mutex be held. */
void sched_end(void);

/* Any thread may go on from here. No-op outside of sched_begin() and sched_end(). */
void sched_point(void);
/* The caller waits for something that is no thread: others run for a while. True: no other can. */
bool sched_idle(void);
/* Wait until the clock shows deadline_ns (UINT64_MAX: for ever) or somebody signals the object. False: it was the time. */
bool sched_wait(const void *object, uint64_t deadline_ns);
/* All that wait for the object, or (NULL) for any, of the group, or (NULL) of any. */
void sched_signal(const void *object, const struct sched_group *group);
/* The calling thread, and those that it makes from now on, are of that group; NULL: of none. */
void sched_join_group(struct sched_group *group);
/* What the calling thread is doing, for the report of a deadlock: static storage. */
void sched_note(const char *doing);

/* Points so far, and a digest of which threads went on there: equal runs have equal ones. */
uint64_t sched_steps(void);
uint64_t sched_digest(void);
/* Name of the running thread: static storage. */
const char *sched_name(void);

#endif
