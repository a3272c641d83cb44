/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quotas, times to live, the write budget and pins. The oracle excuses what they allow: pages of a namespace with a time to live that were not used for so long.
 * What they promise is checked: others are there; all are gone once nothing was used for so long; what was skipped is not there; pinned pages survive drops.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim_driver.h"
#include "sim_log.h"

#define SECOND_NS UINT64_C(1000000000)
#define ASK_BATCH 1024

void
sim_limits_of_life(struct sim *sim)
{
    sim->oracle->clock_ns = &sim->disk->now_ns;
    oracle_new_life(sim->oracle);
    memset(sim->quota, 0, sizeof(sim->quota));
    memset(sim->ttl_s, 0, sizeof(sim->ttl_s));
    sim->lost = 0;
    sim->budget = false;
}

void
sim_limits_of_call(struct sim *sim)
{
    sim->call_ns = sim->disk->now_ns;
    for (uint32_t ns = 0; ns < sim->oracle->settings.namespaces; ns++)
        sim->oracle->limits[ns].loose = sim->quota[ns] || sim_space_was_short(sim);
}

static void
set_limits(struct sim *sim, uint32_t ns)
{
    varve_namespace_limits limits = VARVE_NAMESPACE_LIMITS_INIT;
    varve_error err = {0};
    int rc;

    if (sim_rng_chance(&sim->rng, 500))
        limits.ttl_s = sim_rng_between(&sim->rng, 1, 4);
    if (sim_rng_chance(&sim->rng, 500))
        limits.quota_bytes = sim_rng_log(&sim->rng, sim->config.capacity);
    sim_log("limits ns=%" PRIu32 " quota=%" PRIu64 " ttl=%" PRIu64, ns, limits.quota_bytes, limits.ttl_s);
    rc = varve_namespace_limits_set(sim->store, sim->namespaces[ns], &limits, &err);
    sim_expect(sim, rc, "varve_namespace_limits_set", &err);
    for (uint32_t page = 0; page < sim->oracle->pages; page++) /* what the limits before let die stays dead */
        sim_recency_forget(sim, ns, page);
    if (rc != VARVE_OK)
        return;
    sim->quota[ns] |= limits.quota_bytes > 0;
    sim->ttl_s[ns] = limits.ttl_s;
    oracle_limit(sim->oracle, ns, limits.ttl_s * SECOND_NS, sim->quota[ns] || sim_space_was_short(sim), sim->call_ns);
    SIM_COUNT(sim, SIM_EVENT_LIMITS, 1);
}

/* Some pages are pinned, perhaps with ancestors that nobody named. */
static bool
any_pinned(const struct sim *sim)
{
    return sim->store->recency.heat->pinned_bytes > 0;
}

/* Nothing is used for longer than the time to live: then nothing is there, but pages without bytes. */
static void
let_expire(struct sim *sim, uint32_t ns)
{
    uint64_t ttl_ns = sim->ttl_s[ns] * SECOND_NS;
    varve_id *ids = sim_alloc(ASK_BATCH * sizeof(*ids));
    uint8_t *exists = sim_alloc(ASK_BATCH);
    varve_error err = {0};

    sim_log("expire ns=%" PRIu32, ns);
    sim_disk_advance(sim->disk, ttl_ns + ttl_ns / 32 + 1);
    for (uint32_t first = 0; first < sim->oracle->pages; first += ASK_BATCH) {
        size_t count = 0;

        for (; count < ASK_BATCH && first + count < sim->oracle->pages; count++)
            ids[count] = oracle_id(sim->oracle, first + (uint32_t)count);
        sim_expect(sim, varve_exists_batch(sim->store, sim->namespaces[ns], ids, count, exists, &err),
                   "varve_exists_batch", &err);
        for (size_t i = 0; i < count; i++) {
            if (exists[i] == 1 && oracle_size(sim->oracle, ns, first + (uint32_t)i) > 0 && !sim->oracle->settings.twins)
                sim_fail("page %zu of namespace %" PRIu32 " is served after its time to live", first + i, ns);
        }
    }
    SIM_COUNT(sim, SIM_EVENT_EXPIRED, 1);
    free(ids);
    free(exists);
}

static void
set_budget(struct sim *sim)
{
    varve_error err = {0};
    char value[24] = "0";

    if (sim_rng_chance(&sim->rng, 700))
        (void)snprintf(value, sizeof(value), "%" PRIu64, sim_rng_between(&sim->rng, 1 << 20, 100 << 20));
    sim_log("option write_budget=%s", value);
    sim_expect(sim, varve_option_set(sim->store, "write_budget", value, &err), "varve_option_set", &err);
    sim->budget = true;
}

void
sim_limits(struct sim *sim)
{
    uint32_t ns = (uint32_t)sim_rng_below(&sim->rng, sim->oracle->settings.namespaces);

    if (sim_rng_chance(&sim->rng, 200))
        set_budget(sim);
    else if (sim->ttl_s[ns] > 0 && !any_pinned(sim) && sim_rng_chance(&sim->rng, 600))
        let_expire(sim, ns);
    else
        set_limits(sim, ns);
}

void
sim_judge_skipped(struct sim *sim, uint32_t ns, uint32_t page)
{
    varve_id id = oracle_id(sim->oracle, page);
    varve_error err = {0};
    uint8_t exists;

    if (!sim->budget && !sim->store->recency.judging) /* a store that was full once takes nothing that cannot be hit */
        sim_fail("put of page %" PRIu32 ": skipped without a reason", page);
    /* One that was there before may have gone with a segment that this put dropped, and its parent with it. */
    if (!sim_excused(sim) && !sim_drops_now(sim) && !oracle_may_be(sim->oracle, ns, page, false))
        sim_fail("put of page %" PRIu32 ": skipped, though it is stored", page);
    if (varve_exists_batch(sim->store, sim->namespaces[ns], &id, 1, &exists, &err) == VARVE_OK && exists == 1 &&
        !sim_excused(sim) && !sim->oracle->settings.twins)
        sim_fail("put of page %" PRIu32 ": skipped, and there it is", page);
}

void
sim_pin(struct sim *sim)
{
    struct sim_pick pick = sim_pick_make(sim, true);
    varve_error err = {0};
    int64_t pinned;

    sim_log("pin ns=%" PRIu32 " chain=%" PRIu32 " depth=%" PRIu32 " count=%zu", pick.ns, pick.chain, pick.depth,
            pick.count);
    pinned = varve_pin(sim->store, sim->namespaces[pick.ns], pick.ids, pick.count, &err);
    sim_expect(sim, pinned, "varve_pin", &err);
    if (pinned > (int64_t)pick.count)
        sim_fail("varve_pin pinned %" PRId64 " of %zu", pinned, pick.count);
    for (int64_t i = 0; i < pinned; i++) {
        if (!oracle_observe(sim->oracle, pick.ns, pick.pages[i], true))
            sim_fail("varve_pin: page %" PRIu32 " is there, but must not be", pick.pages[i]);
        oracle_use(sim->oracle, pick.ns, pick.pages[i], sim->call_ns);
        oracle_pin(sim->oracle, pick.ns, pick.pages[i], true);
        SIM_COUNT(sim, SIM_EVENT_PINNED, 1);
    }
    sim_pick_free(&pick);
}

void
sim_unpin(struct sim *sim)
{
    struct sim_pick pick = sim_pick_make(sim, true);
    varve_error err = {0};
    int64_t unpinned;

    sim_log("unpin ns=%" PRIu32 " chain=%" PRIu32 " depth=%" PRIu32 " count=%zu", pick.ns, pick.chain, pick.depth,
            pick.count);
    unpinned = varve_unpin(sim->store, sim->namespaces[pick.ns], pick.ids, pick.count, &err);
    sim_expect(sim, unpinned, "varve_unpin", &err);
    for (size_t i = 0; i < pick.count; i++)
        oracle_pin(sim->oracle, pick.ns, pick.pages[i], false);
    sim_pick_free(&pick);
}
