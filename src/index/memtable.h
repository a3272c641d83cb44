/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memtable.h - the entries not yet in a run: ordered by key (a skip list) and found by page id (a hash table).
 *
 * Only grows: nothing is moved or freed before the whole table is. Hence readers take no lock. An entry exists for
 * readers from the moment its `published` flag is set, all its pages at once.
 *
 * Threads: one writer (insert, has_room); any number of readers at the same time; reference-counted.
 */
#ifndef VARVE_INDEX_MEMTABLE_H
#define VARVE_INDEX_MEMTABLE_H

#include <stdatomic.h>

#include "env/env.h"
#include "index/entry.h"

#define MEMTABLE_STAGES 3

struct mem_entry {
    struct entry entry; /* its arrays lie behind the links, in the same piece of memory */
    atomic_bool published;
    uint32_t height;
    _Atomic(struct mem_entry *) next[]; /* height links */
};

/* One hash table of fixed size. A slot is tag << 42 | page << 32 | place; 0: empty. */
struct mem_stage {
    _Atomic(_Atomic(uint64_t) *) slots; /* NULL until the stage is begun */
    uint64_t slot_count;
    uint64_t pages_max;
    uint64_t pages; /* the writer's */
};

struct memtable {
    struct env *env;
    atomic_uint refs;
    void *mark;                 /* set when it is frozen, before that is visible */
    struct mem_entry *head;     /* of full height, holds no entry */
    _Atomic(uint8_t *) *chunks; /* arena: chunk_max pointers, filled one after the other */
    uint32_t chunk_shift;       /* log2 of the bytes of a chunk */
    uint32_t chunk_max;
    uint32_t chunk_count;                     /* the writer's */
    uint32_t stage_current;                   /* the writer's: pages go there */
    uint64_t chunk_used;                      /* the writer's: bytes used of the last chunk */
    uint64_t random;                          /* the writer's: tower heights */
    struct mem_stage stages[MEMTABLE_STAGES]; /* each 8 times as large as the one before */
    _Atomic(uint64_t) pages;
    _Atomic(uint64_t) entries;
    _Atomic(uint64_t) memory_bytes;
    _Atomic(uint32_t) entry_pages_max; /* of any entry: how far before a key an entry that covers it may begin */
};

/* `bytes` bounds its memory (at least MEMTABLE_BYTES_MIN are taken as the bound). One reference is the caller's. */
#define MEMTABLE_BYTES_MIN ((uint64_t)128 << 10)
int memtable_create(struct env *env, uint64_t bytes, struct memtable **out);
void memtable_ref(struct memtable *memtable);
void memtable_unref(struct memtable *memtable);

bool memtable_has_room(const struct memtable *memtable, uint32_t count);
/* Copy the entry in. VARVE_OK, or VARVE_E_NOMEM: no room, or no memory; the table is then as it was. */
int memtable_insert(struct memtable *memtable, const struct entry *entry);

/* In key order. first and seek give NULL where there is none; seek gives the first entry that is not before the key. */
const struct mem_entry *memtable_first(const struct memtable *memtable);
const struct mem_entry *memtable_seek(const struct memtable *memtable, const struct key *key);
const struct mem_entry *memtable_next(const struct mem_entry *node);

/* All entries that hold a page id, one after the other. */
struct memtable_probe {
    const struct memtable *memtable;
    uint64_t hash;
    uint64_t slot;
    uint64_t slots_left;
    int stage; /* counts down; -1: done */
};

void memtable_prefetch(const struct memtable *memtable, uint64_t hash);
void memtable_probe_init(struct memtable_probe *probe, const struct memtable *memtable, uint64_t hash);
/* The next entry that holds the page, and the page's index in it; NULL: no more. */
const struct mem_entry *memtable_probe_next(struct memtable_probe *probe, uint32_t ns_id,
                                            const uint8_t id_prefix[ID_PREFIX_BYTES], uint32_t *page);

#endif
