/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of a peer that move no pages. */
#include <string.h>

#include "base/error.h"
#include "base/wire.h"
#include "peer/peer_call.h"

/* A call without bytes in its answer. */
static int
ask_plain(varve_store *store, enum message_type type, const void *bytes, size_t size, varve_error *err)
{
    struct peer_call call;
    int rc = peer_call_begin(&call, store, type, true);

    if (rc != VARVE_OK)
        return rc;
    peer_call_part(&call, bytes, size);
    rc = peer_call_ask(&call, err);
    peer_call_end(&call, rc);
    return rc;
}

/* Send ids, and have the answer in *call, which is to be ended when VARVE_OK is returned. */
static int
ask_ids(struct peer_call *call, varve_store *store, enum message_type type, struct message_ids *asked, varve_error *err)
{
    bool slow = type == MESSAGE_REMOVE || type == MESSAGE_PIN || type == MESSAGE_UNPIN;
    uint8_t head[MESSAGE_IDS_BYTES];
    int rc = peer_call_begin(call, store, type, slow);

    if (rc != VARVE_OK)
        return rc;
    message_ids_encode(asked, head);
    peer_call_part(call, head, sizeof(head));
    peer_call_part(call, asked->ids, (size_t)asked->count * VARVE_ID_BYTES);
    rc = peer_call_ask(call, err);
    if (rc != VARVE_OK)
        peer_call_end(call, rc);
    return rc;
}

static struct message_ids
make_ids(const varve_namespace *ns, const varve_id *ids, size_t count)
{
    return (struct message_ids){
        .ns_id = atomic_load_explicit(&ns->ns_id, memory_order_acquire), .count = (uint32_t)count, .ids = ids->bytes};
}

static void
from_wire(const uint8_t *values, uint64_t count, uint64_t *out)
{
    for (uint64_t i = 0; out != NULL && i < count; i++)
        out[i] = wire_get64(values + i * 8);
}

int64_t
peer_probe(varve_store *store, const varve_namespace *ns, const varve_id *ids, size_t count, varve_estimate *estimate)
{
    struct read_speed speed = store_read_speed(store);
    struct message_ids asked = make_ids(ns, ids, count);
    struct message_found found;
    struct peer_call call;
    int rc;

    if (estimate != NULL) {
        asked.bandwidth = speed.bandwidth;
        asked.decode_bandwidth = speed.decode_bandwidth;
        asked.latency_us = speed.latency_us < UINT32_MAX ? speed.latency_us : UINT32_MAX;
    }
    rc = ask_ids(&call, store, MESSAGE_PROBE, &asked, NULL);
    if (rc != VARVE_OK)
        return rc;
    rc = peer_check_answer(message_found_decode(call.answer.body, call.answer.size, count, &found) &&
                           found.estimated == (estimate != NULL));
    if (rc == VARVE_OK && estimate != NULL) {
        estimate->extents = found.extents;
        from_wire(found.prefix_bytes, found.found, estimate->prefix_bytes);
        from_wire(found.prefix_time_us, found.found, estimate->prefix_time_us);
    }
    peer_call_end(&call, rc);
    if (rc != VARVE_OK)
        return rc;
    COUNT(&store->counters, probe_calls, 1);
    COUNT(&store->counters, probe_pages, count);
    COUNT(&store->counters, probe_hits, found.found);
    return (int64_t)found.found;
}

int
peer_exists_batch(varve_store *store, const varve_namespace *ns, const varve_id *ids, size_t count, uint8_t *exists)
{
    struct message_ids asked = make_ids(ns, ids, count);
    struct peer_call call;
    int rc = ask_ids(&call, store, MESSAGE_EXISTS, &asked, NULL);

    if (rc != VARVE_OK)
        return rc;
    rc = peer_check_answer(call.answer.size == count);
    for (size_t i = 0; rc == VARVE_OK && i < count; i++)
        exists[i] = call.answer.body[i] != 0;
    peer_call_end(&call, rc);
    COUNT(&store->counters, exists_pages, rc == VARVE_OK ? count : 0);
    return rc;
}

int64_t
peer_count_ids(varve_store *store, enum message_type type, const varve_namespace *ns, const varve_id *ids, size_t count,
               varve_error *err)
{
    struct message_ids asked = make_ids(ns, ids, count);
    struct message_found found;
    struct peer_call call;
    int rc = ask_ids(&call, store, type, &asked, err);

    if (rc != VARVE_OK)
        return rc;
    rc = peer_check_answer(message_found_decode(call.answer.body, call.answer.size, count, &found));
    peer_call_end(&call, rc);
    if (rc != VARVE_OK)
        return rc;
    COUNT(&store->counters, touch_pages, type == MESSAGE_TOUCH ? found.found : 0);
    COUNT(&store->counters, remove_pages, type == MESSAGE_REMOVE ? found.found : 0);
    return (int64_t)found.found;
}

/* What the owner of an epoch said. By now it may be the one before: this process may have read the manifest, and be the owner. */
static int
take_namespace(varve_store *store, uint64_t epoch, const char *name, const struct message_namespace *told,
               varve_namespace **out, varve_error *err)
{
    int rc = PEER_AGAIN;

    mutex_lock(&store->namespace_change); /* one of its name */
    if (peer_epoch(store->peer) == epoch)
        rc = namespace_adopt(store, name, told->ns_id, (enum varve_element)told->element_type, told->page_bytes_hint,
                             out);
    mutex_unlock(&store->namespace_change);
    return rc == VARVE_E_NOMEM ? error_set(err, rc, "out of memory") : rc;
}

/* Ask for the namespace of a name. No lock is held meanwhile. */
static int
ask_namespace(varve_store *store, const char *name, struct message_namespace *asked, varve_namespace **out,
              varve_error *err)
{
    uint8_t bytes[MESSAGE_NAMESPACE_BYTES + VARVE_NAMESPACE_NAME_MAX];
    struct peer_call call;
    uint64_t epoch;
    int rc = peer_call_begin(&call, store, MESSAGE_NAMESPACE_OPEN, true);

    if (rc != VARVE_OK)
        return rc;
    epoch = call.link->epoch;
    asked->name_size = strlen(name);
    memcpy(asked->name, name, asked->name_size + 1);
    peer_call_part(&call, bytes, message_namespace_encode(asked, bytes));
    rc = peer_call_ask(&call, err);
    if (rc == VARVE_OK)
        rc = peer_check_answer(message_namespace_decode(call.answer.body, call.answer.size, asked));
    peer_call_end(&call, rc);
    return rc == VARVE_OK ? take_namespace(store, epoch, name, asked, out, err) : rc;
}

int
peer_namespace_open(varve_store *store, const char *name, const varve_namespace_attributes *attributes,
                    varve_namespace **out, varve_error *err)
{
    varve_namespace_attributes given = VARVE_NAMESPACE_ATTRIBUTES_INIT;
    struct message_namespace asked = {0};

    *out = namespace_by_name(store, name);
    if (*out != NULL)
        return VARVE_OK;
    if (attributes != NULL)
        memcpy(&given, attributes, attributes->struct_size < sizeof(given) ? attributes->struct_size : sizeof(given));
    asked.element_type = given.element_type;
    asked.page_bytes_hint = given.page_bytes_hint;
    return ask_namespace(store, name, &asked, out, err);
}

int
peer_namespace_refresh(varve_store *store, varve_namespace *ns, varve_error *err)
{
    struct message_namespace asked = {.element_type = ns->element_type, .page_bytes_hint = ns->page_bytes_hint};

    return ask_namespace(store, ns->name, &asked, &ns, err);
}

static int
ask_limits(varve_store *store, enum message_type type, const struct message_limits *asked, varve_error *err)
{
    uint8_t bytes[MESSAGE_LIMITS_BYTES];

    message_limits_encode(asked, bytes);
    return ask_plain(store, type, bytes, sizeof(bytes), err);
}

int
peer_namespace_clear(varve_store *store, const varve_namespace *ns, varve_error *err)
{
    struct message_limits asked = {.ns_id = atomic_load_explicit(&ns->ns_id, memory_order_acquire)};
    int rc = ask_limits(store, MESSAGE_NAMESPACE_CLEAR, &asked, err);

    COUNT(&store->counters, namespace_clears, rc == VARVE_OK);
    return rc;
}

static bool
same_limits(const varve_namespace_limits *a, const varve_namespace_limits *b)
{
    return a->struct_size == b->struct_size && a->quota_bytes == b->quota_bytes && a->ttl_s == b->ttl_s;
}

static varve_namespace_limits
get_wanted(varve_namespace *ns)
{
    varve_namespace_limits wanted;

    mutex_lock(&ns->store->namespace_change);
    wanted = ns->wanted;
    mutex_unlock(&ns->store->namespace_change);
    return wanted;
}

/* What was wanted before. */
static varve_namespace_limits
exchange_wanted(varve_namespace *ns, varve_namespace_limits wanted)
{
    varve_namespace_limits before;

    mutex_lock(&ns->store->namespace_change);
    before = ns->wanted;
    ns->wanted = wanted;
    mutex_unlock(&ns->store->namespace_change);
    return before;
}

/* Unless others are wanted by now. */
static void
take_back_wanted(varve_namespace *ns, varve_namespace_limits wanted, varve_namespace_limits before)
{
    mutex_lock(&ns->store->namespace_change);
    if (same_limits(&ns->wanted, &wanted))
        ns->wanted = before;
    mutex_unlock(&ns->store->namespace_change);
}

int
peer_limits_set(varve_store *store, varve_namespace *ns, const varve_namespace_limits *limits, varve_error *err)
{
    struct message_limits asked = {.ns_id = atomic_load_explicit(&ns->ns_id, memory_order_acquire),
                                   .quota_bytes = limits->quota_bytes,
                                   .ttl_s = limits->ttl_s};
    const varve_namespace_limits wanted = {
        .struct_size = (uint32_t)sizeof(*limits), .quota_bytes = limits->quota_bytes, .ttl_s = limits->ttl_s};
    varve_namespace_limits before;
    int rc;

    before = exchange_wanted(ns, wanted); /* now: the next owner may be there before the answer is taken */
    rc = ask_limits(store, MESSAGE_LIMITS, &asked, err);
    if (rc != VARVE_OK)
        take_back_wanted(ns, wanted, before);
    return rc;
}

/* Tell a new owner, again if they are changed meanwhile. */
static int
repeat_limits(varve_store *store, varve_namespace *ns)
{
    varve_namespace_limits wanted = get_wanted(ns), told;
    struct message_limits asked;
    int rc;

    do {
        if (wanted.struct_size == 0)
            return VARVE_OK;
        told = wanted;
        rc = peer_namespace_refresh(store, ns, NULL);
        asked = (struct message_limits){.ns_id = atomic_load_explicit(&ns->ns_id, memory_order_acquire),
                                        .quota_bytes = told.quota_bytes,
                                        .ttl_s = told.ttl_s};
        if (rc == VARVE_OK)
            rc = ask_limits(store, MESSAGE_LIMITS, &asked, NULL);
        else if (rc == VARVE_E_READONLY)
            return VARVE_OK; /* it has no such namespace, and makes none */
        wanted = get_wanted(ns);
    } while (rc == VARVE_OK && !same_limits(&wanted, &told));
    return rc;
}

int
peer_limits_repeat(varve_store *store)
{
    int rc = VARVE_OK;

    for (size_t i = 0; rc == VARVE_OK; i++) {
        varve_namespace *ns;

        mutex_lock(&store->namespace_lock);
        ns = i < store->namespace_count ? store->namespaces[i] : NULL;
        mutex_unlock(&store->namespace_lock);
        if (ns == NULL)
            break;
        rc = repeat_limits(store, ns);
    }
    return rc;
}

int
peer_option_set(varve_store *store, const char *name, const char *value, varve_error *err)
{
    uint8_t bytes[MESSAGE_TEXT_MAX];
    size_t name_size = strlen(name) + 1, value_size = strlen(value) + 1;

    if (name_size + value_size > sizeof(bytes))
        return error_set(err, VARVE_E_ARG, "no option takes so long a value");
    memcpy(bytes, name, name_size);
    memcpy(bytes + name_size, value, value_size);
    return ask_plain(store, MESSAGE_OPTION, bytes, name_size + value_size, err);
}

int
peer_sync(varve_store *store, varve_error *err)
{
    return ask_plain(store, MESSAGE_SYNC, NULL, 0, err);
}

int64_t
peer_owner_stats(varve_store *store, uint64_t *values, size_t count)
{
    struct peer_call call;
    size_t known;
    int rc = peer_call_begin(&call, store, MESSAGE_STATS, false);

    if (rc != VARVE_OK)
        return rc;
    rc = peer_call_ask(&call, NULL);
    if (rc == VARVE_OK)
        rc = peer_check_answer(call.answer.size % 8 == 0);
    known = rc == VARVE_OK ? call.answer.size / 8 : 0;
    from_wire(call.answer.body, known < count ? known : count, values);
    peer_call_end(&call, rc);
    return rc == VARVE_OK ? (int64_t)known : rc;
}

/* The value at *index, where there is room for it; and one on. */
static void
give(uint64_t *values, size_t count, size_t *index, uint64_t value)
{
    if (*index < count)
        values[*index] = value;
    (*index)++;
}

void
peer_own_counters(varve_store *store, uint64_t *values, size_t count)
{
    struct counters *counters = &store->counters;
    size_t i = 0;

#define COUNTER(name, help) give(values, count, &i, atomic_load_explicit(&counters->name, memory_order_relaxed));
#define GAUGE(name, help)                                                                                              \
    if (strcmp(#name, "owner") == 0)                                                                                   \
        give(values, count, &i, 0);                                                                                    \
    else                                                                                                               \
        i++;
#include "api/stats.def"
#undef COUNTER
#undef GAUGE
}
