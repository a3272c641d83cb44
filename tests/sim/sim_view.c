/* SPDX-License-Identifier: Apache-2.0 */
/* The life and death of one of several processes, as the disk sees it. */
#include "sim_view.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim_internal.h"
#include "sim_log.h"

#define PART_PER_MILLE 300 /* of writes in flight: only some of their sectors */

struct sim_view *
sim_view_create(struct sim_disk *disk)
{
    struct sim_view *view = sim_alloc(sizeof(*view));

    view->env = disk->view.env;
    view->disk = disk;
    return view;
}

void
sim_view_destroy(struct sim_view *view)
{
    assert(view->held == 0 && view->files == NULL && view->orphan_count == 0);
    free(view->orphans);
    free(view);
}

void
sim_view_kill(struct sim_view *view)
{
    if (view->dead)
        return;
    view->dead = true;
    view->disk->calls_after_stop = 0;
    if (!view->disk->stopped)
        sim_queues_orphan(view);
}

static void
release_locks(struct sim_view *view)
{
    for (struct sim_file *file = view->files, *next; file != NULL; file = next) {
        next = file->next;
        sim_file_unlock(file);
        if (file->closed)
            sim_file_destroy(file);
    }
    view->settled = true;
}

void
sim_view_settle(struct sim_view *view, struct sim_rng *rng)
{
    size_t sector = view->disk->settings.sector_bytes;

    assert(view->dead && !view->settled);
    for (size_t i = 0; i < view->orphan_count; i++) {
        struct sim_orphan *orphan = &view->orphans[i];
        size_t size = sim_rng_chance(rng, 500) ? orphan->size : 0;

        if (sim_rng_chance(rng, PART_PER_MILLE))
            size = sim_rng_between(rng, 0, orphan->size / sector) * sector;
        sim_log("  settle: %zu of %zu bytes at %llu", size, orphan->size, (unsigned long long)orphan->offset);
        if (size > 0)
            sim_write_apply(view->disk, orphan->inode, orphan->offset, orphan->data, size);
        orphan->inode->handles--;
        free(orphan->data);
    }
    view->orphan_count = 0;
    release_locks(view);
    sim_disk_collect(view->disk);
}

void
sim_view_forsake(struct sim_view *view)
{
    assert(view->dead && view->disk->stopped);
    for (size_t i = 0; i < view->orphan_count; i++) {
        struct sim_orphan *orphan = &view->orphans[i];

        sim_change_add(orphan->inode, orphan->offset, orphan->data, orphan->size)->in_flight = true;
        orphan->inode->handles--;
        free(orphan->data);
    }
    view->orphan_count = 0;
    release_locks(view);
}

struct sim_parcel
sim_parcel_pack(const struct env_file *base)
{
    const struct sim_file *file = (const struct sim_file *)(const void *)base;
    struct sim_parcel parcel = {.inode = file->inode, .direct = file->direct};

    (void)snprintf(parcel.name, sizeof(parcel.name), "%s", file->name);
    file->inode->handles++;
    return parcel;
}

struct env_file *
sim_parcel_unpack(struct sim_parcel *parcel, struct sim_view *view)
{
    struct sim_file *file = sim_file_create(view, parcel->name, parcel->inode);

    file->direct = parcel->direct;
    sim_parcel_drop(parcel);
    return &file->base;
}

void
sim_parcel_drop(struct sim_parcel *parcel)
{
    if (parcel->inode == NULL)
        return;
    assert(parcel->inode->handles > 0);
    parcel->inode->handles--; /* it is freed when somebody looks for such */
    parcel->inode = NULL;
}

int
sim_view_lock_shared(struct env_file *base)
{
    struct sim_file *file = (struct sim_file *)(void *)base;

    if (!sim_alive(sim_view_of(base->env)))
        return -EIO;
    assert(!file->holds_lock && !file->holds_shared);
    if (file->inode->locked)
        return -EWOULDBLOCK;
    file->inode->sharers++;
    file->holds_shared = true;
    return 0;
}

void
sim_view_unlock(struct env_file *base)
{
    if (sim_alive(sim_view_of(base->env))) /* the lock of the dead goes when they are settled */
        sim_file_unlock((struct sim_file *)(void *)base);
}

int
sim_view_lock(struct env *env, const char *name, bool shared, struct env_file **out)
{
    int rc;

    if (!shared)
        return sim_env_ops.lock(env, name, out);
    rc = sim_env_ops.open(env, name, 0, out);
    if (rc == -ENOENT) {
        rc = sim_env_ops.open(env, name, ENV_OPEN_CREATE, out);
        if (rc == -EEXIST)
            rc = sim_env_ops.open(env, name, 0, out);
    }
    if (rc < 0)
        return rc;
    rc = sim_view_lock_shared(*out);
    if (rc < 0)
        sim_env_ops.close(*out);
    return rc;
}
