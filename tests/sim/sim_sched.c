/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which thread goes on. Everything here runs on the thread that holds the baton, so nothing needs a lock; the semaphores that hand the baton
 * over order all memory.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_log.h"
#include "sim_rng.h"
#include "sim_sched_internal.h"

#define THREADS_MAX   128
#define THREADS_USUAL 16
#define IDLE_STEPS    64    /* an idle thread looks again after at most so many */
#define ALONE_MAX     20000 /* steps of one thread in a row while others can run: it may be waiting for them */
#define SPURIOUS_RATE 2     /* per mille of points: a condition variable wakes a thread without a signal */

static struct {
    struct sched_settings settings;
    struct sim_rng rng;
    struct sched_thread threads[THREADS_MAX];
    size_t slots; /* of these in use */
    struct sched_thread *running;
    uint64_t steps, digest;
    uint64_t row;          /* steps of the running thread since it was chosen last */
    uint64_t lowest;       /* priority: the next one that is below all others */
    uint64_t change_at[8]; /* steps */
    uint64_t changes_end;  /* step at which they are drawn again */
    uint64_t blocks_left;
    uint32_t made;
    bool active;
} sched;

static _Thread_local struct sched_thread *self;

struct sched_thread *
sched_self(void)
{
    return sched.active ? self : NULL;
}

uint64_t
sched_clock(void)
{
    return *sched.settings.clock_ns;
}

uint64_t
sched_steps(void)
{
    return sched.steps;
}

uint64_t
sched_digest(void)
{
    return sched.digest;
}

const char *
sched_name(void)
{
    return self == NULL ? "-" : self->name;
}

void
sched_note(const char *doing)
{
    if (self != NULL)
        self->doing = doing;
}

struct sched_thread *
sched_add(void *(*thread_main)(void *), void *arg)
{
    struct sched_thread *thread = sched.threads;

    while (thread->state != WAIT_NO_THREAD) {
        if (++thread == sched.threads + sched.slots)
            return NULL;
    }
    *thread = (struct sched_thread){.state = WAIT_NOT, .main = thread_main, .arg = arg, .doing = "begin"};
    thread->group = self == NULL ? NULL : self->group;
    (void)snprintf(thread->name, sizeof(thread->name), "t%u", sched.made++);
    thread->priority = (sim_rng_next(&sched.rng) | (uint64_t)1 << 63);
    (void)sem_init(&thread->baton, 0, 0);
    return thread;
}

struct sched_thread *
sched_find(pthread_t native)
{
    for (size_t i = 0; i < sched.slots; i++) {
        if (sched.threads[i].state != WAIT_NO_THREAD && pthread_equal(sched.threads[i].native, native))
            return &sched.threads[i];
    }
    return NULL;
}

static const struct sched_thread *
holder_of(const void *mutex)
{
    for (size_t i = 0; i < sched.slots; i++) {
        for (size_t k = 0; k < sched.threads[i].held_count; k++) {
            if (sched.threads[i].held[k] == mutex)
                return &sched.threads[i];
        }
    }
    return NULL;
}

static void fail_deadlock(void) __attribute__((noreturn));

static void
fail_deadlock(void)
{
    static const char *const kinds[] = {"", "nothing", "the device", "mutex", "condition", "event", "thread", "ended"};

    for (size_t i = 0; i < sched.slots; i++) {
        const struct sched_thread *thread = &sched.threads[i];
        const struct sched_thread *holder = thread->state == WAIT_MUTEX ? holder_of(thread->waits_for) : NULL;

        if (thread->state != WAIT_NO_THREAD)
            sim_log("%s (%s) waits for %s %p%s%s", thread->name, thread->doing, kinds[thread->state], thread->waits_for,
                    holder == NULL ? "" : " of ", holder == NULL ? "" : holder->name);
    }
    sim_fail("deadlock: no thread can run");
}

static void
wake(struct sched_thread *thread)
{
    thread->state = WAIT_NOT;
    thread->waits_for = NULL;
}

void
sched_wake(enum sched_wait state, const void *object, size_t count)
{
    size_t start = sim_rng_below(&sched.rng, sched.slots);

    for (size_t i = 0; i < sched.slots && count > 0; i++) {
        struct sched_thread *thread = &sched.threads[(start + i) % sched.slots];

        if (thread->state == state && thread->waits_for == object) {
            wake(thread);
            count--;
        }
    }
}

static void
end_by_time(struct sched_thread *thread)
{
    if (*sched.settings.clock_ns < thread->deadline_ns)
        *sched.settings.clock_ns = thread->deadline_ns;
    thread->woken_by_time = true;
    wake(thread);
}

/* Any thread that waits on a condition: because its time is over, or for no reason. */
static void
wake_without_signal(void)
{
    bool by_time = !sched.settings.timely && sim_rng_chance(&sched.rng, sched.settings.timeout_per_mille);
    bool spurious = sim_rng_chance(&sched.rng, SPURIOUS_RATE);
    size_t start;

    if (!by_time && !spurious)
        return;
    start = sim_rng_below(&sched.rng, sched.slots);
    for (size_t i = 0; i < sched.slots; i++) {
        struct sched_thread *thread = &sched.threads[(start + i) % sched.slots];

        if (thread->state != WAIT_COND || (by_time && !thread->timed))
            continue;
        if (by_time)
            end_by_time(thread);
        else
            wake(thread);
        return;
    }
}

static bool
is_stopped(const struct sched_thread *thread)
{
    return thread->group != NULL && thread->group->stopped_until_ns > sched_clock();
}

static bool
is_timed(const struct sched_thread *thread)
{
    return thread->state == WAIT_EVENT || (thread->state == WAIT_COND && thread->timed);
}

/* Timed waits whose time has come end. */
static void
end_due_waits(void)
{
    for (size_t i = 0; i < sched.slots; i++) {
        struct sched_thread *thread = &sched.threads[i];

        if (is_timed(thread) && thread->deadline_ns <= sched_clock())
            end_by_time(thread);
    }
}

/* When something of the thread happens next by time alone: its wait ends, or its group goes on. UINT64_MAX: never. */
static uint64_t
next_time(const struct sched_thread *thread)
{
    uint64_t at = is_timed(thread)                                            ? thread->deadline_ns
                  : thread->state == WAIT_NOT || thread->state == WAIT_DEVICE ? 0
                                                                              : UINT64_MAX;

    if (at != UINT64_MAX && is_stopped(thread) && thread->group->stopped_until_ns > at)
        at = thread->group->stopped_until_ns;
    return at;
}

/* No thread is ready: whoever waits for the device hears of it, or else the clock goes on to the next thing that happens by time. */
static void
go_to_next_time(void)
{
    struct sched_thread *waiters[THREADS_MAX];
    uint64_t next_ns = UINT64_MAX;
    size_t count = 0;

    for (size_t i = 0; i < sched.slots; i++) {
        struct sched_thread *thread = &sched.threads[i];
        uint64_t at = next_time(thread);

        if (thread->state == WAIT_DEVICE && !is_stopped(thread))
            waiters[count++] = thread;
        next_ns = at < next_ns ? at : next_ns;
    }
    if (count > 0) {
        waiters[0] = waiters[sim_rng_below(&sched.rng, count)];
        waiters[0]->alone = true;
        wake(waiters[0]);
        return;
    }
    if (next_ns == UINT64_MAX)
        fail_deadlock();
    if (*sched.settings.clock_ns < next_ns)
        *sched.settings.clock_ns = next_ns;
    end_due_waits();
}

/* No thread is ready: time passes until one is. */
static void
let_time_pass(void)
{
    struct sched_thread *sleepers[THREADS_MAX], *chosen;
    size_t count = 0;

    for (size_t i = 0; i < sched.slots; i++) {
        struct sched_thread *thread = &sched.threads[i];

        if (thread->state == WAIT_DEVICE || (thread->state == WAIT_COND && thread->timed))
            sleepers[count++] = thread;
    }
    if (count == 0)
        fail_deadlock();
    chosen = sleepers[sim_rng_below(&sched.rng, count)];
    if (chosen->state == WAIT_DEVICE) {
        chosen->alone = true;
        wake(chosen);
    } else {
        end_by_time(chosen);
    }
}

static size_t
ready_threads(struct sched_thread *ready[THREADS_MAX])
{
    size_t count = 0;

    if (sched.settings.timely)
        end_due_waits();
    for (size_t i = 0; i < sched.slots; i++) {
        struct sched_thread *thread = &sched.threads[i];

        if (thread->state == WAIT_DEVICE && thread->idle_until <= sched.steps)
            wake(thread);
        if (thread->state == WAIT_NOT && !is_stopped(thread))
            ready[count++] = thread;
    }
    return count;
}

/* Whether the running thread's priority drops here. */
static bool
change_due(void)
{
    const struct sched_settings *settings = &sched.settings;
    bool due = sched.row > ALONE_MAX;

    if (sched.steps >= sched.changes_end) {
        for (size_t i = 0; i < settings->changes; i++)
            sched.change_at[i] = sched.steps + 1 + sim_rng_below(&sched.rng, settings->change_steps);
        sched.changes_end = sched.steps + settings->change_steps;
    }
    for (size_t i = 0; i < settings->changes; i++)
        due = due || sched.change_at[i] == sched.steps;
    return due;
}

static struct sched_thread *
choose_among(struct sched_thread *const *ready, size_t count)
{
    struct sched_thread *best = ready[0];

    if (sched.settings.policy == SCHED_RANDOM) {
        if (sched.running->state == WAIT_NOT && !is_stopped(sched.running) && sched.row <= ALONE_MAX &&
            !sim_rng_chance(&sched.rng, sched.settings.switch_per_mille))
            return sched.running;
        return ready[sim_rng_below(&sched.rng, count)];
    }
    if (change_due())
        sched.running->priority = --sched.lowest;
    for (size_t i = 1; i < count; i++) {
        if (ready[i]->priority > best->priority)
            best = ready[i];
    }
    return best;
}

static struct sched_thread *
choose(void)
{
    struct sched_thread *ready[THREADS_MAX], *chosen;
    size_t count;

    sched.steps++;
    wake_without_signal();
    while ((count = ready_threads(ready)) == 0) {
        if (sched.settings.timely)
            go_to_next_time();
        else
            let_time_pass();
    }
    chosen = choose_among(ready, count);
    sched.row = chosen == sched.running ? sched.row + 1 : 0;
    sched.digest = sim_mix(sched.digest + (uint64_t)(chosen - sched.threads) + 1);
    if (sched.settings.blocks > 0)
        sched.blocks_left = sim_rng_log(&sched.rng, sched.settings.blocks);
    return chosen;
}

void
sched_enter(struct sched_thread *thread)
{
    self = thread;
    while (sem_wait(&thread->baton) != 0)
        assert(errno == EINTR);
}

void
sched_hand_over(void)
{
    struct sched_thread *me = self, *next = choose();

    if (next == me)
        return;
    if (sched.settings.trace)
        sim_log("    %s (%s) -> %s (%s)", me->name, me->doing, next->name, next->doing);
    sched.running = next;
    (void)sem_post(&next->baton);
    if (me->state != WAIT_ENDED)
        sched_enter(me);
}

void
sched_point(void)
{
    if (sched_self() != NULL)
        sched_hand_over();
}

bool
sched_idle(void)
{
    struct sched_thread *me = sched_self();

    if (me == NULL)
        return true;
    me->alone = false;
    me->state = WAIT_DEVICE;
    me->idle_until = sched.steps + sim_rng_between(&sched.rng, 1, IDLE_STEPS);
    sched_hand_over();
    return me->alone;
}

bool
sched_wait(const void *object, uint64_t deadline_ns)
{
    struct sched_thread *me = sched_self();

    me->state = WAIT_EVENT;
    me->waits_for = object;
    me->woken_by_time = false;
    me->deadline_ns = deadline_ns;
    sched_hand_over();
    return !me->woken_by_time;
}

void
sched_signal(const void *object, const struct sched_group *group)
{
    for (size_t i = 0; i < sched.slots; i++) {
        struct sched_thread *thread = &sched.threads[i];

        if (thread->state == WAIT_EVENT && (object == NULL || thread->waits_for == object) &&
            (group == NULL || thread->group == group))
            wake(thread);
    }
}

void
sched_join_group(struct sched_group *group)
{
    self->group = group;
}

/* gcc and clang call this at every basic block of code compiled with -fsanitize-coverage=trace-pc. */
void __sanitizer_cov_trace_pc(void);

void
__sanitizer_cov_trace_pc(void)
{
    if (self != NULL && sched.active && sched.blocks_left > 0 && --sched.blocks_left == 0)
        sched_hand_over();
}

void
sched_begin(const struct sched_settings *settings)
{
    assert(!sched.active && settings->changes <= sizeof(sched.change_at) / sizeof(sched.change_at[0]));
    assert(settings->threads <= THREADS_MAX);
    memset(&sched, 0, sizeof(sched));
    sched.settings = *settings;
    sched.rng = sim_rng_make(settings->seed, 6);
    sched.lowest = (uint64_t)1 << 63;
    sched.slots = settings->threads == 0 ? THREADS_USUAL : settings->threads;
    sched.active = true;
    self = sched.running = sched_add(NULL, NULL);
    self->native = pthread_self();
    if (settings->blocks > 0)
        sched.blocks_left = settings->blocks;
}

void
sched_end(void)
{
    if (self->held_count > 0)
        sim_fail("a mutex is held at the end");
    for (size_t i = 0; i < sched.slots; i++) {
        if (&sched.threads[i] != self && sched.threads[i].state != WAIT_NO_THREAD)
            sim_fail("a thread was not joined");
    }
    (void)sem_destroy(&self->baton);
    self = NULL;
    sched.active = false;
}
