/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes wrong beside crashes. Devices that say what fails cost no page that was stored; those that lie may cost any, but never give
 * a wrong byte. A run has some kinds of trouble only (sim_config.c), so that each is also met without the others.
 */
#include <errno.h>
#include <inttypes.h>

#include "sim_driver.h"
#include "sim_log.h"

#define FULL_BYTES_MAX (1u << 20) /* left on a file system that is nearly full */

static const char *
draw_glob(struct sim_rng *rng)
{
    static const char *const globs[] = {NULL, "*.seg", "*.seg", "*.run", "*.run", "*.manifest", "CURRENT*"};

    return globs[sim_rng_below(rng, sizeof(globs) / sizeof(globs[0]))];
}

static void
add(struct sim *sim, const struct sim_fault *fault)
{
    if (sim->disk->fault_count == SIM_FAULTS_MAX)
        sim_disk_faults_clear(sim->disk);
    sim_log("  fault kind=%d ops=%#x %s skip=%" PRIu64 " count=%" PRIu64, (int)fault->kind, fault->ops,
            fault->glob == NULL ? "*" : fault->glob, fault->skip, fault->count);
    sim_disk_fault_add(sim->disk, fault);
}

static void
add_errors(struct sim *sim, uint64_t skip_max, uint64_t count)
{
    static const unsigned ops[] = {SIM_OP_READ,        SIM_OP_READ,   SIM_OP_WRITE,    SIM_OP_WRITE,
                                   SIM_OP_SYNC,        SIM_OP_CREATE, SIM_OP_UNLINK,   SIM_OP_SYNC_DIR,
                                   SIM_OP_PREALLOCATE, SIM_OP_RENAME, SIM_OP_TRUNCATE, SIM_OP_OPEN};
    static const int errors[] = {EIO, EIO, ENOSPC, EROFS};
    struct sim_fault fault = {.kind = SIM_FAULT_ERROR,
                              .ops = ops[sim_rng_below(&sim->rng, sizeof(ops) / sizeof(ops[0]))],
                              .error = errors[sim_rng_below(&sim->rng, sizeof(errors) / sizeof(errors[0]))],
                              .skip = sim_rng_log(&sim->rng, skip_max) - 1,
                              .count = count};

    fault.glob = draw_glob(&sim->rng);
    if (fault.ops == SIM_OP_READ)
        fault.error = EIO;
    add(sim, &fault);
}

static void
add_lie(struct sim *sim, unsigned op, enum sim_fault_kind kind, uint64_t skip_max)
{
    struct sim_fault fault = {.ops = op, .kind = kind, .error = EIO, .skip = sim_rng_log(&sim->rng, skip_max) - 1};

    fault.glob = draw_glob(&sim->rng);
    fault.count = sim_rng_between(&sim->rng, 1, 3);
    add(sim, &fault);
}

static void
add_trouble(struct sim *sim, enum sim_trouble_kind kind, uint64_t skip_max)
{
    struct sim_fault memory = {.ops = SIM_OP_ALLOC, .kind = SIM_FAULT_ERROR, .error = ENOMEM};

    switch (kind) {
    case SIM_TROUBLE_ERRORS:
        add_errors(sim, skip_max, sim_rng_between(&sim->rng, 1, 3));
        break;
    case SIM_TROUBLE_STICKY:
        add_errors(sim, skip_max, 0);
        break;
    case SIM_TROUBLE_MEMORY:
        memory.skip = sim_rng_log(&sim->rng, skip_max) - 1;
        memory.count = sim_rng_between(&sim->rng, 1, 3);
        add(sim, &memory);
        break;
    case SIM_TROUBLE_FULL:
        sim->disk->settings.size_bytes = sim_disk_used(sim->disk) + sim_rng_log(&sim->rng, FULL_BYTES_MAX);
        sim_log("  file system of %" PRIu64 " bytes", sim->disk->settings.size_bytes);
        break;
    case SIM_TROUBLE_LOST_SYNC:
        add_lie(sim, SIM_OP_SYNC, SIM_FAULT_SYNC_LOST, skip_max);
        break;
    case SIM_TROUBLE_LOST_WRITE:
        add_lie(sim, SIM_OP_WRITE, SIM_FAULT_LOST_WRITE, skip_max);
        break;
    case SIM_TROUBLE_MISDIRECT:
        add_lie(sim, SIM_OP_WRITE, SIM_FAULT_MISDIRECT, skip_max);
        break;
    case SIM_TROUBLE_FLIP:
        (void)sim_disk_flip(sim->disk, draw_glob(&sim->rng) == NULL ? "*" : "*.seg", &sim->rng);
        break;
    case SIM_TROUBLE_KINDS:
        break;
    }
    sim->faulty = true;
    sim->oracle->in_doubt = true;
    if (kind >= SIM_TROUBLE_LOST_SYNC)
        sim->oracle->lenient = true;
}

/* One of the kinds that this run has. */
static void
draw_trouble(struct sim *sim, uint64_t skip_max)
{
    uint64_t at = sim_rng_below(&sim->rng, SIM_TROUBLE_KINDS);

    while ((sim->config.fault_kinds >> at & 1) == 0)
        at = (at + 1) % SIM_TROUBLE_KINDS;
    add_trouble(sim, (enum sim_trouble_kind)at, skip_max);
}

void
sim_faults_of_life(struct sim *sim)
{
    struct sim_fault fault = {
        .ops = sim->plan.nth_op, .kind = SIM_FAULT_ERROR, .error = EIO, .skip = sim->plan.nth - 1, .count = 1};

    if (sim->plan.trouble == SIM_TROUBLE_NTH) {
        if (sim->disk->fault_count == 0)
            sim_disk_fault_add(sim->disk, &fault);
        sim->faulty = true;
    } else if (sim->plan.trouble == SIM_TROUBLE_RANDOM) {
        if (sim_rng_chance(&sim->rng, 300) && (sim->plan.plain & SIM_PLAIN_FAULTS) == 0)
            draw_trouble(sim, 200);
    }
    sim->oracle->in_doubt = sim->faulty;
}

void
sim_faults_of_call(struct sim *sim)
{
    if (sim->plan.trouble != SIM_TROUBLE_RANDOM || !sim_rng_chance(&sim->rng, sim->config.fault_per_mille))
        return;
    if (sim->disk->settings.size_bytes > 0 && sim_rng_chance(&sim->rng, 500))
        sim->disk->settings.size_bytes = 0; /* somebody made room */
    else
        draw_trouble(sim, 20);
}
