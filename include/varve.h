/* SPDX-License-Identifier: Apache-2.0 */
/*
 * varve.h - an embedded store for the KV-cache pages of LLM serving engines.
 *
 * This header is the specification. Words (page, page id, chain, namespace, branch, extent, segment, run) are
 * defined in DESIGN.md, section "Words".
 *
 * CAVEATS, read these first
 *  - It is a cache. A page that was put may be gone later: the store drops the least recently used pages to stay under
 *    `capacity`. It never returns bytes other than those that were put under the same id and namespace.
 *  - Pages are immutable. The id must commit to the content (a digest of the token prefix). Putting an id that is
 *    stored already is a no-op, even if the bytes differ.
 *  - An acknowledged put survives a killed process at once, and a power failure after the next completed sync: by default
 *    within a second; see `sync_interval_ms`, VARVE_PUT_SYNC and varve_sync().
 *  - Any number of processes of one user may open a directory. The first owns the store; the others are its peers, and one of them takes over when it is
 *    gone (docs/sharing.md). With the option `share` off a second varve_open() gets VARVE_E_LOCKED.
 *  - A store is not usable in a child after fork(): every call there that returns a status fails with VARVE_E_ARG. Open it there instead.
 *  - A failed fsync is final: from then on the store serves reads that verify, refuses writes with VARVE_E_READONLY, and
 *    must be reopened.
 *  - Local file systems only (ext4, xfs, tmpfs, ...). Network file systems do not keep the promises above.
 *
 * CONVENTIONS
 *  - Functions return VARVE_OK (0) or a negative enum varve_status, unless said otherwise. A miss is a page's
 *    status, never an error of the call. One bad page never fails its neighbours.
 *  - `err` may be NULL; otherwise it is caller-owned and filled when the call fails.
 *  - Sizes are bytes and counts are counts; nothing is rounded.
 *  - Every function may be called from any number of threads at once unless it says otherwise. Calls that do I/O say "blocks
 *    on the device"; no lock is held across that I/O.
 *  - The library keeps no process-global state and installs no signal handlers.
 *  - Structures that may grow begin with `struct_size`: set it with the initialiser given.
 */
#ifndef VARVE_H
#define VARVE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define VARVE_API __attribute__((visibility("default")))
#else
#define VARVE_API
#endif

#define VARVE_VERSION_MAJOR  0
#define VARVE_VERSION_MINOR  1
#define VARVE_VERSION_PATCH  0
#define VARVE_VERSION_NUMBER (VARVE_VERSION_MAJOR * 10000 + VARVE_VERSION_MINOR * 100 + VARVE_VERSION_PATCH)

#define VARVE_ID_BYTES           32                   /* a SHA-256 digest */
#define VARVE_PAGE_BYTES_MAX     ((uint64_t)64 << 20) /* 64 MiB */
#define VARVE_BATCH_PAGES_MAX    16384                /* pages a call */
#define VARVE_PAGE_IOV_MAX       256                  /* buffers a page: K and V of every layer of a large model */
#define VARVE_NAMESPACE_NAME_MAX 1023                 /* bytes, without the NUL */

typedef struct varve_store varve_store;         /* opaque */
typedef struct varve_namespace varve_namespace; /* opaque; belongs to its store, valid until varve_close() */
typedef struct varve_options varve_options;     /* opaque; made by varve_options_create() */
typedef struct varve_iter varve_iter;           /* opaque */

/* Codes lie below -1000, so they are never mistaken for a negative errno. */
enum varve_status {
    VARVE_OK = 0,
    VARVE_MISS = 1,        /* page status, or end of iteration: no such page. Not an error.                     */
    VARVE_SKIPPED = 2,     /* page status of a put: not stored on purpose. Not an error.                              */
    VARVE_E_ARG = -1001,   /* a bad argument: fix the caller                                                     */
    VARVE_E_NOMEM = -1002, /* out of memory: retry later, or lower memtable_bytes and block_cache_bytes           */
    VARVE_E_IO = -1003,    /* the device failed; os_errno says how. The page was not stored, or not read           */
    VARVE_E_NOSPC = -1004, /* the file system is full, or the page does not fit in `capacity`: free space or raise it */
    VARVE_E_CORRUPT = -1005,  /* a file of the store failed its checksum: run `varve check`                          */
    VARVE_E_VERSION = -1006,  /* written by a newer version, or its owner speaks another: use one version for all   */
    VARVE_E_LOCKED = -1007,   /* the store is in use, and not shared */
    VARVE_E_READONLY = -1008, /* an fsync failed, or the file system is read-only: fix the disk, reopen the store     */
    VARVE_E_NOSTORE = -1009,  /* the directory holds no store (and `create` is off, or it holds other files)         */
    VARVE_E_TIMEOUT = -1010,  /* the process that owns the store did not answer in `peer_timeout_ms`: try again later */
};

typedef struct varve_id {
    uint8_t bytes[VARVE_ID_BYTES];
} varve_id;

typedef struct varve_error {
    int code;          /* enum varve_status */
    int os_errno;      /* 0 unless the operating system said so */
    char message[240]; /* English, one line, NUL-terminated: what failed and what to do */
} varve_error;

/* Text of a status code ("VARVE_E_NOSPC: ..."); static storage, never NULL. Thread-safe. */
VARVE_API const char *varve_strerror(int code);

/* VARVE_VERSION_NUMBER of the library that is linked: compare it with the header's. */
VARVE_API int varve_version_number(void);

/*
 * Options. Every option has a name, a type, a default and a help text, all in one table that also makes the command's --help
 * and docs/tuning.md. Sizes take K, M, G, T suffixes (powers of 1024).
 */
typedef struct varve_option_desc {
    const char *name;
    const char *type; /* "size", "int", "bool", "enum: a|b|c", or "size|x": a size, or "0.5x", times the capacity */
    const char *default_value; /* as varve_options_set() takes it */
    const char *help;
    int live; /* 1: varve_option_set() may change it while the store is open */
} varve_option_desc;

/* The option at `index`, or NULL past the last. Static storage. */
VARVE_API const varve_option_desc *varve_option_describe(size_t index);

/* All defaults. NULL when out of memory. The caller owns it: varve_options_destroy(). */
VARVE_API varve_options *varve_options_create(void);
VARVE_API void varve_options_destroy(varve_options *options);

/* Set one option from text. VARVE_E_ARG names the nearest right name, or the range. Not thread-safe on one object. */
VARVE_API int varve_options_set(varve_options *options, const char *name, const char *value, varve_error *err);

/* The present value as text, written to buf with a NUL. VARVE_E_ARG: no such name, or buf_size too small (32 suffice). */
VARVE_API int varve_options_get(const varve_options *options, const char *name, char *buf, size_t buf_size);

/*
 * Open the store in directory `path`, creating it when it is absent or empty and the option `create` is on (the default).
 * `options` may be NULL for the defaults; it is copied. Blocks on the device: replays what was written since the last
 * index flush, and checks it.
 */
VARVE_API int varve_open(const char *path, const varve_options *options, varve_store **out, varve_error *err);

/*
 * Finish what is in flight, release the directory and free the store. The process that owns the store makes everything durable first; what another one
 * put is durable with the owner's next sync, or after varve_sync(). The caller must have stopped all other
 * calls on it and closed its iterators. The store is gone afterwards even when an error is returned (the last sync failed; what
 * a killed process keeps is kept). NULL is a no-op. Blocks on the device.
 */
VARVE_API int varve_close(varve_store *store, varve_error *err);

/* Return once every batch acknowledged before the call survives a power failure. Blocks on the device. */
VARVE_API int varve_sync(varve_store *store, varve_error *err);

/* Change a live option (varve_option_desc.live). Takes effect with the next decision it governs; rewrites nothing. Where
 * another process owns the store, it is that one's option, for all. */
VARVE_API int varve_option_set(varve_store *store, const char *name, const char *value, varve_error *err);

/*
 * Namespaces: pages that may be used for each other. The name must say all that makes KV bytes interchangeable (model, revision, dtype,
 * layout, page size, rank coordinates, pool).
 */
typedef struct varve_namespace_attributes {
    uint32_t struct_size;
    uint32_t element_type;    /* enum varve_element: what the bytes are; floats may be stored in fewer, losslessly */
    uint64_t page_bytes_hint; /* usual size of a page, 0 unknown */
} varve_namespace_attributes;

#define VARVE_NAMESPACE_ATTRIBUTES_INIT                                                                                \
    {                                                                                                                  \
        (uint32_t)sizeof(varve_namespace_attributes), VARVE_ELEMENT_BYTES, 0                                           \
    }

enum varve_element {
    VARVE_ELEMENT_BYTES = 0,
    VARVE_ELEMENT_BF16 = 1,
    VARVE_ELEMENT_FP16 = 2,
    VARVE_ELEMENT_FP32 = 3,
    VARVE_ELEMENT_FP8 = 4,
};

/*
 * Find or make the namespace `name` (1 to VARVE_NAMESPACE_NAME_MAX bytes). `attributes` (NULL: defaults) are recorded when it is made;
 * later ones are ignored. The handle belongs to the store. Blocks on the device only when it makes one.
 */
VARVE_API int varve_namespace_open(varve_store *store, const char *name, const varve_namespace_attributes *attributes,
                                   varve_namespace **out, varve_error *err);

/*
 * Forget every page of the namespace, for good, in O(1): the space comes back in the background. Pages put by calls that
 * overlap this one may or may not be forgotten. Blocks on the device for one small sync.
 */
VARVE_API int varve_namespace_clear(varve_store *store, varve_namespace *ns, varve_error *err);

/*
 * Limits of a namespace. The process that owns the store keeps them, for all that share it. They are not stored: set them again after each varve_open(); when
 * another process takes over, each repeats its own.
 */
typedef struct varve_namespace_limits {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t quota_bytes; /* what its pages take in the log, padding included, while they are kept; 0: no quota */
    uint64_t ttl_s;       /* seconds, at most 2^32; 0: pages do not expire */
} varve_namespace_limits;

#define VARVE_NAMESPACE_LIMITS_INIT                                                                                    \
    {                                                                                                                  \
        .struct_size = (uint32_t)sizeof(varve_namespace_limits)                                                        \
    }

/*
 * Set both limits. They go on when the namespace is cleared.
 *
 * Quota: of the namespace's pages the most recently used are kept, ends of chains going first, as in the whole store. The others are
 * given up when their segment is reclaimed; until then they may be found, and a use takes them back. In a large store the quota is kept to within
 * what is used in 1/16,000 of the time that the store reaches back to.
 *
 * Time to live: a page that no call has put, probed, read or touched for ttl_s is a miss from then on, and its space comes back. It is never
 * one sooner, and always at most 1/32 of ttl_s (and 1/16,000 of the time that the store reaches back to) later; a use counts from the beginning of
 * its call. varve_exists_batch() is not a use. To put an expired page again stores it again (the copy that is left is taken back: a page id has one
 * value for ever); naming it as a parent, or touching it, does not. Under a time to live nothing comes back that was given up: not for a quota, nor for capacity
 * either. Pages that are there when a time to live is set, after varve_open() too, count as used then. Pages of 0 bytes do not expire.
 *
 * Each namespace with limits takes 256 KiB of memory. Reads the index the first time after varve_open(). VARVE_OK, VARVE_E_ARG or VARVE_E_NOMEM: then
 * nothing has changed; VARVE_E_TIMEOUT: the process that owns the store did not answer, and may do it yet.
 */
VARVE_API int varve_namespace_limits_set(varve_store *store, varve_namespace *ns, const varve_namespace_limits *limits,
                                         varve_error *err);

/* One page of a batch. The caller fills id, iov and iov_count; the store fills status and size. */
typedef struct varve_page {
    varve_id id;
    const struct iovec *iov; /* the page's bytes, in order; may lie apart in memory (K and V); NULL with iov_count 0 */
    uint32_t iov_count;      /* at most VARVE_PAGE_IOV_MAX */
    int32_t status;          /* out: enum varve_status */
    uint64_t size;           /* out of get: bytes of the stored page, also when the buffers are too small */
} varve_page;

enum varve_put_flags {
    VARVE_PUT_SYNC = 1, /* durable against power failure on return */
};

/*
 * Store `count` (1 to VARVE_BATCH_PAGES_MAX) consecutive pages of one chain: each page's parent is the page before it in the array,
 * and pages[0]'s parent is `parent` (NULL: a root, or unknown). Right parents put a conversation's pages next to each other on disk;
 * wrong or unknown ones cost speed, never correctness.
 *
 * pages[i].status on return: VARVE_OK (stored, or was stored already), VARVE_E_ARG (page too large, bad iov), VARVE_E_NOSPC,
 * VARVE_E_IO, VARVE_E_READONLY, VARVE_E_NOMEM, VARVE_E_TIMEOUT (the process that owns the store did not answer; the page may be stored all the same). An id that occurs twice in the batch is stored once.
 * VARVE_SKIPPED: not stored, on purpose. In a store that is full: pages that could not be hit, since `parent` is given and not stored, or their chain is longer than
 * the store. With `write_budget`: of the new pages of a batch the first ones are stored, the fewer the less of the budget is left; none where pages[0] is
 * new and `parent` is given and not stored; and none after a page that failed. So, but for failing devices, no page is stored without the one
 * before it, and a batch is worth trying again later as a whole.
 *
 * Ownership: ids, iovecs and buffers stay the caller's and must not change until the call returns. Buffers whose address and
 *            length are multiples of varve_io_align() are written from directly; others are copied once.
 * Threads:   any number at once. Blocks on the device.
 * Returns:   VARVE_OK if the batch ran (look at the statuses); VARVE_E_ARG if nothing was attempted.
 */
VARVE_API int varve_put_batch(varve_store *store, varve_namespace *ns, const varve_id *parent, varve_page *pages,
                              size_t count, unsigned flags, varve_error *err);

/*
 * What loading a prefix would cost. Both arrays may be NULL; otherwise they have room for `count` entries and entry k
 * describes the prefix of k + 1 pages. Filled up to the pages found.
 */
typedef struct varve_estimate {
    uint32_t struct_size;
    uint32_t extents;         /* out: contiguous pieces the found prefix is stored in */
    uint64_t *prefix_bytes;   /* stored bytes to load, cumulative: of coded pages fewer than the pages have */
    uint64_t *prefix_time_us; /* estimated time to load, from bandwidth and latency measured on this store */
} varve_estimate;

#define VARVE_ESTIMATE_INIT                                                                                            \
    {                                                                                                                  \
        (uint32_t)sizeof(varve_estimate), 0, NULL, NULL                                                                \
    }

/*
 * The number of pages in the longest stored prefix of ids[0..count), at least 0, or a negative enum varve_status. ids are a
 * chain or a part of one, in order. `estimate` may be NULL. Touches what it finds. Memory only, but for index blocks that
 * are not in the block cache.
 */
VARVE_API int64_t varve_probe(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count,
                              varve_estimate *estimate, varve_error *err);

/* exists[i] = 1 if ids[i] is stored, else 0, for each on its own. Touches nothing. */
VARVE_API int varve_exists_batch(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count,
                                 uint8_t *exists, varve_error *err);

/*
 * Read pages into the caller's buffers. Every page is attempted. pages[i].status on return: VARVE_OK (bytes verified; `size` says how
 * many, the rest of the buffers is untouched), VARVE_MISS (not stored, or failed its checksum: the buffers may then hold anything),
 * VARVE_E_ARG (buffers smaller than the page: `size` says what is needed), VARVE_E_IO, VARVE_E_NOMEM.
 *
 * Neighbours on disk are read with one large read, so ask for a chain in one call and in order.
 * Ownership: as for varve_put_batch(). Threads: any number at once. Blocks on the device.
 * Returns:   VARVE_OK if the batch ran; VARVE_E_ARG if nothing was attempted.
 */
VARVE_API int varve_get_batch(varve_store *store, varve_namespace *ns, varve_page *pages, size_t count,
                              varve_error *err);

/* Mark pages as used now, leaf to root, without reading them. Returns the number of pages found, or a negative code. */
VARVE_API int64_t varve_touch(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count,
                              varve_error *err);

/* Forget pages for good. They can be put again. Returns the number that were there, or a negative code. */
VARVE_API int64_t varve_remove_batch(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count,
                                     varve_error *err);

/*
 * Keep pages: they are not given up for age, quota or time to live. Pins the longest stored prefix of ids[0..count), a chain or a part of
 * one in order, and with it the ancestors of ids[0] that are stored, so that what is pinned can be hit. Returns the number of pages of ids that are
 * pinned now (those that were before, included), at least 0, or a negative code. Counts as a use.
 *
 * All pins of the store together take at most `pin_bytes`, padding included, when they are made: the pages that exceed it, and those after them, are not pinned. When the
 * ancestors alone exceed it, nothing is. A page of 0 bytes cannot be pinned, and ends the prefix. Pins take part of a quota.
 *
 * A pin lasts until varve_unpin(), the page's removal, or the clearing of its namespace; there is no count of how often a page was pinned. It may be
 * lost where pages are lost at all: with a bad checksum, or when the file system is so full that nothing can be copied. After varve_open() pins of before may
 * hold or not: pin again what is to stay. May wait for a copy by reclaim of a few MiB.
 */
VARVE_API int64_t varve_pin(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count,
                            varve_error *err);

/*
 * Take pins back, of those of ids[0..count) that are stored, each on its own. They count as used now. Ancestors that a varve_pin() pinned unnamed stay so until
 * they are named here: other pins may need them. Returns the number of pages that were pinned, or a negative code.
 */
VARVE_API int64_t varve_unpin(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count,
                              varve_error *err);

/* What buffers and lengths should be multiples of so that no copy is made (512 to 4096). */
VARVE_API size_t varve_io_align(const varve_store *store);

/* One row of an iteration; unused fields are zero. Pointers are valid until the next call on the iterator. */
typedef struct varve_item {
    uint32_t struct_size;
    uint32_t depth;             /* first page's position on its chain (0 where the parent is unknown) */
    const char *namespace_name; /* NULL: the namespace was cleared since */
    uint64_t branch;
    uint64_t parent_branch; /* 0: a root, or the branch goes on */
    uint32_t parent_depth;
    uint32_t page_count;
    uint64_t bytes; /* payload as stored, without padding: of coded pages fewer than the pages have */
    uint64_t segment;
    uint64_t offset;       /* in the segment file */
    uint8_t id_prefix[16]; /* pages: the first 16 bytes of the page id */
    uint64_t checksum;     /* pages: XXH3-64, see docs/FORMAT.md */
} varve_item;

#define VARVE_ITEM_INIT                                                                                                \
    {                                                                                                                  \
        .struct_size = (uint32_t)sizeof(varve_item)                                                                    \
    }

enum varve_iter_kind {
    VARVE_ITER_NAMESPACES = 1, /* name, page_count and bytes of each */
    VARVE_ITER_BRANCHES = 2,   /* in key order: namespace, branch */
    VARVE_ITER_EXTENTS = 3,    /* in key order: namespace, branch, depth */
    VARVE_ITER_PAGES = 4,
};

/*
 * Iterate over a snapshot of the store, of one namespace or (ns NULL) of all. Pages that reclaim drops or moves meanwhile may be left out. An iterator keeps old files alive:
 * close it soon, and before the store. One iterator is for one thread at a time. Blocks on the device for index blocks. Of a peer it ends with VARVE_E_TIMEOUT where the
 * owner is lost, or was not asked for rows for a minute: begin anew.
 */
VARVE_API int varve_iter_open(varve_store *store, varve_namespace *ns, enum varve_iter_kind kind, varve_iter **out,
                              varve_error *err);
/* VARVE_OK: *item is filled. VARVE_MISS: the end. Negative: an error. */
VARVE_API int varve_iter_next(varve_iter *iter, varve_item *item, varve_error *err);
VARVE_API void varve_iter_close(varve_iter *iter);

/*
 * Token ids to page ids, byte for byte what SGLang computes (get_hash_str): id_i = SHA-256(id_{i-1} or nothing || the page's
 * token ids as little-endian uint32). `prior` is the id before tokens[0], or NULL at the root. Full pages only: writes
 * token_count / page_tokens ids. Returns that number, or a negative code. No store needed.
 */
VARVE_API int64_t varve_chain(const uint32_t *tokens, size_t token_count, size_t page_tokens, const varve_id *prior,
                              varve_id *ids);

/*
 * Load or recompute: which of the pages that a probe found to load, so that the first token comes soonest.
 *
 * The engine computes a token that has d tokens before it in token_us + d * depth_us microseconds. Either it loads pages [0, k) and then
 * computes the rest, or, with VARVE_PLAN_TAIL, it computes pages [0, first) while [first, first + count) are loaded, and then computes what
 * follows those. All and none are among the plans, so the plan's time is never above either.
 */
typedef struct varve_prefill {
    uint32_t struct_size;
    uint32_t page_tokens;   /* at least 1 */
    uint64_t tokens_before; /* of the prompt, before the first page: in the engine's memory already */
    uint64_t tokens_after;  /* of the prompt, after the last page: computed in any case */
    double token_us;
    double depth_us;
} varve_prefill;

#define VARVE_PREFILL_INIT                                                                                             \
    {                                                                                                                  \
        .struct_size = (uint32_t)sizeof(varve_prefill), .page_tokens = 1                                               \
    }

typedef struct varve_load_plan {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t first; /* out: load pages [first, first + count); 0 without VARVE_PLAN_TAIL */
    uint64_t count; /* out: 0: compute all */
    double ttft_us; /* out: expected time to the first token */
    double all_us;  /* out: the same if all pages were loaded */
    double none_us; /* out: the same if none were */
} varve_load_plan;

#define VARVE_LOAD_PLAN_INIT                                                                                           \
    {                                                                                                                  \
        .struct_size = (uint32_t)sizeof(varve_load_plan)                                                               \
    }

#define VARVE_PLAN_NEVER ((uint64_t)INT64_MAX)

enum varve_plan_flags {
    VARVE_PLAN_TAIL = 1, /* the engine can compute a head while the tail is loaded */
};

/*
 * prefix_time_us[k]: time to load the first k + 1 pages, as varve_probe() estimates it, never less than the entry before; VARVE_PLAN_NEVER
 * where loading may not end after page k (not with VARVE_PLAN_TAIL). `pages` may be 0. Of plans that take equally long, the one that loads
 * more. Returns VARVE_OK, or VARVE_E_ARG (times that fall, a cost that is negative or no number). No store needed; O(pages log pages).
 */
VARVE_API int varve_plan(const varve_prefill *prefill, const uint64_t *prefix_time_us, size_t pages, unsigned flags,
                         varve_load_plan *plan, varve_error *err);

/* Counters and gauges of the store, all of them uint64_t, in the order of varve_stat_describe(). */
typedef struct varve_stat_desc {
    const char *name;
    const char *help;
    int gauge; /* 1: may go down; 0: only grows while the store is open */
} varve_stat_desc;

/* The statistic at `index`, or NULL past the last. Static storage. */
VARVE_API const varve_stat_desc *varve_stat_describe(size_t index);

/* Fill values[0..count) with the first `count` statistics; returns how many there are. Never blocks on the device, but
 * asks the process that owns the store for gauges, where that is another: they are 0 where it does not answer. */
VARVE_API size_t varve_stats_get(varve_store *store, uint64_t *values, size_t count);

/*
 * The controller: what it decided, and what it makes of every configuration of the index. docs/controller.md.
 *
 * varve_control_log() calls `line` once for each of the last decisions, the oldest first, on the calling thread, with one line of text and the numbers it was taken on;
 * returns how many there were.
 */
VARVE_API size_t varve_control_log(varve_store *store, void (*line)(void *arg, const char *text), void *arg);

/* A mix of work, in rates a second. */
typedef struct varve_tune_mix {
    uint32_t struct_size;
    uint32_t reserved;
    double pages_put;  /* new pages */
    double walks;      /* probes and gets that find something */
    double misses;     /* page ids looked for and not there, the first of a probe or put above all */
    double walk_pages; /* found by one walk */
    double walk_turns; /* batches that these were put in, at times of their own; at least 1 */
} varve_tune_mix;

#define VARVE_TUNE_MIX_INIT                                                                                            \
    {                                                                                                                  \
        .struct_size = (uint32_t)sizeof(varve_tune_mix), .walk_turns = 1                                               \
    }

/* A configuration, and what the index is predicted to cost under it: seconds of threads and device for each second of the mix. */
typedef struct varve_tune_row {
    uint32_t size_ratio, runs_per_level, runs_last_level, fingerprint_bits; /* T, K, Z, least width of fingerprints */
    uint64_t memtable_bytes, block_cache_bytes;
    double cost; /* the sum of these: */
    double cost_reads, cost_locators, cost_flushes, cost_merges;
    int current; /* in force */
    int best;    /* the cheapest, unless that is the current one */
} varve_tune_row;

/*
 * Judge every configuration for `mix`, or, NULL, for the work of late, with what was measured on this store; the one in force comes first. Fills at most `room`
 * rows; returns how many there are, or a negative code. Changes nothing. Takes some milliseconds; memory only.
 */
VARVE_API int64_t varve_tune(varve_store *store, const varve_tune_mix *mix, varve_tune_row *rows, size_t room,
                             varve_error *err);

/*
 * Measure what reading a block and asking a locator cost here, and how often a locator errs, for so many seconds (60 at most), and let varve_tune() and the controller reckon with it. For
 * stores without traffic, which have measured nothing yet; flushes and merges are not tried. VARVE_OK; VARVE_MISS: there are no runs yet (they come with
 * the first flush, or a close). Blocks on the device; background work waits for a fiftieth of it at a time.
 */
VARVE_API int varve_tune_measure(varve_store *store, double seconds, varve_error *err);

/* What varve_check() found; `problem` is called once for each, with one line of text. */
typedef struct varve_check_report {
    uint32_t struct_size;
    uint32_t problems; /* 0: clean */
    uint64_t segments;
    uint64_t runs;
    uint64_t extents;
    uint64_t pages;
    uint64_t pages_verified; /* deep: payload read, checksum held */
    uint64_t bytes_verified;
} varve_check_report;

#define VARVE_CHECK_REPORT_INIT                                                                                        \
    {                                                                                                                  \
        .struct_size = (uint32_t)sizeof(varve_check_report)                                                            \
    }

enum varve_check_flags {
    VARVE_CHECK_DEEP = 1, /* read and verify every page, too */
};

/*
 * Compare the whole index with the log and the space accounts, and, deep, verify every stored byte. Reads everything it checks
 * from the device. `problem` (may be NULL) and `progress` (may be NULL; called now and then with pages done and pages in all)
 * run on the calling thread. Where a peer loses its owner meanwhile the check begins anew, and problems are told again. Returns VARVE_OK when the check ran, whatever it found.
 */
VARVE_API int varve_check(varve_store *store, unsigned flags, void (*problem)(void *arg, const char *text),
                          void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
                          varve_check_report *report, varve_error *err);

#ifdef __cplusplus
}
#endif
#endif /* VARVE_H */
