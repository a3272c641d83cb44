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

#define CONTROL_LOG_MAX 64 /* decisions that are remembered */

struct control_entry {
    uint64_t at_ns; /* since the store was opened */
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

/* The levels as they are. */
void control_layout(varve_store *store, struct outlook_layout *layout);

#endif
