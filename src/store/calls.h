/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calls.h - the calls of varve.h as the process that owns the store does them, for its own callers and for its peers. Arguments are checked already:
 * src/api/calls.c. What each returns is said in varve.h.
 */
#ifndef VARVE_STORE_CALLS_H
#define VARVE_STORE_CALLS_H

#include "store/store.h"

int store_put_batch(varve_store *store, varve_namespace *ns, const varve_id *parent, varve_page *pages, size_t count,
                    unsigned flags);
/* After a put: what it left to do is done in the background. */
void store_put_done(varve_store *store);
int store_get_batch(varve_store *store, varve_namespace *ns, varve_page *pages, size_t count, varve_error *err);
/* `speed` is read once, by the caller: prefixes must not get cheaper with length. */
int64_t store_probe(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count,
                    const struct read_speed *speed, varve_estimate *estimate);
void store_exists_batch(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, uint8_t *exists);
int64_t store_touch(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count);
int64_t store_remove_batch(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count,
                           varve_error *err);
int64_t store_pin(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, varve_error *err);
int64_t store_unpin(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count);
int store_namespace_open(varve_store *store, const char *name, const varve_namespace_attributes *attributes,
                         varve_namespace **out, varve_error *err);
int store_namespace_clear(varve_store *store, varve_namespace *ns, varve_error *err);
int store_limits_set(varve_store *store, varve_namespace *ns, const varve_namespace_limits *limits, varve_error *err);
int store_option_set(varve_store *store, const char *name, const char *value, varve_error *err);

/* The iteration of varve.h; ns_id: 0: all namespaces. */
struct store_iter;
int store_iter_open(varve_store *store, uint32_t ns_id, enum varve_iter_kind kind, struct store_iter **out,
                    varve_error *err);
int store_iter_next(struct store_iter *iter, varve_item *item, varve_error *err);
void store_iter_close(struct store_iter *iter);

/* Who hears of a check while it goes on. */
struct check_listener {
    void (*problem)(void *arg, const char *text);               /* may be NULL */
    void (*progress)(void *arg, uint64_t done, uint64_t total); /* may be NULL; often enough to tell that it goes on */
    void *arg;
    bool stop; /* set by either: nobody listens any more, and the check fails with VARVE_E_TIMEOUT */
};
int store_check(varve_store *store, unsigned flags, struct check_listener *listener, varve_check_report *report,
                varve_error *err);

size_t store_control_log(varve_store *store, void (*line)(void *arg, const char *text), void *arg);
int64_t store_tune(varve_store *store, const varve_tune_mix *mix, varve_tune_row *rows, size_t room, varve_error *err);
/* One window of the trial. */
int store_tune_measure(varve_store *store, uint64_t round_ns, varve_error *err);

#endif
