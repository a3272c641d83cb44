/* SPDX-License-Identifier: Apache-2.0 */
/* Swarm testing: each seed is a different kind of run. Few features at a time reach states that all of them together hide. */
#include <inttypes.h>
#include <stdio.h>

#include "sim_driver.h"

#define KIB 1024u
#define MIB (1024u * KIB)

#define BATCH_BYTES_MAX (512 * KIB) /* about: a call that takes long tells no more than a short one */

static uint64_t
pick(struct sim_rng *rng, const uint64_t *values, size_t count)
{
    return values[sim_rng_below(rng, count)];
}

#define PICK(rng, ...)                                                                                                 \
    pick(rng, (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static void
set_text(struct sim_config *config, const char *name, const char *value)
{
    size_t i = 0;

    while (i < config->option_count && strcmp(config->options[i].name, name) != 0)
        i++;
    assert(i < SIM_OPTIONS_MAX);
    config->options[i].name = name;
    (void)snprintf(config->options[i].value, sizeof(config->options[i].value), "%s", value);
    if (i == config->option_count)
        config->option_count++;
}

static void
set(struct sim_config *config, const char *name, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    set_text(config, name, text);
}

static void
draw_disk(struct sim_config *config, struct sim_rng *rng)
{
    config->disk = (struct sim_disk_settings){
        .seed = sim_rng_next(rng),
        .io_align = (uint32_t)PICK(rng, 512, 512, 4096),
        .direct_io = sim_rng_chance(rng, 700),
        .sector_bytes = (uint32_t)PICK(rng, 512, 4096),
        .queue_depth = (uint32_t)PICK(rng, 1, 2, 8, 32),
        .short_per_mille = (uint32_t)PICK(rng, 0, 0, 20, 200),
        .again_per_mille = (uint32_t)PICK(rng, 0, 0, 10, 50),
        .torn_per_mille = (uint32_t)PICK(rng, 0, 100, 500),
        .garbage_per_mille = (uint32_t)PICK(rng, 0, 300),
        .stall_per_mille = (uint32_t)PICK(rng, 0, 0, 10, 100),
    };
}

/*
 * The shape of the universe: about `bytes` in all, padding included. Small pages in numbers fill memtables, so that runs are merged; a few
 * of the largest size there is fill segments of their own.
 */
static void
draw_universe(struct sim_config *config, struct sim_rng *rng)
{
    struct oracle_settings *oracle = &config->oracle;
    bool many = sim_rng_chance(rng, 200), largest = !many && sim_rng_chance(rng, 8);
    uint64_t bytes = PICK(rng, 128 * KIB, 512 * KIB, MIB, 6 * MIB);
    uint64_t pages, average;

    oracle->seed = sim_rng_next(rng);
    oracle->namespaces = (uint32_t)PICK(rng, 1, 2, 3);
    oracle->sizes = (enum oracle_sizes)sim_rng_below(rng, 3);
    oracle->size_max =
        many ? (uint32_t)PICK(rng, 0, 24, 600)
             : (uint32_t)PICK(rng, 0, 24, 512, 2000, 4096, 12 * KIB, 16 * KIB, 40 * KIB, 100 * KIB, 300 * KIB);
    config->capacity = PICK(rng, 4 * MIB, 4 * MIB, 6 * MIB, 64 * MIB);
    if (largest) {
        config->capacity = 4 * MIB;
        oracle->sizes = ORACLE_SIZES_FIXED;
        oracle->size_max = 2 * MIB - 3 * 4096; /* the store's page_bytes_max */
    }
    oracle->bf16 = oracle->seed % 3 == 0; /* drawn from what is there, so that old seeds stay what they were */
    oracle->twins = sim_rng_chance(rng, 150);
    average = oracle->sizes == ORACLE_SIZES_FIXED ? oracle->size_max : oracle->size_max / 3;
    average = average < 512 ? 512 : average;
    pages = bytes / average / oracle->namespaces;
    pages = pages < 8 ? 8 : pages > 600 ? 600 : pages;
    if (largest)
        pages = 4;
    if (many)
        pages = PICK(rng, 2500, 2500, 6000) / oracle->namespaces;
    oracle->chain_pages = (uint32_t)sim_rng_between(rng, 2, pages < 200 ? pages / 2 : many ? pages : 200);
    oracle->chains = (uint32_t)(pages / oracle->chain_pages) + 1;
    config->batch_max = many      ? (uint32_t)PICK(rng, 100, 400, 400, 2000)
                        : largest ? 2
                                  : (uint32_t)PICK(rng, 1, 4, 16, 64, 300);
    if (!many && !largest && config->batch_max > BATCH_BYTES_MAX / average)
        config->batch_max = (uint32_t)(BATCH_BYTES_MAX / average);
    config->whole_batches = many;
    config->clients = (uint32_t)sim_rng_between(rng, 1, SIM_CLIENTS_MAX);
    config->unaligned = sim_rng_chance(rng, 600);
}

static void
draw_weights(struct sim_config *config, struct sim_rng *rng)
{
    static const uint32_t usual[SIM_CALLS] = {
        [SIM_CALL_PUT] = 60,   [SIM_CALL_GET] = 20,    [SIM_CALL_PROBE] = 15, [SIM_CALL_EXISTS] = 6,
        [SIM_CALL_TOUCH] = 6,  [SIM_CALL_REMOVE] = 6,  [SIM_CALL_CLEAR] = 1,  [SIM_CALL_SYNC] = 4,
        [SIM_CALL_OPTION] = 2, [SIM_CALL_ITERATE] = 1, [SIM_CALL_CHECK] = 1,  [SIM_CALL_TICK] = 40,
        [SIM_CALL_FILL] = 8,   [SIM_CALL_HUGE] = 1,
    };

    for (size_t i = 0; i < SIM_CALL_LIMITS; i++) {
        config->weights[i] = usual[i];
        if (i != SIM_CALL_PUT && sim_rng_chance(rng, 250))
            config->weights[i] = 0;
        else if (sim_rng_chance(rng, 100))
            config->weights[i] *= 5;
    }
}

/* From a stream of its own, so that everything else stays what it was for a seed. */
static void
draw_limits(struct sim_config *config, uint64_t seed)
{
    struct sim_rng rng = sim_rng_make(seed, 5);

    if (sim_rng_chance(&rng, 600))
        return;
    config->weights[SIM_CALL_LIMITS] = (uint32_t)PICK(&rng, 0, 3, 10);
    config->weights[SIM_CALL_PIN] = (uint32_t)PICK(&rng, 0, 4, 20);
    config->weights[SIM_CALL_UNPIN] = config->weights[SIM_CALL_PIN] / 4;
}

void
sim_config_set_room(struct sim_config *config, const char *name, uint64_t value, uint64_t room)
{
    set(config, name, value);
    if (strcmp(name, "capacity") == 0)
        config->capacity = value;
    if (room < config->capacity_least)
        config->capacity_least = room;
}

void
sim_config_redraw(struct sim_config *config, struct sim_rng *rng)
{
    set(config, "memtable_bytes", PICK(rng, 128 * KIB, 128 * KIB, 256 * KIB));
    set(config, "block_cache_bytes", PICK(rng, 256 * KIB, 256 * KIB, 4 * MIB));
    set(config, "size_ratio", sim_rng_between(rng, 2, 6));
    set(config, "runs_per_level", sim_rng_between(rng, 1, 4));
    set(config, "runs_last_level", sim_rng_between(rng, 1, 3));
    set(config, "fingerprint_bits", PICK(rng, 8, 14));
    set(config, "sync_interval_ms", PICK(rng, 0, 1, 100, 1000));
    set(config, "sync_bytes", PICK(rng, 64 * KIB, MIB, 256 * MIB));
    set(config, "queue_depth", PICK(rng, 1, 4, 32));
    set(config, "io_bytes", PICK(rng, 16 * KIB, 16 * KIB, 64 * KIB));
    set(config, "open_files", PICK(rng, 16, 512));
    set_text(config, "codec", config->oracle.seed % 2 == 0 ? "on" : "auto");
    if (config->capacity_changes) {
        uint64_t capacity = PICK(rng, 4 * MIB, 5 * MIB, 6 * MIB, 8 * MIB);

        sim_config_set_room(config, "capacity", capacity, capacity);
    }
}

/*
 * Pages that are used again and again among those that are not, in a store that is always full: what reclaim is for. From a stream of its own, so that other
 * seeds stay what they were.
 */
static void
draw_reuse(struct sim_config *config, uint64_t seed)
{
    struct sim_rng rng = sim_rng_make(seed, 11);
    struct oracle_settings *oracle = &config->oracle;
    uint64_t pages;

    config->capacity_least = config->capacity;
    config->heat_trouble = sim_rng_chance(&rng, 200);
    config->disk.size_bytes =
        config->capacity < 16 * MIB && oracle->size_max <= 300 * KIB && sim_rng_chance(&rng, 150) ? 24 * MIB : 0;
    if (oracle->size_max > 300 * KIB || config->whole_batches || !sim_rng_chance(&rng, 300))
        return;
    config->capacity = config->capacity_least = PICK(&rng, 4 * MIB, 5 * MIB, 6 * MIB);
    config->disk.size_bytes = sim_rng_chance(&rng, 300) ? 24 * MIB : 0;
    config->capacity_changes = sim_rng_chance(&rng, 300);
    oracle->namespaces = (uint32_t)PICK(&rng, 1, 1, 2);
    oracle->twins = false; /* who gets the one has the other removed */
    oracle->sizes = sim_rng_chance(&rng, 700) ? ORACLE_SIZES_FIXED : ORACLE_SIZES_BLOCKS;
    oracle->size_max = (uint32_t)PICK(&rng, 4096, 7 * KIB, 12 * KIB, 16 * KIB, 28 * KIB);
    pages = 7 * MIB / oracle->size_max / oracle->namespaces;
    oracle->chain_pages = (uint32_t)PICK(&rng, 8, 16, 40, 100);
    oracle->chains = (uint32_t)(pages / oracle->chain_pages) + 1;
    config->hot_chains = oracle->chains / (uint32_t)PICK(&rng, 4, 8, 16) + 1;
    config->batch_max = 400 * KIB / oracle->size_max;
    config->whole_batches = true;
    config->honest = oracle->sizes == ORACLE_SIZES_FIXED && sim_rng_chance(&rng, 500);
    config->weights[SIM_CALL_PUT] = 100;
    config->weights[SIM_CALL_PROBE] = 30;
    config->weights[SIM_CALL_REMOVE] = config->honest ? 0 : 8;
    config->weights[SIM_CALL_LIMITS] = config->weights[SIM_CALL_PIN] = config->weights[SIM_CALL_UNPIN] = 0;
    config->weights[SIM_CALL_OPTION] = (uint32_t)PICK(&rng, 2, 40);
}

static void
draw_trouble(struct sim_config *config, struct sim_rng *rng)
{
    const uint32_t honest = (1u << SIM_TROUBLE_LOST_SYNC) - 1, all = (1u << SIM_TROUBLE_KINDS) - 1;

    config->fault_per_mille = (uint32_t)PICK(rng, 10, 30, 100);
    config->fault_kinds = (uint32_t)sim_rng_next(rng) & (sim_rng_chance(rng, 500) ? honest : all);
    if (config->fault_kinds == 0)
        config->fault_kinds = honest;
}

static void
make_plain(struct sim_config *config, unsigned plain)
{
    struct sim_disk_settings *disk = &config->disk;

    if ((plain & SIM_PLAIN_DISK) != 0)
        disk->short_per_mille = disk->again_per_mille = disk->stall_per_mille = disk->torn_per_mille = 0;
    if ((plain & SIM_PLAIN_CLIENTS) != 0) {
        config->clients = 1;
        config->unaligned = false;
    }
}

void
sim_config_draw(struct sim_config *config, const struct sim_plan *plan)
{
    struct sim_rng rng = sim_rng_make(plan->seed, 4);

    *config = (struct sim_config){.option_count = 0};
    draw_disk(config, &rng);
    draw_universe(config, &rng);
    draw_weights(config, &rng);
    draw_trouble(config, &rng);
    draw_limits(config, plan->seed);
    draw_reuse(config, plan->seed);
    config->ops_per_life = (uint32_t)PICK(&rng, 15, 40, 100);
    config->crash_per_mille = (uint32_t)PICK(&rng, 0, 10, 30, 100);
    config->crash_open_per_mille = (uint32_t)PICK(&rng, 0, 200, 500);
    config->power_per_mille = (uint32_t)PICK(&rng, 0, 500, 1000);
    config->crash_span = PICK(&rng, 10, 50, 500);
    if (plan->trouble == SIM_TROUBLE_NTH)
        config->crash_per_mille = config->crash_open_per_mille = 0;
    set(config, "capacity", config->capacity);
    set(config, "segment_bytes", PICK(&rng, 64 * KIB, 64 * KIB, 128 * KIB));
    set_text(config, "background", "off");
    set_text(config, "create", "on");
    sim_config_redraw(config, &rng);
    make_plain(config, plan->plain);
}
