/* SPDX-License-Identifier: Apache-2.0 */
/* sim_internal.h - what the parts of the simulated disk share; the driver and the tests need only sim_disk.h. */
#ifndef VARVE_SIM_INTERNAL_H
#define VARVE_SIM_INTERNAL_H

#include "sim_disk.h"

/* A violation of the env's contract by the engine: counted and logged. */
void sim_violation(struct sim_disk *disk, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Grow or cut to `size`; new bytes are zero. */
void sim_bytes_resize(struct sim_bytes *bytes, size_t size);
void sim_bytes_write(struct sim_bytes *bytes, uint64_t offset, const uint8_t *data, size_t size);

struct sim_inode *sim_dir_find(const struct sim_dir *dir, const char *name);
/* NULL inode: remove the name. */
void sim_dir_set(struct sim_dir *dir, const char *name, struct sim_inode *inode);
void sim_dir_copy(struct sim_dir *to, const struct sim_dir *from);
/* Carry one operation out. Works whether or not those before it were: the inode comes with it. */
void sim_dir_apply(struct sim_dir *dir, const struct sim_dir_op *op);
struct sim_dir_op *sim_dir_op_add(struct sim_disk *disk, enum sim_dir_kind kind, const char *name,
                                  struct sim_inode *inode);

struct sim_inode *sim_inode_create(struct sim_disk *disk);
/* Data is copied. */
struct sim_change *sim_change_add(struct sim_inode *inode, uint64_t offset, const uint8_t *data, size_t size);
void sim_change_add_length(struct sim_inode *inode, uint64_t length);
/* A sync: the durable bytes become the current ones. */
void sim_make_durable(struct sim_inode *inode);
void sim_changes_clear(struct sim_inode *inode);
/* Free inodes that nothing names or holds open. */
void sim_disk_collect(struct sim_disk *disk);

/* What is in flight on the open queues becomes unsynced changes marked in_flight. */
void sim_queues_capture(struct sim_disk *disk);
/* What one process has in flight is the view's orphans. */
void sim_queues_orphan(struct sim_view *view);

/* The fault that hits this operation, or NULL. */
const struct sim_fault *sim_fault_match(struct sim_disk *disk, enum sim_op op, const char *name);

/* An open file: a lock, too, is one. */
struct sim_file {
    struct env_file base;
    struct sim_file *next; /* of the view's */
    struct sim_inode *inode;
    char name[SIM_NAME_MAX]; /* it was opened under */
    bool direct, read_only;
    bool holds_lock, holds_shared;
    bool closed; /* by a dead process that holds a lock still */
};

static inline struct sim_view *
sim_view_of(struct env *env)
{
    return (struct sim_view *)(void *)env;
}

/* Open the file for the view. */
struct sim_file *sim_file_create(struct sim_view *view, const char *name, struct sim_inode *inode);
void sim_file_unlock(struct sim_file *file);
void sim_file_destroy(struct sim_file *file);
/* Apply a write that was not cut short by anything. */
void sim_write_apply(struct sim_disk *disk, struct sim_inode *inode, uint64_t offset, const uint8_t *data, size_t size);

/* The world has stopped, or this process is no more. */
static inline bool
sim_is_down(const struct sim_view *view)
{
    return view->dead || view->disk->stopped;
}

enum sim_gate {
    SIM_GATE_GO,      /* carry the change out */
    SIM_GATE_STOPPED, /* the world has stopped: -EIO */
    SIM_GATE_LAST,    /* the world stops with this one: record it as in flight, then -EIO */
};

/* Every change of state passes here, and is counted. */
enum sim_gate sim_gate(struct sim_view *view);
/* Calls that change nothing: whether they are still answered. */
bool sim_alive(struct sim_view *view);
/* 0, or -ENOSPC: whether the file system has room for the file to grow to `size`. */
int sim_room(struct sim_disk *disk, const struct sim_inode *inode, uint64_t size);
/* The highest use of space there was. */
void sim_note_used(struct sim_disk *disk);

/* The queue calls of the env (sim_io.c). */
int sim_queue_open(struct env *env, struct env_queue **out);
void sim_queue_close(struct env_queue *base);
void sim_submit(struct env_queue *base, struct env_io *io);
void sim_wait(struct env_queue *base, uint32_t at_least);

extern const struct env_ops sim_env_ops;

#endif
