/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is left after a crash. Every choice is drawn from the seed of the crash: which unsynced changes reached the platter, how far
 * their lengths did, and which directory operations. A crash has a mood, so that "all of it" and "none of it" happen as well.
 */
#include <stdlib.h>

#include "sim_internal.h"
#include "sim_log.h"

enum mood {
    MOOD_MIXED,
    MOOD_ALL,
    MOOD_NONE,
};

struct crash {
    struct sim_disk *disk;
    struct sim_rng rng;
    enum mood mood;
};

/* Sectors of the write arrive one by one, in order up to some point or in any order; one of them may be garbage. */
static void
tear(struct crash *crash, struct sim_bytes *bytes, const struct sim_change *change)
{
    uint32_t sector = crash->disk->settings.sector_bytes;
    uint64_t first = change->offset / sector, last = (change->offset + change->size - 1) / sector;
    bool in_order = sim_rng_chance(&crash->rng, 500);
    uint64_t stop = sim_rng_between(&crash->rng, first, last + 1);
    bool garbage = sim_rng_chance(&crash->rng, crash->disk->settings.garbage_per_mille);
    uint64_t bad = sim_rng_between(&crash->rng, first, last);

    for (uint64_t i = first; i <= last; i++) {
        uint64_t from = i * sector > change->offset ? i * sector - change->offset : 0;
        uint64_t to = (i + 1) * sector - change->offset;
        uint8_t noise[4096];

        to = to < change->size ? to : change->size;
        assert(from < to && to - from <= sizeof(noise));
        if (garbage && i == bad) {
            sim_rng_fill(&crash->rng, noise, to - from);
            sim_bytes_write(bytes, change->offset + from, noise, to - from);
        } else if (in_order ? i < stop : sim_rng_chance(&crash->rng, 500)) {
            sim_bytes_write(bytes, change->offset + from, change->data + from, to - from);
        }
    }
    crash->disk->torn_writes++;
}

static bool
survives(struct crash *crash)
{
    switch (crash->mood) {
    case MOOD_ALL:
        return true;
    case MOOD_NONE:
        return false;
    case MOOD_MIXED:
        break;
    }
    return sim_rng_chance(&crash->rng, 500);
}

static void
resolve_write(struct crash *crash, struct sim_bytes *bytes, const struct sim_change *change)
{
    if (change->size == 0)
        return;
    if (crash->mood == MOOD_MIXED && sim_rng_chance(&crash->rng, crash->disk->settings.torn_per_mille)) {
        tear(crash, bytes, change);
    } else if (survives(crash)) {
        sim_bytes_write(bytes, change->offset, change->data, change->size);
        crash->disk->synced_writes++;
    } else {
        crash->disk->lost_writes++;
    }
}

/* The platter gets some of the changes; lengths up to one point of the list, data of any. */
static void
power_inode(struct crash *crash, struct sim_inode *inode)
{
    struct sim_bytes *bytes = &inode->durable;
    uint64_t length = bytes->size;
    size_t lengths = crash->mood == MOOD_NONE  ? 0
                     : crash->mood == MOOD_ALL ? inode->change_count
                                               : sim_rng_between(&crash->rng, 0, inode->change_count);

    for (size_t i = 0; i < inode->change_count; i++) {
        const struct sim_change *change = &inode->changes[i];

        if (!change->is_length) {
            resolve_write(crash, bytes, change);
            if (i < lengths && change->offset + change->size > length)
                length = change->offset + change->size;
        } else if (i < lengths) {
            if (change->offset < bytes->size)
                sim_bytes_resize(bytes, change->offset); /* cut: what grows back is zero */
            length = change->offset;
        }
    }
    sim_bytes_resize(bytes, length);
    sim_changes_clear(inode);
    inode->current.size = 0;
    sim_bytes_write(&inode->current, 0, bytes->data, bytes->size);
}

static void
power_loss(struct crash *crash)
{
    struct sim_disk *disk = crash->disk;

    for (size_t i = 0; i < disk->inode_count; i++)
        power_inode(crash, disk->inodes[i]);
    for (size_t i = 0; i < disk->dir_op_count; i++) {
        if (survives(crash)) {
            sim_dir_apply(&disk->durable, &disk->dir_ops[i]);
        } else {
            sim_log("  lost: %s %s %s",
                    disk->dir_ops[i].kind == SIM_DIR_CREATE   ? "create"
                    : disk->dir_ops[i].kind == SIM_DIR_UNLINK ? "unlink"
                                                              : "rename",
                    disk->dir_ops[i].name, disk->dir_ops[i].to);
        }
    }
    disk->dir_op_count = 0;
    sim_dir_copy(&disk->current, &disk->durable);
}

/* What was in flight when the process died happens now, or not, or in part. All of it stays unsynced. */
static void
kill_inode(struct crash *crash, struct sim_inode *inode)
{
    size_t kept = 0;

    for (size_t i = 0; i < inode->change_count; i++) {
        struct sim_change *change = &inode->changes[i];

        if (change->in_flight) {
            uint64_t part = survives(crash) ? change->size : 0;

            if (crash->mood == MOOD_MIXED && sim_rng_chance(&crash->rng, 300))
                part = sim_rng_between(&crash->rng, 0, change->size / 512) * 512;
            if (change->is_length ? !survives(crash) : part == 0) {
                free(change->data);
                continue;
            }
            if (change->is_length)
                sim_bytes_resize(&inode->current, change->offset);
            else
                sim_bytes_write(&inode->current, change->offset, change->data, part);
            change->size = change->is_length ? 0 : part;
            change->in_flight = false;
        }
        inode->changes[kept++] = *change;
    }
    inode->change_count = kept;
}

static void
process_death(struct crash *crash)
{
    struct sim_disk *disk = crash->disk;
    size_t kept = 0;

    for (size_t i = 0; i < disk->inode_count; i++)
        kill_inode(crash, disk->inodes[i]);
    for (size_t i = 0; i < disk->dir_op_count; i++) {
        struct sim_dir_op *op = &disk->dir_ops[i];

        if (op->in_flight) {
            if (!survives(crash))
                continue;
            sim_dir_apply(&disk->current, op);
            op->in_flight = false;
        }
        disk->dir_ops[kept++] = *op;
    }
    disk->dir_op_count = kept;
}

void
sim_disk_crash(struct sim_disk *disk, enum sim_crash_mode mode, uint64_t seed)
{
    struct crash crash = {.disk = disk, .rng = sim_rng_make(seed, 2)};
    uint64_t mood = sim_rng_below(&crash.rng, 10);

    assert(disk->stopped);
    assert(disk->handles_open == 0 && disk->queues_open == 0);
    crash.mood = mood < 6 ? MOOD_MIXED : mood < 8 ? MOOD_ALL : MOOD_NONE;
    sim_log("crash %s seed=%#llx mood=%d", mode == SIM_CRASH_POWER ? "power" : "kill", (unsigned long long)seed,
            (int)crash.mood);
    if (mode == SIM_CRASH_POWER)
        power_loss(&crash);
    else
        process_death(&crash);
    for (size_t i = 0; i < disk->inode_count; i++) {
        disk->inodes[i]->locked = false;
        disk->inodes[i]->sharers = 0;
    }
    sim_disk_collect(disk);
    disk->stopped = false;
    disk->calls_after_stop = 0;
    disk->crash_at = 0;
    disk->crashes++;
}
