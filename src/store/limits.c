/* SPDX-License-Identifier: Apache-2.0 */
#include "store/limits.h"

#include "base/error.h"
#include "store/calls.h"
#include "store/store.h"

#define SECOND_NS UINT64_C(1000000000)
#define TTL_S_MAX (UINT64_C(1) << 32) /* 136 years */

/* recency.lock held. */
static void
let_die(varve_namespace *ns, uint64_t now_ns)
{
    struct heat *heat = ns->store->recency.heat;
    struct ages *ages = &ns->limits.ages;
    uint32_t ns_id = atomic_load_explicit(&ns->ns_id, memory_order_acquire);
    uint64_t clock;

    if (ages_sample_due(ages, now_ns))
        ages_sample(ages, heat_group_mark(heat, ns_id));
    clock = ages_expired(ages, now_ns);
    if (clock > 0)
        heat_expire(heat, ns_id, clock);
}

bool
limits_begin(varve_namespace *ns, bool uses)
{
    varve_store *store = ns->store;
    uint64_t now_ns;
    bool expires;

    if (atomic_load_explicit(&ns->limits.ttl_ns, memory_order_acquire) == 0)
        return false;
    now_ns = store->env->ops->now_ns(store->env);
    mutex_lock(&store->recency.lock);
    expires = atomic_load_explicit(&ns->limits.ttl_ns, memory_order_relaxed) != 0; /* it may just have been lifted */
    if (expires)
        let_die(ns, now_ns);
    if (expires && uses)
        ages_use(&ns->limits.ages, now_ns);
    mutex_unlock(&store->recency.lock);
    return expires;
}

void
limits_tick(varve_store *store)
{
    varve_namespace *ns;

    if (atomic_load_explicit(&store->expiring, memory_order_relaxed) == 0)
        return;
    for (size_t i = 0;; i++) {
        mutex_lock(&store->namespace_lock);
        ns = i < store->namespace_count ? store->namespaces[i] : NULL;
        mutex_unlock(&store->namespace_lock);
        if (ns == NULL)
            return;
        (void)limits_begin(ns, false);
    }
}

bool
limits_serve(varve_store *store, uint32_t ns_id, const varve_id *id, struct location *location)
{
    struct location now = {.segment = 0};
    struct index_cursor cursor;
    struct index_view *view;
    bool moved;

    if (recency_is_live(store, location))
        return true;
    view = index_view_acquire(store->index);
    index_cursor_init(&cursor, view);
    moved = index_cursor_find(&cursor, ns_id, id, &now) &&
            (now.segment != location->segment || now.offset != location->offset);
    index_cursor_deinit(&cursor);
    index_view_release(view);
    if (!moved || !recency_is_live(store, &now))
        return false;
    *location = now;
    return true;
}

/* recency.lock held. */
static int
apply(varve_namespace *ns, uint64_t quota_bytes, uint64_t ttl_ns)
{
    varve_store *store = ns->store;
    struct heat *heat = store->recency.heat;
    uint32_t ns_id = atomic_load_explicit(&ns->ns_id, memory_order_acquire);
    bool expired = atomic_load_explicit(&ns->limits.ttl_ns, memory_order_relaxed) != 0;
    int rc = VARVE_OK;

    if (quota_bytes == 0 && ttl_ns == 0)
        heat_group_destroy(heat, ns_id);
    else
        rc = heat_group_create(heat, ns_id, quota_bytes == 0 ? UINT64_MAX : quota_bytes);
    if (rc != VARVE_OK)
        return rc;
    if (ttl_ns > 0 && !expired)
        ages_begin(&ns->limits.ages, ttl_ns, store->env->ops->now_ns(store->env), heat_group_mark(heat, ns_id));
    ns->limits.ages.ttl_ns = ttl_ns;
    ns->limits.quota_bytes = quota_bytes;
    atomic_store_explicit(&ns->limits.ttl_ns, ttl_ns, memory_order_release);
    if (ttl_ns > 0 && !expired)
        atomic_fetch_add_explicit(&store->expiring, 1, memory_order_relaxed);
    else if (ttl_ns == 0 && expired)
        atomic_fetch_sub_explicit(&store->expiring, 1, memory_order_relaxed);
    heat_age(heat);
    return VARVE_OK;
}

int
store_limits_set(varve_store *store, varve_namespace *ns, const varve_namespace_limits *limits, varve_error *err)
{
    int rc;

    if (limits->ttl_s > TTL_S_MAX)
        return error_set(err, VARVE_E_ARG, "a time to live of %llu s is none: 0 says so",
                         (unsigned long long)limits->ttl_s);
    rc = recency_complete(store, err); /* pages that are not known would be dead */
    if (rc != VARVE_OK)
        return rc;
    mutex_lock(&store->namespace_change); /* its id stays what it is */
    mutex_lock(&store->recency.lock);
    rc = apply(ns, limits->quota_bytes, limits->ttl_s * SECOND_NS);
    mutex_unlock(&store->recency.lock);
    mutex_unlock(&store->namespace_change);
    if (rc != VARVE_OK)
        return error_set(err, rc, "out of memory for the limits of a namespace");
    store_wake_background(store);
    return VARVE_OK;
}

int
limits_clear_begin(varve_namespace *ns, uint32_t new_id)
{
    varve_store *store = ns->store;
    uint64_t quota = ns->limits.quota_bytes;
    int rc = VARVE_OK;

    mutex_lock(&store->recency.lock);
    if (quota > 0 || atomic_load_explicit(&ns->limits.ttl_ns, memory_order_relaxed) > 0)
        rc = heat_group_create(store->recency.heat, new_id, quota == 0 ? UINT64_MAX : quota);
    mutex_unlock(&store->recency.lock);
    return rc;
}

void
limits_clear_end(varve_namespace *ns, uint32_t old_id)
{
    mutex_lock(&ns->store->recency.lock);
    heat_gone(ns->store->recency.heat, old_id);
    mutex_unlock(&ns->store->recency.lock);
}

void
limits_clear_cancel(varve_namespace *ns, uint32_t new_id)
{
    mutex_lock(&ns->store->recency.lock);
    heat_group_destroy(ns->store->recency.heat, new_id);
    mutex_unlock(&ns->store->recency.lock);
}
