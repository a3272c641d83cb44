/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_view.h - several processes on one simulated disk: each has a view, with an env, files, queues and memory of its own, and can be killed alone.
 *
 * From the moment of a kill nothing that the process still does has an effect: its threads come back by their error paths. What it had in flight
 * may reach the disk until the kill is settled; its locks are held until then. As with a kernel, which ends the I/O of a process before it closes its files.
 */
#ifndef VARVE_SIM_VIEW_H
#define VARVE_SIM_VIEW_H

#include "sim_disk.h"

struct sim_view *sim_view_create(struct sim_disk *disk);
/* It holds nothing any more, and is settled if it was killed. */
void sim_view_destroy(struct sim_view *view);

void sim_view_kill(struct sim_view *view);
/* Each write that was in flight is done now, in part, or never; locks go. */
void sim_view_settle(struct sim_view *view, struct sim_rng *rng);
/* The power fails before that: it decides, with all else (sim_disk_crash()). The world has stopped. */
void sim_view_forsake(struct sim_view *view);

/* An open file that travels from one process to another. */
struct sim_parcel {
    struct sim_inode *inode; /* NULL: none. One of its handles */
    char name[SIM_NAME_MAX];
    bool direct;
};
struct sim_parcel sim_parcel_pack(const struct env_file *base);
struct env_file *sim_parcel_unpack(struct sim_parcel *parcel, struct sim_view *view);
void sim_parcel_drop(struct sim_parcel *parcel);

/* As those of struct env_share_ops. */
int sim_view_lock(struct env *env, const char *name, bool shared, struct env_file **out);
int sim_view_lock_shared(struct env_file *base);
void sim_view_unlock(struct env_file *base);

#endif
