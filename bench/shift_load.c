/* SPDX-License-Identifier: Apache-2.0 */
#include "shift_load.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "page_buffers.h"

struct shift_thread {
    struct shift_load *load;
    struct random random;
    pthread_t thread;
    uint64_t first_chain, chains;
    uint64_t operations; /* of its share of the stage */
    struct shift_stage stage;
    uint64_t begun; /* conversations of the thread that have pages */
    varve_id *ids;
    varve_page *pages;
    struct page_buffers put, got;
    bool failed;
};

struct shift_load {
    struct shift_settings settings;
    varve_store *store;
    varve_namespace *ns;
    uint32_t *pages_of; /* of each conversation; each the property of one thread */
    struct shift_thread threads[SHIFT_THREADS_MAX];
    struct page_content *content;
};

/* A conversation grows no further than this: what one probe asks for. */
#define CHAIN_PAGES_MAX 4096u

#define HOT_PART 5 /* one probe of so many is for any conversation, the others for hot ones */

static varve_id
page_id(const struct shift_load *load, uint64_t chain, uint64_t page)
{
    uint64_t word = random_mix(random_mix(load->settings.seed) ^ (chain * CHAIN_PAGES_MAX + page));
    varve_id id;

    for (size_t i = 0; i < sizeof(id.bytes) / sizeof(word); i++) {
        memcpy(id.bytes + i * sizeof(word), &word, sizeof(word));
        word = random_mix(word);
    }
    return id;
}

static bool
thread_init(struct shift_thread *thread, struct shift_load *load, uint64_t index)
{
    const struct shift_settings *settings = &load->settings;

    thread->load = load;
    thread->random = random_make(random_mix(settings->seed + index));
    thread->first_chain = settings->chains * index / settings->threads;
    thread->chains = settings->chains * (index + 1) / settings->threads - thread->first_chain;
    thread->ids = reallocarray(NULL, CHAIN_PAGES_MAX, sizeof(*thread->ids));
    thread->pages = reallocarray(NULL, settings->turn, sizeof(*thread->pages));
    if (thread->ids == NULL || thread->pages == NULL ||
        page_buffers_init(&thread->put, (size_t)settings->turn, settings->page_bytes) < 0 ||
        page_buffers_init(&thread->got, CHAIN_PAGES_MAX, settings->gets > 0 ? settings->page_bytes : 0) < 0)
        return false;
    for (size_t i = 0; i < thread->put.count; i++)
        page_buffers_fill(&thread->put, i, load->content);
    return true;
}

struct shift_load *
shift_load_create(const struct shift_settings *settings)
{
    struct shift_load *load = calloc(1, sizeof(*load));

    if (load == NULL)
        return NULL;
    load->settings = *settings;
    load->content = page_content_create();
    load->pages_of = calloc(settings->chains, sizeof(*load->pages_of));
    if (load->content == NULL || load->pages_of == NULL)
        goto fail;
    for (uint64_t i = 0; i < settings->threads; i++) {
        if (!thread_init(&load->threads[i], load, i))
            goto fail;
    }
    return load;

fail:
    shift_load_destroy(load);
    return NULL;
}

void
shift_load_destroy(struct shift_load *load)
{
    for (uint64_t i = 0; i < load->settings.threads; i++) {
        struct shift_thread *thread = &load->threads[i];

        free(thread->ids);
        free(thread->pages);
        page_buffers_deinit(&thread->put);
        page_buffers_deinit(&thread->got);
    }
    free(load->pages_of);
    page_content_destroy(load->content);
    free(load);
}

void
shift_load_use(struct shift_load *load, varve_store *store, varve_namespace *ns)
{
    load->store = store;
    load->ns = ns;
}

/* A conversation that has begun; there must be one. */
static uint64_t
draw_chain(struct shift_thread *thread)
{
    uint64_t hot = thread->load->settings.hot / thread->load->settings.threads, bound = thread->begun;

    if (random_below(&thread->random, HOT_PART) > 0 && hot > 0 && hot < bound)
        bound = hot;
    return thread->first_chain + random_below(&thread->random, bound);
}

/* One that a turn may be added to: the drawn one, or the next that is not full. */
static uint64_t
draw_growing(struct shift_thread *thread)
{
    const struct shift_load *load = thread->load;
    uint64_t at = random_below(&thread->random, thread->begun);

    for (uint64_t i = 0; i < thread->begun; i++) {
        if (load->pages_of[thread->first_chain + at] + load->settings.turn <= CHAIN_PAGES_MAX)
            break;
        at = at + 1 == thread->begun ? 0 : at + 1;
    }
    return thread->first_chain + at;
}

static bool
put_turn(struct shift_thread *thread, uint64_t chain)
{
    struct shift_load *load = thread->load;
    uint64_t turn = load->settings.turn, first = load->pages_of[chain];
    varve_id parent = {{0}};
    bool stored = true;

    if (first > 0)
        parent = page_id(load, chain, first - 1);
    for (uint64_t i = 0; i < turn; i++) {
        thread->pages[i] = thread->put.pages[i];
        thread->pages[i].id = page_id(load, chain, first + i);
    }
    if (varve_put_batch(load->store, load->ns, first > 0 ? &parent : NULL, thread->pages, (size_t)turn, 0, NULL) !=
        VARVE_OK)
        return false;
    for (uint64_t i = 0; i < turn; i++)
        stored = stored && thread->pages[i].status == VARVE_OK;
    return stored;
}

static bool
find_chain(struct shift_thread *thread, uint64_t chain)
{
    struct shift_load *load = thread->load;
    uint64_t count = load->pages_of[chain];
    bool got = true;

    if (count == 0)
        return true;
    for (uint64_t i = 0; i < count; i++)
        thread->ids[i] = page_id(load, chain, i);
    if (varve_probe(load->store, load->ns, thread->ids, (size_t)count, NULL, NULL) != (int64_t)count)
        return false;
    if (random_below(&thread->random, 100) >= load->settings.gets)
        return true;
    for (uint64_t i = 0; i < count; i++)
        thread->got.pages[i].id = thread->ids[i];
    if (varve_get_batch(load->store, load->ns, thread->got.pages, (size_t)count, NULL) != VARVE_OK)
        return false;
    for (uint64_t i = 0; i < count; i++)
        got = got && thread->got.pages[i].status == VARVE_OK;
    return got;
}

static void
append_turn(struct shift_thread *thread, uint64_t chain)
{
    struct shift_load *load = thread->load;

    if (load->store != NULL && !put_turn(thread, chain))
        thread->failed = true;
    load->pages_of[chain] += (uint32_t)load->settings.turn;
}

static void *
run_thread(void *arg)
{
    struct shift_thread *thread = arg;
    uint64_t begin_percent = thread->stage.begin_percent, grow_percent = thread->stage.grow_percent;

    for (uint64_t i = 0; i < thread->operations && !thread->failed; i++) {
        uint64_t kind = random_below(&thread->random, 100);

        if (thread->begun == 0 || (kind < begin_percent && thread->begun < thread->chains)) {
            uint64_t chain = thread->first_chain + thread->begun++;

            for (uint64_t turn = 0; turn < thread->load->settings.first_turns; turn++)
                append_turn(thread, chain);
        } else if (kind < begin_percent + grow_percent) {
            append_turn(thread, draw_growing(thread));
        } else if (!find_chain(thread, draw_chain(thread))) {
            thread->failed = true;
        }
    }
    return NULL;
}

bool
shift_load_run(struct shift_load *load, const struct shift_stage *stage)
{
    uint64_t threads = load->settings.threads, started = 0;
    bool done = true;

    while (started < threads) {
        struct shift_thread *thread = &load->threads[started];

        thread->operations = stage->operations * (started + 1) / threads - stage->operations * started / threads;
        thread->stage = *stage;
        if (pthread_create(&thread->thread, NULL, run_thread, thread) != 0)
            break;
        started++;
    }
    for (uint64_t i = 0; i < started; i++) {
        (void)pthread_join(load->threads[i].thread, NULL);
        done = done && !load->threads[i].failed;
    }
    return done && started == threads;
}

bool
shift_load_prepare(struct shift_load *load, bool stored)
{
    const struct shift_stage stage = {.begin_percent = load->settings.preload_begin_percent,
                                      .grow_percent = 100 - load->settings.preload_begin_percent,
                                      .operations = load->settings.preload};
    varve_store *store = load->store;
    bool done;

    if (stored)
        load->store = NULL;
    done = shift_load_run(load, &stage);
    load->store = store;
    return done;
}
