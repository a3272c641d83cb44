/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pthread calls of the program, for scheduled threads: each is a preemption point, and whoever has to wait waits in the scheduler. Mutexes are
 * taken for real, but never waited for. Calls of other threads go through. Linked with -Wl,--wrap for each of them.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "sim_log.h"
#include "sim_sched_internal.h"

int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __real_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int __real_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until);
int __real_pthread_cond_signal(pthread_cond_t *cond);
int __wrap_pthread_cond_signal(pthread_cond_t *cond);
int __real_pthread_cond_broadcast(pthread_cond_t *cond);
int __wrap_pthread_cond_broadcast(pthread_cond_t *cond);
int __real_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*main)(void *), void *arg);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*main)(void *), void *arg);
int __real_pthread_join(pthread_t native, void **result);
int __wrap_pthread_join(pthread_t native, void **result);
int __real_clock_gettime(clockid_t clock, struct timespec *out);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out);

static void
wait_for(struct sched_thread *me, enum sched_wait state, const void *object)
{
    me->state = state;
    me->waits_for = object;
    sched_hand_over();
}

static void
take_mutex(struct sched_thread *me, pthread_mutex_t *mutex)
{
    for (size_t i = 0; i < me->held_count; i++) {
        if (me->held[i] == mutex)
            sim_fail("%s (%s) locks a mutex that it holds", me->name, me->doing);
    }
    while (pthread_mutex_trylock(mutex) == EBUSY)
        wait_for(me, WAIT_MUTEX, mutex);
    assert(me->held_count < SCHED_HELD_MAX);
    me->held[me->held_count++] = mutex;
}

static void
give_mutex(struct sched_thread *me, pthread_mutex_t *mutex)
{
    size_t i = 0;

    while (i < me->held_count && me->held[i] != mutex)
        i++;
    if (i == me->held_count)
        sim_fail("%s (%s) unlocks a mutex that it does not hold", me->name, me->doing);
    me->held[i] = me->held[--me->held_count];
    (void)__real_pthread_mutex_unlock(mutex);
    sched_wake(WAIT_MUTEX, mutex, SIZE_MAX);
}

int
__wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    struct sched_thread *me = sched_self();

    if (me == NULL)
        return __real_pthread_mutex_lock(mutex);
    sched_hand_over();
    take_mutex(me, mutex);
    return 0;
}

int
__wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    struct sched_thread *me = sched_self();

    if (me == NULL)
        return __real_pthread_mutex_unlock(mutex);
    sched_hand_over(); /* what the lock guards is in its new state, and who does not take the lock sees it */
    give_mutex(me, mutex);
    return 0;
}

int
__wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    struct sched_thread *me = sched_self();

    if (me == NULL)
        return __real_pthread_cond_wait(cond, mutex);
    me->timed = false;
    give_mutex(me, mutex);
    wait_for(me, WAIT_COND, cond);
    take_mutex(me, mutex);
    return 0;
}

int
__wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
    struct sched_thread *me = sched_self();

    if (me == NULL)
        return __real_pthread_cond_timedwait(cond, mutex, until);
    me->timed = true;
    me->woken_by_time = false;
    me->deadline_ns = (uint64_t)until->tv_sec * 1000000000u + (uint64_t)until->tv_nsec;
    give_mutex(me, mutex);
    wait_for(me, WAIT_COND, cond);
    take_mutex(me, mutex);
    return me->woken_by_time ? ETIMEDOUT : 0;
}

int
__wrap_pthread_cond_signal(pthread_cond_t *cond)
{
    if (sched_self() == NULL)
        return __real_pthread_cond_signal(cond);
    sched_hand_over();
    sched_wake(WAIT_COND, cond, 1);
    return 0;
}

int
__wrap_pthread_cond_broadcast(pthread_cond_t *cond)
{
    if (sched_self() == NULL)
        return __real_pthread_cond_broadcast(cond);
    sched_hand_over();
    sched_wake(WAIT_COND, cond, SIZE_MAX);
    return 0;
}

static void *
thread_main(void *arg)
{
    struct sched_thread *me = arg;

    sched_enter(me);
    me->result = me->main(me->arg);
    if (me->held_count > 0)
        sim_fail("%s ends with a mutex held", me->name);
    me->state = WAIT_ENDED;
    sched_wake(WAIT_JOIN, me, SIZE_MAX);
    sched_hand_over();
    return NULL;
}

int
__wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*main)(void *), void *arg)
{
    struct sched_thread *thread;

    if (sched_self() == NULL)
        return __real_pthread_create(out, attr, main, arg);
    thread = sched_add(main, arg);
    if (thread == NULL)
        return EAGAIN;
    if (__real_pthread_create(&thread->native, attr, thread_main, thread) != 0)
        sim_fail("no thread could be made");
    *out = thread->native;
    sched_hand_over();
    return 0;
}

int
__wrap_pthread_join(pthread_t native, void **result)
{
    struct sched_thread *me = sched_self(), *thread;
    int rc;

    if (me == NULL)
        return __real_pthread_join(native, result);
    thread = sched_find(native);
    if (thread == NULL)
        sim_fail("%s joins a thread that is not there", me->name);
    sched_hand_over();
    if (thread->state != WAIT_ENDED)
        wait_for(me, WAIT_JOIN, thread);
    assert(thread->state == WAIT_ENDED);
    rc = __real_pthread_join(native, NULL);
    if (result != NULL)
        *result = thread->result;
    (void)sem_destroy(&thread->baton);
    thread->state = WAIT_NO_THREAD;
    return rc;
}

int
__wrap_clock_gettime(clockid_t clock, struct timespec *out)
{
    uint64_t now_ns;

    if (sched_self() == NULL)
        return __real_clock_gettime(clock, out);
    now_ns = sched_clock();
    *out = (struct timespec){.tv_sec = (time_t)(now_ns / 1000000000u), .tv_nsec = (long)(now_ns % 1000000000u)};
    return 0;
}
