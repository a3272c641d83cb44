/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heat.h - recency of pages, and which of them are live.
 *
 * Pure decisions, no I/O: the store and `varve replay --policy-only` drive the same code. Each page of each segment has a stamp of 2 bytes and its
 * place of 4: the epoch of its last use. Pages last used before the horizon are dead; the horizon moves on while the live ones take more than
 * the live target, so the live set is the least-recently-used order's young end. A dead page whose segment still stands is served all the
 * same, and a use revives it (second life). Nothing is written when a page dies.
 *
 * Order of use: a call on a chain takes a fresh clock value S, and the page at depth d of the chain is stamped S - d. Every ancestor is then at
 * least as young as its descendants, so the pages that die first are always the ends of chains (leaf-LRU).
 *
 * Epochs are clock values shifted right so far that the live set spans less than HEAT_SPAN_MAX of them: exact LRU in small stores, 1/16384 of the live
 * set's age in large ones. Stamps are kept modulo a little less than 65,536; dead ones are turned into HEAT_DEAD before they could be mistaken.
 *
 * Limits of single namespaces are horizons of their own on the same clock: struct heat_group.
 *
 * Threads: the caller serialises all calls on one struct heat and its segments.
 */
#ifndef VARVE_RECLAIM_HEAT_H
#define VARVE_RECLAIM_HEAT_H

#include <stdbool.h>

#include "env/env.h"

#define HEAT_UNIT     512    /* places are counted in these: no payload begins anywhere else */
#define HEAT_EPOCHS   65534u /* of the ring: stamps 1..HEAT_EPOCHS */
#define HEAT_SPAN_MAX 32000u /* epochs that the live set may span; the rest of the ring is time for sweeping */
#define HEAT_DEAD     0u
#define HEAT_PINNED   65535u

#define HEAT_RECENT_SHARE 32u

#define HEAT_PAGE_BYTES (sizeof(uint32_t) + sizeof(uint16_t)) /* of memory, a page */

#define HEAT_GROUP_EPOCHS 32768u /* a power of two above HEAT_SPAN_MAX */

struct heat_segment;

/*
 * A namespace with limits of its own: a quota, and a horizon that is never before that of all. Its pages are counted here and in the whole. 256 KiB each.
 */
struct heat_group {
    uint32_t ns_id;
    uint64_t quota;   /* target for its live and pinned bytes together; UINT64_MAX: none */
    uint64_t horizon; /* its epochs before it are dead */
    uint64_t marked;  /* heat_group_mark(), last */
    uint64_t live_bytes;
    uint64_t pinned_bytes;
    uint64_t bytes_at[HEAT_GROUP_EPOCHS]; /* live bytes by epoch */
};

struct heat {
    struct env *env;
    uint64_t clock;   /* last value given out */
    unsigned shift;   /* epoch = clock >> shift */
    uint64_t horizon; /* epochs before it are dead */
    uint64_t live_bytes;
    uint64_t pinned_bytes;
    uint64_t live_max;                  /* target for live and pinned bytes together */
    struct heat_segment *first, *sweep; /* all segments; the next one to sweep */
    uint64_t swept_horizon;             /* when all segments were swept last */
    uint64_t sweep_debt;                /* epochs times segments */
    size_t segment_count;
    struct heat_group **groups; /* by ns_id */
    size_t group_count, group_room;
    uint64_t group_died; /* bytes that only a group's horizon has passed, since all segments were swept last */
    uint64_t bytes_at[HEAT_EPOCHS + 1]; /* live bytes by stamp */
};

/* A run of pages of one namespace: from the page at `at` to the next span's. */
struct heat_span {
    uint32_t at;
    uint32_t ns_id;
};

/* The pages of one segment, by place. */
struct heat_segment {
    struct heat_segment *prev, *next;
    void *owner;
    uint64_t live_bytes; /* of pages that were live when last looked at: never less than what is live now */
    uint64_t old_bytes;  /* and weighed by age: a page used now counts nothing, one about to die as a whole */
    uint64_t used;       /* greatest value that one of its pages was used at */
    uint32_t end;        /* where the last page ends, in units */
    uint32_t count, room;
    uint32_t *at;     /* ascending */
    uint16_t *stamps; /* in the same allocation as `at` */
    struct heat_span *spans;
    uint32_t span_count, span_room;
};

/* NULL: out of memory. */
struct heat *heat_create(struct env *env, uint64_t live_max);
/* Every segment must be gone. */
void heat_destroy(struct heat *heat);
void heat_set_target(struct heat *heat, uint64_t live_max);

/* NULL: out of memory. `owner` is the caller's. */
struct heat_segment *heat_segment_create(struct heat *heat, void *owner);
/* Its live bytes are gone. NULL is a no-op. */
void heat_segment_destroy(struct heat *heat, struct heat_segment *segment);
/* No pages come any more: give back memory that is not needed. */
void heat_segment_trim(struct heat *heat, struct heat_segment *segment);

/* A fresh value for a call on pages down to `depth`: the page at depth d <= depth gets value - d. */
uint64_t heat_clock(struct heat *heat, uint64_t depth);

/*
 * Pages of namespace ns_id that lie one after another: page i from places[i] on, the last one up to `end`, in bytes. Page i gets value - i; value 0:
 * they begin dead, for copies that heat_touch() and heat_pin() then give what the originals have. Where there is a page already nothing changes. VARVE_OK or VARVE_E_NOMEM: then they are not known, and die with their segment.
 */
int heat_add(struct heat *heat, struct heat_segment *segment, uint32_t ns_id, const uint64_t *places, uint32_t count,
             uint64_t end, uint64_t value);

/* Index of the page at `place`, or segment->count. `guess` is tried first. */
uint32_t heat_find(const struct heat_segment *segment, uint64_t place, uint32_t guess);

/* Index of the first page that begins at `place` or behind it, or segment->count. */
uint32_t heat_find_from(const struct heat_segment *segment, uint64_t place);

/* Used at `value`, if that is younger. */
void heat_touch(struct heat *heat, struct heat_segment *segment, uint32_t page, uint64_t value);
/*
 * The same for page_count pages from `first` on, of which page i was used at value - i: 3 ns a page where each has an epoch of its own, a tenth of that
 * in a large store (bench/heat_bench).
 */
void heat_touch_run(struct heat *heat, struct heat_segment *segment, uint32_t first, uint32_t page_count,
                    uint64_t value);
/*
 * Used so lately that another use changes next to nothing: within 1/HEAT_RECENT_SHARE of the time that the live set reaches back to. Where that is hardly
 * anything, as in a store of a few pages, only the last call was lately.
 */
bool heat_is_recent(const struct heat *heat, uint64_t value);
/* The same, of the live set of a namespace, which reaches back less far where it has limits. */
bool heat_is_recent_in(const struct heat *heat, uint32_t ns_id, uint64_t value);
/* Removed: dead for good. */
void heat_kill(struct heat *heat, struct heat_segment *segment, uint32_t page);
/* Pinned pages do not die. Unpinned, it was used at `value`. */
void heat_pin(struct heat *heat, struct heat_segment *segment, uint32_t page);
void heat_unpin(struct heat *heat, struct heat_segment *segment, uint32_t page, uint64_t value);

bool heat_is_live(const struct heat *heat, const struct heat_segment *segment, uint32_t page);
/* The clock value of its last use, rounded down to the epoch; 0: dead. UINT64_MAX: pinned. */
uint64_t heat_value(const struct heat *heat, const struct heat_segment *segment, uint32_t page);
/* Bytes from the page to the next. */
uint64_t heat_bytes(const struct heat_segment *segment, uint32_t page);

/*
 * Limits of a namespace. Made already: only its quota changes. Its pages may be there already: O(pages of the namespace + spans). VARVE_OK or
 * VARVE_E_NOMEM. Namespaces without limits need no group, and cost nothing.
 *
 * Pages die by whole epochs: the live ones of a full namespace are below its quota by less than what it used in one epoch, and what it used in the
 * present epoch does not die yet.
 */
int heat_group_create(struct heat *heat, uint32_t ns_id, uint64_t quota);
/* No limits any more; what they let die stays dead. None: a no-op. */
void heat_group_destroy(struct heat *heat, uint32_t ns_id);
/* NULL: none. */
const struct heat_group *heat_group_find(const struct heat *heat, uint32_t ns_id);

/*
 * A clock value that begins an epoch: whatever was used so far, was before it. For pages of the namespace, which has a group, uses before the last mark are
 * not recent. Each mark is an epoch that ends early: they come at the pace of AGES_A_TTL in a time to live.
 */
uint64_t heat_group_mark(struct heat *heat, uint32_t ns_id);

/*
 * Time to live: pages of a namespace with a group that were last used before the epoch of `value` are dead. Pinned ones, and those of the present epoch, are not.
 */
void heat_expire(struct heat *heat, uint32_t ns_id, uint64_t value);

/* The namespace was cleared: its pages are dead at once, pinned or not, and so is its group. O(pages of the namespace + spans): a millisecond a million. */
void heat_gone(struct heat *heat, uint32_t ns_id);

/* Let pages die until the live ones fit the target, and those of each namespace its quota. Cheap: call it after every few calls. */
void heat_age(struct heat *heat);

/* Let pages die now, until there are `bytes` fewer live ones, or none that may die. */
void heat_shrink(struct heat *heat, uint64_t bytes);

/*
 * Look at every page of a segment: dead ones, and those for which `gone` (NULL: none) is true of their namespace, become HEAT_DEAD, and live_bytes
 * exact. O(pages).
 */
void heat_sweep(struct heat *heat, struct heat_segment *segment, bool (*gone)(void *arg, uint32_t ns_id), void *arg);

void heat_sweep_all(struct heat *heat);

/*
 * The segment to empty, of those that `may` go (called with each one's owner): the one with the fewest live bytes, where bytes count the more the
 * sooner they die; the least recently used of several; or NULL. Old pages are worth waiting for: copied, they would die in their new place.
 * Right to within 1/64 of the live set's turnover: all segments are swept when the horizon has moved by so much. The victim itself is swept.
 */
struct heat_segment *heat_coldest(struct heat *heat, bool (*may)(const void *owner));

/*
 * A snapshot, so that a restart keeps the judgement: a header (HEAT_HEADER_BYTES), then a record for each segment, one behind the other, in any order.
 * Between two records the caller may let go of its lock. The header is best encoded last, though it stands first: its clock is the latest then.
 * heat_snapshot_segment() returns the bytes of the record, or 0 where there is too little room: the segment has grown since heat_snapshot_bytes().
 */
struct heat_file {
    uint64_t number, salt; /* of the segment's file */
    uint64_t bytes;        /* its length; of no meaning for a snapshot */
};

void heat_snapshot_header(const struct heat *heat, uint8_t *buf);
size_t heat_snapshot_bytes(const struct heat_segment *segment);
size_t heat_snapshot_segment(const struct heat *heat, const struct heat_segment *segment, const struct heat_file *file,
                             uint8_t *buf, size_t room);

/*
 * Back, from untrusted bytes: the header first, into a heat without pages and groups, then each segment's record (heat_record_find()) into a segment
 * without pages. VARVE_OK; or nothing has changed: VARVE_E_CORRUPT (damaged, of another file, or the second of a file), VARVE_E_VERSION, VARVE_E_NOMEM. Records are of use
 * without the header too: then all that they call live is.
 *
 * A snapshot is of the past. The caller adds what was written since (pages that are known already stay as they are), and lets go what was removed or
 * cleared (heat_kill(), heat_sweep()). Where groups are there already, their pages are counted in them.
 */
int heat_restore_header(struct heat *heat, const uint8_t *data, size_t size);
int heat_restore_segment(struct heat *heat, struct heat_segment *segment, const struct heat_file *file,
                         const uint8_t *data, size_t size);

#endif
