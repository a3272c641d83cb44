/* SPDX-License-Identifier: Apache-2.0 */
/*
 * role.h - who owns the store: whoever has the directory's lock. All others are peers, until the owner is gone and one of them gets the lock.
 */
#ifndef VARVE_PEER_ROLE_H
#define VARVE_PEER_ROLE_H

#include "store/store.h"

/* As varve_open(), in env, which is taken over on success. */
int role_open(struct env *env, const varve_options *options, varve_store **out, varve_error *err);

/* Of a peer, now and then while it calls nothing: if the owner is gone, find the next, or be it. */
void role_tend(varve_store *store);

/* As varve_close(). */
int role_close(varve_store *store, varve_error *err);

/* Free the store as if the process had died, whatever its role: store_abandon(). For tests. */
void role_abandon(varve_store *store);

static inline bool
role_is_owner(const varve_store *store)
{
    return atomic_load_explicit(&store->role, memory_order_acquire) == ROLE_OWNER;
}

/* One call of varve.h, which may be repeated. */
struct role_retry {
    unsigned tries;
    uint64_t epoch; /* of the owner that was asked last */
};

uint64_t role_epoch(varve_store *store);

/* Whether this process is the owner, to do the call itself. Else a peer's try of it begins. */
static inline bool
role_owns(varve_store *store, struct role_retry *retry)
{
    if (role_is_owner(store))
        return true;
    retry->epoch = role_epoch(store);
    return false;
}

/*
 * Whether a call of a peer that ended with *rc is to be repeated: there is an owner again, or this process is it, or the namespace (NULL: none) has a new number. If
 * not, *rc is what to tell the caller: VARVE_E_TIMEOUT where it was neither.
 */
bool role_again(varve_store *store, varve_namespace *ns, int64_t *rc, struct role_retry *retry);

#endif
