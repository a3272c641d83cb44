/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_driver.h - one simulated run: a store on a simulated disk, several clients that call it, background steps between their calls,
 * crashes, and the oracle that judges every answer. Everything follows from the seed. Each call
 * draws from a stream of its own, derived from the seed and its number, so that leaving one out does not disturb the others. Part by part:
 * sim_config.c draws what kind of run it is, sim_faults.c what goes wrong, sim_ops.c and sim_reads.c make the calls, sim_verify.c looks at a
 * whole store, sim_recency.c at what is live in it, sim_life.c opens, crashes and closes, sim_events.c counts, sim_shrink.c makes a failing run small.
 */
#ifndef VARVE_SIM_DRIVER_H
#define VARVE_SIM_DRIVER_H

#include "oracle.h"
#include "sim_disk.h"
#include "sim_events.h"
#include "sim_trouble.h"
#include "store/store.h"

#define SIM_NAMESPACES_MAX 4
#define SIM_CLIENTS_MAX    6
#define SIM_OPTIONS_MAX    20
#define SIM_STATS_MAX      256

enum sim_call {
    SIM_CALL_PUT,
    SIM_CALL_GET,
    SIM_CALL_PROBE,
    SIM_CALL_EXISTS,
    SIM_CALL_TOUCH,
    SIM_CALL_REMOVE,
    SIM_CALL_CLEAR,
    SIM_CALL_SYNC,
    SIM_CALL_OPTION,
    SIM_CALL_ITERATE,
    SIM_CALL_CHECK,
    SIM_CALL_TICK,
    SIM_CALL_FILL,
    SIM_CALL_HUGE,
    SIM_CALL_LIMITS, /* from here on: not in every run, so that seeds without them stay what they were */
    SIM_CALL_PIN,
    SIM_CALL_UNPIN,
    SIM_CALLS,
};

struct sim_option {
    const char *name;
    char value[24];
};

/* What kind of run a seed makes: a random subset of features, and limits so small that they are reached. */
struct sim_config {
    struct sim_disk_settings disk;
    struct oracle_settings oracle;
    struct sim_option options[SIM_OPTIONS_MAX];
    size_t option_count;
    uint32_t clients;
    uint32_t weights[SIM_CALLS];
    uint32_t batch_max;
    bool whole_batches; /* batches are as large as they can be, mostly */
    bool
        honest; /* batches are always consecutive pages of a chain, and their parents the right ones; nothing is removed */
    uint32_t hot_chains; /* that are used again and again; 0: all alike */
    uint32_t ops_per_life;
    uint32_t crash_per_mille;      /* calls in or after which the world stops */
    uint32_t crash_open_per_mille; /* opens, and closes, in which it does */
    uint32_t power_per_mille;      /* of crashes */
    uint64_t crash_span;           /* the crash comes among so many changes of the disk */
    uint32_t fault_per_mille;      /* calls before which something begins to go wrong */
    uint32_t fault_kinds;          /* which of enum sim_trouble_kind, a bit each */
    uint64_t capacity;             /* as it is now */
    uint64_t capacity_least;       /* that it was, or that min_free left of it */
    bool capacity_changes;         /* from life to life */
    bool unaligned;
    bool heat_trouble; /* the file HEAT is damaged or missing now and then */
};

/* What goes wrong beside crashes. */
enum sim_trouble {
    SIM_TROUBLE_NONE,
    SIM_TROUBLE_RANDOM, /* failing and lying devices, failing allocations, rotten bits */
    SIM_TROUBLE_NTH,    /* the nth operation of a kind fails, in the whole run; no crashes */
};

/* What a shrunk run goes without. */
enum sim_plain {
    SIM_PLAIN_DISK = 1,    /* no short, refused or stalled transfers, no torn writes */
    SIM_PLAIN_CLIENTS = 2, /* one client, aligned buffers */
    SIM_PLAIN_FAULTS = 4,  /* no faults at opens */
    SIM_PLAINS = 3,        /* how many there are */
};

/* A page, when it was looked at last. */
struct sim_recency {
    uint64_t value;   /* of its last use; 0: it was not there, or is not known */
    uint64_t segment; /* where it lay */
    uint32_t ns_id;
    uint32_t copies;
};

/* A run. */
struct sim_plan {
    uint64_t seed;
    uint64_t ops;
    enum sim_trouble trouble;
    enum sim_op nth_op; /* of SIM_TROUBLE_NTH */
    uint64_t nth;
    unsigned plain;        /* of enum sim_plain */
    const uint8_t *wanted; /* ops: whether that call is made; NULL: all are */
};

/* What a crash interrupts. */
enum sim_phase {
    SIM_PHASE_OPEN,
    SIM_PHASE_CALLS,
    SIM_PHASE_CLOSE,
};

/* Where a client is in its conversation. */
struct sim_client {
    uint32_t ns, chain, depth;
};

struct sim {
    struct sim_plan plan;
    struct sim_config config;
    struct sim_rng rng;
    struct sim_disk *disk;
    struct oracle *oracle;
    varve_store *store;
    varve_namespace *namespaces[SIM_NAMESPACES_MAX];
    struct sim_client clients[SIM_CLIENTS_MAX];
    uint64_t call_ns;                   /* when this call, or look, began */
    uint64_t lost;                      /* reclaim_lost_bytes, as last seen in this life */
    bool quota[SIM_NAMESPACES_MAX];     /* there was one in this life: what it gave up stays given up */
    uint64_t ttl_s[SIM_NAMESPACES_MAX]; /* in this life */
    bool budget;                        /* the write budget was set in this life */
    uint64_t dropped;                   /* segments, as last seen in this life */
    uint64_t levels;                    /* the most, in this life */
    uint64_t rotation;                  /* number of the manifest in force, as last seen in this life */
    uint64_t fixed;       /* bytes of the directory that are neither segments nor runs, as the store counts them */
    uint64_t used_excess; /* bytes it may hold over the capacity: what a crash, or a lower capacity, left to an open */
    uint64_t hits;        /* of faults, on disks that were wiped since */
    enum sim_phase phase;
    uint64_t stats[SIM_STATS_MAX]; /* the store's, after the last call */
    bool faulty;                   /* operations may fail in this life: no answer is also an answer */
    struct sim_recency *recency;   /* namespace * pages + page, of this life */
    unsigned recency_shift;        /* of epochs, then */
    uint64_t recency_losses;       /* of live pages, then */
    bool holes;                    /* something but age has taken pages from the middle of chains */
    bool lowered;                  /* the capacity is below what is used */
    bool freeing;                  /* min_free is above what is free */
    bool ghosts;                   /* a crash may have taken pages that the file HEAT knows */
    struct sim_totals *totals;
};

void sim_config_draw(struct sim_config *config, const struct sim_plan *plan);
/* The option capacity or min_free is `value` from now on, so that the store has `room` bytes. */
void sim_config_set_room(struct sim_config *config, const char *name, uint64_t value, uint64_t room);
/* The options that may differ from life to life are drawn again. */
void sim_config_redraw(struct sim_config *config, struct sim_rng *rng);

/* One call, or one step of background work. */
void sim_put(struct sim *sim);
void sim_remove(struct sim *sim);
void sim_clear(struct sim *sim);
void sim_sync_store(struct sim *sim);
void sim_option(struct sim *sim);
void sim_tick(struct sim *sim);
/* The memtable seems full to the next put: it is rotated in the middle of that. */
void sim_fill(struct sim *sim);
void sim_get(struct sim *sim);
void sim_probe(struct sim *sim);
void sim_exists(struct sim *sim);
void sim_touch(struct sim *sim);
/* sim_limits.c: quotas, times to live, the write budget; pins. */
void sim_limits(struct sim *sim);
void sim_pin(struct sim *sim);
void sim_unpin(struct sim *sim);
/* A life begins; a call does. */
void sim_limits_of_life(struct sim *sim);
void sim_limits_of_call(struct sim *sim);
/* Pages of a put that were left out on purpose. */
void sim_judge_skipped(struct sim *sim, uint32_t ns, uint32_t page);
/* Without need the store drops only what nobody can ask for any more. */
bool sim_space_was_short(const struct sim *sim);
/* Pages too large to be stored. */
void sim_huge(struct sim *sim);

/* Pages a call names: a stretch of a chain, or a handful from anywhere. The caller frees both. */
struct sim_pick {
    uint32_t ns;
    uint32_t chain, depth; /* of the first, when in_order */
    size_t count;
    bool in_order; /* consecutive pages of one chain */
    uint32_t *pages;
    varve_id *ids;
};
struct sim_pick sim_pick_make(struct sim *sim, bool distinct);
void sim_pick_free(struct sim_pick *pick);

/* How many of the pages must be, and may be, there. */
void sim_count_bounds(const struct sim *sim, const struct sim_pick *pick, int64_t *least, int64_t *most);

/* Look for every page of the universe; read all of them, or only some, and compare the bytes. */
void sim_verify_pages(struct sim *sim, bool read_all);
/* Every page is iterated over once, and no other. */
void sim_verify_iteration(struct sim *sim);
/* varve_check() finds nothing. */
void sim_verify_check(struct sim *sim);
/* The directory holds what the manifest names, no more and no less, and the store counts its bytes right. No background work in progress. */
void sim_verify_accounts(struct sim *sim);
/* No background work is left: the directory is within its limits, or there is nothing to drop. */
void sim_verify_limits(struct sim *sim);
/* sim_recency.c: a life has begun; the run is over; a page was removed on purpose; look. */
void sim_recency_begin(struct sim *sim);
void sim_recency_end(struct sim *sim);
void sim_recency_forget(struct sim *sim, uint32_t ns, uint32_t page);
void sim_recency_check(struct sim *sim);
/* Read `count` pages into fresh buffers and judge each; small_per_mille of the buffers are too small. */
void sim_read_pages(struct sim *sim, uint32_t ns, const uint32_t *numbers, size_t count, uint32_t small_per_mille);

/* Are these pages there? Each answer is judged. */
void sim_ask(struct sim *sim, uint32_t ns, const uint32_t *pages, const varve_id *ids, size_t count);

/* A failure of the store that nothing explains: no fault was injected and the world goes on. */
bool sim_excused(const struct sim *sim);
void sim_expect(struct sim *sim, int64_t rc, const char *call, const varve_error *err);
/* Tell the oracle about segments dropped since last asked. */
void sim_note_drops(struct sim *sim);
/* Whether segments were dropped since then that pages may be gone with. */
bool sim_drops_now(const struct sim *sim);

/* sim_faults.c: what may go wrong in this life, and before this call. */
void sim_faults_of_life(struct sim *sim);
void sim_faults_of_call(struct sim *sim);

/* sim_events.c */
#define SIM_COUNT(sim, event, n) ((void)((sim)->totals->counts[event] += (n)))
void sim_count_life(struct sim *sim);
void sim_count_disk(struct sim *sim);

/* A counter of the open store, without the cost of all the others. */
#define SIM_STAT(sim, name) atomic_load_explicit(&(sim)->store->counters.name, memory_order_relaxed)

/* A whole run. Ends the process when it fails. Returns how often a fault hit. */
uint64_t sim_run(const struct sim_plan *plan, struct sim_totals *totals);

/* sim_shrink.c: a failing run made small, each try in a process of its own. Prints the command line. False: the run does not fail. */
bool sim_shrink(const struct sim_plan *plan, void (*describe)(const struct sim_plan *plan, char *text, size_t size));

#endif
