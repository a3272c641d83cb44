/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: what is on its way, and how they end. */
#include "sim_net_internal.h"

#include <stdlib.h>

#include "sim_log.h"

#define USUAL_DELAY_NS 20000

_Thread_local struct sim_net_watch *sim_net_watched;

struct sim_net *
sim_net_create(struct sim_disk *disk, const struct sim_net_settings *settings)
{
    struct sim_net *net = sim_alloc(sizeof(*net));

    net->settings = *settings;
    net->disk = disk;
    net->rng = sim_rng_make(settings->seed, 11);
    disk->net = net;
    return net;
}

void
sim_net_destroy(struct sim_net *net)
{
    sim_net_collect(net);
    if (net->connections != NULL || net->listeners != NULL)
        sim_fail("a socket is left");
    net->disk->net = NULL;
    free(net);
}

void
sim_net_attach(struct sim_net *net, struct sim_view *view)
{
    assert(view->disk == net->disk);
    view->env.share = &sim_share_ops;
}

bool
sim_net_chance(struct sim_net *net, uint32_t per_mille)
{
    return !net->calm && sim_rng_chance(&net->rng, per_mille);
}

uint64_t
sim_net_due(struct sim_net *net)
{
    const struct sim_net_settings *settings = &net->settings;
    uint64_t delay_ns = sim_rng_log(&net->rng, USUAL_DELAY_NS);

    if (sim_net_chance(net, settings->silence_per_mille)) {
        net->hits.silences++;
        return SIM_NEVER;
    }
    if (sim_net_chance(net, settings->late_per_mille)) {
        net->hits.late++;
        delay_ns = sim_rng_log(&net->rng, settings->late_ns);
    } else if (sim_net_chance(net, settings->delay_per_mille)) {
        net->hits.delays++;
        delay_ns = sim_rng_log(&net->rng, settings->delay_ns);
    }
    return net->disk->now_ns + delay_ns;
}

struct sim_connection *
sim_connection_create(struct sim_net *net, struct sim_listener *listener)
{
    struct sim_connection *connection = sim_alloc(sizeof(*connection));

    connection->next = net->connections;
    net->connections = connection;
    connection->number = ++net->made;
    connection->listener = listener;
    connection->accept_due_ns = sim_net_due(net);
    for (int side = 0; side < SIM_SIDES; side++) {
        connection->ends[side].connection = connection;
        connection->ends[side].last = &connection->ends[side].first;
    }
    connection->ends[SIM_SERVER].socket.released = true; /* until it is taken */
    return connection;
}

void
sim_chunk_append(struct sim_end *to, struct sim_chunk *chunk)
{
    if (chunk->due_ns < to->last_due_ns)
        chunk->due_ns = to->last_due_ns;
    to->last_due_ns = chunk->due_ns;
    chunk->next = NULL;
    *to->last = chunk;
    to->last = &chunk->next;
    to->bytes += chunk->size;
}

void
sim_chunk_drop_first(struct sim_end *end)
{
    struct sim_chunk *chunk = end->first;

    end->first = chunk->next;
    if (end->first == NULL)
        end->last = &end->first;
    end->bytes -= chunk->size - chunk->taken;
    sim_parcel_drop(&chunk->parcel);
    free(chunk);
}

static void
drop_all(struct sim_end *end)
{
    while (end->first != NULL)
        sim_chunk_drop_first(end);
}

/* The bytes on their way to the end are cut at any place; those before it that were to come never are gone, too. */
static bool
cut(struct sim_net *net, struct sim_end *end)
{
    size_t kept = sim_rng_below(&net->rng, end->bytes + 1), whole = end->bytes;
    struct sim_chunk **link = &end->first, *chunk;

    while ((chunk = *link) != NULL && kept > 0 && chunk->due_ns != SIM_NEVER) {
        size_t left = chunk->size - chunk->taken;

        if (left > kept) {
            chunk->size -= left - kept;
            left = kept;
        }
        kept -= left;
        link = &chunk->next;
    }
    end->bytes = 0;
    for (chunk = end->first; chunk != NULL && chunk != *link; chunk = chunk->next)
        end->bytes += chunk->size - chunk->taken;
    chunk = *link;
    *link = NULL;
    end->last = link;
    for (struct sim_chunk *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        sim_parcel_drop(&chunk->parcel);
        free(chunk);
    }
    return end->bytes < whole;
}

void
sim_connection_break(struct sim_net *net, struct sim_connection *connection)
{
    bool inside = false;

    for (int side = 0; side < SIM_SIDES; side++)
        inside = cut(net, &connection->ends[side]) || inside;
    connection->ended = true;
    net->hits.breaks++;
    net->hits.broken_inside += inside;
    sim_log("  connection %llu breaks", (unsigned long long)connection->number);
    sched_signal(connection, NULL);
}

void
sim_end_close(struct sim_end *end)
{
    struct sim_connection *connection = end->connection;

    if (end->socket.over)
        return;
    end->socket.over = true;
    connection->ended = true;
    sim_other_end(end)->reset = end->first != NULL;
    drop_all(end);
    sched_signal(connection, NULL);
}

void
sim_listener_close(struct sim_net *net, struct sim_listener *listener)
{
    if (listener->socket.over)
        return;
    listener->socket.over = true;
    listener->inode->handles--;
    for (struct sim_connection *connection = net->connections; connection != NULL; connection = connection->next) {
        if (connection->listener == listener) {
            connection->listener = NULL;
            sim_end_close(&connection->ends[SIM_SERVER]);
        }
    }
}

static bool
is_free(const struct sim_socket *socket)
{
    return socket->over && socket->released;
}

void
sim_net_collect(struct sim_net *net)
{
    for (struct sim_connection **link = &net->connections, *connection; (connection = *link) != NULL;) {
        if (!is_free(&connection->ends[SIM_CLIENT].socket) || !is_free(&connection->ends[SIM_SERVER].socket)) {
            link = &connection->next;
            continue;
        }
        *link = connection->next;
        drop_all(&connection->ends[SIM_CLIENT]);
        drop_all(&connection->ends[SIM_SERVER]);
        free(connection);
    }
    for (struct sim_listener **link = &net->listeners, *listener; (listener = *link) != NULL;) {
        if (!is_free(&listener->socket)) {
            link = &listener->next;
            continue;
        }
        *link = listener->next;
        free(listener);
    }
}

void
sim_net_settle(struct sim_net *net, struct sim_view *view)
{
    for (struct sim_connection *connection = net->connections; connection != NULL; connection = connection->next) {
        for (int side = 0; side < SIM_SIDES; side++) {
            if (connection->ends[side].socket.base.env == &view->env)
                sim_end_close(&connection->ends[side]);
        }
    }
    for (struct sim_listener *listener = net->listeners; listener != NULL; listener = listener->next) {
        if (listener->socket.base.env == &view->env)
            sim_listener_close(net, listener);
    }
    sim_net_collect(net);
}

void
sim_net_break(struct sim_net *net)
{
    struct sim_connection *connection = net->connections;
    size_t count = 0;

    for (; connection != NULL; connection = connection->next)
        count++;
    if (count == 0)
        return;
    count = sim_rng_below(&net->rng, count);
    for (connection = net->connections; count > 0; count--)
        connection = connection->next;
    if (!connection->ended)
        sim_connection_break(net, connection);
}

static bool
is_late(const struct sim_net *net, const struct sim_end *end)
{
    return end->first != NULL && end->last_due_ns > net->disk->now_ns + USUAL_DELAY_NS;
}

void
sim_net_set_calm(struct sim_net *net, bool calm)
{
    net->calm = calm;
    for (struct sim_connection *connection = net->connections; calm && connection != NULL;
         connection = connection->next) {
        if (connection->listener != NULL && connection->accept_due_ns > net->disk->now_ns + USUAL_DELAY_NS)
            connection->accept_due_ns = net->disk->now_ns;
        if (!connection->ended &&
            (is_late(net, &connection->ends[SIM_CLIENT]) || is_late(net, &connection->ends[SIM_SERVER])))
            sim_connection_break(net, connection);
    }
}

bool
sim_net_asks(const struct sim_net *net, const struct sim_view *view, uint16_t type, bool owes)
{
    const enum sim_side side = owes ? SIM_SERVER : SIM_CLIENT;

    for (const struct sim_connection *connection = net->connections; connection != NULL;
         connection = connection->next) {
        const struct sim_socket *socket = &connection->ends[side].socket;

        if (connection->asked == type && !socket->over && socket->base.env == &view->env)
            return true;
    }
    return false;
}

void
sim_net_watch(struct sim_net_watch *watch)
{
    sim_net_watched = watch;
    if (watch != NULL)
        watch->count = watch->troubles = 0;
}

static bool
lingers(const struct sim_net *net, uint64_t number)
{
    for (const struct sim_connection *connection = net->connections; connection != NULL;
         connection = connection->next) {
        const struct sim_socket *client = &connection->ends[SIM_CLIENT].socket;

        if (connection->number == number)
            return (client->over || sim_view_of(client->base.env)->dead) && !connection->ends[SIM_SERVER].socket.over;
    }
    return false;
}

bool
sim_net_lingers(const struct sim_net *net, const struct sim_net_watch *watch)
{
    for (size_t i = 0; i < watch->count; i++) {
        if (lingers(net, watch->connections[i]))
            return true;
    }
    return false;
}
