/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/peer_reports.h"

#include <string.h>

#include "base/error.h"
#include "base/wire.h"
#include "peer/message_report.h"
#include "peer/peer_call.h"

struct peer_iter {
    struct peer_call call;
    uint32_t count, next; /* of the rows at hand */
    int rc;               /* what every further call returns: VARVE_OK while there may be more */
    const char *name;     /* of their namespace, in name_bytes, or NULL */
    char name_bytes[VARVE_NAMESPACE_NAME_MAX + 1];
    uint8_t rows[MESSAGE_ITEMS_MAX * MESSAGE_ITEM_BYTES];
};

int
peer_iter_open(varve_store *store, uint32_t ns_id, enum varve_iter_kind kind, struct peer_iter **out, varve_error *err)
{
    const struct message_iter asked = {.kind = (uint32_t)kind, .ns_id = ns_id};
    struct peer_iter *iter = env_zalloc(store->env, sizeof(*iter));
    uint8_t bytes[MESSAGE_ITER_BYTES];
    int rc;

    if (iter == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    rc = peer_call_begin(&iter->call, store, MESSAGE_ITER_OPEN, true);
    if (rc == VARVE_OK) {
        message_iter_encode(&asked, bytes);
        peer_call_part(&iter->call, bytes, sizeof(bytes));
        rc = peer_call_ask(&iter->call, err);
        if (rc != VARVE_OK)
            peer_call_end(&iter->call, rc);
    }
    if (rc != VARVE_OK) {
        env_free(store->env, iter);
        return rc;
    }
    peer_link_set_apart(iter->call.peer, iter->call.link);
    iter->call.question = (struct peer_question){.type = MESSAGE_ITER_NEXT, .slow = true};
    *out = iter;
    return VARVE_OK;
}

void
peer_iter_close(struct peer_iter *iter)
{
    if (iter == NULL)
        return;
    peer_call_end(&iter->call, PEER_AGAIN); /* the owner's end of the iteration goes with the connection */
    env_free(iter->call.peer->env, iter);
}

/* Have rows at hand. */
static int
fetch_rows(struct peer_iter *iter, varve_error *err)
{
    struct message_items items;
    int rc = peer_call_ask(&iter->call, err);

    if (rc == VARVE_OK)
        rc = peer_check_answer(message_items_decode(iter->call.answer.body, iter->call.answer.size, &items));
    if (rc == PEER_AGAIN || rc == VARVE_E_TIMEOUT)
        return error_set(err, VARVE_E_TIMEOUT,
                         "the process that owned the store does not answer any more: begin the listing anew");
    if (rc != VARVE_OK)
        return rc;
    memcpy(iter->name_bytes, items.name, items.name_size);
    iter->name_bytes[items.name_size] = '\0';
    iter->name = items.name_size == 0 ? NULL : iter->name_bytes;
    memcpy(iter->rows, items.items, (size_t)items.count * MESSAGE_ITEM_BYTES);
    iter->count = items.count;
    iter->next = 0;
    return VARVE_OK;
}

int
peer_iter_next(struct peer_iter *iter, varve_item *item, varve_error *err)
{
    if (iter->next == iter->count && iter->rc == VARVE_OK)
        iter->rc = fetch_rows(iter, err);
    if (iter->rc != VARVE_OK)
        return iter->rc;
    *item = (varve_item){.struct_size = item->struct_size, .namespace_name = iter->name};
    message_item_decode(iter->rows + (size_t)iter->next * MESSAGE_ITEM_BYTES, item);
    iter->next++;
    return VARVE_OK;
}

/* News of the check. False: nonsense. */
static bool
tell(const struct peer_answer *answer, const struct check_listener *listener)
{
    struct message_news news;

    if (!message_news_decode(answer->body, answer->size, &news))
        return false;
    if (news.text != NULL && listener->problem != NULL)
        listener->problem(listener->arg, news.text);
    if (news.text == NULL && listener->progress != NULL)
        listener->progress(listener->arg, news.done, news.total);
    return true;
}

int
peer_check(varve_store *store, unsigned flags, const struct check_listener *listener, varve_check_report *report,
           varve_error *err)
{
    uint8_t bytes[MESSAGE_CHECK_BYTES];
    struct peer_call call;
    int rc = peer_call_begin(&call, store, MESSAGE_CHECK, true);

    if (rc != VARVE_OK)
        return rc;
    wire_put32(bytes, flags);
    peer_call_part(&call, bytes, sizeof(bytes));
    rc = peer_call_ask(&call, err);
    while (rc == MESSAGE_GOING_ON) {
        rc = peer_check_answer(tell(&call.answer, listener));
        if (rc == VARVE_OK)
            rc = peer_call_hear(&call, err);
    }
    if (rc == VARVE_OK)
        rc = peer_check_answer(message_report_decode(call.answer.body, call.answer.size, report));
    peer_call_end(&call, rc);
    return rc;
}

int64_t
peer_control_log(varve_store *store, void (*line)(void *arg, const char *text), void *arg)
{
    struct peer_call call;
    const char *text;
    size_t at = 0;
    int64_t count = 0;
    int rc = peer_call_begin(&call, store, MESSAGE_CONTROL_LOG, false);

    if (rc != VARVE_OK)
        return rc;
    rc = peer_call_ask(&call, NULL);
    while (rc == VARVE_OK && (text = message_text_next(call.answer.body, call.answer.size, &at)) != NULL) {
        line(arg, text);
        count++;
    }
    peer_call_end(&call, rc);
    return rc == VARVE_OK ? count : rc;
}

int64_t
peer_tune(varve_store *store, const varve_tune_mix *mix, varve_tune_row *rows, size_t room, varve_error *err)
{
    uint8_t bytes[MESSAGE_MIX_BYTES];
    struct peer_call call;
    size_t count = 0;
    int rc = peer_call_begin(&call, store, MESSAGE_TUNE, false);

    if (rc != VARVE_OK)
        return rc;
    message_mix_encode(mix, bytes);
    peer_call_part(&call, bytes, sizeof(bytes));
    rc = peer_call_ask(&call, err);
    if (rc == VARVE_OK)
        rc = peer_check_answer(call.answer.size > 0 && call.answer.size % MESSAGE_ROW_BYTES == 0);
    if (rc == VARVE_OK)
        count = call.answer.size / MESSAGE_ROW_BYTES;
    for (size_t i = 0; i < count && i < room; i++)
        message_row_decode(call.answer.body + i * MESSAGE_ROW_BYTES, &rows[i]);
    peer_call_end(&call, rc);
    return rc == VARVE_OK ? (int64_t)count : rc;
}

int
peer_tune_measure(varve_store *store, uint64_t round_ns, varve_error *err)
{
    uint8_t bytes[MESSAGE_MEASURE_BYTES];
    struct peer_call call;
    int rc = peer_call_begin(&call, store, MESSAGE_TUNE_MEASURE, true);

    if (rc != VARVE_OK)
        return rc;
    call.question.extra_ms = round_ns / 1000000;
    wire_put64(bytes, round_ns);
    peer_call_part(&call, bytes, sizeof(bytes));
    rc = peer_call_ask(&call, err);
    peer_call_end(&call, rc);
    return rc;
}
