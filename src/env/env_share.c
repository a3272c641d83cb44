/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env_share.c - sockets between processes that use one directory. They are named in the directory and reached through its descriptor, so that processes
 * that see it under different paths, in containers, meet all the same. Who is at the other end is asked of the kernel, once, when a connection is made.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "env/env_posix.h"

#define BACKLOG     128
#define SOCKET_MODE 0600

struct posix_socket {
    struct env_socket socket; /* first */
    int fd;
    uint64_t send_ms, receive_ms; /* the timeouts that are set */
};

static int
socket_fd(const struct env_socket *socket)
{
    return ((const struct posix_socket *)socket)->fd;
}

/* A socket for a descriptor, which goes with it, or is closed. */
static int
socket_wrap(struct env *env, int fd, struct env_socket **out)
{
    struct posix_socket *socket = env_zalloc(env, sizeof(*socket));

    if (socket == NULL) {
        (void)close(fd);
        return -ENOMEM;
    }
    socket->socket.env = env;
    socket->fd = fd;
    *out = &socket->socket;
    return 0;
}

/* The name as an address. Paths may be longer than one takes; this one never is. */
static int
socket_address(struct env *env, const char *name, struct sockaddr_un *address)
{
    int size;

    memset(address, 0, sizeof(*address));
    address->sun_family = AF_UNIX;
    size = snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/%s",
                    ((struct posix_env *)env)->dir_fd, name);
    return size < 0 || (size_t)size >= sizeof(address->sun_path) ? -ENAMETOOLONG : 0;
}

static int
same_user(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return -errno;
    return peer.uid == geteuid() ? 0 : -EACCES;
}

static int
share_listen(struct env *env, const char *name, struct env_socket **out)
{
    struct sockaddr_un address;
    int rc = socket_address(env, name, &address);
    int fd;

    if (rc < 0)
        return rc;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    rc = env->ops->unlink(env, name);
    /* The mode first: the name must never be open to others, whatever the umask. */
    if ((rc == 0 || rc == -ENOENT) && fchmod(fd, SOCKET_MODE) == 0 &&
        bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
        fchmodat(((struct posix_env *)env)->dir_fd, name, SOCKET_MODE, 0) == 0 && listen(fd, BACKLOG) == 0)
        return socket_wrap(env, fd, out);
    rc = rc < 0 && rc != -ENOENT ? rc : -errno;
    (void)close(fd);
    return rc;
}

static int
share_accept(struct env_socket *listener, uint64_t timeout_ms, struct env_socket **out)
{
    struct pollfd ready = {.fd = socket_fd(listener), .events = POLLIN};
    int fd, rc;

    if (poll(&ready, 1, (int)timeout_ms) <= 0)
        return -EAGAIN;
    fd = accept4(ready.fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return errno == EINTR || errno == ECONNABORTED ? -EAGAIN : -errno;
    rc = same_user(fd);
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    return socket_wrap(listener->env, fd, out);
}

static int
share_connect(struct env *env, const char *name, struct env_socket **out)
{
    struct sockaddr_un address;
    int rc = socket_address(env, name, &address);
    int fd;

    if (rc < 0)
        return rc;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); /* a full backlog is an answer, too */
    if (fd < 0)
        return -errno;
    rc = connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : same_user(fd);
    if (rc == 0 && fcntl(fd, F_SETFL, 0) < 0)
        rc = -errno;
    if (rc < 0) {
        (void)close(fd);
        return rc;
    }
    return socket_wrap(env, fd, out);
}

/* Calls with the same timeout as the one before cost no system call for it. */
static int
set_timeout(int fd, int option, uint64_t timeout_ms, uint64_t *present)
{
    struct timeval time = {.tv_sec = (time_t)(timeout_ms / 1000), .tv_usec = (suseconds_t)(timeout_ms % 1000 * 1000)};

    if (timeout_ms == *present)
        return 0;
    if (setsockopt(fd, SOL_SOCKET, option, &time, sizeof(time)) < 0)
        return -errno;
    *present = timeout_ms;
    return 0;
}

static uint64_t
time_after(struct env *env, uint64_t time_ms)
{
    return env->ops->now_ns(env) + time_ms * 1000000;
}

/* A signal ended a wait, which goes on for what is left until then, and no longer. 0 or -errno: -EAGAIN nothing is left. */
static int
set_time_left(const struct posix_socket *socket, int option, uint64_t until_ns, uint64_t *present)
{
    struct env *env = socket->socket.env;
    uint64_t now_ns = env->ops->now_ns(env);

    if (now_ns >= until_ns)
        return -EAGAIN;
    return set_timeout(socket->fd, option, (until_ns - now_ns + 999999) / 1000000, present);
}

static int64_t
share_send(struct env_socket *base, const struct iovec *iov, uint32_t iov_count, const struct env_file *file,
           uint64_t timeout_ms)
{
    struct posix_socket *socket = (struct posix_socket *)base;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = iov_count};
    uint64_t until_ns = time_after(base->env, timeout_ms);
    ssize_t sent;
    int rc = set_timeout(socket->fd, SO_SNDTIMEO, timeout_ms, &socket->send_ms);

    if (rc < 0)
        return rc;
    if (file != NULL) {
        struct cmsghdr *header;
        int fd = posix_file_fd(file);

        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(fd));
        memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    }
    while ((sent = sendmsg(socket->fd, &message, MSG_NOSIGNAL)) < 0) {
        rc = errno == EINTR ? set_time_left(socket, SO_SNDTIMEO, until_ns, &socket->send_ms) : -errno;
        if (rc < 0)
            return rc;
    }
    return sent;
}

/* The one descriptor that came along, if it is of a regular file: any other could make I/O on it wait for ever. Else -1; and none is left open. */
static int
take_descriptor(struct msghdr *message)
{
    int taken = -1;

    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
        size_t count = 0;

        if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
            count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            struct stat about;
            int fd;

            memcpy(&fd, CMSG_DATA(header) + i * sizeof(fd), sizeof(fd));
            if (taken < 0 && fstat(fd, &about) == 0 && S_ISREG(about.st_mode))
                taken = fd;
            else
                (void)close(fd);
        }
    }
    return taken;
}

static int64_t
share_receive(struct env_socket *base, void *buf, size_t size, uint64_t timeout_ms, struct env_file **file)
{
    struct posix_socket *socket = (struct posix_socket *)base;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 4)];
    } control;
    struct iovec iov = {buf, size};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    uint64_t until_ns = time_after(base->env, timeout_ms);
    ssize_t got;
    int rc = set_timeout(socket->fd, SO_RCVTIMEO, timeout_ms, &socket->receive_ms), fd;

    if (rc < 0)
        return rc;
    if (file != NULL) { /* without room for them, the kernel closes what comes along */
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
    }
    while ((got = recvmsg(socket->fd, &message, MSG_CMSG_CLOEXEC)) < 0) {
        rc = errno == EINTR ? set_time_left(socket, SO_RCVTIMEO, until_ns, &socket->receive_ms) : -errno;
        if (rc < 0)
            return rc;
    }
    fd = file == NULL ? -1 : take_descriptor(&message);
    if (fd < 0)
        return got;
    if (*file == NULL)
        *file = posix_file_wrap(base->env, fd);
    else
        (void)close(fd);
    if (*file == NULL) {
        (void)close(fd);
        return -ENOMEM;
    }
    return got;
}

static void
share_shutdown(struct env_socket *socket)
{
    (void)shutdown(socket_fd(socket), SHUT_RDWR);
}

static void
share_close(struct env_socket *socket)
{
    (void)close(socket_fd(socket));
    env_free(socket->env, socket);
}

static int
flock_retry(int fd, int operation)
{
    int rc;

    do
        rc = flock(fd, operation);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

static int
share_lock(struct env *env, const char *name, bool shared, struct env_file **out)
{
    int fd = posix_open_retry(((struct posix_env *)env)->dir_fd, name, O_RDWR | O_CREAT);
    int rc;

    if (fd < 0)
        return fd;
    rc = flock_retry(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB);
    if (rc == 0) {
        if (!shared)
            posix_lock_describe(fd);
        *out = posix_file_wrap(env, fd);
        rc = *out == NULL ? -ENOMEM : 0;
    }
    if (rc < 0)
        (void)close(fd);
    return rc;
}

static int
share_lock_shared(struct env_file *file)
{
    return flock_retry(posix_file_fd(file), LOCK_SH | LOCK_NB);
}

static void
share_unlock(struct env_file *file)
{
    (void)flock_retry(posix_file_fd(file), LOCK_UN);
}

static void
share_sleep_ms(struct env *env, uint64_t time_ms)
{
    const struct timespec time = {.tv_sec = (time_t)(time_ms / 1000), .tv_nsec = (long)(time_ms % 1000) * 1000000};

    (void)env;
    (void)nanosleep(&time, NULL);
}

const struct env_share_ops posix_share_ops = {
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

void
posix_alive_create(struct posix_env *env)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return;
    if (madvise(page, size, MADV_WIPEONFORK) < 0) { /* before Linux 4.14 */
        (void)munmap(page, size);
        return;
    }
    env->alive = page;
    *env->alive = 1;
    env->env.alive = env->alive;
}

void
posix_alive_destroy(struct posix_env *env)
{
    if (env->alive != NULL)
        (void)munmap(env->alive, (size_t)sysconf(_SC_PAGESIZE));
}
