/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.h - the store's side of src/control/: what the windows of work were, and what becomes of decisions.
 *
 * Threads: control_slice() is background work, under slice_lock. All of struct control is guarded by control.lock, a leaf, held for some milliseconds when
 * the outlook changes, never across I/O.
 */
#ifndef VARVE_STORE_CONTROL_H
#define VARVE_STORE_CONTROL_H

#include "api/options.h"
#include "api/stats.h"
#include "base/lock.h"
#include "control/controller.h"
#include "control/measure.h"

#define CONTROL_LOG_MAX    64 /* decisions that are remembered */
#define CONTROL_LINE_BYTES 512

struct control_entry {
    uint64_t at_ns;       /* since the store was opened */
    uint64_t realtime_ns; /* since 1970 */
    struct control_decision decision;
};

struct control {
    struct mutex lock;
    struct controller *controller;
    struct control_constants constants;
    struct control_sums begin; /* of the window */
    uint64_t opened_ns;
    struct control_entry log[CONTROL_LOG_MAX];
    uint64_t logged; /* in all; the last ones are in the log */
    /* Of the file CONTROL: the tick's, and not under the lock. */
    char *earlier;        /* lines of earlier lives, as they are; NULL: none */
    size_t earlier_bytes; /* of them */
    uint64_t saved;       /* of `logged`, when it was last written */
    uint64_t saved_ns;    /* and when that was; 0: not in this life */
};

/* Memory of memtables and block cache together: what the controller divides. */
uint64_t control_memory(const struct varve_options *options);

/* With the index in place and the options settled. VARVE_OK or VARVE_E_NOMEM. */
int control_init(varve_store *store, varve_error *err);
void control_deinit(varve_store *store);

/* The options may have changed: under background.lock. */
void control_configure(varve_store *store);

/* If a window is over, judge it and do what is decided. */
void control_slice(varve_store *store);

void control_gauges(varve_store *store, struct gauges *out);

/* Remember a decision. By the tick. */
void control_log_add(varve_store *store, const struct control_decision *decision);
/* A decision as text, without a newline. */
void control_print(const struct control_entry *entry, char line[CONTROL_LINE_BYTES]);

/* Before the first decision: what the file CONTROL says of earlier lives. Nothing, if it is not there or not as it should be. */
void control_load(varve_store *store);
/* Write the file CONTROL. VARVE_OK; VARVE_MISS: there is no room for it; a code: and that failed. Losing it is harmless. */
int control_save(varve_store *store, varve_error *err);
/* Something was decided since, and it was not written a moment ago. */
bool control_save_due(varve_store *store);

/* The counters as they are. */
void control_sums_take(varve_store *store, struct control_sums *out);

#endif
