/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peers_events.h - what runs of several processes made happen. A range of seeds in which one of these never happens has not tested it.
 *
 * EVENT(name, help)
 */
#ifndef VARVE_SIM_PEERS_EVENTS_H
#define VARVE_SIM_PEERS_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#define PEERS_EVENT_TABLE(EVENT)                                                                                       \
    EVENT(CALLS, "calls")                                                                                              \
    EVENT(CALLS_OF_PEERS, "of these, of peers")                                                                        \
    EVENT(PAGES_PUT, "pages stored")                                                                                   \
    EVENT(PAGES_READ, "pages read and compared")                                                                       \
    EVENT(PAGES_OF_PEERS, "pages that peers stored")                                                                   \
    EVENT(OPENS, "stores opened")                                                                                      \
    EVENT(OPENS_FAILED, "opens that found nobody to answer")                                                           \
    EVENT(TAKEOVERS, "peers that became the owner")                                                                    \
    EVENT(RECONNECTS, "peers that found another owner, or the same again")                                             \
    EVENT(TIMEOUTS, "calls that the owner did not answer in time")                                                     \
    EVENT(CLOSES, "stores closed")                                                                                     \
    EVENT(OWNER_CLOSES, "of these, by the owner while others had them open")                                           \
    EVENT(KILLS, "processes killed")                                                                                   \
    EVENT(OWNER_KILLS, "of these, owners")                                                                             \
    EVENT(KILLS_IN_OPEN, "of these, while they opened the store")                                                      \
    EVENT(KILLS_IN_CLOSE, "of these, while they closed it")                                                            \
    EVENT(KILLS_IN_PUT, "peers killed in a put")                                                                       \
    EVENT(KILLS_IN_COMMIT, "peers killed while a commit was under way")                                                \
    EVENT(OWNER_KILLS_IN_COMMIT, "owners killed before they answered a commit")                                        \
    EVENT(KILLS_IN_TAKEOVER, "peers killed while they looked for an owner")                                            \
    EVENT(ORPHANS, "writes in flight at a kill")                                                                       \
    EVENT(ABANDONED, "extents that dead or silent peers had reserved")                                                 \
    EVENT(HANGS, "processes stopped for a while")                                                                      \
    EVENT(OWNER_HANGS, "of these, owners")                                                                             \
    EVENT(LONG_HANGS, "of these, for longer than a put may take")                                                      \
    EVENT(STRANDED, "processes stopped in a put whose owner died")                                                     \
    EVENT(POWER_CUTS, "power failures")                                                                                \
    EVENT(SPLITS, "messages in pieces")                                                                                \
    EVENT(DELAYS, "bytes delayed")                                                                                     \
    EVENT(LATE, "bytes delayed beyond timeouts")                                                                       \
    EVENT(SILENCES, "connections that went silent")                                                                    \
    EVENT(BREAKS, "connections that broke")                                                                            \
    EVENT(BROKEN_INSIDE, "of these, with bytes under way")                                                             \
    EVENT(REFUSALS, "connections refused")                                                                             \
    EVENT(RESETS, "connections reset")                                                                                 \
    EVENT(PARCELS, "files passed along")                                                                               \
    EVENT(LINGERING, "calls that another process may have gone on with")                                               \
    EVENT(DROPS, "segments dropped")                                                                                   \
    EVENT(MOVED, "pages of a segment that was dropped meanwhile")                                                      \
    EVENT(RECYCLED, "segments written over the files of dropped ones")                                                 \
    EVENT(CLEARS, "namespaces cleared")                                                                                \
    EVENT(FLUSHES, "flushes")                                                                                          \
    EVENT(RECOVERED, "pages recovered")                                                                                \
    EVENT(CHECKS, "deep checks")                                                                                       \
    EVENT(CHECKS_OF_PEERS, "of these, that peers asked for")

enum peers_event {
#define EVENT(name, help) PEERS_EVENT_##name,
    PEERS_EVENT_TABLE(EVENT)
#undef EVENT
        PEERS_EVENTS,
};

struct peers_totals {
    uint64_t runs;
    uint64_t counts[PEERS_EVENTS];
    uint64_t call_ns;  /* the longest call, without the time that its own process was stopped */
    uint64_t owner_ns; /* the longest time without an owner, though a peer asked for one */
    uint64_t digest;   /* of all that happened: equal runs have equal ones */
};

/* One line an event. */
void peers_events_print(const struct peers_totals *totals);
/* Whether all happened; says what did not. */
bool peers_events_complete(const struct peers_totals *totals);

#endif
