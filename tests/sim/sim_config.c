/* SPDX-License-Identifier: Apache-2.0 */
/* Swarm testing: each seed is a different kind of run. Few features at a time reach states that all of them together hide. */
#include <inttypes.h>
#include <stdio.h>

#include "sim_driver.h"

#define KIB 1024u
#define MIB (1024u * KIB)

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
    };
}

/* The shape of the universe: about `bytes` in all, padding included. */
static void
draw_universe(struct sim_config *config, struct sim_rng *rng)
{
    struct oracle_settings *oracle = &config->oracle;
    bool many = sim_rng_chance(rng, 200); /* small pages in such numbers that memtables fill, and runs are merged */
    uint64_t bytes = PICK(rng, 256 * KIB, MIB, 3 * MIB, 8 * MIB);
    uint64_t pages, average;

    oracle->seed = sim_rng_next(rng);
    oracle->namespaces = (uint32_t)PICK(rng, 1, 2, 3);
    oracle->sizes = (enum oracle_sizes)sim_rng_below(rng, 3);
    oracle->size_max =
        many ? (uint32_t)PICK(rng, 0, 24, 600)
             : (uint32_t)PICK(rng, 0, 24, 512, 2000, 4096, 12 * KIB, 16 * KIB, 40 * KIB, 100 * KIB, 300 * KIB);
    oracle->twins = sim_rng_chance(rng, 150);
    average = oracle->sizes == ORACLE_SIZES_FIXED ? oracle->size_max : oracle->size_max / 3;
    average = average < 512 ? 512 : average;
    pages = bytes / average / oracle->namespaces;
    pages = pages < 8 ? 8 : pages > 1500 ? 1500 : pages;
    if (many)
        pages = 10000 / oracle->namespaces;
    oracle->chain_pages = (uint32_t)sim_rng_between(rng, 2, pages < 200 ? pages / 2 : many ? 400 : 200);
    oracle->chains = (uint32_t)(pages / oracle->chain_pages) + 1;
    config->capacity = PICK(rng, 4 * MIB, 6 * MIB, 64 * MIB, 256 * MIB);
    config->batch_max = many ? 400 : (uint32_t)PICK(rng, 1, 4, 16, 64, 300);
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
        [SIM_CALL_FILL] = 8,
    };

    for (size_t i = 0; i < SIM_CALLS; i++) {
        config->weights[i] = usual[i];
        if (i != SIM_CALL_PUT && sim_rng_chance(rng, 250))
            config->weights[i] = 0;
        else if (sim_rng_chance(rng, 100))
            config->weights[i] *= 5;
    }
}

void
sim_config_redraw(struct sim_config *config, struct sim_rng *rng)
{
    set(config, "memtable_bytes", PICK(rng, 256 * KIB, 256 * KIB, MIB));
    set(config, "block_cache_bytes", PICK(rng, 256 * KIB, 256 * KIB, 4 * MIB));
    set(config, "size_ratio", sim_rng_between(rng, 2, 6));
    set(config, "runs_per_level", sim_rng_between(rng, 1, 4));
    set(config, "runs_last_level", sim_rng_between(rng, 1, 3));
    set(config, "fingerprint_bits", PICK(rng, 8, 14));
    set(config, "sync_interval_ms", PICK(rng, 0, 1, 100, 1000));
    set(config, "sync_bytes", PICK(rng, 64 * KIB, MIB, 256 * MIB));
    set(config, "queue_depth", PICK(rng, 1, 4, 32));
    set(config, "io_bytes", PICK(rng, 16 * KIB, 64 * KIB, MIB));
    set(config, "open_files", PICK(rng, 16, 512));
}

void
sim_config_draw(struct sim_config *config, uint64_t seed)
{
    struct sim_rng rng = sim_rng_make(seed, 4);

    *config = (struct sim_config){.option_count = 0};
    draw_disk(config, &rng);
    draw_universe(config, &rng);
    draw_weights(config, &rng);
    config->ops_per_life = (uint32_t)PICK(&rng, 30, 100, 300);
    config->crash_per_mille = (uint32_t)PICK(&rng, 0, 500, 900, 1000);
    config->power_per_mille = (uint32_t)PICK(&rng, 0, 500, 1000);
    config->crash_span = PICK(&rng, 50, 500, 5000);
    set(config, "capacity", config->capacity);
    set(config, "segment_bytes", PICK(&rng, 64 * KIB, 128 * KIB, 256 * KIB));
    set_text(config, "background", "off");
    set_text(config, "create", "on");
    sim_config_redraw(config, &rng);
}
