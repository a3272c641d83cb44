/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_disk.h - a file system of one directory, in memory, that loses what a power failure may take.
 *
 * A file is its current bytes (what reads see), its durable bytes (what is on the platter) and the ordered list of changes since
 * its last sync. The directory likewise: current entries, durable entries, operations since the last sync_dir. A crash resolves each
 * change by chance (sim_crash.c): that and nothing else makes current and durable equal without a sync. The device model:
 *  - a sector that was not being written keeps its bytes (power-safe overwrite); one that was may hold old, new or garbage bytes;
 *  - file lengths reach the platter in order (a journal), independently of the data; directory operations in any order;
 *  - a rename is old or new, never both, never neither; sync makes data and length durable, not the directory entry.
 * The disk outlives the env of one "process". Several at a time have a view each (sim_view.h). Everything follows from the seed. Not thread-safe: with several threads, one at a
 * time is in here, and they change places only in `idle`.
 */
#ifndef VARVE_SIM_DISK_H
#define VARVE_SIM_DISK_H

#include "env/env.h"
#include "sim_rng.h"

#define SIM_NAME_MAX   64
#define SIM_FAULTS_MAX 8
#define SIM_BLOCK      4096 /* the file system's unit of allocation */

enum sim_op {
    SIM_OP_OPEN = 1 << 0,
    SIM_OP_CREATE = 1 << 1,
    SIM_OP_READ = 1 << 2,
    SIM_OP_WRITE = 1 << 3,
    SIM_OP_SYNC = 1 << 4,
    SIM_OP_TRUNCATE = 1 << 5,
    SIM_OP_PREALLOCATE = 1 << 6,
    SIM_OP_RENAME = 1 << 7,
    SIM_OP_UNLINK = 1 << 8,
    SIM_OP_SYNC_DIR = 1 << 9,
    SIM_OP_LIST = 1 << 10,
    SIM_OP_LOCK = 1 << 11,
    SIM_OP_ALLOC = 1 << 12,
};

enum sim_fault_kind {
    SIM_FAULT_ERROR = 1,     /* fails with -error; nothing happens */
    SIM_FAULT_SYNC_LOST = 2, /* a sync fails with -error, and what it should have saved never gets to the platter */
    SIM_FAULT_MISDIRECT = 3, /* a write succeeds, but its bytes land elsewhere in the file */
    SIM_FAULT_LOST_WRITE = 4 /* a write succeeds, and does nothing */
};

/* Applies to operations in `ops` on names that match `glob`: from the one after `skip` matches on, `count` times (0: for ever). */
struct sim_fault {
    unsigned ops;
    const char *glob; /* NULL: any name; static storage */
    enum sim_fault_kind kind;
    int error; /* positive errno */
    uint64_t skip;
    uint64_t count;
    uint64_t matched; /* the disk's */
};

struct sim_disk_settings {
    uint64_t seed;
    uint32_t io_align;     /* of direct I/O: 512 or 4096 */
    bool direct_io;        /* ENV_OPEN_DIRECT is honoured */
    uint32_t sector_bytes; /* what the platter writes in one piece: 512 or 4096 */
    uint32_t queue_depth;
    uint64_t size_bytes;      /* of the file system; 0: no limit */
    uint32_t short_per_mille; /* transfers that move less than asked */
    uint32_t again_per_mille; /* transfers that give -EINTR or -EAGAIN and move nothing */
    uint32_t torn_per_mille;  /* at a power failure, of unsynced writes: torn; the rest whole or lost, half and half */
    uint32_t garbage_per_mille; /* of torn writes: with a sector of garbage */
    uint32_t stall_per_mille;   /* transfers that complete long after those submitted with them */
    uint64_t stall_ns;          /* at most; 0: 30 s */
};

enum sim_crash_mode {
    SIM_CRASH_KILL = 1,  /* the process died: what completed stays; what was in flight did, did not, or did in part */
    SIM_CRASH_POWER = 2, /* the machine lost power: what was not synced is in question */
};

/* An unsynced change of a file. */
struct sim_change {
    bool is_length; /* the length became `offset`; else `size` bytes of data were written at `offset` */
    bool in_flight; /* the crash came before it completed: not in the current bytes */
    uint64_t offset;
    size_t size;
    uint8_t *data;
};

struct sim_bytes {
    uint8_t *data;
    size_t size;
    size_t room;
};

struct sim_inode {
    struct sim_bytes current, durable;
    struct sim_change *changes;
    size_t change_count, change_room;
    uint32_t handles;
    bool locked;      /* exclusively, */
    uint32_t sharers; /* or by so many */
    bool marked;      /* of sim_disk_collect() */
};

enum sim_dir_kind {
    SIM_DIR_CREATE = 1,
    SIM_DIR_UNLINK,
    SIM_DIR_RENAME,
};

struct sim_dir_op {
    enum sim_dir_kind kind;
    bool in_flight; /* the crash came before it was done: not in the current entries */
    char name[SIM_NAME_MAX];
    char to[SIM_NAME_MAX]; /* of a rename */
    struct sim_inode *inode;
};

struct sim_dir_entry {
    char name[SIM_NAME_MAX];
    struct sim_inode *inode;
};

struct sim_dir {
    struct sim_dir_entry *entries;
    size_t count, room;
};

struct sim_queue;
struct sim_file;
struct sim_disk;
struct sim_net;

/* A write that was in flight when its process was killed. */
struct sim_orphan {
    struct sim_inode *inode; /* one of its handles */
    uint64_t offset;
    size_t size;
    uint8_t *data;
};

/* The disk as one process sees it. */
struct sim_view {
    struct env env; /* first */
    struct sim_disk *disk;
    bool dead;              /* the process was killed: its calls have no effect, */
    bool settled;           /* and what it had in flight neither, any more; so its locks are gone */
    uint64_t held;          /* files, queues and allocations */
    struct sim_file *files; /* open ones, and those that a dead process closed with a lock */
    struct sim_orphan *orphans;
    size_t orphan_count, orphan_room;
};

/* What went wrong, each counted where it had an effect. */
struct sim_hits {
    uint64_t errors[16]; /* of SIM_FAULT_ERROR, by the bit number of the sim_op */
    uint64_t sticky;     /* of these, by faults that last for ever */
    uint64_t no_space;   /* the file system was full */
    uint64_t shorts, agains, stalls;
    uint64_t lost_syncs, misdirected, lost_writes, flips;
};

struct sim_disk {
    struct sim_view view; /* of the only process, where there is one */
    struct sim_net *net;  /* between several: sim_net.h */
    struct sim_disk_settings settings;
    struct sim_rng rng;
    uint64_t now_ns;
    /*
     * With several threads: one that waits for the device lets others run. True: none can. Until then, operations of every queue may stay in
     * flight. NULL: one thread, and nothing happens but in its own wait().
     */
    bool (*idle)(void);
    uint64_t device_steps; /* sim_disk_step() calls, ever */

    /* Called with the bytes in use whenever a file has grown. NULL: nobody looks. */
    void (*on_used)(void *arg, uint64_t used);
    void *on_used_arg;

    struct sim_dir current, durable;
    struct sim_dir_op *dir_ops;
    size_t dir_op_count, dir_op_room;
    struct sim_inode **inodes;
    size_t inode_count, inode_room;
    struct sim_queue *queues; /* open ones: what is in flight when the world stops */

    struct sim_fault faults[SIM_FAULTS_MAX];
    size_t fault_count;
    const char *bad_glob; /* files of which bytes bad_from to bad_end - 1 cannot be read (EIO); NULL: none */
    uint64_t bad_from, bad_end;
    uint64_t faults_hit; /* bad ranges included */
    struct sim_hits hits;

    uint64_t changes;  /* operations that changed state, ever: the crash points */
    uint64_t crash_at; /* the change with this number stops the world; 0: none */
    bool stopped;      /* from now on every call gives -EIO */
    uint64_t calls_after_stop;

    uint64_t violations; /* of the env's contract, by the engine: a run with any has failed */
    uint64_t handles_open, queues_open, allocations;
    uint64_t allocation_max; /* bytes of the largest one */
    uint64_t crashes, used_max, unlinks;
    uint64_t synced_writes, lost_writes, torn_writes; /* of crashes: how the coins fell */
};

struct sim_disk *sim_disk_create(const struct sim_disk_settings *settings);
void sim_disk_destroy(struct sim_disk *disk);

/* The env of the next process; its destroy() does nothing, the disk stays. One at a time. */
struct env *sim_disk_env(struct sim_disk *disk);

/* With `idle`: the device may carry out one operation, of any queue. Its owner hears of it in its next wait(). */
void sim_disk_step(struct sim_disk *disk);

/* Let time pass. */
void sim_disk_advance(struct sim_disk *disk, uint64_t ns);

/* Stop the world at the `after`-th change from now (1: the next one). */
void sim_disk_crash_after(struct sim_disk *disk, uint64_t after);
/* Stop it now. What is in flight is remembered as such. */
void sim_disk_stop(struct sim_disk *disk);
/*
 * The machine, or the process, comes back: resolve what was open, by chance from `seed`. The world must have stopped and every handle
 * and queue be closed.
 */
void sim_disk_crash(struct sim_disk *disk, enum sim_crash_mode mode, uint64_t seed);

void sim_disk_fault_add(struct sim_disk *disk, const struct sim_fault *fault);
void sim_disk_faults_clear(struct sim_disk *disk);
/* Flip one bit of a file that matches `glob`, at rest. False when none has any byte. */
bool sim_disk_flip(struct sim_disk *disk, const char *glob, struct sim_rng *rng);

/* Bytes that the linked files hold. */
uint64_t sim_disk_used(const struct sim_disk *disk);

/* A digest of everything current and durable, names included: equal runs give equal digests. */
uint64_t sim_disk_digest(const struct sim_disk *disk);

#endif
