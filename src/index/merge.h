/* SPDX-License-Identifier: Apache-2.0 */
/*
 * merge.h - turning a frozen memtable, or several runs, into one run: a state machine that does a slice of the work at
 * each call.
 *
 *   merge_create()   takes capacity, creates the output file
 *   merge_step()     until it says that all input was used
 *   merge_commit()   makes the output durable, commits the edit, changes the view
 *   merge_destroy()  always; undoes what was not committed
 *
 * Entries of dropped segments and of cleared namespaces are left out, repeated ones come once, and parts of an extent
 * are joined. Threads: one at a time (the store's tick).
 */
#ifndef VARVE_INDEX_MERGE_H
#define VARVE_INDEX_MERGE_H

#include "index/view.h"

/* Tries that a damaged block is given. */
#define MERGE_TRIES 3

struct merge;

/*
 * Inputs: `memtable`, or the runs marked in `picked` of `view` (an array as long as view->run_count). `level` is the
 * output's.
 */
struct merge_inputs {
    struct memtable *memtable; /* or NULL */
    struct index_view *view;
    const struct level_run *picked;
    uint32_t level;
};

int merge_create(struct index *index, const struct merge_inputs *inputs, struct merge **out, varve_error *err);
/* Use about budget_bytes of input from run files. VARVE_OK; VARVE_MISS: all was used; or an error. */
int merge_step(struct merge *merge, uint64_t budget_bytes, varve_error *err);
int merge_commit(struct merge *merge, varve_error *err);
void merge_destroy(struct merge *merge);
/* Number of the file that it writes. */
uint64_t merge_output_number(const struct merge *merge);

#endif
