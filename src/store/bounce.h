/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bounce.h - memory that reads and writes go through where they cannot, or should not, go to the pages' buffers themselves: those are not aligned, or in many
 * small pieces. A virtual disk takes about 3 us for each piece of memory that does not go on where the one before ended; to copy 8 KiB takes one.
 *
 * A call has a few slots, in huge pages, which are one piece each. The lowest free one is used next, so that a long call stays in the processor's caches: with
 * memory for all of a call of 4 MiB, gets had 60 % of the speed. The store keeps the memory for the next call. A `struct bounce` belongs to one call and its thread.
 */
#ifndef VARVE_STORE_BOUNCE_H
#define VARVE_STORE_BOUNCE_H

#include <stdbool.h>
#include <stdint.h>

#include "codec/buffers.h"

struct env;

#define BOUNCE_SLOTS 8
#define BOUNCE_ALIGN ((size_t)2 << 20) /* from which on env->alloc gives huge pages */

struct bounce {
    struct buffers *memory; /* the store's */
    struct buffer block;    /* taken with the first slot */
    uint64_t slot_bytes;
    uint32_t taken; /* a bit a slot */
};

/* Whether `bytes` in `pieces` are better copied, where that pays for pieces smaller than `piece_bytes`: never where the kernel copies anyway. */
bool bounce_pays(const struct env *env, uint64_t bytes, uint64_t pieces, uint64_t piece_bytes);

/* How large a slot is, with none taken. */
void bounce_begin(struct bounce *bounce, struct buffers *memory, uint64_t slot_bytes);
/* Whether all slots are taken: then wait for one that is given back. */
bool bounce_is_full(const struct bounce *bounce);
/* A slot, at a multiple of IO_ALIGN_MAX, while it is not full. NULL: there is no memory. */
uint8_t *bounce_take(struct bounce *bounce);
/* NULL is a no-op. */
void bounce_give_back(struct bounce *bounce, const uint8_t *slot);
/* With none taken. */
void bounce_end(struct bounce *bounce);

#endif
