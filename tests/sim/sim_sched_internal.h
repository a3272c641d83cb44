/* SPDX-License-Identifier: Apache-2.0 */
/* sim_sched_internal.h - what the choice of threads (sim_sched.c) and the pthread calls (sim_sched_pthread.c) share. */
#ifndef VARVE_SIM_SCHED_INTERNAL_H
#define VARVE_SIM_SCHED_INTERNAL_H

#include <pthread.h>
#include <semaphore.h>
#include <stddef.h>

#include "sim_sched.h"

#define SCHED_HELD_MAX 8 /* mutexes of one thread at a time */

enum sched_wait {
    WAIT_NO_THREAD, /* no thread: the slot may be taken */
    WAIT_NOT,
    WAIT_DEVICE, /* until idle_until, or no other can run */
    WAIT_MUTEX,  /* waits for ... */
    WAIT_COND,
    WAIT_EVENT, /* always timed */
    WAIT_JOIN,
    WAIT_ENDED, /* not joined yet */
};

struct sched_thread {
    char name[16];
    enum sched_wait state;
    sem_t baton; /* posted when the thread may run */
    pthread_t native;
    void *(*main)(void *);
    void *arg, *result;
    const void *waits_for; /* the mutex, condition or thread */
    bool timed;            /* the wait ends at deadline_ns */
    bool woken_by_time;
    bool alone; /* it was woken from idling because no other can run */
    uint64_t deadline_ns;
    uint64_t idle_until; /* step */
    uint64_t priority;
    struct sched_group *group;
    const void *held[SCHED_HELD_MAX];
    size_t held_count;
    const char *doing;
};

/* The calling thread; NULL: not scheduled. */
struct sched_thread *sched_self(void);
/* NULL: there are too many. */
struct sched_thread *sched_add(void *(*main)(void *), void *arg);
/* Of a thread that was just made: wait for the baton for the first time. */
void sched_enter(struct sched_thread *thread);
struct sched_thread *sched_find(pthread_t native);

/* Give the baton to whoever is chosen, and return once the caller has it again. The caller's state says how it waits. */
void sched_hand_over(void);
/* Threads in `state` that wait for the object can go on: all, or `count` of them in a random choice. */
void sched_wake(enum sched_wait state, const void *object, size_t count);
uint64_t sched_clock(void);

#endif
