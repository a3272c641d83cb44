/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated disk's files, directory, crash points and faults. What a crash does to them is in sim_crash.c. */
#include "sim_internal.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "sim_log.h"

void
sim_violation(struct sim_disk *disk, const char *format, ...)
{
    char text[120];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    disk->violations++;
    sim_log("VIOLATION: %s", text);
}

void
sim_bytes_resize(struct sim_bytes *bytes, size_t size)
{
    if (size > bytes->room) {
        bytes->room = size + size / 4 + SIM_BLOCK;
        bytes->data = sim_realloc(bytes->data, bytes->room);
    }
    if (size > bytes->size)
        memset(bytes->data + bytes->size, 0, size - bytes->size);
    bytes->size = size;
}

void
sim_bytes_write(struct sim_bytes *bytes, uint64_t offset, const uint8_t *data, size_t size)
{
    if (size == 0)
        return;
    if (offset + size > bytes->size)
        sim_bytes_resize(bytes, offset + size);
    memcpy(bytes->data + offset, data, size);
}

static size_t
dir_slot(const struct sim_dir *dir, const char *name)
{
    size_t slot = 0;

    while (slot < dir->count && strcmp(dir->entries[slot].name, name) != 0)
        slot++;
    return slot;
}

struct sim_inode *
sim_dir_find(const struct sim_dir *dir, const char *name)
{
    size_t slot = dir_slot(dir, name);

    return slot < dir->count ? dir->entries[slot].inode : NULL;
}

void
sim_dir_set(struct sim_dir *dir, const char *name, struct sim_inode *inode)
{
    size_t slot = dir_slot(dir, name);

    if (inode == NULL) {
        if (slot < dir->count)
            dir->entries[slot] = dir->entries[--dir->count];
        return;
    }
    if (slot == dir->count) {
        if (dir->count == dir->room) {
            dir->room = 2 * dir->room + 16;
            dir->entries = sim_realloc(dir->entries, dir->room * sizeof(*dir->entries));
        }
        (void)snprintf(dir->entries[slot].name, SIM_NAME_MAX, "%s", name);
        dir->count++;
    }
    dir->entries[slot].inode = inode;
}

void
sim_dir_copy(struct sim_dir *to, const struct sim_dir *from)
{
    if (to->room < from->count) {
        to->room = from->count;
        to->entries = sim_realloc(to->entries, to->room * sizeof(*to->entries));
    }
    if (from->count > 0)
        memcpy(to->entries, from->entries, from->count * sizeof(*to->entries));
    to->count = from->count;
}

void
sim_dir_apply(struct sim_dir *dir, const struct sim_dir_op *op)
{
    if (op->kind == SIM_DIR_CREATE) {
        sim_dir_set(dir, op->name, op->inode);
        return;
    }
    if (sim_dir_find(dir, op->name) == op->inode)
        sim_dir_set(dir, op->name, NULL);
    if (op->kind == SIM_DIR_RENAME)
        sim_dir_set(dir, op->to, op->inode);
}

struct sim_dir_op *
sim_dir_op_add(struct sim_disk *disk, enum sim_dir_kind kind, const char *name, struct sim_inode *inode)
{
    struct sim_dir_op *op;

    if (disk->dir_op_count == disk->dir_op_room) {
        disk->dir_op_room = 2 * disk->dir_op_room + 16;
        disk->dir_ops = sim_realloc(disk->dir_ops, disk->dir_op_room * sizeof(*disk->dir_ops));
    }
    op = &disk->dir_ops[disk->dir_op_count++];
    *op = (struct sim_dir_op){.kind = kind, .inode = inode};
    (void)snprintf(op->name, sizeof(op->name), "%s", name);
    return op;
}

struct sim_inode *
sim_inode_create(struct sim_disk *disk)
{
    struct sim_inode *inode = sim_alloc(sizeof(*inode));

    if (disk->inode_count == disk->inode_room) {
        disk->inode_room = 2 * disk->inode_room + 16;
        disk->inodes = sim_realloc(disk->inodes, disk->inode_room * sizeof(*disk->inodes));
    }
    disk->inodes[disk->inode_count++] = inode;
    return inode;
}

struct sim_change *
sim_change_add(struct sim_inode *inode, uint64_t offset, const uint8_t *data, size_t size)
{
    struct sim_change *change;

    if (inode->change_count == inode->change_room) {
        inode->change_room = 2 * inode->change_room + 16;
        inode->changes = sim_realloc(inode->changes, inode->change_room * sizeof(*inode->changes));
    }
    change = &inode->changes[inode->change_count++];
    *change = (struct sim_change){.offset = offset, .size = size};
    if (size > 0) {
        change->data = sim_alloc(size);
        memcpy(change->data, data, size);
    }
    return change;
}

void
sim_change_add_length(struct sim_inode *inode, uint64_t length)
{
    sim_change_add(inode, length, NULL, 0)->is_length = true;
}

void
sim_changes_clear(struct sim_inode *inode)
{
    for (size_t i = 0; i < inode->change_count; i++)
        free(inode->changes[i].data);
    inode->change_count = 0;
}

/* Every range that changed is copied as it is now: the same as replaying the changes. */
void
sim_make_durable(struct sim_inode *inode)
{
    size_t size = inode->current.size;

    for (size_t i = 0; i < inode->change_count; i++) {
        if (inode->changes[i].is_length && inode->changes[i].offset < inode->durable.size)
            sim_bytes_resize(&inode->durable, inode->changes[i].offset);
    }
    sim_bytes_resize(&inode->durable, size);
    for (size_t i = 0; i < inode->change_count; i++) {
        const struct sim_change *change = &inode->changes[i];
        size_t end = change->offset + change->size < size ? change->offset + change->size : size;

        if (!change->is_length && change->offset < end)
            memcpy(inode->durable.data + change->offset, inode->current.data + change->offset, end - change->offset);
    }
    sim_changes_clear(inode);
}

static void
inode_destroy(struct sim_inode *inode)
{
    sim_changes_clear(inode);
    free(inode->changes);
    free(inode->current.data);
    free(inode->durable.data);
    free(inode);
}

void
sim_disk_collect(struct sim_disk *disk)
{
    size_t kept = 0;

    for (size_t i = 0; i < disk->inode_count; i++)
        disk->inodes[i]->marked = disk->inodes[i]->handles > 0;
    for (size_t i = 0; i < disk->current.count; i++)
        disk->current.entries[i].inode->marked = true;
    for (size_t i = 0; i < disk->durable.count; i++)
        disk->durable.entries[i].inode->marked = true;
    for (size_t i = 0; i < disk->dir_op_count; i++)
        disk->dir_ops[i].inode->marked = true;
    for (size_t i = 0; i < disk->inode_count; i++) {
        if (disk->inodes[i]->marked)
            disk->inodes[kept++] = disk->inodes[i];
        else
            inode_destroy(disk->inodes[i]);
    }
    disk->inode_count = kept;
}

struct sim_disk *
sim_disk_create(const struct sim_disk_settings *settings)
{
    struct sim_disk *disk = sim_alloc(sizeof(*disk));

    assert(settings->io_align == 512 || settings->io_align == 4096);
    assert(settings->sector_bytes == 512 || settings->sector_bytes == 4096);
    assert(settings->queue_depth > 0);
    disk->settings = *settings;
    disk->rng = sim_rng_make(settings->seed, 1);
    disk->now_ns = 1000000000;
    disk->view = (struct sim_view){.disk = disk,
                                   .env = {.ops = &sim_env_ops,
                                           .name = "sim",
                                           .io_align = settings->direct_io ? settings->io_align : 512,
                                           .direct_io = settings->direct_io}};
    return disk;
}

void
sim_disk_destroy(struct sim_disk *disk)
{
    if (disk == NULL)
        return;
    for (size_t i = 0; i < disk->inode_count; i++)
        inode_destroy(disk->inodes[i]);
    free(disk->inodes);
    free(disk->current.entries);
    free(disk->durable.entries);
    free(disk->dir_ops);
    free(disk);
}

struct env *
sim_disk_env(struct sim_disk *disk)
{
    return &disk->view.env;
}

void
sim_disk_advance(struct sim_disk *disk, uint64_t ns)
{
    disk->now_ns += ns;
}

void
sim_disk_crash_after(struct sim_disk *disk, uint64_t after)
{
    disk->crash_at = after == 0 ? 0 : disk->changes + after;
}

void
sim_disk_stop(struct sim_disk *disk)
{
    if (disk->stopped)
        return;
    disk->stopped = true;
    sim_queues_capture(disk);
}

void
sim_disk_fault_add(struct sim_disk *disk, const struct sim_fault *fault)
{
    assert(disk->fault_count < SIM_FAULTS_MAX);
    disk->faults[disk->fault_count] = *fault;
    disk->faults[disk->fault_count++].matched = 0;
}

void
sim_disk_faults_clear(struct sim_disk *disk)
{
    disk->fault_count = 0;
}

const struct sim_fault *
sim_fault_match(struct sim_disk *disk, enum sim_op op, const char *name)
{
    for (size_t i = 0; i < disk->fault_count; i++) {
        struct sim_fault *fault = &disk->faults[i];

        if ((fault->ops & op) == 0 || (fault->glob != NULL && fnmatch(fault->glob, name, 0) != 0))
            continue;
        fault->matched++;
        if (fault->matched <= fault->skip || (fault->count > 0 && fault->matched > fault->skip + fault->count))
            continue;
        disk->faults_hit++;
        if (fault->kind == SIM_FAULT_ERROR) {
            disk->hits.errors[__builtin_ctz(op)]++;
            disk->hits.sticky += fault->count == 0;
        }
        sim_log("  fault %d on op %#x %s", fault->kind, (unsigned)op, name);
        return fault;
    }
    return NULL;
}

bool
sim_disk_flip(struct sim_disk *disk, const char *glob, struct sim_rng *rng)
{
    size_t start = disk->current.count == 0 ? 0 : sim_rng_below(rng, disk->current.count);

    for (size_t i = 0; i < disk->current.count; i++) {
        struct sim_dir_entry *entry = &disk->current.entries[(start + i) % disk->current.count];
        struct sim_inode *inode = entry->inode;
        size_t at;
        uint8_t mask;

        if (fnmatch(glob, entry->name, 0) != 0 || inode->current.size == 0)
            continue;
        at = sim_rng_below(rng, inode->current.size);
        mask = (uint8_t)(1u << sim_rng_below(rng, 8));
        inode->current.data[at] ^= mask;
        if (at < inode->durable.size)
            inode->durable.data[at] ^= mask;
        disk->hits.flips++;
        sim_log("  flip a bit of %s at %zu", entry->name, at);
        return true;
    }
    return false;
}

uint64_t
sim_disk_used(const struct sim_disk *disk)
{
    uint64_t used = 0;

    for (size_t i = 0; i < disk->current.count; i++)
        used += (disk->current.entries[i].inode->current.size + SIM_BLOCK - 1) / SIM_BLOCK * SIM_BLOCK;
    return used;
}

static uint64_t
dir_digest(const struct sim_dir *dir, bool durable)
{
    uint64_t digest = 0;

    for (size_t i = 0; i < dir->count; i++) {
        const struct sim_inode *inode = dir->entries[i].inode;
        const struct sim_bytes *bytes = durable ? &inode->durable : &inode->current;

        /* A sum: the order of entries means nothing. */
        digest += sim_mix(hash_bytes(dir->entries[i].name, strlen(dir->entries[i].name)) ^
                          sim_mix(hash_bytes(bytes->size > 0 ? bytes->data : (const uint8_t *)"", bytes->size)));
    }
    return digest;
}

uint64_t
sim_disk_digest(const struct sim_disk *disk)
{
    return sim_mix(dir_digest(&disk->current, false)) ^ dir_digest(&disk->durable, true);
}
