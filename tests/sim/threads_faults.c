/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When something goes wrong beside crashes: while other calls are under way, and while the store is opened. Only what says that it fails: what
 * was acknowledged is there in the next life that works.
 */
#include <errno.h>

#include "threads.h"

#define SKIP_LIFE_MAX 200 /* operations before the first that fails */
#define SKIP_CALL_MAX 40

static void
fail_syncs(struct sim_disk *disk, struct sim_rng *rng)
{
    static const char *const globs[] = {NULL, "*.seg", "*.manifest"};
    struct sim_fault fault = {.ops = SIM_OP_SYNC, .kind = SIM_FAULT_ERROR, .error = EIO, .count = 1};

    fault.glob = globs[sim_rng_below(rng, sizeof(globs) / sizeof(globs[0]))];
    fault.skip = sim_rng_log(rng, 4) - 1;
    if (disk->fault_count == SIM_FAULTS_MAX)
        sim_disk_faults_clear(disk);
    sim_disk_fault_add(disk, &fault);
}

static void
begin(struct run *run, uint64_t skip_max, struct sim_rng *rng)
{
    run->faulty = true;
    if (run->config.failing_syncs)
        fail_syncs(run->disk, rng);
    else
        sim_trouble_begin(run->disk, sim_trouble_draw(run->config.fault_kinds, rng), skip_max, rng);
}

void
threads_faults_of_life(struct run *run, bool last)
{
    run->totals->faults_hit += run->disk->faults_hit;
    run->disk->faults_hit = 0;
    sim_disk_faults_clear(run->disk);
    run->disk->settings.size_bytes = 0;
    run->faulty = false;
    if (!last && run->config.fault_kinds != 0 && sim_rng_chance(&run->rng, 300))
        begin(run, SKIP_LIFE_MAX, &run->rng);
}

void
threads_faults_of_call(struct threads_client *client)
{
    struct run *run = client->run;

    if (run->config.fault_kinds == 0 || !sim_rng_chance(&client->rng, run->config.fault_per_mille))
        return;
    if (run->disk->settings.size_bytes > 0 && sim_rng_chance(&client->rng, 500))
        run->disk->settings.size_bytes = 0; /* somebody made room */
    else
        begin(run, SKIP_CALL_MAX, &client->rng);
}
