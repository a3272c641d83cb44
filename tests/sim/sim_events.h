/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_events.h - what runs made happen. A simulation in which something never happens does not test it, so each event says in which kind of
 * runs it has to happen now and then: a whole range of seeds without it has failed, though each of its runs was right.
 *
 * EVENT(name, help, statistic that counts it or NULL, in which ranges it must happen)
 */
#ifndef VARVE_SIM_EVENTS_H
#define VARVE_SIM_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

enum sim_need {
    SIM_NEED_NONE = 0,
    SIM_NEED_CRASHES = 1, /* in ranges of runs with crashes alone */
    SIM_NEED_FAULTS = 2,  /* in those with faults */
    SIM_NEED_BOTH = 3,
};

#define SIM_EVENT_TABLE(EVENT)                                                                                         \
    EVENT(CALLS, "calls", NULL, SIM_NEED_BOTH)                                                                         \
    EVENT(LIVES, "lives", NULL, SIM_NEED_BOTH)                                                                         \
    EVENT(PAGES_PUT, "pages stored", "put_pages", SIM_NEED_BOTH)                                                       \
    EVENT(PAGES_READ, "pages read and compared", NULL, SIM_NEED_BOTH)                                                  \
    EVENT(PAGES_VERIFIED, "pages looked for after an open", NULL, SIM_NEED_BOTH)                                       \
    EVENT(KILLS, "deaths of the process", NULL, SIM_NEED_BOTH)                                                         \
    EVENT(POWER_CUTS, "power failures", NULL, SIM_NEED_BOTH)                                                           \
    EVENT(OPEN_CRASHES, "crashes in an open", NULL, SIM_NEED_BOTH)                                                     \
    EVENT(CLOSE_CRASHES, "crashes in a close", NULL, SIM_NEED_BOTH)                                                    \
    EVENT(TORN_WRITES, "writes torn by a power failure", NULL, SIM_NEED_BOTH)                                          \
    EVENT(RECOVERED, "extents recovered", "recovered_extents", SIM_NEED_BOTH)                                          \
    EVENT(TORN_PAGES, "torn pages left out", "recovered_torn_pages", SIM_NEED_BOTH)                                    \
    EVENT(FLUSHES, "flushes", "index_flushes", SIM_NEED_BOTH)                                                          \
    EVENT(FULL_MEMTABLES, "memtables that filled up", NULL, SIM_NEED_BOTH)                                             \
    EVENT(MERGES, "merges", "index_merges", SIM_NEED_BOTH)                                                             \
    EVENT(DEAD_ENTRIES, "dead entries left out by merges", "index_entries_dropped", SIM_NEED_BOTH)                     \
    EVENT(LEVELS_2, "lives with two levels or more", NULL, SIM_NEED_BOTH)                                              \
    EVENT(LEVELS_3, "lives with three levels or more", NULL, SIM_NEED_NONE)                                            \
    EVENT(ROTATIONS, "manifests rotated", NULL, SIM_NEED_BOTH)                                                         \
    EVENT(DROPS, "segments dropped", "segments_dropped", SIM_NEED_BOTH)                                                \
    EVENT(RECYCLED, "segments written over the file of a dropped one", "segments_recycled", SIM_NEED_BOTH)             \
    EVENT(SURVIVORS, "live pages copied out of segments", "survivor_pages", SIM_NEED_BOTH)                             \
    EVENT(LOST_LIVE, "bytes of live pages lost for want of room", "reclaim_lost_bytes", SIM_NEED_BOTH)                 \
    EVENT(NOT_COPIED, "live pages found damaged by reclaim", "reclaim_damaged_pages", SIM_NEED_NONE)                   \
    EVENT(JOBS_LEFT, "lives that ended in the middle of a segment's reclaim", NULL, SIM_NEED_CRASHES)                  \
    EVENT(REMOVED_IN_JOB, "pages removed in the middle of one", NULL, SIM_NEED_NONE)                                   \
    EVENT(CLEARED_IN_JOB, "namespaces cleared in the middle of one", NULL, SIM_NEED_NONE)                              \
    EVENT(LOWERED_IN_JOB, "capacities lowered in the middle of one", NULL, SIM_NEED_NONE)                              \
    EVENT(SECOND_LIVES, "dead pages used again", NULL, SIM_NEED_CRASHES)                                               \
    EVENT(RECOUNTS, "recounts of what is live", NULL, SIM_NEED_BOTH)                                                   \
    EVENT(PARENTS, "live pages compared with their parents", NULL, SIM_NEED_CRASHES)                                   \
    EVENT(HEAT_WRITTEN, "bytes of HEAT written", "heat_bytes_written", SIM_NEED_BOTH)                                  \
    EVENT(HEAT_RESTORED, "segments whose recency HEAT brought back", NULL, SIM_NEED_BOTH)                              \
    EVENT(HEAT_MISSED, "opens of a store of which HEAT did not know all", NULL, SIM_NEED_BOTH)                         \
    EVENT(HEAT_DAMAGED, "HEAT files damaged", NULL, SIM_NEED_BOTH)                                                     \
    EVENT(HEAT_REMOVED, "HEAT files removed", NULL, SIM_NEED_BOTH)                                                     \
    EVENT(LOWERED, "capacities lowered below what was used", NULL, SIM_NEED_CRASHES)                                   \
    EVENT(REACHED, "lower capacities reached", NULL, SIM_NEED_NONE)                                                    \
    EVENT(MIN_FREE, "min_free raised above what was free", NULL, SIM_NEED_NONE)                                        \
    EVENT(FREED, "times that was made free", NULL, SIM_NEED_NONE)                                                      \
    EVENT(MISSING, "segments missing at an open", "segments_missing", SIM_NEED_CRASHES)                                \
    EVENT(CLEARS, "namespaces cleared", "namespace_clears", SIM_NEED_BOTH)                                             \
    EVENT(REMOVALS, "pages removed", "remove_pages", SIM_NEED_BOTH)                                                    \
    EVENT(PINNED, "pages pinned", NULL, SIM_NEED_BOTH)                                                                 \
    EVENT(LIMITS, "limits of namespaces set", NULL, SIM_NEED_BOTH)                                                     \
    EVENT(EXPIRED, "namespaces whose pages all expired", NULL, SIM_NEED_BOTH)                                          \
    EVENT(SKIPPED, "pages over the write budget", "put_skipped", SIM_NEED_BOTH)                                        \
    EVENT(DUPLICATES, "pages put again", "put_duplicates", SIM_NEED_BOTH)                                              \
    EVENT(COPIES, "bytes copied for alignment", "put_copied_bytes", SIM_NEED_BOTH)                                     \
    EVENT(STALLS, "puts that waited for a flush", "put_stalls", SIM_NEED_BOTH)                                         \
    EVENT(CODED_PAGES, "pages stored coded", "codec_put_pages", SIM_NEED_BOTH)                                         \
    EVENT(DECODED_PAGES, "pages decoded", "codec_get_pages", SIM_NEED_BOTH)                                            \
    EVENT(NOT_CODED, "extents that coding saves too little of", "codec_left_out_saving", SIM_NEED_BOTH)                \
    EVENT(EMPTY_PAGES, "empty pages put", NULL, SIM_NEED_BOTH)                                                         \
    EVENT(LARGEST_PAGES, "pages put that fill half of the capacity", NULL, SIM_NEED_CRASHES)                           \
    EVENT(TOO_LARGE, "pages refused for their size", NULL, SIM_NEED_BOTH)                                              \
    EVENT(LONG_BATCHES, "batches of more than an extent", NULL, SIM_NEED_CRASHES)                                      \
    EVENT(ACCOUNTS, "directories accounted for", NULL, SIM_NEED_BOTH)                                                  \
    EVENT(SHORTS, "short transfers", NULL, SIM_NEED_BOTH)                                                              \
    EVENT(AGAINS, "EINTR and EAGAIN", NULL, SIM_NEED_BOTH)                                                             \
    EVENT(STALLED, "stalled transfers", NULL, SIM_NEED_BOTH)                                                           \
    EVENT(READ_FAULTS, "failed reads", NULL, SIM_NEED_FAULTS)                                                          \
    EVENT(WRITE_FAULTS, "failed writes", NULL, SIM_NEED_FAULTS)                                                        \
    EVENT(SYNC_FAULTS, "failed syncs", NULL, SIM_NEED_FAULTS)                                                          \
    EVENT(ALLOC_FAULTS, "failed allocations", NULL, SIM_NEED_FAULTS)                                                   \
    EVENT(OTHER_FAULTS, "other failed operations", NULL, SIM_NEED_FAULTS)                                              \
    EVENT(STICKY, "of these, of faults that last", NULL, SIM_NEED_FAULTS)                                              \
    EVENT(NO_SPACE, "times the file system was full", NULL, SIM_NEED_FAULTS)                                           \
    EVENT(LOST_SYNCS, "failed syncs that lost pages", NULL, SIM_NEED_FAULTS)                                           \
    EVENT(MISDIRECTED, "misdirected writes", NULL, SIM_NEED_FAULTS)                                                    \
    EVENT(LOST_WRITES, "lost writes", NULL, SIM_NEED_FAULTS)                                                           \
    EVENT(FLIPS, "flipped bits", NULL, SIM_NEED_FAULTS)                                                                \
    EVENT(OPENS_REFUSED, "opens that failed", NULL, SIM_NEED_FAULTS)                                                   \
    EVENT(WIPED, "stores beyond repair, made anew", NULL, SIM_NEED_FAULTS)                                             \
    EVENT(READ_ONLY, "lives that became read-only", NULL, SIM_NEED_FAULTS)                                             \
    EVENT(SYNC_FAILURES, "syncs that failed", "sync_failures", SIM_NEED_FAULTS)                                        \
    EVENT(BACKGROUND, "failed slices of background work", "background_errors", SIM_NEED_FAULTS)                        \
    EVENT(PUT_FULL, "pages not stored for want of space", "put_errors_space", SIM_NEED_FAULTS)                         \
    EVENT(PUT_DEVICE, "pages not stored by the device", "put_errors_device", SIM_NEED_FAULTS)                          \
    EVENT(PUT_MEMORY, "pages not stored for want of memory", "put_errors_memory", SIM_NEED_FAULTS)                     \
    EVENT(PUT_READ_ONLY, "pages refused by a read-only store", "put_errors_readonly", SIM_NEED_FAULTS)                 \
    EVENT(GET_ERRORS, "pages that could not be read", "get_errors", SIM_NEED_FAULTS)                                   \
    EVENT(GET_CORRUPT, "pages that failed their checksum", "get_corrupt", SIM_NEED_FAULTS)                             \
    EVENT(BLOCKS_CORRUPT, "index blocks that failed theirs", "index_blocks_corrupt", SIM_NEED_FAULTS)                  \
    EVENT(BLOCK_ERRORS, "index blocks that could not be read", "index_read_errors", SIM_NEED_FAULTS)                   \
    EVENT(RUNS_LOST, "damaged index runs, rebuilt from the log", "recovered_runs_lost", SIM_NEED_FAULTS)               \
    EVENT(RUNS_UNREAD, "index runs that could not be read, rebuilt", "recovered_runs_unread", SIM_NEED_NONE)

enum sim_event {
#define EVENT(name, help, stat, need) SIM_EVENT_##name,
    SIM_EVENT_TABLE(EVENT)
#undef EVENT
        SIM_EVENTS,
};

struct sim_totals {
    uint64_t runs;
    uint64_t counts[SIM_EVENTS];
};

/* One line an event. */
void sim_events_print(const struct sim_totals *totals);
/* Whether all that must happen in such a range did; says what did not. */
bool sim_events_complete(const struct sim_totals *totals, enum sim_need range);

#endif
