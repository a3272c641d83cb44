/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that change a store, and what each tells the oracle. A page whose status is VARVE_OK counts as acknowledged, whatever came after. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim_driver.h"
#include "sim_log.h"

#define PUT_IOV_MAX 5

/* What the statistics say of failed puts, by cause. */
struct put_errors {
    uint64_t all, space, device, memory, readonly;
};

static struct put_errors
put_errors_read(const struct sim *sim)
{
    return (struct put_errors){SIM_STAT(sim, put_errors), SIM_STAT(sim, put_errors_space),
                               SIM_STAT(sim, put_errors_device), SIM_STAT(sim, put_errors_memory),
                               SIM_STAT(sim, put_errors_readonly)};
}

/* Every page that was not stored is counted, and under its cause. */
static void
judge_put_errors(const struct sim *sim, const struct put_errors *before, const varve_page *pages, size_t count)
{
    struct put_errors now = put_errors_read(sim), want = *before;

    for (size_t i = 0; i < count; i++) {
        want.all += pages[i].status < 0;
        want.space += pages[i].status == VARVE_E_NOSPC;
        want.device += pages[i].status == VARVE_E_IO;
        want.memory += pages[i].status == VARVE_E_NOMEM;
        want.readonly += pages[i].status == VARVE_E_READONLY;
    }
    if (memcmp(&now, &want, sizeof(now)) != 0)
        sim_fail("varve_put_batch: failed pages are not counted under their causes");
}

static uint32_t
choose_chain(struct sim *sim)
{
    if (sim->config.hot_chains > 0 && sim_rng_chance(&sim->rng, 400))
        return (uint32_t)sim_rng_below(&sim->rng, sim->config.hot_chains);
    return (uint32_t)sim_rng_below(&sim->rng, sim->oracle->settings.chains);
}

struct sim_pick
sim_pick_make(struct sim *sim, bool distinct)
{
    const struct oracle_settings *shape = &sim->oracle->settings;
    struct sim_client *client = &sim->clients[sim_rng_below(&sim->rng, sim->config.clients)];
    size_t limit = sim_rng_log(&sim->rng, sim->config.batch_max);
    struct sim_pick pick = {.ns = client->ns, .in_order = distinct || !sim_rng_chance(&sim->rng, 80)};

    if (sim->config.whole_batches && sim_rng_chance(&sim->rng, 700))
        limit = sim->config.batch_max;
    if (sim_rng_chance(&sim->rng, 300))
        client->depth = (uint32_t)sim_rng_below(&sim->rng, shape->chain_pages);
    if (client->depth >= shape->chain_pages || sim_rng_chance(&sim->rng, 100)) {
        client->ns = (uint32_t)sim_rng_below(&sim->rng, shape->namespaces);
        client->chain = choose_chain(sim);
        client->depth = 0;
    }
    pick.ns = client->ns;
    pick.chain = client->chain;
    pick.depth = client->depth;
    pick.in_order = pick.in_order || sim->config.honest;
    if (pick.in_order && limit > shape->chain_pages - pick.depth)
        limit = shape->chain_pages - pick.depth;
    pick.count = limit;
    pick.pages = sim_alloc(limit * sizeof(*pick.pages));
    pick.ids = sim_alloc(limit * sizeof(*pick.ids));
    for (size_t i = 0; i < limit; i++) {
        pick.pages[i] = pick.in_order ? oracle_page(sim->oracle, pick.chain, pick.depth + (uint32_t)i)
                                      : (uint32_t)sim_rng_below(&sim->rng, sim->oracle->pages);
        pick.ids[i] = oracle_id(sim->oracle, pick.pages[i]);
    }
    return pick;
}

void
sim_pick_free(struct sim_pick *pick)
{
    free(pick->pages);
    free(pick->ids);
}

/* A page as a put gives it: bytes cut into pieces that lie apart, each a block of its own so that the sanitizers see overruns. */
struct put_page {
    struct iovec iov[PUT_IOV_MAX];
    void *blocks[PUT_IOV_MAX];
};

static void *
piece_make(struct sim *sim, const uint8_t *data, size_t size, struct iovec *iov)
{
    size_t align = varve_io_align(sim->store);
    size_t shift = sim->config.unaligned && sim_rng_chance(&sim->rng, 500) ? sim_rng_below(&sim->rng, 64) : 0;
    void *block;

    if (posix_memalign(&block, align, size + shift + 1) != 0)
        abort();
    if (size > 0)
        memcpy((uint8_t *)block + shift, data, size);
    *iov = (struct iovec){(uint8_t *)block + shift, size};
    return block;
}

static void
put_page_make(struct sim *sim, uint32_t ns, uint32_t number, struct put_page *page, varve_page *out)
{
    uint32_t size = oracle_size(sim->oracle, ns, number), done = 0;
    uint32_t pieces = (uint32_t)sim_rng_between(&sim->rng, 1, sim_rng_chance(&sim->rng, 300) ? PUT_IOV_MAX : 1);
    uint8_t *data = sim_alloc(size);

    oracle_fill(sim->oracle, ns, number, data);
    if (size == 0 && sim_rng_chance(&sim->rng, 500))
        pieces = 0;
    for (uint32_t i = 0; i < pieces; i++) {
        uint32_t part = size - done;

        if (i + 1 < pieces)
            part = (uint32_t)sim_rng_below(&sim->rng, (uint64_t)part + 1);
        if (i + 1 < pieces && !sim->config.unaligned)
            part -= part % 4096;
        page->blocks[i] = piece_make(sim, data + done, part, &page->iov[i]);
        done += part;
    }
    free(data);
    *out = (varve_page){
        .id = oracle_id(sim->oracle, number), .iov = pieces == 0 ? NULL : page->iov, .iov_count = pieces, .status = -1};
}

/* The right parent, none, or a wrong one. */
static const varve_id *
choose_parent(struct sim *sim, const struct sim_pick *pick, varve_id *room)
{
    if (!sim->config.honest && sim_rng_chance(&sim->rng, 100))
        return NULL;
    if (!pick->in_order || (!sim->config.honest && sim_rng_chance(&sim->rng, 50))) {
        *room = oracle_id(sim->oracle, (uint32_t)sim_rng_below(&sim->rng, sim->oracle->pages));
        return room;
    }
    if (pick->depth == 0)
        return NULL;
    *room = oracle_id(sim->oracle, oracle_page(sim->oracle, pick->chain, pick->depth - 1));
    return room;
}

static void
judge_put(struct sim *sim, const struct sim_pick *pick, const varve_page *pages, bool synced)
{
    size_t stored = 0;

    for (size_t i = 0; i < pick->count; i++) {
        if (pages[i].status == VARVE_OK) {
            oracle_put(sim->oracle, pick->ns, pick->pages[i], synced);
            oracle_use(sim->oracle, pick->ns, pick->pages[i], sim->call_ns);
            stored++;
            SIM_COUNT(sim, SIM_EVENT_EMPTY_PAGES, pages[i].size == 0);
            SIM_COUNT(sim, SIM_EVENT_LARGEST_PAGES, pages[i].size == sim->store->page_bytes_max);
        } else if (pages[i].status == VARVE_SKIPPED) {
            sim_judge_skipped(sim, pick->ns, pick->pages[i]);
        } else if (!sim_excused(sim)) {
            sim_fail("put of page %" PRIu32 " (%" PRIu32 " bytes): status %d", pick->pages[i],
                     oracle_size(sim->oracle, pick->ns, pick->pages[i]), pages[i].status);
        }
    }
    SIM_COUNT(sim, SIM_EVENT_LONG_BATCHES, stored > ENTRY_PAGES_MAX);
    sim_log("  put: %zu of %zu stored", stored, pick->count);
}

void
sim_put(struct sim *sim)
{
    struct sim_pick pick = sim_pick_make(sim, false);
    varve_page *pages = sim_alloc(pick.count * sizeof(*pages));
    struct put_page *buffers = sim_alloc(pick.count * sizeof(*buffers));
    unsigned flags = sim_rng_chance(&sim->rng, 100) ? VARVE_PUT_SYNC : 0;
    struct put_errors before = put_errors_read(sim);
    uint32_t frozen = index_frozen_count(sim->store->index);
    bool forced = sim->store->active_extents == UINT32_MAX;
    const varve_id *parent;
    varve_error err = {0};
    varve_id room;
    int rc;

    if (pick.count > 1 && !sim->config.honest && sim_rng_chance(&sim->rng, 100)) /* one id twice in a batch */
        pick.pages[sim_rng_below(&sim->rng, pick.count)] = pick.pages[sim_rng_below(&sim->rng, pick.count)];
    for (size_t i = 0; i < pick.count; i++) {
        put_page_make(sim, pick.ns, pick.pages[i], &buffers[i], &pages[i]);
        oracle_put_begin(sim->oracle, pick.ns, pick.pages[i]);
    }
    parent = choose_parent(sim, &pick, &room);
    sim_log("put ns=%" PRIu32 " chain=%" PRIu32 " depth=%" PRIu32 " count=%zu%s%s%s", pick.ns, pick.chain, pick.depth,
            pick.count, pick.in_order ? "" : " scattered", parent == NULL ? " no parent" : "",
            (flags & VARVE_PUT_SYNC) != 0 ? " sync" : "");
    rc = varve_put_batch(sim->store, sim->namespaces[pick.ns], parent, pages, pick.count, flags, &err);
    sim_expect(sim, rc, "varve_put_batch", &err);
    SIM_COUNT(sim, SIM_EVENT_FULL_MEMTABLES, !forced && index_frozen_count(sim->store->index) > frozen);
    if (rc == VARVE_OK) {
        judge_put_errors(sim, &before, pages, pick.count);
        judge_put(sim, &pick, pages, (flags & VARVE_PUT_SYNC) != 0);
    }
    for (size_t i = 0; i < sim->config.clients; i++) { /* the conversation goes on */
        if (pick.in_order && sim->clients[i].ns == pick.ns && sim->clients[i].chain == pick.chain)
            sim->clients[i].depth = pick.depth + (uint32_t)pick.count;
    }
    for (size_t i = 0; i < pick.count; i++) {
        for (size_t k = 0; k < PUT_IOV_MAX; k++)
            free(buffers[i].blocks[k]);
    }
    free(buffers);
    free(pages);
    sim_pick_free(&pick);
}

/* How many of the pages must be, and may be, there. */
void
sim_count_bounds(const struct sim *sim, const struct sim_pick *pick, int64_t *least, int64_t *most)
{
    *least = *most = 0;
    for (size_t i = 0; i < pick->count; i++) {
        *least += !oracle_may_be(sim->oracle, pick->ns, pick->pages[i], false);
        *most += oracle_may_be(sim->oracle, pick->ns, pick->pages[i], true);
    }
}

void
sim_remove(struct sim *sim)
{
    struct sim_pick pick = sim_pick_make(sim, true);
    int64_t least, most, removed;
    varve_error err = {0};

    if (pick.count > 3 && sim_rng_chance(&sim->rng, 700))
        pick.count = 3;
    sim_count_bounds(sim, &pick, &least, &most);
    for (size_t i = 0; i < pick.count; i++)
        oracle_remove_begin(sim->oracle, pick.ns, pick.pages[i]);
    sim_log("remove ns=%" PRIu32 " chain=%" PRIu32 " depth=%" PRIu32 " count=%zu", pick.ns, pick.chain, pick.depth,
            pick.count);
    removed = varve_remove_batch(sim->store, sim->namespaces[pick.ns], pick.ids, pick.count, &err);
    sim_expect(sim, removed, "varve_remove_batch", &err);
    if (removed >= 0) {
        if (!sim_excused(sim) && (removed < least || removed > most))
            sim_fail("varve_remove_batch removed %" PRId64 " pages, not %" PRId64 " to %" PRId64, removed, least, most);
        /* A page that could not be looked up was not removed either. */
        for (size_t i = 0; i < pick.count && !sim->faulty; i++)
            oracle_remove(sim->oracle, pick.ns, pick.pages[i]);
        SIM_COUNT(sim, SIM_EVENT_REMOVED_IN_JOB, sim->store->reclaim_job != NULL ? (uint64_t)removed : 0);
    }
    for (size_t i = 0; i < pick.count; i++)
        sim_recency_forget(sim, pick.ns, pick.pages[i]);
    sim_pick_free(&pick);
}

void
sim_clear(struct sim *sim)
{
    uint32_t ns = (uint32_t)sim_rng_below(&sim->rng, sim->oracle->settings.namespaces);
    varve_error err = {0};
    int rc;

    sim_log("clear ns=%" PRIu32, ns);
    oracle_clear_begin(sim->oracle, ns);
    rc = varve_namespace_clear(sim->store, sim->namespaces[ns], &err);
    sim_expect(sim, rc, "varve_namespace_clear", &err);
    if (rc == VARVE_OK)
        oracle_clear(sim->oracle, ns);
    for (uint32_t page = 0; page < sim->oracle->pages; page++)
        sim_recency_forget(sim, ns, page);
    SIM_COUNT(sim, SIM_EVENT_CLEARED_IN_JOB, sim->store->reclaim_job != NULL);
}

void
sim_sync_store(struct sim *sim)
{
    varve_error err = {0};
    int rc;

    sim_log("sync");
    rc = varve_sync(sim->store, &err);
    sim_expect(sim, rc, "varve_sync", &err);
    if (rc == VARVE_OK)
        oracle_sync(sim->oracle);
}

/* The space that the store may have: its capacity, or what min_free leaves. */
static void
change_room(struct sim *sim)
{
    static const uint64_t rooms[] = {4, 5, 6, 8, 16};
    bool capacity = sim->config.disk.size_bytes == 0 || sim_rng_chance(&sim->rng, 500);
    uint64_t room = rooms[sim_rng_below(&sim->rng, sizeof(rooms) / sizeof(rooms[0]))] << 20;
    uint64_t used = sim_disk_used(sim->disk), least = (uint64_t)(capacity ? 4 : 3) << 20, value;
    varve_error err = {0};
    char text[24];

    if (used > least && sim_rng_chance(&sim->rng, 500)) /* below what there is */
        room = sim_rng_between(&sim->rng, least, used) & ~(uint64_t)4095;
    value = capacity ? room : room < sim->config.disk.size_bytes ? sim->config.disk.size_bytes - room : 0;
    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    sim_log("option %s=%s", capacity ? "capacity" : "min_free", text);
    sim_config_set_room(&sim->config, capacity ? "capacity" : "min_free", value, room);
    sim_expect(sim, varve_option_set(sim->store, capacity ? "capacity" : "min_free", text, &err), "varve_option_set",
               &err);
    SIM_COUNT(sim, SIM_EVENT_LOWERED_IN_JOB, capacity && sim->store->reclaim_job != NULL && room < used);
    SIM_COUNT(sim, SIM_EVENT_LOWERED, capacity && room < used);
    SIM_COUNT(sim, SIM_EVENT_MIN_FREE, !capacity && room < used);
    sim->lowered = capacity ? room < used : sim->lowered;
    sim->freeing = capacity ? sim->freeing : room < used;
}

void
sim_option(struct sim *sim)
{
    static const char *const codecs[] = {"auto", "on", "off"};
    static const struct {
        const char *name;
        uint64_t first, last;
        const char *const *words;
    } options[] = {{"size_ratio", 2, 8, NULL},
                   {"runs_per_level", 1, 4, NULL},
                   {"runs_last_level", 1, 4, NULL},
                   {"sync_interval_ms", 0, 200, NULL},
                   {"codec", 0, 2, codecs}};
    const size_t count = sizeof(options) / sizeof(options[0]);
    size_t i = sim_rng_below(&sim->rng, count + 3);
    uint64_t number;
    varve_error err = {0};
    char value[24];

    if (i >= count) {
        change_room(sim);
        return;
    }
    number = sim_rng_between(&sim->rng, options[i].first, options[i].last);
    if (options[i].words != NULL)
        (void)snprintf(value, sizeof(value), "%s", options[i].words[number]);
    else
        (void)snprintf(value, sizeof(value), "%" PRIu64, number);
    sim_log("option %s=%s", options[i].name, value);
    sim_expect(sim, varve_option_set(sim->store, options[i].name, value, &err), "varve_option_set", &err);
}

void
sim_tick(struct sim *sim)
{
    uint64_t limit = sim_rng_chance(&sim->rng, 200) ? 20000 : sim_rng_between(&sim->rng, 1, 4);
    uint64_t steps = 0;

    sim_log("tick");
    while (steps < limit && !sim->disk->stopped && store_tick(sim->store))
        steps++;
    if (limit == 20000 && steps == limit && !sim_excused(sim))
        sim_fail("background work never ends");
    if (limit == 20000)
        sim_verify_accounts(sim);
    if (steps < limit && !sim->disk->stopped)
        sim_verify_limits(sim);
}

/* More than the capacity allows, or than any page may have: one buffer, again and again. */
void
sim_huge(struct sim *sim)
{
    bool too_many = sim_rng_chance(&sim->rng, 500);
    uint64_t wanted = too_many ? (uint64_t)VARVE_PAGE_BYTES_MAX + 1 : sim->store->page_bytes_max + 1;
    struct put_errors before = put_errors_read(sim);
    struct iovec iov[VARVE_PAGE_IOV_MAX];
    varve_page page = {.iov = iov, .status = -1};
    size_t part = wanted / VARVE_PAGE_IOV_MAX + 1;
    void *block = sim_alloc(part);
    varve_error err = {0};
    int rc;

    while (wanted > 0) {
        size_t size = wanted < part ? wanted : part;

        iov[page.iov_count++] = (struct iovec){block, size};
        wanted -= size;
    }
    sim_rng_fill(&sim->rng, page.id.bytes, sizeof(page.id.bytes));
    sim_log("put of a page that is too large, %u buffers", page.iov_count);
    rc = varve_put_batch(sim->store, sim->namespaces[0], NULL, &page, 1, 0, &err);
    sim_expect(sim, rc, "varve_put_batch", &err);
    if (rc == VARVE_OK) {
        judge_put_errors(sim, &before, &page, 1);
        if (page.status != (too_many ? VARVE_E_ARG : VARVE_E_NOSPC) && !sim_excused(sim))
            sim_fail("a page that is too large: status %d", page.status);
        if (page.status >= 0)
            sim_fail("a page that is too large was stored");
        SIM_COUNT(sim, SIM_EVENT_TOO_LARGE, 1);
    }
    free(block);
}

void
sim_fill(struct sim *sim)
{
    sim_log("fill");
    sim->store->active_extents = UINT32_MAX;
}
