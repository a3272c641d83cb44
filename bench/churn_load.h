/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load of churn_bench: a writer at a fixed rate, readers of whole chains, and a sampler of what the directory takes.
 *
 * Chain c is made of the ids drawn from (seed, c). Every KEPT_EVERYth is kept: it belongs to a working set that is read again and again, until younger ones take
 * its place. So what reclaim takes holds live pages in between dead ones. The readers' other half are the youngest chains.
 *
 * Threads: load_start() makes all; the settings do not change after it. What a phase counts belongs to load->lock.
 */
#ifndef VARVE_BENCH_CHURN_LOAD_H
#define VARVE_BENCH_CHURN_LOAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "histogram.h"
#include "page_buffers.h"
#include "varve.h"

#define READERS_MAX 64
#define SAMPLES_MAX 100000
#define SAMPLE_MS   50
#define KEPT_EVERY  8

/* What happened in one phase, or in all of its rounds. */
struct phase_counts {
    struct histogram get_ns, put_ns;
    uint64_t missing_pages; /* of those asked for */
    uint64_t refused_pages;
};

struct sample {
    uint64_t ms, bytes, capacity, phase;
};

struct load_settings {
    const char *path;
    uint64_t page_bytes, chain, readers, seed;
    uint64_t
        window; /* chains from the youngest back that are read; the kept ones are from a stretch of KEPT_WINDOWS times that */
    double rate; /* bytes put a second */
    double gets; /* calls a second of each reader; 0: without pause */
};

struct load {
    struct load_settings settings;
    varve_store *store;
    varve_namespace *ns;
    struct page_buffers pool; /* what is put */
    _Atomic uint64_t chains;  /* put so far */
    atomic_bool stop, writing, reading;
    _Atomic uint64_t capacity; /* for the samples */
    _Atomic uint64_t phase;    /* 0: not measured */
    atomic_bool failed;
    pthread_mutex_t lock;
    struct phase_counts counts;
    pthread_t threads[READERS_MAX + 2];
    size_t thread_count;
    uint64_t begin_ns;
    struct sample *samples;
    size_t sample_count;
};

/* The store, the namespace, the settings and the pool are set. False: out of memory, or of threads. */
bool load_start(struct load *load);
void load_stop(struct load *load);

/* Put the next chain, on the calling thread. */
bool load_put(struct load *load);

/* What the threads count from now on belongs to `phase`, and starts at nothing. */
void load_begin_phase(struct load *load, uint64_t phase);
/* Add what was counted to *into; nothing is counted any more. */
void load_end_phase(struct load *load, struct phase_counts *into);

#endif
