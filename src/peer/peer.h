/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.h - a peer's end: connections to the owner, one for each call that is under way, and the calls of varve.h as they are done through it. Every call ends in a
 * bounded time, whatever the owner does.
 *
 * What calls return beside their own: PEER_AGAIN the owner was lost, role_settle() finds the next one, or makes this process it, and the call is repeated;
 * MESSAGE_STALE_NAMESPACE the same after peer_namespace_refresh(); VARVE_E_TIMEOUT.
 */
#ifndef VARVE_PEER_PEER_H
#define VARVE_PEER_PEER_H

#include "peer/connection.h"
#include "peer/descriptors.h"
#include "store/store.h"

#define PEER_AGAIN (-2002)

/* A connection to the owner: of one call at a time. */
struct peer_link {
    struct connection connection;
    struct peer_link *next;
    uint64_t life; /* of its owner */
    uint64_t epoch;
    uint64_t calls;
    uint32_t get_us, put_us; /* that gets and puts took on it, to be told with the next question */
    bool apart;              /* it is not one of peer->links */
};

struct peer {
    varve_store *store;
    struct env *env;
    uint64_t timeout_ms;
    struct descriptors descriptors;
    struct env_file *writers_file; /* locked, shared, while this process may be writing to segments */
    struct mutex lock;
    struct cond changed;      /* electing, writers */
    struct cond returned;     /* a call may go on: a link, electing, silent_until_ns */
    struct peer_link *idle;   /* connections */
    uint32_t links, waiting;  /* connections that there are, or are being made; calls that wait for one */
    uint64_t epoch;           /* counts owners, as far as this process has met them */
    uint64_t life;            /* of the owner that was met, whom no other is taken for; 0: none */
    uint64_t silent_until_ns; /* the owner did not answer: until then it is not asked again */
    uint32_t writers;         /* puts under way, that may be writing */
    bool electing;            /* a thread looks for an owner: */
    pthread_t elector;        /* this one; calls of others wait until it has told the owner what it has to know */
};

/* For a store without owner. The first link must be made: peer_connect(). */
int peer_create(varve_store *store, struct peer **out, varve_error *err);
/* No call is under way. NULL is a no-op. */
void peer_destroy(struct peer *peer);

/*
 * Meet the owner: a connection, kept for the next call. 0 or -errno: -ENOENT, -ECONNREFUSED there is no owner (yet); -ETIMEDOUT; -EPROTONOSUPPORT *err says why. `first`: the
 * store learns from the owner what it has to know.
 */
int peer_connect(struct peer *peer, bool first, varve_error *err);
/* The owner is another: all that was of the last one goes. No call finds the next one before it is met. peer->lock not held. */
void peer_forget_owner(struct peer *peer);

/* The owner did not answer, or there is none: calls of the next time do not wait for it. VARVE_E_TIMEOUT. */
int peer_note_silence(struct peer *peer);

/* The epoch that calls begin in. */
uint64_t peer_epoch(struct peer *peer);

/*
 * A connection for one call, to the owner that was met. There are so many at most, since an owner takes but so many of all its peers; calls wait for one in turn. VARVE_OK,
 * PEER_AGAIN or VARVE_E_TIMEOUT.
 */
#define PEER_LINKS_MAX 32
int peer_link_acquire(struct peer *peer, struct peer_link **out);
void peer_link_release(struct peer *peer, struct peer_link *link, int rc);
/* It will be used for long: calls need not wait for it. */
void peer_link_set_apart(struct peer *peer, struct peer_link *link);
/* An election has ended. peer->lock held. */
void peer_wake(struct peer *peer);

/* What was answered. */
struct peer_answer {
    int32_t status;
    const uint8_t *body; /* until the next question */
    size_t size;
    struct env_file *file; /* the caller's, or NULL */
};

/* A question, with `parts`. `slow`: the owner may have to write for it, or to read pages. VARVE_OK: it was answered, whatever the status. PEER_AGAIN, VARVE_E_TIMEOUT. */
struct peer_question {
    enum message_type type;
    bool slow, wants_file;
    uint64_t extra_ms; /* that the answer takes in any case */
    uint32_t part_count;
    struct iovec parts[CONNECTION_PARTS_MAX];
};
int peer_ask(struct peer *peer, struct peer_link *link, const struct peer_question *question,
             struct peer_answer *answer);
/* One more answer to the question that was asked last. */
int peer_hear(struct peer *peer, struct peer_link *link, const struct peer_question *question,
              struct peer_answer *answer);

/* A put begins to write, and has ended. PEER_AGAIN: there is a new owner, which is not to be disturbed. */
int peer_write_begin(struct peer *peer);
void peer_write_end(struct peer *peer);

/* peer_calls.c: statuses, counts and pages as in varve.h, or above. */
int64_t peer_probe(varve_store *store, const varve_namespace *ns, const varve_id *ids, size_t count,
                   varve_estimate *estimate);
int peer_exists_batch(varve_store *store, const varve_namespace *ns, const varve_id *ids, size_t count,
                      uint8_t *exists);
/* TOUCH, REMOVE, PIN, UNPIN */
int64_t peer_count_ids(varve_store *store, enum message_type type, const varve_namespace *ns, const varve_id *ids,
                       size_t count, varve_error *err);
int peer_namespace_open(varve_store *store, const char *name, const varve_namespace_attributes *attributes,
                        varve_namespace **out, varve_error *err);
/* Learn its number anew. */
int peer_namespace_refresh(varve_store *store, varve_namespace *ns, varve_error *err);
int peer_namespace_clear(varve_store *store, const varve_namespace *ns, varve_error *err);
int peer_limits_set(varve_store *store, varve_namespace *ns, const varve_namespace_limits *limits, varve_error *err);
/* Those that were set before, once there is another owner. VARVE_OK: it has them, or takes no writes and has no such namespace; else some are not set. */
int peer_limits_repeat(varve_store *store);
int peer_option_set(varve_store *store, const char *name, const char *value, varve_error *err);
int peer_sync(varve_store *store, varve_error *err);
/* The owner's statistics, as it counts them; how many there are, or a negative code. */
int64_t peer_owner_stats(varve_store *store, uint64_t *values, size_t count);
/* Of all statistics, those that are counters, as this process counts them; and that it is no owner. */
void peer_own_counters(varve_store *store, uint64_t *values, size_t count);
/* peer_data.c. What was not found or read for want of an owner is a miss, what was not stored has VARVE_E_TIMEOUT. */
int peer_get_batch(varve_store *store, const varve_namespace *ns, varve_page *pages, size_t count, varve_error *err);
int peer_put_batch(varve_store *store, varve_namespace *ns, const varve_id *parent, varve_page *pages, size_t count,
                   unsigned flags);

#endif
