/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soak.h - a store on a real file system whose process is killed, again and again.
 *
 * One program, several processes: the *parent* (kill_loop.c) decides and kills; a *worker* (worker.c) uses the store until then; a *verifier*
 * (verify.c) opens what is left and compares it with the ledger; a *contender* tries to open what another process has open. All
 * share the *ledger* (ledger.c), a mapped file that no kill can take away.
 *
 * A store lives for one *epoch*: a fresh directory with a drawn configuration, and many lives of workers in it.
 *
 * Invariant: the ledger is changed before a call that may change the store (to PAGE_MAYBE) and again after it was acknowledged, so that at
 * any moment it says what must, may and must not be found.
 */
#ifndef VARVE_TESTS_SOAK_SOAK_H
#define VARVE_TESTS_SOAK_SOAK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "random.h"
#include "varve.h"

#define SOAK_PATH_BYTES 512
#define NAMESPACES                                                                                                     \
    4 /* the last one is wild: threads do there what they like at the same time, and only bytes are checked */
#define WILD_NAMESPACE (NAMESPACES - 1)
#define CHAINS         16
#define CHAIN_PAGES    64
#define PAGES          ((size_t)NAMESPACES * CHAINS * CHAIN_PAGES)
#define THREADS_MAX    16
#define BATCH_BYTES    ((size_t)CHAIN_PAGES * (44 << 10)) /* a whole chain of the largest pages */

enum page_state { PAGE_ABSENT, PAGE_PRESENT, PAGE_MAYBE };

enum phase { PHASE_START, PHASE_OPENING, PHASE_WORKING, PHASE_CLOSING, PHASE_END };

enum role { ROLE_WORKER, ROLE_VERIFIER, ROLE_CONTENDER };

/* How a process of ours ends by itself. */
enum { ROLE_OK = 0, ROLE_FAILED = 3, ROLE_REFUSED = 4 /* open said why it would not; the ledger has its words */ };

enum trouble { TROUBLE_NONE, TROUBLE_DAMAGE, TROUBLE_FULL };

struct epoch {
    char path[SOAK_PATH_BYTES];
    char engine[16];
    enum trouble trouble;
    uint32_t threads;
    uint32_t chains;
    uint32_t size_max;
    uint64_t capacity;
    uint64_t segment_bytes;
    uint64_t put_budget; /* bytes; what is put beyond is not: a roomy store never drops anything */
    bool roomy;
};

/* Sums over all processes. */
struct totals {
    _Atomic uint64_t batches, syncs, removals, clears, gets, refused_puts; /* acknowledged by workers */
    _Atomic uint64_t verified_pages, verified_bytes, checked_pages;
    _Atomic uint64_t dropped_segments, flushes, merges, recovered_pages, torn_pages, losses;
};

struct ledger {
    struct epoch epoch;
    uint64_t life_seed;
    uint64_t life_calls; /* a worker closes after so many; 0: never */
    bool space_short;    /* the file system may be full: calls may say so */
    _Atomic uint32_t phase;
    _Atomic uint64_t calls;     /* of this epoch: the clock of `put_call` */
    _Atomic uint64_t put_bytes; /* of this epoch, rounded up generously */
    struct totals totals;
    atomic_flag failing;
    char failure[400]; /* the first one */
    _Atomic uint8_t state[PAGES];
    uint64_t put_call[PAGES]; /* when a new page of a root batch was acknowledged; 0: not so */
    uint64_t put_at[PAGES];   /* put_bytes when that put began */
};

/* What the parent did. */
struct counts {
    uint64_t lives, epochs, kills, kills_opening, kills_working, kills_closing, ended;
    uint64_t verified, locked, damages, refused, full_lives;
};

/* ledger.c */
struct ledger *ledger_create(int *fd);
struct ledger *ledger_map(int fd);
/* Page sizes, capacity and segments of an epoch whose trouble is known. */
void epoch_draw(struct epoch *epoch, struct random *rng);
/* Everything absent, counters of the epoch at 0. The totals stay. */
void ledger_begin_epoch(struct ledger *ledger);
/* Nothing is certain any more (damage). */
void ledger_forget(struct ledger *ledger);
/* Remember why, and end this process with ROLE_FAILED. */
_Noreturn void ledger_fail(struct ledger *ledger, const char *format, ...) __attribute__((format(printf, 2, 3)));
size_t page_index(uint32_t ns, uint32_t chain, uint32_t page);
varve_id soak_id(uint32_t chain, uint32_t page);
size_t soak_size(const struct epoch *epoch, uint32_t ns, uint32_t chain, uint32_t page);
void soak_fill(uint32_t ns, uint32_t chain, uint32_t page, uint8_t *bytes, size_t size);
bool soak_right(uint32_t ns, uint32_t chain, uint32_t page, const uint8_t *bytes, size_t size);

/* A part of a chain, on its way in or out. */
struct part {
    uint32_t ns, chain, first, count;
    varve_id ids[CHAIN_PAGES];
    varve_page pages[CHAIN_PAGES];
    struct iovec iov[CHAIN_PAGES];
};

/* part.c: what worker and verifier have in common */
/* Name the pages, give them places in `buf` (BATCH_BYTES and a page; `skew` off alignment). */
void part_make(struct part *part, const struct epoch *epoch, uint8_t *buf, size_t skew);
void part_fill(struct part *part);
/* Get; bytes must be right and statuses allowed. found[i]: the page was there. Returns how many were. */
uint32_t part_get(struct part *part, struct ledger *ledger, varve_store *store, varve_namespace *ns, bool *found);
/* Put, and say so in the ledger. False: refused, where that is allowed. */
bool part_put(struct part *part, struct ledger *ledger, varve_store *store, varve_namespace *ns, unsigned flags);
/* Compare what was found with the ledger, which is brought up to date. Only whoever owns the chain may. */
void part_expect(const struct part *part, struct ledger *ledger, const bool *found, const char *who);
/* Open with the options of the epoch and some drawn from rng. VARVE_OK, or a code with *err. */
int soak_open(const struct epoch *epoch, struct random *rng, bool background, varve_store **store, varve_error *err);
void soak_namespaces(struct ledger *ledger, varve_store *store, varve_namespace **namespaces);
uint64_t soak_stat(varve_store *store, const char *name);
/* May a call end so while the file system is full? */
bool soak_full_code(const struct ledger *ledger, int rc);

/* The roles: they return an exit code of their process. */
int worker_run(struct ledger *ledger);
int verifier_run(struct ledger *ledger);
int contender_run(struct ledger *ledger);

/* process.c */
pid_t process_start(enum role role, int ledger_fd);
/* Wait until it ends: its exit code, or -1 (a signal, or it hung and was killed: ledger->failure says so). */
int process_wait(struct ledger *ledger, pid_t pid);
/* Kill, and wait. True: it was killed; false: it had ended by itself, with *code as process_wait() says. */
bool process_kill(struct ledger *ledger, pid_t pid, int *code);
/* Until the worker is there, or has failed, or is taken for hung. */
void process_wait_phase(const struct ledger *ledger, enum phase phase);
void pause_us(uint64_t us);
uint64_t now_us(void);

/* directory.c */
uint64_t directory_bytes(const char *path);
/* Files of a store that is open: NULL, or a name that has no business there, or a count that is not right. */
const char *directory_stray(const char *path, uint64_t segments, uint64_t runs);
void directory_remove(const char *path);
/* Flip a bit of a random file, or cut it, or the like; `what` (SOAK_PATH_BYTES) says which. */
void directory_damage(const char *path, struct random *rng, char *what);

/* report.c */
void report(const struct counts *counts, const struct totals *totals, uint64_t seed, uint64_t us, bool json);

/* full.c */
/* Mount a small file system, seen by this process and its children alone. NULL, or why it cannot be had. */
const char *small_disk_mount(const char *type, const char *scratch, char *mount_path);
/* It goes with this process: copy the store on it to where it stays. */
void small_disk_keep(const char *mount_path, const char *scratch);
void small_disk_unmount(const char *mount_path);
/* Leave about `left` bytes free; UINT64_MAX: take the ballast away. */
void small_disk_fill(const char *mount_path, uint64_t left);

#endif
