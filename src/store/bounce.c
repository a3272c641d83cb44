/* SPDX-License-Identifier: Apache-2.0 */
#include "store/bounce.h"

#include <assert.h>

#include "env/io.h"

#define ALL_TAKEN  ((1u << BOUNCE_SLOTS) - 1)
#define FEW_PIECES 8 /* cost no more than copying saves */

bool
bounce_pays(const struct env *env, uint64_t bytes, uint64_t pieces, uint64_t piece_bytes)
{
    return env->direct_io && pieces > FEW_PIECES && bytes / pieces < piece_bytes;
}

void
bounce_begin(struct bounce *bounce, struct buffers *memory, uint64_t slot_bytes)
{
    slot_bytes = (slot_bytes + IO_ALIGN_MAX - 1) & ~(uint64_t)(IO_ALIGN_MAX - 1);
    if (bounce->memory != NULL && bounce->slot_bytes != slot_bytes)
        bounce_end(bounce);
    bounce->memory = memory;
    bounce->slot_bytes = slot_bytes;
}

bool
bounce_is_full(const struct bounce *bounce)
{
    return bounce->taken == ALL_TAKEN;
}

uint8_t *
bounce_take(struct bounce *bounce)
{
    uint64_t bytes = bounce->slot_bytes * BOUNCE_SLOTS;
    unsigned slot = 0;

    assert(bounce->slot_bytes > 0 && !bounce_is_full(bounce));
    if (bounce->block.memory == NULL)
        bounce->block = buffers_acquire(bounce->memory, (bytes + BOUNCE_ALIGN - 1) & ~(uint64_t)(BOUNCE_ALIGN - 1));
    if (bounce->block.memory == NULL)
        return NULL;
    while ((bounce->taken >> slot & 1) != 0)
        slot++;
    bounce->taken |= 1u << slot;
    return bounce->block.memory + slot * bounce->slot_bytes;
}

void
bounce_give_back(struct bounce *bounce, const uint8_t *slot)
{
    uint32_t bit;

    if (slot == NULL)
        return;
    bit = 1u << (uint64_t)(slot - bounce->block.memory) / bounce->slot_bytes;
    assert((bounce->taken & bit) != 0);
    bounce->taken &= ~bit;
}

void
bounce_end(struct bounce *bounce)
{
    assert(bounce->taken == 0);
    if (bounce->block.memory != NULL)
        buffers_release(bounce->memory, bounce->block);
    bounce->block = (struct buffer){NULL, 0};
}
