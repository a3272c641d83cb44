/* SPDX-License-Identifier: Apache-2.0 */
/* The totals of a run, for people or, on one line, for programs: what was done, so that nobody takes a run that did little for one that held. */
#include <inttypes.h>
#include <stdio.h>

#include "soak.h"

void
report(const struct counts *counts, const struct totals *totals, uint64_t seed, uint64_t us, bool json)
{
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"lives", counts->lives},
        {"kills", counts->kills},
        {"kills_opening", counts->kills_opening},
        {"kills_working", counts->kills_working},
        {"kills_closing", counts->kills_closing},
        {"ended_by_themselves", counts->ended},
        {"directories", counts->epochs},
        {"reopened", counts->verified},
        {"locked_out", counts->locked},
        {"damages", counts->damages},
        {"refused", counts->refused},
        {"full_lives", counts->full_lives},
        {"batches_acknowledged", atomic_load(&totals->batches)},
        {"puts_refused", atomic_load(&totals->refused_puts)},
        {"syncs", atomic_load(&totals->syncs)},
        {"removals", atomic_load(&totals->removals)},
        {"clears", atomic_load(&totals->clears)},
        {"pages_verified", atomic_load(&totals->verified_pages)},
        {"bytes_verified", atomic_load(&totals->verified_bytes)},
        {"pages_checked", atomic_load(&totals->checked_pages)},
        {"pages_recovered", atomic_load(&totals->recovered_pages)},
        {"pages_torn", atomic_load(&totals->torn_pages)},
        {"pages_dropped", atomic_load(&totals->losses)},
        {"segments_dropped", atomic_load(&totals->dropped_segments)},
        {"flushes", atomic_load(&totals->flushes)},
        {"merges", atomic_load(&totals->merges)},
        {"seconds", us / 1000000},
    };

    (void)printf(json ? "{\"seed\": %" PRIu64 : "seed %" PRIu64, seed);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        (void)printf(json ? ", \"%s\": %" PRIu64 : ", %s %" PRIu64, rows[i].name, rows[i].value);
    (void)printf(json ? "}\n" : "\n");
}
