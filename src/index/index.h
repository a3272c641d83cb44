/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.h - the prefix-preserving index: page id -> location, ordered by namespace | branch | depth.
 *
 * A log-structured merge tree of extent entries. Inserts go to a memtable; full memtables are frozen and flushed to immutable
 * runs; runs are merged by size ratio T and run limits K and Z. Nothing is ever updated: a page id has one value, so runs have no
 * order of recency, a lookup may stop at the first live match, and an entry whose segment is gone is dropped by the next merge.
 *
 * Threads: lookups from any number of threads, never blocked by inserts, flushes or merges (they work on a reference-counted
 *          view). index_insert() and index_rotate() by one thread at a time (the store's write lock). index_flush() and
 *          index_merge() by one thread at a time (the store's tick), concurrently with all the others.
 */
#ifndef VARVE_INDEX_INDEX_H
#define VARVE_INDEX_INDEX_H

#include "env/io.h"
#include "index/entry.h"

/* An immutable sorted file of entries, as the manifest names it. */
struct run_meta {
    uint64_t number; /* file number; the name is format_file_name() */
    uint64_t file_bytes;
    uint64_t pages;
    uint64_t entries;
    uint32_t blocks;
    uint32_t level; /* from 1 */
};

/* One atomic change of the set of runs. */
struct index_edit {
    const struct run_meta *added; /* NULL: none (everything merged away was dead) */
    const uint64_t *removed;      /* file numbers */
    size_t removed_count;
    void *flush_mark; /* of the memtable whose run is added; NULL for a merge */
};

enum segment_state {
    SEGMENT_GONE = 0, /* its entries are misses, merges drop them */
    SEGMENT_LIVE = 1,
    SEGMENT_LIVE_REMOVALS = 2, /* live, but ask page_removed() */
};

/* What the index asks of the store. All callable from any thread; `arg` first. */
struct index_hooks {
    void *arg;
    enum segment_state (*segment_state)(void *arg, uint64_t segment);
    bool (*page_removed)(void *arg, uint64_t segment, uint64_t offset, const uint8_t id_prefix[ID_PREFIX_BYTES]);
    bool (*namespace_live)(void *arg, uint32_t ns_id);
    uint64_t (*new_file_number)(void *arg);
    /* Take `bytes` of capacity for a file about to be written; VARVE_OK or VARVE_E_NOSPC. give_back returns what was not needed, or all. */
    int (*space_take)(void *arg, uint64_t bytes);
    void (*space_give_back)(void *arg, uint64_t bytes);
    /* Make the edit durable in the manifest (the run file is durable already). */
    int (*commit)(void *arg, const struct index_edit *edit, varve_error *err);
};

struct index_settings {
    uint64_t memtable_bytes; /* memory of one memtable when full */
    uint64_t block_cache_bytes;
    uint64_t block_cache_bytes_max; /* what index_set_memory() may make of it; less than block_cache_bytes: that */
    uint32_t size_ratio;            /* T, 2..32 */
    uint32_t runs_per_level;        /* K, on every level but the last */
    uint32_t runs_last_level;       /* Z */
    uint32_t fingerprint_bits;      /* least width of locator fingerprints, 8..24; 15 at least */
};

struct index_stats {
    uint64_t levels, runs, run_pages, run_entries, run_bytes;
    uint64_t memtables, memtable_pages;
    uint64_t memory_bytes; /* locators, block indexes and memtables: all but the block cache */
    uint64_t locator_bytes;
    uint64_t block_cache_bytes; /* held now */
    uint64_t block_cache_hits, block_cache_misses;
    uint64_t lookups, locator_hits, locator_false_hits; /* of run locators: said maybe / said so wrongly */
    uint64_t walks;                                     /* cursors that found something in a run */
    uint64_t searches,
        searches_found; /* of the locators of all runs: the page was not the next of its chain; it was in a run, */
    uint64_t searches_onward; /* and of these: a walk went on in another block of the run */
    uint64_t locators_probed; /* by searches, */
    uint64_t locators_timed,
        locators_ns; /* of which so many, in so much time, in searches that were timed and read no block */
    uint64_t block_reads, block_read_ns;   /* by lookups */
    uint64_t pages_rotated, rotated_bytes; /* in memtables that were frozen, and their memory when full */
    uint64_t flushes, merges, entries_merged, entries_dropped;
    uint64_t pages_flushed, pages_merged, merge_ns;
    uint64_t bytes_flushed, bytes_merged;
    uint64_t blocks_corrupt; /* failed their checksum: their pages are misses */
    uint64_t read_errors;    /* blocks the device did not give */
};

struct index;
struct index_view;

int index_create(struct env *env, struct io_queue_pool *pool, const struct index_hooks *hooks,
                 const struct index_settings *settings, struct index **out, varve_error *err);
/* No view may be held. Frees memory and closes files; removes and flushes nothing. */
void index_destroy(struct index *index);

/* Recovery, before any lookup: open the run and check its footer, block index and locator. VARVE_E_CORRUPT if they fail. */
int index_add_run(struct index *index, const struct run_meta *meta, varve_error *err);

/* T, K and Z may change at any time; the next merge decision uses them. */
void index_set_shape(struct index *index, uint32_t size_ratio, uint32_t runs_per_level, uint32_t runs_last_level);
/*
 * Memory for the next memtables, and for the block cache from now on. Levels stay sized by the memtable that the index was created with, so that no run is
 * on the wrong level.
 */
void index_set_memory(struct index *index, uint64_t memtable_bytes, uint64_t block_cache_bytes);
/* For the locators of the next runs. */
void index_set_fingerprint_bits(struct index *index, uint32_t fingerprint_bits);
/* Let the next merge decision look at all levels, not only at those that received a run: after the shape changed. By the tick. */
void index_look_at_levels(struct index *index);

/* Whether the active memtable has room for `count` pages; if not, rotate first. An empty one always has room for ENTRY_PAGES_MAX. */
bool index_has_room(const struct index *index, uint32_t count);
/* Copy the entry into the active memtable and make it visible. VARVE_OK or VARVE_E_NOMEM. */
int index_insert(struct index *index, const struct entry *entry);
/* Freeze the active memtable and start a new one. `mark` comes back in index_edit.flush_mark. VARVE_OK or VARVE_E_NOMEM. */
int index_rotate(struct index *index, void *mark);
/* Pages in the active memtable. */
uint64_t index_active_pages(const struct index *index);
/* Frozen memtables that wait for index_flush(). */
uint32_t index_frozen_count(struct index *index);

/* Write the oldest frozen memtable to a run and commit it. VARVE_MISS: there was none. On failure it stays frozen. */
int index_flush(struct index *index, varve_error *err);
/*
 * Carry on with the merge in progress, or begin the one that is due, for about `budget_bytes` of input. VARVE_OK: work was done;
 * VARVE_MISS: none is due. On failure the merge is abandoned, its output deleted, its inputs untouched. Blocks that failed
 * their checksum for several tries in a row are left out, and counted.
 */
int index_merge(struct index *index, uint64_t budget_bytes, varve_error *err);

/* The file number of the run that a merge in progress is writing, or 0. By the thread of index_merge(), or with it held off. */
uint64_t index_building_run(const struct index *index);

/* A snapshot: memtables and runs as they are now. Cheap. */
struct index_view *index_view_acquire(struct index *index);
void index_view_release(struct index_view *view);
/* Whether some reader may hold a snapshot that is not current any more, and with it the files of runs that were merged. */
bool index_has_old_views(struct index *index);

/*
 * A lookup that remembers where it was: finding the next page of a chain is a comparison, not a search. For one thread; small
 * enough for the stack. Holds at most one block of the cache.
 */
struct index_cursor {
    struct index_view *view;
    struct block_ref *block;      /* pinned block the entry lies in, or NULL */
    const struct mem_entry *node; /* the entry in a memtable, or NULL */
    struct entry entry;           /* valid when has_entry */
    uint32_t next_in_entry;       /* page index the chain is expected to go on at */
    uint32_t next_in_block;       /* byte offset in the block of the head of the entry after this one; 0: none */
    uint32_t next_page;           /* and its first page in the columns of the block */
    uint32_t next_sized_page;
    uint64_t state_segment; /* segment_state() of this segment was state */
    enum segment_state state;
    bool has_state;
    bool has_entry;
    bool unread; /* of the last lookup: a block that may hold the page could not be read */
    uint64_t lookups, locator_hits, locator_false_hits; /* added to the index's statistics by deinit */
    uint64_t searches, searches_found, searches_onward, locators_timed, locators_ns;
};

void index_cursor_init(struct index_cursor *cursor, struct index_view *view);
void index_cursor_deinit(struct index_cursor *cursor);

/*
 * Find a live page. true: *out is filled. Blocks that fail their checksum, or cannot be read, count as not holding the page; cursor->unread says
 * so. May read index blocks from the device.
 */
bool index_cursor_find(struct index_cursor *cursor, uint32_t ns_id, const varve_id *id, struct location *out);

/* What lies at a position of a branch: the pages of an entry, from its first one down to that position. */
struct index_slot {
    struct key first; /* the entry's */
    uint64_t parent_branch;
    uint32_t parent_depth;
    uint64_t segment;
    uint64_t offset, end; /* from where the first page begins to where the page at the position ends, padded */
};

/* A live entry that covers (ns_id, branch, depth). false: there is none. */
bool index_find_key(struct index_view *view, const struct key *key, struct index_slot *out);

/*
 * All entries of the view in key order, dead ones (segment or namespace gone) left out; removed pages are the caller's to filter.
 * Entries of equal location are given once.
 */
struct index_iter;
int index_iter_create(struct index_view *view, struct index_iter **out, varve_error *err);
/* VARVE_OK: *out is a view valid until the next call; VARVE_MISS: the end; VARVE_E_*: a block could not be read. */
int index_iter_next(struct index_iter *iter, struct entry *out, varve_error *err);
void index_iter_destroy(struct index_iter *iter);

/* The runs of the view, for the manifest's snapshot and for checks. Returns the count; fills at most `capacity`. */
size_t index_view_runs(struct index_view *view, struct run_meta *out, size_t capacity);

void index_stats_get(struct index *index, struct index_stats *out);
/* Read some block of the runs from the device, whatever the cache has. VARVE_OK; VARVE_MISS: there is none; a code, as of a lookup's. */
int index_read_any(struct index *index, uint64_t random);
/* How blocks were used since the last call. */
struct reuse_sample;
void index_reuse_take(struct index *index, struct reuse_sample *out);
/* Bytes of a level of number 0, T times which level 1 may hold; see level.h. */
uint64_t index_level_base(const struct index *index);
/* Of runs: flushes and merges. */
uint64_t index_bytes_written(const struct index *index);

#endif
