/* SPDX-License-Identifier: Apache-2.0 */
#include "peers_events.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const helps[PEERS_EVENTS] = {
#define EVENT(name, help) help,
    PEERS_EVENT_TABLE(EVENT)
#undef EVENT
};

void
peers_events_print(const struct peers_totals *totals)
{
    printf("%" PRIu64 " runs; the longest call took %" PRIu64 " ms, the longest time without an owner %" PRIu64
           " ms; digest %016" PRIx64 "\n",
           totals->runs, totals->call_ns / 1000000, totals->owner_ns / 1000000, totals->digest);
    for (int i = 0; i < PEERS_EVENTS; i++)
        printf("%12" PRIu64 " %s\n", totals->counts[i], helps[i]);
}

bool
peers_events_complete(const struct peers_totals *totals)
{
    bool complete = true;

    for (int i = 0; i < PEERS_EVENTS; i++) {
        if (totals->counts[i] == 0) {
            printf("FAILED: not once in %" PRIu64 " runs: %s\n", totals->runs, helps[i]);
            complete = false;
        }
    }
    return complete;
}
