/* SPDX-License-Identifier: Apache-2.0 */
#include "churn_load.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "disk_usage.h"
#include "random.h"

#define KEPT_WINDOWS 6 /* how much further back kept chains are read than others */

static varve_id
page_id(const struct load *load, uint64_t chain, uint64_t index)
{
    varve_id id;

    for (uint64_t i = 0; i < sizeof(id.bytes) / 8; i++) {
        uint64_t word = random_mix(random_mix(load->settings.seed + i) ^
                                   random_mix(4 * (chain * load->settings.chain + index) + i));

        memcpy(id.bytes + 8 * i, &word, sizeof(word));
    }
    return id;
}

static void
sleep_until(uint64_t ns)
{
    const struct timespec until = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};

    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

bool
load_put(struct load *load)
{
    uint64_t chain = atomic_load(&load->chains), count = load->settings.chain, begin = cli_now_ns(), refused = 0;
    varve_page *pages = reallocarray(NULL, (size_t)count, sizeof(*pages));
    bool done = false;

    for (uint64_t i = 0; pages != NULL && i < count; i++) {
        pages[i] = load->pool.pages[(chain + i) % load->pool.count];
        pages[i].id = page_id(load, chain, i);
    }
    if (pages != NULL)
        done = varve_put_batch(load->store, load->ns, NULL, pages, (size_t)count, 0, NULL) == VARVE_OK;
    for (uint64_t i = 0; done && i < count; i++)
        refused += pages[i].status != VARVE_OK;
    free(pages);
    atomic_fetch_add(&load->chains, 1);
    (void)pthread_mutex_lock(&load->lock);
    if (atomic_load(&load->phase) != 0) {
        histogram_add(&load->counts.put_ns, cli_now_ns() - begin);
        load->counts.refused_pages += refused;
    }
    (void)pthread_mutex_unlock(&load->lock);
    return done;
}

static void *
writer_main(void *arg)
{
    struct load *load = arg;
    double bytes = (double)(load->settings.chain * load->settings.page_bytes);
    uint64_t step_ns = (uint64_t)(bytes / load->settings.rate * 1e9), next_ns = cli_now_ns();

    while (!atomic_load(&load->stop)) {
        if (!atomic_load(&load->writing)) {
            next_ns = cli_now_ns() + 1000000;
        } else {
            if (!load_put(load))
                atomic_store(&load->failed, true);
            next_ns += step_ns;
        }
        sleep_until(next_ns);
    }
    return NULL;
}

/* A chain that is stored, most likely. */
static uint64_t
draw_chain(const struct load *load, struct random *random)
{
    uint64_t chains = atomic_load(&load->chains), window = load->settings.window;

    if (random_below(random, 2) == 0) {
        uint64_t kept = KEPT_WINDOWS * window < chains ? KEPT_WINDOWS * window : chains;
        uint64_t chain = chains - 1 - random_below(random, kept);

        return chain - chain % KEPT_EVERY;
    }
    return chains - 1 - random_below(random, window < chains ? window : chains);
}

static void
get_chain(struct load *load, struct page_buffers *target, uint64_t chain)
{
    uint64_t begin, taken, phase = atomic_load(&load->phase), missing = 0;

    for (uint64_t i = 0; i < load->settings.chain; i++)
        target->pages[i].id = page_id(load, chain, i);
    begin = cli_now_ns();
    if (varve_get_batch(load->store, load->ns, target->pages, (size_t)load->settings.chain, NULL) != VARVE_OK)
        atomic_store(&load->failed, true);
    taken = cli_now_ns() - begin;
    for (uint64_t i = 0; i < load->settings.chain; i++)
        missing += target->pages[i].status != VARVE_OK;
    (void)pthread_mutex_lock(&load->lock);
    if (phase != 0 && phase == atomic_load(&load->phase)) {
        load->counts.missing_pages += missing;
        if (missing == 0) /* else less was read */
            histogram_add(&load->counts.get_ns, taken);
    }
    (void)pthread_mutex_unlock(&load->lock);
}

static void *
reader_main(void *arg)
{
    struct load *load = arg;
    struct random random = random_make(load->settings.seed + (uint64_t)(uintptr_t)&arg);
    uint64_t step_ns = load->settings.gets > 0 ? (uint64_t)(1e9 / load->settings.gets) : 0, next_ns = cli_now_ns();
    struct page_buffers target;

    if (page_buffers_init(&target, (size_t)load->settings.chain, load->settings.page_bytes) != VARVE_OK) {
        atomic_store(&load->failed, true);
        return NULL;
    }
    while (!atomic_load(&load->stop)) {
        if (!atomic_load(&load->reading) || atomic_load(&load->chains) == 0) {
            sleep_until(cli_now_ns() + 1000000);
            continue;
        }
        get_chain(load, &target, draw_chain(load, &random));
        next_ns = next_ns + step_ns > cli_now_ns() ? next_ns + step_ns : cli_now_ns();
        if (step_ns > 0)
            sleep_until(next_ns);
    }
    page_buffers_deinit(&target);
    return NULL;
}

static void *
sampler_main(void *arg)
{
    struct load *load = arg;

    for (uint64_t next_ns = load->begin_ns; !atomic_load(&load->stop) && load->sample_count < SAMPLES_MAX;
         next_ns += (uint64_t)SAMPLE_MS * 1000000) {
        struct sample *sample = &load->samples[load->sample_count];

        sleep_until(next_ns);
        *sample = (struct sample){
            .ms = (cli_now_ns() - load->begin_ns) / 1000000,
            .bytes = disk_usage(load->settings.path),
            .capacity = atomic_load(&load->capacity),
            .phase = atomic_load(&load->phase),
        };
        load->sample_count++;
    }
    return NULL;
}

static bool
add_thread(struct load *load, void *(*run)(void *))
{
    if (pthread_create(&load->threads[load->thread_count], NULL, run, load) != 0)
        return false;
    load->thread_count++;
    return true;
}

bool
load_start(struct load *load)
{
    bool started;

    if (pthread_mutex_init(&load->lock, NULL) != 0)
        return false;
    load->begin_ns = cli_now_ns();
    load->samples = calloc(SAMPLES_MAX, sizeof(load->samples[0]));
    started = load->samples != NULL && add_thread(load, sampler_main) && add_thread(load, writer_main);
    for (uint64_t i = 0; i < load->settings.readers && started; i++)
        started = add_thread(load, reader_main);
    return started;
}

void
load_stop(struct load *load)
{
    atomic_store(&load->stop, true);
    for (size_t i = 0; i < load->thread_count; i++)
        (void)pthread_join(load->threads[i], NULL);
    load->thread_count = 0;
    (void)pthread_mutex_destroy(&load->lock);
}

void
load_begin_phase(struct load *load, uint64_t phase)
{
    (void)pthread_mutex_lock(&load->lock);
    memset(&load->counts, 0, sizeof(load->counts));
    atomic_store(&load->phase, phase);
    (void)pthread_mutex_unlock(&load->lock);
}

void
load_end_phase(struct load *load, struct phase_counts *into)
{
    (void)pthread_mutex_lock(&load->lock);
    atomic_store(&load->phase, 0);
    histogram_merge(&into->get_ns, &load->counts.get_ns);
    histogram_merge(&into->put_ns, &load->counts.put_ns);
    into->missing_pages += load->counts.missing_pages;
    into->refused_pages += load->counts.refused_pages;
    (void)pthread_mutex_unlock(&load->lock);
}
