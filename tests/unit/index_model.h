/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index_model.h - an index with everything around it, for tests: a plain env, hooks that count, a manifest in memory,
 * and pages whose ids and places follow from (namespace, branch, depth, copy), so that any answer can be checked.
 */
#ifndef VARVE_TESTS_INDEX_MODEL_H
#define VARVE_TESTS_INDEX_MODEL_H

#include <stdatomic.h>

#include "index/index.h"
#include "plain_env.h"

#define MODEL_SEGMENTS   64
#define MODEL_NAMESPACES 4
#define MODEL_RUNS_MAX   256

struct model {
    struct plain_env *env;
    struct io_queue_pool *pool;
    struct index *index;
    struct index_settings settings;
    struct index_hooks hooks;
    _Atomic(int) segment_state[MODEL_SEGMENTS]; /* enum segment_state */
    atomic_bool ns_dead[MODEL_NAMESPACES];
    atomic_bool commit_fails;
    atomic_bool space_refused;
    _Atomic(uint64_t) space;              /* taken and not given back */
    _Atomic(uint64_t) file_number;        /* last one given */
    _Atomic(uint64_t) removed_modulus;    /* pages whose offset / 4096 is a multiple of it are removed; 0: none */
    struct run_meta runs[MODEL_RUNS_MAX]; /* the manifest */
    size_t run_count;
    void *last_mark;
};

/* splitmix64: a stream of random numbers from a seed. */
uint64_t model_random(uint64_t *state);
/* The test's seed: $VARVE_TEST_SEED, or the clock; printed. */
uint64_t model_seed(void);

struct index_settings model_settings(void);
void model_open(struct model *model, const struct index_settings *settings, const char *parent);
/* Forget all but the files and the manifest, and open those. Memtables are lost. */
void model_reopen(struct model *model);
/*
 * Closes the index, and checks that all capacity that is still taken lies in the manifest's runs, and that no other
 * file is left.
 */
void model_close(struct model *model);

/* Flush all frozen memtables and merge until nothing is due. */
void model_settle(struct model *model);

/* The id of a page. */
varve_id model_id(uint32_t ns_id, uint64_t branch, uint32_t depth);

/* An entry with room for its arrays. */
struct model_entry {
    struct entry entry;
    uint8_t ids[ENTRY_PAGES_MAX * ID_PREFIX_BYTES];
    uint8_t sums[ENTRY_PAGES_MAX * 8];
    uint8_t sizes[ENTRY_PAGES_MAX * 4];
};

/* Stored size and checksum of a page; the checksum tells namespace, branch, depth and segment. */
uint32_t model_page_size(uint64_t branch, uint32_t depth, bool sized);
uint64_t model_sum(const struct key *key, uint64_t segment);

/* Pages `depth`... of a branch, at `offset` of `segment`; every third branch has pages of different sizes. */
void model_fill(struct model_entry *out, const struct key *key, uint32_t count, uint64_t segment, uint64_t offset);
/* The same for pages of one given size. */
void model_fill_uniform(struct model_entry *out, const struct key *key, uint32_t count, uint64_t segment,
                        uint64_t offset, uint32_t page_bytes);

/* Insert, rotating when the memtable is full. */
void model_insert(struct model *model, const struct entry *entry);

#endif
