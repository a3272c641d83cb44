/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index of the engine `hashlog`: an open hash table of 32 bytes an entry, all in memory, saved as a whole to a file. What a log needs when it has no LSM
 * tree, and as fast as that can be; it costs memory for every page, and time for every page at each open and save.
 *
 * Not thread-safe: the caller locks. Ids are told apart by their first 16 bytes, as in varve's index; the checksum covers all of them.
 */
#ifndef VARVE_TOOLS_ENGINES_HASH_INDEX_H
#define VARVE_TOOLS_ENGINES_HASH_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"

/* As in memory and in the file. */
struct hash_entry {
    uint8_t id_prefix[ID_PREFIX_BYTES];
    uint64_t checksum;    /* hash_page() */
    uint64_t offset : 37; /* in the log, in units of 512 bytes; 0: the entry is empty */
    uint64_t size : 27;
};

#define HASH_OFFSET_UNIT 512
#define HASH_OFFSET_MAX  (((uint64_t)1 << 37) - 1)
#define HASH_SIZE_MAX    (((uint64_t)1 << 27) - 1)

struct hash_index {
    struct hash_entry *entries;
    size_t capacity; /* a power of two */
    size_t count;
};

/* VARVE_OK or VARVE_E_NOMEM. */
int hash_index_init(struct hash_index *index);
void hash_index_deinit(struct hash_index *index);

/* Bring the place of an id into the processor's cache, for a lookup soon. */
void hash_index_prefetch(const struct hash_index *index, const varve_id *id);

/* NULL: not there. Valid until the next insert. */
const struct hash_entry *hash_index_find(const struct hash_index *index, const varve_id *id);

/* Room for `count` entries more, so that inserts cannot fail. VARVE_OK or VARVE_E_NOMEM. */
int hash_index_reserve(struct hash_index *index, size_t count);
/* Where the id is there already, nothing changes. */
void hash_index_insert(struct hash_index *index, const struct hash_entry *entry);

/*
 * All entries and `log_end` in one piece of memory for a file, to be freed with free(). NULL: out of memory.
 */
uint8_t *hash_index_save(const struct hash_index *index, uint64_t log_end, size_t *size);
/* The other way, into an empty index. VARVE_OK, VARVE_E_CORRUPT or VARVE_E_NOMEM. */
int hash_index_load(struct hash_index *index, const uint8_t *image, size_t size, uint64_t *log_end);

#endif
