/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All pages of an extent are coded or none is. A page that does not get shorter costs its header then, and a larger page than the format, or a
 * segment, takes would come of that at the limit: then none is coded.
 */
#include "store/extent_encode.h"

#include <assert.h>
#include <string.h>

#include "store/extent_write.h"

static uint64_t
page_room(const varve_page *page)
{
    return log_pad(codec_bound(page->size), 12);
}

/* How many of pages[0..count), at least one, make a window, and the memory it takes. */
static size_t
window_fit(varve_page *const *pages, size_t count, uint64_t *bytes)
{
    size_t fitting = 1;
    uint64_t original = pages[0]->size;

    *bytes = page_room(pages[0]);
    for (; fitting < count && fitting < EXTENT_PAGES_MAX; fitting++) {
        original += pages[fitting]->size;
        if (original > ENCODE_WINDOW_BYTES)
            break;
        *bytes += page_room(pages[fitting]);
    }
    return fitting;
}

static void
encode(struct crew_task *task)
{
    struct encode_page *page = (struct encode_page *)task;
    varve_store *store = page->window->store;
    struct env *env = store->env;
    uint64_t began_ns = env->ops->now_ns(env);
    struct codec *codec;

    page->rc = codec_pool_acquire(&store->coding.codecs, &codec);
    if (page->rc != VARVE_OK)
        return;
    page->rc = codec_encode(codec, page->window->element, page->page->iov, page->page->iov_count, page->stored.memory,
                            &page->stored_bytes);
    codec_pool_release(&store->coding.codecs, codec);
    if (page->rc >= 0)
        memset(page->stored.memory + page->stored_bytes, 0,
               (size_t)(log_pad(page->stored_bytes, store->align_shift) - page->stored_bytes));
    page->time_ns = env->ops->now_ns(env) - began_ns;
}

/* Have every page coded, here and by helpers. */
static int
encode_all(struct encode_window *window)
{
    varve_store *store = window->store;
    struct crew *crew = &store->coding.crew;
    struct crew_group group = {0};
    uint64_t original = 0, stored = 0, time_ns = 0;
    bool too_large = false;
    int rc = VARVE_OK;

    for (size_t i = 0; i < window->count; i++) {
        if (!crew_offer(crew, &group, &window->pages[i].task))
            encode(&window->pages[i].task);
    }
    while (crew_wait(crew, &group) != NULL)
        ;
    for (size_t i = 0; i < window->count; i++) {
        const struct encode_page *page = &window->pages[i];

        if (page->rc < 0)
            rc = page->rc;
        original += page->page->size;
        stored += page->stored_bytes;
        time_ns += page->time_ns;
        too_large =
            too_large || page->stored_bytes > VARVE_PAGE_BYTES_MAX || page->stored_bytes > store->page_bytes_max;
    }
    COUNT(&store->counters, codec_encode_us, time_ns / 1000);
    if (rc == VARVE_OK && (too_large || stored * 100 > original * (100 - CODEC_SAVING_MIN_PERCENT)))
        rc = CODEC_NOT_WORTH;
    return rc;
}

/* Code pages[0..count). VARVE_OK; CODEC_NOT_WORTH: all of them are to be stored as they are; VARVE_E_NOMEM. */
static int
window_create(struct write_batch *batch, varve_page *const *pages, size_t count, uint64_t bytes)
{
    struct env *env = batch->store->env;
    struct encode_window *window = env_zalloc(env, sizeof(*window) + count * sizeof(window->pages[0]));
    int rc = VARVE_OK;

    if (window == NULL)
        return VARVE_E_NOMEM;
    window->store = batch->store;
    window->element = batch->element;
    window->users = 1;
    window->bytes = bytes;
    window->count = count;
    batch->coded_bytes += bytes;
    for (size_t i = 0; rc == VARVE_OK && i < count; i++) {
        struct encode_page *page = &window->pages[i];

        page->task.run = encode;
        page->window = window;
        page->page = pages[i];
        page->stored_bytes = page_room(pages[i]);
        page->stored = buffers_acquire(&batch->store->coding.buffers, page->stored_bytes);
        if (page->stored.memory == NULL)
            rc = VARVE_E_NOMEM;
    }
    if (rc == VARVE_OK)
        rc = encode_all(window);
    if (rc == VARVE_OK)
        batch->window = window;
    else
        encode_release(batch, &window);
    return rc;
}

/* Code the first of the pages, as soon as the memory of pages before them allows it. VARVE_OK, or why they are to be stored as they are. */
static int
make_window(struct write_batch *batch, varve_page **pages, size_t count)
{
    uint64_t bytes;
    size_t fitting = window_fit(pages, count, &bytes);
    int rc;

    while (batch->coded_bytes + bytes > ENCODE_BYTES_MAX && batch->queue->in_flight > 0)
        batch->store->env->ops->wait(batch->queue, 1);
    rc = window_create(batch, pages, fitting, bytes);
    if (rc != VARVE_OK)
        batch->plain_end = pages + fitting;
    return rc;
}

static void
decide(struct write_batch *batch, varve_page **pages, size_t count)
{
    const struct coding_files files = {
        .arg = batch, .open = batch->target->open_written, .close = batch->target->close_written};
    struct counters *counters = &batch->store->counters;
    enum codec_choice choice;
    int rc = VARVE_OK;

    if (coding_trial_due(batch->store))
        io_drain(batch->queue);
    choice = coding_choose(batch->store, batch->element, pages, count, &files);
    if (choice == CODEC_CHOICE_CODED)
        rc = make_window(batch, pages, count);
    else
        batch->plain_end = pages + (count < EXTENT_PAGES_MAX ? count : EXTENT_PAGES_MAX);
    COUNT(counters, codec_left_out_option, choice == CODEC_CHOICE_OFF);
    COUNT(counters, codec_left_out_saving, choice == CODEC_CHOICE_SAVING || rc == CODEC_NOT_WORTH);
    COUNT(counters, codec_left_out_speed, choice == CODEC_CHOICE_SPEED);
    COUNT(counters, codec_left_out_unmeasured, choice == CODEC_CHOICE_UNMEASURED);
    COUNT(counters, codec_left_out_memory, rc < 0);
}

const struct encode_page *
encode_choose(struct write_batch *batch, varve_page **pages, size_t *count)
{
    size_t decided;

    if (batch->element == VARVE_ELEMENT_BYTES)
        return NULL;
    /* All taken, or left over from pages before that could not be written. */
    if (batch->window != NULL &&
        (batch->window->taken == batch->window->count || batch->window->pages[batch->window->taken].page != pages[0]))
        encode_release(batch, &batch->window);
    if (batch->window == NULL && pages >= batch->plain_end)
        decide(batch, pages, *count);
    decided = batch->window != NULL ? batch->window->count - batch->window->taken : (size_t)(batch->plain_end - pages);
    if (*count > decided)
        *count = decided;
    return batch->window != NULL ? &batch->window->pages[batch->window->taken] : NULL;
}

struct encode_window *
encode_take(struct write_batch *batch, size_t count)
{
    batch->window->users++;
    batch->window->taken += count;
    return batch->window;
}

void
encode_release(struct write_batch *batch, struct encode_window **window_at)
{
    struct encode_window *window = *window_at;
    struct env *env = batch->store->env;

    *window_at = NULL;
    if (window == NULL || --window->users > 0)
        return;
    batch->coded_bytes -= window->bytes;
    for (size_t i = 0; i < window->count; i++)
        buffers_release(&batch->store->coding.buffers, window->pages[i].stored);
    env_free(env, window);
}

void
encode_end(struct write_batch *batch)
{
    encode_release(batch, &batch->window);
    assert(batch->coded_bytes == 0);
}
