/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits.h - quota and time to live of a namespace: a heat_group, and what the clock was when.
 *
 * In a namespace with a time to live a page is served only while it is live: what died has no second life, and what recency does not know (there was no
 * memory for it) is dead. Every call there first lets die what has become too old, so that the answer does not depend on when the background last came
 * round; that does the same, for the sake of the space. Namespaces without one pay for a load of a word.
 *
 * Threads: any. struct limits is guarded by recency.lock, which is taken here; but ttl_ns is read without.
 */
#ifndef VARVE_STORE_LIMITS_H
#define VARVE_STORE_LIMITS_H

#include "index/entry.h"
#include "reclaim/ages.h"
#include "varve.h"

struct limits {
    uint64_t quota_bytes;    /* 0: none */
    _Atomic uint64_t ttl_ns; /* 0: none */
    struct ages ages;        /* where there is one */
};

/* A call on the namespace begins, which uses pages, or only looks for them. Whether it has a time to live. */
bool limits_begin(varve_namespace *ns, bool uses);
/* The same for all namespaces, in the background. */
void limits_tick(varve_store *store);

/*
 * Whether a page that was found, in a namespace with a time to live, may be served. Reclaim may have moved it since the view was made: then *location is where
 * it is now.
 */
bool limits_serve(varve_store *store, uint32_t ns_id, const varve_id *id, struct location *location);

/*
 * A namespace is cleared: its limits are those of another id from now on, and its pages dead. The first may fail, VARVE_E_NOMEM; after it one of the others:
 * the id has changed, or it will not. namespace_change held.
 */
int limits_clear_begin(varve_namespace *ns, uint32_t new_id);
void limits_clear_end(varve_namespace *ns, uint32_t old_id);
void limits_clear_cancel(varve_namespace *ns, uint32_t new_id);

#endif
