/* SPDX-License-Identifier: Apache-2.0 */
/* The env's calls on connections (struct env_share_ops), on simulated streams. */
#include <errno.h>
#include <stdlib.h>

#include "peer/message.h"
#include "sim_log.h"
#include "sim_net_internal.h"

#define CALL_NS 10000 /* that a call takes, at most */

static struct sim_net *
net_of(struct env *env)
{
    return sim_view_of(env)->disk->net;
}

/* Every call begins here. False: the process is no more. */
static bool
begin(struct env *env)
{
    struct sim_net *net = net_of(env);

    net->point(env);
    net->disk->now_ns += sim_rng_log(&net->rng, CALL_NS);
    return sim_alive(sim_view_of(env));
}

static void
note_trouble(void)
{
    if (sim_net_watched != NULL)
        sim_net_watched->troubles++;
}

static void
note_connection(const struct sim_connection *connection)
{
    struct sim_net_watch *watch = sim_net_watched;

    for (size_t i = 0; watch != NULL && i < watch->count; i++) {
        if (watch->connections[i] == connection->number)
            return;
    }
    if (watch == NULL)
        return;
    assert(watch->count < SIM_NET_WATCH_MAX);
    watch->connections[watch->count++] = connection->number;
}

static uint64_t
deadline_of(struct env *env, uint64_t timeout_ms)
{
    return net_of(env)->disk->now_ns + timeout_ms * 1000000;
}

static void
hand_out(struct sim_socket *socket, struct env *env, struct env_socket **out)
{
    socket->base.env = env;
    socket->released = false;
    sim_view_of(env)->held++;
    *out = &socket->base;
}

static int
share_listen(struct env *env, const char *name, struct env_socket **out)
{
    struct sim_net *net = net_of(env);
    struct sim_listener *listener;
    struct env_file *file;
    int rc;

    if (!begin(env))
        return -EIO;
    rc = sim_env_ops.unlink(env, name);
    if (rc == 0 || rc == -ENOENT)
        rc = sim_env_ops.open(env, name, ENV_OPEN_CREATE, &file);
    if (rc < 0)
        return rc;
    listener = sim_alloc(sizeof(*listener));
    listener->socket.listens = true;
    listener->inode = ((struct sim_file *)(void *)file)->inode;
    listener->inode->handles++;
    listener->next = net->listeners;
    net->listeners = listener;
    sim_env_ops.close(file);
    hand_out(&listener->socket, env, out);
    return 0;
}

/* The one that waits longest and whose time has come, or NULL: *next_ns says when the next one's does. */
static struct sim_connection *
waiting_at(struct sim_net *net, const struct sim_listener *listener, uint64_t *next_ns)
{
    struct sim_connection *found = NULL;

    for (struct sim_connection *connection = net->connections; connection != NULL; connection = connection->next) {
        if (connection->listener != listener)
            continue;
        if (connection->accept_due_ns <= net->disk->now_ns)
            found = connection;
        else if (connection->accept_due_ns < *next_ns)
            *next_ns = connection->accept_due_ns;
    }
    return found;
}

static int
share_accept(struct env_socket *base, uint64_t timeout_ms, struct env_socket **out)
{
    struct sim_listener *listener = (struct sim_listener *)(void *)base;
    struct sim_net *net = net_of(base->env);
    uint64_t deadline_ns = deadline_of(base->env, timeout_ms), next_ns;
    struct sim_connection *connection;

    for (;;) {
        if (!begin(base->env))
            return -EIO;
        next_ns = deadline_ns;
        connection = waiting_at(net, listener, &next_ns);
        if (connection != NULL)
            break;
        if (net->disk->now_ns >= deadline_ns)
            return -EAGAIN;
        (void)sched_wait(listener, next_ns);
    }
    if (sim_net_chance(net, net->settings.refuse_per_mille))
        return -EMFILE; /* it goes on waiting */
    connection->listener = NULL;
    hand_out(&connection->ends[SIM_SERVER].socket, base->env, out);
    return 0;
}

static struct sim_listener *
find_listener(struct sim_net *net, const struct sim_inode *inode)
{
    struct sim_listener *listener = net->listeners;

    while (listener != NULL && (listener->inode != inode || listener->socket.over))
        listener = listener->next;
    return listener;
}

static int
connect_to(struct env *env, const char *name, struct env_socket **out)
{
    struct sim_net *net = net_of(env);
    struct sim_inode *inode = sim_dir_find(&net->disk->current, name);
    struct sim_listener *listener;
    struct sim_connection *connection;

    if (inode == NULL)
        return -ENOENT;
    listener = find_listener(net, inode);
    if (listener == NULL)
        return -ECONNREFUSED;
    if (sim_net_chance(net, net->settings.refuse_per_mille)) {
        net->hits.refusals++;
        return sim_rng_chance(&net->rng, 500) ? -EAGAIN : -ECONNREFUSED;
    }
    connection = sim_connection_create(net, listener);
    hand_out(&connection->ends[SIM_CLIENT].socket, env, out);
    sched_signal(listener, NULL);
    return 0;
}

static int
share_connect(struct env *env, const char *name, struct env_socket **out)
{
    int rc = begin(env) ? connect_to(env, name, out) : -EIO;

    if (rc < 0)
        note_trouble();
    return rc;
}

/* The first `size` bytes of the buffers, on their way. */
static struct sim_chunk *
make_chunk(struct sim_net *net, const struct iovec *iov, size_t size, const struct env_file *file)
{
    struct sim_chunk *chunk = sim_alloc(sizeof(*chunk) + size);
    size_t done = 0;

    for (; done < size; iov++) {
        size_t part = iov->iov_len < size - done ? iov->iov_len : size - done;

        if (part > 0)
            memcpy(chunk->bytes + done, iov->iov_base, part);
        done += part;
    }
    chunk->size = size;
    chunk->due_ns = sim_net_due(net);
    if (file != NULL) {
        chunk->parcel = sim_parcel_pack(file);
        net->hits.parcels++;
    }
    return chunk;
}

static size_t
some_of(struct sim_net *net, size_t size)
{
    if (size == 1 || !sim_net_chance(net, net->settings.split_per_mille))
        return size;
    net->hits.splits++;
    return sim_rng_log(&net->rng, size - 1);
}

/* The client's bytes may begin a question, the server's are the answer. */
static void
note_question(struct sim_end *end, const struct sim_chunk *chunk)
{
    struct message_header header;

    if (end == &end->connection->ends[SIM_SERVER])
        end->connection->asked = 0;
    else if (chunk->size >= MESSAGE_HEADER_BYTES && message_header_decode(chunk->bytes, &header) == MESSAGE_GOOD)
        end->connection->asked = header.type;
}

static int64_t
send_some(struct sim_end *end, const struct iovec *iov, uint32_t iov_count, const struct env_file *file,
          uint64_t timeout_ms)
{
    struct env *env = end->socket.base.env;
    struct sim_net *net = net_of(env);
    struct sim_end *to = sim_other_end(end);
    uint64_t deadline_ns = deadline_of(env, timeout_ms);
    struct sim_chunk *chunk;
    size_t size = 0;

    for (uint32_t i = 0; i < iov_count; i++)
        size += iov[i].iov_len;
    for (;;) {
        if (!begin(env))
            return -EIO;
        if (end->connection->ended)
            return -EPIPE;
        if (to->bytes < net->settings.room_bytes)
            break;
        if (net->disk->now_ns >= deadline_ns)
            return -EAGAIN;
        (void)sched_wait(end->connection, deadline_ns);
    }
    if (size > net->settings.room_bytes - to->bytes)
        size = net->settings.room_bytes - to->bytes;
    size = some_of(net, size);
    chunk = make_chunk(net, iov, size, file);
    note_question(end, chunk);
    sim_chunk_append(to, chunk);
    if (end == &end->connection->ends[SIM_CLIENT])
        note_connection(end->connection);
    if (sim_net_chance(net, net->settings.break_per_mille))
        sim_connection_break(net, end->connection);
    sched_signal(end->connection, NULL);
    return (int64_t)size;
}

static int64_t
share_send(struct env_socket *base, const struct iovec *iov, uint32_t iov_count, const struct env_file *file,
           uint64_t timeout_ms)
{
    int64_t sent = send_some((struct sim_end *)(void *)base, iov, iov_count, file, timeout_ms);

    if (sent < 0)
        note_trouble();
    net_of(base->env)->hits.timeouts += sent == -EAGAIN;
    return sent;
}

/* Bytes of the first chunk, which has arrived. */
static size_t
take(struct sim_end *end, void *buf, size_t size, struct env_file **file)
{
    struct sim_net *net = net_of(end->socket.base.env);
    struct sim_chunk *chunk = end->first;
    size_t left = chunk->size - chunk->taken;

    size = some_of(net, size < left ? size : left);
    memcpy(buf, chunk->bytes + chunk->taken, size);
    if (chunk->parcel.inode != NULL && file != NULL && *file == NULL)
        *file = sim_parcel_unpack(&chunk->parcel, sim_view_of(end->socket.base.env));
    sim_parcel_drop(&chunk->parcel); /* who takes none lets the kernel close it */
    chunk->taken += size;
    end->bytes -= size;
    if (chunk->taken == chunk->size)
        sim_chunk_drop_first(end);
    sched_signal(end->connection, NULL); /* there is room again */
    return size;
}

static int64_t
receive_some(struct sim_end *end, void *buf, size_t size, uint64_t timeout_ms, struct env_file **file)
{
    struct env *env = end->socket.base.env;
    struct sim_net *net = net_of(env);
    uint64_t deadline_ns = deadline_of(env, timeout_ms);

    for (;;) {
        uint64_t until_ns = deadline_ns;

        if (!begin(env))
            return -EIO;
        if (end->first != NULL && end->first->due_ns <= net->disk->now_ns)
            return (int64_t)take(end, buf, size, file);
        if (end->connection->ended && (end->first == NULL || end->first->due_ns == SIM_NEVER)) {
            net->hits.resets += end->reset;
            return end->reset ? -ECONNRESET : 0;
        }
        if (net->disk->now_ns >= deadline_ns)
            return -EAGAIN;
        if (end->first != NULL && end->first->due_ns < until_ns)
            until_ns = end->first->due_ns;
        (void)sched_wait(end->connection, until_ns);
    }
}

static int64_t
share_receive(struct env_socket *base, void *buf, size_t size, uint64_t timeout_ms, struct env_file **file)
{
    int64_t got = receive_some((struct sim_end *)(void *)base, buf, size, timeout_ms, file);

    if (got <= 0)
        note_trouble();
    net_of(base->env)->hits.timeouts += got == -EAGAIN;
    return got;
}

static void
share_shutdown(struct env_socket *base)
{
    struct sim_end *end = (struct sim_end *)(void *)base;

    if (!begin(base->env))
        return;
    end->connection->ended = true;
    sched_signal(end->connection, NULL);
}

static void
share_close(struct env_socket *base)
{
    struct sim_socket *socket = (struct sim_socket *)(void *)base;
    struct sim_view *view = sim_view_of(base->env);

    (void)begin(base->env);
    assert(view->held > 0 && !socket->released);
    view->held--;
    socket->released = true;
    if (!sim_is_down(view) && socket->listens)
        sim_listener_close(view->disk->net, (struct sim_listener *)(void *)socket);
    else if (!sim_is_down(view))
        sim_end_close((struct sim_end *)(void *)socket);
    sim_net_collect(view->disk->net);
}

static int
share_lock(struct env *env, const char *name, bool shared, struct env_file **out)
{
    return begin(env) ? sim_view_lock(env, name, shared, out) : -EIO;
}

static int
share_lock_shared(struct env_file *file)
{
    int rc = begin(file->env) ? sim_view_lock_shared(file) : -EIO;

    if (rc < 0)
        note_trouble();
    return rc;
}

static void
share_unlock(struct env_file *file)
{
    if (begin(file->env))
        sim_view_unlock(file);
}

static void
share_sleep_ms(struct env *env, uint64_t time_ms)
{
    if (begin(env))
        (void)sched_wait(env, deadline_of(env, time_ms));
}

const struct env_share_ops sim_share_ops = {
    .listen = share_listen,
    .accept = share_accept,
    .connect = share_connect,
    .send = share_send,
    .receive = share_receive,
    .shutdown = share_shutdown,
    .close = share_close,
    .lock = share_lock,
    .lock_shared = share_lock_shared,
    .unlock = share_unlock,
    .sleep_ms = share_sleep_ms,
};
