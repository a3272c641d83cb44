/* SPDX-License-Identifier: Apache-2.0 */
/* What the threads of a process do with the store: random calls, each with a time in which it has to end. */
#include <inttypes.h>
#include <stdio.h>

#include "peer/peer.h"
#include "peer/role.h"
#include "peers.h"
#include "sim_log.h"

#define MS 1000000u

void
peers_caller_init(struct peers_caller *caller, struct peers_process *process, uint64_t seed)
{
    *caller = (struct peers_caller){.process = process,
                                    .client = {.run = &process->peers->run,
                                               .store = process->store,
                                               .namespaces = process->namespaces,
                                               .rng = sim_rng_make(seed, 13),
                                               .depth = UINT32_MAX}};
}

static bool
is_over(const struct peers_caller *caller)
{
    return caller->process->view->dead || caller->client.run->disk->stopped;
}

/* Some questions, for each of which the owner has its time, and again with the next owner; and what a put may wait for the reservations of others. */
static uint64_t
call_max_ns(const struct peers *peers)
{
    return (uint64_t)MS * (30000 + 60 * peers->settings.timeout_ms);
}

static void
call_begin(struct peers_caller *caller)
{
    varve_store *store = caller->client.store;

    caller->began_ns = caller->client.run->disk->now_ns;
    caller->stopped_ns = caller->process->stopped_ns;
    caller->owned = role_is_owner(store);
    caller->silent = !caller->owned && store->peer->silent_until_ns > caller->began_ns;
    caller->timeouts = atomic_load(&store->counters.peer_timeouts);
    sim_net_watch(&caller->watch);
    caller->calling = true;
}

static void
call_end(struct peers_caller *caller, void (*call)(struct threads_client *client))
{
    struct peers *peers = caller->process->peers;
    uint64_t stopped_ns = caller->process->stopped_ns - caller->stopped_ns;
    uint64_t took_ns = caller->client.run->disk->now_ns - caller->began_ns;

    caller->calling = caller->putting = false;
    sim_net_watch(NULL);
    took_ns = took_ns > stopped_ns ? took_ns - stopped_ns : 0;
    PEERS_COUNT(peers, CALLS, 1);
    PEERS_COUNT(peers, CALLS_OF_PEERS, !caller->owned);
    PEERS_COUNT(peers, CLEARS, call == threads_clear);
    PEERS_COUNT(peers, CHECKS, call == threads_check);
    PEERS_COUNT(peers, CHECKS_OF_PEERS, call == threads_check && !caller->owned && !peers_troubled(caller));
    PEERS_COUNT(peers, TAKEOVERS, !caller->owned && !is_over(caller) && role_is_owner(caller->client.store));
    if (is_over(caller))
        return;
    if (took_ns > peers->totals->call_ns)
        peers->totals->call_ns = took_ns;
    if (took_ns > call_max_ns(peers))
        sim_fail("%s: the call took %" PRIu64 " ms", sched_name(), took_ns / MS);
    if (peers->run.disk->used_max > peers->run.config.capacity)
        sim_fail("%" PRIu64 " bytes on disk, over the capacity of %" PRIu64, peers->run.disk->used_max,
                 peers->run.config.capacity);
}

void
peers_call(struct peers_caller *caller, void (*call)(struct threads_client *client))
{
    peers_ghosts_sweep(caller->process->peers);
    call_begin(caller);
    caller->putting = call == threads_put;
    call(&caller->client);
    call_end(caller, call);
    sched_note("between calls");
}

/* All callers of a process open all namespaces at once: there is one handle of each. */
static void
open_namespaces(struct threads_client *client)
{
    for (uint32_t i = 0; i < client->run->universe->settings.namespaces; i++) {
        char name[3] = {'n', (char)('0' + i), '\0'};
        varve_error err = {0};
        varve_namespace *ns;
        int rc = varve_namespace_open(client->store, name, NULL, &ns, &err);

        threads_expect(client, rc, "varve_namespace_open", &err);
        if (rc < 0)
            return;
        if (client->namespaces[i] != NULL && client->namespaces[i] != ns)
            sim_fail("namespace %s has two handles", name);
        client->namespaces[i] = ns;
    }
}

static bool
has_namespaces(const struct threads_client *client)
{
    return client->namespaces[client->run->universe->settings.namespaces - 1] != NULL;
}

static void
set_option(struct threads_client *client)
{
    varve_error err = {0};
    char value[24];

    (void)snprintf(value, sizeof(value), "%" PRIu64, sim_rng_between(&client->rng, 0, 200));
    sched_note("option");
    threads_expect(client, varve_option_set(client->store, "sync_interval_ms", value, &err), "varve_option_set", &err);
}

static void
tick(struct threads_client *client)
{
    if (role_is_owner(client->store))
        threads_tick(client);
    else
        role_tend(client->store);
}

static void
fill(struct threads_client *client)
{
    if (role_is_owner(client->store))
        threads_fill(client);
}

static void
stats(struct threads_client *client)
{
    uint64_t values[256];

    sched_note("stats");
    (void)varve_stats_get(client->store, values, 256);
}

static void
any_call(struct peers_caller *caller)
{
    static void (*const calls[CALLS])(struct threads_client *) = {
        [CALL_PUT] = threads_put,     [CALL_GET] = threads_get,
        [CALL_PROBE] = threads_probe, [CALL_EXISTS] = threads_exists,
        [CALL_TOUCH] = threads_touch, [CALL_REMOVE] = threads_remove,
        [CALL_CLEAR] = threads_clear, [CALL_SYNC] = threads_sync,
        [CALL_OPTION] = set_option,   [CALL_ITERATE] = threads_iterate,
        [CALL_CHECK] = threads_check, [CALL_TICK] = tick,
        [CALL_FILL] = fill,
    };
    static void (*const others[])(struct threads_client *) = {threads_pin, threads_unpin, stats};
    const uint32_t *weights = caller->client.run->config.weights;
    struct sim_rng *rng = &caller->client.rng;
    uint32_t total = 0, call = 0;
    uint64_t at;

    if (sim_rng_chance(rng, 30)) {
        peers_call(caller, others[sim_rng_below(rng, sizeof(others) / sizeof(others[0]))]);
        return;
    }
    for (size_t i = 0; i < CALLS; i++)
        total += weights[i];
    at = sim_rng_below(rng, total);
    while (at >= weights[call])
        at -= weights[call++];
    peers_call(caller, calls[call]);
}

void *
peers_caller_main(void *arg)
{
    struct peers_caller *caller = arg;
    struct peers_process *process = caller->process;
    struct peers *peers = process->peers;

    while (peers->run.calls_left > 0 && !is_over(caller) && !process->leaves) {
        peers->run.calls_left--;
        if (has_namespaces(&caller->client))
            any_call(caller);
        else
            peers_call(caller, open_namespaces);
        if (!is_over(caller))
            (void)sched_wait(process,
                             peers->run.disk->now_ns + sim_rng_log(&caller->client.rng, peers->settings.pause_ns));
    }
    return NULL;
}
