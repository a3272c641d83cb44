/* SPDX-License-Identifier: Apache-2.0 */
/*
 * script_run.h - runs a script on a store, judges every answer with the oracle, and writes down what a client sees.
 *
 * The store is on a simulated disk, where crashes are resolved by chance from the seed, or in a real directory, where the script has none.
 * The history has a line an operation: the operation, and its statuses, sizes and a digest of the bytes. It depends on the script alone.
 */
#ifndef VARVE_SIM_SCRIPT_RUN_H
#define VARVE_SIM_SCRIPT_RUN_H

#include "script.h"

struct script_run {
    const struct script *script;
    const struct script_options *options;
    struct sim_disk *disk; /* NULL: a real directory */
    const char *path;      /* the directory, and the io_engine on it */
    const char *engine;
    struct oracle *oracle;
    varve_store *store;
    varve_namespace *namespaces[SCRIPT_NAMESPACES];
    enum sim_crash_mode mode; /* of the crash that is armed */
    uint64_t crash_seed;
    bool lose_all; /* a power failure takes everything that was not synced, instead of some of it by chance */
    uint64_t crashes;
    FILE *history; /* NULL: not written */
    /* NULL, or called when the run has failed, before the process ends. */
    void (*on_failure)(const struct script_run *run);
    /* NULL, or asked when the armed crash was resolved: whether what it left was seen before. The run then ends there. */
    bool (*known)(const struct script_run *run);
    bool ended;
};

/* Where a run takes place, and what it writes; fields as in struct script_run. */
struct script_place {
    const struct script_options *options; /* NULL: those of the script */
    const char *path, *engine;            /* NULL: a simulated disk */
    uint64_t seed;
    FILE *history;
    void (*on_failure)(const struct script_run *run);
};

/* Open an empty store. The script outlives the run. */
void script_run_begin(struct script_run *run, const struct script *script, const struct script_place *place);
/* Crash at the `after`-th change of the disk from now (0: never): script_run_op() recovers and verifies when it comes. */
void script_run_arm(struct script_run *run, enum sim_crash_mode mode, uint64_t after);
void script_run_op(struct script_run *run, const struct script_op *op);
/* Compare every page with the oracle; the store checks itself; no two branches have one number; no file but those of the manifest. */
void script_run_verify(struct script_run *run);
/* Put every page, and read it back: a store that lost something is as good as any other. */
void script_run_refill(struct script_run *run);
/* Verify, close, open, verify, refill, close. */
void script_run_finish(struct script_run *run);
/* Free everything; the store, if it is open, as if the process had died. */
void script_run_end(struct script_run *run);
/* All of the above but for script_run_arm(). Returns how often the run crashed. */
uint64_t script_run_all(const struct script *script, const struct script_place *place);

/* Whether failures of calls are explained by a crash. */
bool script_run_stopped(const struct script_run *run);
/* The run failed. */
void script_fail(struct script_run *run, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
/* A call may fail only because the world stopped. */
void script_expect(struct script_run *run, int64_t rc, const char *call, const varve_error *err);

/* script_calls.c */
void script_call_put(struct script_run *run, const struct script_op *op);
void script_call_get(struct script_run *run, const struct script_op *op);
void script_call_probe(struct script_run *run, const struct script_op *op);
void script_call_exists(struct script_run *run, const struct script_op *op);
void script_call_touch(struct script_run *run, const struct script_op *op);
void script_call_remove(struct script_run *run, const struct script_op *op);
void script_call_clear(struct script_run *run, const struct script_op *op);
void script_call_list(struct script_run *run, const struct script_op *op);
/* A piece of the history's line. */
void script_note(struct script_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
