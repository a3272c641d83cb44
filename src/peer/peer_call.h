/* SPDX-License-Identifier: Apache-2.0 */
/* peer_call.h - one question of a peer on a connection of its own. Used by one thread. */
#ifndef VARVE_PEER_PEER_CALL_H
#define VARVE_PEER_PEER_CALL_H

#include "peer/peer.h"

struct peer_call {
    struct peer *peer;
    struct peer_link *link;
    struct peer_question question;
    struct peer_answer answer; /* its bytes are valid until the next, or peer_call_end() */
};

/* VARVE_OK, or as peer_link_acquire(): then there is nothing to end. */
int peer_call_begin(struct peer_call *call, varve_store *store, enum message_type type, bool slow);
/* One more part of the question; it stays the caller's. */
void peer_call_part(struct peer_call *call, const void *bytes, size_t size);
/* Ask. The status of the answer, with what the owner says is wrong in *err; or as peer_ask(). */
int peer_call_ask(struct peer_call *call, varve_error *err);
/* The next answer, where the last one had the status MESSAGE_GOING_ON. As peer_call_ask(). */
int peer_call_hear(struct peer_call *call, varve_error *err);
/* `rc`: how it went; the connection is kept for others if it is in step. */
void peer_call_end(struct peer_call *call, int rc);
/* Of an answer that makes no sense: whoever gave it is as good as gone. */
int peer_check_answer(bool good);

#endif
