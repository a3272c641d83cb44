/* SPDX-License-Identifier: Apache-2.0 */
#include "engines/page_crew.h"

#include <stdatomic.h>
#include <stdbool.h>

struct share {
    struct crew_task task; /* first */
    struct work *work;
};

struct work {
    void (*each)(void *arg, size_t first, size_t count);
    void *arg;
    size_t count;
    size_t chunk;
    _Atomic size_t next;
};

static void
work_on(struct work *work)
{
    for (;;) {
        size_t first = atomic_fetch_add_explicit(&work->next, work->chunk, memory_order_relaxed);
        size_t left;

        if (first >= work->count)
            return;
        left = work->count - first;
        work->each(work->arg, first, left < work->chunk ? left : work->chunk);
    }
}

static void
run_share(struct crew_task *task)
{
    work_on(((struct share *)task)->work);
}

void
page_crew_run(struct crew *crew, size_t count, size_t chunk, void (*each)(void *arg, size_t first, size_t count),
              void *arg)
{
    struct work work = {.each = each, .arg = arg, .count = count, .chunk = chunk};
    struct share shares[PAGE_CREW_HELPERS];
    struct crew_group group = {0};
    size_t wanted = (count + chunk - 1) / chunk;

    for (size_t i = 0; i < PAGE_CREW_HELPERS && i + 1 < wanted; i++) {
        shares[i] = (struct share){.task = {.run = run_share}, .work = &work};
        if (!crew_offer(crew, &group, &shares[i].task))
            break;
    }
    work_on(&work);
    while (crew_wait(crew, &group) != NULL) {
    }
}
