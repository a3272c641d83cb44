/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run is made of eras. In each the processes live and die until there are no calls left, or the power fails. Then everything is calm, all stores that are open are
 * looked at, and the era ends: all close, or are killed, or the power fails. In the last one a single process looks at what is left.
 */
#include "peers.h"
#include "sim_log.h"

#define EVENTS_MAX  40                           /* that happen to processes in an era */
#define ENDS_MAX_NS (UINT64_C(120) * 1000000000) /* in which processes that are told to end have ended */

static bool
all_quiet(const struct peers *peers)
{
    bool quiet = true;

    for (uint32_t i = 0; i < peers->settings.processes; i++)
        quiet =
            quiet && (peers->processes[i].gone || (peers->processes[i].quiet && peers_is_open(&peers->processes[i])));
    return quiet;
}

static bool
all_gone(const struct peers *peers)
{
    bool gone = true;

    for (uint32_t i = 0; i < peers->settings.processes; i++)
        gone = gone && peers->processes[i].gone;
    return gone;
}

static void
start_all(struct peers *peers)
{
    for (uint32_t i = 0; i < peers->settings.processes; i++) {
        struct peers_process *process = &peers->processes[i];

        *process = (struct peers_process){.peers = peers, .number = i};
        if (pthread_create(&process->keeper, NULL, peers_keeper_main, process) != 0)
            sim_fail("no thread could be made");
    }
}

static void
set_calm(struct peers *peers, bool calm)
{
    peers->calm = calm;
    peers->run.disk->settings.stall_per_mille = calm ? 0 : peers->run.config.disk.stall_per_mille;
    sim_net_set_calm(peers->net, calm);
    for (uint32_t i = 0; calm && i < peers->settings.processes; i++) {
        peers->processes[i].points_left = 0;
        peers->processes[i].hangs = false;
        peers->processes[i].leaves = false; /* nor does it close while it is looked at */
        peers->processes[i].group.stopped_until_ns = 0;
    }
    if (calm)
        sim_disk_crash_after(peers->run.disk, 0);
}

/* Everything ends: nicely, or not. */
static void
end_all(struct peers *peers, bool last)
{
    struct sim_rng *rng = &peers->run.rng;
    uint64_t until_ns = peers->run.disk->now_ns + ENDS_MAX_NS;
    uint32_t way = last ? 0 : (uint32_t)sim_rng_below(rng, 4);

    peers->released = true;
    if (way > 0 && !last)
        set_calm(peers, false);
    if (way == 1 && !peers->run.disk->stopped)
        peers_world_stop(peers);
    for (uint32_t i = 0; i < peers->settings.processes; i++) {
        struct peers_process *process = &peers->processes[i];

        if (way == 2 && sim_rng_chance(rng, 800))
            peers_kill(process);
        else if (way == 3 && sim_rng_chance(rng, 500))
            process->points_left = sim_rng_log(rng, peers->settings.kill_points);
        sched_signal(process, NULL);
    }
    while (!all_gone(peers)) {
        peers_world_step(peers);
        if (peers->run.disk->now_ns > until_ns)
            sim_fail("a process does not end");
    }
}

static void
join_all(struct peers *peers)
{
    sched_note("join");
    for (uint32_t i = 0; i < peers->settings.processes; i++)
        (void)pthread_join(peers->processes[i].keeper, NULL);
    peers_ghosts_sweep(peers);
    if (peers->ghosts != NULL)
        sim_fail("a connection is open, and no process is there");
    if (peers->run.disk->violations > 0)
        sim_fail("the rules of the env were broken");
}

static void
run_era(struct peers *peers, uint64_t calls, bool last)
{
    struct sim_disk *disk = peers->run.disk;

    sim_log("era");
    peers->run.calls_left = calls;
    peers->released = false;
    peers->ownerless_ns = 0;
    peers->event_at_ns = disk->now_ns + sim_rng_log(&peers->run.rng, peers->settings.event_ns);
    peers->events_left = sim_rng_log(&peers->run.rng, EVENTS_MAX);
    set_calm(peers, last);
    start_all(peers);
    while (!all_quiet(peers) && !disk->stopped)
        peers_world_step(peers);
    if (!disk->stopped) {
        set_calm(peers, true);
        peers_look_at_all(peers);
    } else {
        peers_world_stop(peers);
    }
    end_all(peers, last);
    join_all(peers);
    if (!disk->stopped)
        return;
    sim_disk_crash(disk, SIM_CRASH_POWER, sim_rng_next(&peers->run.rng));
    model_crash(peers->run.model, SIM_CRASH_POWER);
}

static void
count_run(struct peers *peers)
{
    const struct sim_net_hits *hits = &peers->net->hits;

    PEERS_COUNT(peers, PAGES_PUT, peers->threads_totals.pages_put);
    PEERS_COUNT(peers, PAGES_READ, peers->threads_totals.pages_read);
    PEERS_COUNT(peers, SPLITS, hits->splits);
    PEERS_COUNT(peers, DELAYS, hits->delays);
    PEERS_COUNT(peers, LATE, hits->late);
    PEERS_COUNT(peers, SILENCES, hits->silences);
    PEERS_COUNT(peers, BREAKS, hits->breaks);
    PEERS_COUNT(peers, BROKEN_INSIDE, hits->broken_inside);
    PEERS_COUNT(peers, REFUSALS, hits->refusals);
    PEERS_COUNT(peers, RESETS, hits->resets);
    PEERS_COUNT(peers, PARCELS, hits->parcels);
    peers->totals->runs++;
    peers->totals->digest = sim_mix(peers->totals->digest ^ sched_digest()) ^ sim_disk_digest(peers->run.disk);
}

void
peers_run(const struct peers_plan *plan, struct peers_totals *totals)
{
    static struct peers peers;
    struct run *run = &peers.run;

    peers = (struct peers){.totals = totals};
    peers_config_draw(&peers, plan);
    run->totals = &peers.threads_totals;
    run->rng = sim_rng_make(plan->seed, 14);
    run->room_least = run->config.capacity;
    run->disk = sim_disk_create(&run->config.disk);
    run->universe = oracle_create(&run->config.universe);
    run->model = model_create(run->config.universe.namespaces, run->universe->pages);
    run->config.sched.clock_ns = &run->disk->now_ns;
    run->config.sched.trace = plan->trace;
    run->on_point = peers_on_point;
    peers.net = sim_net_create(run->disk, &peers.settings.net);
    peers.net->point = threads_point;
    threads_env_attach(run);
    sched_begin(&run->config.sched);
    for (uint64_t done = 0; done < plan->calls; done += peers.settings.calls_per_era)
        run_era(&peers, peers.settings.calls_per_era, false);
    peers.settings.processes = 1;
    run_era(&peers, peers.settings.callers, true);
    count_run(&peers);
    sched_end();
    sim_net_destroy(peers.net);
    model_destroy(run->model);
    oracle_destroy(run->universe);
    sim_disk_destroy(run->disk);
}
