/* SPDX-License-Identifier: Apache-2.0 */
/* The owner's answers to all but puts. What a question says was decoded, and checked against what the wire allows; here against what the store holds. */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/wire.h"
#include "format/format.h"
#include "peer/client.h"
#include "store/calls.h"
#include "store/read.h"

#define DAMAGED_MAX 64 /* pages that one question has verified */

static bool
serve_hello(struct client *client, const uint8_t *body, size_t size, struct answer *answer)
{
    varve_store *store = client->store;
    struct message_hello hello;

    if (!message_hello_decode(body, size, &hello))
        return false;
    if (hello.format_version != FORMAT_VERSION) {
        static const char text[] = "the process that owns the store has files of another format version: upgrade both";

        answer->status = VARVE_E_VERSION;
        answer_add(answer, text, sizeof(text));
        return true;
    }
    hello = (struct message_hello){.format_version = FORMAT_VERSION,
                                   .io_align = store->env->io_align,
                                   .align_shift = store->align_shift,
                                   .library_version = VARVE_VERSION_NUMBER,
                                   .page_bytes_max = store->page_bytes_max,
                                   .life = store->life};
    message_hello_encode(&hello, answer->fixed);
    answer_add(answer, answer->fixed, MESSAGE_HELLO_BYTES);
    return true;
}

void
answer_error(struct client *client, struct answer *answer, int rc, const varve_error *err)
{
    size_t size = strnlen(err->message, sizeof(err->message) - 1) + 1;

    answer->status = rc;
    answer->memory = client->store->env->ops->alloc(client->store->env, size, 1);
    if (answer->memory == NULL)
        return;
    memcpy(answer->memory, err->message, size);
    ((char *)answer->memory)[size - 1] = '\0';
    answer_add(answer, answer->memory, size);
}

static bool
serve_namespace_open(struct client *client, const uint8_t *body, size_t size, struct answer *answer)
{
    varve_namespace_attributes attributes = VARVE_NAMESPACE_ATTRIBUTES_INIT;
    struct message_namespace asked;
    varve_error err = {0};
    varve_namespace *ns;
    int rc;

    if (!message_namespace_decode(body, size, &asked) || asked.name_size == 0)
        return false;
    attributes.element_type = asked.element_type;
    attributes.page_bytes_hint = asked.page_bytes_hint;
    rc = store_namespace_open(client->store, asked.name, &attributes, &ns, &err);
    if (rc != VARVE_OK) {
        answer_error(client, answer, rc, &err);
        return true;
    }
    asked.ns_id = atomic_load_explicit(&ns->ns_id, memory_order_acquire);
    asked.element_type = ns->element_type;
    asked.page_bytes_hint = ns->page_bytes_hint;
    asked.name_size = 0;
    answer_add(answer, answer->fixed, message_namespace_encode(&asked, answer->fixed));
    return true;
}

/* The namespace of a question. NULL: the peer has to open it again, which is the answer. */
static varve_namespace *
find_namespace(struct client *client, uint32_t ns_id, struct answer *answer)
{
    varve_namespace *ns = namespace_by_id(client->store, ns_id);

    if (ns == NULL)
        answer->status = MESSAGE_STALE_NAMESPACE;
    return ns;
}

/* LIMITS, and NAMESPACE_CLEAR. */
static bool
serve_namespace_change(struct client *client, bool clear, const uint8_t *body, size_t size, struct answer *answer)
{
    varve_namespace_limits limits = VARVE_NAMESPACE_LIMITS_INIT;
    struct message_limits asked;
    varve_error err = {0};
    varve_namespace *ns;
    int rc;

    if (!message_limits_decode(body, size, &asked))
        return false;
    ns = find_namespace(client, asked.ns_id, answer);
    if (ns == NULL)
        return true;
    limits.quota_bytes = asked.quota_bytes;
    limits.ttl_s = asked.ttl_s;
    rc = clear ? store_namespace_clear(client->store, ns, &err) : store_limits_set(client->store, ns, &limits, &err);
    if (rc != VARVE_OK)
        answer_error(client, answer, rc, &err);
    return true;
}

/* The ids, which have no alignment. */
static const varve_id *
ids_of(const struct message_ids *asked)
{
    return (const varve_id *)asked->ids;
}

static void
answer_found(struct answer *answer, int64_t found, const varve_error *err, struct client *client)
{
    struct message_found message = {.found = (uint64_t)found};

    if (found < 0) {
        answer_error(client, answer, (int)found, err);
        return;
    }
    message_found_encode(&message, answer->fixed);
    answer_add(answer, answer->fixed, MESSAGE_FOUND_BYTES);
}

static void
to_wire(uint64_t *values, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        wire_put64((uint8_t *)&values[i], values[i]);
}

static void
serve_probe(struct client *client, varve_namespace *ns, const struct message_ids *asked, struct answer *answer)
{
    varve_store *store = client->store;
    struct env *env = store->env;
    struct read_speed speed = {asked->bandwidth, asked->decode_bandwidth, asked->latency_us};
    varve_estimate estimate = VARVE_ESTIMATE_INIT;
    struct message_found message = {.estimated = asked->bandwidth > 0};
    uint64_t *values = NULL;

    if (message.estimated) {
        values = env->ops->alloc(env, (size_t)asked->count * 2 * sizeof(values[0]), _Alignof(uint64_t));
        if (values == NULL) {
            answer->status = VARVE_E_NOMEM;
            return;
        }
        estimate.prefix_bytes = values;
        estimate.prefix_time_us = values + asked->count;
    }
    message.found =
        (uint64_t)store_probe(store, ns, ids_of(asked), asked->count, &speed, message.estimated ? &estimate : NULL);
    message.extents = estimate.extents;
    message_found_encode(&message, answer->fixed);
    answer_add(answer, answer->fixed, MESSAGE_FOUND_BYTES);
    if (!message.estimated)
        return;
    to_wire(estimate.prefix_bytes, message.found);
    to_wire(estimate.prefix_time_us, message.found);
    answer->memory = values;
    answer_add(answer, estimate.prefix_bytes, (size_t)message.found * 8);
    answer_add(answer, estimate.prefix_time_us, (size_t)message.found * 8);
}

static void
serve_exists(struct client *client, varve_namespace *ns, const struct message_ids *asked, struct answer *answer)
{
    uint8_t *exists = client->store->env->ops->alloc(client->store->env, asked->count, 1);

    if (exists == NULL) {
        answer->status = VARVE_E_NOMEM;
        return;
    }
    store_exists_batch(client->store, ns, ids_of(asked), asked->count, exists);
    answer->memory = exists;
    answer_add(answer, exists, asked->count);
}

/* One look for what is not found yet, as a get of the owner does it. Returns how many are missing still. */
static size_t
locate_some(struct get *get, const varve_id *ids, struct location *locations, bool *found)
{
    struct index_view *view = index_view_acquire(get->store->index);
    struct index_cursor cursor;
    struct touches touches;
    size_t missing = 0;

    touches_begin(&touches, get->store, view, get->count, get->expires);
    touches_name(&touches, get->ns_id, &ids[get->count - 1]);
    touches.unless_recent = true;
    index_cursor_init(&cursor, view);
    for (size_t i = 0; i < get->count; i++) {
        if (found[i])
            continue;
        found[i] = read_find(get, &cursor, &ids[i], &locations[i]);
        if (found[i])
            touches_add(&touches, &locations[i], (int64_t)i);
        missing += !found[i];
    }
    touches_end(&touches);
    index_cursor_deinit(&cursor);
    index_view_release(view);
    return missing;
}

/* Pages that were moved while they were looked for are looked for again. */
static void
locate(struct get *get, const varve_id *ids, struct location *locations, bool *found)
{
    for (int lookups = 1;; lookups++) {
        get->losses = log_losses(get->store->log);
        if (locate_some(get, ids, locations, found) == 0 || lookups == LOOKUPS_MAX ||
            log_losses(get->store->log) == get->losses)
            return;
    }
}

static void
serve_locate(struct client *client, varve_namespace *ns, const struct message_ids *asked, struct answer *answer)
{
    varve_store *store = client->store;
    struct env *env = store->env;
    struct get get = {.store = store, .count = asked->count, .ns_id = asked->ns_id};
    uint8_t *records = env->ops->alloc(env, (size_t)asked->count * MESSAGE_LOCATION_BYTES, 1);
    struct location *locations = env->ops->alloc(env, asked->count * sizeof(locations[0]), _Alignof(struct location));
    bool *found = env_zalloc(env, asked->count * sizeof(found[0]));

    if (records == NULL || locations == NULL || found == NULL) {
        answer->status = VARVE_E_NOMEM;
        env_free(env, records);
    } else {
        get.expires = limits_begin(ns, true);
        locate(&get, ids_of(asked), locations, found);
        for (size_t i = 0; i < get.count; i++)
            message_location_encode(&locations[i], found[i], records + i * MESSAGE_LOCATION_BYTES);
        COUNT(&store->counters, peer_get_pages, get.count);
        answer->memory = records;
        answer_add(answer, records, get.count * MESSAGE_LOCATION_BYTES);
    }
    env_free(env, locations);
    env_free(env, found);
}

/* A peer says that the page fails its checksum. Whether that is so is seen by reading it, which forgets it, too. */
static void
verify_page(struct client *client, varve_namespace *ns, const varve_id *id)
{
    struct env *env = client->store->env;
    varve_page page = {.id = *id};
    struct iovec iov = {0};

    (void)store_get_batch(client->store, ns, &page, 1, NULL);
    if (page.status != VARVE_E_ARG || page.size == 0)
        return;
    iov.iov_len = (size_t)page.size;
    iov.iov_base = env->ops->alloc(env, iov.iov_len, IO_ALIGN_MAX);
    page.iov = &iov;
    page.iov_count = 1;
    if (iov.iov_base != NULL)
        (void)store_get_batch(client->store, ns, &page, 1, NULL);
    env_free(env, iov.iov_base);
}

static bool
serve_ids(struct client *client, enum message_type type, const uint8_t *body, size_t size, struct answer *answer)
{
    varve_store *store = client->store;
    struct message_ids asked;
    varve_error err = {0};
    varve_namespace *ns;

    if (!message_ids_decode(body, size, &asked))
        return false;
    ns = find_namespace(client, asked.ns_id, answer);
    if (ns == NULL)
        return true;
    if (type == MESSAGE_PROBE)
        serve_probe(client, ns, &asked, answer);
    else if (type == MESSAGE_EXISTS)
        serve_exists(client, ns, &asked, answer);
    else if (type == MESSAGE_LOCATE)
        serve_locate(client, ns, &asked, answer);
    else if (type == MESSAGE_TOUCH)
        answer_found(answer, store_touch(store, ns, ids_of(&asked), asked.count), &err, client);
    else if (type == MESSAGE_UNPIN)
        answer_found(answer, store_unpin(store, ns, ids_of(&asked), asked.count), &err, client);
    else if (type == MESSAGE_REMOVE)
        answer_found(answer, store_remove_batch(store, ns, ids_of(&asked), asked.count, &err), &err, client);
    else if (type == MESSAGE_PIN)
        answer_found(answer, store_pin(store, ns, ids_of(&asked), asked.count, &err), &err, client);
    else /* MESSAGE_DAMAGED */
        for (uint32_t i = 0; i < asked.count && i < DAMAGED_MAX; i++)
            verify_page(client, ns, &ids_of(&asked)[i]);
    return true;
}

static bool
serve_segment(struct client *client, const uint8_t *body, size_t size, struct answer *answer)
{
    struct log *log = client->store->log;
    struct segment *segment;
    varve_error err = {0};
    int rc;

    if (size != MESSAGE_SEGMENT_BYTES)
        return false;
    answer->status = VARVE_MISS;
    segment = log_acquire(log, wire_get64(body));
    if (segment == NULL)
        return true;
    if (!log_share(log, segment)) {
        log_release(log, segment);
        return true;
    }
    rc = log_file_acquire(log, segment, &answer->file, &err);
    if (rc == VARVE_OK) {
        answer->segment = segment;
        COUNT(&client->store->counters, peer_files, 1);
    } else {
        if (err.os_errno == ENOENT) /* it may have been dropped just now: then its pages are to be looked for again */
            rc = log_segment_state(log, segment->number) == SEGMENT_GONE ? VARVE_MISS : VARVE_E_CORRUPT;
        log_release(log, segment);
    }
    answer->status = rc;
    return true;
}

static bool
serve_option(struct client *client, const uint8_t *body, size_t size, struct answer *answer)
{
    const char *name, *value;
    varve_error err = {0};
    int rc;

    if (!message_option_decode(body, size, &name, &value))
        return false;
    rc = store_option_set(client->store, name, value, &err);
    if (rc != VARVE_OK)
        answer_error(client, answer, rc, &err);
    return true;
}

static bool
serve_stats(struct client *client, struct answer *answer)
{
    struct env *env = client->store->env;
    size_t count = store_stats_get(client->store, NULL, 0);
    uint64_t *values = env->ops->alloc(env, count * sizeof(values[0]), _Alignof(uint64_t));

    if (values == NULL) {
        answer->status = VARVE_E_NOMEM;
        return true;
    }
    (void)store_stats_get(client->store, values, count);
    to_wire(values, count);
    answer->memory = values;
    answer_add(answer, values, count * sizeof(values[0]));
    return true;
}

bool
serve_call(struct client *client, const struct message_header *header, const uint8_t *body, struct answer *answer)
{
    size_t size = header->length;
    varve_error err = {0};
    int rc;

    switch ((enum message_type)header->type) {
    case MESSAGE_HELLO:
        return serve_hello(client, body, size, answer);
    case MESSAGE_NAMESPACE_OPEN:
        return serve_namespace_open(client, body, size, answer);
    case MESSAGE_NAMESPACE_CLEAR:
    case MESSAGE_LIMITS:
        return serve_namespace_change(client, header->type == MESSAGE_NAMESPACE_CLEAR, body, size, answer);
    case MESSAGE_PROBE:
    case MESSAGE_EXISTS:
    case MESSAGE_TOUCH:
    case MESSAGE_REMOVE:
    case MESSAGE_PIN:
    case MESSAGE_UNPIN:
    case MESSAGE_LOCATE:
    case MESSAGE_DAMAGED:
        return serve_ids(client, (enum message_type)header->type, body, size, answer);
    case MESSAGE_SEGMENT:
        return serve_segment(client, body, size, answer);
    case MESSAGE_PUT_BEGIN:
        return serve_put_begin(client, body, size, answer);
    case MESSAGE_RESERVE:
        return serve_reserve(client, body, size, answer);
    case MESSAGE_COMMIT:
        return serve_commit(client, body, size, answer);
    case MESSAGE_SYNC:
        rc = store_sync(client->store, &err);
        if (rc != VARVE_OK)
            answer_error(client, answer, rc, &err);
        return true;
    case MESSAGE_OPTION:
        return serve_option(client, body, size, answer);
    case MESSAGE_STATS:
        return serve_stats(client, answer);
    case MESSAGE_ITER_OPEN:
        return serve_iter_open(client, body, size, answer);
    case MESSAGE_ITER_NEXT:
        return serve_iter_next(client, size, answer);
    case MESSAGE_CHECK:
        return serve_check(client, header, body, answer);
    case MESSAGE_CONTROL_LOG:
        serve_control_log(client, answer);
        return true;
    case MESSAGE_TUNE:
        return serve_tune(client, body, size, answer);
    case MESSAGE_TUNE_MEASURE:
        return serve_tune_measure(client, body, size, answer);
    case MESSAGE_TYPES:
        break;
    }
    return false;
}
