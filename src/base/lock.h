/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mutexes and condition variables that cannot fail quietly: a failing pthread call is a bug of ours and stops the
 * process. Lock order and what each lock guards: docs/locking.md.
 */
#ifndef VARVE_BASE_LOCK_H
#define VARVE_BASE_LOCK_H

#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <time.h>

struct mutex {
    pthread_mutex_t native;
};

struct cond {
    pthread_cond_t native; /* waits on CLOCK_MONOTONIC */
};

static inline void
lock_must(int rc)
{
    assert(rc == 0);
    (void)rc;
}

static inline void
mutex_init(struct mutex *mutex)
{
    lock_must(pthread_mutex_init(&mutex->native, NULL));
}

static inline void
mutex_deinit(struct mutex *mutex)
{
    lock_must(pthread_mutex_destroy(&mutex->native));
}

static inline void
mutex_lock(struct mutex *mutex)
{
    lock_must(pthread_mutex_lock(&mutex->native));
}

static inline void
mutex_unlock(struct mutex *mutex)
{
    lock_must(pthread_mutex_unlock(&mutex->native));
}

static inline void
cond_init(struct cond *cond)
{
    pthread_condattr_t attributes;

    lock_must(pthread_condattr_init(&attributes));
    lock_must(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC));
    lock_must(pthread_cond_init(&cond->native, &attributes));
    lock_must(pthread_condattr_destroy(&attributes));
}

static inline void
cond_deinit(struct cond *cond)
{
    lock_must(pthread_cond_destroy(&cond->native));
}

static inline void
cond_wait(struct cond *cond, struct mutex *mutex)
{
    lock_must(pthread_cond_wait(&cond->native, &mutex->native));
}

/* Wait at most timeout_ms; the caller looks at its condition again either way. */
static inline void
cond_wait_ms(struct cond *cond, struct mutex *mutex, uint64_t timeout_ms)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(timeout_ms / 1000);
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    (void)pthread_cond_timedwait(&cond->native, &mutex->native, &until);
}

static inline void
cond_signal(struct cond *cond)
{
    lock_must(pthread_cond_signal(&cond->native));
}

static inline void
cond_broadcast(struct cond *cond)
{
    lock_must(pthread_cond_broadcast(&cond->native));
}

#endif
