/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h - one connection of a peer, as the owner sees it. server.c has its thread, serve_calls.c and serve_put.c answer. Private to these. All but what
 * server->lock guards is used by that thread alone.
 */
#ifndef VARVE_PEER_CLIENT_H
#define VARVE_PEER_CLIENT_H

#include "peer/connection.h"
#include "store/put.h"
#include "store/store.h"

struct server;

/* An extent that a peer is writing. */
struct client_extent {
    struct client_extent *next;
    struct extent_write *extent;
    size_t first; /* of the put's pages */
    varve_page *pages;
    uint64_t token;
};

/* The put of a peer: one at a time on a connection. */
struct client_put {
    bool begun;
    struct placement placement; /* with a copy of the ids */
    struct write_batch batch;
    struct extent_header key_part; /* of the next extent of the run */
    size_t next;                   /* page that goes on with the run; count: none does */
    size_t pending;                /* pages that are not reserved for yet */
    struct client_extent *extents;
    uint64_t reserved_bytes;
    uint64_t used_ns; /* when the last question of the put was answered */
    uint64_t tokens;  /* given out */
};

/* An iteration of a peer: one at a time on a connection. */
struct client_iter {
    struct store_iter *rows; /* NULL: none */
    varve_item held;
    bool has_held;
    uint64_t used_ns;
};

struct client {
    struct server *server;
    varve_store *store;
    struct connection connection;
    struct client_put put;
    struct client_iter iter;
    uint64_t told_ns; /* the peer told last what time its calls took */
    bool greeted;
    bool lost; /* it no longer takes the answer that it asked for */
    pthread_t thread;
    /* server->lock: */
    struct client *next;
    bool busy;    /* with a question */
    bool putting; /* between two of a put */
    bool closing;
    uint64_t idle_since_ns;
};

/* What is sent back; what it holds is let go when it was. */
struct answer {
    int32_t status;
    uint8_t fixed[96];
    struct iovec parts[CONNECTION_PARTS_MAX];
    uint32_t part_count;
    void *memory;            /* to be freed */
    struct env_file *file;   /* to go along, */
    struct segment *segment; /* of this one */
};

void answer_add(struct answer *answer, const void *bytes, size_t size);

/* server.c: an answer goes out. 0 or -errno. */
int client_answer(struct client *client, const struct message_header *question, const struct answer *answer);
/* serve_calls.c: a failure, with its text. */
void answer_error(struct client *client, struct answer *answer, int rc, const varve_error *err);

/* serve_calls.c. False: it was nonsense, and the connection is to end. */
bool serve_call(struct client *client, const struct message_header *header, const uint8_t *body, struct answer *answer);

/* serve_put.c. The same, of PUT_BEGIN, RESERVE and COMMIT. */
bool serve_put_begin(struct client *client, const uint8_t *body, size_t size, struct answer *answer);
bool serve_reserve(struct client *client, const uint8_t *body, size_t size, struct answer *answer);
bool serve_commit(struct client *client, const uint8_t *body, size_t size, struct answer *answer);

/* serve_reports.c. The same of ITER_OPEN, ITER_NEXT, CHECK (which sends answers of its own before), CONTROL_LOG, TUNE and TUNE_MEASURE. */
bool serve_iter_open(struct client *client, const uint8_t *body, size_t size, struct answer *answer);
bool serve_iter_next(struct client *client, size_t size, struct answer *answer);
bool serve_check(struct client *client, const struct message_header *question, const uint8_t *body,
                 struct answer *answer);
void serve_control_log(struct client *client, struct answer *answer);
bool serve_tune(struct client *client, const uint8_t *body, size_t size, struct answer *answer);
bool serve_tune_measure(struct client *client, const uint8_t *body, size_t size, struct answer *answer);
void client_iter_close(struct client *client);
/* Whether nobody asked for its rows for too long. */
bool client_iter_expired(const struct client *client, uint64_t now_ns);

/* The peer is gone, or took too long: what it was writing must never be read. */
void client_put_abandon(struct client *client);
/* Whether it has had its time. */
bool client_put_expired(const struct client *client, uint64_t now_ns);

#endif
