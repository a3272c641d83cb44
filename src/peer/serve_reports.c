/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The owner's answers about the store as a whole. An iteration lives as long as its connection asks for rows of it; a check sends news, and is stopped where nobody
 * takes them.
 */
#include <string.h>

#include "base/error.h"
#include "base/wire.h"
#include "peer/client.h"
#include "peer/message_report.h"
#include "store/calls.h"

#define ITER_IDLE_NS     UINT64_C(60000000000) /* old files are kept no longer for one that asks for no rows */
#define ROWS_MAX         1024
#define MEASURE_NS_MAX   UINT64_C(2000000000)
#define NEWS_TEXT_BYTES  256
#define CONTROL_LOG_SIZE ((size_t)CONTROL_LOG_MAX * CONTROL_LINE_BYTES)

void
client_iter_close(struct client *client)
{
    store_iter_close(client->iter.rows);
    client->iter.rows = NULL;
    client->iter.has_held = false;
}

bool
client_iter_expired(const struct client *client, uint64_t now_ns)
{
    return client->iter.rows != NULL && now_ns - client->iter.used_ns > ITER_IDLE_NS;
}

bool
serve_iter_open(struct client *client, const uint8_t *body, size_t size, struct answer *answer)
{
    struct message_iter asked;
    varve_error err = {0};

    if (!message_iter_decode(body, size, &asked))
        return false;
    client_iter_close(client);
    client->iter.used_ns = client->store->env->ops->now_ns(client->store->env);
    if (asked.ns_id != 0 && namespace_by_id(client->store, asked.ns_id) == NULL)
        answer->status = MESSAGE_STALE_NAMESPACE;
    else
        answer->status =
            store_iter_open(client->store, asked.ns_id, (enum varve_iter_kind)asked.kind, &client->iter.rows, &err);
    if (answer->status < 0 && answer->status != MESSAGE_STALE_NAMESPACE)
        answer_error(client, answer, answer->status, &err);
    return true;
}

/* The next row; the first of another namespace waits for the next question. */
static int
next_row(struct client *client, varve_item *item, varve_error *err)
{
    if (client->iter.has_held) {
        *item = client->iter.held;
        client->iter.has_held = false;
        return VARVE_OK;
    }
    *item = (varve_item)VARVE_ITEM_INIT;
    return store_iter_next(client->iter.rows, item, err);
}

static int
fill_rows(struct client *client, uint8_t *rows, struct message_items *items, varve_error *err)
{
    varve_item item;
    int rc;

    while ((rc = next_row(client, &item, err)) == VARVE_OK) {
        const char *name = item.namespace_name;

        if (items->count == MESSAGE_ITEMS_MAX || (items->count > 0 && (const uint8_t *)name != items->name)) {
            client->iter.held = item;
            client->iter.has_held = true;
            return VARVE_OK;
        }
        items->name = (const uint8_t *)name;
        items->name_size = name == NULL ? 0 : (uint32_t)strlen(name);
        message_item_encode(&item, rows + (size_t)items->count * MESSAGE_ITEM_BYTES);
        items->count++;
    }
    return items->count > 0 && rc == VARVE_MISS ? VARVE_OK : rc;
}

bool
serve_iter_next(struct client *client, size_t size, struct answer *answer)
{
    struct env *env = client->store->env;
    struct message_items items = {0};
    varve_error err = {0};
    uint8_t *rows;

    if (size != 0 || client->iter.rows == NULL)
        return false;
    client->iter.used_ns = env->ops->now_ns(env);
    rows = env->ops->alloc(env, (size_t)MESSAGE_ITEMS_MAX * MESSAGE_ITEM_BYTES, 1);
    if (rows == NULL) {
        answer->status = VARVE_E_NOMEM;
        return true;
    }
    answer->status = fill_rows(client, rows, &items, &err);
    if (answer->status != VARVE_OK) {
        env_free(env, rows);
        if (answer->status < 0)
            answer_error(client, answer, answer->status, &err);
        return true;
    }
    message_items_encode(&items, answer->fixed);
    answer->memory = rows;
    answer_add(answer, answer->fixed, MESSAGE_ITEMS_BYTES);
    answer_add(answer, items.name, items.name_size); /* the store keeps it */
    answer_add(answer, rows, (size_t)items.count * MESSAGE_ITEM_BYTES);
    return true;
}

/* A check that a peer asked for. */
struct peer_audit {
    struct client *client;
    const struct message_header *question;
    struct check_listener listener;
};

static void
send_news(struct peer_audit *audit, const struct message_news *news)
{
    struct answer answer = {.status = MESSAGE_GOING_ON};

    message_news_encode(news, answer.fixed);
    answer_add(&answer, answer.fixed, MESSAGE_NEWS_BYTES);
    if (news->text != NULL)
        answer_add(&answer, news->text, strnlen(news->text, NEWS_TEXT_BYTES - 1) + 1);
    if (client_answer(audit->client, audit->question, &answer) < 0)
        audit->listener.stop = true;
}

static void
tell_problem(void *arg, const char *text)
{
    const struct message_news news = {.text = text};

    send_news(arg, &news);
}

static void
tell_progress(void *arg, uint64_t done, uint64_t total)
{
    const struct message_news news = {.done = done, .total = total};

    send_news(arg, &news);
}

bool
serve_check(struct client *client, const struct message_header *question, const uint8_t *body, struct answer *answer)
{
    varve_check_report report = VARVE_CHECK_REPORT_INIT;
    struct peer_audit audit = {.client = client, .question = question};
    varve_error err = {0};
    int rc;

    if (question->length != MESSAGE_CHECK_BYTES || (wire_get32(body) & ~(uint32_t)VARVE_CHECK_DEEP) != 0)
        return false;
    audit.listener = (struct check_listener){.problem = tell_problem, .progress = tell_progress, .arg = &audit};
    rc = store_check(client->store, wire_get32(body), &audit.listener, &report, &err);
    if (audit.listener.stop) {
        client->lost = true;
        return false;
    }
    if (rc != VARVE_OK) {
        answer_error(client, answer, rc, &err);
        return true;
    }
    message_report_encode(&report, answer->fixed);
    answer_add(answer, answer->fixed, MESSAGE_REPORT_BYTES);
    return true;
}

struct lines {
    char *bytes;
    size_t size;
};

static void
add_line(void *arg, const char *text)
{
    struct lines *lines = arg;
    size_t size = strlen(text) + 1;

    if (size > CONTROL_LOG_SIZE - lines->size)
        return; /* more were added meanwhile */
    memcpy(lines->bytes + lines->size, text, size);
    lines->size += size;
}

void
serve_control_log(struct client *client, struct answer *answer)
{
    struct lines lines = {.bytes = client->store->env->ops->alloc(client->store->env, CONTROL_LOG_SIZE, 1)};

    if (lines.bytes == NULL) {
        answer->status = VARVE_E_NOMEM;
        return;
    }
    (void)store_control_log(client->store, add_line, &lines);
    answer->memory = lines.bytes;
    answer_add(answer, lines.bytes, lines.size);
}

bool
serve_tune(struct client *client, const uint8_t *body, size_t size, struct answer *answer)
{
    struct env *env = client->store->env;
    varve_error err = {0};
    varve_tune_row *rows;
    varve_tune_mix mix;
    uint8_t *bytes;
    bool has_mix;
    int64_t count;

    if (!message_mix_decode(body, size, &mix, &has_mix))
        return false;
    rows = env->ops->alloc(env, ROWS_MAX * sizeof(rows[0]), _Alignof(varve_tune_row));
    bytes = env->ops->alloc(env, (size_t)ROWS_MAX * MESSAGE_ROW_BYTES, 1);
    count = rows == NULL || bytes == NULL ? error_set(&err, VARVE_E_NOMEM, "out of memory")
                                          : store_tune(client->store, has_mix ? &mix : NULL, rows, ROWS_MAX, &err);
    if (count < 0) {
        env_free(env, bytes);
        answer_error(client, answer, (int)count, &err);
    } else {
        count = count < ROWS_MAX ? count : ROWS_MAX;
        for (int64_t i = 0; i < count; i++)
            message_row_encode(&rows[i], bytes + (size_t)i * MESSAGE_ROW_BYTES);
        answer->memory = bytes;
        answer_add(answer, bytes, (size_t)count * MESSAGE_ROW_BYTES);
    }
    env_free(env, rows);
    return true;
}

bool
serve_tune_measure(struct client *client, const uint8_t *body, size_t size, struct answer *answer)
{
    varve_error err = {0};

    if (size != MESSAGE_MEASURE_BYTES || wire_get64(body) > MEASURE_NS_MAX)
        return false;
    answer->status = store_tune_measure(client->store, wire_get64(body), &err);
    if (answer->status < 0)
        answer_error(client, answer, answer->status, &err);
    return true;
}
