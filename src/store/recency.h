/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recency.h - when pages were used: the store's side of src/reclaim/heat.h.
 *
 * A call that uses a chain collects what it found in a struct touches, and at its end all of it is stamped at once, tail to head, with the
 * ancestors that the caller did not name: a head is never older than its tail, so the ends of chains die first (leaf-LRU), and what is live can be hit.
 *
 * Ancestors are looked for only where that matters. A parent that was used lately (heat_is_recent()) stands for all above it: the call's pages then get its
 * value instead of a fresh one, which costs them at most 1/32 of the age at which pages die. Else the walk goes up the branches until an ancestor is young
 * enough; with its ancestors it is then at least as young as all below.
 *
 * Threads: recency.lock guards heat, reclaim and segment->heat; taken before the log's lock, never held across I/O.
 */
#ifndef VARVE_STORE_RECENCY_H
#define VARVE_STORE_RECENCY_H

#include "api/stats.h"
#include "base/lock.h"
#include "index/index.h"
#include "log/log.h"
#include "reclaim/judge.h"
#include "reclaim/kin.h"
#include "reclaim/reclaim.h"

#define TOUCH_RUNS_MAX 64

struct recency {
    struct mutex lock;
    struct heat *heat;
    struct reclaim reclaim;
    struct kin kin;
    struct judge *judge;           /* NULL: nothing had to be reclaimed yet */
    atomic_bool judging;           /* there is one: asked without the lock */
    uint64_t survivor_bytes_noted; /* counters.survivor_bytes when the last segment of new pages was made */
    atomic_bool missing;           /* segments of an earlier life have pages that heat does not know */
    /* Values of those, which are older than all that was used in this life: of the oldest root; of how many roots; how far below one. */
    uint64_t oldest_unknown, unknown_ages, unknown_depths;
    /* The file HEAT: of whoever opens, closes, or does background work. */
    size_t restored;             /* segments whose recency it brought back, of all their pages */
    _Atomic uint64_t file_bytes; /* that were paid for it */
    uint64_t saved_ns;           /* when it was written last, or tried */
};

/* Pages that lie one after another in a segment, and on the chain. */
struct touch_run {
    uint64_t segment;
    uint64_t place, end; /* where the first one begins, and the last one ends */
    uint32_t count;
    int64_t index; /* of its first page in the call */
};

/* Pages [first, end) of a segment, as heat counts them. */
struct stretch {
    struct heat_segment *segment;
    uint32_t first, end;
};

/* What one call used of one chain. For one thread; small enough for the stack. */
struct touches {
    varve_store *store;
    struct index_view *view;
    size_t count;  /* pages of the call */
    uint64_t name; /* of the call, for its kin; 0: it has none */
    uint32_t ns_id;
    uint64_t base;       /* the page at index i gets base - i; 0: not settled */
    uint64_t demotion;   /* and this less, one that the call stores */
    bool unless_recent;  /* do nothing when the chain was stamped lately */
    bool expires;        /* pages have a time to live: ancestors that are dead stay so */
    bool skipped;        /* so it was */
    bool has_first;      /* first, first_index: the page nearest to the root */
    int64_t first_index; /* -1: the parent of the call's first page */
    int64_t last_index;
    struct key first;
    struct location last; /* the page added last */
    uint32_t run_count;
    struct touch_run runs[TOUCH_RUNS_MAX];
};

int recency_init(varve_store *store, varve_error *err);
/* Before the log goes. */
void recency_deinit(varve_store *store);

/* The store is full: from now on the judge listens. */
void recency_begin_judging(varve_store *store);
/* A request asked for these pages, root first: for the judge. */
void recency_asked(varve_store *store, uint32_t ns_id, const varve_id *ids, size_t count);

/* `view` must stay acquired until touches_end(). */
void touches_begin(struct touches *touches, varve_store *store, struct index_view *view, size_t count, bool expires);
/* The call's pages are a chain of the namespace that ends with `last`: other namespaces may make the same call (kin.h). Before touches_add(). */
void touches_name(struct touches *touches, uint32_t ns_id, const varve_id *last);
/* The page at `index` of the call was found; in ascending order. */
void touches_add(struct touches *touches, const struct location *location, int64_t index);
/* The value of the call's pages: the one at index i gets value - i. Stamps what was added so far. */
uint64_t touches_value(struct touches *touches);
/*
 * Of a page that the call stores, after all that it found were added: as old as the judge says that new ones are, but where it leads to one that was found, no older
 * than that.
 */
uint64_t touches_new_value(struct touches *touches, size_t index);
/* Stamp the pages added, and their ancestors. */
void touches_end(struct touches *touches);

/* Recovery: a segment is there already, with pages that recency_load() will make known. */
void recency_expect(varve_store *store, uint64_t number);
/* Recovery, after recency_restore(): what heat does not know by now is of an earlier life. Before anything is used or reclaimed. */
void recency_begin_life(varve_store *store);
/*
 * Make pages known that the index has and heat has not, as old as their parents, or, where nothing is known, the older the further from the root. false: out of
 * memory, and there are more. Reads the index; one thread at a time.
 */
bool recency_load(varve_store *store);
/* The same for whoever opens a store, if that takes no time to speak of. Else the first background work does it, and uses before that of what is not known are lost. */
void recency_load_small(varve_store *store);
/* recency_file.c. Write the file HEAT. VARVE_MISS: there is no room for it, which is harmless. One thread at a time. */
int recency_save(varve_store *store, varve_error *err);
bool recency_save_due(varve_store *store);
/* Recovery, with the log in place: what the file HEAT knows of its segments. */
void recency_restore(varve_store *store);
/* The same, by any thread: VARVE_OK, or VARVE_E_NOMEM. Takes reclaim_lock. */
int recency_complete(varve_store *store, varve_error *err);
/* A segment of `bytes` for new pages was made: the share of live pages follows what reclaim copied meanwhile. */
void recency_note_segment(varve_store *store, uint64_t bytes);
void recency_gauges(varve_store *store, struct gauges *out);

/* A new segment has no pages yet. Short of memory its pages stay unknown, and die with it. */
void recency_segment_begin(varve_store *store, struct segment *segment);
void recency_segment_end(varve_store *store, struct segment *segment);
/* It gets no more pages: give back memory that was kept for them. */
void recency_segment_trim(varve_store *store, struct segment *segment);
/* Pages of an entry were stored; the one at index i was used at value - i. */
void recency_add(varve_store *store, const struct entry *entry, uint64_t value);
/*
 * The pages of a slot, as heat has them. There may be none: those without bytes take no place, and are not known to it. false: nothing is known of those that
 * have. recency.lock held.
 */
bool recency_stretch(varve_store *store, const struct index_slot *slot, struct stretch *stretch);
/* The value of the page at a key, or, if that has no bytes, of the nearest ancestor that has; 0: dead, or not known; UINT64_MAX: pinned. */
uint64_t recency_value(varve_store *store, struct index_view *view, const struct key *key);
/*
 * The page at *from was used at `value`: stamp its ancestors, until one is young enough; where pages expire, also until one is dead, and stays so.
 */
void recency_stamp_ancestors(varve_store *store, struct index_view *view, const struct key *from, uint64_t value,
                             bool expires);
/* Whether the page at a location is live; one without bytes is. */
bool recency_is_live(varve_store *store, const struct location *location);
/* The parent of the page at *key, which becomes the parent's. false: none is known. */
bool recency_step_up(struct index_view *view, struct key *key);

/*
 * An entry of one page is a copy of what is at a place of another segment: it is as recent as the original, and as pinned, and that is dead. recency.lock
 * held, since the copy was inserted: so whoever finds it, and then asks whether it is live, is told what the original was.
 */
void recency_move(varve_store *store, const struct entry *entry, uint64_t number, uint64_t place);
/* A page that was found at a location has another copy, which goes: if that one is pinned, it is this one now. */
void recency_pass_pin(varve_store *store, uint64_t number, uint64_t place, const struct location *to);
/* One page was removed, or is not worth keeping. */
void recency_kill(varve_store *store, uint64_t number, uint64_t place);

#endif
