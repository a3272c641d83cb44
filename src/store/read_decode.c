/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What reads bring becomes pages, while other reads are still on their way. A page is an answer only when its checksum, taken over the stored bytes with
 * the id that was asked for, holds. Coded pages are verified and decoded where a thread is free: by a helper, or in between by the caller, but
 * never while completions are being looked at: the device would run dry meanwhile.
 */
#include <assert.h>
#include <errno.h>

#include "base/error.h"
#include "store/pages.h"
#include "store/read.h"

/* A coded page on its way. */
struct decoding {
    struct crew_task task; /* first */
    struct get *get;
    uint32_t index;
    int rc;           /* VARVE_OK, VARVE_E_ARG: buffers too small, VARVE_E_CORRUPT, VARVE_E_NOMEM */
    uint64_t size;    /* of the page, where it is known */
    uint64_t time_ns; /* it took */
    struct buffer memory;
    struct iovec target; /* of its reads: in there */
};

static void
settle(struct get *get, uint32_t index, int status)
{
    struct counters *counters = &get->store->counters;
    struct fetch *fetch = &get->fetches[index];
    varve_page *page = &get->pages[index];

    page->status = status;
    if (status == VARVE_E_CORRUPT && get->source->cut && !get->again) {
        page->status =
            VARVE_MISS; /* its segment may have been dropped, and cut, or another written over it: ask again first */
        get->stale = true;
    } else if (status == VARVE_E_CORRUPT) {
        page->status = VARVE_MISS;
        fetch->corrupt = true;
        COUNT(counters, get_corrupt, 1);
    } else if (status == VARVE_OK) {
        get->stored_bytes += fetch->location.size;
        COUNT(counters, get_pages, 1);
        COUNT(counters, get_bytes, page->size);
    } else if (status != VARVE_E_ARG && status != VARVE_MISS) {
        COUNT(counters, get_errors, 1);
    }
}

/* A page that was not read. */
static int
failure_status(int rc)
{
    if (rc == -ESTALE)
        return VARVE_MISS; /* its segment was dropped since it was found */
    if (rc == -ENODATA)
        return VARVE_E_CORRUPT;
    return rc == -ENOMEM ? VARVE_E_NOMEM : VARVE_E_IO;
}

static bool
sum_holds(const struct get *get, uint32_t index, const struct iovec *iov, uint32_t iov_count)
{
    const struct location *location = &get->fetches[index].location;

    return hash_page(get->ns_id, &get->pages[index].id, iov, iov_count, location->size) == location->sum;
}

/* Verify and decode one page: on any thread. */
static int
decode_page(struct decoding *decoding)
{
    struct get *get = decoding->get;
    const varve_page *page = &get->pages[decoding->index];
    const uint8_t *stored = decoding->target.iov_base;
    uint32_t stored_bytes = get->fetches[decoding->index].location.size;
    struct codec *codec;
    uint64_t room;
    int rc;

    if (!sum_holds(get, decoding->index, &decoding->target, 1))
        return VARVE_E_CORRUPT;
    rc = codec_original_size(stored, stored_bytes, &decoding->size);
    if (rc != VARVE_OK)
        return rc;
    if (!page_buffer_bytes(page, &room) || room < decoding->size)
        return VARVE_E_ARG;
    rc = codec_pool_acquire(&get->store->coding.codecs, &codec);
    if (rc != VARVE_OK)
        return rc;
    rc = codec_decode(codec, stored, stored_bytes, page->iov, page->iov_count);
    codec_pool_release(&get->store->coding.codecs, codec);
    return rc;
}

static void
decode(struct crew_task *task)
{
    struct decoding *decoding = (struct decoding *)task;
    struct env *env = decoding->get->store->env;
    uint64_t began_ns = env->ops->now_ns(env);

    decoding->rc = decode_page(decoding);
    decoding->time_ns = env->ops->now_ns(env) - began_ns;
}

bool
decoding_create(struct get *get, uint32_t index)
{
    varve_store *store = get->store;
    struct fetch *fetch = &get->fetches[index];
    struct decoding *decoding = store->env->ops->alloc(store->env, sizeof(*decoding), _Alignof(struct decoding));

    if (decoding == NULL)
        return false;
    *decoding = (struct decoding){.task.run = decode, .get = get, .index = index};
    decoding->memory = buffers_acquire(&store->coding.buffers, fetch->read_bytes);
    if (decoding->memory.memory == NULL) {
        env_free(store->env, decoding);
        return false;
    }
    decoding->target = (struct iovec){decoding->memory.memory, (size_t)fetch->read_bytes};
    fetch->decoding = decoding;
    get->decode_bytes += fetch->read_bytes;
    return true;
}

static void
decoding_destroy(struct get *get, struct decoding *decoding)
{
    get->fetches[decoding->index].decoding = NULL;
    get->decode_bytes -= decoding->target.iov_len;
    buffers_release(&get->store->coding.buffers, decoding->memory);
    env_free(get->store->env, decoding);
}

const struct iovec *
fetch_target(const struct get *get, uint32_t index, uint32_t *iov_count)
{
    const struct decoding *decoding = get->fetches[index].decoding;

    *iov_count = decoding != NULL ? 1 : get->pages[index].iov_count;
    return decoding != NULL ? &decoding->target : get->pages[index].iov;
}

/* All of the page was read. */
static void
page_read(struct get *get, uint32_t index)
{
    struct fetch *fetch = &get->fetches[index];
    varve_page *page = &get->pages[index];
    struct decoding *decoding = fetch->decoding;

    if (fetch->rc < 0) {
        if (decoding != NULL)
            decoding_destroy(get, decoding);
        settle(get, index, failure_status(fetch->rc));
        return;
    }
    if (decoding == NULL) {
        settle(get, index, sum_holds(get, index, page->iov, page->iov_count) ? VARVE_OK : VARVE_E_CORRUPT);
        return;
    }
    *get->ready_end = &decoding->task;
    get->ready_end = &decoding->task.next;
}

void
read_part_done(struct get *get, uint32_t index, int rc)
{
    struct fetch *fetch = &get->fetches[index];

    if (rc < 0 && fetch->rc == 0)
        fetch->rc = rc;
    assert(fetch->pending > 0);
    if (--fetch->pending == 0)
        page_read(get, index);
}

void
read_settle_empty(struct get *get, uint32_t index)
{
    /* A coded page is never without bytes: the index has said something wrong. */
    bool intact = get->fetches[index].location.codec == CODING_NONE && sum_holds(get, index, NULL, 0);

    settle(get, index, intact ? VARVE_OK : VARVE_E_CORRUPT);
}

static void
settle_decoded(struct get *get, struct decoding *decoding)
{
    uint32_t index = decoding->index;

    get->pages[index].size = decoding->size;
    settle(get, index, decoding->rc);
    if (decoding->rc == VARVE_OK) {
        get->decoded.pages++;
        get->decoded.bytes += decoding->size;
        get->decoded.stored_bytes += get->fetches[index].location.size;
        get->decoded.time_ns += decoding->time_ns;
    }
    decoding_destroy(get, decoding);
}

static void
collect(struct get *get)
{
    struct crew_task *task;

    while ((task = crew_collect(&get->store->coding.crew, &get->decodes)) != NULL)
        settle_decoded(get, (struct decoding *)task);
}

/* Hand the next page to a helper, or decode it here, after what was submitted is on its way. */
static void
decode_next(struct get *get)
{
    struct env *env = get->store->env;
    struct crew_task *task = get->ready;
    struct decoding *decoding = (struct decoding *)task;

    get->ready = task->next;
    if (get->ready == NULL)
        get->ready_end = &get->ready;
    if (crew_offer(&get->store->coding.crew, &get->decodes, task))
        return;
    env->ops->wait(get->queue, 0);
    decode(task);
    settle_decoded(get, decoding);
}

void
read_progress(struct get *get)
{
    if (get->ready != NULL) {
        decode_next(get);
    } else if (get->reads > 0) {
        get->store->env->ops->wait(get->queue, 1);
    } else {
        struct crew_task *task = crew_wait(&get->store->coding.crew, &get->decodes);

        if (task != NULL)
            settle_decoded(get, (struct decoding *)task);
    }
    collect(get);
}
