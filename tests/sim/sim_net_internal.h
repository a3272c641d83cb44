/* SPDX-License-Identifier: Apache-2.0 */
/* sim_net_internal.h - streams (sim_net.c) and the env's calls on them (sim_share.c). */
#ifndef VARVE_SIM_NET_INTERNAL_H
#define VARVE_SIM_NET_INTERNAL_H

#include "sim_internal.h"
#include "sim_net.h"

enum sim_side { SIM_CLIENT, SIM_SERVER, SIM_SIDES };

/* Bytes that arrive together. */
struct sim_chunk {
    struct sim_chunk *next;
    struct sim_parcel parcel; /* comes with the first of them */
    uint64_t due_ns;
    size_t size, taken;
    uint8_t bytes[];
};

/* A socket, as the env's caller has it. */
struct sim_socket {
    struct env_socket base; /* first */
    bool listens;
    bool released; /* its caller has closed it, or never had it */
    bool over;     /* for all others it is closed */
};

struct sim_end {
    struct sim_socket socket; /* first */
    struct sim_connection *connection;
    struct sim_chunk *first, **last; /* on their way to this end */
    size_t bytes;
    uint64_t last_due_ns;
    bool reset; /* the other end was closed with unread bytes */
};

struct sim_connection {
    struct sim_connection *next;
    uint64_t number;
    struct sim_end ends[SIM_SIDES];
    struct sim_listener *listener; /* that it waits at to be taken, or NULL */
    uint64_t accept_due_ns;
    bool ended;     /* nothing more is sent */
    uint16_t asked; /* enum message_type of the question that has no answer yet; 0: none */
};

struct sim_listener {
    struct sim_socket socket; /* first */
    struct sim_listener *next;
    struct sim_inode *inode; /* one of its handles */
};

static inline struct sim_end *
sim_other_end(struct sim_end *end)
{
    struct sim_connection *connection = end->connection;

    return end == &connection->ends[SIM_CLIENT] ? &connection->ends[SIM_SERVER] : &connection->ends[SIM_CLIENT];
}

struct sim_connection *sim_connection_create(struct sim_net *net, struct sim_listener *listener);
/* For others the end is closed. */
void sim_end_close(struct sim_end *end);
void sim_listener_close(struct sim_net *net, struct sim_listener *listener);
/* Free what is closed on all sides. */
void sim_net_collect(struct sim_net *net);
/* What was sent up to some point arrives. */
void sim_connection_break(struct sim_net *net, struct sim_connection *connection);
void sim_chunk_append(struct sim_end *to, struct sim_chunk *chunk);
void sim_chunk_drop_first(struct sim_end *end);
/* When what is sent now arrives. */
uint64_t sim_net_due(struct sim_net *net);
bool sim_net_chance(struct sim_net *net, uint32_t per_mille);

extern const struct env_share_ops sim_share_ops;
extern _Thread_local struct sim_net_watch *sim_net_watched;

#endif
