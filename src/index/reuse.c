/* SPDX-License-Identifier: Apache-2.0 */
/* See reuse.h. */
#include "index/reuse.h"

#include <stdbool.h>
#include <string.h>

#define BUCKET_DEPTH (REUSE_DEPTH / REUSE_BUCKETS)

void
reuse_init(struct reuse *reuse, uint64_t blocks_max)
{
    memset(reuse, 0, sizeof(*reuse));
    atomic_flag_clear(&reuse->busy);
    while (reuse->shift < 32 && (uint64_t)REUSE_DEPTH << reuse->shift < blocks_max)
        reuse->shift++;
}

static bool
is_sampled(const struct reuse *reuse, uint64_t hash)
{
    return (hash >> 32 & ((UINT64_C(1) << reuse->shift) - 1)) == 0;
}

void
reuse_note(struct reuse *reuse, uint64_t hash)
{
    uint32_t depth = 0;

    if (!is_sampled(reuse, hash) || atomic_flag_test_and_set_explicit(&reuse->busy, memory_order_acquire))
        return;
    while (depth < reuse->used && reuse->stack[depth] != hash)
        depth++;
    reuse->uses++;
    if (depth < reuse->used)
        reuse->found[depth / BUCKET_DEPTH]++;
    else if (reuse->used < REUSE_DEPTH)
        reuse->used++;
    else
        depth--;
    memmove(reuse->stack + 1, reuse->stack, depth * sizeof(reuse->stack[0]));
    reuse->stack[0] = hash;
    atomic_flag_clear_explicit(&reuse->busy, memory_order_release);
}

void
reuse_take(struct reuse *reuse, struct reuse_sample *out)
{
    *out = (struct reuse_sample){.step_blocks = (uint64_t)BUCKET_DEPTH << reuse->shift};
    if (atomic_flag_test_and_set_explicit(&reuse->busy, memory_order_acquire))
        return; /* the next call has it */
    out->uses = reuse->uses;
    memcpy(out->found, reuse->found, sizeof(out->found));
    reuse->uses = 0;
    memset(reuse->found, 0, sizeof(reuse->found));
    atomic_flag_clear_explicit(&reuse->busy, memory_order_release);
}
