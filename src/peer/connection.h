/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection.h - whole messages over a socket, for both ends. One question at a time: what comes after an unfinished or an answered one breaks the
 * connection, and so does half a message that is not followed by the rest in time. Only behind an answer that goes on the next one may have come already: it
 * is kept. Used by one thread at a time.
 */
#ifndef VARVE_PEER_CONNECTION_H
#define VARVE_PEER_CONNECTION_H

#include "env/env.h"
#include "peer/message.h"

#define CONNECTION_PARTS_MAX 4 /* of a body */

struct connection {
    struct env *env;
    struct env_socket *socket;
    uint8_t *buf; /* header and body of what was received last */
    size_t capacity;
    size_t taken;   /* bytes of that, */
    size_t surplus; /* and those behind it, of the next message */
};

/* Takes the socket over, also on failure. 0 or -ENOMEM. */
int connection_init(struct connection *connection, struct env *env, struct env_socket *socket);
void connection_deinit(struct connection *connection);

/* A message: its header's length is set here. `file`: goes along, or NULL. 0 or -errno: -ETIMEDOUT, -EPIPE. */
int connection_send(struct connection *connection, struct message_header *header, const struct iovec *parts,
                    uint32_t part_count, const struct env_file *file, uint64_t timeout_ms);

/*
 * The next message, with its body, valid until the next call. 0 or -errno: -EAGAIN nothing came in wait_ms; -ETIMEDOUT the rest did not in timeout_ms; -EPIPE
 * the other end is gone; -EPROTO nonsense; -EPROTONOSUPPORT another version (the header is filled, the body is there); -ENOMEM. `file`: NULL, or NULL in it.
 */
int connection_receive(struct connection *connection, uint64_t wait_ms, uint64_t timeout_ms,
                       struct message_header *header, const uint8_t **body, struct env_file **file);

#endif
