/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread takes connections, and each has one that answers. There are CLIENTS_MAX at most: for one more, the connection that has been idle longest is ended, which
 * a peer does not mind.
 */
#include "peer/server.h"

#include <errno.h>

#include "base/error.h"
#include "format/format.h"
#include "peer/client.h"

#define CLIENTS_MAX    256
#define ACCEPT_WAIT_MS 100
#define IDLE_WAIT_MS   500
#define PUT_WAIT_MS    50   /* while a put is under way, and its time is to be watched */
#define MESSAGE_MS     5000 /* for the rest of a question that has begun, and for an answer to be taken */
#define GREETING_MS    2000
#define ENDING_WAIT_MS 2
#define ENDING_MS      1000 /* for puts that are under way when the server ends */

struct server {
    varve_store *store;
    struct env *env;
    struct env_socket *listener;
    pthread_t acceptor;
    struct mutex lock;
    struct client *clients; /* with a thread */
    struct client *ended;   /* whose threads are to be joined */
    uint32_t count;
    bool stop;
};

void
answer_add(struct answer *answer, const void *bytes, size_t size)
{
    answer->parts[answer->part_count++] = (struct iovec){(void *)(uintptr_t)bytes, size};
}

static bool
is_stopped(struct server *server)
{
    bool stop;

    mutex_lock(&server->lock);
    stop = server->stop;
    mutex_unlock(&server->lock);
    return stop;
}

/* False: the connection was ended meanwhile. A question that came before that must not be answered any more: the peer repeats it on another, and this one would be late. */
static bool
set_busy(struct client *client, bool busy)
{
    struct server *server = client->server;
    bool closing;

    mutex_lock(&server->lock);
    client->busy = busy;
    client->putting = client->put.begun;
    client->idle_since_ns = server->env->ops->now_ns(server->env);
    closing = client->closing;
    mutex_unlock(&server->lock);
    return !closing;
}

int
client_answer(struct client *client, const struct message_header *question, const struct answer *answer)
{
    struct message_header header = {.type = question->type, .call = question->call, .status = answer->status};

    return connection_send(&client->connection, &header, answer->parts, answer->part_count, answer->file, MESSAGE_MS);
}

static void
release_answer(struct client *client, struct answer *answer)
{
    if (answer->segment != NULL) {
        log_file_release(client->store->log, answer->segment);
        log_release(client->store->log, answer->segment);
    }
    env_free(client->store->env, answer->memory);
}

/* One that speaks another version is told so in words, in a message that every version can read. */
static void
refuse_version(struct client *client, const struct message_header *question)
{
    static const char text[] = "the process that owns the store speaks another version: use one version for all";
    struct answer answer = {.status = VARVE_E_VERSION};

    COUNT(&client->store->counters, peer_refused, 1);
    answer_add(&answer, text, sizeof(text));
    (void)client_answer(client, question, &answer);
}

/*
 * Time that the peer says its gets and puts took, for the controller, which weighs the index against them. It has one of them at a time on this connection, so more
 * than went by since it told the last time cannot be true.
 */
static void
count_time(struct client *client, const struct message_header *question)
{
    uint64_t now_ns = client->store->env->ops->now_ns(client->store->env);
    uint64_t passed_us = (now_ns - client->told_ns) / 1000, get_us = question->get_us, put_us = question->put_us;

    if (get_us == 0 && put_us == 0)
        return;
    get_us = get_us < passed_us ? get_us : passed_us;
    put_us = put_us < passed_us - get_us ? put_us : passed_us - get_us;
    client->told_ns = now_ns;
    COUNT(&client->store->counters, peer_get_time_us, get_us);
    COUNT(&client->store->counters, peer_put_time_us, put_us);
}

/* Nothing was asked for a while. False: the connection is to end. */
static bool
look_at_time(struct client *client)
{
    uint64_t now_ns = client->server->env->ops->now_ns(client->server->env);

    if (client_iter_expired(client, now_ns))
        return false;
    return client->greeted && !client_put_expired(client, now_ns) && (client->put.begun || !is_stopped(client->server));
}

/* The next question, or a look at the time. False: the connection is to end. */
static bool
serve_next(struct client *client)
{
    struct message_header header;
    struct answer answer = {0};
    const uint8_t *body;
    uint64_t wait_ms = !client->greeted ? GREETING_MS : client->put.begun ? PUT_WAIT_MS : IDLE_WAIT_MS;
    int rc = connection_receive(&client->connection, wait_ms, MESSAGE_MS, &header, &body, NULL);
    bool good;

    if (rc == -EAGAIN)
        return look_at_time(client);
    if (rc == -EPROTONOSUPPORT)
        refuse_version(client, &header);
    if (rc < 0)
        return false;
    if (!set_busy(client, true))
        return false;
    COUNT(&client->store->counters, peer_calls, 1);
    count_time(client, &header);
    good = header.status == 0 && (client->greeted || header.type == MESSAGE_HELLO) &&
           serve_call(client, &header, body, &answer);
    if (good)
        good = client_answer(client, &header, &answer) == 0 && answer.status != VARVE_E_VERSION;
    else if (!client->lost)
        COUNT(&client->store->counters, peer_refused, 1);
    release_answer(client, &answer);
    client->greeted = good;
    good = set_busy(client, false) && good;
    return good && !client_put_expired(client, client->idle_since_ns); /* whatever else it asks for meanwhile */
}

/* Take a client off the list of those with a thread. server->lock held. */
static void
unlink_client(struct server *server, const struct client *client)
{
    for (struct client **link = &server->clients; *link != NULL; link = &(*link)->next) {
        if (*link == client) {
            *link = client->next;
            break;
        }
    }
    server->count--;
    atomic_store_explicit(&server->store->peers, server->count, memory_order_relaxed);
}

static void *
client_main(void *arg)
{
    struct client *client = arg;
    struct server *server = client->server;

    while (serve_next(client))
        ;
    client_put_abandon(client);
    client_iter_close(client);
    mutex_lock(&server->lock);
    client->closing = true; /* nobody shuts the socket down from here on */
    unlink_client(server, client);
    client->next = server->ended;
    server->ended = client;
    mutex_unlock(&server->lock);
    connection_deinit(&client->connection);
    return NULL;
}

static void
join_ended(struct server *server)
{
    struct client *client;

    for (;;) {
        mutex_lock(&server->lock);
        client = server->ended;
        if (client != NULL)
            server->ended = client->next;
        mutex_unlock(&server->lock);
        if (client == NULL)
            return;
        (void)pthread_join(client->thread, NULL);
        env_free(server->env, client);
    }
}

/* End the connection that has been idle longest; one with a put under way is not. server->lock held. */
static void
end_idlest(struct server *server)
{
    struct client *idlest = NULL;

    for (struct client *client = server->clients; client != NULL; client = client->next) {
        if (!client->busy && !client->putting && !client->closing &&
            (idlest == NULL || client->idle_since_ns < idlest->idle_since_ns))
            idlest = client;
    }
    if (idlest != NULL) {
        idlest->closing = true;
        server->env->share->shutdown(idlest->connection.socket);
    }
}

static void
begin_client(struct server *server, struct env_socket *socket)
{
    struct env *env = server->env;
    struct client *client = env_zalloc(env, sizeof(*client));
    bool begun;

    if (client == NULL || connection_init(&client->connection, env, socket) < 0) {
        if (client == NULL)
            env->share->close(socket);
        env_free(env, client);
        return;
    }
    client->server = server;
    client->store = server->store;
    client->idle_since_ns = client->told_ns = env->ops->now_ns(env);
    mutex_lock(&server->lock);
    client->next = server->clients;
    server->clients = client;
    server->count++;
    atomic_store_explicit(&server->store->peers, server->count, memory_order_relaxed);
    if (server->count >= CLIENTS_MAX)
        end_idlest(server);
    begun = server->count <= CLIENTS_MAX && pthread_create(&client->thread, NULL, client_main, client) == 0;
    if (!begun)
        unlink_client(server, client);
    mutex_unlock(&server->lock);
    if (!begun) {
        connection_deinit(&client->connection);
        env_free(env, client);
    }
}

static void *
acceptor_main(void *arg)
{
    struct server *server = arg;
    struct env *env = server->env;
    struct env_socket *socket;

    while (!is_stopped(server)) {
        int rc = env->share->accept(server->listener, ACCEPT_WAIT_MS, &socket);

        if (rc == 0)
            begin_client(server, socket);
        else if (rc == -EACCES)
            COUNT(&server->store->counters, peer_refused, 1);
        else if (rc != -EAGAIN)
            env->share->sleep_ms(env, ACCEPT_WAIT_MS); /* out of descriptors: some may be closed meanwhile */
        join_ended(server);
    }
    return NULL;
}

int
server_create(varve_store *store, struct server **out, varve_error *err)
{
    struct env *env = store->env;
    struct server *server = env_zalloc(env, sizeof(*server));
    int rc;

    if (server == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    server->store = store;
    server->env = env;
    mutex_init(&server->lock);
    rc = env->share->listen(env, FORMAT_SOCKET_NAME, &server->listener);
    if (rc == 0) {
        rc = -pthread_create(&server->acceptor, NULL, acceptor_main, server);
        if (rc < 0)
            env->share->close(server->listener);
    }
    if (rc < 0) {
        mutex_deinit(&server->lock);
        env_free(env, server);
        return error_os(err, rc, "listen for other processes");
    }
    *out = server;
    return VARVE_OK;
}

/* End connections that wait for a question; with `all`, those in the middle of a put, too. Returns how many there are. */
static uint32_t
shut_down_clients(struct server *server, bool all)
{
    uint32_t count;

    mutex_lock(&server->lock);
    for (struct client *client = server->clients; client != NULL; client = client->next) {
        if (client->closing || (!all && (client->busy || client->putting)))
            continue;
        client->closing = true;
        server->env->share->shutdown(client->connection.socket);
    }
    count = server->count;
    mutex_unlock(&server->lock);
    return count;
}

void
server_destroy(struct server *server)
{
    struct env *env;

    if (server == NULL)
        return;
    env = server->env;
    (void)env->ops->unlink(env, FORMAT_SOCKET_NAME); /* nobody new */
    mutex_lock(&server->lock);
    server->stop = true;
    mutex_unlock(&server->lock);
    (void)pthread_join(server->acceptor, NULL);
    env->share->close(server->listener);
    for (int waited_ms = 0; shut_down_clients(server, waited_ms >= ENDING_MS) > 0; waited_ms += ENDING_WAIT_MS) {
        join_ended(server);
        env->share->sleep_ms(env, ENDING_WAIT_MS);
    }
    join_ended(server);
    mutex_deinit(&server->lock);
    env_free(env, server);
}
