/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that change nothing: every answer is compared with what the oracle allows, every byte with what was put. */
#include <inttypes.h>
#include <stdlib.h>

#include "sim_driver.h"
#include "sim_log.h"

#define GET_IOV_MAX 3
#define UNTOUCHED   0xee

/* Where one page is read to: pieces of one block, so that what lies behind the page can be looked at. */
struct get_page {
    struct iovec iov[GET_IOV_MAX];
    uint8_t *block;
    uint8_t *data;
    uint32_t room;
};

static void
get_page_make(struct sim *sim, uint32_t size, uint32_t small_per_mille, struct get_page *page, varve_page *out)
{
    size_t align = varve_io_align(sim->store), done = 0;
    uint32_t pieces = (uint32_t)sim_rng_between(&sim->rng, 1, sim_rng_chance(&sim->rng, 300) ? GET_IOV_MAX : 1);
    size_t shift = sim->config.unaligned && sim_rng_chance(&sim->rng, 500) ? sim_rng_below(&sim->rng, 64) : 0;
    void *block;

    page->room = size;
    if (size > 0 && sim_rng_chance(&sim->rng, small_per_mille))
        page->room = (uint32_t)sim_rng_below(&sim->rng, size);
    else if (sim_rng_chance(&sim->rng, 300))
        page->room += (uint32_t)sim_rng_below(&sim->rng, 10000);
    if (posix_memalign(&block, align, page->room + shift + 1) != 0)
        abort();
    memset(block, UNTOUCHED, page->room + shift + 1);
    page->block = block;
    page->data = page->block + shift;
    for (uint32_t i = 0; i < pieces; i++) {
        size_t part = page->room - done;

        if (i + 1 < pieces)
            part = sim_rng_below(&sim->rng, part + 1);
        page->iov[i] = (struct iovec){page->data + done, part};
        done += part;
    }
    out->iov = page->iov;
    out->iov_count = page->room == 0 ? 0 : pieces;
    out->status = -1;
}

static void
judge_bytes(struct sim *sim, uint32_t ns, uint32_t number, const struct get_page *page, const varve_page *got)
{
    uint32_t size = oracle_size(sim->oracle, ns, number);

    if (got->size != size || size > page->room)
        sim_fail("get of page %" PRIu32 ": %" PRIu64 " bytes, not %" PRIu32, number, got->size, size);
    if (!oracle_matches(sim->oracle, ns, number, page->data))
        sim_fail("get of page %" PRIu32 " in namespace %" PRIu32 ": WRONG BYTES", number, ns);
    for (uint32_t i = size; i < page->room; i++) {
        if (page->data[i] != UNTOUCHED)
            sim_fail("get of page %" PRIu32 " wrote past its %" PRIu32 " bytes", number, size);
    }
}

static void
judge_get(struct sim *sim, uint32_t ns, uint32_t number, const struct get_page *page, const varve_page *got)
{
    uint32_t size = oracle_size(sim->oracle, ns, number);

    switch (got->status) {
    case VARVE_OK:
        judge_bytes(sim, ns, number, page, got);
        if (!oracle_observe(sim->oracle, ns, number, true))
            sim_fail("get of page %" PRIu32 " in namespace %" PRIu32 ": is there, but must not be", number, ns);
        SIM_COUNT(sim, SIM_EVENT_PAGES_READ, 1);
        oracle_use(sim->oracle, ns, number, sim->call_ns);
        return;
    case VARVE_MISS:
        if (!sim_excused(sim) && !oracle_observe(sim->oracle, ns, number, false))
            sim_fail("get of page %" PRIu32 " in namespace %" PRIu32 ": LOST", number, ns);
        return;
    case VARVE_E_ARG:
        if (page->room >= size && oracle_may_be(sim->oracle, ns, number, true) && !sim->oracle->settings.twins)
            sim_fail("get of page %" PRIu32 ": VARVE_E_ARG with room for %" PRIu32 " of %" PRIu32 " bytes", number,
                     page->room, size);
        if (got->size != size && !sim->oracle->settings.twins)
            sim_fail("get of page %" PRIu32 ": too small a buffer, and the size told is %" PRIu64 ", not %" PRIu32,
                     number, got->size, size);
        return;
    default:
        if (!sim_excused(sim))
            sim_fail("get of page %" PRIu32 ": status %d", number, got->status);
    }
}

/* What the statistics say of gets, by outcome. */
struct get_stats {
    uint64_t pages, misses, errors;
};

static struct get_stats
get_stats_read(const struct sim *sim)
{
    return (struct get_stats){SIM_STAT(sim, get_pages), SIM_STAT(sim, get_misses) + SIM_STAT(sim, get_corrupt),
                              SIM_STAT(sim, get_errors)};
}

/* Every page is counted by its outcome; buffers that are too small are the caller's mistake. */
static void
judge_get_stats(const struct sim *sim, const struct get_stats *before, const varve_page *pages, size_t count)
{
    struct get_stats now = get_stats_read(sim), want = *before;

    for (size_t i = 0; i < count; i++) {
        want.pages += pages[i].status == VARVE_OK;
        want.misses += pages[i].status == VARVE_MISS;
        want.errors += pages[i].status < 0 && pages[i].status != VARVE_E_ARG;
    }
    if (memcmp(&now, &want, sizeof(now)) != 0)
        sim_fail("varve_get_batch: pages are not counted by their outcome");
}

void
sim_read_pages(struct sim *sim, uint32_t ns, const uint32_t *numbers, size_t count, uint32_t small_per_mille)
{
    struct get_stats before = get_stats_read(sim);
    varve_page *pages = sim_alloc(count * sizeof(*pages));
    struct get_page *buffers = sim_alloc(count * sizeof(*buffers));
    varve_error err = {0};
    int rc;

    for (size_t i = 0; i < count; i++) {
        pages[i].id = oracle_id(sim->oracle, numbers[i]);
        get_page_make(sim, oracle_size(sim->oracle, ns, numbers[i]), small_per_mille, &buffers[i], &pages[i]);
    }
    rc = varve_get_batch(sim->store, sim->namespaces[ns], pages, count, &err);
    sim_expect(sim, rc, "varve_get_batch", &err);
    if (rc == VARVE_OK)
        judge_get_stats(sim, &before, pages, count);
    for (size_t i = 0; i < count; i++) {
        if (rc == VARVE_OK)
            judge_get(sim, ns, numbers[i], &buffers[i], &pages[i]);
        free(buffers[i].block);
    }
    free(buffers);
    free(pages);
}

void
sim_get(struct sim *sim)
{
    struct sim_pick pick = sim_pick_make(sim, false);

    sim_log("get ns=%" PRIu32 " chain=%" PRIu32 " depth=%" PRIu32 " count=%zu%s", pick.ns, pick.chain, pick.depth,
            pick.count, pick.in_order ? "" : " scattered");
    sim_read_pages(sim, pick.ns, pick.pages, pick.count, 50);
    sim_pick_free(&pick);
}

static void
judge_estimate(struct sim *sim, const struct sim_pick *pick, size_t found, const varve_estimate *estimate)
{
    uint64_t bytes = 0;

    if (found > 0 && (estimate->extents == 0 || estimate->extents > found))
        sim_fail("varve_probe: %zu pages in %" PRIu32 " extents", found, estimate->extents);
    for (size_t i = 0; i < found; i++) {
        bytes += oracle_size(sim->oracle, pick->ns, pick->pages[i]);
        /* Stored bytes: coded, at least what is noise in them, a half. */
        if (!sim->oracle->settings.twins &&
            estimate->prefix_bytes[i] < (sim->oracle->settings.bf16 ? bytes / 2 : bytes))
            sim_fail("varve_probe: %" PRIu64 " bytes in the first %zu pages, which hold %" PRIu64,
                     estimate->prefix_bytes[i], i + 1, bytes);
        if (i > 0 && estimate->prefix_time_us[i] < estimate->prefix_time_us[i - 1])
            sim_fail("varve_probe: loading %zu pages takes less time than %zu", i + 1, i);
    }
}

void
sim_probe(struct sim *sim)
{
    struct sim_pick pick = sim_pick_make(sim, false);
    varve_estimate estimate = VARVE_ESTIMATE_INIT;
    varve_error err = {0};
    int64_t found;

    estimate.prefix_bytes = sim_alloc(pick.count * sizeof(uint64_t));
    estimate.prefix_time_us = sim_alloc(pick.count * sizeof(uint64_t));
    sim_log("probe ns=%" PRIu32 " chain=%" PRIu32 " depth=%" PRIu32 " count=%zu", pick.ns, pick.chain, pick.depth,
            pick.count);
    found = varve_probe(sim->store, sim->namespaces[pick.ns], pick.ids, pick.count, &estimate, &err);
    sim_expect(sim, found, "varve_probe", &err);
    sim_log("  probe: %" PRId64, found);
    if (found > (int64_t)pick.count)
        sim_fail("varve_probe found %" PRId64 " of %zu", found, pick.count);
    for (int64_t i = 0; i < found; i++) {
        if (!oracle_observe(sim->oracle, pick.ns, pick.pages[i], true))
            sim_fail("varve_probe: page %" PRIu32 " is there, but must not be", pick.pages[i]);
        oracle_use(sim->oracle, pick.ns, pick.pages[i], sim->call_ns);
    }
    if (found >= 0 && found < (int64_t)pick.count && !sim_excused(sim) &&
        !oracle_observe(sim->oracle, pick.ns, pick.pages[found], false))
        sim_fail("varve_probe: page %" PRIu32 " in namespace %" PRIu32 ": LOST", pick.pages[found], pick.ns);
    if (found >= 0)
        judge_estimate(sim, &pick, (size_t)found, &estimate);
    free(estimate.prefix_bytes);
    free(estimate.prefix_time_us);
    sim_pick_free(&pick);
}

void
sim_ask(struct sim *sim, uint32_t ns, const uint32_t *pages, const varve_id *ids, size_t count)
{
    uint8_t *exists = sim_alloc(count);
    varve_error err = {0};
    int rc = varve_exists_batch(sim->store, sim->namespaces[ns], ids, count, exists, &err);

    sim_expect(sim, rc, "varve_exists_batch", &err);
    for (size_t i = 0; i < count && rc == VARVE_OK; i++) {
        if (exists[i] > 1)
            sim_fail("varve_exists_batch: answer %u", exists[i]);
        if ((exists[i] == 1 || !sim_excused(sim)) && !oracle_observe(sim->oracle, ns, pages[i], exists[i] == 1))
            sim_fail("varve_exists_batch: page %" PRIu32 " in namespace %" PRIu32 " is%s there", pages[i], ns,
                     exists[i] == 1 ? "" : " not");
    }
    free(exists);
}

void
sim_exists(struct sim *sim)
{
    struct sim_pick pick = sim_pick_make(sim, false);

    sim_log("exists ns=%" PRIu32 " chain=%" PRIu32 " depth=%" PRIu32 " count=%zu", pick.ns, pick.chain, pick.depth,
            pick.count);
    sim_ask(sim, pick.ns, pick.pages, pick.ids, pick.count);
    sim_pick_free(&pick);
}

void
sim_touch(struct sim *sim)
{
    struct sim_pick pick = sim_pick_make(sim, true);
    int64_t least, most, found;
    varve_error err = {0};

    sim_count_bounds(sim, &pick, &least, &most);
    sim_log("touch ns=%" PRIu32 " chain=%" PRIu32 " depth=%" PRIu32 " count=%zu", pick.ns, pick.chain, pick.depth,
            pick.count);
    found = varve_touch(sim->store, sim->namespaces[pick.ns], pick.ids, pick.count, &err);
    sim_expect(sim, found, "varve_touch", &err);
    if (found >= 0 && !sim_excused(sim) && (found < least || found > most))
        sim_fail("varve_touch found %" PRId64 " pages, not %" PRId64 " to %" PRId64, found, least, most);
    sim_pick_free(&pick);
}
