/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The env calls of the simulated disk, but for the queues: files, directory, clock, memory. Each change of state passes sim_gate(): one
 * of them may be the last. From then on every call gives -EIO, so that the engine comes back to the driver by its own error paths.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_internal.h"
#include "sim_log.h"

/* An engine that still calls after so many -EIO will never return. */
#define CALLS_AFTER_STOP_MAX 2000000

#define FILL_MAX 65536 /* bytes of fresh memory that are made garbage: all of any structure */

static struct sim_disk *
disk_of(struct env *env)
{
    return sim_view_of(env)->disk;
}

static struct sim_file *
file_of(struct env_file *file)
{
    return (struct sim_file *)(void *)file;
}

bool
sim_alive(struct sim_view *view)
{
    struct sim_disk *disk = view->disk;

    disk->now_ns += 100;
    if (!sim_is_down(view))
        return true;
    if (++disk->calls_after_stop > CALLS_AFTER_STOP_MAX)
        sim_fail("the engine goes on and on after every call failed");
    return false;
}

enum sim_gate
sim_gate(struct sim_view *view)
{
    struct sim_disk *disk = view->disk;

    if (!sim_alive(view))
        return SIM_GATE_STOPPED;
    disk->now_ns += sim_rng_between(&disk->rng, 1000, 50000);
    disk->changes++;
    if (disk->changes != disk->crash_at)
        return SIM_GATE_GO;
    sim_disk_stop(disk);
    return SIM_GATE_LAST;
}

int
sim_room(struct sim_disk *disk, const struct sim_inode *inode, uint64_t size)
{
    if (disk->settings.size_bytes == 0 || size <= inode->current.size)
        return 0;
    if (sim_disk_used(disk) + (size - inode->current.size) <= disk->settings.size_bytes)
        return 0;
    disk->hits.no_space++;
    return -ENOSPC;
}

void
sim_note_used(struct sim_disk *disk)
{
    uint64_t used = sim_disk_used(disk);

    if (used > disk->used_max)
        disk->used_max = used;
    if (disk->on_used != NULL)
        disk->on_used(disk->on_used_arg, used);
}

static int
fault_error(struct sim_disk *disk, enum sim_op op, const char *name)
{
    const struct sim_fault *fault = sim_fault_match(disk, op, name);

    return fault == NULL ? 0 : -fault->error;
}

/* Make the directory entry; the inode exists. */
static int
create_entry(struct sim_view *view, const char *name, struct sim_inode **out)
{
    struct sim_disk *disk = view->disk;
    enum sim_gate gate = sim_gate(view);
    struct sim_dir_op *op;
    int rc;

    if (gate == SIM_GATE_STOPPED)
        return -EIO;
    rc = fault_error(disk, SIM_OP_CREATE, name);
    if (rc < 0)
        return rc;
    *out = sim_inode_create(disk);
    op = sim_dir_op_add(disk, SIM_DIR_CREATE, name, *out);
    if (gate == SIM_GATE_LAST) {
        op->in_flight = true;
        return -EIO;
    }
    sim_dir_apply(&disk->current, op);
    return 0;
}

struct sim_file *
sim_file_create(struct sim_view *view, const char *name, struct sim_inode *inode)
{
    struct sim_file *file = sim_alloc(sizeof(*file));

    file->base.env = &view->env;
    file->inode = inode;
    file->next = view->files;
    view->files = file;
    (void)snprintf(file->name, sizeof(file->name), "%s", name);
    inode->handles++;
    view->held++;
    view->disk->handles_open++;
    return file;
}

void
sim_file_unlock(struct sim_file *file)
{
    if (file->holds_lock)
        file->inode->locked = false;
    if (file->holds_shared)
        file->inode->sharers--;
    file->holds_lock = file->holds_shared = false;
}

void
sim_file_destroy(struct sim_file *file)
{
    struct sim_view *view = sim_view_of(file->base.env);
    struct sim_file **link = &view->files;

    while (*link != file)
        link = &(*link)->next;
    *link = file->next;
    assert(file->inode->handles > 0);
    file->inode->handles--;
    free(file);
}

static int
sim_open(struct env *env, const char *name, unsigned flags, struct env_file **out)
{
    struct sim_disk *disk = disk_of(env);
    struct sim_inode *inode = sim_dir_find(&disk->current, name);
    struct sim_file *file;
    int rc;

    if (!sim_alive(sim_view_of(env)))
        return -EIO;
    rc = fault_error(disk, SIM_OP_OPEN, name);
    if (rc < 0)
        return rc;
    if ((flags & ENV_OPEN_CREATE) != 0) {
        if (inode != NULL)
            return -EEXIST;
        rc = create_entry(sim_view_of(env), name, &inode);
        sim_log("  create %s = %d", name, rc);
        if (rc < 0)
            return rc;
    }
    if (inode == NULL)
        return -ENOENT;
    file = sim_file_create(sim_view_of(env), name, inode);
    file->direct = (flags & ENV_OPEN_DIRECT) != 0 && disk->settings.direct_io;
    file->read_only = (flags & ENV_OPEN_READ) != 0;
    *out = &file->base;
    return 0;
}

static void
sim_close(struct env_file *base)
{
    struct sim_file *file = file_of(base);
    struct sim_view *view = sim_view_of(base->env);
    struct sim_disk *disk = view->disk;

    assert(disk->handles_open > 0 && view->held > 0);
    disk->handles_open--;
    view->held--;
    if (view->dead && !view->settled && (file->holds_lock || file->holds_shared)) {
        file->closed = true;
        return;
    }
    sim_file_unlock(file);
    sim_file_destroy(file);
    if (!disk->stopped)
        sim_disk_collect(disk);
}

static int
sim_size(struct env_file *base, uint64_t *size)
{
    if (!sim_alive(sim_view_of(base->env)))
        return -EIO;
    *size = file_of(base)->inode->current.size;
    return 0;
}

static int
sim_allocated(struct env_file *base, uint64_t *bytes)
{
    if (!sim_alive(sim_view_of(base->env)))
        return -EIO;
    *bytes = (file_of(base)->inode->current.size + SIM_BLOCK - 1) / SIM_BLOCK * SIM_BLOCK;
    return 0;
}

/* Set the length, or only grow it. */
static int
set_length(struct env_file *base, enum sim_op op, uint64_t size)
{
    struct sim_file *file = file_of(base);
    struct sim_disk *disk = disk_of(base->env);
    enum sim_gate gate = sim_gate(sim_view_of(base->env));
    int rc;

    if (gate == SIM_GATE_STOPPED)
        return -EIO;
    if (file->read_only) {
        sim_violation(disk, "length of %s set through a handle for reading", file->name);
        return -EBADF;
    }
    rc = fault_error(disk, op, file->name);
    if (rc == 0)
        rc = sim_room(disk, file->inode, size);
    sim_log("  length %s to %llu = %d", file->name, (unsigned long long)size, rc);
    if (rc < 0)
        return rc;
    if (op == SIM_OP_PREALLOCATE && size <= file->inode->current.size)
        return gate == SIM_GATE_LAST ? -EIO : 0;
    sim_change_add_length(file->inode, size);
    if (gate == SIM_GATE_LAST) {
        file->inode->changes[file->inode->change_count - 1].in_flight = true;
        return -EIO;
    }
    sim_bytes_resize(&file->inode->current, size);
    sim_note_used(disk);
    return 0;
}

static int
sim_preallocate(struct env_file *file, uint64_t size)
{
    return set_length(file, SIM_OP_PREALLOCATE, size);
}

static int
sim_truncate(struct env_file *file, uint64_t size)
{
    return set_length(file, SIM_OP_TRUNCATE, size);
}

static int
sim_sync(struct env_file *base)
{
    struct sim_file *file = file_of(base);
    struct sim_disk *disk = disk_of(base->env);
    enum sim_gate gate = sim_gate(sim_view_of(base->env));
    const struct sim_fault *fault;

    if (gate == SIM_GATE_STOPPED)
        return -EIO;
    if (gate ==
        SIM_GATE_LAST) { /* done, but the caller never hears of it; or not done. What is in flight it does not cover. */
        sim_log("  sync %s: the last change", file->name);
        return -EIO;
    }
    fault = sim_fault_match(disk, SIM_OP_SYNC, file->name);
    sim_log("  sync %s = %d", file->name, fault == NULL ? 0 : -fault->error);
    if (fault != NULL) {
        /* Linux marks the pages clean: a later sync succeeds and saves nothing, while reads still show the bytes. */
        if (fault->kind == SIM_FAULT_SYNC_LOST) {
            disk->hits.lost_syncs += file->inode->change_count > 0;
            sim_changes_clear(file->inode);
        }
        return -fault->error;
    }
    sim_make_durable(file->inode);
    return 0;
}

static int
sim_rename(struct env *env, const char *from, const char *to)
{
    struct sim_disk *disk = disk_of(env);
    enum sim_gate gate = sim_gate(sim_view_of(env));
    struct sim_inode *inode = sim_dir_find(&disk->current, from);
    struct sim_dir_op *op;
    int rc;

    if (gate == SIM_GATE_STOPPED)
        return -EIO;
    rc = fault_error(disk, SIM_OP_RENAME, from);
    if (rc == 0 && inode == NULL)
        rc = -ENOENT;
    sim_log("  rename %s %s = %d", from, to, rc);
    if (rc < 0)
        return rc;
    op = sim_dir_op_add(disk, SIM_DIR_RENAME, from, inode);
    (void)snprintf(op->to, sizeof(op->to), "%s", to);
    if (gate == SIM_GATE_LAST) {
        op->in_flight = true;
        return -EIO;
    }
    sim_dir_apply(&disk->current, op);
    return 0;
}

static int
sim_unlink(struct env *env, const char *name)
{
    struct sim_disk *disk = disk_of(env);
    enum sim_gate gate = sim_gate(sim_view_of(env));
    struct sim_inode *inode = sim_dir_find(&disk->current, name);
    struct sim_dir_op *op;
    int rc;

    if (gate == SIM_GATE_STOPPED)
        return -EIO;
    rc = fault_error(disk, SIM_OP_UNLINK, name);
    if (rc == 0 && inode == NULL)
        rc = -ENOENT;
    sim_log("  unlink %s = %d", name, rc);
    if (rc < 0)
        return rc;
    disk->unlinks++;
    op = sim_dir_op_add(disk, SIM_DIR_UNLINK, name, inode);
    if (gate == SIM_GATE_LAST) {
        op->in_flight = true;
        return -EIO;
    }
    sim_dir_apply(&disk->current, op);
    return 0;
}

static int
sim_sync_dir(struct env *env)
{
    struct sim_disk *disk = disk_of(env);
    enum sim_gate gate = sim_gate(sim_view_of(env));
    int rc;

    if (gate != SIM_GATE_GO)
        return -EIO;
    rc = fault_error(disk, SIM_OP_SYNC_DIR, "");
    sim_log("  sync_dir = %d", rc);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < disk->dir_op_count; i++)
        sim_dir_apply(&disk->durable, &disk->dir_ops[i]);
    disk->dir_op_count = 0;
    sim_disk_collect(disk);
    return 0;
}

static int
sim_list(struct env *env, int (*each)(void *arg, const char *name), void *arg)
{
    struct sim_disk *disk = disk_of(env);
    struct sim_dir names = {0};
    int rc;

    if (!sim_alive(sim_view_of(env)))
        return -EIO;
    rc = fault_error(disk, SIM_OP_LIST, "");
    sim_dir_copy(&names, &disk->current); /* each() may unlink */
    for (size_t i = 0; i < names.count && rc >= 0; i++)
        rc = each(arg, names.entries[i].name);
    free(names.entries);
    return rc;
}

static int
sim_lock(struct env *env, const char *name, struct env_file **out)
{
    struct sim_disk *disk = disk_of(env);
    struct sim_inode *inode = sim_dir_find(&disk->current, name);
    int rc;

    if (!sim_alive(sim_view_of(env)))
        return -EIO;
    rc = fault_error(disk, SIM_OP_LOCK, name);
    if (rc == 0 && inode == NULL)
        rc = create_entry(sim_view_of(env), name, &inode);
    if (rc < 0)
        return rc;
    if (inode->locked || inode->sharers > 0)
        return -EWOULDBLOCK;
    inode->locked = true;
    *out = &sim_file_create(sim_view_of(env), name, inode)->base;
    file_of(*out)->holds_lock = true;
    return 0;
}

static int
sim_free_space(struct env *env, uint64_t *bytes)
{
    struct sim_disk *disk = disk_of(env);
    uint64_t size = disk->settings.size_bytes == 0 ? (uint64_t)1 << 40 : disk->settings.size_bytes;
    uint64_t used = sim_disk_used(disk);

    if (!sim_alive(sim_view_of(env)))
        return -EIO;
    *bytes = used < size ? size - used : 0;
    return 0;
}

static uint64_t
sim_now_ns(struct env *env)
{
    struct sim_disk *disk = disk_of(env);

    (void)sim_alive(sim_view_of(env));
    return disk->now_ns;
}

/* The clock of the disk began in 2033. */
static uint64_t
sim_realtime_ns(struct env *env)
{
    return UINT64_C(2000000000) * 1000000000 + sim_now_ns(env);
}

static uint64_t
sim_random(struct env *env)
{
    return sim_rng_next(&disk_of(env)->rng);
}

static void *
sim_memory(struct env *env, size_t size, size_t align)
{
    struct sim_disk *disk = disk_of(env);
    void *ptr;

    assert(align > 0 && (align & (align - 1)) == 0);
    if (fault_error(disk, SIM_OP_ALLOC, "") < 0)
        return NULL;
    if (posix_memalign(&ptr, align < sizeof(void *) ? sizeof(void *) : align, size == 0 ? 1 : size) != 0)
        return NULL;
    memset(ptr, 0xa5, size < FILL_MAX ? size : FILL_MAX); /* the same on every run, and never zero */
    disk->allocations++;
    sim_view_of(env)->held++;
    if (disk->allocation_max < size)
        disk->allocation_max = size;
    return ptr;
}

static void
sim_free(struct env *env, void *ptr)
{
    struct sim_disk *disk = disk_of(env);

    if (ptr == NULL)
        return;
    assert(disk->allocations > 0 && sim_view_of(env)->held > 0);
    disk->allocations--;
    sim_view_of(env)->held--;
    free(ptr);
}

static void
sim_destroy(struct env *env)
{
    (void)env; /* the disk outlives the process */
}

const struct env_ops sim_env_ops = {
    .open = sim_open,
    .close = sim_close,
    .size = sim_size,
    .allocated = sim_allocated,
    .preallocate = sim_preallocate,
    .truncate = sim_truncate,
    .sync = sim_sync,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .sync_dir = sim_sync_dir,
    .list = sim_list,
    .lock = sim_lock,
    .free_space = sim_free_space,
    .queue_open = sim_queue_open,
    .queue_close = sim_queue_close,
    .submit = sim_submit,
    .wait = sim_wait,
    .now_ns = sim_now_ns,
    .realtime_ns = sim_realtime_ns,
    .random = sim_random,
    .alloc = sim_memory,
    .free = sim_free,
    .destroy = sim_destroy,
};
