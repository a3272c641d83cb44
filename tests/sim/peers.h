/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peers.h - one simulated run of several processes that share a store: each has a handle, an env, threads and callers of its own, on one simulated disk
 * (sim_view.h) and one net that misbehaves (sim_net.h), under one scheduler. Processes are killed, stopped, closed and started again, and the power fails.
 *
 * Part by part: peers_config.c draws the kind of run, peers_world.c is what happens to processes, peers_process.c their lives, peers_calls.c what
 * their callers do, peers_judge.c what must be true of it, peers_run.c puts it together. The calls themselves, and what is known of pages, are those of sim_threads
 * (threads.h, threads_model.h).
 *
 * A call that ends without an answer may yet be done: what was sent waits at the owner. Until the owner's end of that connection is closed too, the model takes the
 * call for being under way (struct peers_ghost).
 */
#ifndef VARVE_SIM_PEERS_H
#define VARVE_SIM_PEERS_H

#include <pthread.h>

#include "peers_events.h"
#include "sim_net.h"
#include "threads_model.h"

#define PEERS_MAX         4
#define PEERS_CALLERS_MAX 2

struct peers;
struct peers_process;

struct peers_plan {
    uint64_t seed;
    uint64_t calls;
    bool trace;
};

struct peers_settings {
    struct sim_net_settings net;
    uint32_t processes, callers;
    uint64_t timeout_ms;                          /* the option peer_timeout_ms */
    uint64_t pause_ns;                            /* between calls, at most */
    uint64_t event_ns;                            /* between what happens to processes, at most */
    uint32_t kill, hang, net_break, leave, power; /* weights of these */
    uint32_t owner_per_mille;                     /* of kills and hangs: the owner's */
    uint64_t settle_ns;                           /* from a kill to the end of its I/O, at most */
    uint64_t kill_points;                         /* env calls until a kill, at most */
    uint32_t question_per_mille;                  /* of kills and hangs: at a question of some kind */
    uint64_t calls_per_era;
};

/* Who calls, and what became of the present call. */
struct peers_caller {
    struct threads_client client; /* first */
    struct peers_process *process;
    struct sim_net_watch watch;
    pthread_t thread;
    bool calling, putting;
    bool owned, silent; /* at the begin of the call: the process was the owner, or did not ask it for a while */
    uint64_t began_ns;
    uint64_t stopped_ns; /* of the process, at the begin */
    uint64_t timeouts;
};

struct peers_process {
    struct peers *peers;
    uint32_t number;
    struct sched_group group;
    struct sim_view *view; /* NULL: it does not run */
    varve_store *store;    /* NULL: not open */
    varve_namespace *namespaces[THREADS_NAMESPACES_MAX];
    struct peers_caller callers[PEERS_CALLERS_MAX];
    pthread_t keeper;
    uint64_t points_left; /* env calls until it is killed, or, `hangs`, stopped; 0: it is not to be */
    uint16_t question; /* enum message_type: they are counted from when one such is asked or answered; 0: from now on */
    bool hangs;
    bool strands;        /* in the middle of a put, and the owner is killed then */
    uint64_t settle_ns;  /* when a dead one is settled */
    uint64_t stopped_ns; /* in all */
    bool leaves;         /* it is to close the store */
    bool refused;        /* the last open failed */
    bool closing;
    bool quiet; /* its callers have ended, the store is open */
    bool gone;  /* it does not run, and will not in this era */
};

/* What a call may still do. */
struct peers_ghost {
    struct peers_ghost *next;
    struct sim_net_watch watch;
    struct threads_effect effect;
    uint32_t pages[THREADS_BATCH_MAX];
    uint64_t begin;
};

struct peers {
    struct run run; /* first */
    struct threads_totals threads_totals;
    struct peers_totals *totals;
    struct peers_settings settings;
    struct sim_net *net;
    struct peers_process processes[PEERS_MAX];
    struct peers_ghost *ghosts;
    bool calm;         /* nothing goes wrong any more in this era */
    bool released;     /* quiet processes go on */
    bool was_full;     /* the store was, once */
    bool late_writers; /* a process was stopped for longer than a new owner waits for its writes */
    uint64_t event_at_ns;
    uint64_t events_left;  /* of this era: who is killed again and again never calls */
    uint64_t ownerless_ns; /* since when nobody owns the store, though somebody could; 0: somebody does */
};

#define PEERS_COUNT(peers, event, count) ((peers)->totals->counts[PEERS_EVENT_##event] += (uint64_t)(count))

/* peers_config.c */
void peers_config_draw(struct peers *peers, const struct peers_plan *plan);

/* peers_world.c: what happens to processes. */
void peers_kill(struct peers_process *process);
/* Something may happen, or time passes. */
void peers_world_step(struct peers *peers);
/* The power is off: all processes are dead, and settled. */
void peers_world_stop(struct peers *peers);
/* Every env call passes here. */
void peers_on_point(struct run *run, struct env *env);
/* It runs, and has the store open. */
bool peers_is_open(const struct peers_process *process);
/* The process that owns the store, or NULL. */
struct peers_process *peers_owner(struct peers *peers);

/* peers_process.c: a thread that starts the process, and again, as long as there are calls. */
void *peers_keeper_main(void *arg); /* a struct peers_process */

/* peers_calls.c */
void *peers_caller_main(void *arg); /* a struct peers_caller */
/* A caller of the process; the thread that calls is the present one. */
void peers_caller_init(struct peers_caller *caller, struct peers_process *process, uint64_t seed);
/* One call, with what must be true of any. */
void peers_call(struct peers_caller *caller, void (*call)(struct threads_client *client));

/* peers_judge.c */
/* The present call of the caller met trouble on the way to the owner: nothing is known of what it did not find. */
bool peers_troubled(const struct peers_caller *caller);
void peers_ghosts_sweep(struct peers *peers);
/* The quiet processes look at everything, each, and find what must be there. */
void peers_look_at_all(struct peers *peers);
/* A handle is about to go. */
void peers_count_store(struct peers *peers, varve_store *store);

/* peers_run.c: a whole run. Ends the process when it fails. */
void peers_run(const struct peers_plan *plan, struct peers_totals *totals);

#endif
