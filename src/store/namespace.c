/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces. The index knows a namespace by a number; clearing it gives the name a new number, so everything under the old one is
 * a miss at once, and merges and drops take it away.
 */
#include <string.h>

#include "base/error.h"
#include "store/calls.h"
#include "store/store.h"

/* A namespace in memory. Its place in the array is taken by namespace_add(). */
static varve_namespace *
namespace_create(varve_store *store, const char *name, uint32_t ns_id, uint32_t element_type, uint64_t page_bytes_hint)
{
    size_t size = strlen(name) + 1;
    varve_namespace *ns = env_zalloc(store->env, sizeof(*ns) + size);

    if (ns == NULL)
        return NULL;
    ns->store = store;
    ns->name = (char *)(ns + 1);
    memcpy(ns->name, name, size);
    atomic_init(&ns->ns_id, ns_id);
    ns->element_type = element_type;
    ns->page_bytes_hint = page_bytes_hint;
    return ns;
}

static int
namespace_add(varve_store *store, varve_namespace *ns)
{
    int rc = VARVE_OK;

    mutex_lock(&store->namespace_lock);
    if (store->namespace_count == store->namespace_capacity) {
        size_t capacity = store->namespace_capacity == 0 ? 8 : store->namespace_capacity * 2;
        varve_namespace **grown = env_zalloc(store->env, capacity * sizeof(varve_namespace *));

        if (grown == NULL) {
            rc = VARVE_E_NOMEM;
        } else {
            if (store->namespace_count > 0)
                memcpy(grown, store->namespaces, store->namespace_count * sizeof(varve_namespace *));
            env_free(store->env, store->namespaces);
            store->namespaces = grown;
            store->namespace_capacity = capacity;
        }
    }
    if (rc == VARVE_OK)
        store->namespaces[store->namespace_count++] = ns;
    mutex_unlock(&store->namespace_lock);
    return rc;
}

void
namespaces_free(varve_store *store)
{
    for (size_t i = 0; i < store->namespace_count; i++)
        env_free(store->env, store->namespaces[i]);
    env_free(store->env, store->namespaces);
}

varve_namespace *
namespace_by_name(varve_store *store, const char *name)
{
    varve_namespace *found = NULL;

    mutex_lock(&store->namespace_lock);
    for (size_t i = 0; i < store->namespace_count && found == NULL; i++) {
        if (strcmp(store->namespaces[i]->name, name) == 0)
            found = store->namespaces[i];
    }
    mutex_unlock(&store->namespace_lock);
    return found;
}

varve_namespace *
namespace_by_id(varve_store *store, uint32_t ns_id)
{
    varve_namespace *found = NULL;

    mutex_lock(&store->namespace_lock);
    for (size_t i = 0; i < store->namespace_count && found == NULL; i++) {
        if (atomic_load_explicit(&store->namespaces[i]->ns_id, memory_order_acquire) == ns_id)
            found = store->namespaces[i];
    }
    mutex_unlock(&store->namespace_lock);
    return found;
}

int
namespace_adopt(varve_store *store, const char *name, uint32_t ns_id, enum varve_element element_type,
                uint64_t page_bytes_hint, varve_namespace **out)
{
    varve_namespace *ns = namespace_by_name(store, name);
    int rc;

    *out = ns;
    if (ns != NULL) {
        atomic_store_explicit(&ns->ns_id, ns_id, memory_order_release);
        return VARVE_OK;
    }
    ns = namespace_create(store, name, ns_id, element_type, page_bytes_hint);
    rc = ns == NULL ? VARVE_E_NOMEM : namespace_add(store, ns);
    if (rc != VARVE_OK)
        env_free(store->env, ns);
    else
        *out = ns;
    return rc;
}

int
namespaces_load(varve_store *store, const struct manifest_state *state, varve_error *err)
{
    varve_namespace *ns;
    int rc = VARVE_OK;

    mutex_lock(&store->namespace_change); /* other threads of a peer may add some until now */
    /* A peer that becomes the owner has some already, by numbers that may be old. */
    for (size_t i = 0; i < store->namespace_count; i++)
        atomic_store_explicit(&store->namespaces[i]->ns_id, 0, memory_order_release);
    for (size_t i = 0; i < state->namespace_count && rc == VARVE_OK; i++) {
        const struct state_namespace *from = &state->namespaces[i];

        rc = namespace_adopt(store, from->name, from->ns_id, (enum varve_element)from->element_type,
                             from->page_bytes_hint, &ns);
    }
    mutex_unlock(&store->namespace_change);
    return rc == VARVE_OK ? rc : error_set(err, rc, "out of memory opening namespaces");
}

bool
namespace_live(varve_store *store, uint32_t ns_id)
{
    return namespace_by_id(store, ns_id) != NULL;
}

const char *
namespace_name(varve_store *store, uint32_t ns_id)
{
    const varve_namespace *ns = namespace_by_id(store, ns_id);

    return ns == NULL ? NULL : ns->name;
}

/*
 * A number for a namespace, random: counted ones could be given out twice when a damaged manifest has lost edits, and then old pages would
 * pass for new ones. namespace_change is held.
 */
static uint32_t
new_ns_id(varve_store *store)
{
    uint32_t ns_id;

    do
        ns_id = (uint32_t)(store->env->ops->random(store->env) >> 32);
    while (ns_id == 0 || namespace_by_id(store, ns_id) != NULL);
    return ns_id;
}

/* Tell the manifest that the name now means ns_id, durably. */
static int
commit_namespace(varve_store *store, const varve_namespace *ns, uint32_t ns_id, varve_error *err)
{
    struct manifest_item item = {.kind = MANIFEST_NAMESPACE};

    item.u.ns.ns_id = ns_id;
    item.u.ns.element_type = ns->element_type;
    item.u.ns.page_bytes_hint = ns->page_bytes_hint;
    item.u.ns.name = ns->name;
    item.u.ns.name_size = (uint32_t)strlen(ns->name);
    return store_commit(store, &item, 1, true, err);
}

/* Make the namespace; namespace_change is held. */
static int
make_namespace(varve_store *store, const char *name, const varve_namespace_attributes *attributes,
               varve_namespace **out, varve_error *err)
{
    varve_namespace_attributes given = VARVE_NAMESPACE_ATTRIBUTES_INIT;
    varve_namespace *ns;
    int rc;

    if (attributes != NULL)
        memcpy(&given, attributes, attributes->struct_size < sizeof(given) ? attributes->struct_size : sizeof(given));
    rc = store_writable(store, err);
    if (rc != VARVE_OK)
        return rc;
    ns = namespace_create(store, name, new_ns_id(store), given.element_type, given.page_bytes_hint);
    if (ns == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    rc = commit_namespace(store, ns, atomic_load_explicit(&ns->ns_id, memory_order_relaxed), err);
    if (rc == VARVE_OK) {
        rc = namespace_add(store, ns);
        if (rc != VARVE_OK)
            (void)error_set(err, rc, "out of memory");
    }
    if (rc != VARVE_OK) {
        env_free(store->env, ns);
        return rc;
    }
    *out = ns;
    return VARVE_OK;
}

int
store_namespace_open(varve_store *store, const char *name, const varve_namespace_attributes *attributes,
                     varve_namespace **out, varve_error *err)
{
    int rc = VARVE_OK;

    *out = namespace_by_name(store, name);
    if (*out != NULL)
        return VARVE_OK;
    mutex_lock(&store->namespace_change);
    *out = namespace_by_name(store, name);
    if (*out == NULL)
        rc = make_namespace(store, name, attributes, out, err);
    mutex_unlock(&store->namespace_change);
    return rc;
}

int
store_namespace_clear(varve_store *store, varve_namespace *ns, varve_error *err)
{
    uint32_t ns_id, old_id;
    int rc = store_writable(store, err);

    if (rc != VARVE_OK)
        return rc;
    mutex_lock(&store->namespace_change);
    ns_id = new_ns_id(store);
    old_id = atomic_load_explicit(&ns->ns_id, memory_order_relaxed);
    rc = limits_clear_begin(ns, ns_id);
    if (rc != VARVE_OK)
        (void)error_set(err, rc, "out of memory for the limits of a namespace");
    else if ((rc = commit_namespace(store, ns, ns_id, err)) != VARVE_OK)
        limits_clear_cancel(ns, ns_id);
    if (rc == VARVE_OK) {
        atomic_store_explicit(&ns->ns_id, ns_id, memory_order_release);
        limits_clear_end(ns, old_id);
        log_note_death(store->log);
    }
    mutex_unlock(&store->namespace_change);
    if (rc == VARVE_OK) {
        COUNT(&store->counters, namespace_clears, 1);
        store_wake_background(store);
    }
    return rc;
}

static int
take_over(varve_store *store, varve_namespace *ns, varve_error *err)
{
    varve_namespace_limits wanted;
    int rc = VARVE_OK;

    mutex_lock(&store->namespace_change);
    if (atomic_load_explicit(&ns->ns_id, memory_order_relaxed) == 0) { /* the manifest has lost it */
        uint32_t ns_id = new_ns_id(store);

        rc = commit_namespace(store, ns, ns_id, err);
        if (rc == VARVE_OK)
            atomic_store_explicit(&ns->ns_id, ns_id, memory_order_release);
    }
    wanted = ns->wanted;
    mutex_unlock(&store->namespace_change);
    return rc == VARVE_OK && wanted.struct_size > 0 ? store_limits_set(store, ns, &wanted, err) : rc;
}

int
namespaces_take_over(varve_store *store, varve_error *err)
{
    int rc = VARVE_OK;

    for (size_t i = 0; rc == VARVE_OK; i++) {
        varve_namespace *ns;

        mutex_lock(&store->namespace_lock);
        ns = i < store->namespace_count ? store->namespaces[i] : NULL;
        mutex_unlock(&store->namespace_lock);
        if (ns == NULL)
            break;
        rc = take_over(store, ns, err);
    }
    return rc;
}
