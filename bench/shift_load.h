/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load of shift_bench: conversations that grow turn by turn, and are looked for from their first page.
 *
 * Each thread has conversations of its own and draws from the seed alone, so the same settings give the same operations in the same order
 * for each conversation, whatever the store does. A put begins one, or appends one turn to any; a probe asks for the whole of one, four times of five of
 * the first `hot` ones.
 */
#ifndef VARVE_BENCH_SHIFT_LOAD_H
#define VARVE_BENCH_SHIFT_LOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "random.h"
#include "varve.h"

#define SHIFT_THREADS_MAX 16

struct shift_settings {
    uint64_t page_bytes;
    uint64_t turn;                  /* pages of a turn: one put */
    uint64_t first_turns;           /* of a conversation that begins */
    uint64_t chains;                /* conversations that may begin, of all threads */
    uint64_t hot;                   /* of them: the first ones are looked for more often */
    uint64_t preload;               /* operations before the first stage, */
    uint64_t preload_begin_percent; /* of which so many begin a conversation; the others add a turn to one */
    uint64_t threads;
    uint64_t gets; /* percent of the probes that are followed by a get of what was found */
    uint64_t seed;
};

/* Operations that belong together. */
struct shift_stage {
    uint64_t begin_percent; /* begin a conversation */
    uint64_t grow_percent;  /* add a turn to one; the rest look for one */
    uint64_t operations;    /* of all threads */
};

struct shift_load;

/* NULL: out of memory. The store is the caller's, and may be set later than the settings. */
struct shift_load *shift_load_create(const struct shift_settings *settings);
void shift_load_destroy(struct shift_load *load);
void shift_load_use(struct shift_load *load, varve_store *store, varve_namespace *ns);

/* Put the preload; or, for a store that has it, only take note of it. False: a call failed. */
bool shift_load_prepare(struct shift_load *load, bool stored);
/* Do one stage with all threads. False: a call failed, or a page that was put is not there. */
bool shift_load_run(struct shift_load *load, const struct shift_stage *stage);

#endif
