/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When something goes wrong beside crashes. A run has some kinds of trouble only (sim_config.c), so that each is also met without the
 * others.
 */
#include <errno.h>

#include "sim_driver.h"

/* One of the kinds that this run has. */
static void
draw_trouble(struct sim *sim, uint64_t skip_max)
{
    enum sim_trouble_kind kind = sim_trouble_draw(sim->config.fault_kinds, &sim->rng);

    sim_trouble_begin(sim->disk, kind, skip_max, &sim->rng);
    sim->faulty = true;
    sim->oracle->in_doubt = true;
    if (kind >= SIM_TROUBLE_LIES)
        sim->oracle->lenient = true;
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
    if (sim->disk->settings.size_bytes != sim->config.disk.size_bytes && sim_rng_chance(&sim->rng, 500))
        sim->disk->settings.size_bytes = sim->config.disk.size_bytes; /* somebody made room */
    else
        draw_trouble(sim, 20);
}
