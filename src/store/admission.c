/* SPDX-License-Identifier: Apache-2.0 */
/* Admission: how much of a put the write budget allows. The decision is src/reclaim/write_budget.h's; here is what it is made of. */
#include "store/store.h"

uint64_t
admission_written(varve_store *store)
{
    const struct counters *counters = &store->counters;

    return atomic_load_explicit(&counters->log_bytes_written, memory_order_relaxed) +
           atomic_load_explicit(&counters->manifest_bytes_written, memory_order_relaxed) +
           atomic_load_explicit(&counters->heat_bytes_written, memory_order_relaxed) +
           index_bytes_written(store->index);
}

/*
 * Charge the budget for what was written beyond what the pages of puts have; below 0: they were written in fewer bytes. A put counts what it wrote before what
 * it stored, so nothing seems saved that is only not counted yet. admission.lock held.
 */
static void
charge_others(varve_store *store)
{
    struct admission *admission = &store->admission;
    uint64_t stored = atomic_load_explicit(&store->counters.put_bytes, memory_order_acquire);
    int64_t others = (int64_t)(admission_written(store) - stored);

    write_budget_charge(&admission->budget, others - admission->noted);
    admission->noted = others;
}

void
admission_set(varve_store *store, uint64_t day_bytes)
{
    mutex_lock(&store->admission.lock);
    charge_others(store);
    write_budget_set(&store->admission.budget, day_bytes, store->env->ops->now_ns(store->env));
    mutex_unlock(&store->admission.lock);
}

uint64_t
admission_day_bytes(varve_store *store)
{
    uint64_t day_bytes;

    mutex_lock(&store->admission.lock);
    day_bytes = store->admission.budget.day_bytes;
    mutex_unlock(&store->admission.lock);
    return day_bytes;
}

size_t
admission_admit(varve_store *store, varve_page *const *pages, size_t count)
{
    struct admission *admission = &store->admission;
    uint64_t now_ns = store->env->ops->now_ns(store->env), bytes = 0;
    size_t admitted;

    mutex_lock(&admission->lock);
    charge_others(store);
    admitted = write_budget_admit(&admission->budget, now_ns, count);
    for (size_t i = 0; i < admitted; i++)
        bytes += pages[i]->size;
    write_budget_charge(&admission->budget, (int64_t)bytes);
    mutex_unlock(&admission->lock);
    return admitted;
}
