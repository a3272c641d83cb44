/* SPDX-License-Identifier: Apache-2.0 */
/* Each seed is another machine: how many processes, how they are treated, how patient they are, and what the net does to them. */
#include "peers.h"

#define MS             1000000u
#define CAPACITY_LEAST ((uint64_t)4 << 20)

static uint64_t
pick(struct sim_rng *rng, const uint64_t *values, size_t count)
{
    return values[sim_rng_below(rng, count)];
}

#define PICK(rng, ...)                                                                                                 \
    pick(rng, (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static void
draw_net(struct peers *peers, struct sim_rng *rng)
{
    uint64_t timeout_ns = peers->settings.timeout_ms * MS;

    peers->settings.net = (struct sim_net_settings){
        .seed = sim_rng_next(rng),
        .room_bytes = PICK(rng, 100, 4096, 65536, 212992),
        .split_per_mille = (uint32_t)PICK(rng, 0, 100, 500),
        .delay_per_mille = (uint32_t)PICK(rng, 0, 50, 500),
        .delay_ns = PICK(rng, MS / 10, MS, timeout_ns / 8),
        .late_per_mille = (uint32_t)PICK(rng, 0, 0, 2, 10),
        .late_ns = PICK(rng, 2 * timeout_ns, 12 * timeout_ns),
        .silence_per_mille = (uint32_t)PICK(rng, 0, 0, 1, 3),
        .break_per_mille = (uint32_t)PICK(rng, 0, 0, 3, 15),
        .refuse_per_mille = (uint32_t)PICK(rng, 0, 0, 30, 200),
    };
}

static void
draw_fate(struct peers_settings *settings, struct sim_rng *rng)
{
    settings->kill = (uint32_t)PICK(rng, 1, 3, 10);
    settings->hang = (uint32_t)PICK(rng, 0, 2, 6);
    settings->net_break = (uint32_t)PICK(rng, 0, 1, 3);
    settings->leave = (uint32_t)PICK(rng, 0, 1, 3);
    settings->power = (uint32_t)PICK(rng, 0, 1);
    settings->owner_per_mille = (uint32_t)PICK(rng, 100, 500, 800);
    settings->event_ns = PICK(rng, 20 * MS, 100 * MS, 1000 * MS);
    settings->settle_ns = PICK(rng, MS / 10, 10 * MS, 800 * MS);
    settings->kill_points = PICK(rng, 30, 300, 2000);
    settings->question_per_mille = (uint32_t)PICK(rng, 0, 500, 900);
    settings->pause_ns = PICK(rng, MS / 100, MS, 20 * MS);
}

/* Twice as many pages as there is room for: segments are dropped all the time. */
static void
make_full(struct threads_config *config)
{
    struct oracle_settings *universe = &config->universe;
    uint64_t average = universe->sizes == ORACLE_SIZES_FIXED ? universe->size_max : universe->size_max / 3;
    uint64_t pages = 2 * CAPACITY_LEAST / (average < 4096 ? 4096 : average) / universe->namespaces;

    config->capacity = CAPACITY_LEAST;
    threads_config_set(config, "capacity", config->capacity);
    universe->chains = (uint32_t)(pages / universe->chain_pages) + 1;
    config->batch_max = THREADS_BATCH_MAX;
}

void
peers_config_draw(struct peers *peers, const struct peers_plan *plan)
{
    const struct threads_plan threads = {.seed = plan->seed, .calls = plan->calls, .trace = plan->trace};
    struct threads_config *config = &peers->run.config;
    struct peers_settings *settings = &peers->settings;
    struct sim_rng rng = sim_rng_make(plan->seed, 12);

    threads_config_draw(config, &threads);
    settings->processes = (uint32_t)sim_rng_between(&rng, 2, PEERS_MAX);
    settings->callers = (uint32_t)sim_rng_between(&rng, 1, PEERS_CALLERS_MAX);
    settings->timeout_ms = PICK(&rng, 50, 100, 400, 1000);
    settings->calls_per_era = PICK(&rng, 30, 80, 200);
    draw_net(peers, &rng);
    draw_fate(settings, &rng);
    if (sim_rng_chance(&rng, 250))
        make_full(config);
    config->disk.stall_ns = 50 * MS;
    config->sched.timely = true;
    config->sched.threads = 96;
    config->crash_span = PICK(&rng, 50, 300, 1500);
    threads_config_set(config, "peer_timeout_ms", settings->timeout_ms);
    peers->run.plan = threads;
}
