/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_net.h - connections between the processes of a simulated machine: Unix streams, in virtual time, that misbehave by a seed.
 *
 * A stream loses no byte in the middle. It breaks: what was sent up to some point, perhaps within a message, arrives, and then both ends find it over. Or it
 * goes silent: what is sent arrives late, or never, and nobody is told. Bytes arrive in pieces of any size; connections are refused, or taken late. Files
 * travel with bytes. With sim_sched.h: whoever waits lets others run.
 */
#ifndef VARVE_SIM_NET_H
#define VARVE_SIM_NET_H

#include "sim_sched.h"
#include "sim_view.h"

#define SIM_NEVER         UINT64_MAX
#define SIM_NET_WATCH_MAX 64

struct sim_net_settings {
    uint64_t seed;
    size_t room_bytes;        /* in a stream, one way */
    uint32_t split_per_mille; /* of sends and receives: only a part */
    uint32_t delay_per_mille; /* of sends: the bytes arrive in up to ... */
    uint64_t delay_ns;
    uint32_t late_per_mille; /* the same, far later */
    uint64_t late_ns;
    uint32_t silence_per_mille; /* of sends: the bytes never arrive, nor do any after them */
    uint32_t break_per_mille;   /* of sends */
    uint32_t refuse_per_mille;  /* of connections that are asked for */
};

/* How often what happened. */
struct sim_net_hits {
    uint64_t splits, delays, late, silences, breaks, refusals, parcels, resets, timeouts;
    uint64_t broken_inside; /* breaks that took bytes away */
};

struct sim_net {
    struct sim_net_settings settings;
    struct sim_disk *disk;
    struct sim_rng rng;
    struct sim_connection *connections;
    struct sim_listener *listeners;
    uint64_t made;                  /* connections, ever */
    bool calm;                      /* nothing misbehaves */
    void (*point)(struct env *env); /* at every call: others may run */
    struct sim_net_hits hits;
};

/* What became of the calls of one thread. */
struct sim_net_watch {
    uint64_t troubles;                       /* connections refused, broken, timed out */
    uint64_t connections[SIM_NET_WATCH_MAX]; /* that it has sent on */
    size_t count;
};

/* The net of the disk's machine: its views get env->share. */
struct sim_net *sim_net_create(struct sim_disk *disk, const struct sim_net_settings *settings);
void sim_net_destroy(struct sim_net *net);
void sim_net_attach(struct sim_net *net, struct sim_view *view);

/* The sockets of a dead process end: others hear of it. */
void sim_net_settle(struct sim_net *net, struct sim_view *view);
/* Break some connection. */
void sim_net_break(struct sim_net *net);
/* Nothing misbehaves from now on, and connections that have gone silent or are late break. Or everything may again. */
void sim_net_set_calm(struct sim_net *net, bool calm);

/* Whether a process waits for the answer to such a question (enum message_type), or, `owes`, has not given it. */
bool sim_net_asks(const struct sim_net *net, const struct sim_view *view, uint16_t type, bool owes);

/* Note what happens to the calling thread from now on; NULL: no more. */
void sim_net_watch(struct sim_net_watch *watch);
/* Whether one of its connections was given up at this end, while the other end may still act on what it was sent. */
bool sim_net_lingers(const struct sim_net *net, const struct sim_net_watch *watch);

#endif
