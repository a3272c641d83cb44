/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/connection.h"

#include <errno.h>
#include <string.h>

#define BUF_BYTES      ((size_t)16 << 10) /* the body of an ordinary question: 500 ids */
#define BUF_BYTES_KEPT ((size_t)256 << 10)

int
connection_init(struct connection *connection, struct env *env, struct env_socket *socket)
{
    *connection = (struct connection){.env = env, .socket = socket, .capacity = BUF_BYTES};
    connection->buf = env->ops->alloc(env, BUF_BYTES, _Alignof(uint64_t));
    if (connection->buf != NULL)
        return 0;
    env->share->close(socket);
    connection->socket = NULL;
    return -ENOMEM;
}

void
connection_deinit(struct connection *connection)
{
    if (connection->socket != NULL)
        connection->env->share->close(connection->socket);
    env_free(connection->env, connection->buf);
    connection->socket = NULL;
    connection->buf = NULL;
}

/* Room for `wanted` bytes; the first `kept` stay. */
static int
make_room(struct connection *connection, size_t wanted, size_t kept)
{
    struct env *env = connection->env;
    uint8_t *grown;

    if (wanted <= connection->capacity)
        return 0;
    grown = env->ops->alloc(env, wanted, _Alignof(uint64_t));
    if (grown == NULL)
        return -ENOMEM;
    memcpy(grown, connection->buf, kept);
    env_free(env, connection->buf);
    connection->buf = grown;
    connection->capacity = wanted;
    return 0;
}

/* `sent` bytes of the buffers are gone. */
static void
advance(struct iovec **iov, uint32_t *iov_count, uint64_t sent)
{
    while (*iov_count > 0 && sent >= (*iov)->iov_len) {
        sent -= (*iov)->iov_len;
        (*iov)++;
        (*iov_count)--;
    }
    if (*iov_count > 0) {
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + sent;
        (*iov)->iov_len -= (size_t)sent;
    }
}

int
connection_send(struct connection *connection, struct message_header *header, const struct iovec *parts,
                uint32_t part_count, const struct env_file *file, uint64_t timeout_ms)
{
    struct env *env = connection->env;
    uint64_t until_ns = env->ops->now_ns(env) + timeout_ms * 1000000;
    uint8_t head[MESSAGE_HEADER_BYTES];
    struct iovec all[1 + CONNECTION_PARTS_MAX] = {{head, sizeof(head)}}, *iov = all;
    uint32_t iov_count = 1;
    uint64_t length = 0;

    for (uint32_t i = 0; i < part_count; i++) {
        length += parts[i].iov_len;
        if (parts[i].iov_len > 0)
            all[iov_count++] = parts[i];
    }
    if (length > MESSAGE_BODY_MAX)
        return -EMSGSIZE;
    header->version = MESSAGE_VERSION;
    header->length = (uint32_t)length;
    message_header_encode(header, head);
    while (iov_count > 0) {
        int64_t sent = env->share->send(connection->socket, iov, iov_count, file, timeout_ms);

        if (sent == -EAGAIN || (sent >= 0 && env->ops->now_ns(env) > until_ns))
            return -ETIMEDOUT;
        if (sent < 0)
            return (int)sent;
        file = NULL;
        advance(&iov, &iov_count, (uint64_t)sent);
    }
    return 0;
}

/*
 * What came behind the last message goes to the front. A buffer that a large one left is not kept: memory of idle connections is bounded. 0 or -ENOMEM.
 */
static int
begin_message(struct connection *connection)
{
    struct env *env = connection->env;

    if (connection->surplus > 0) {
        memmove(connection->buf, connection->buf + connection->taken, connection->surplus);
    } else if (connection->capacity > BUF_BYTES_KEPT) {
        env_free(env, connection->buf);
        connection->capacity = 0;
        connection->buf = env->ops->alloc(env, BUF_BYTES, _Alignof(uint64_t));
        if (connection->buf == NULL)
            return -ENOMEM;
        connection->capacity = BUF_BYTES;
    }
    return 0;
}

/* Of the `size` bytes that came the first are a header: then there is room for the whole message, *whole bytes. 0 or -errno. */
static int
take_header(struct connection *connection, size_t size, struct message_header *header, enum message_check *check,
            size_t *whole)
{
    *check = message_header_decode(connection->buf, header);
    if (*check == MESSAGE_BAD)
        return -EPROTO;
    *whole += header->length;
    return make_room(connection, *whole, size);
}

int
connection_receive(struct connection *connection, uint64_t wait_ms, uint64_t timeout_ms, struct message_header *header,
                   const uint8_t **body, struct env_file **file)
{
    struct env *env = connection->env;
    enum message_check check = MESSAGE_GOOD;
    size_t size = connection->surplus, whole = MESSAGE_HEADER_BYTES;
    uint64_t until_ns = size == 0 ? 0 : env->ops->now_ns(env) + timeout_ms * 1000000;
    int rc = begin_message(connection);

    connection->surplus = 0;
    while (rc == 0) {
        int64_t got;

        if (whole == MESSAGE_HEADER_BYTES && size >= whole)
            rc = take_header(connection, size, header, &check, &whole);
        if (rc < 0 || size >= whole)
            break;
        if (size > 0 && env->ops->now_ns(env) > until_ns)
            return -ETIMEDOUT; /* a byte now and then is as good as none */
        got = env->share->receive(connection->socket, connection->buf + size, connection->capacity - size,
                                  size == 0 ? wait_ms : timeout_ms, file);
        if (got == 0)
            return -EPIPE;
        if (got == -EAGAIN)
            return size == 0 ? -EAGAIN : -ETIMEDOUT;
        if (got < 0)
            return (int)got;
        if (size == 0)
            until_ns = env->ops->now_ns(env) + timeout_ms * 1000000;
        size += (size_t)got;
    }
    if (rc < 0)
        return rc;
    if (size > whole && header->status != MESSAGE_GOING_ON)
        return -EPROTO;
    connection->taken = whole;
    connection->surplus = size - whole;
    *body = connection->buf + MESSAGE_HEADER_BYTES;
    return check == MESSAGE_OTHER_VERSION ? -EPROTONOSUPPORT : 0;
}
