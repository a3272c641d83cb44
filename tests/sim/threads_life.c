/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lives of a store with many clients: open it, look at everything, let all clients loose, crash at a change of the disk drawn from the seed or
 * wait for them all, look at everything again, close. Then again, on what is left.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#include "sim_log.h"
#include "store/store.h"
#include "threads_model.h"

#define ROOM_LEAST ((uint64_t)4 << 20) /* the least capacity */

static bool
is_excused(const struct run *run)
{
    return run->disk->stopped || run->faulty;
}

static void
expect(struct run *run, int64_t rc, const char *call, const varve_error *err)
{
    if (rc >= 0)
        return;
    sim_log("%s   %s: %" PRId64 " %s", sched_name(), call, rc, err->message);
    if (!is_excused(run))
        sim_fail("%s: %s", call, err->message);
    run->totals->calls_failed += !run->disk->stopped;
    if (err->code != rc || err->message[0] == '\0')
        sim_fail("%s: %" PRId64 ", but the error says %d \"%s\"", call, rc, err->code, err->message);
}

void
threads_expect(struct threads_client *client, int64_t rc, const char *call, const varve_error *err)
{
    expect(client->run, rc, call, err);
}

bool
threads_excused(const struct threads_client *client, int64_t status)
{
    (void)status;
    return is_excused(client->run);
}

bool
threads_unsure(const struct threads_client *client, bool present)
{
    const struct run *run = client->run;

    /* What is not found may be there, and what is found may go with a call that failed. */
    return run->faulty || (!present && run->disk->stopped);
}

void
threads_settle(struct threads_client *client, const struct threads_effect *effect)
{
    (void)client; /* nobody else does anything */
    (void)effect;
}

bool
threads_was_full(const struct threads_client *client)
{
    return client->store->recency.judging;
}

bool
threads_space_short(const struct run *run)
{
    return run->disk->used_max > run->room_least / 2 || run->config.fault_kinds != 0;
}

static void
find_dropping(void *arg, const struct segment *segment)
{
    bool *dropping = arg;

    *dropping = *dropping || segment->phase == SEGMENT_DROPPING;
}

uint64_t
threads_drops(const struct run *run)
{
    return run->segment_drops;
}

bool
threads_dropped(struct threads_client *client, uint64_t drops)
{
    bool dropping = false;

    log_for_each(client->store->log, find_dropping, &dropping);
    return dropping || client->run->segment_drops != drops;
}

static void
require_no_leaks(const struct run *run, const char *when)
{
    const struct sim_disk *disk = run->disk;

    if (disk->handles_open + disk->queues_open + disk->allocations > 0)
        sim_fail("%s: %" PRIu64 " files, %" PRIu64 " queues, %" PRIu64 " allocations left", when, disk->handles_open,
                 disk->queues_open, disk->allocations);
    if (disk->violations > 0)
        sim_fail("the rules of the env were broken");
}

/* False: the world stopped, or a fault kept the store shut. */
static bool
life_open(struct run *run)
{
    varve_options *options = threads_options(&run->config);
    varve_error err = {0};
    int rc;

    sched_note("open");
    sim_log("open");
    rc = store_open(sim_disk_env(run->disk), options, &run->store, &err);
    varve_options_destroy(options);
    if (rc < 0)
        run->store = NULL;
    expect(run, rc, "store_open", &err);
    if (rc < 0) {
        run->totals->opens_refused += !run->disk->stopped;
        require_no_leaks(run, "store_open failed");
    }
    return rc == VARVE_OK;
}

/* All clients open all namespaces at once: the first makes each, and there is one handle. */
static bool
open_namespaces(struct run *run)
{
    for (uint32_t i = 0; i < run->universe->settings.namespaces; i++) {
        char name[3] = {'n', (char)('0' + i), '\0'};
        varve_error err = {0};
        varve_namespace *ns;
        int rc = varve_namespace_open(run->store, name, NULL, &ns, &err);

        expect(run, rc, "varve_namespace_open", &err);
        if (rc < 0)
            return false;
        if (run->namespaces[i] != NULL && run->namespaces[i] != ns)
            sim_fail("namespace %s has two handles", name);
        run->namespaces[i] = ns;
    }
    return true;
}

/* The capacity, or what min_free leaves of it, from little to what there was at first. */
static void
set_room(struct threads_client *client)
{
    struct run *run = client->run;
    bool capacity = sim_rng_chance(&client->rng, 500);
    uint64_t room = sim_rng_between(&client->rng, ROOM_LEAST, run->config.capacity) & ~(uint64_t)4095, free_bytes = 0;
    varve_error err = {0};
    char value[24];

    if (sim_rng_chance(&client->rng, 300))
        room = run->config.capacity;
    if (!capacity && run->store->env->ops->free_space(run->store->env, &free_bytes) == 0)
        free_bytes += sim_disk_used(run->disk);
    (void)snprintf(value, sizeof(value), "%" PRIu64, capacity ? room : free_bytes > room ? free_bytes - room : 0);
    if (run->room_least > room)
        run->room_least = room; /* before: others may find that there is no room while it is set */
    sched_note("room");
    expect(run, varve_option_set(run->store, capacity ? "capacity" : "min_free", value, &err), "varve_option_set",
           &err);
}

static void
set_option(struct threads_client *client)
{
    static const struct {
        const char *name;
        uint64_t first, last;
    } options[] = {{"size_ratio", 2, 8}, {"runs_per_level", 1, 4}, {"sync_interval_ms", 0, 200}};
    size_t i = sim_rng_below(&client->rng, 1 + sizeof(options) / sizeof(options[0]));
    varve_error err = {0};
    char value[24];

    if (i == sizeof(options) / sizeof(options[0])) {
        set_room(client);
        return;
    }

    (void)snprintf(value, sizeof(value), "%" PRIu64, sim_rng_between(&client->rng, options[i].first, options[i].last));
    sched_note("option");
    threads_expect(client, varve_option_set(client->store, options[i].name, value, &err), "varve_option_set", &err);
}

static void
one_call(struct threads_client *client)
{
    static void (*const calls[CALLS])(struct threads_client *) = {
        [CALL_PUT] = threads_put,         [CALL_GET] = threads_get,     [CALL_PROBE] = threads_probe,
        [CALL_EXISTS] = threads_exists,   [CALL_TOUCH] = threads_touch, [CALL_REMOVE] = threads_remove,
        [CALL_CLEAR] = threads_clear,     [CALL_SYNC] = threads_sync,   [CALL_OPTION] = set_option,
        [CALL_ITERATE] = threads_iterate, [CALL_CHECK] = threads_check, [CALL_TICK] = threads_tick,
        [CALL_FILL] = threads_fill,
    };
    struct run *run = client->run;
    uint32_t total = 0, call = 0;
    uint64_t at;

    for (size_t i = 0; i < CALLS; i++)
        total += run->config.weights[i];
    at = sim_rng_below(&client->rng, total);
    while (at >= run->config.weights[call])
        at -= run->config.weights[call++];
    threads_faults_of_call(client);
    calls[call](client);
    sched_note("between calls");
    sim_disk_advance(run->disk, sim_rng_log(&client->rng, 100000000));
    run->totals->calls++;
    if (run->disk->used_max > run->config.capacity)
        sim_fail("%" PRIu64 " bytes on disk, over the capacity of %" PRIu64, run->disk->used_max, run->config.capacity);
}

static void *
client_main(void *arg)
{
    struct threads_client *client = arg;
    struct run *run = client->run;

    if (!open_namespaces(run))
        return NULL;
    while (run->calls_left > 0 && !run->disk->stopped) {
        run->calls_left--;
        one_call(client);
    }
    return NULL;
}

static void
run_clients(struct run *run)
{
    pthread_t threads[THREADS_CLIENTS_MAX];

    for (uint32_t i = 0; i < run->config.clients; i++) {
        run->clients[i] = (struct threads_client){.run = run,
                                                  .store = run->store,
                                                  .namespaces = run->namespaces,
                                                  .rng = sim_rng_make(sim_rng_next(&run->rng), 8 + i),
                                                  .number = i,
                                                  .depth = UINT32_MAX};
        if (pthread_create(&threads[i], NULL, client_main, &run->clients[i]) != 0)
            sim_fail("no thread could be made");
    }
    sched_note("join");
    for (uint32_t i = 0; i < run->config.clients; i++)
        (void)pthread_join(threads[i], NULL);
}

static void
look_at_all(struct run *run)
{
    struct threads_client client = {.run = run,
                                    .store = run->store,
                                    .namespaces = run->namespaces,
                                    .rng = sim_rng_make(sim_rng_next(&run->rng), 8)};

    if (sim_rng_chance(&client.rng, 500)) /* the check first: a get forgets pages that fail their checksum */
        threads_check(&client);
    threads_verify(&client);
    threads_check(&client);
    if (!run->disk->stopped)
        threads_iterate(&client);
}

static uint64_t
stat_of(struct run *run, const char *name)
{
    uint64_t values[256];
    size_t count = varve_stats_get(run->store, values, 256);

    for (size_t i = 0; i < count && i < 256; i++) {
        if (strcmp(varve_stat_describe(i)->name, name) == 0)
            return values[i];
    }
    sim_fail("no statistic %s", name);
}

/* What the life made the store do: runs that make it do nothing test nothing. */
static void
count_work(struct run *run)
{
    run->totals->flushes += stat_of(run, "index_flushes");
    run->totals->merges += stat_of(run, "index_merges");
    run->totals->drops += stat_of(run, "segments_dropped");
    run->totals->recovered += stat_of(run, "recovered_pages");
    run->totals->torn += stat_of(run, "recovered_torn_pages");
    if (stat_of(run, "recovered_runs_lost") > 0) /* rebuilt, but it should not have been needed */
        sim_fail("%" PRIu64 " runs were lost", stat_of(run, "recovered_runs_lost"));
    if (stat_of(run, "get_corrupt") > 0) /* a miss to its caller, but no device lied: it should not have been found */
        sim_fail("%" PRIu64 " pages failed their checksum", stat_of(run, "get_corrupt"));
}

static void
life_crash(struct run *run)
{
    enum sim_crash_mode mode =
        sim_rng_chance(&run->rng, run->config.power_per_mille) ? SIM_CRASH_POWER : SIM_CRASH_KILL;

    sim_disk_stop(run->disk);
    sched_note("abandon");
    if (run->store != NULL) {
        count_work(run);
        store_abandon(run->store);
        run->store = NULL;
    }
    require_no_leaks(run, "store_abandon");
    run->segment_drops++; /* one may have been on its way */
    sim_disk_crash(run->disk, mode, sim_rng_next(&run->rng));
    model_crash(run->model, mode);
    run->totals->crashes++;
}

static void
life_close(struct run *run)
{
    uint64_t begin = model_tick(run->model);
    varve_error err = {0};
    int rc;

    sched_note("close");
    sim_log("close");
    count_work(run);
    rc = varve_close(run->store, &err);
    run->store = NULL;
    expect(run, rc, "varve_close", &err);
    if (rc == VARVE_OK)
        model_sync_end(run->model, begin);
    require_no_leaks(run, "varve_close");
}

/* `last`: nothing goes wrong any more. */
static void
life_run(struct run *run, uint64_t calls, bool first, bool last)
{
    bool crash = !last && sim_rng_chance(&run->rng, run->config.crash_per_mille);
    bool early = sim_rng_chance(&run->rng, 150); /* perhaps while it is opened */
    uint64_t after = sim_rng_log(&run->rng, run->config.crash_span);

    run->totals->lives++;
    run->calls_left = calls;
    sim_log("life %" PRIu64, run->totals->lives);
    memset(run->namespaces, 0, sizeof(run->namespaces));
    threads_faults_of_life(run, last);
    if (crash && early)
        sim_disk_crash_after(run->disk, after);
    /* The first life has nothing to look at: there the clients make the namespaces, all at once. */
    if (life_open(run) && (first || open_namespaces(run))) {
        if (!first)
            look_at_all(run);
        if (crash && !early)
            sim_disk_crash_after(run->disk, after);
        run_clients(run);
        run->totals->read_only += !run->disk->stopped && stat_of(run, "read_only") != 0;
        if (!run->disk->stopped)
            look_at_all(run);
        if (!run->disk->stopped && !(crash && sim_rng_chance(&run->rng, 500)))
            life_close(run);
    }
    if (run->store != NULL || run->disk->stopped)
        life_crash(run);
    sim_disk_crash_after(run->disk, 0);
}

void
threads_run(const struct threads_plan *plan, struct threads_totals *totals)
{
    struct run run = {.plan = *plan, .totals = totals, .rng = sim_rng_make(plan->seed, 9)};

    threads_config_draw(&run.config, plan);
    run.room_least = run.config.capacity;
    if (plan->clients > 0)
        run.config.clients = plan->clients;
    run.disk = sim_disk_create(&run.config.disk);
    run.universe = oracle_create(&run.config.universe);
    run.model = model_create(run.config.universe.namespaces, run.universe->pages);
    run.config.sched.clock_ns = &run.disk->now_ns;
    run.config.sched.trace = plan->trace;
    threads_env_attach(&run);
    sched_begin(&run.config.sched);
    for (uint64_t done = 0; done < plan->calls; done += run.config.calls_per_life)
        life_run(&run, run.config.calls_per_life, done == 0, false);
    life_run(&run, 0, false, true);
    totals->faults_hit += run.disk->faults_hit;
    totals->steps += sched_steps();
    totals->digest = sim_mix(totals->digest ^ sched_digest()) ^ sim_disk_digest(run.disk);
    sched_end();
    model_destroy(run.model);
    oracle_destroy(run.universe);
    sim_disk_destroy(run.disk);
}
