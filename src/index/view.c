/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of the index; see view.h. A view's memory is allocated before the change that it is for is committed, so
 * that publishing cannot fail. Files go when the last reference goes, on whatever thread that is, never under the
 * lock.
 */
#include "index/view.h"

#include <assert.h>

struct index_view *
view_create(struct index *index, uint32_t runs)
{
    struct index_view *view = env_zalloc(index->env, sizeof(*view) + runs * sizeof(struct run *));

    if (view == NULL)
        return NULL;
    view->index = index;
    view->run_capacity = runs;
    (void)atomic_fetch_add_explicit(&index->view_count, 1, memory_order_relaxed);
    atomic_init(&view->refs, 1);
    return view;
}

struct index_view *
index_view_acquire(struct index *index)
{
    struct index_view *view;

    mutex_lock(&index->lock);
    view = index->view;
    (void)atomic_fetch_add_explicit(&view->refs, 1, memory_order_relaxed);
    mutex_unlock(&index->lock);
    return view;
}

void
index_view_release(struct index_view *view)
{
    if (atomic_fetch_sub_explicit(&view->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < view->memtable_count; i++)
        memtable_unref(view->memtables[i]);
    for (uint32_t i = 0; i < view->run_count; i++)
        run_unref(view->runs[i]);
    (void)atomic_fetch_sub_explicit(&view->index->view_count, 1, memory_order_release);
    env_free(view->index->env, view);
}

bool
index_has_old_views(struct index *index)
{
    return atomic_load_explicit(&index->view_count, memory_order_acquire) > 1;
}

uint32_t
view_run_count(struct index *index)
{
    uint32_t count;

    mutex_lock(&index->lock);
    count = index->view->run_count;
    mutex_unlock(&index->lock);
    return count;
}

static bool
contains(struct run *const *runs, size_t count, const struct run *run)
{
    for (size_t i = 0; i < count; i++) {
        if (runs[i] == run)
            return true;
    }
    return false;
}

/* Insert in order: deep levels first, they hold most pages. */
static void
add_run(struct index_view *view, struct run *run)
{
    uint32_t at = view->run_count;

    assert(at < view->run_capacity);
    while (at > 0 && view->runs[at - 1]->meta.level < run->meta.level) {
        view->runs[at] = view->runs[at - 1];
        at--;
    }
    view->runs[at] = run;
    view->run_count++;
    run_ref(run);
}

static void
add_memtable(struct index_view *view, struct memtable *memtable)
{
    assert(view->memtable_count <= VIEW_FROZEN_MAX);
    view->memtables[view->memtable_count++] = memtable;
    memtable_ref(memtable);
}

bool
view_publish(struct index *index, struct index_view *next, const struct view_change *change)
{
    struct index_view *old;

    mutex_lock(&index->lock);
    old = index->view;
    if (old->run_count - change->removed_count + (change->run != NULL) > next->run_capacity) {
        mutex_unlock(&index->lock);
        return false;
    }
    if (change->active != NULL)
        add_memtable(next, change->active);
    for (uint32_t i = 0; i < old->memtable_count; i++) {
        if (old->memtables[i] != change->dropped_memtable)
            add_memtable(next, old->memtables[i]);
    }
    for (uint32_t i = 0; i < old->run_count; i++) {
        if (contains(change->removed, change->removed_count, old->runs[i]))
            run_mark_obsolete(old->runs[i]);
        else
            add_run(next, old->runs[i]);
    }
    if (change->run != NULL)
        add_run(next, change->run);
    index->view = next;
    mutex_unlock(&index->lock);
    index_view_release(old);
    return true;
}

size_t
index_view_runs(struct index_view *view, struct run_meta *out, size_t capacity)
{
    for (size_t i = 0; i < view->run_count && i < capacity; i++)
        out[i] = view->runs[i]->meta;
    return view->run_count;
}
