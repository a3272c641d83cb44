/* SPDX-License-Identifier: Apache-2.0 */
/* A queue that is never longer than the number of free helpers: each task in it has a helper that is about to take it. */
#include "codec/crew.h"

#include <signal.h>
#include <stddef.h>

void
crew_init(struct crew *crew, uint32_t helper_max)
{
    assert(helper_max <= CREW_HELPERS_MAX);
    mutex_init(&crew->lock);
    cond_init(&crew->work);
    cond_init(&crew->done);
    crew->queue = NULL;
    crew->queue_end = &crew->queue;
    crew->queued = 0;
    crew->free = crew->helper_max = helper_max;
    crew->helper_count = 0;
    crew->stop = false;
}

void
crew_deinit(struct crew *crew)
{
    mutex_lock(&crew->lock);
    assert(crew->queued == 0);
    crew->stop = true;
    cond_broadcast(&crew->work);
    mutex_unlock(&crew->lock);
    for (uint32_t i = 0; i < crew->helper_count; i++)
        lock_must(pthread_join(crew->helpers[i], NULL));
    cond_deinit(&crew->done);
    cond_deinit(&crew->work);
    mutex_deinit(&crew->lock);
}

static void *
helper_main(void *arg)
{
    struct crew *crew = arg;

    mutex_lock(&crew->lock);
    while (!crew->stop) {
        struct crew_task *task = crew->queue;

        if (task == NULL) {
            cond_wait(&crew->work, &crew->lock);
            continue;
        }
        crew->queue = task->next;
        if (crew->queue == NULL)
            crew->queue_end = &crew->queue;
        crew->queued--;
        crew->free--;
        mutex_unlock(&crew->lock);
        task->run(task);
        mutex_lock(&crew->lock);
        crew->free++;
        task->group->pending--;
        task->next = task->group->done;
        task->group->done = task;
        cond_broadcast(&crew->done);
    }
    mutex_unlock(&crew->lock);
    return NULL;
}

/* Start one more; lock held. Signals are for the host's threads, not for ours. */
static void
start_helper(struct crew *crew)
{
    sigset_t all, before;
    bool started;

    (void)sigfillset(&all);
    lock_must(pthread_sigmask(SIG_SETMASK, &all, &before));
    started = pthread_create(&crew->helpers[crew->helper_count], NULL, helper_main, crew) == 0;
    lock_must(pthread_sigmask(SIG_SETMASK, &before, NULL));
    if (!started) { /* the callers do it alone, then */
        crew->free -= crew->helper_max - crew->helper_count;
        crew->helper_max = crew->helper_count;
        return;
    }
    (void)pthread_setname_np(crew->helpers[crew->helper_count], "varve-codec");
    crew->helper_count++;
}

bool
crew_offer(struct crew *crew, struct crew_group *group, struct crew_task *task)
{
    bool taken;

    task->next = NULL;
    task->group = group;
    mutex_lock(&crew->lock);
    /* All that were started run something, or are about to, and one more may be? */
    if (crew->queued < crew->free && crew->queued + crew->helper_max - crew->free >= crew->helper_count)
        start_helper(crew);
    taken = crew->queued < crew->free;
    if (taken) {
        *crew->queue_end = task;
        crew->queue_end = &task->next;
        crew->queued++;
        group->pending++;
        cond_signal(&crew->work);
    }
    mutex_unlock(&crew->lock);
    return taken;
}

static struct crew_task *
collect(struct crew_group *group)
{
    struct crew_task *task = group->done;

    if (task != NULL)
        group->done = task->next;
    return task;
}

struct crew_task *
crew_collect(struct crew *crew, struct crew_group *group)
{
    struct crew_task *task;

    mutex_lock(&crew->lock);
    task = collect(group);
    mutex_unlock(&crew->lock);
    return task;
}

struct crew_task *
crew_wait(struct crew *crew, struct crew_group *group)
{
    struct crew_task *task;

    mutex_lock(&crew->lock);
    while ((task = collect(group)) == NULL && group->pending > 0)
        cond_wait(&crew->done, &crew->lock);
    mutex_unlock(&crew->lock);
    return task;
}
