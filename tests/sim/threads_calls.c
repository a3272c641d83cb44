/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls of a client, and how each answer is judged when others were inside the store at the same time. Nothing here loses the baton but in a
 * call of the store, so the model is told of begin and end exactly there.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim_log.h"
#include "store/store.h"
#include "threads_model.h"

#define IOV_MAX_A_PAGE 3
#define UNTOUCHED      0xee

/* The pages a call names. */
struct names {
    uint32_t ns;
    uint32_t chain, depth; /* of the first */
    size_t count;
    bool in_order;
    uint32_t pages[THREADS_BATCH_MAX];
    varve_id ids[THREADS_BATCH_MAX];
};

/* Buffers of one page: pieces of one block, so that what lies behind the page can be looked at. */
struct page_room {
    struct iovec iov[IOV_MAX_A_PAGE];
    uint8_t *block, *data;
    uint32_t room;
};

static void
choose_names(struct threads_client *client, bool distinct, struct names *names)
{
    const struct oracle_settings *shape = &client->run->universe->settings;
    struct sim_rng *rng = &client->rng;

    names->count = sim_rng_log(rng, client->run->config.batch_max);
    names->in_order = distinct || !sim_rng_chance(rng, 100);
    if (client->depth >= shape->chain_pages || sim_rng_chance(rng, 300)) {
        client->ns = (uint32_t)sim_rng_below(rng, shape->namespaces);
        client->chain = (uint32_t)sim_rng_below(rng, shape->chains);
        client->depth = sim_rng_chance(rng, 600) ? 0 : (uint32_t)sim_rng_below(rng, shape->chain_pages);
    }
    names->ns = client->ns;
    names->chain = client->chain;
    names->depth = client->depth;
    if (names->in_order && names->count > shape->chain_pages - names->depth)
        names->count = shape->chain_pages - names->depth;
    for (size_t i = 0; i < names->count; i++) {
        names->pages[i] = names->in_order ? oracle_page(client->run->universe, names->chain, names->depth + (uint32_t)i)
                                          : (uint32_t)sim_rng_below(rng, client->run->universe->pages);
        names->ids[i] = oracle_id(client->run->universe, names->pages[i]);
    }
}

static void
log_call(const char *call, const struct names *names)
{
    sched_note(call);
    sim_log("%s %s ns=%" PRIu32 " pages %" PRIu32 ".. count=%zu%s", sched_name(), call, names->ns, names->pages[0],
            names->count, names->in_order ? "" : " scattered");
}

static void
make_buffer(struct threads_client *client, uint32_t room, struct page_room *buffer, varve_page *page)
{
    bool shifted = client->run->config.unaligned && sim_rng_chance(&client->rng, 500);
    size_t shift = shifted ? sim_rng_below(&client->rng, 64) : 0, done = 0;
    uint32_t pieces = (uint32_t)sim_rng_between(&client->rng, 1, IOV_MAX_A_PAGE);
    void *block;

    if (posix_memalign(&block, varve_io_align(client->store), room + shift + 1) != 0)
        abort();
    memset(block, UNTOUCHED, room + shift + 1);
    buffer->block = block;
    buffer->data = buffer->block + shift;
    buffer->room = room;
    for (uint32_t i = 0; i < pieces; i++) {
        size_t part = i + 1 < pieces ? sim_rng_below(&client->rng, room - done + 1) : room - done;

        if (!client->run->config.unaligned && i + 1 < pieces)
            part -= part % 4096;
        buffer->iov[i] = (struct iovec){buffer->data + done, part};
        done += part;
    }
    page->iov = buffer->iov;
    page->iov_count = pieces;
    page->status = -1;
}

/* The right parent, none, or a wrong one. */
static const varve_id *
choose_parent(struct threads_client *client, const struct names *names, varve_id *room)
{
    struct oracle *universe = client->run->universe;

    if (sim_rng_chance(&client->rng, 100) || (names->in_order && names->depth == 0))
        return NULL;
    *room = names->in_order ? oracle_id(universe, oracle_page(universe, names->chain, names->depth - 1))
                            : oracle_id(universe, (uint32_t)sim_rng_below(&client->rng, universe->pages));
    return room;
}

static void
judge_put(struct threads_client *client, uint32_t ns, uint32_t number, const varve_page *page)
{
    struct run *run = client->run;

    if (page->status == VARVE_OK) {
        run->totals->pages_put++;
        return;
    }
    if (page->status == VARVE_SKIPPED && threads_was_full(client))
        return; /* a store that was full once takes nothing that cannot be hit */
    /* All that could be dropped may be held by calls in flight. */
    if (page->status == VARVE_E_NOSPC && threads_space_short(run))
        run->totals->no_space++;
    else if (!threads_excused(client, page->status))
        sim_fail("put of page %" PRIu32 " in namespace %" PRIu32 ": status %d", number, ns, page->status);
}

void
threads_put(struct threads_client *client)
{
    struct run *run = client->run;
    unsigned flags = sim_rng_chance(&client->rng, run->config.sync_per_mille) ? VARVE_PUT_SYNC : 0;
    struct page_room buffers[THREADS_BATCH_MAX];
    varve_page pages[THREADS_BATCH_MAX];
    varve_error err = {0};
    uint64_t begin, drops;
    struct names names;
    varve_id room;
    int rc;

    choose_names(client, false, &names);
    for (size_t i = 0; i < names.count; i++) {
        pages[i].id = names.ids[i];
        make_buffer(client, oracle_size(run->universe, names.ns, names.pages[i]), &buffers[i], &pages[i]);
        oracle_fill(run->universe, names.ns, names.pages[i], buffers[i].data);
    }
    log_call(flags != 0 ? "put sync" : "put", &names);
    drops = threads_drops(run);
    begin = model_put_begin(run->model, names.ns, names.pages, names.count);
    rc = varve_put_batch(client->store, client->namespaces[names.ns], choose_parent(client, &names, &room), pages,
                         names.count, flags, &err);
    threads_expect(client, rc, "varve_put_batch", &err);
    for (size_t i = 0; i < names.count; i++) {
        model_put_end(run->model, names.ns, names.pages[i], begin, drops, rc == VARVE_OK && pages[i].status == VARVE_OK,
                      flags != 0);
        if (rc == VARVE_OK)
            judge_put(client, names.ns, names.pages[i], &pages[i]);
        free(buffers[i].block);
    }
    threads_settle(client, &(struct threads_effect){EFFECT_PUT, names.ns, names.pages, names.count});
    if (names.in_order)
        client->depth = names.depth + (uint32_t)names.count;
    sim_log("%s   put: done", sched_name());
}

/* A page was seen, or not, by a call that began with `look`. */
static void
judge_presence(struct threads_client *client, const struct model_look *look, size_t index, uint32_t ns, uint32_t number,
               bool present)
{
    struct run *run = client->run;

    if (present && !model_may_be(run->model, look, index, ns, number))
        sim_fail("page %" PRIu32 " in namespace %" PRIu32 " is there, but must not be", number, ns);
    if (threads_unsure(client, present))
        return;
    if (!present && model_must_be(run->model, look, ns, number) &&
        (!threads_space_short(run) || !threads_dropped(client, model_page(run->model, ns, number)->seen.drops)))
        sim_fail("page %" PRIu32 " in namespace %" PRIu32 ": LOST", number, ns);
    model_saw(run->model, look, ns, number, present);
}

static void
judge_get(struct threads_client *client, const struct model_look *look, size_t index, uint32_t number,
          const struct page_room *buffer, const varve_page *page)
{
    struct run *run = client->run;
    uint32_t ns = look->ns;
    uint32_t size = oracle_size(run->universe, ns, number);

    switch (page->status) {
    case VARVE_OK:
        if (page->size != size || buffer->room < size)
            sim_fail("get of page %" PRIu32 ": %" PRIu64 " bytes, not %" PRIu32, number, page->size, size);
        if (!oracle_matches(run->universe, ns, number, buffer->data))
            sim_fail("get of page %" PRIu32 " in namespace %" PRIu32 ": WRONG BYTES", number, ns);
        for (uint32_t i = size; i < buffer->room; i++) {
            if (buffer->data[i] != UNTOUCHED)
                sim_fail("get of page %" PRIu32 " wrote past its %" PRIu32 " bytes", number, size);
        }
        run->totals->pages_read++;
        judge_presence(client, look, index, ns, number, true);
        return;
    case VARVE_MISS:
        judge_presence(client, look, index, ns, number, false);
        return;
    case VARVE_E_ARG:
        if (buffer->room >= size || page->size != size)
            sim_fail("get of page %" PRIu32 ": VARVE_E_ARG with room for %" PRIu32 " of %" PRIu32 " bytes", number,
                     buffer->room, size);
        return;
    default:
        if (!threads_excused(client, page->status))
            sim_fail("get of page %" PRIu32 ": status %d", number, page->status);
    }
}

static void
read_pages(struct threads_client *client, const struct names *names)
{
    struct run *run = client->run;
    struct page_room buffers[THREADS_BATCH_MAX];
    varve_page pages[THREADS_BATCH_MAX];
    struct model_look look;
    varve_error err = {0};
    int rc;

    for (size_t i = 0; i < names->count; i++) {
        uint32_t size = oracle_size(run->universe, names->ns, names->pages[i]);

        pages[i].id = names->ids[i];
        if (size > 0 && sim_rng_chance(&client->rng, 20))
            size = (uint32_t)sim_rng_below(&client->rng, size);
        else if (sim_rng_chance(&client->rng, 200))
            size += (uint32_t)sim_rng_below(&client->rng, 5000);
        make_buffer(client, size, &buffers[i], &pages[i]);
    }
    look = model_look_begin(run->model, threads_drops(run), names->ns, names->pages, names->count);
    rc = varve_get_batch(client->store, client->namespaces[names->ns], pages, names->count, &err);
    threads_expect(client, rc, "varve_get_batch", &err);
    for (size_t i = 0; i < names->count; i++) {
        if (rc == VARVE_OK)
            judge_get(client, &look, i, names->pages[i], &buffers[i], &pages[i]);
        free(buffers[i].block);
    }
    model_look_end(&look);
}

void
threads_get(struct threads_client *client)
{
    struct names names;

    choose_names(client, false, &names);
    log_call("get", &names);
    read_pages(client, &names);
}

void
threads_verify(struct threads_client *client)
{
    struct run *run = client->run;
    struct names names;

    sched_note("verify");
    sim_log("verify");
    for (uint32_t ns = 0; ns < run->universe->settings.namespaces; ns++) {
        for (uint32_t page = 0; page < run->universe->pages && !run->disk->stopped;) {
            names.ns = ns;
            names.count = 0;
            while (names.count < THREADS_BATCH_MAX && page < run->universe->pages) {
                names.pages[names.count] = page;
                names.ids[names.count++] = oracle_id(run->universe, page++);
            }
            read_pages(client, &names);
        }
    }
}

void
threads_probe(struct threads_client *client)
{
    struct run *run = client->run;
    struct model_look look;
    varve_error err = {0};
    struct names names;
    int64_t found;

    choose_names(client, false, &names);
    log_call("probe", &names);
    look = model_look_begin(run->model, threads_drops(run), names.ns, names.pages, names.count);
    found = varve_probe(client->store, client->namespaces[names.ns], names.ids, names.count, NULL, &err);
    threads_expect(client, found, "varve_probe", &err);
    if (found > (int64_t)names.count)
        sim_fail("varve_probe found %" PRId64 " of %zu", found, names.count);
    for (size_t i = 0; found >= 0 && i < names.count && i <= (size_t)found; i++)
        judge_presence(client, &look, i, names.ns, names.pages[i], i < (size_t)found);
    model_look_end(&look);
}

void
threads_exists(struct threads_client *client)
{
    struct run *run = client->run;
    uint8_t exists[THREADS_BATCH_MAX];
    struct model_look look;
    varve_error err = {0};
    struct names names;
    int rc;

    choose_names(client, false, &names);
    log_call("exists", &names);
    look = model_look_begin(run->model, threads_drops(run), names.ns, names.pages, names.count);
    rc = varve_exists_batch(client->store, client->namespaces[names.ns], names.ids, names.count, exists, &err);
    threads_expect(client, rc, "varve_exists_batch", &err);
    for (size_t i = 0; i < names.count && rc == VARVE_OK; i++)
        judge_presence(client, &look, i, names.ns, names.pages[i], exists[i] == 1);
    model_look_end(&look);
}

/* How many of the pages must be there, and may be; of a call that is over. */
static void
judge_count(struct threads_client *client, const struct model_look *look, const struct names *names, int64_t found,
            const char *call)
{
    struct run *run = client->run;
    int64_t least = 0, most = 0;

    for (size_t i = 0; i < names->count; i++) {
        least += model_must_be(run->model, look, names->ns, names->pages[i]);
        most += model_may_be(run->model, look, i, names->ns, names->pages[i]);
    }
    if (threads_space_short(run) || threads_excused(client, found) || threads_unsure(client, false))
        least = 0;
    if (found >= 0 && (found < least || found > most))
        sim_fail("%s: %" PRId64 " pages, not %" PRId64 " to %" PRId64, call, found, least, most);
}

void
threads_touch(struct threads_client *client)
{
    struct run *run = client->run;
    struct model_look look;
    varve_error err = {0};
    struct names names;
    int64_t found;

    choose_names(client, true, &names);
    log_call("touch", &names);
    look = model_look_begin(run->model, threads_drops(run), names.ns, names.pages, names.count);
    found = varve_touch(client->store, client->namespaces[names.ns], names.ids, names.count, &err);
    threads_expect(client, found, "varve_touch", &err);
    judge_count(client, &look, &names, found, "varve_touch");
    model_look_end(&look);
}

void
threads_remove(struct threads_client *client)
{
    struct run *run = client->run;
    struct model_look look;
    varve_error err = {0};
    struct names names;
    uint64_t begin;
    int64_t removed;

    choose_names(client, true, &names);
    if (names.count > 3)
        names.count = 3;
    log_call("remove", &names);
    look = model_look_begin(run->model, threads_drops(run), names.ns, names.pages, names.count);
    begin = model_remove_begin(run->model, names.ns, names.pages, names.count);
    removed = varve_remove_batch(client->store, client->namespaces[names.ns], names.ids, names.count, &err);
    threads_expect(client, removed, "varve_remove_batch", &err);
    judge_count(client, &look, &names, removed, "varve_remove_batch");
    model_remove_end(run->model, names.ns, names.pages, names.count, begin,
                     removed >= 0 && !threads_excused(client, removed)); /* or a copy could not be looked up */
    threads_settle(client, &(struct threads_effect){EFFECT_REMOVE, names.ns, names.pages, names.count});
    model_look_end(&look);
    sim_log("%s   remove: %" PRId64, sched_name(), removed);
}

void
threads_clear(struct threads_client *client)
{
    struct run *run = client->run;
    uint32_t ns = (uint32_t)sim_rng_below(&client->rng, run->universe->settings.namespaces);
    varve_error err = {0};
    uint64_t begin;
    int rc;

    sched_note("clear");
    sim_log("%s clear ns=%" PRIu32, sched_name(), ns);
    begin = model_clear_begin(run->model, ns);
    rc = varve_namespace_clear(client->store, client->namespaces[ns], &err);
    threads_expect(client, rc, "varve_namespace_clear", &err);
    model_clear_end(run->model, ns, begin, rc == VARVE_OK);
    threads_settle(client, &(struct threads_effect){EFFECT_CLEAR, ns, NULL, 0});
    sim_log("%s   clear: %d", sched_name(), rc);
}

void
threads_sync(struct threads_client *client)
{
    struct run *run = client->run;
    uint64_t begin = model_tick(run->model);
    varve_error err = {0};
    int rc;

    sched_note("sync");
    sim_log("%s sync", sched_name());
    rc = varve_sync(client->store, &err);
    threads_expect(client, rc, "varve_sync", &err);
    if (rc == VARVE_OK)
        model_sync_end(run->model, begin);
    sim_log("%s   sync: %d", sched_name(), rc);
}

static void
judge_row(struct threads_client *client, const struct model_look *look, const varve_item *item, uint8_t *seen)
{
    struct run *run = client->run;
    uint32_t page = oracle_find(run->universe, item->id_prefix), ns;
    size_t index;

    if (item->namespace_name == NULL)
        return; /* cleared meanwhile */
    ns = (uint32_t)(item->namespace_name[1] - '0');
    if (ns >= run->universe->settings.namespaces || page == UINT32_MAX)
        sim_fail("iteration: a page that was never put");
    if (item->bytes != oracle_size(run->universe, ns, page))
        sim_fail("iteration: page %" PRIu32 " of %" PRIu64 " bytes", page, item->bytes);
    index = (size_t)ns * run->universe->pages + page;
    seen[index] = 1;
    judge_presence(client, look, index, ns, page, true);
}

void
threads_iterate(struct threads_client *client)
{
    struct run *run = client->run;
    uint8_t *seen = sim_alloc((size_t)run->universe->settings.namespaces * run->universe->pages);
    varve_item item = VARVE_ITEM_INIT;
    struct model_look look;
    varve_iter *iter = NULL;
    varve_error err = {0};
    int rc;

    sched_note("iterate");
    sim_log("%s iterate", sched_name());
    look = model_look_begin(run->model, threads_drops(run), 0, NULL, 0);
    rc = varve_iter_open(client->store, NULL, VARVE_ITER_PAGES, &iter, &err);
    threads_expect(client, rc, "varve_iter_open", &err);
    while (rc == VARVE_OK) {
        rc = varve_iter_next(iter, &item, &err);
        if (rc == VARVE_OK)
            judge_row(client, &look, &item, seen);
    }
    threads_expect(client, rc, "varve_iter_next", &err);
    varve_iter_close(iter);
    /* What reclaim moved meanwhile is in neither place, as the snapshot sees it. */
    if (rc == VARVE_MISS && threads_drops(run) != look.drops)
        rc = VARVE_OK;
    for (uint32_t ns = 0; ns < run->universe->settings.namespaces && rc == VARVE_MISS; ns++) {
        for (uint32_t page = 0; page < run->universe->pages; page++) {
            size_t index = (size_t)ns * run->universe->pages + page;

            if (!seen[index])
                judge_presence(client, &look, index, ns, page, false);
        }
    }
    model_look_end(&look);
    free(seen);
}

static void
on_problem(void *arg, const char *text)
{
    (void)arg;
    sim_log("  problem: %s", text);
}

void
threads_check(struct threads_client *client)
{
    varve_check_report report = VARVE_CHECK_REPORT_INIT;
    varve_error err = {0};
    int rc;

    sched_note("check");
    sim_log("%s check", sched_name());
    rc = varve_check(client->store, VARVE_CHECK_DEEP, on_problem, NULL, NULL, &report, &err);
    threads_expect(client, rc, "varve_check", &err);
    if (rc == VARVE_OK && report.problems > 0 && !threads_excused(client, VARVE_E_CORRUPT))
        sim_fail("varve_check found %" PRIu32 " problems", report.problems);
}

void
threads_tick(struct threads_client *client)
{
    sched_note("tick");
    (void)store_tick(client->store);
}

void
threads_fill(struct threads_client *client)
{
    varve_store *store = client->store;

    sched_note("fill");
    mutex_lock(&store->write_lock);
    store->active_extents = UINT32_MAX;
    mutex_unlock(&store->write_lock);
}

static void
pin_or_unpin(struct threads_client *client, bool pin)
{
    struct run *run = client->run;
    struct model_look look;
    varve_error err = {0};
    struct names names;
    int64_t pinned;

    choose_names(client, true, &names);
    log_call(pin ? "pin" : "unpin", &names);
    look = model_look_begin(run->model, threads_drops(run), names.ns, names.pages, names.count);
    pinned = pin ? varve_pin(client->store, client->namespaces[names.ns], names.ids, names.count, &err)
                 : varve_unpin(client->store, client->namespaces[names.ns], names.ids, names.count, &err);
    threads_expect(client, pinned, pin ? "varve_pin" : "varve_unpin", &err);
    for (size_t i = 0; i < names.count && pinned > (int64_t)i && pin; i++)
        judge_presence(client, &look, i, names.ns, names.pages[i], true);
    model_look_end(&look);
}

void
threads_pin(struct threads_client *client)
{
    pin_or_unpin(client, true);
}

void
threads_unpin(struct threads_client *client)
{
    pin_or_unpin(client, false);
}
