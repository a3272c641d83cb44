/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts of peers: the owner decides, reserves and makes findable; the peer writes in between. What is reserved is an extent as the owner's own puts make them, without
 * the bytes; of a peer that is gone its header is taken away, as after a write that failed.
 */
#include <errno.h>
#include <string.h>

#include "base/wire.h"
#include "peer/client.h"
#include "store/calls.h"

#define PUT_TIME_NS        UINT64_C(15000000000) /* a put that its peer does not go on with for so long is given up */
#define RESERVED_BYTES_MAX ((uint64_t)512 << 20) /* of one put, unless one extent alone has more */
#define LOG_WAIT_MS        10

#define STATUS_RESERVED (INT32_MAX - 1) /* in pages[].status: an extent has it */

bool
client_put_expired(const struct client *client, uint64_t now_ns)
{
    return client->put.begun && now_ns - client->put.used_ns > PUT_TIME_NS;
}

static void
end_put(struct client *client)
{
    struct client_put *put = &client->put;
    uint64_t tokens = put->tokens;

    if (!put->begun)
        return;
    placement_end(&put->placement);
    env_free(client->store->env, put->placement.pages);
    *put = (struct client_put){.tokens = tokens};
}

static void
free_extent(struct client *client, struct client_extent *extent)
{
    client->put.reserved_bytes -= extent->extent->header.extent_bytes;
    extent_write_destroy(extent->extent);
    env_free(client->store->env, extent->pages);
    env_free(client->store->env, extent);
}

/* Its pages are findable, or its header is gone. */
static int
finish_extent(struct client *client, struct client_extent *extent, int written)
{
    struct entry entry = extent_write_entry(extent->extent);
    int rc;

    extent->extent->rc = written;
    rc = extent_write_install(extent->extent);
    if (rc == VARVE_OK) {
        placement_stored(&client->put.placement, &entry, extent->first);
        COUNT(&client->store->counters, log_bytes_written, extent->extent->header.extent_bytes);
        COUNT(&client->store->counters, put_pages, extent->extent->header.count);
        COUNT(&client->store->counters, put_bytes, extent->extent->payload_bytes);
        COUNT(&client->store->counters, extents_written, 1);
        COUNT(&client->store->counters, peer_put_pages, extent->extent->header.count);
        COUNT(&client->store->counters, peer_put_bytes, extent->extent->payload_bytes);
    }
    free_extent(client, extent);
    return rc;
}

void
client_put_abandon(struct client *client)
{
    struct client_extent *extent;

    while ((extent = client->put.extents) != NULL) {
        client->put.extents = extent->next;
        COUNT(&client->store->counters, peer_abandoned, 1);
        /* It may be alive, and stopped: what it writes when it goes on must not be found by a recovery, and not lie in another segment. */
        log_note_stray(client->store->log, extent->extent->reservation.segment);
        extent->extent->late = true;
        (void)finish_extent(client, extent, -ECONNRESET);
    }
    end_put(client);
}

/* A copy of the pages' ids and sizes, for as long as the put. */
static bool
copy_pages(struct client *client, const struct message_put *asked)
{
    struct client_put *put = &client->put;

    for (uint32_t i = 0; i < asked->count; i++) {
        varve_page *page = &put->placement.pages[i];
        bool pending;

        if (!message_page_decode(asked->pages + (size_t)i * MESSAGE_PAGE_BYTES, page, &pending))
            return false;
        page->status = pending ? STATUS_PENDING : VARVE_OK;
    }
    return true;
}

/* One byte a page; those that are to be written are counted. */
static void
put_states(struct client_put *put, uint8_t *states, const uint8_t *asked)
{
    for (size_t i = 0; i < put->placement.count; i++) {
        int status = put->placement.pages[i].status;
        varve_page page;
        bool pending;

        (void)message_page_decode(asked + i * MESSAGE_PAGE_BYTES, &page, &pending);
        put->pending += status == STATUS_PENDING;
        states[i] = !pending                   ? MESSAGE_PAGE_KEPT
                    : status == STATUS_PENDING ? MESSAGE_PAGE_PENDING
                    : status == VARVE_SKIPPED  ? MESSAGE_PAGE_SKIPPED
                                               : MESSAGE_PAGE_STORED;
    }
}

static int
begin_put(struct client *client, varve_namespace *ns, const struct message_put *asked)
{
    varve_store *store = client->store;
    struct client_put *put = &client->put;
    int rc = store_writable(store, NULL);

    if (rc == VARVE_OK)
        rc = store_wait_for_room(store, NULL);
    if (rc == VARVE_OK)
        rc = placement_begin(&put->placement, ns, asked->has_parent ? &asked->parent : NULL);
    put->batch = (struct write_batch){.store = store, .target = &write_to_log};
    put->next = asked->count;
    put->used_ns = store->env->ops->now_ns(store->env);
    return rc;
}

bool
serve_put_begin(struct client *client, const uint8_t *body, size_t size, struct answer *answer)
{
    struct env *env = client->store->env;
    struct client_put *put = &client->put;
    struct message_put asked;
    varve_namespace *ns;
    uint8_t *states;

    if (!message_put_decode(body, size, &asked))
        return false;
    client_put_abandon(client);
    ns = namespace_by_id(client->store, asked.ns_id);
    if (ns == NULL) {
        answer->status = MESSAGE_STALE_NAMESPACE;
        return true;
    }
    put->placement = (struct placement){.store = client->store, .count = asked.count};
    put->placement.pages = env_zalloc(env, asked.count * sizeof(varve_page));
    states = env->ops->alloc(env, asked.count, 1);
    put->begun = true;
    if (put->placement.pages == NULL || states == NULL) {
        answer->status = VARVE_E_NOMEM;
    } else if (!copy_pages(client, &asked)) {
        env_free(env, states);
        return false;
    } else {
        answer->status = begin_put(client, ns, &asked);
    }
    if (answer->status != VARVE_OK) {
        env_free(env, states);
        end_put(client);
        return true;
    }
    put_states(put, states, asked.pages);
    answer->memory = states;
    answer_add(answer, states, asked.count);
    if (put->pending == 0)
        end_put(client);
    return true;
}

/* New pages that follow each other, from `first` on. */
static size_t
run_length(const struct placement *placement, size_t first)
{
    size_t count = 0;

    while (first + count < placement->count && placement->pages[first + count].status == STATUS_PENDING)
        count++;
    return count;
}

/* Pages as they will be stored, for as long as the extent, with a list of them at the end of the same memory. */
static struct client_extent *
create_extent(struct client *client, const struct message_reserve *asked, varve_page ***list)
{
    struct env *env = client->store->env;
    struct client_extent *extent = env_zalloc(env, sizeof(*extent));

    if (extent == NULL)
        return NULL;
    extent->pages = env_zalloc(env, asked->count * (sizeof(varve_page) + sizeof(varve_page *)));
    if (extent->pages == NULL) {
        env_free(env, extent);
        return NULL;
    }
    *list = (varve_page **)(void *)(extent->pages + asked->count);
    for (uint32_t i = 0; i < asked->count; i++) {
        extent->pages[i].id = client->put.placement.pages[asked->first + i].id;
        extent->pages[i].size = wire_get32(asked->sizes + (size_t)i * 4);
        (*list)[i] = &extent->pages[i];
    }
    extent->first = asked->first;
    extent->token = ++client->put.tokens;
    return extent;
}

/* As the peer wants them stored, and as they can be. */
static bool
is_storable(const struct client *client, const struct message_reserve *asked)
{
    varve_store *store = client->store;

    if (asked->codec > CODING_PLANES ||
        (asked->align_shift != store->align_shift && asked->align_shift != LOG_BLOCK_SHIFT))
        return false;
    for (uint32_t i = 0; i < asked->count; i++) {
        uint32_t size = wire_get32(asked->sizes + (size_t)i * 4);

        if (size > VARVE_PAGE_BYTES_MAX || size > store->page_bytes_max)
            return false;
    }
    return true;
}

/* VARVE_OK, or as extent_write_reserve(). */
static int
reserve(struct client *client, const struct message_reserve *asked, struct client_extent **out)
{
    struct client_put *put = &client->put;
    struct client_extent *extent;
    varve_page **list;
    int rc = store_writable(client->store, NULL);

    if (rc != VARVE_OK)
        return rc;
    if (put->extents != NULL && put->reserved_bytes > RESERVED_BYTES_MAX)
        return VARVE_MISS; /* it is to finish some first */
    if (put->next != asked->first)
        placement_place(&put->placement, asked->first, run_length(&put->placement, asked->first), &put->key_part);
    put->next = asked->first;
    put->key_part.codec = asked->codec;
    put->key_part.align_shift = asked->align_shift;
    extent = create_extent(client, asked, &list);
    if (extent == NULL)
        return VARVE_E_NOMEM;
    rc = extent_write_reserve(&put->batch, &put->key_part, list, asked->count, &extent->extent, NULL);
    if (rc != VARVE_OK) {
        env_free(client->store->env, extent->pages);
        env_free(client->store->env, extent);
        if (rc == VARVE_MISS && put->extents == NULL)
            log_wait(client->store->log, LOG_WAIT_MS);
        return rc;
    }
    extent->next = put->extents;
    put->extents = extent;
    put->reserved_bytes += extent->extent->header.extent_bytes;
    *out = extent;
    return VARVE_OK;
}

bool
serve_reserve(struct client *client, const uint8_t *body, size_t size, struct answer *answer)
{
    struct client_put *put = &client->put;
    struct message_reserve asked;
    struct message_reserved reserved;
    struct client_extent *extent = NULL;

    if (!message_reserve_decode(body, size, &asked) || !put->begun || asked.first >= put->placement.count ||
        asked.count > run_length(&put->placement, asked.first) || !is_storable(client, &asked))
        return false;
    answer->status = reserve(client, &asked, &extent);
    put->used_ns = client->store->env->ops->now_ns(client->store->env);
    if (answer->status != VARVE_OK)
        return true;
    reserved.header = extent->extent->header;
    reserved.segment = extent->extent->place.segment;
    reserved.token = extent->token;
    for (uint32_t i = 0; i < reserved.header.count; i++)
        put->placement.pages[asked.first + i].status = STATUS_RESERVED;
    put->pending -= reserved.header.count;
    put->next = asked.first + reserved.header.count;
    put->key_part.depth += reserved.header.count;
    put->key_part.parent_branch = 0;
    message_reserved_encode(&reserved, answer->fixed);
    answer_add(answer, answer->fixed, MESSAGE_RESERVED_BYTES);
    return true;
}

bool
serve_commit(struct client *client, const uint8_t *body, size_t size, struct answer *answer)
{
    struct client_put *put = &client->put;
    struct client_extent **link = &put->extents, *extent;
    struct message_commit asked;

    if (!message_commit_decode(body, size, &asked))
        return false;
    while (*link != NULL && (*link)->token != asked.token)
        link = &(*link)->next;
    extent = *link;
    if (extent == NULL || (asked.count != 0 && asked.count != extent->extent->header.count))
        return false;
    *link = extent->next;
    if (asked.count > 0)
        memcpy(extent_table_sums(extent->extent->buf, asked.count), asked.sums, (size_t)asked.count * 8);
    answer->status = finish_extent(client, extent, asked.count > 0 ? 0 : -EIO);
    if (put->extents == NULL && put->pending == 0)
        end_put(client);
    store_put_done(client->store);
    put->used_ns = client->store->env->ops->now_ns(client->store->env);
    return true;
}
