/* SPDX-License-Identifier: Apache-2.0 */
/* arguments.h - what the calls of varve.h check first, and what they say when they could not be done. Inline: the analyzer has to see what holds after them. */
#ifndef VARVE_API_ARGUMENTS_H
#define VARVE_API_ARGUMENTS_H

#include "base/error.h"
#include "store/pages.h"
#include "store/store.h"

/* In a child of the process that opened the store nothing of it runs, and its lock and connections are the parent's. */
static inline bool
arguments_is_forked(const varve_store *store)
{
    return store->env->alive != NULL && *store->env->alive == 0;
}

/* VARVE_OK, or why not: no store, or `arguments` does not hold, which `what` says in words; or the store was opened before fork(). */
static inline int
arguments_check_store(const varve_store *store, bool arguments, const char *what, varve_error *err)
{
    if (store == NULL || !arguments)
        return error_set(err, VARVE_E_ARG, "%s must be given", what);
    if (arguments_is_forked(store))
        return error_set(err, VARVE_E_ARG, "the store was opened before fork(): open it in the child instead");
    return VARVE_OK;
}

/* The same of a call on the pages, or their ids, of a namespace. */
static inline int
arguments_check_pages(const varve_store *store, const varve_namespace *ns, const void *items, size_t count,
                      varve_error *err)
{
    int rc = pages_check_call(store, ns, items, count, err);

    return rc == VARVE_OK ? arguments_check_store(store, true, "a store", err) : rc;
}

/* The code of a call that failed; VARVE_E_TIMEOUT in words. */
static inline int
arguments_fail(int64_t rc, varve_error *err)
{
    if (rc == VARVE_E_TIMEOUT)
        return error_set(err, VARVE_E_TIMEOUT,
                         "the process that owns the store does not answer: see the file LOCK in it");
    return (int)rc;
}

#endif
