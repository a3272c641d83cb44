/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker: threads that use a store until the process is killed, or until they have made as many calls as they should, and then close it.
 *
 * Chain c of an ordinary namespace belongs to thread c % threads: only that thread puts and removes there, and may compare what it finds
 * with the ledger. Any thread may read anywhere; a clear shuts the owners out for its duration. In the wild namespace all threads put,
 * remove and clear the same pages at once.
 */
#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "soak.h"

struct worker {
    struct ledger *ledger;
    varve_store *store;
    varve_namespace *namespaces[NAMESPACES];
    pthread_rwlock_t clearing[NAMESPACES]; /* read: a call that compares with the ledger; write: a clear */
};

struct worker_thread {
    struct worker *worker;
    struct random rng;
    uint32_t number;
    uint8_t *buf;
    struct part part;
    bool owned; /* the part is this thread's to compare */
    bool found[CHAIN_PAGES];
};

static void
draw_part(struct worker_thread *self)
{
    const struct epoch *epoch = &self->worker->ledger->epoch;
    struct part *part = &self->part;

    part->ns = (uint32_t)random_below(&self->rng, NAMESPACES);
    part->chain = (uint32_t)random_below(&self->rng, epoch->chains);
    if (part->ns != WILD_NAMESPACE && random_below(&self->rng, 4) > 0) /* most of the time, one of its own */
        part->chain = part->chain / epoch->threads * epoch->threads + self->number;
    part->chain %= epoch->chains;
    part->first = random_below(&self->rng, 2) == 0 ? 0 : (uint32_t)random_below(&self->rng, CHAIN_PAGES);
    part->count = 1 + (uint32_t)random_below(&self->rng, CHAIN_PAGES - part->first);
    if (part->count > 8 && random_below(&self->rng, 2) == 0)
        part->count = 8;
    self->owned = part->ns != WILD_NAMESPACE && part->chain % epoch->threads == self->number;
    part_make(part, epoch, self->buf, random_below(&self->rng, 3) == 0 ? 8 : 0);
}

static _Atomic uint8_t *
state_of(struct worker_thread *self, uint32_t i)
{
    return &self->worker->ledger->state[page_index(self->part.ns, self->part.chain, self->part.first + i)];
}

/* A call ended with rc: is that in order? */
static bool
call_done(struct worker_thread *self, const char *what, int64_t rc, const varve_error *err)
{
    struct ledger *ledger = self->worker->ledger;

    if (rc >= 0)
        return true;
    if (!soak_full_code(ledger, (int)rc))
        ledger_fail(ledger, "%s: %s", what, err->message);
    return false;
}

static void
do_put(struct worker_thread *self)
{
    struct ledger *ledger = self->worker->ledger;
    unsigned flags = random_below(&self->rng, 20) == 0 ? VARVE_PUT_SYNC : 0;

    if (self->part.ns != WILD_NAMESPACE && !self->owned)
        return;
    if (atomic_load(&ledger->put_bytes) > ledger->epoch.put_budget)
        return;
    if (part_put(&self->part, ledger, self->worker->store, self->worker->namespaces[self->part.ns], flags))
        atomic_fetch_add(&ledger->totals.batches, 1);
    else
        atomic_fetch_add(&ledger->totals.refused_puts, 1);
}

static void
do_get(struct worker_thread *self)
{
    struct ledger *ledger = self->worker->ledger;

    (void)part_get(&self->part, ledger, self->worker->store, self->worker->namespaces[self->part.ns], self->found);
    atomic_fetch_add(&ledger->totals.gets, 1);
    if (self->owned)
        part_expect(&self->part, ledger, self->found, "get");
}

/* probe says how long the prefix is; exists, which pages there are; both must agree with the ledger. */
static void
do_probe(struct worker_thread *self, bool touch)
{
    struct worker *worker = self->worker;
    const struct part *part = &self->part;
    varve_namespace *ns = worker->namespaces[part->ns];
    varve_error err = {0};
    int64_t count = touch ? varve_touch(worker->store, ns, part->ids, part->count, &err)
                          : varve_probe(worker->store, ns, part->ids, part->count, NULL, &err);

    if (!call_done(self, touch ? "touch" : "probe", count, &err) || touch || !self->owned)
        return;
    for (uint32_t i = 0; i < part->count; i++)
        self->found[i] = i < count || ((int64_t)i > count && atomic_load(state_of(self, i)) == PAGE_PRESENT);
    part_expect(part, worker->ledger, self->found, "probe");
}

static void
do_exists(struct worker_thread *self)
{
    struct worker *worker = self->worker;
    const struct part *part = &self->part;
    uint8_t exists[CHAIN_PAGES];
    varve_error err = {0};

    if (!call_done(
            self, "exists",
            varve_exists_batch(worker->store, worker->namespaces[part->ns], part->ids, part->count, exists, &err),
            &err))
        return;
    for (uint32_t i = 0; i < part->count; i++)
        self->found[i] = exists[i] != 0;
    if (self->owned)
        part_expect(part, worker->ledger, self->found, "exists");
}

static void
do_remove(struct worker_thread *self)
{
    struct worker *worker = self->worker;
    const struct part *part = &self->part;
    varve_error err = {0};
    int64_t removed;

    if (part->ns != WILD_NAMESPACE && !self->owned)
        return;
    for (uint32_t i = 0; i < part->count; i++) {
        uint8_t present = PAGE_PRESENT;

        (void)atomic_compare_exchange_strong(state_of(self, i), &present, PAGE_MAYBE);
    }
    removed = varve_remove_batch(worker->store, worker->namespaces[part->ns], part->ids, part->count, &err);
    if (!call_done(self, "remove", removed, &err))
        return;
    for (uint32_t i = 0; i < part->count; i++)
        atomic_store(state_of(self, i), PAGE_ABSENT);
    atomic_fetch_add(&worker->ledger->totals.removals, (uint64_t)removed);
}

/* Caller holds the write lock of an ordinary namespace. */
static void
do_clear(struct worker_thread *self)
{
    struct worker *worker = self->worker;
    struct ledger *ledger = worker->ledger;
    size_t from = page_index(self->part.ns, 0, 0);
    varve_error err = {0};

    for (size_t i = from; i < from + (size_t)CHAINS * CHAIN_PAGES; i++) {
        uint8_t present = PAGE_PRESENT;

        (void)atomic_compare_exchange_strong(&ledger->state[i], &present, PAGE_MAYBE);
    }
    if (!call_done(self, "clear", varve_namespace_clear(worker->store, worker->namespaces[self->part.ns], &err), &err))
        return;
    for (size_t i = from; i < from + (size_t)CHAINS * CHAIN_PAGES; i++)
        atomic_store(&ledger->state[i], PAGE_ABSENT);
    atomic_fetch_add(&ledger->totals.clears, 1);
}

static void
do_sync(struct worker_thread *self)
{
    varve_error err = {0};

    if (call_done(self, "sync", varve_sync(self->worker->store, &err), &err))
        atomic_fetch_add(&self->worker->ledger->totals.syncs, 1);
}

static void
one_call(struct worker_thread *self)
{
    uint64_t kind = random_below(&self->rng, 1000);
    pthread_rwlock_t *lock;

    draw_part(self);
    lock = &self->worker->clearing[self->part.ns];
    if (self->worker->namespaces[self->part.ns] == NULL)
        return; /* could not be made on a full disk */
    if (kind >= 996 && self->part.ns != WILD_NAMESPACE)
        (void)pthread_rwlock_wrlock(lock);
    else
        (void)pthread_rwlock_rdlock(lock);
    if (kind < 420)
        do_put(self);
    else if (kind < 640)
        do_get(self);
    else if (kind < 760)
        do_probe(self, false);
    else if (kind < 800)
        do_probe(self, true);
    else if (kind < 850)
        do_exists(self);
    else if (kind < 980)
        do_remove(self);
    else if (kind < 996)
        do_sync(self);
    else
        do_clear(self);
    (void)pthread_rwlock_unlock(lock);
}

static void *
worker_thread_run(void *arg)
{
    struct worker_thread *self = arg;
    struct ledger *ledger = self->worker->ledger;
    uint64_t first = atomic_load(&ledger->calls);

    while (ledger->life_calls == 0 || atomic_load(&ledger->calls) < first + ledger->life_calls) {
        one_call(self);
        atomic_fetch_add(&ledger->calls, 1);
    }
    return NULL;
}

static void
run_threads(struct worker *worker)
{
    static struct worker_thread threads[THREADS_MAX];
    pthread_t ids[THREADS_MAX];
    uint32_t count = worker->ledger->epoch.threads;

    assert(count >= 1 && count <= THREADS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        threads[i] = (struct worker_thread){.worker = worker, .number = i};
        threads[i].rng = random_make(worker->ledger->life_seed + i + 1);
        threads[i].buf = aligned_alloc(4096, BATCH_BYTES);
        if (threads[i].buf == NULL || pthread_create(&ids[i], NULL, worker_thread_run, &threads[i]) != 0)
            abort();
    }
    for (uint32_t i = 0; i < count; i++) {
        (void)pthread_join(ids[i], NULL);
        free(threads[i].buf);
    }
}

static void
count_work(struct totals *totals, varve_store *store)
{
    atomic_fetch_add(&totals->dropped_segments, soak_stat(store, "segments_dropped"));
    atomic_fetch_add(&totals->flushes, soak_stat(store, "index_flushes"));
    atomic_fetch_add(&totals->merges, soak_stat(store, "index_merges"));
}

int
worker_run(struct ledger *ledger)
{
    static struct worker worker;
    struct random rng = random_make(ledger->life_seed);
    varve_error err = {0};
    int rc;

    worker.ledger = ledger;
    for (size_t i = 0; i < NAMESPACES; i++)
        (void)pthread_rwlock_init(&worker.clearing[i], NULL);
    atomic_store(&ledger->phase, PHASE_OPENING);
    rc = soak_open(&ledger->epoch, &rng, random_below(&rng, 4) > 0, &worker.store, &err);
    if (rc != VARVE_OK) {
        if (!soak_full_code(ledger, rc))
            ledger_fail(ledger, "open: %d %s", rc, err.message);
        return ROLE_REFUSED;
    }
    soak_namespaces(ledger, worker.store, worker.namespaces);
    atomic_store(&ledger->phase, PHASE_WORKING);
    run_threads(&worker);
    count_work(&ledger->totals, worker.store);
    atomic_store(&ledger->phase, PHASE_CLOSING);
    rc = varve_close(worker.store, &err);
    if (rc != VARVE_OK && !soak_full_code(ledger, rc))
        ledger_fail(ledger, "close: %d %s", rc, err.message);
    return ROLE_OK;
}
