/* SPDX-License-Identifier: Apache-2.0 */
/*
 * join.h - one ordered stream of entries made tidy: parts of one extent become one entry again, and entries that are
 * there already occur once. What comes out is in key order, too. Pure but for its two buffers.
 *
 * Holds an entry back until the next one shows that it cannot grow, and remembers the one before that, so that a
 * repeat of either is seen.
 */
#ifndef VARVE_INDEX_JOIN_H
#define VARVE_INDEX_JOIN_H

#include "env/env.h"
#include "index/entry.h"

struct join {
    struct env *env;
    uint8_t *buffers[2]; /* arrays of held and of given */
    struct entry held;   /* count 0: none */
    struct entry given;  /* the one given last; count 0: none */
    uint64_t held_end;   /* offset after held's last page */
    uint64_t pages_repeated;
    uint32_t buffer; /* which one is held's */
};

int join_init(struct join *join, struct env *env);
void join_deinit(struct join *join);

/*
 * Put in the next entry, in key order; it is copied. true: *out is an entry that is complete, valid until the second
 * call of join_put() after this one, or join_end().
 */
bool join_put(struct join *join, const struct entry *entry, struct entry *out);
/* The last one. false: none. */
bool join_end(struct join *join, struct entry *out);

#endif
