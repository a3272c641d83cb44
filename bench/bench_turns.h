/* SPDX-License-Identifier: Apache-2.0 */
/* Pages for an index: chains that grow in turns, each turn a put, a random chain at a time, as conversations do. */
#ifndef VARVE_BENCH_BENCH_TURNS_H
#define VARVE_BENCH_BENCH_TURNS_H

#include "ablation.h"
#include "bench_index.h"

#define TURNS_NAMESPACE 1

/* How pages become entries. */
enum turns_kind {
    TURNS_EXTENTS,      /* a turn is one, under branch and depth */
    TURNS_SINGLE_PAGES, /* a page is one, under branch and depth, and stays one */
    TURNS_HASH_ORDER,   /* a page is one, under turns_hash_key() */
};

/* Insert chains [first, end), of settings->chain pages: chain c has the ids ablation_page_id(seed, c, 0...). Flushes happen on the way, the last one does not. */
void turns_insert(struct bench_index *bench, enum turns_kind kind, uint64_t first, uint64_t end,
                  const struct ablation_settings *settings);

/* The key that an id gives: its first 8 bytes, so that keys have the order of ids. */
struct key turns_hash_key(const uint8_t id[ID_PREFIX_BYTES]);

#endif
