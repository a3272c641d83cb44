/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/peer_call.h"

#include <string.h>

#include "base/error.h"

int
peer_call_begin(struct peer_call *call, varve_store *store, enum message_type type, bool slow)
{
    *call = (struct peer_call){.peer = store->peer, .question = {.type = type, .slow = slow}};
    return peer_link_acquire(call->peer, &call->link);
}

void
peer_call_part(struct peer_call *call, const void *bytes, size_t size)
{
    call->question.parts[call->question.part_count++] = (struct iovec){(void *)(uintptr_t)bytes, size};
}

static int
take_answer(const struct peer_call *call, int rc, varve_error *err)
{
    const struct peer_answer *answer = &call->answer;

    if (rc != VARVE_OK)
        return rc;
    if (answer->status < 0 && answer->status > MESSAGE_STATUSES)
        (void)error_set(err, answer->status, "%.*s", (int)strnlen((const char *)answer->body, answer->size),
                        (const char *)answer->body);
    return answer->status;
}

int
peer_call_ask(struct peer_call *call, varve_error *err)
{
    return take_answer(call, peer_ask(call->peer, call->link, &call->question, &call->answer), err);
}

int
peer_call_hear(struct peer_call *call, varve_error *err)
{
    return take_answer(call, peer_hear(call->peer, call->link, &call->question, &call->answer), err);
}

void
peer_call_end(struct peer_call *call, int rc)
{
    peer_link_release(call->peer, call->link, rc);
}

int
peer_check_answer(bool good)
{
    return good ? VARVE_OK : PEER_AGAIN;
}
