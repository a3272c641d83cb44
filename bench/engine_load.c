/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "directory.h"
#include "page_content.h"

#define REST_STEP_US     100000
#define REST_STEPS       10  /* without a byte written: at rest */
#define REST_STEPS_LIMIT 600 /* waited for */

/* End the program with what the engine says. */
static void
engine_must(const struct engine_load *load, int rc, const varve_error *err)
{
    char what[sizeof(err->message) + 64];

    (void)snprintf(what, sizeof(what), "%s: %s", load->ops->name, rc < 0 ? err->message : "");
    ablation_must(rc >= 0, what);
}

static void
set_option(struct engine_load *load, const char *name, const char *value)
{
    if (load->options == NULL)
        load->options = varve_options_create();
    ablation_must(load->options != NULL && varve_options_set(load->options, name, value, NULL) == VARVE_OK,
                  "a store option cannot be set");
}

void
engine_load_init(struct engine_load *load, const struct ablation_settings *settings, const struct engine_ops *ops,
                 uint64_t page_bytes, uint64_t capacity, const char *block_cache)
{
    struct page_content *content = page_content_create();

    *load = (struct engine_load){.settings = settings, .ops = ops, .page_bytes = page_bytes};
    (void)snprintf(load->path, sizeof(load->path), "%s", ablation_path(settings, ops->name));
    if (block_cache != NULL)
        set_option(load, "block_cache_bytes", block_cache);
    load->open_settings = (struct engine_settings){.path = load->path,
                                                   .capacity = capacity,
                                                   .page_bytes = page_bytes,
                                                   .batch = ABLATION_BATCH,
                                                   .options = load->options,
                                                   .element = VARVE_ELEMENT_BYTES};
    load->ids = reallocarray(NULL, (size_t)settings->chain, sizeof(*load->ids));
    load->pages = calloc(ABLATION_BATCH, sizeof(*load->pages));
    /* One more than a batch: the same place in two calls in a row has different contents. */
    ablation_must(content != NULL && load->ids != NULL && load->pages != NULL &&
                      page_buffers_init(&load->pool, ABLATION_BATCH + 1, page_bytes) == VARVE_OK &&
                      page_buffers_init(&load->target, ABLATION_BATCH, page_bytes) == VARVE_OK,
                  "out of memory");
    for (size_t i = 0; i < load->pool.count; i++) {
        load->pool.pages[i].id = ablation_page_id(settings->seed, 2 * ABLATION_ABSENT, i);
        page_buffers_fill(&load->pool, i, content);
    }
    page_content_destroy(content);
}

void
engine_load_deinit(struct engine_load *load)
{
    if (load->engine != NULL)
        engine_load_close(load);
    (void)directory_delete(load->path);
    page_buffers_deinit(&load->pool);
    page_buffers_deinit(&load->target);
    varve_options_destroy(load->options);
    free(load->ids);
    free(load->pages);
}

void
engine_load_open(struct engine_load *load)
{
    varve_error err = {0};

    engine_must(load, load->ops->open(&load->open_settings, &load->engine, &err), &err);
}

void
engine_load_close(struct engine_load *load)
{
    varve_error err = {0};
    int rc = load->ops->close(load->engine, &err);

    load->engine = NULL;
    engine_must(load, rc, &err);
    directory_uncache(load->path);
}

static void
make_ids(struct engine_load *load, uint64_t chain, uint64_t depth, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        load->ids[i] = ablation_page_id(load->settings->seed, chain, depth + i);
}

/* Pages [first, first + count) of the chain whose ids are in load->ids. */
static void
put_batch(struct engine_load *load, uint64_t first, uint64_t count)
{
    const varve_id *parent = first == 0 ? NULL : &load->ids[first - 1];
    varve_error err = {0};

    for (uint64_t i = 0; i < count; i++) {
        load->pages[i] = load->pool.pages[(first + i) % load->pool.count];
        load->pages[i].id = load->ids[first + i];
    }
    engine_must(load, load->ops->put(load->engine, parent, load->pages, (size_t)count, &err), &err);
    for (uint64_t i = 0; i < count; i++)
        ablation_must(load->pages[i].status == VARVE_OK, "a page cannot be put");
}

static void
get_batch(struct engine_load *load, uint64_t first, uint64_t count)
{
    varve_error err = {0};

    for (uint64_t i = 0; i < count; i++)
        load->target.pages[i].id = load->ids[first + i];
    engine_must(load, load->ops->get(load->engine, load->target.pages, (size_t)count, &err), &err);
    for (uint64_t i = 0; i < count; i++)
        ablation_must(load->target.pages[i].status == VARVE_OK, "a page that was put is not there");
}

static double
each_batch(struct engine_load *load, uint64_t chain,
           void (*batch)(struct engine_load *load, uint64_t first, uint64_t count))
{
    uint64_t pages = load->settings->chain, began;

    make_ids(load, chain, 0, pages);
    began = cli_now_ns();
    for (uint64_t first = 0; first < pages; first += ABLATION_BATCH)
        batch(load, first, pages - first < ABLATION_BATCH ? pages - first : ABLATION_BATCH);
    return (double)(cli_now_ns() - began) / 1e9;
}

double
engine_load_put(struct engine_load *load, uint64_t chain)
{
    return each_batch(load, chain, put_batch);
}

double
engine_load_get(struct engine_load *load, uint64_t chain)
{
    return each_batch(load, chain, get_batch);
}

double
engine_load_sync(struct engine_load *load)
{
    varve_error err = {0};
    uint64_t began = cli_now_ns();

    engine_must(load, load->ops->sync(load->engine, &err), &err);
    return (double)(cli_now_ns() - began) / 1e9;
}

uint64_t
engine_load_probe(struct engine_load *load, uint64_t chain, uint64_t depth, uint64_t count, double *seconds)
{
    varve_error err = {0};
    uint64_t began;
    int64_t found;

    make_ids(load, chain, depth, count);
    began = cli_now_ns();
    found = load->ops->probe(load->engine, load->ids, (size_t)count, &err);
    *seconds += (double)(cli_now_ns() - began) / 1e9;
    engine_must(load, found < 0 ? (int)found : 0, &err);
    return (uint64_t)found;
}

double
engine_load_rest(void)
{
    uint64_t before = ablation_io_bytes("write_bytes"), after;
    unsigned still = 0, steps = 0;

    for (; still < REST_STEPS && steps < REST_STEPS_LIMIT; steps++) {
        (void)usleep(REST_STEP_US);
        after = ablation_io_bytes("write_bytes");
        still = after == before ? still + 1 : 0;
        before = after;
    }
    return (steps - still) * (REST_STEP_US / 1e6);
}

uint64_t
engine_load_stat(struct engine_load *load, const char *name)
{
    uint64_t value = 0;

    if (load->ops->stat == NULL || !load->ops->stat(load->engine, name, &value))
        value = 0;
    return value;
}
