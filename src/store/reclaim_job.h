/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reclaim_job.h - making room: the sealed segment with the fewest live bytes is taken, its live pages are copied to the stream of survivors, and it is
 * dropped whole.
 *
 * In the background this keeps pace with what puts append: a victim is done when they have filled half a segment since it was chosen, so the device
 * is never flooded. Who finds no room does the rest at once itself: a put is slowed, not refused. Where there is no room for survivors (the file system is full
 * below the capacity), or copying fails again and again, segments are dropped with what lives in them.
 *
 * Threads: reclaim_lock, held across I/O; who holds it takes every other lock of the store, and nothing that serves pages waits for it but puts that need room.
 */
#ifndef VARVE_STORE_RECLAIM_JOB_H
#define VARVE_STORE_RECLAIM_JOB_H

#include "varve.h"

#define RECLAIM_TRIES 3 /* failures in a row: then a segment is dropped without copying, since space is needed */

struct reclaim_job;

/*
 * The next step: choose a victim, copy some of it, or drop it. VARVE_OK, VARVE_MISS (none can be dropped), or an error; after RECLAIM_TRIES of those in a row
 * only dropping can fail.
 */
int reclaim_work(varve_store *store, varve_error *err);
/* Drop one without copying: the file system is full. As reclaim_work(). */
int reclaim_drop_one(varve_store *store, varve_error *err);
/* A step in the background, if it is time for one. VARVE_MISS: it is not. */
int reclaim_slice(varve_store *store);
/* Let go of a victim: copies made so far stay. */
void reclaim_abandon(varve_store *store);

#endif
