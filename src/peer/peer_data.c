/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gets and puts of a peer: the same code as the owner's moves the pages, with places and reservations that come from the owner, and files that it gave.
 */
#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/wire.h"
#include "peer/peer.h"
#include "store/put.h"
#include "store/read.h"

#define LOG_WAITS_MAX 1000 /* times that the owner finds no room because of writes in flight, 10 ms each */

/* A get or a put on its connection. */
struct transfer {
    struct peer *peer;
    struct peer_link *link;
    int rc; /* the first failure to be answered: PEER_AGAIN, VARVE_E_TIMEOUT, MESSAGE_STALE_NAMESPACE */
    bool writing;
    unsigned waits;
    const struct put *put; /* NULL: a get */
};

/* Microseconds since then, to be told to the owner. */
static uint32_t
time_since(const varve_store *store, uint64_t began_ns)
{
    uint64_t us = (store->env->ops->now_ns(store->env) - began_ns) / 1000;

    return us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

/* Ask; after a failure no more. VARVE_OK: it was answered. */
static int
ask(struct transfer *transfer, const struct peer_question *question, struct peer_answer *answer)
{
    if (transfer->rc == VARVE_OK)
        transfer->rc = peer_ask(transfer->peer, transfer->link, question, answer);
    if (transfer->rc == VARVE_OK && answer->status == MESSAGE_STALE_NAMESPACE)
        transfer->rc = MESSAGE_STALE_NAMESPACE;
    return transfer->rc;
}

/* The owner's answer is nonsense. */
static int
break_off(struct transfer *transfer)
{
    transfer->rc = PEER_AGAIN;
    return PEER_AGAIN;
}

/* The file of a segment, in use. 0 or -errno: -ESTALE the segment was dropped, -ENODATA its file is lost. */
static int
open_segment(struct transfer *transfer, uint64_t number, struct descriptor **out)
{
    struct descriptors *descriptors = &transfer->peer->descriptors;
    struct peer_question question = {.type = MESSAGE_SEGMENT, .wants_file = true, .part_count = 1};
    uint8_t bytes[MESSAGE_SEGMENT_BYTES];
    struct peer_answer answer;

    *out = descriptor_find(descriptors, number);
    if (*out != NULL)
        return 0;
    wire_put64(bytes, number);
    question.parts[0] = (struct iovec){bytes, sizeof(bytes)};
    if (ask(transfer, &question, &answer) != VARVE_OK)
        return -ESTALE;
    if (answer.file != NULL && answer.status == VARVE_OK) {
        *out = descriptor_keep(descriptors, number, answer.file);
        return *out == NULL ? -ENOMEM : 0;
    }
    if (answer.file != NULL)
        transfer->peer->env->ops->close(answer.file);
    if (answer.status == VARVE_MISS)
        return -ESTALE;
    return answer.status == VARVE_E_CORRUPT ? -ENODATA : -EIO;
}

/* The ids of pages, one after another. NULL: out of memory. */
static uint8_t *
list_ids(struct env *env, const varve_page *pages, size_t count)
{
    uint8_t *ids = env->ops->alloc(env, count * VARVE_ID_BYTES, 1);

    for (size_t i = 0; ids != NULL && i < count; i++)
        memcpy(ids + i * VARVE_ID_BYTES, pages[i].id.bytes, VARVE_ID_BYTES);
    return ids;
}

/* Ask about `count` ids. */
static int
ask_pages(struct transfer *transfer, enum message_type type, uint32_t ns_id, const uint8_t *ids, size_t count,
          struct peer_answer *answer)
{
    struct message_ids asked = {.ns_id = ns_id, .count = (uint32_t)count};
    struct peer_question question = {.type = type, .slow = type == MESSAGE_DAMAGED, .part_count = 2};
    uint8_t head[MESSAGE_IDS_BYTES];

    message_ids_encode(&asked, head);
    question.parts[0] = (struct iovec){head, sizeof(head)};
    question.parts[1] = (struct iovec){(void *)(uintptr_t)ids, count * VARVE_ID_BYTES};
    return ask(transfer, &question, answer);
}

/* All are asked for, also again: those that are not sought any more are a few of a batch at most. */
static void
locate(struct get *get)
{
    struct transfer *transfer = get->source_arg;
    uint8_t *ids = list_ids(get->store->env, get->pages, get->count);
    struct peer_answer answer = {.size = 0};
    bool located = ids != NULL &&
                   ask_pages(transfer, MESSAGE_LOCATE, get->ns_id, ids, get->count, &answer) == VARVE_OK &&
                   answer.status == VARVE_OK;

    env_free(get->store->env, ids);
    if (located && answer.size != get->count * MESSAGE_LOCATION_BYTES)
        located = break_off(transfer) == VARVE_OK;
    for (size_t i = 0; i < get->count; i++) {
        struct location location;
        bool found;

        if (!read_seeks(get, i) || !located)
            continue;
        located = message_location_decode(answer.body + i * MESSAGE_LOCATION_BYTES, &location, &found) ||
                  break_off(transfer) == VARVE_OK;
        if (!located || !found || location.codec > CODING_PLANES)
            continue;
        get->fetches[i].location = location;
        read_place(get, (uint32_t)i);
    }
}

/* What the owner does not find is not there; but a segment may be gone before its file is asked for, or read. */
static bool
lost(const struct get *get)
{
    const struct transfer *transfer = get->source_arg;

    return get->stale && transfer->rc == VARVE_OK;
}

static int
open_for_read(struct get *get, uint64_t segment, struct read_file *out)
{
    struct descriptor *descriptor;
    int rc = open_segment(get->source_arg, segment, &descriptor);

    if (rc < 0)
        return rc;
    out->file = descriptor_file(descriptor);
    out->held = descriptor;
    return 0;
}

static void
close_after_read(struct get *get, struct read_file *file)
{
    descriptor_release(&get->store->peer->descriptors, file->held);
}

/* The owner sees for itself. */
static void
tell_damage(struct get *get)
{
    struct transfer *transfer = get->source_arg;
    uint8_t *ids = get->store->env->ops->alloc(get->store->env, get->count * VARVE_ID_BYTES, 1);
    struct peer_answer answer;
    size_t count = 0;

    for (size_t i = 0; ids != NULL && i < get->count; i++) {
        if (get->fetches[i].corrupt)
            memcpy(ids + count++ * VARVE_ID_BYTES, get->pages[i].id.bytes, VARVE_ID_BYTES);
    }
    if (count > 0)
        (void)ask_pages(transfer, MESSAGE_DAMAGED, get->ns_id, ids, count, &answer);
    env_free(get->store->env, ids);
}

static const struct read_source read_through_owner = {.locate = locate,
                                                      .lost = lost,
                                                      .open = open_for_read,
                                                      .close = close_after_read,
                                                      .damaged = tell_damage,
                                                      .cut = true};

int
peer_get_batch(varve_store *store, const varve_namespace *ns, varve_page *pages, size_t count, varve_error *err)
{
    struct transfer transfer = {.peer = store->peer};
    struct get get = {.store = store,
                      .pages = pages,
                      .count = count,
                      .ns_id = atomic_load_explicit(&ns->ns_id, memory_order_acquire),
                      .source = &read_through_owner,
                      .source_arg = &transfer};
    uint64_t began_ns;
    int rc = peer_link_acquire(transfer.peer, &transfer.link);

    for (size_t i = 0; rc != VARVE_OK && i < count; i++)
        pages[i].status = VARVE_MISS;
    if (rc != VARVE_OK)
        return rc;
    began_ns = store->env->ops->now_ns(store->env);
    rc = read_run(&get, err);
    transfer.link->get_us = time_since(store, began_ns);
    peer_link_release(transfer.peer, transfer.link, transfer.rc);
    return rc == VARVE_OK ? transfer.rc : rc;
}

/* Ask which pages are to be written. */
static int
ask_put(struct put *put, const varve_id *parent, struct peer_answer *answer)
{
    struct env *env = put->store->env;
    struct message_put asked = {.ns_id = put->ns_id, .count = (uint32_t)put->count, .has_parent = parent != NULL};
    struct peer_question question = {.type = MESSAGE_PUT_BEGIN, .slow = true, .part_count = 2};
    uint8_t head[MESSAGE_PUT_BYTES], *pages = env->ops->alloc(env, put->count * MESSAGE_PAGE_BYTES, 1);
    int rc;

    if (pages == NULL)
        return VARVE_E_NOMEM;
    if (parent != NULL)
        asked.parent = *parent;
    message_put_encode(&asked, head);
    for (size_t i = 0; i < put->count; i++)
        message_page_encode(&put->pages[i].id, put->pages[i].size, put->pages[i].status == STATUS_PENDING,
                            pages + i * MESSAGE_PAGE_BYTES);
    question.parts[0] = (struct iovec){head, sizeof(head)};
    question.parts[1] = (struct iovec){pages, put->count * MESSAGE_PAGE_BYTES};
    rc = ask(put->source_arg, &question, answer);
    env_free(env, pages);
    return rc;
}

static int
put_begin(struct put *put, varve_namespace *ns, const varve_id *parent)
{
    struct transfer *transfer = put->source_arg;
    struct peer_answer answer;
    bool pending = false;
    int rc;

    (void)ns;
    rc = ask_put(put, parent, &answer);
    if (rc == VARVE_OK)
        rc = answer.status;
    if (rc == VARVE_OK && answer.size != put->count)
        rc = break_off(transfer);
    for (size_t i = 0; rc == VARVE_OK && i < put->count; i++) {
        varve_page *page = &put->pages[i];

        if (page->status != STATUS_PENDING)
            continue;
        if (answer.body[i] == MESSAGE_PAGE_STORED)
            page->status = VARVE_OK;
        else if (answer.body[i] == MESSAGE_PAGE_SKIPPED)
            page->status = VARVE_SKIPPED;
        else if (answer.body[i] != MESSAGE_PAGE_PENDING)
            return break_off(transfer);
        pending = pending || page->status == STATUS_PENDING;
        COUNT(&put->store->counters, put_duplicates, page->status == VARVE_OK);
    }
    if (rc == VARVE_OK && pending) {
        rc = transfer->rc = peer_write_begin(transfer->peer);
        transfer->writing = rc == VARVE_OK;
    }
    return rc;
}

/* The owner does. */
static void
place(struct put *put, size_t first, size_t count, struct extent_header *key_part)
{
    (void)first;
    (void)count;
    *key_part = (struct extent_header){.ns_id = put->ns_id};
}

static void
stored(struct put *put, const struct entry *entry, size_t first)
{
    (void)put;
    (void)entry;
    (void)first;
}

/* The owner has waited before it answered. */
static void
wait_for_room(struct put *put, uint64_t time_ms)
{
    struct transfer *transfer = put->source_arg;

    (void)time_ms;
    if (++transfer->waits > LOG_WAITS_MAX && transfer->rc == VARVE_OK)
        transfer->rc = VARVE_E_TIMEOUT;
}

static void
put_end(struct put *put)
{
    struct transfer *transfer = put->source_arg;

    if (transfer->writing)
        peer_write_end(transfer->peer);
    transfer->writing = false;
}

static const struct put_source put_through_owner = {
    .begin = put_begin, .place = place, .stored = stored, .wait = wait_for_room, .end = put_end};

/* What the owner reserved is what these pages take: else one of both is wrong, and nothing is written. */
static bool
reservation_fits(struct extent_fit *fit, const struct message_reserved *reserved)
{
    const struct extent_header *header = &reserved->header;

    return extent_fit_take(fit, header->extent_bytes) == header->extent_bytes && fit->fitting == header->count;
}

/* Ask for room. */
static int
ask_reserve(struct transfer *transfer, size_t first, const struct extent_fit *fit, struct peer_answer *answer)
{
    uint32_t count = (uint32_t)(fit->count < EXTENT_PAGES_MAX ? fit->count : EXTENT_PAGES_MAX);
    struct message_reserve asked = {
        .first = (uint32_t)first, .count = count, .codec = fit->codec, .align_shift = fit->align_shift};
    struct peer_question question = {.type = MESSAGE_RESERVE, .slow = true, .part_count = 2};
    uint8_t head[MESSAGE_RESERVE_BYTES], sizes[EXTENT_PAGES_MAX * 4];

    message_reserve_encode(&asked, head);
    for (uint32_t i = 0; i < count; i++)
        wire_put32(sizes + (size_t)i * 4, extent_fit_size(fit, i));
    question.parts[0] = (struct iovec){head, sizeof(head)};
    question.parts[1] = (struct iovec){sizes, (size_t)count * 4};
    return ask(transfer, &question, answer);
}

/* Tell how it went, and take the answer for the outcome. */
static int
ask_commit(struct extent_write *extent, const uint8_t *sums)
{
    struct transfer *transfer = extent->batch->target_arg;
    struct message_commit asked = {.token = extent->token, .count = sums == NULL ? 0 : extent->header.count};
    struct peer_question question = {.type = MESSAGE_COMMIT, .slow = true, .part_count = 2};
    uint8_t head[MESSAGE_COMMIT_BYTES];
    struct peer_answer answer;

    message_commit_encode(&asked, head);
    question.parts[0] = (struct iovec){head, sizeof(head)};
    question.parts[1] = (struct iovec){(void *)(uintptr_t)sums, (size_t)asked.count * 8};
    return ask(transfer, &question, &answer) != VARVE_OK ? transfer->rc : answer.status;
}

static void
release_file(struct extent_write *extent)
{
    struct transfer *transfer = extent->batch->target_arg;

    descriptor_release(&transfer->peer->descriptors, extent->held);
}

static int
reserve(struct extent_write *extent, struct extent_fit *fit, struct extent_header *key_part, varve_error *err)
{
    struct transfer *transfer = extent->batch->target_arg;
    const struct put *put = transfer->put;
    struct message_reserved reserved;
    struct peer_answer answer;
    struct descriptor *descriptor;
    int rc = ask_reserve(transfer, (size_t)(fit->pages[0] - put->pages), fit, &answer);

    (void)err;
    if (rc != VARVE_OK || answer.status != VARVE_OK)
        return rc != VARVE_OK ? rc : answer.status;
    if (!message_reserved_decode(answer.body, answer.size, &reserved) || !reservation_fits(fit, &reserved))
        return break_off(transfer);
    extent->token = reserved.token;
    rc = open_segment(transfer, reserved.segment, &descriptor);
    if (rc < 0) {
        (void)ask_commit(extent, NULL);
        return transfer->rc != VARVE_OK ? transfer->rc : rc == -ENOMEM ? VARVE_E_NOMEM : VARVE_E_IO;
    }
    extent->held = descriptor;
    extent->place = (struct extent_place){.segment = reserved.segment,
                                          .salt = reserved.header.salt,
                                          .offset = reserved.header.offset,
                                          .bytes = reserved.header.extent_bytes,
                                          .synced_offset = reserved.header.synced_offset,
                                          .file = descriptor_file(descriptor)};
    *key_part = reserved.header;
    return VARVE_OK;
}

static int
install(struct extent_write *extent)
{
    int rc = ask_commit(extent, extent->rc < 0 ? NULL : extent->header.sums);

    release_file(extent);
    return extent->rc < 0 && rc >= VARVE_OK ? VARVE_E_IO : rc;
}

static void
abandon(struct extent_write *extent)
{
    (void)ask_commit(extent, NULL);
    release_file(extent);
}

/* For a look at what was just written: its file is at hand, or was dropped, and then there is no need to ask for it. */
static void *
open_written(void *arg, uint64_t segment, struct env_file **file)
{
    struct transfer *transfer = ((struct write_batch *)arg)->target_arg;
    struct descriptor *descriptor = descriptor_find(&transfer->peer->descriptors, segment);

    if (descriptor != NULL)
        *file = descriptor_file(descriptor);
    return descriptor;
}

static void
close_written(void *arg, void *held)
{
    struct transfer *transfer = ((struct write_batch *)arg)->target_arg;

    descriptor_release(&transfer->peer->descriptors, held);
}

static const struct write_target write_through_owner = {.reserve = reserve,
                                                        .install = install,
                                                        .abandon = abandon,
                                                        .open_written = open_written,
                                                        .close_written = close_written};

int
peer_put_batch(varve_store *store, varve_namespace *ns, const varve_id *parent, varve_page *pages, size_t count,
               unsigned flags)
{
    struct transfer transfer = {.peer = store->peer};
    struct put put = {.store = store,
                      .pages = pages,
                      .count = count,
                      .source = &put_through_owner,
                      .source_arg = &transfer,
                      .batch = {.target = &write_through_owner, .target_arg = &transfer}};
    const struct peer_question sync = {.type = MESSAGE_SYNC, .slow = true};
    struct peer_answer answer;
    uint64_t began_ns = store->env->ops->now_ns(store->env);
    int rc = peer_link_acquire(transfer.peer, &transfer.link);

    COUNT(&store->counters, put_calls, 1);
    if (rc == VARVE_OK) {
        transfer.put = &put;
        rc = put_run(&put, ns, parent);
        transfer.link->put_us = time_since(store, began_ns);
        if (rc == VARVE_OK && (flags & VARVE_PUT_SYNC) != 0) {
            rc = ask(&transfer, &sync, &answer);
            if (rc == VARVE_OK)
                rc = answer.status;
        }
        peer_link_release(transfer.peer, transfer.link, transfer.rc);
        if (transfer.rc != VARVE_OK && transfer.rc != VARVE_E_TIMEOUT)
            return transfer.rc;
    }
    if (rc == PEER_AGAIN)
        return rc;
    if (rc != VARVE_OK)
        put_fail(&put, rc);
    put_count(&put);
    return VARVE_OK;
}
