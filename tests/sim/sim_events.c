/* SPDX-License-Identifier: Apache-2.0 */
/* Counts what runs made happen: from the store's statistics at the end of a life, from the disk at the end of a run. */
#include <inttypes.h>
#include <stdio.h>

#include "sim_driver.h"
#include "sim_log.h"

static const struct {
    const char *help;
    const char *stat;
    enum sim_need need;
} events[SIM_EVENTS] = {
#define EVENT(name, help, stat, need) {help, stat, need},
    SIM_EVENT_TABLE(EVENT)
#undef EVENT
};

static size_t
stat_index(const char *name)
{
    const varve_stat_desc *info;

    for (size_t i = 0; (info = varve_stat_describe(i)) != NULL; i++) {
        if (strcmp(info->name, name) == 0)
            return i;
    }
    sim_fail("no statistic %s", name);
}

void
sim_count_life(struct sim *sim)
{
    static size_t indexes[SIM_EVENTS]; /* plus one; 0: not looked up yet */

    for (size_t i = 0; i < SIM_EVENTS; i++) {
        if (events[i].stat == NULL)
            continue;
        if (indexes[i] == 0)
            indexes[i] = stat_index(events[i].stat) + 1;
        SIM_COUNT(sim, i, sim->stats[indexes[i] - 1]);
    }
    SIM_COUNT(sim, SIM_EVENT_LEVELS_2, sim->levels >= 2);
    SIM_COUNT(sim, SIM_EVENT_LEVELS_3, sim->levels >= 3);
    SIM_COUNT(sim, SIM_EVENT_READ_ONLY, sim->stats[stat_index("read_only")] > 0);
}

void
sim_count_disk(struct sim *sim)
{
    const struct sim_hits *hits = &sim->disk->hits;
    uint64_t other = 0;

    for (size_t i = 0; i < sizeof(hits->errors) / sizeof(hits->errors[0]); i++) {
        if (((1u << i) & (SIM_OP_READ | SIM_OP_WRITE | SIM_OP_SYNC | SIM_OP_ALLOC)) == 0)
            other += hits->errors[i];
    }
    SIM_COUNT(sim, SIM_EVENT_READ_FAULTS, hits->errors[__builtin_ctz(SIM_OP_READ)]);
    SIM_COUNT(sim, SIM_EVENT_WRITE_FAULTS, hits->errors[__builtin_ctz(SIM_OP_WRITE)]);
    SIM_COUNT(sim, SIM_EVENT_SYNC_FAULTS, hits->errors[__builtin_ctz(SIM_OP_SYNC)]);
    SIM_COUNT(sim, SIM_EVENT_ALLOC_FAULTS, hits->errors[__builtin_ctz(SIM_OP_ALLOC)]);
    SIM_COUNT(sim, SIM_EVENT_OTHER_FAULTS, other);
    SIM_COUNT(sim, SIM_EVENT_STICKY, hits->sticky);
    SIM_COUNT(sim, SIM_EVENT_NO_SPACE, hits->no_space);
    SIM_COUNT(sim, SIM_EVENT_SHORTS, hits->shorts);
    SIM_COUNT(sim, SIM_EVENT_AGAINS, hits->agains);
    SIM_COUNT(sim, SIM_EVENT_STALLED, hits->stalls);
    SIM_COUNT(sim, SIM_EVENT_LOST_SYNCS, hits->lost_syncs);
    SIM_COUNT(sim, SIM_EVENT_MISDIRECTED, hits->misdirected);
    SIM_COUNT(sim, SIM_EVENT_LOST_WRITES, hits->lost_writes);
    SIM_COUNT(sim, SIM_EVENT_FLIPS, hits->flips);
    SIM_COUNT(sim, SIM_EVENT_TORN_WRITES, sim->disk->torn_writes);
}

void
sim_events_print(const struct sim_totals *totals)
{
    printf("%" PRIu64 " runs\n", totals->runs);
    for (size_t i = 0; i < SIM_EVENTS; i++)
        printf("%12" PRIu64 " %s\n", totals->counts[i], events[i].help);
}

bool
sim_events_complete(const struct sim_totals *totals, enum sim_need range)
{
    bool complete = true;

    for (size_t i = 0; i < SIM_EVENTS; i++) {
        if ((events[i].need & range) != 0 && totals->counts[i] == 0) {
            printf("FAILED: not once in %" PRIu64 " runs: %s\n", totals->runs, events[i].help);
            complete = false;
        }
    }
    return complete;
}
