/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_log.h - the operation log of a run: its last lines are kept in memory and printed, with the line that reproduces the run,
 * when something is wrong. The simulation is single-threaded, so the log is one per process.
 */
#ifndef VARVE_SIM_LOG_H
#define VARVE_SIM_LOG_H

#include <stdbool.h>
#include <stddef.h>

/* Forget what was logged. `repro` (copied) is the command line that repeats the run that begins. */
void sim_log_begin(const char *repro);

/* Also print every line at once. */
void sim_log_verbose(bool on);

void sim_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The run failed: print the last lines of the log, why, and how to repeat it; exit with status 1. */
void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Memory for the simulation itself: never NULL. */
void *sim_alloc(size_t size);
void *sim_realloc(void *ptr, size_t size);

/* The run must end within `seconds`, or it fails: it spins, or waits for ever. */
void sim_watchdog(unsigned seconds);

#endif
