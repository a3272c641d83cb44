/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/peer.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "format/format.h"

#define SLOW_FACTOR 10

int
peer_create(varve_store *store, struct peer **out, varve_error *err)
{
    struct env *env = store->env;
    struct peer *peer = env_zalloc(env, sizeof(*peer));
    int rc = peer == NULL ? -ENOMEM : 0;

    if (rc == 0)
        rc = env->ops->open(env, FORMAT_WRITERS_NAME, 0, &peer->writers_file);
    if (rc == -ENOENT) {
        rc = env->ops->open(env, FORMAT_WRITERS_NAME, ENV_OPEN_CREATE, &peer->writers_file);
        if (rc == -EEXIST)
            rc = env->ops->open(env, FORMAT_WRITERS_NAME, 0, &peer->writers_file);
    }
    if (rc < 0) {
        env_free(env, peer);
        return error_os(err, rc, "open the file WRITERS");
    }
    peer->store = store;
    peer->env = env;
    peer->timeout_ms = store->options.peer_timeout_ms;
    descriptors_init(&peer->descriptors, env, (uint32_t)store->options.open_files);
    mutex_init(&peer->lock);
    cond_init(&peer->changed);
    cond_init(&peer->returned);
    *out = peer;
    return VARVE_OK;
}

/* There may be one more connection. */
static void
link_return(struct peer *peer)
{
    mutex_lock(&peer->lock);
    peer->links--;
    cond_signal(&peer->returned);
    mutex_unlock(&peer->lock);
}

static void
link_destroy(struct peer *peer, struct peer_link *link)
{
    bool apart = link->apart;

    connection_deinit(&link->connection);
    env_free(peer->env, link);
    if (!apart)
        link_return(peer);
}

/* Close the connections that wait for a call. */
static void
close_idle(struct peer *peer)
{
    struct peer_link *idle;

    mutex_lock(&peer->lock);
    idle = peer->idle;
    peer->idle = NULL;
    mutex_unlock(&peer->lock);
    for (struct peer_link *next; idle != NULL; idle = next) {
        next = idle->next;
        link_destroy(peer, idle);
    }
}

void
peer_destroy(struct peer *peer)
{
    if (peer == NULL)
        return;
    close_idle(peer);
    descriptors_deinit(&peer->descriptors);
    peer->env->ops->close(peer->writers_file);
    cond_deinit(&peer->returned);
    cond_deinit(&peer->changed);
    mutex_deinit(&peer->lock);
    env_free(peer->env, peer);
}

/* The store takes what the owner says of it. A later owner must not want more of buffers than the first did. */
static int
take_hello(struct peer *peer, const struct message_hello *hello, bool first, varve_error *err)
{
    varve_store *store = peer->store;

    if (hello->life == 0 || hello->io_align < 512 || hello->io_align > IO_ALIGN_MAX ||
        (hello->io_align & (hello->io_align - 1)) != 0)
        return -EPROTO;
    if (first) {
        if (peer->env->io_align < hello->io_align)
            peer->env->io_align = hello->io_align;
        store->align_shift = (uint8_t)hello->align_shift;
    } else if (hello->io_align > peer->env->io_align || hello->align_shift != store->align_shift) {
        (void)error_set(err, VARVE_E_LOCKED,
                        "the store's new owner has other direct I/O: use the same options for all");
        return -EPROTONOSUPPORT;
    }
    atomic_store_explicit(&store->page_bytes_max, hello->page_bytes_max, memory_order_relaxed);
    return 0;
}

static int
greet(struct peer *peer, struct peer_link *link, bool first, varve_error *err)
{
    struct message_hello hello = {.format_version = FORMAT_VERSION,
                                  .io_align = peer->env->io_align,
                                  .align_shift = peer->store->align_shift,
                                  .library_version = VARVE_VERSION_NUMBER};
    struct message_header header = {.type = MESSAGE_HELLO};
    uint8_t bytes[MESSAGE_HELLO_BYTES];
    const struct iovec part = {bytes, sizeof(bytes)};
    const uint8_t *body = bytes;
    int rc;

    message_hello_encode(&hello, bytes);
    rc = connection_send(&link->connection, &header, &part, 1, NULL, peer->timeout_ms);
    if (rc == 0)
        rc = connection_receive(&link->connection, peer->timeout_ms, peer->timeout_ms, &header, &body, NULL);
    if (rc == -EPROTONOSUPPORT || (rc == 0 && header.status == VARVE_E_VERSION)) {
        (void)error_set(
            err, VARVE_E_VERSION,
            "the process that owns the store speaks another version (it says: %.*s): use one version of Varve "
            "for all",
            (int)strnlen((const char *)body, header.length < 120 ? header.length : 120), (const char *)body);
        return -EPROTONOSUPPORT;
    }
    if (rc == 0 && (header.type != MESSAGE_HELLO || header.status != VARVE_OK ||
                    !message_hello_decode(body, header.length, &hello)))
        rc = -EPROTO;
    link->life = hello.life;
    return rc == 0 ? take_hello(peer, &hello, first, err) : rc == -EAGAIN ? -ETIMEDOUT : rc;
}

/* One that is counted in peer->links already. */
static int
link_create(struct peer *peer, bool first, struct peer_link **out, varve_error *err)
{
    struct env *env = peer->env;
    struct env_socket *socket = NULL;
    struct peer_link *link = NULL;
    int rc = env->share->connect(env, FORMAT_SOCKET_NAME, &socket);

    if (rc == 0) {
        link = env_zalloc(env, sizeof(*link));
        rc = link == NULL ? -ENOMEM : connection_init(&link->connection, env, socket);
        if (link == NULL)
            env->share->close(socket);
    }
    if (rc == 0)
        rc = greet(peer, link, first, err);
    if (rc == 0)
        *out = link;
    else if (link != NULL)
        link_destroy(peer, link);
    else
        link_return(peer);
    return rc;
}

/* peer->lock held. */
static void
keep_idle(struct peer *peer, struct peer_link *link)
{
    link->next = peer->idle;
    peer->idle = link;
    cond_signal(&peer->returned);
}

int
peer_connect(struct peer *peer, bool first, varve_error *err)
{
    struct peer_link *link = NULL;
    int rc;

    mutex_lock(&peer->lock);
    peer->links++;
    mutex_unlock(&peer->lock);
    rc = link_create(peer, first, &link, err);
    if (rc < 0 || link == NULL)
        return rc;
    mutex_lock(&peer->lock);
    peer->life = link->life;
    link->epoch = peer->epoch;
    keep_idle(peer, link);
    mutex_unlock(&peer->lock);
    return 0;
}

void
peer_forget_owner(struct peer *peer)
{
    mutex_lock(&peer->lock);
    peer->epoch++;
    peer->life = 0;
    peer->silent_until_ns = 0;
    mutex_unlock(&peer->lock);
    close_idle(peer);
    descriptors_clear(&peer->descriptors);
}

uint64_t
peer_epoch(struct peer *peer)
{
    uint64_t epoch;

    mutex_lock(&peer->lock);
    epoch = peer->epoch;
    mutex_unlock(&peer->lock);
    return epoch;
}

int
peer_note_silence(struct peer *peer)
{
    uint64_t now_ns = peer->env->ops->now_ns(peer->env);

    COUNT(&peer->store->counters, peer_timeouts, 1);
    mutex_lock(&peer->lock);
    peer->silent_until_ns = now_ns + peer->timeout_ms * 1000000;
    cond_broadcast(&peer->returned);
    mutex_unlock(&peer->lock);
    return VARVE_E_TIMEOUT;
}

/* peer->lock held. */
static bool
others_elect(const struct peer *peer)
{
    return peer->electing && !pthread_equal(peer->elector, pthread_self());
}

/* One more connection, to the owner that was met. Whoever else listens by now is to be met first: it has to be told what the last one was. */
static int
link_make(struct peer *peer, struct peer_link **out)
{
    struct peer_link *link = NULL;
    int rc = link_create(peer, false, &link, NULL);
    bool met;

    if (rc == -ETIMEDOUT)
        return peer_note_silence(peer);
    if (rc < 0 || link == NULL)
        return PEER_AGAIN;
    mutex_lock(&peer->lock);
    met = link->life == peer->life && !others_elect(peer);
    link->epoch = peer->epoch;
    mutex_unlock(&peer->lock);
    if (!met) {
        link_destroy(peer, link);
        return PEER_AGAIN;
    }
    *out = link;
    return VARVE_OK;
}

static bool
is_silent(const struct peer *peer)
{
    return peer->silent_until_ns != 0 && peer->env->ops->now_ns(peer->env) < peer->silent_until_ns;
}

/* peer->lock held. Whether a call may go on, with an idle connection or one more. The thread that elects always may. */
static bool
has_link(const struct peer *peer)
{
    return peer->electing ? !others_elect(peer) : peer->idle != NULL || peer->links < PEER_LINKS_MAX;
}

/* For an election to end, and for a connection, of which others that are under way have as much as they have time. peer->lock held. VARVE_OK or VARVE_E_TIMEOUT. */
static int
wait_for_link(struct peer *peer)
{
    const struct env_ops *ops = peer->env->ops;
    uint64_t until_ns = ops->now_ns(peer->env) + peer->timeout_ms * 1000000 * (peer->electing ? 1 : SLOW_FACTOR);
    bool late;

    peer->waiting++;
    do {
        cond_wait_ms(&peer->returned, &peer->lock, peer->timeout_ms);
        late = ops->now_ns(peer->env) >= until_ns;
    } while (!late && !is_silent(peer) && !has_link(peer));
    peer->waiting--;
    if (has_link(peer) && !is_silent(peer))
        return VARVE_OK;
    COUNT(&peer->store->counters, peer_timeouts, late);
    cond_signal(&peer->returned); /* what woke this one may be for another */
    return VARVE_E_TIMEOUT;
}

int
peer_link_acquire(struct peer *peer, struct peer_link **out)
{
    struct peer_link *link = NULL;
    int rc = VARVE_OK;

    mutex_lock(&peer->lock);
    if (!peer->electing && is_silent(peer))
        rc = VARVE_E_TIMEOUT;
    else if (!has_link(peer) || (peer->waiting > 0 && !peer->electing))
        rc = wait_for_link(peer);
    if (rc == VARVE_OK && peer->idle != NULL) {
        link = peer->idle;
        peer->idle = link->next;
    } else if (rc == VARVE_OK) {
        peer->links++;
    }
    if (peer->waiting > 0 && rc == VARVE_OK && has_link(peer))
        cond_signal(&peer->returned);
    mutex_unlock(&peer->lock);
    if (rc != VARVE_OK)
        return rc;
    *out = link;
    return link == NULL ? link_make(peer, out) : VARVE_OK;
}

void
peer_link_set_apart(struct peer *peer, struct peer_link *link)
{
    link->apart = true;
    link_return(peer);
}

void
peer_wake(struct peer *peer)
{
    cond_broadcast(&peer->changed);
    cond_broadcast(&peer->returned);
}

void
peer_link_release(struct peer *peer, struct peer_link *link, int rc)
{
    bool kept;

    mutex_lock(&peer->lock);
    kept = rc != PEER_AGAIN && rc != VARVE_E_TIMEOUT && link->epoch == peer->epoch;
    if (kept)
        keep_idle(peer, link);
    mutex_unlock(&peer->lock);
    if (!kept)
        link_destroy(peer, link); /* it is out of step, or nobody is there */
}

static uint64_t
time_to_answer(const struct peer *peer, const struct peer_question *question)
{
    return peer->timeout_ms * (question->slow ? SLOW_FACTOR : 1) + question->extra_ms;
}

static int
note_failure(struct peer *peer, int rc)
{
    return rc == -EAGAIN || rc == -ETIMEDOUT ? peer_note_silence(peer) : PEER_AGAIN;
}

int
peer_ask(struct peer *peer, struct peer_link *link, const struct peer_question *question, struct peer_answer *answer)
{
    struct message_header header = {.type = (uint16_t)question->type, .call = ++link->calls};
    int rc;

    header.get_us = link->get_us;
    header.put_us = link->put_us;
    link->get_us = link->put_us = 0;
    rc = connection_send(&link->connection, &header, question->parts, question->part_count, NULL,
                         time_to_answer(peer, question));
    return rc < 0 ? note_failure(peer, rc) : peer_hear(peer, link, question, answer);
}

int
peer_hear(struct peer *peer, struct peer_link *link, const struct peer_question *question, struct peer_answer *answer)
{
    uint64_t timeout_ms = time_to_answer(peer, question);
    struct message_header header;
    int rc;

    answer->file = NULL;
    rc = connection_receive(&link->connection, timeout_ms, timeout_ms, &header, &answer->body,
                            question->wants_file ? &answer->file : NULL);
    if (rc == 0 && (header.type != question->type || header.call != link->calls))
        rc = -EPROTO;
    if (rc < 0) {
        if (answer->file != NULL)
            peer->env->ops->close(answer->file);
        return note_failure(peer, rc);
    }
    answer->status = header.status;
    answer->size = header.length;
    return VARVE_OK;
}

int
peer_write_begin(struct peer *peer)
{
    int rc = 0;

    mutex_lock(&peer->lock);
    if (peer->writers == 0)
        rc = peer->env->share->lock_shared(peer->writers_file);
    if (rc == 0)
        peer->writers++;
    mutex_unlock(&peer->lock);
    return rc == 0 ? VARVE_OK : PEER_AGAIN;
}

void
peer_write_end(struct peer *peer)
{
    mutex_lock(&peer->lock);
    if (--peer->writers == 0) {
        peer->env->share->unlock(peer->writers_file);
        cond_broadcast(&peer->changed);
    }
    mutex_unlock(&peer->lock);
}
