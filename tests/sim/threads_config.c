/* SPDX-License-Identifier: Apache-2.0 */
/* Each seed is a different kind of run: few pages, so that clients meet on them; limits so small that they are reached; another way to schedule. */
#include <inttypes.h>
#include <stdio.h>

#include "sim_log.h"
#include "threads.h"

#define KIB 1024u
#define MIB (1024u * KIB)

static uint64_t
pick(struct sim_rng *rng, const uint64_t *values, size_t count)
{
    return values[sim_rng_below(rng, count)];
}

#define PICK(rng, ...)                                                                                                 \
    pick(rng, (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

void
threads_config_set(struct threads_config *config, const char *name, uint64_t value)
{
    struct threads_option *option = &config->options[config->option_count++];

    assert(config->option_count <= THREADS_OPTIONS_MAX);
    option->name = name;
    (void)snprintf(option->value, sizeof(option->value), "%" PRIu64, value);
}

static void
draw_disk(struct threads_config *config, struct sim_rng *rng)
{
    config->disk = (struct sim_disk_settings){
        .seed = sim_rng_next(rng),
        .io_align = (uint32_t)PICK(rng, 512, 4096),
        .direct_io = sim_rng_chance(rng, 700),
        .sector_bytes = (uint32_t)PICK(rng, 512, 4096),
        .queue_depth = (uint32_t)PICK(rng, 1, 2, 8, 32),
        .short_per_mille = (uint32_t)PICK(rng, 0, 0, 20, 200),
        .again_per_mille = (uint32_t)PICK(rng, 0, 0, 10),
        .torn_per_mille = (uint32_t)PICK(rng, 0, 100, 500),
        .garbage_per_mille = (uint32_t)PICK(rng, 0, 300),
        .stall_per_mille = (uint32_t)PICK(rng, 0, 20, 100, 300),
    };
    config->device_per_mille = (uint32_t)PICK(rng, 0, 20, 200, 700);
}

static void
draw_sched(struct threads_config *config, struct sim_rng *rng)
{
    config->sched = (struct sched_settings){
        .seed = sim_rng_next(rng),
        .policy = sim_rng_chance(rng, 500) ? SCHED_RANDOM : SCHED_PRIORITIES,
        .switch_per_mille = (uint32_t)PICK(rng, 10, 50, 200, 1000),
        .change_steps = (uint32_t)PICK(rng, 300, 1000, 5000),
        .changes = (uint32_t)sim_rng_between(rng, 1, 6),
        .timeout_per_mille = (uint32_t)PICK(rng, 0, 1, 10),
        .blocks = (uint32_t)PICK(rng, 0, 100, 1000, 10000),
    };
}

static void
draw_universe(struct threads_config *config, struct sim_rng *rng)
{
    struct oracle_settings *universe = &config->universe;
    uint64_t bytes = PICK(rng, 128 * KIB, 512 * KIB, 2 * MIB, 6 * MIB);
    uint64_t pages, average;

    universe->seed = sim_rng_next(rng);
    universe->namespaces = (uint32_t)sim_rng_between(rng, 1, THREADS_NAMESPACES_MAX);
    universe->sizes = (enum oracle_sizes)sim_rng_below(rng, 3);
    universe->size_max = (uint32_t)PICK(rng, 0, 24, 512, 2000, 4096, 12 * KIB, 40 * KIB, 150 * KIB);
    average = universe->sizes == ORACLE_SIZES_FIXED ? universe->size_max : universe->size_max / 3;
    average = average < 512 ? 512 : average;
    pages = bytes / average / universe->namespaces;
    pages = pages < 8 ? 8 : pages > 400 ? 400 : pages;
    universe->chain_pages = (uint32_t)sim_rng_between(rng, 2, pages < 100 ? pages / 2 : 60);
    universe->chains = (uint32_t)(pages / universe->chain_pages) + 1;
    config->capacity = PICK(rng, 4 * MIB, 6 * MIB, 64 * MIB);
    config->batch_max = (uint32_t)PICK(rng, 1, 4, 16, THREADS_BATCH_MAX);
    config->unaligned = sim_rng_chance(rng, 500);
}

static void
draw_weights(struct threads_config *config, struct sim_rng *rng)
{
    static const uint32_t usual[CALLS] = {
        [CALL_PUT] = 60,   [CALL_GET] = 30,  [CALL_PROBE] = 15, [CALL_EXISTS] = 6, [CALL_TOUCH] = 6,
        [CALL_REMOVE] = 8, [CALL_CLEAR] = 1, [CALL_SYNC] = 10,  [CALL_OPTION] = 2, [CALL_ITERATE] = 2,
        [CALL_CHECK] = 2,  [CALL_TICK] = 5,  [CALL_FILL] = 6,
    };

    for (size_t i = 0; i < CALLS; i++) {
        config->weights[i] = usual[i];
        if (i != CALL_PUT && sim_rng_chance(rng, 250))
            config->weights[i] = 0;
        else if (sim_rng_chance(rng, 150))
            config->weights[i] *= 5;
    }
}

/* All clients put, remove and sync the same few small pages: what one is just writing is stored already for another. */
static void
make_hot(struct threads_config *config, struct sim_rng *rng)
{
    static const uint32_t weights[CALLS] = {[CALL_PUT] = 60, [CALL_REMOVE] = 40, [CALL_SYNC] = 30};

    memcpy(config->weights, weights, sizeof(weights));
    config->universe.namespaces = 1;
    config->universe.chains = 1;
    config->universe.chain_pages = (uint32_t)sim_rng_between(rng, 2, 4);
    config->universe.size_max = (uint32_t)PICK(rng, 24, 4096);
    config->batch_max = (uint32_t)PICK(rng, 1, 4);
    config->sync_per_mille = 500;
    config->calls_per_life = 15;
    config->crash_per_mille = 1000;
    config->power_per_mille = (uint32_t)PICK(rng, 0, 1000, 1000);
    config->crash_span = PICK(rng, 20, 60);
}

/* From a stream of its own: the same seed without faults is the same run. */
static void
draw_faults(struct threads_config *config, uint64_t seed)
{
    const uint32_t honest = (1u << SIM_TROUBLE_LIES) - 1;
    struct sim_rng rng = sim_rng_make(seed, 10);

    config->fault_per_mille = (uint32_t)PICK(&rng, 10, 30, 100);
    config->fault_kinds = (uint32_t)sim_rng_next(&rng) & honest;
    if (config->fault_kinds == 0)
        config->fault_kinds = honest;
    /* What a sync promised shows only when the power fails soon after. */
    config->failing_syncs = sim_rng_chance(&rng, 300);
    if (config->failing_syncs) {
        config->fault_per_mille = 100;
        config->crash_per_mille = config->power_per_mille = 1000;
        config->crash_span = PICK(&rng, 50, 300);
    }
}

void
threads_config_draw(struct threads_config *config, const struct threads_plan *plan)
{
    uint64_t seed = plan->seed;
    struct sim_rng rng = sim_rng_make(seed, 7);

    *config = (struct threads_config){.option_count = 0};
    draw_disk(config, &rng);
    draw_sched(config, &rng);
    draw_universe(config, &rng);
    draw_weights(config, &rng);
    config->clients = (uint32_t)sim_rng_between(&rng, 2, 6);
    config->sync_per_mille = 150;
    config->calls_per_life = (uint32_t)PICK(&rng, 15, 40, 100);
    config->crash_per_mille = (uint32_t)PICK(&rng, 0, 700, 1000);
    config->power_per_mille = (uint32_t)PICK(&rng, 0, 500, 1000);
    config->crash_span = PICK(&rng, 50, 300, 1500);
    if (sim_rng_chance(&rng, 300))
        make_hot(config, &rng);
    if (plan->faults)
        draw_faults(config, seed);
    threads_config_set(config, "capacity", config->capacity);
    threads_config_set(config, "segment_bytes", PICK(&rng, 64 * KIB, 128 * KIB, 256 * KIB));
    threads_config_set(config, "background", sim_rng_chance(&rng, 750));
    threads_config_set(config, "memtable_bytes", 256 * KIB);
    threads_config_set(config, "block_cache_bytes", 256 * KIB);
    threads_config_set(config, "size_ratio", sim_rng_between(&rng, 2, 4));
    threads_config_set(config, "runs_per_level", sim_rng_between(&rng, 1, 3));
    threads_config_set(config, "sync_interval_ms", PICK(&rng, 0, 1, 100, 1000));
    threads_config_set(config, "sync_bytes", PICK(&rng, 64 * KIB, MIB, 256 * MIB));
    threads_config_set(config, "io_bytes", PICK(&rng, 16 * KIB, 64 * KIB, MIB));
    threads_config_set(config, "open_files", PICK(&rng, 16, 512));
}

varve_options *
threads_options(const struct threads_config *config)
{
    varve_options *options = varve_options_create();
    varve_error err = {0};

    for (size_t i = 0; i < config->option_count; i++) {
        if (options == NULL ||
            varve_options_set(options, config->options[i].name, config->options[i].value, &err) != VARVE_OK)
            sim_fail("varve_options_set: %s", err.message);
    }
    return options;
}
