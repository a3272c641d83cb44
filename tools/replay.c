/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The replay itself. Workers take requests from one reader, in order; each plays its requests start to end with
 * buffers and totals of its own. Shared are the reader, the first error (both under `lock`) and two busy clocks.
 */
#include "replay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/lock.h"
#include "cli.h"
#include "page_buffers.h"

#define ACK_LINE_BYTES 72 /* three numbers of 64 bits */

/* Wall time during which at least one call is under way. */
struct busy_clock {
    struct mutex lock;
    unsigned active;
    uint64_t since_ns;
    uint64_t total_ns;
};

struct replay {
    varve_store *store;
    varve_namespace *ns;
    const struct page_content *content;
    const struct replay_settings *settings;
    struct busy_clock get_clock;
    struct busy_clock put_clock;
    struct mutex lock; /* guards all below */
    struct trace_reader *reader;
    struct cli_progress progress;
    uint64_t next_index; /* of the next request */
    bool stopped;
    int rc; /* the first failure */
    varve_error err;
};

struct worker {
    struct replay *replay;
    pthread_t thread;
    struct page_buffers buffers;
    struct trace_request request;
    uint64_t request_index;
    varve_id *ids; /* of the request */
    size_t id_capacity;
    struct replay_totals totals;
    varve_error err;
};

static void
busy_begin(struct busy_clock *clock)
{
    mutex_lock(&clock->lock);
    if (clock->active++ == 0)
        clock->since_ns = cli_now_ns();
    mutex_unlock(&clock->lock);
}

static void
busy_end(struct busy_clock *clock)
{
    mutex_lock(&clock->lock);
    if (--clock->active == 0)
        clock->total_ns += cli_now_ns() - clock->since_ns;
    mutex_unlock(&clock->lock);
}

int
replay_chain(const struct trace_request *request, varve_id *ids)
{
    size_t count = request->hash_count;
    uint32_t *tokens = reallocarray(NULL, count, 2 * sizeof(*tokens));
    int64_t made;

    if (tokens == NULL)
        return VARVE_E_NOMEM;
    /* varve_chain() digests tokens as little-endian uint32: two of them are a hash id as little-endian uint64. */
    for (size_t i = 0; i < count; i++) {
        tokens[2 * i] = (uint32_t)request->hash_ids[i];
        tokens[2 * i + 1] = (uint32_t)(request->hash_ids[i] >> 32);
    }
    made = varve_chain(tokens, 2 * count, 2, NULL, ids);
    free(tokens);
    return made == (int64_t)count ? VARVE_OK : VARVE_E_NOMEM;
}

static int
worker_make_chain(struct worker *worker)
{
    size_t count = worker->request.hash_count;

    if (count > worker->id_capacity) {
        varve_id *ids = reallocarray(worker->ids, count, sizeof(*ids));

        if (ids == NULL)
            return error_set(&worker->err, VARVE_E_NOMEM, "no memory for a chain of %zu pages", count);
        worker->ids = ids;
        worker->id_capacity = count;
    }
    if (replay_chain(&worker->request, worker->ids) < 0)
        return error_set(&worker->err, VARVE_E_NOMEM, "no memory to digest a chain of %zu pages", count);
    return VARVE_OK;
}

static void
set_ids(struct worker *worker, size_t first, size_t count)
{
    for (size_t i = 0; i < count; i++)
        worker->buffers.pages[i].id = worker->ids[first + i];
}

/* Look at what a get brought: the number of leading pages that are there. */
static size_t
worker_account_get(struct worker *worker, size_t count)
{
    struct replay_totals *totals = &worker->totals;
    size_t prefix = 0;

    for (size_t i = 0; i < count; i++) {
        const varve_page *page = &worker->buffers.pages[i];
        uint64_t wrong = 0;

        totals->pages_lost += page->status == VARVE_MISS;
        totals->get_failed += page->status < 0;
        if (page->status != VARVE_OK)
            continue;
        totals->get_bytes += page->size;
        if (!worker->replay->settings->no_verify)
            wrong = page_buffers_wrong_bytes(&worker->buffers, i, worker->replay->content);
        totals->wrong_bytes += wrong;
        totals->wrong_pages += wrong > 0;
        prefix += prefix == i;
    }
    return prefix;
}

/* Read the first *hit pages of the chain; *hit becomes how many of them were there. */
static int
worker_get(struct worker *worker, size_t *hit)
{
    struct replay *replay = worker->replay;
    size_t first = 0;

    while (first < *hit) {
        size_t count = *hit - first < worker->buffers.count ? *hit - first : worker->buffers.count;
        uint64_t begin;
        size_t prefix;
        int rc;

        set_ids(worker, first, count);
        busy_begin(&replay->get_clock);
        begin = cli_now_ns();
        rc = varve_get_batch(replay->store, replay->ns, worker->buffers.pages, count, &worker->err);
        histogram_add(&worker->totals.get_ns, cli_now_ns() - begin);
        busy_end(&replay->get_clock);
        if (rc < 0)
            return rc;
        prefix = worker_account_get(worker, count);
        first += prefix;
        if (prefix < count)
            *hit = first;
    }
    return VARVE_OK;
}

/* Log which pages of a batch are acknowledged: one write, so a killed process leaves whole batches. */
static int
worker_acknowledge(struct worker *worker, size_t first, size_t count)
{
    char lines[REPLAY_BATCH * ACK_LINE_BYTES];
    size_t used = 0;
    size_t i = 0;

    while (i < count) {
        size_t begin = i;

        while (i < count && worker->buffers.pages[i].status == VARVE_OK)
            i++;
        if (i > begin)
            used += (size_t)snprintf(lines + used, sizeof(lines) - used, "%" PRIu64 " %zu %zu\n", worker->request_index,
                                     first + begin, i - begin);
        else
            i++;
    }
    if (used > 0 && write(worker->replay->settings->ack_fd, lines, used) != (ssize_t)used)
        return error_os(&worker->err, errno == 0 ? -EIO : -errno, "cannot write the acknowledgement file");
    return VARVE_OK;
}

static int
worker_put_batch(struct worker *worker, size_t first, size_t count)
{
    struct replay *replay = worker->replay;
    struct replay_totals *totals = &worker->totals;
    const varve_id *parent = first == 0 ? NULL : &worker->ids[first - 1];
    uint64_t begin;
    int rc;

    set_ids(worker, first, count);
    for (size_t i = 0; i < count; i++)
        page_buffers_fill(&worker->buffers, i, replay->content);
    busy_begin(&replay->put_clock);
    begin = cli_now_ns();
    rc = varve_put_batch(replay->store, replay->ns, parent, worker->buffers.pages, count,
                         replay->settings->sync ? VARVE_PUT_SYNC : 0, &worker->err);
    histogram_add(&totals->put_ns, cli_now_ns() - begin);
    busy_end(&replay->put_clock);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < count; i++) {
        if (worker->buffers.pages[i].status == VARVE_OK) {
            totals->pages_put++;
            totals->put_bytes += worker->buffers.page_bytes;
        } else {
            if (totals->put_failed++ == 0)
                cli_error("replay: a page could not be put: %s", varve_strerror(worker->buffers.pages[i].status));
        }
    }
    return replay->settings->ack_fd < 0 ? VARVE_OK : worker_acknowledge(worker, first, count);
}

static int
worker_play(struct worker *worker)
{
    struct replay *replay = worker->replay;
    size_t count = worker->request.hash_count;
    uint64_t begin;
    int64_t found;
    size_t hit;
    int rc;

    worker->totals.requests++;
    if (count == 0)
        return VARVE_OK;
    rc = worker_make_chain(worker);
    if (rc < 0)
        return rc;
    begin = cli_now_ns();
    found = varve_probe(replay->store, replay->ns, worker->ids, count, NULL, &worker->err);
    histogram_add(&worker->totals.probe_ns, cli_now_ns() - begin);
    if (found < 0)
        return (int)found;
    hit = (size_t)found;
    worker->totals.pages_probed += count;
    worker->totals.probe_hits += hit;
    if (!replay->settings->no_get) {
        rc = worker_get(worker, &hit);
        if (rc < 0)
            return rc;
    }
    worker->totals.pages_hit += hit;
    for (size_t first = hit; first < count && rc == VARVE_OK; first += worker->buffers.count) {
        size_t left = count - first;

        rc = worker_put_batch(worker, first, left < worker->buffers.count ? left : worker->buffers.count);
    }
    return rc;
}

/* Take the next request, or false at the end, the limit, or after a failure elsewhere. */
static bool
worker_take(struct worker *worker)
{
    struct replay *replay = worker->replay;
    uint64_t limit = replay->settings->limit;
    uint64_t done;
    uint64_t total;
    bool taken = false;

    mutex_lock(&replay->lock);
    if (!replay->stopped && (limit == 0 || replay->next_index < limit)) {
        int rc = trace_reader_next(replay->reader, &worker->request, &replay->err);

        taken = rc == VARVE_OK;
        replay->stopped = !taken;
        if (rc < 0)
            replay->rc = rc;
    }
    if (taken) {
        worker->request_index = replay->next_index++;
        trace_reader_position(replay->reader, &done, &total);
        if (limit != 0)
            cli_progress_update(&replay->progress, replay->next_index, limit);
        else
            cli_progress_update(&replay->progress, total != 0 ? done : replay->next_index, total);
    }
    mutex_unlock(&replay->lock);
    return taken;
}

static void *
worker_run(void *arg)
{
    struct worker *worker = arg;
    struct replay *replay = worker->replay;
    int rc = VARVE_OK;

    while (rc == VARVE_OK && worker_take(worker))
        rc = worker_play(worker);
    if (rc < 0) {
        mutex_lock(&replay->lock);
        if (replay->rc == VARVE_OK) {
            replay->rc = rc;
            replay->err = worker->err;
        }
        replay->stopped = true;
        mutex_unlock(&replay->lock);
    }
    return NULL;
}

static void
totals_merge(struct replay_totals *into, const struct replay_totals *from)
{
    into->requests += from->requests;
    into->pages_probed += from->pages_probed;
    into->probe_hits += from->probe_hits;
    into->pages_hit += from->pages_hit;
    into->pages_put += from->pages_put;
    into->pages_lost += from->pages_lost;
    into->get_failed += from->get_failed;
    into->put_failed += from->put_failed;
    into->get_bytes += from->get_bytes;
    into->put_bytes += from->put_bytes;
    into->wrong_bytes += from->wrong_bytes;
    into->wrong_pages += from->wrong_pages;
    histogram_merge(&into->probe_ns, &from->probe_ns);
    histogram_merge(&into->get_ns, &from->get_ns);
    histogram_merge(&into->put_ns, &from->put_ns);
}

static void
worker_deinit(struct worker *worker)
{
    page_buffers_deinit(&worker->buffers);
    trace_request_deinit(&worker->request);
    free(worker->ids);
}

/* Start all workers but the first, be the first, and join. */
static int
workers_run(struct replay *replay, struct worker *workers, size_t count)
{
    size_t started = 1;

    while (started < count && pthread_create(&workers[started].thread, NULL, worker_run, &workers[started]) == 0)
        started++;
    if (started == count)
        (void)worker_run(&workers[0]);
    mutex_lock(&replay->lock);
    replay->stopped = true;
    mutex_unlock(&replay->lock);
    for (size_t i = 1; i < started; i++)
        lock_must(pthread_join(workers[i].thread, NULL));
    if (started < count)
        return error_set(&replay->err, VARVE_E_NOMEM, "cannot start %zu threads", count);
    return replay->rc;
}

int
replay_run(varve_store *store, varve_namespace *ns, const struct page_content *content,
           const struct replay_settings *settings, struct replay_totals *totals, varve_error *err)
{
    size_t count = (size_t)settings->threads;
    struct worker *workers = calloc(count, sizeof(*workers));
    struct replay replay = {.store = store, .ns = ns, .content = content, .settings = settings};
    uint64_t begin = cli_now_ns();
    int rc;

    *totals = (struct replay_totals){0};
    if (workers == NULL)
        return error_set(err, VARVE_E_NOMEM, "no memory for %zu threads", count);
    rc = trace_reader_open(settings->trace, &replay.reader, err);
    if (rc < 0) {
        free(workers);
        return rc;
    }
    mutex_init(&replay.lock);
    mutex_init(&replay.get_clock.lock);
    mutex_init(&replay.put_clock.lock);
    replay.progress = cli_progress_start("replay", settings->progress);
    for (size_t i = 0; i < count && rc == VARVE_OK; i++) {
        workers[i].replay = &replay;
        rc = page_buffers_init(&workers[i].buffers, (size_t)settings->batch, settings->page_bytes);
        if (rc < 0)
            (void)error_set(&replay.err, rc, "no memory for buffers: ask for fewer --threads or a smaller --batch");
    }
    if (rc == VARVE_OK)
        rc = workers_run(&replay, workers, count);
    cli_progress_finish(&replay.progress);
    for (size_t i = 0; i < count; i++) {
        totals_merge(totals, &workers[i].totals);
        worker_deinit(&workers[i]);
    }
    totals->get_busy_ns = replay.get_clock.total_ns;
    totals->put_busy_ns = replay.put_clock.total_ns;
    totals->elapsed_ns = cli_now_ns() - begin;
    if (rc < 0 && err != NULL)
        *err = replay.err;
    mutex_deinit(&replay.put_clock.lock);
    mutex_deinit(&replay.get_clock.lock);
    mutex_deinit(&replay.lock);
    trace_reader_close(replay.reader);
    free(workers);
    return rc;
}
