/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The phases of an engine: put, open, probe, get, verify. Page j has an id drawn from (seed, j) and the content of slot
 * j modulo the size of a pool that was filled before, so nothing is computed while the clock runs and every byte can
 * still be checked.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "bench.h"
#include "cli.h"
#include "directory.h"
#include "histogram.h"
#include "page_buffers.h"
#include "random.h"

#define WARM_PASSES_MAX 5

struct run {
    const struct bench_settings *settings;
    const struct page_content *content;
    const struct bench_sink *sink;
    const struct bench_subject *subject;
    const struct engine_ops *ops;
    struct engine *engine;
    const char *io_engine;      /* NULL: its own */
    struct page_buffers pool;   /* what is put */
    struct page_buffers target; /* what is read into */
    varve_page *pages;          /* of a put: iovecs of the pool */
    varve_id *ids;              /* of a chain */
    uint64_t *order;
    varve_error *err;
};

static varve_id
page_id(const struct run *run, uint64_t page)
{
    varve_id id;

    for (uint64_t i = 0; i < 4; i++) {
        uint64_t word = random_mix(random_mix(run->settings->seed + i) ^ random_mix(4 * page + i));

        memcpy(id.bytes + 8 * i, &word, sizeof(word));
    }
    return id;
}

static void
make_chain(struct run *run, uint64_t chain, uint64_t pages)
{
    for (uint64_t i = 0; i < pages; i++)
        run->ids[i] = page_id(run, chain * run->settings->chain + i);
}

static struct bench_result
result_make(const struct run *run, const char *phase)
{
    const char *label = run->subject->label == NULL ? run->io_engine : run->subject->label;
    struct bench_result result = bench_result_make(label, phase);

    result.io_engine = run->io_engine;
    result.codec = run->subject->codec;
    return result;
}

/* False: the engine has no such statistic. */
static bool
stat_find(const struct run *run, const char *name, uint64_t *value)
{
    return run->ops->stat != NULL && run->ops->stat(run->engine, name, value);
}

static void
set_times(struct bench_result *result, const struct bench_clock *clock, const struct histogram *calls_ns)
{
    result->seconds = (double)clock->wall_ns / 1e9;
    result->core_seconds = (double)clock->cpu_ns / 1e9;
    result->call_us_p50 = (double)histogram_percentile(calls_ns, 50) / 1000.0;
    result->call_us_p99 = (double)histogram_percentile(calls_ns, 99) / 1000.0;
}

static int
open_engine(struct run *run)
{
    uint64_t uring;
    int rc = run->ops->open(&run->subject->settings, &run->engine, run->err);

    if (rc < 0)
        run->engine = NULL;
    else if (stat_find(run, "io_engine_uring", &uring)) /* what "auto" has chosen */
        run->io_engine = uring != 0 ? "uring" : "threads";
    return rc;
}

static int
close_engine(struct run *run)
{
    struct engine *engine = run->engine;

    run->engine = NULL;
    return run->ops->close(engine, run->err);
}

/* Pages [first, first + count) of the bench, in one chain; run->ids holds that chain. */
static int
put_batch(struct run *run, uint64_t first, uint64_t depth, uint64_t count)
{
    const varve_id *parent = depth == 0 ? NULL : &run->ids[depth - 1];
    int rc;

    for (uint64_t i = 0; i < count; i++) {
        run->pages[i] = run->pool.pages[(first + i) % run->pool.count];
        run->pages[i].id = run->ids[depth + i];
    }
    rc = run->ops->put(run->engine, parent, run->pages, (size_t)count, run->err);
    for (uint64_t i = 0; rc == VARVE_OK && i < count; i++) {
        if (run->pages[i].status != VARVE_OK)
            rc = error_set(run->err, run->pages[i].status, "a page could not be put: %s",
                           varve_strerror(run->pages[i].status));
    }
    return rc;
}

/* NaN: nothing was coded. */
static double
codec_ratio(const struct run *run)
{
    uint64_t original = 0, stored = 0;

    if (!stat_find(run, "codec_put_bytes", &original) || !stat_find(run, "codec_put_stored_bytes", &stored) ||
        stored == 0)
        return (double)NAN;
    return (double)original / (double)stored;
}

static int
put_phase(struct run *run)
{
    const struct bench_settings *settings = run->settings;
    struct bench_result result = result_make(run, "put");
    struct cli_progress progress = cli_progress_start("put", settings->progress);
    struct histogram calls_ns = {0};
    struct bench_clock clock = {0};
    int rc = VARVE_OK;

    for (uint64_t chain = 0; chain < bench_chain_count(settings) && rc == VARVE_OK; chain++) {
        uint64_t pages = bench_chain_pages(settings, chain);

        make_chain(run, chain, pages);
        bench_clock_start(&clock);
        for (uint64_t depth = 0; depth < pages && rc == VARVE_OK; depth += settings->batch) {
            uint64_t left = pages - depth;
            uint64_t begin = cli_now_ns();

            rc =
                put_batch(run, chain * settings->chain + depth, depth, left < settings->batch ? left : settings->batch);
            histogram_add(&calls_ns, cli_now_ns() - begin);
            cli_progress_update(&progress, chain * settings->chain + depth, settings->pages);
        }
        bench_clock_stop(&clock);
    }
    bench_clock_start(&clock);
    if (rc == VARVE_OK)
        rc = run->ops->sync(run->engine, run->err);
    bench_clock_stop(&clock);
    cli_progress_finish(&progress);
    if (rc < 0)
        return rc;
    result.bytes = settings->pages * settings->page_bytes;
    result.pages = settings->pages;
    result.codec_ratio = codec_ratio(run);
    set_times(&result, &clock, &calls_ns);
    run->sink->result(run->sink->arg, &result);
    return VARVE_OK;
}

static int
open_phase(struct run *run)
{
    struct bench_result result = result_make(run, "open");
    struct bench_clock clock = {0};
    uint64_t memory;
    int rc;

    rc = close_engine(run);
    if (rc < 0)
        return rc;
    directory_uncache(run->subject->settings.path);
    bench_clock_start(&clock);
    rc = open_engine(run);
    bench_clock_stop(&clock);
    if (rc < 0)
        return rc;
    result.pages = run->settings->pages;
    result.seconds = (double)clock.wall_ns / 1e9;
    result.core_seconds = (double)clock.cpu_ns / 1e9;
    result.open_ms = (double)clock.wall_ns / 1e6;
    if (stat_find(run, "index_memory_bytes", &memory))
        result.index_bytes_per_page = (double)memory / (double)run->settings->pages;
    run->sink->result(run->sink->arg, &result);
    return VARVE_OK;
}

/* Probe every chain once, or (miss) a chain whose first id is not there. */
static int
probe_phase(struct run *run, const char *phase, bool miss)
{
    const struct bench_settings *settings = run->settings;
    struct bench_result result = result_make(run, phase);
    struct cli_progress progress = cli_progress_start(phase, settings->progress);
    uint64_t chains = bench_chain_count(settings);
    struct histogram calls_ns = {0};
    struct bench_clock clock = {0};
    int64_t found = 0;

    for (uint64_t i = 0; i < chains && found >= 0; i++) {
        uint64_t pages = bench_chain_pages(settings, run->order[i]);
        uint64_t begin;

        make_chain(run, run->order[i], pages);
        if (miss)
            run->ids[0] = page_id(run, settings->pages + i);
        bench_clock_start(&clock);
        begin = cli_now_ns();
        found = run->ops->probe(run->engine, run->ids, (size_t)pages, run->err);
        histogram_add(&calls_ns, cli_now_ns() - begin);
        bench_clock_stop(&clock);
        if (found >= 0 && !miss)
            result.missing_pages += pages - (uint64_t)found;
        cli_progress_update(&progress, i, chains);
    }
    cli_progress_finish(&progress);
    if (found < 0)
        return (int)found;
    result.pages = miss ? chains : settings->pages;
    result.checks_pages = !miss;
    set_times(&result, &clock, &calls_ns);
    result.us_per_chain = (double)calls_ns.sum / 1000.0 / (double)chains;
    run->sink->result(run->sink->arg, &result);
    return VARVE_OK;
}

static uint64_t
blocks_read(const struct run *run)
{
    uint64_t blocks = 0;

    (void)stat_find(run, "block_cache_misses", &blocks);
    return blocks;
}

/*
 * Probe every chain until a pass reads no index block: a merge that was due at the open replaces blocks that were cached before.
 * Gives up where the index does not fit in the cache.
 */
static int
warm_up(struct run *run)
{
    uint64_t before, after = blocks_read(run);
    int64_t found = 0;

    for (int pass = 0; pass < WARM_PASSES_MAX; pass++) {
        before = after;
        for (uint64_t i = 0; i < bench_chain_count(run->settings) && found >= 0; i++) {
            uint64_t pages = bench_chain_pages(run->settings, run->order[i]);

            make_chain(run, run->order[i], pages);
            found = run->ops->probe(run->engine, run->ids, (size_t)pages, run->err);
        }
        after = blocks_read(run);
        if (found < 0 || after == before)
            break;
    }
    return found < 0 ? (int)found : VARVE_OK;
}

static void
check_batch(struct run *run, uint64_t first, uint64_t count, bool verify, struct bench_result *result)
{
    for (uint64_t i = 0; i < count; i++) {
        varve_page *page = &run->target.pages[i];

        if (page->status != VARVE_OK) {
            result->missing_pages++;
        } else if (verify) {
            page->id = run->pool.pages[(first + i) % run->pool.count].id;
            result->wrong_bytes += page_buffers_wrong_bytes(&run->target, (size_t)i, run->content);
        }
    }
}

static int
get_chain(struct run *run, uint64_t chain, bool verify, struct bench_clock *clock, struct histogram *calls_ns,
          struct bench_result *result)
{
    const struct bench_settings *settings = run->settings;
    uint64_t pages = bench_chain_pages(settings, chain);

    make_chain(run, chain, pages);
    bench_clock_start(clock);
    for (uint64_t depth = 0; depth < pages; depth += settings->batch) {
        uint64_t count = pages - depth < settings->batch ? pages - depth : settings->batch;
        uint64_t begin;
        int rc;

        for (uint64_t i = 0; i < count; i++)
            run->target.pages[i].id = run->ids[depth + i];
        begin = cli_now_ns();
        rc = run->ops->get(run->engine, run->target.pages, (size_t)count, run->err);
        histogram_add(calls_ns, cli_now_ns() - begin);
        if (rc < 0)
            return rc;
        check_batch(run, chain * settings->chain + depth, count, verify, result);
    }
    bench_clock_stop(clock);
    return VARVE_OK;
}

/* Read everything, chain after chain; verifying is a pass of its own, so that it is in nobody's time. */
static int
get_phase(struct run *run, const char *phase, bool verify)
{
    const struct bench_settings *settings = run->settings;
    struct bench_result result = result_make(run, phase);
    struct cli_progress progress = cli_progress_start(phase, settings->progress);
    uint64_t chains = bench_chain_count(settings);
    struct histogram calls_ns = {0};
    struct bench_clock clock = {0};
    int rc = VARVE_OK;

    for (uint64_t i = 0; i < chains && rc == VARVE_OK; i++) {
        rc = get_chain(run, run->order[i], verify, &clock, &calls_ns, &result);
        cli_progress_update(&progress, i, chains);
    }
    cli_progress_finish(&progress);
    if (rc < 0)
        return rc;
    result.bytes = settings->pages * settings->page_bytes;
    result.pages = settings->pages;
    result.checks_pages = true;
    set_times(&result, &clock, &calls_ns);
    run->sink->result(run->sink->arg, &result);
    return VARVE_OK;
}

static int
run_init(struct run *run)
{
    const struct bench_settings *settings = run->settings;
    size_t batch = (size_t)settings->batch;

    run->order = bench_chain_order(settings);
    run->ids = reallocarray(NULL, (size_t)settings->chain, sizeof(*run->ids));
    run->pages = calloc(batch, sizeof(*run->pages));
    /* One more than a batch: the same place in two batches in a row has different contents. */
    if (run->order == NULL || run->ids == NULL || run->pages == NULL ||
        page_buffers_init(&run->pool, batch + 1, settings->page_bytes) < 0 ||
        page_buffers_init(&run->target, batch, settings->page_bytes) < 0)
        return error_set(run->err, VARVE_E_NOMEM, "no memory for two batches of %zu pages: ask for a smaller --batch",
                         batch);
    for (size_t i = 0; i < run->pool.count; i++) {
        run->pool.pages[i].id = page_id(run, UINT64_MAX / 4 - i);
        page_buffers_fill(&run->pool, i, run->content);
    }
    return VARVE_OK;
}

static int
run_phases(struct run *run)
{
    int rc;

    rc = put_phase(run);
    if (rc == VARVE_OK)
        rc = open_phase(run);
    if (rc == VARVE_OK)
        rc = probe_phase(run, "probe_cold", false);
    if (rc == VARVE_OK)
        rc = warm_up(run);
    if (rc == VARVE_OK)
        rc = probe_phase(run, "probe", false);
    if (rc == VARVE_OK)
        rc = probe_phase(run, "probe_miss", true);
    if (rc == VARVE_OK)
        rc = get_phase(run, "get", false);
    if (rc == VARVE_OK && run->settings->verify)
        rc = get_phase(run, "verify", true);
    return rc;
}

int
bench_engine(const struct bench_settings *settings, const struct bench_subject *subject,
             const struct page_content *content, const struct bench_sink *sink, varve_error *err)
{
    struct run run = {
        .settings = settings, .content = content, .sink = sink, .subject = subject, .ops = subject->ops, .err = err};
    int rc;

    rc = run_init(&run);
    if (rc == VARVE_OK)
        rc = open_engine(&run);
    if (rc == VARVE_OK)
        rc = run_phases(&run);
    if (rc == VARVE_OK)
        rc = close_engine(&run);
    else if (run.engine != NULL)
        (void)run.ops->close(run.engine, NULL); /* the first error wins */
    page_buffers_deinit(&run.pool);
    page_buffers_deinit(&run.target);
    free(run.pages);
    free(run.ids);
    free(run.order);
    return rc;
}
