/* SPDX-License-Identifier: Apache-2.0 */
/* Iteration, by the owner itself, or with the owner's rows, some hundred at a time. */
#include "api/arguments.h"
#include "base/error.h"
#include "peer/peer_reports.h"
#include "peer/role.h"
#include "store/calls.h"

struct varve_iter {
    varve_store *store;
    struct store_iter *own;  /* either this */
    struct peer_iter *asked; /* or that */
};

static int
open_iter(varve_iter *iter, varve_namespace *ns, enum varve_iter_kind kind, varve_error *err)
{
    varve_store *store = iter->store;
    struct role_retry retry = {0};
    int64_t rc;

    do {
        uint32_t ns_id = ns == NULL ? 0 : atomic_load_explicit(&ns->ns_id, memory_order_acquire);

        if (role_owns(store, &retry))
            return store_iter_open(store, ns_id, kind, &iter->own, err);
        rc = peer_iter_open(store, ns_id, kind, &iter->asked, err);
    } while (role_again(store, ns, &rc, &retry));
    return arguments_fail(rc, err);
}

int
varve_iter_open(varve_store *store, varve_namespace *ns, enum varve_iter_kind kind, varve_iter **out, varve_error *err)
{
    int rc = arguments_check_store(store,
                                   out != NULL && (ns == NULL || ns->store == store) && kind >= VARVE_ITER_NAMESPACES &&
                                       kind <= VARVE_ITER_PAGES,
                                   "varve_iter_open: a store, one of its namespaces or NULL, and a kind", err);
    varve_iter *iter;

    if (rc != VARVE_OK)
        return rc;
    iter = env_zalloc(store->env, sizeof(*iter));
    if (iter == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    iter->store = store;
    rc = open_iter(iter, ns, kind, err);
    if (rc == VARVE_OK)
        *out = iter;
    else
        env_free(store->env, iter);
    return rc;
}

void
varve_iter_close(varve_iter *iter)
{
    if (iter == NULL)
        return;
    store_iter_close(iter->own);
    peer_iter_close(iter->asked);
    env_free(iter->store->env, iter);
}

int
varve_iter_next(varve_iter *iter, varve_item *item, varve_error *err)
{
    int rc =
        arguments_check_store(iter == NULL ? NULL : iter->store, item != NULL && item->struct_size >= sizeof(*item),
                              "varve_iter_next: an iterator and VARVE_ITEM_INIT", err);

    if (rc != VARVE_OK)
        return rc;
    return iter->own != NULL ? store_iter_next(iter->own, item, err) : peer_iter_next(iter->asked, item, err);
}
