/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock decides. Whoever finds it free recovers the store and serves it; whoever does not connects to the socket, which is there as soon as the owner
 * has recovered. Both are tried in turn until one succeeds, or it takes too long.
 */
#include "peer/role.h"

#include <errno.h>

#include "base/error.h"
#include "format/format.h"
#include "peer/peer.h"
#include "peer/server.h"

#define PAUSE_MS     2
#define OPEN_WAIT_MS 1000 /* at least: an owner may be on its way out, or recover */
#define WRITERS_MS   500  /* for peers to finish what they were writing when their owner went */
#define TRIES_MAX    8    /* of one call */

static uint64_t
after_ms(varve_store *store, uint64_t time_ms)
{
    return store->env->ops->now_ns(store->env) + time_ms * 1000000;
}

static bool
is_past(varve_store *store, uint64_t until_ns)
{
    return store->env->ops->now_ns(store->env) >= until_ns;
}

/* Nobody is ready to answer; somebody may soon be. */
static bool
may_come(int rc)
{
    return rc == -ENOENT || rc == -ECONNREFUSED || rc == -EAGAIN || rc == -EPIPE || rc == -ECONNRESET;
}

/* Peers of the owner before let go of WRITERS when what they had begun is written; one that is stopped is not waited for. False: there are some left. */
static bool
wait_for_writers(varve_store *store)
{
    struct env *env = store->env;
    uint64_t until_ns = after_ms(store, WRITERS_MS);
    struct env_file *writers;

    if (!recovery_was_shared(env))
        return true; /* there never was a peer */
    for (;;) {
        int rc = env->share->lock(env, FORMAT_WRITERS_NAME, false, &writers);

        if (rc == 0) {
            env->ops->close(writers);
            return true;
        }
        if (rc != -EWOULDBLOCK || is_past(store, until_ns))
            return false;
        env->share->sleep_ms(env, PAUSE_MS);
    }
}

/* With the lock, which is taken over: bring the store up and serve it. */
static int
become_owner(varve_store *store, struct env_file *lock_file, varve_error *err)
{
    int rc;

    store->life = store->env->ops->random(store->env) | 1;
    store->writers_left = !wait_for_writers(store);
    rc = store_own(store, lock_file, err);
    if (rc != VARVE_OK)
        return rc;
    /* Without a server others find the store locked, as with the option off: no reason not to use it. */
    (void)namespaces_take_over(store, NULL); /* what fails is a namespace without pages, or without limits */
    if (server_create(store, &store->server, NULL) != VARVE_OK)
        store->server = NULL;
    return VARVE_OK;
}

/* One try to be the owner. VARVE_OK: this process is. VARVE_MISS: another has the lock. */
static int
try_owner(varve_store *store, varve_error *err)
{
    struct env_file *lock_file;
    int rc = store->env->share->lock(store->env, FORMAT_LOCK_NAME, false, &lock_file);

    if (rc == -EWOULDBLOCK)
        return VARVE_MISS;
    return rc < 0 ? error_os(err, rc, "lock the store") : become_owner(store, lock_file, err);
}

/* One try to be a peer. VARVE_OK: this process is. VARVE_MISS: there is nobody to connect to. */
static int
try_peer(varve_store *store, varve_error *err)
{
    int rc;

    if (store->peer == NULL) {
        rc = peer_create(store, &store->peer, err);
        if (rc != VARVE_OK)
            return rc;
    }
    rc = peer_connect(store->peer, true, err);
    if (rc == 0)
        return VARVE_OK;
    if (may_come(rc))
        return VARVE_MISS;
    if (rc == -EPROTONOSUPPORT)
        return VARVE_E_VERSION;
    if (rc == -ETIMEDOUT)
        return error_set(err, VARVE_E_TIMEOUT,
                         "the process that owns the store does not answer: see the file LOCK in it");
    return error_os(err, rc, "connect to the process that owns the store");
}

static int
find_role(varve_store *store, varve_error *err)
{
    uint64_t wait_ms = store->options.peer_timeout_ms, until_ns;
    int rc;

    until_ns = after_ms(store, wait_ms < OPEN_WAIT_MS ? OPEN_WAIT_MS : wait_ms);
    for (;;) {
        rc = try_owner(store, err);
        if (rc != VARVE_MISS)
            return rc;
        rc = try_peer(store, err);
        if (rc == VARVE_OK)
            atomic_store_explicit(&store->role, ROLE_PEER, memory_order_release);
        if (rc != VARVE_MISS)
            return rc;
        if (is_past(store, until_ns))
            return error_set(
                err, VARVE_E_LOCKED,
                "the store is in use by a process that does not share it, or is being recovered (see the file "
                "LOCK in it): close it there, or open it there with share=on, or try again");
        store->env->share->sleep_ms(store->env, PAUSE_MS);
    }
}

/* As store_open(). Peers of an owner that shared may be left all the same. */
static int
own_alone(varve_store *store, varve_error *err)
{
    struct env *env = store->env;
    struct env_file *lock_file;
    int rc = env->ops->lock(env, FORMAT_LOCK_NAME, &lock_file);

    if (rc == -EWOULDBLOCK)
        return error_set(err, VARVE_E_LOCKED, "the store is in use by another process: see the file LOCK in it");
    if (rc < 0)
        return error_os(err, rc, "lock the store");
    store->writers_left = !wait_for_writers(store);
    return store_own(store, lock_file, err);
}

int
role_open(struct env *env, const varve_options *options, varve_store **out, varve_error *err)
{
    varve_store *store;
    int rc;

    if (env->share == NULL)
        return store_open(env, options, out, err);
    store = store_create(env, options);
    if (store == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    rc = store_check_directory(env, options, err);
    if (rc == VARVE_OK) {
        rc = io_queue_pool_create(env, &store->pool);
        if (rc < 0)
            rc = error_os(err, rc, "set up I/O");
    }
    if (rc == VARVE_OK)
        rc = options->share ? find_role(store, err) : own_alone(store, err);
    if (rc != VARVE_OK) {
        peer_destroy(store->peer);
        store_destroy(store);
        return rc;
    }
    if (err != NULL)
        *err = (varve_error){.code = VARVE_OK};
    *out = store;
    return VARVE_OK;
}

int
role_close(varve_store *store, varve_error *err)
{
    struct env *env = store->env;
    bool owner = role_is_owner(store);

    if (owner && store->server != NULL) {
        server_destroy(store->server);
        (void)wait_for_writers(store); /* else what they still write could follow the end of a segment */
    }
    peer_destroy(store->peer);
    if (owner)
        return store_finish(store, err);
    store_destroy(store);
    env->ops->destroy(env);
    return VARVE_OK;
}

void
role_abandon(varve_store *store)
{
    struct env *env = store->env;

    server_destroy(store->server);
    peer_destroy(store->peer);
    if (role_is_owner(store)) {
        store_abandon(store);
        return;
    }
    store_destroy(store);
    env->ops->destroy(env);
}

/* Puts of this process that were writing when the owner went have to end before its log is recovered. */
static bool
own_writes_ended(struct peer *peer, uint64_t until_ns)
{
    bool ended;

    mutex_lock(&peer->lock);
    while (peer->writers > 0 && !is_past(peer->store, until_ns))
        cond_wait_ms(&peer->changed, &peer->lock, PAUSE_MS);
    ended = peer->writers == 0;
    mutex_unlock(&peer->lock);
    return ended;
}

/* The lock is free: the peer becomes the owner, as it is. */
static int
take_over(varve_store *store, struct env_file *lock_file, uint64_t until_ns)
{
    int rc;

    if (!own_writes_ended(store->peer, until_ns)) {
        store->env->ops->close(lock_file);
        return VARVE_E_TIMEOUT;
    }
    rc = become_owner(store, lock_file, NULL);
    if (rc != VARVE_OK)
        return rc;
    atomic_store_explicit(&store->role, ROLE_OWNER, memory_order_release);
    return VARVE_OK;
}

/* One try to find an owner, or to be it. VARVE_OK; VARVE_MISS: to be tried again; VARVE_E_*: that makes no sense. */
static int
seek(varve_store *store, uint64_t until_ns)
{
    struct env *env = store->env;
    struct env_file *lock_file;
    int rc = peer_connect(store->peer, false, NULL);

    if (rc == 0) {
        COUNT(&store->counters, peer_reconnects, 1);
        rc = peer_limits_repeat(store);
        if (rc != VARVE_OK)
            peer_forget_owner(store->peer); /* nobody uses it as it is */
        return rc == VARVE_OK || rc == VARVE_E_TIMEOUT ? rc : VARVE_MISS;
    }
    if (!may_come(rc))
        return VARVE_E_TIMEOUT;
    rc = env->share->lock(env, FORMAT_LOCK_NAME, false, &lock_file);
    if (rc == 0)
        return take_over(store, lock_file, until_ns);
    return rc == -EWOULDBLOCK ? VARVE_MISS : VARVE_E_TIMEOUT;
}

uint64_t
role_epoch(varve_store *store)
{
    return peer_epoch(store->peer);
}

/* Whether this thread is to look for an owner. If not, *rc says whether another one has found one. */
static bool
begin_election(varve_store *store, uint64_t epoch, uint64_t until_ns, int *rc)
{
    struct peer *peer = store->peer;
    bool elects, waited;

    mutex_lock(&peer->lock);
    waited = peer->electing; /* for one that is under way, whose outcome is this thread's, too */
    while (peer->electing && !is_past(store, until_ns))
        cond_wait_ms(&peer->changed, &peer->lock, PAUSE_MS);
    COUNT(&store->counters, peer_timeouts, peer->electing);
    *rc = peer->electing ? VARVE_E_TIMEOUT : VARVE_OK;
    elects = !waited && !role_is_owner(store) && peer->epoch == epoch;
    if (elects) {
        peer->electing = true;
        peer->elector = pthread_self();
    }
    mutex_unlock(&peer->lock);
    return elects;
}

/* The owner that was met in `epoch` is lost: find another, or be it. */
static int
find_owner(varve_store *store, uint64_t epoch)
{
    struct peer *peer = store->peer;
    uint64_t until_ns = after_ms(store, peer->timeout_ms);
    int rc;

    if (!begin_election(store, epoch, until_ns, &rc))
        return rc;
    peer_forget_owner(peer);
    while ((rc = seek(store, until_ns)) == VARVE_MISS && !is_past(store, until_ns))
        store->env->share->sleep_ms(store->env, PAUSE_MS);
    if (rc != VARVE_OK)
        rc = peer_note_silence(peer); /* the others need not try, too */
    mutex_lock(&peer->lock);
    peer->electing = false;
    peer_wake(peer);
    mutex_unlock(&peer->lock);
    return rc;
}

bool
role_again(varve_store *store, varve_namespace *ns, int64_t *rc, struct role_retry *retry)
{
    if (*rc != PEER_AGAIN && *rc != MESSAGE_STALE_NAMESPACE)
        return false;
    if (retry->tries++ < TRIES_MAX) {
        if (*rc == MESSAGE_STALE_NAMESPACE && ns != NULL)
            *rc = peer_namespace_refresh(store, ns, NULL);
        if (*rc == PEER_AGAIN)
            *rc = find_owner(store, retry->epoch);
        if (*rc == VARVE_OK)
            return true;
    }
    if (*rc >= VARVE_OK || *rc == PEER_AGAIN || *rc == MESSAGE_STALE_NAMESPACE)
        *rc = VARVE_E_TIMEOUT;
    return false;
}

void
role_tend(varve_store *store)
{
    struct role_retry retry = {0};
    int64_t rc;

    do {
        if (role_owns(store, &retry))
            return;
        rc = peer_owner_stats(store, NULL, 0);
    } while (role_again(store, NULL, &rc, &retry));
}
