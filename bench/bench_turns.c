/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_turns.h"

#include <stdlib.h>
#include <string.h>

#include "random.h"

#define TURN_PAGES_MIN 8
#define TURN_PAGES_MAX 24
#define PAGE_BYTES     16384
#define ALIGN_SHIFT    12
#define HEADER_BYTES   4096 /* of an extent, in the log */
#define SEGMENT_BYTES  ((uint64_t)256 << 20)
#define SEGMENT_PAGES  8192 /* fewer than fit: what calls write, by the chains they begin at, does not overlap */

struct turns {
    struct bench_index *bench;
    enum turns_kind kind;
    uint64_t seed;
    uint64_t log_end; /* the next extent goes there: SEGMENT_BYTES a segment */
    struct {
        uint64_t chain;
        uint32_t depth; /* pages it has */
    } * open;           /* chains that still grow */
    uint8_t ids[TURN_PAGES_MAX * ID_PREFIX_BYTES];
    uint8_t sums[TURN_PAGES_MAX * 8];
};

struct key
turns_hash_key(const uint8_t id[ID_PREFIX_BYTES])
{
    uint64_t word;

    memcpy(&word, id, sizeof(word));
    return (struct key){.ns_id = TURNS_NAMESPACE, .branch = __builtin_bswap64(word)};
}

/* `count` pages of the turn, from `first` on, as one extent of the log, its header in front. */
static void
insert_extent(struct turns *turns, struct key key, uint32_t first, uint32_t count)
{
    uint64_t bytes = HEADER_BYTES + (uint64_t)count * PAGE_BYTES;

    if (turns->log_end % SEGMENT_BYTES + bytes > SEGMENT_BYTES)
        turns->log_end = (turns->log_end / SEGMENT_BYTES + 1) * SEGMENT_BYTES;
    bench_index_insert(turns->bench, &(struct entry){.key = key,
                                                     .count = count,
                                                     .segment = 1 + turns->log_end / SEGMENT_BYTES,
                                                     .offset = turns->log_end % SEGMENT_BYTES + HEADER_BYTES,
                                                     .page_bytes = PAGE_BYTES,
                                                     .align_shift = ALIGN_SHIFT,
                                                     .ids = turns->ids + (size_t)first * ID_PREFIX_BYTES,
                                                     .sums = turns->sums + (size_t)first * 8});
    turns->log_end += bytes;
}

static void
insert_turn(struct turns *turns, uint64_t chain, uint32_t depth, uint32_t count)
{
    struct key key = {TURNS_NAMESPACE, depth, chain + 1};

    for (uint32_t i = 0; i < count; i++) {
        varve_id id = ablation_page_id(turns->seed, chain, depth + i);

        memcpy(turns->ids + (size_t)i * ID_PREFIX_BYTES, id.bytes, ID_PREFIX_BYTES);
        memcpy(turns->sums + (size_t)i * 8, id.bytes + ID_PREFIX_BYTES, 8); /* as random as a checksum */
    }
    if (turns->kind == TURNS_EXTENTS) {
        insert_extent(turns, key, 0, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++, key.depth++)
        insert_extent(turns,
                      turns->kind == TURNS_HASH_ORDER ? turns_hash_key(turns->ids + (size_t)i * ID_PREFIX_BYTES) : key,
                      i, 1);
}

void
turns_insert(struct bench_index *bench, enum turns_kind kind, uint64_t first, uint64_t end,
             const struct ablation_settings *settings)
{
    struct turns turns = {.bench = bench,
                          .kind = kind,
                          .seed = settings->seed,
                          .log_end = first * settings->chain / SEGMENT_PAGES * SEGMENT_BYTES};
    struct random random = random_make(settings->seed);
    size_t left = (size_t)(end - first);

    turns.open = calloc(left, sizeof(*turns.open));
    ablation_must(turns.open != NULL, "out of memory");
    for (size_t i = 0; i < left; i++)
        turns.open[i].chain = first + i;
    while (left > 0) {
        size_t at = (size_t)random_below(&random, left);
        uint32_t count = TURN_PAGES_MIN + (uint32_t)random_below(&random, TURN_PAGES_MAX - TURN_PAGES_MIN + 1);

        if (count > settings->chain - turns.open[at].depth)
            count = (uint32_t)settings->chain - turns.open[at].depth;
        insert_turn(&turns, turns.open[at].chain, turns.open[at].depth, count);
        turns.open[at].depth += count;
        if (turns.open[at].depth == settings->chain)
            turns.open[at] = turns.open[--left];
    }
    free(turns.open);
}
