/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls of varve.h on a store: arguments are checked, then the owner does them itself, and a peer asks the owner, again if that is another meanwhile. Without an
 * owner pages are misses, and nothing is stored.
 */
#include <string.h>

#include "api/arguments.h"
#include "base/error.h"
#include "peer/peer.h"
#include "peer/role.h"
#include "store/calls.h"

int
varve_open(const char *path, const varve_options *options, varve_store **out, varve_error *err)
{
    varve_options given;
    char io_engine[32], direct_io[32];
    struct env_settings settings = {0};
    struct env *env;
    int rc;

    if (path == NULL || *path == '\0' || out == NULL)
        return error_set(err, VARVE_E_ARG, "varve_open: path and out must be given");
    if (options != NULL)
        given = *options;
    else
        options_init(&given);
    settings.io_engine = options_word(&given, "io_engine", io_engine, sizeof(io_engine));
    settings.direct_io = options_word(&given, "direct_io", direct_io, sizeof(direct_io));
    settings.queue_depth = (uint32_t)given.queue_depth;
    settings.io_threads = (uint32_t)given.io_threads;
    settings.create_dir = given.create != 0;
    rc = env_open_posix(path, &settings, &env, err);
    if (rc != VARVE_OK)
        return rc;
    rc = role_open(env, &given, out, err);
    if (rc != VARVE_OK)
        env->ops->destroy(env);
    return rc;
}

int
varve_close(varve_store *store, varve_error *err)
{
    int rc;

    if (store == NULL)
        return VARVE_OK;
    rc = arguments_check_store(store, true, "a store", err);
    return rc == VARVE_OK ? role_close(store, err) : rc;
}

int
varve_sync(varve_store *store, varve_error *err)
{
    struct role_retry retry = {0};
    int64_t rc = arguments_check_store(store, true, "varve_sync: a store", err);

    if (rc != VARVE_OK)
        return (int)rc;
    do {
        if (role_owns(store, &retry))
            return store_sync(store, err);
        rc = peer_sync(store, err);
    } while (role_again(store, NULL, &rc, &retry));
    return arguments_fail(rc, err);
}

int
varve_option_set(varve_store *store, const char *name, const char *value, varve_error *err)
{
    struct role_retry retry = {0};
    int64_t rc =
        arguments_check_store(store, name != NULL && value != NULL, "varve_option_set: store, name and value", err);

    if (rc != VARVE_OK)
        return (int)rc;
    do {
        if (role_owns(store, &retry))
            return store_option_set(store, name, value, err);
        rc = peer_option_set(store, name, value, err);
    } while (role_again(store, NULL, &rc, &retry));
    return arguments_fail(rc, err);
}

size_t
varve_io_align(const varve_store *store)
{
    return store->env->io_align;
}

/* Of a peer: gauges are the owner's, where it answers, and counters its own. A child of fork() asks nobody, and takes no lock. */
size_t
varve_stats_get(varve_store *store, uint64_t *values, size_t count)
{
    struct gauges gauges = {0};
    bool forked = arguments_is_forked(store);
    size_t known;

    if (!forked && role_is_owner(store))
        return store_stats_get(store, values, count);
    known = store_stats_fill(store, &gauges, values, count); /* for where nobody answers */
    if (forked)
        return known;
    (void)peer_owner_stats(store, values, count);
    peer_own_counters(store, values, count);
    return known;
}

int
varve_namespace_open(varve_store *store, const char *name, const varve_namespace_attributes *attributes,
                     varve_namespace **out, varve_error *err)
{
    struct role_retry retry = {0};
    int64_t rc =
        arguments_check_store(store, name != NULL && out != NULL, "varve_namespace_open: store, name and out", err);

    if (rc != VARVE_OK)
        return (int)rc;
    if (*name == '\0' || strlen(name) > VARVE_NAMESPACE_NAME_MAX)
        return error_set(err, VARVE_E_ARG, "a namespace's name has 1 to %d bytes", VARVE_NAMESPACE_NAME_MAX);
    if (attributes != NULL &&
        (attributes->struct_size < sizeof(uint32_t) * 2 || attributes->element_type > VARVE_ELEMENT_FP8))
        return error_set(err, VARVE_E_ARG, "namespace attributes: use VARVE_NAMESPACE_ATTRIBUTES_INIT");
    do {
        if (role_owns(store, &retry))
            return store_namespace_open(store, name, attributes, out, err);
        rc = peer_namespace_open(store, name, attributes, out, err);
    } while (role_again(store, NULL, &rc, &retry));
    return arguments_fail(rc, err);
}

int
varve_namespace_clear(varve_store *store, varve_namespace *ns, varve_error *err)
{
    struct role_retry retry = {0};
    int64_t rc = arguments_check_store(store, ns != NULL && ns->store == store,
                                       "varve_namespace_clear: a store and one of its namespaces", err);

    if (rc != VARVE_OK)
        return (int)rc;
    do {
        if (role_owns(store, &retry))
            return store_namespace_clear(store, ns, err);
        rc = peer_namespace_clear(store, ns, err);
    } while (role_again(store, ns, &rc, &retry));
    return arguments_fail(rc, err);
}

int
varve_namespace_limits_set(varve_store *store, varve_namespace *ns, const varve_namespace_limits *limits,
                           varve_error *err)
{
    struct role_retry retry = {0};
    int64_t rc = arguments_check_store(
        store, ns != NULL && ns->store == store && limits != NULL && limits->struct_size >= sizeof(*limits),
        "varve_namespace_limits_set: a store, one of its namespaces and limits that begin as "
        "VARVE_NAMESPACE_LIMITS_INIT",
        err);

    if (rc != VARVE_OK)
        return (int)rc;
    do {
        if (role_owns(store, &retry))
            return store_limits_set(store, ns, limits, err);
        rc = peer_limits_set(store, ns, limits, err);
    } while (role_again(store, ns, &rc, &retry));
    return arguments_fail(rc, err);
}

int
varve_put_batch(varve_store *store, varve_namespace *ns, const varve_id *parent, varve_page *pages, size_t count,
                unsigned flags, varve_error *err)
{
    struct role_retry retry = {0};
    int64_t rc = arguments_check_pages(store, ns, pages, count, err);

    if (rc == VARVE_OK && (flags & ~(unsigned)VARVE_PUT_SYNC) != 0)
        rc = error_set(err, VARVE_E_ARG, "unknown put flags 0x%x", flags);
    if (rc != VARVE_OK)
        return (int)rc;
    do {
        if (role_owns(store, &retry))
            return store_put_batch(store, ns, parent, pages, count, flags);
        rc = peer_put_batch(store, ns, parent, pages, count, flags);
    } while (role_again(store, ns, &rc, &retry));
    for (size_t i = 0; rc != VARVE_OK && i < count; i++)
        pages[i].status = (int32_t)rc;
    return VARVE_OK;
}

int64_t
varve_probe(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, varve_estimate *estimate,
            varve_error *err)
{
    struct role_retry retry = {0};
    int64_t rc = arguments_check_pages(store, ns, ids, count, err);

    if (rc == VARVE_OK && estimate != NULL && estimate->struct_size < sizeof(*estimate))
        rc = error_set(err, VARVE_E_ARG, "varve_estimate: use VARVE_ESTIMATE_INIT");
    if (rc != VARVE_OK)
        return rc;
    do {
        if (role_owns(store, &retry)) {
            struct read_speed speed = store_read_speed(store);

            return store_probe(store, ns, ids, count, &speed, estimate);
        }
        rc = peer_probe(store, ns, ids, count, estimate);
    } while (role_again(store, ns, &rc, &retry));
    return rc == VARVE_E_TIMEOUT ? 0 : rc;
}

int
varve_exists_batch(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, uint8_t *exists,
                   varve_error *err)
{
    struct role_retry retry = {0};
    int64_t rc = arguments_check_pages(store, ns, ids, count, err);

    if (rc == VARVE_OK && exists == NULL)
        rc = error_set(err, VARVE_E_ARG, "varve_exists_batch: exists must be given");
    if (rc != VARVE_OK)
        return (int)rc;
    do {
        if (role_owns(store, &retry)) {
            store_exists_batch(store, ns, ids, count, exists);
            return VARVE_OK;
        }
        rc = peer_exists_batch(store, ns, ids, count, exists);
    } while (role_again(store, ns, &rc, &retry));
    if (rc == VARVE_E_TIMEOUT) {
        memset(exists, 0, count);
        return VARVE_OK;
    }
    return (int)rc;
}

int
varve_get_batch(varve_store *store, varve_namespace *ns, varve_page *pages, size_t count, varve_error *err)
{
    struct role_retry retry = {0};
    int64_t rc = arguments_check_pages(store, ns, pages, count, err);

    if (rc != VARVE_OK)
        return (int)rc;
    do {
        if (role_owns(store, &retry))
            return store_get_batch(store, ns, pages, count, err);
        rc = peer_get_batch(store, ns, pages, count, err);
    } while (role_again(store, ns, &rc, &retry));
    return rc == VARVE_E_TIMEOUT ? VARVE_OK : (int)rc; /* what was not read is a miss */
}

int64_t
varve_touch(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, varve_error *err)
{
    struct role_retry retry = {0};
    int64_t rc = arguments_check_pages(store, ns, ids, count, err);

    if (rc != VARVE_OK)
        return rc;
    do {
        if (role_owns(store, &retry))
            return store_touch(store, ns, ids, count);
        rc = peer_count_ids(store, MESSAGE_TOUCH, ns, ids, count, err);
    } while (role_again(store, ns, &rc, &retry));
    return rc == VARVE_E_TIMEOUT ? 0 : rc;
}

int64_t
varve_remove_batch(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, varve_error *err)
{
    struct role_retry retry = {0};
    int64_t rc = arguments_check_pages(store, ns, ids, count, err);

    if (rc != VARVE_OK)
        return rc;
    do {
        if (role_owns(store, &retry))
            return store_remove_batch(store, ns, ids, count, err);
        rc = peer_count_ids(store, MESSAGE_REMOVE, ns, ids, count, err);
    } while (role_again(store, ns, &rc, &retry));
    return rc >= 0 ? rc : arguments_fail(rc, err);
}

int64_t
varve_pin(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, varve_error *err)
{
    struct role_retry retry = {0};
    int64_t rc = arguments_check_pages(store, ns, ids, count, err);

    if (rc != VARVE_OK)
        return rc;
    do {
        if (role_owns(store, &retry))
            return store_pin(store, ns, ids, count, err);
        rc = peer_count_ids(store, MESSAGE_PIN, ns, ids, count, err);
    } while (role_again(store, ns, &rc, &retry));
    return rc >= 0 ? rc : arguments_fail(rc, err);
}

int64_t
varve_unpin(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, varve_error *err)
{
    struct role_retry retry = {0};
    int64_t rc = arguments_check_pages(store, ns, ids, count, err);

    if (rc != VARVE_OK)
        return rc;
    do {
        if (role_owns(store, &retry))
            return store_unpin(store, ns, ids, count);
        rc = peer_count_ids(store, MESSAGE_UNPIN, ns, ids, count, err);
    } while (role_again(store, ns, &rc, &retry));
    return rc >= 0 ? rc : arguments_fail(rc, err);
}
