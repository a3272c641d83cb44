/* SPDX-License-Identifier: Apache-2.0 */
/*
 * threads.h - one simulated run with several clients inside the store at once: real threads that a seeded scheduler (sim_sched.h) interleaves, with
 * the store's own background thread or without, on the simulated disk, with crashes while calls are in flight. Part by part:
 * threads_config.c draws the kind of run, threads_env.c makes every env call a preemption point, threads_model.c says what must be true
 * of answers that overlap, threads_calls.c makes the calls, threads_faults.c lets operations fail in the middle of them, threads_life.c opens,
 * crashes, closes and looks at the whole store.
 */
#ifndef VARVE_SIM_THREADS_H
#define VARVE_SIM_THREADS_H

#include "oracle.h"
#include "sim_disk.h"
#include "sim_sched.h"
#include "sim_trouble.h"

#define THREADS_CLIENTS_MAX    8
#define THREADS_NAMESPACES_MAX 3
#define THREADS_OPTIONS_MAX    16
#define THREADS_BATCH_MAX      48

enum threads_call {
    CALL_PUT,
    CALL_GET,
    CALL_PROBE,
    CALL_EXISTS,
    CALL_TOUCH,
    CALL_REMOVE,
    CALL_CLEAR,
    CALL_SYNC,
    CALL_OPTION,
    CALL_ITERATE,
    CALL_CHECK,
    CALL_TICK,
    CALL_FILL,
    CALLS,
};

struct threads_option {
    const char *name;
    char value[24];
};

struct threads_config {
    struct sim_disk_settings disk;
    struct oracle_settings universe;
    struct sched_settings sched;
    struct threads_option options[THREADS_OPTIONS_MAX];
    size_t option_count;
    uint32_t weights[CALLS];
    uint32_t clients;
    uint32_t batch_max;
    uint32_t sync_per_mille; /* of puts: durable on return */
    uint32_t calls_per_life;
    uint32_t device_per_mille; /* of env calls during which the device finishes something */
    uint32_t crash_per_mille;  /* of lives */
    uint32_t power_per_mille;  /* of crashes */
    uint64_t crash_span;
    uint32_t fault_per_mille; /* of calls before which something begins to go wrong */
    uint32_t fault_kinds;     /* of enum sim_trouble_kind, a bit each; 0: none */
    bool failing_syncs;       /* only syncs fail */
    uint64_t capacity;
    bool unaligned;
};

/* A run. */
struct threads_plan {
    uint64_t seed;
    uint64_t calls;
    uint32_t clients; /* 0: drawn */
    bool faults;      /* operations fail, allocations too; no device lies */
    bool trace;
};

struct threads_totals {
    uint64_t calls, lives, crashes, steps, pages_put, pages_read, recovered, torn, drops, flushes, merges, no_space;
    uint64_t faults_hit, opens_refused, read_only, calls_failed;
    uint64_t digest; /* of all that happened: equal runs have equal ones */
};

struct model;
struct run;

struct threads_client {
    struct run *run;
    varve_store *store;           /* of its process */
    varve_namespace **namespaces; /* of that */
    struct sim_rng rng;
    uint32_t number;
    uint32_t ns, chain, depth; /* where its conversation is */
};

struct run {
    struct threads_plan plan;
    struct threads_config config;
    struct sim_rng rng;
    struct sim_disk *disk;
    struct oracle *universe; /* ids, sizes and bytes of the pages */
    struct model *model;
    varve_store *store;
    varve_namespace *namespaces[THREADS_NAMESPACES_MAX];
    struct threads_client clients[THREADS_CLIENTS_MAX];
    void (*on_point)(struct run *run, struct env *env); /* at every preemption point in an env call; NULL: nothing */
    uint64_t calls_left;                                /* of this life, for all clients */
    uint64_t segment_drops;
    uint64_t room_least; /* bytes that the store was ever left: its capacity, or what min_free left of it */
    bool faulty;         /* operations may fail in this life: no answer is also an answer, and a miss may be one */
    struct threads_totals *totals;
};

void threads_config_draw(struct threads_config *config, const struct threads_plan *plan);
/* One option more. */
void threads_config_set(struct threads_config *config, const char *name, uint64_t value);
varve_options *threads_options(const struct threads_config *config);

/* What may go wrong in this life; and before a call. */
void threads_faults_of_life(struct run *run, bool last);
void threads_faults_of_call(struct threads_client *client);

/* Env calls of the disk, and of views made from now on, are preemption points. One run at a time. */
void threads_env_attach(struct run *run);
/* Such a point. */
void threads_point(struct env *env);

/* One call. */
void threads_put(struct threads_client *client);
void threads_get(struct threads_client *client);
void threads_probe(struct threads_client *client);
void threads_exists(struct threads_client *client);
void threads_touch(struct threads_client *client);
void threads_remove(struct threads_client *client);
void threads_clear(struct threads_client *client);
void threads_sync(struct threads_client *client);
void threads_iterate(struct threads_client *client);
void threads_check(struct threads_client *client);
void threads_pin(struct threads_client *client);
void threads_unpin(struct threads_client *client);
/* Of an owner: a slice of background work. */
void threads_tick(struct threads_client *client);
/* Of an owner: the memtable seems full to the next put, and is rotated in the middle of that. */
void threads_fill(struct threads_client *client);
/* Read every page of the universe. */
void threads_verify(struct threads_client *client);

/* What a call may still do after it has ended, where another process does it. */
struct threads_effect {
    enum { EFFECT_PUT, EFFECT_REMOVE, EFFECT_CLEAR } kind;
    uint32_t ns;
    const uint32_t *pages;
    size_t count;
};

/*
 * What judges answers, beside the model: threads_life.c where one process has the store, peers_judge.c (sim_peers) where several have.
 *
 * A failure of the store, with that status, that needs no other explanation: the world has stopped, or operations fail.
 */
bool threads_excused(const struct threads_client *client, int64_t status);
/* Pages seen, or not seen, by the client's present call say nothing. */
bool threads_unsure(const struct threads_client *client, bool present);
/* A failure that nothing explains ends the run. */
void threads_expect(struct threads_client *client, int64_t rc, const char *call, const varve_error *err);
/* The call may not have ended for all. */
void threads_settle(struct threads_client *client, const struct threads_effect *effect);
/* Without need, or a full file system, the store drops only what nobody can ask for any more. */
bool threads_space_short(const struct run *run);
/* The store had to reclaim space in this life. */
bool threads_was_full(const struct threads_client *client);
/* Segments dropped so far. */
uint64_t threads_drops(const struct run *run);
/* There are more than that, or one is on its way. */
bool threads_dropped(struct threads_client *client, uint64_t drops);

/* A whole run. Ends the process when it fails. */
void threads_run(const struct threads_plan *plan, struct threads_totals *totals);

#endif
