/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile peer: a raw connection to an owner, through which comes what no peer would say. After each the owner must answer an honest peer, at once, and the
 * store must be whole. That what is said right is done is for tests/api/share_test.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/options.h"
#include "base/wire.h"
#include "directory.h"
#include "format/format.h"
#include "peer/message_report.h"
#include "peer/role.h"
#include "shared_store.h"
#include "varve.h"

#define PAGES     16
#define PAGE_SIZE 8192
#define PROMPT_MS 1500 /* an honest peer's call, on a slow machine with sanitizers */

struct setup {
    char path[256];
    varve_store *owner, *peer;
    varve_namespace *owner_ns, *peer_ns;
};

/* The owner's clock, which can be put forward. */
static const struct env_ops *real_ops;
static _Atomic uint64_t ahead_ns;

static uint64_t
owner_now_ns(struct env *env)
{
    return real_ops->now_ns(env) + atomic_load(&ahead_ns);
}

/* Before the owner opens a segment the next time, all is cleared, and the segment dropped. NULL: it is not. */
static _Atomic(struct setup *) to_clear;

static int
owner_open(struct env *env, const char *name, unsigned flags, struct env_file **out)
{
    struct setup *setup = strstr(name, ".seg") == NULL ? NULL : atomic_exchange(&to_clear, NULL);
    char path[300];

    if (setup != NULL) {
        (void)snprintf(path, sizeof(path), "%s/%s", setup->path, name);
        (void)varve_namespace_clear(setup->owner, setup->owner_ns, NULL);
        for (int waits = 0; waits < 10000 && access(path, F_OK) == 0; waits++)
            (void)usleep(1000);
    }
    return real_ops->open(env, name, flags, out);
}

static varve_store *
open_owner(const char *path)
{
    static const struct env_settings settings = {
        .io_engine = "auto", .direct_io = "auto", .queue_depth = 32, .io_threads = 4, .create_dir = true};
    static struct env_ops ops;
    varve_store *store = NULL;
    varve_options options;
    struct env *env;

    options_init(&options);
    assert_int_equal(env_open_posix(path, &settings, &env, NULL), VARVE_OK);
    real_ops = env->ops;
    ops = *real_ops;
    ops.now_ns = owner_now_ns;
    ops.open = owner_open;
    env->ops = &ops;
    assert_int_equal(role_open(env, &options, &store, NULL), VARVE_OK);
    return store;
}

static uint64_t
now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void
fill(varve_page *pages, struct iovec *iov, uint8_t *memory, uint8_t chain)
{
    for (size_t i = 0; i < PAGES; i++) {
        memset(memory + i * PAGE_SIZE, (int)(chain + i), PAGE_SIZE);
        iov[i] = (struct iovec){memory + i * PAGE_SIZE, PAGE_SIZE};
        pages[i] = (varve_page){.id = {{chain, (uint8_t)i, 1}}, .iov = &iov[i], .iov_count = 1};
    }
}

/* A call of the honest peer works, promptly. */
static void
honest(struct setup *setup, uint8_t chain)
{
    static uint8_t memory[PAGES * PAGE_SIZE] __attribute__((aligned(4096)));
    struct iovec iov[PAGES];
    varve_page pages[PAGES];
    uint64_t began_ms = now_ms();

    fill(pages, iov, memory, chain);
    assert_int_equal(varve_put_batch(setup->peer, setup->peer_ns, NULL, pages, PAGES, 0, NULL), VARVE_OK);
    for (size_t i = 0; i < PAGES; i++)
        assert_int_equal(pages[i].status, VARVE_OK);
    memset(memory, 0, sizeof(memory));
    assert_int_equal(varve_get_batch(setup->peer, setup->peer_ns, pages, PAGES, NULL), VARVE_OK);
    for (size_t i = 0; i < PAGES; i++) {
        assert_int_equal(pages[i].status, VARVE_OK);
        assert_int_equal(memory[i * PAGE_SIZE + 77], (uint8_t)(chain + i));
    }
    assert_true(now_ms() - began_ms < PROMPT_MS);
}

static void
open_both(struct setup *setup)
{
    setup->owner = open_owner(setup->path);
    assert_int_equal(varve_open(setup->path, NULL, &setup->peer, NULL), VARVE_OK);
    assert_int_equal(varve_namespace_open(setup->owner, "test", NULL, &setup->owner_ns, NULL), VARVE_OK);
    assert_int_equal(varve_namespace_open(setup->peer, "test", NULL, &setup->peer_ns, NULL), VARVE_OK);
}

static int
set_up(void **state)
{
    static struct setup setup;
    const char *base = getenv("VARVE_TEST_DIR");

    setup = (struct setup){.owner = NULL};
    (void)snprintf(setup.path, sizeof(setup.path), "%s/peer_test.XXXXXX", base == NULL ? "/tmp" : base);
    assert_non_null(mkdtemp(setup.path));
    open_both(&setup);
    *state = &setup;
    return 0;
}

static int
tear_down(void **state)
{
    struct setup *setup = *state;
    varve_check_report report = VARVE_CHECK_REPORT_INIT;

    honest(setup, 99);
    assert_int_equal(varve_close(setup->peer, NULL), VARVE_OK);
    assert_int_equal(varve_check(setup->owner, VARVE_CHECK_DEEP, NULL, NULL, NULL, &report, NULL), VARVE_OK);
    assert_int_equal(report.problems, 0);
    assert_int_equal(varve_close(setup->owner, NULL), VARVE_OK);
    assert_int_equal(directory_delete(setup->path), 0);
    return 0;
}

/* A raw connection. */
static int
raw_connect(const struct setup *setup)
{
    const struct timeval timeout = {.tv_sec = 10};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/%s", setup->path, FORMAT_SOCKET_NAME);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
    return fd;
}

static bool
raw_send(int fd, uint16_t type, const void *body, size_t size)
{
    uint8_t bytes[MESSAGE_HEADER_BYTES + 65536];
    struct message_header header = {.version = MESSAGE_VERSION, .type = type, .length = (uint32_t)size, .call = 1};

    message_header_encode(&header, bytes);
    if (size > 0)
        memcpy(bytes + MESSAGE_HEADER_BYTES, body, size);
    return send(fd, bytes, MESSAGE_HEADER_BYTES + size, MSG_NOSIGNAL) == (ssize_t)(MESSAGE_HEADER_BYTES + size);
}

/* All of so many bytes. io_uring of the same process interrupts system calls. */
static bool
raw_read(int fd, uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t got = recv(fd, bytes, size, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        bytes += got;
        size -= (size_t)got;
    }
    return true;
}

/* The next answer: its status, or 1 where the connection has ended. */
static int32_t
raw_receive(int fd, uint8_t *body, size_t room)
{
    uint8_t head[MESSAGE_HEADER_BYTES];
    struct message_header header;

    if (!raw_read(fd, head, sizeof(head)))
        return 1;
    (void)message_header_decode(head, &header);
    assert_true(header.length <= room);
    return raw_read(fd, body, header.length) ? header.status : 1;
}

/* A connection that has said hello. */
static int
raw_greeted(const struct setup *setup)
{
    struct message_hello hello = {.format_version = FORMAT_VERSION, .io_align = 512, .align_shift = 9};
    uint8_t bytes[256];
    int fd = raw_connect(setup);

    message_hello_encode(&hello, bytes);
    assert_true(raw_send(fd, MESSAGE_HELLO, bytes, MESSAGE_HELLO_BYTES));
    assert_int_equal(raw_receive(fd, bytes, sizeof(bytes)), VARVE_OK);
    return fd;
}

static uint32_t
raw_namespace(int fd)
{
    struct message_namespace ns = {.name_size = 4, .name = "test"};
    uint8_t bytes[256];

    assert_true(raw_send(fd, MESSAGE_NAMESPACE_OPEN, bytes, message_namespace_encode(&ns, bytes)));
    assert_int_equal(raw_receive(fd, bytes, sizeof(bytes)), VARVE_OK);
    return wire_get32(bytes);
}

static void
test_versions(void **state)
{
    struct setup *setup = *state;
    struct message_hello hello = {.format_version = FORMAT_VERSION + 1, .io_align = 512, .align_shift = 9};
    struct message_header header = {.version = MESSAGE_VERSION + 1, .type = MESSAGE_HELLO};
    uint8_t bytes[512] = {0};
    int fd = raw_connect(setup);

    message_header_encode(&header, bytes);
    assert_int_equal(send(fd, bytes, MESSAGE_HEADER_BYTES, MSG_NOSIGNAL), MESSAGE_HEADER_BYTES);
    assert_int_equal(raw_receive(fd, bytes, sizeof(bytes)), VARVE_E_VERSION);
    assert_non_null(strstr((char *)bytes, "version"));
    assert_int_equal(raw_receive(fd, bytes, sizeof(bytes)), 1);
    (void)close(fd);
    fd = raw_connect(setup);
    message_hello_encode(&hello, bytes);
    assert_true(raw_send(fd, MESSAGE_HELLO, bytes, MESSAGE_HELLO_BYTES));
    assert_int_equal(raw_receive(fd, bytes, sizeof(bytes)), VARVE_E_VERSION);
    assert_int_equal(raw_receive(fd, bytes, sizeof(bytes)), 1);
    (void)close(fd);
    honest(setup, 1);
}

/* Another user is turned away, though the directory and the socket be open to all. Without privileges nobody else can be played. */
static void
test_other_user(void **state)
{
    struct setup *setup = *state;
    char name[300];
    pid_t child;
    int status;

    if (geteuid() != 0)
        skip();
    (void)snprintf(name, sizeof(name), "%s/%s", setup->path, FORMAT_SOCKET_NAME);
    assert_int_equal(chmod(setup->path, 0755), 0);
    assert_int_equal(chmod(name, 0777), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct message_hello hello = {.format_version = FORMAT_VERSION, .io_align = 512, .align_shift = 9};
        uint8_t bytes[256];
        int fd;

        if (setgid(65534) != 0 || setuid(65534) != 0)
            _exit(0);
        fd = raw_connect(setup);
        message_hello_encode(&hello, bytes);
        (void)raw_send(fd, MESSAGE_HELLO, bytes, MESSAGE_HELLO_BYTES);
        _exit(raw_receive(fd, bytes, sizeof(bytes)) == 1 ? 0 : 1);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    assert_int_equal(status, 0);
    honest(setup, 30);
}

/* Each of these ends the connection, and only that. */
static void
test_nonsense(void **state)
{
    static const struct {
        uint16_t type;
        size_t size;
        uint32_t word; /* all words of the body */
    } cases[] = {
        {MESSAGE_PROBE, 0, 0},
        {MESSAGE_PROBE, 64, 0xffffffff},
        {MESSAGE_LOCATE, 31, 0},
        {MESSAGE_PUT_BEGIN, 48, 1},
        {MESSAGE_PUT_BEGIN, 89, 1},
        {MESSAGE_RESERVE, 20, 0},
        {MESSAGE_RESERVE, 16, 0xffff},
        {MESSAGE_COMMIT, 16, 0},
        {MESSAGE_COMMIT, 24, 1},
        {MESSAGE_SEGMENT, 7, 0},
        {MESSAGE_NAMESPACE_OPEN, 16, 0},
        {MESSAGE_NAMESPACE_OPEN, 8, 0},
        {MESSAGE_OPTION, 3, 0},
        {MESSAGE_OPTION, 40, 0x41414141},
        {MESSAGE_TYPES, 0, 0},
        {0, 8, 0},
        {0xffff, 8, 1},
        {MESSAGE_LIMITS, 24, 0xffffffff},
        {MESSAGE_HELLO, 32, 0x1000},
        {MESSAGE_NAMESPACE_CLEAR, 12, 1},
    };
    struct setup *setup = *state;
    uint8_t body[256], answer[4096];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = raw_greeted(setup);

        for (size_t at = 0; at + 4 <= sizeof(body); at += 4)
            wire_put32(body + at, cases[i].word);
        assert_true(raw_send(fd, cases[i].type, body, cases[i].size));
        if (raw_receive(fd, answer, sizeof(answer)) != 1)
            fail_msg("case %zu was answered", i);
        (void)close(fd);
    }
    /* Without a hello nothing is answered, and what is no message at all is not. */
    for (int garbage = 0; garbage < 2; garbage++) {
        int fd = raw_connect(setup);

        memset(body, 0x5a, sizeof(body));
        if (garbage)
            assert_true(send(fd, body, sizeof(body), MSG_NOSIGNAL) > 0);
        else
            assert_true(raw_send(fd, MESSAGE_STATS, body, 0));
        assert_int_equal(raw_receive(fd, answer, sizeof(answer)), 1);
        (void)close(fd);
    }
    /* A question has no status, and none behind it before it was answered. */
    for (int32_t status = 0; status != 2 * MESSAGE_GOING_ON; status += MESSAGE_GOING_ON) {
        struct message_header header = {.version = MESSAGE_VERSION, .type = MESSAGE_STATS, .status = status};
        int fd = raw_greeted(setup);

        message_header_encode(&header, body);
        memcpy(body + MESSAGE_HEADER_BYTES, body, MESSAGE_HEADER_BYTES);
        assert_true(send(fd, body, (size_t)2 * MESSAGE_HEADER_BYTES, MSG_NOSIGNAL) > 0);
        assert_int_equal(raw_receive(fd, answer, sizeof(answer)), 1);
        (void)close(fd);
    }
    honest(setup, 20);
}

/* Numbers that are well-formed, and of nothing. */
static void
test_unknown(void **state)
{
    struct setup *setup = *state;
    uint8_t body[128] = {0}, answer[4096];
    int fd = raw_greeted(setup);

    message_ids_encode(&(struct message_ids){.ns_id = 12345, .count = 1}, body);
    assert_true(raw_send(fd, MESSAGE_PROBE, body, MESSAGE_IDS_BYTES + MESSAGE_ID_BYTES));
    assert_int_equal(raw_receive(fd, answer, sizeof(answer)), MESSAGE_STALE_NAMESPACE);
    wire_put64(body, UINT64_MAX);
    assert_true(raw_send(fd, MESSAGE_SEGMENT, body, MESSAGE_SEGMENT_BYTES));
    assert_int_equal(raw_receive(fd, answer, sizeof(answer)), VARVE_MISS);
    memcpy(body,
           "capacity\0"
           "nothing",
           17);
    assert_true(raw_send(fd, MESSAGE_OPTION, body, 17));
    assert_int_equal(raw_receive(fd, answer, sizeof(answer)), VARVE_E_ARG);
    (void)close(fd);
    honest(setup, 40);
}

static bool
raw_option(int fd, const char *name, const char *value)
{
    size_t name_size = strlen(name) + 1, value_size = strlen(value) + 1;
    uint8_t bytes[256];

    memcpy(bytes, name, name_size);
    memcpy(bytes + name_size, value, value_size);
    return raw_send(fd, MESSAGE_OPTION, bytes, name_size + value_size);
}

/* Options that hold for as long as the store is open are not set by a peer either: buffers have their sizes. */
static void
test_options(void **state)
{
    struct setup *setup = *state;
    const varve_option_desc *desc;
    uint8_t answer[4096];
    int fd = raw_greeted(setup);

    for (size_t i = 0; (desc = varve_option_describe(i)) != NULL; i++) {
        assert_true(raw_option(fd, desc->name, desc->default_value));
        assert_int_equal(raw_receive(fd, answer, sizeof(answer)), desc->live ? VARVE_OK : VARVE_E_ARG);
        if (!desc->live)
            assert_non_null(strstr((char *)answer, "opened"));
    }
    assert_true(raw_option(fd, "io_bytes", "20000"));
    assert_int_equal(raw_receive(fd, answer, sizeof(answer)), VARVE_E_ARG);
    (void)close(fd);
    honest(setup, 45);
}

/* Speeds that divide by nothing, or overflow. */
static void
test_probe_speeds(void **state)
{
    static const uint64_t values[] = {0, 1, UINT32_MAX, UINT64_MAX};
    struct setup *setup = *state;
    uint8_t body[MESSAGE_IDS_BYTES + MESSAGE_ID_BYTES] = {0}, answer[4096];
    int fd = raw_greeted(setup);
    uint32_t ns_id = raw_namespace(fd);

    honest(setup, 50);
    for (size_t i = 0; i < 16; i++) {
        const varve_id id = {{50, 0, 1}};

        message_ids_encode(&(struct message_ids){.ns_id = ns_id,
                                                 .count = 1,
                                                 .bandwidth = values[i % 4],
                                                 .decode_bandwidth = values[i / 4],
                                                 .latency_us = UINT32_MAX},
                           body);
        memcpy(body + MESSAGE_IDS_BYTES, id.bytes, sizeof(id.bytes));
        assert_true(raw_send(fd, MESSAGE_PROBE, body, sizeof(body)));
        assert_int_equal(raw_receive(fd, answer, sizeof(answer)), VARVE_OK);
        assert_int_equal(wire_get64(answer), 1);
    }
    (void)close(fd);
}

/* Half messages, and answers that nobody reads, hold up nobody else; and so many connections that no more fit. */
static void
test_floods(void **state)
{
    struct setup *setup = *state;
    uint8_t body[MESSAGE_IDS_BYTES + 1000 * MESSAGE_ID_BYTES] = {0};
    const struct timeval soon = {.tv_usec = 100000};
    int half = raw_greeted(setup), deaf = raw_greeted(setup), many[300];
    uint32_t ns_id = raw_namespace(deaf);
    struct message_header header = {.version = MESSAGE_VERSION, .type = MESSAGE_PROBE, .length = 1000};

    message_header_encode(&header, body);
    assert_true(send(half, body, MESSAGE_HEADER_BYTES + 10, MSG_NOSIGNAL) > 0);
    assert_int_equal(setsockopt(deaf, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon)), 0);
    message_ids_encode(&(struct message_ids){.ns_id = ns_id, .count = 1000}, body);
    for (int i = 0; i < 100; i++) {
        if (!raw_send(deaf, MESSAGE_LOCATE, body, sizeof(body)))
            break;
    }
    honest(setup, 60);
    for (size_t i = 0; i < sizeof(many) / sizeof(many[0]); i++)
        many[i] = raw_connect(setup);
    honest(setup, 80);
    for (size_t i = 0; i < sizeof(many) / sizeof(many[0]); i++)
        (void)close(many[i]);
    (void)close(half);
    (void)close(deaf);
    honest(setup, 81);
}

/* Descriptors that nobody asked for are closed by the kernel, not kept by the owner. */
static void
test_descriptors(void **state)
{
    struct setup *setup = *state;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    uint8_t bytes[MESSAGE_HEADER_BYTES], answer[65536];
    struct message_header header = {.version = MESSAGE_VERSION, .type = MESSAGE_STATS};
    struct iovec iov = {bytes, sizeof(bytes)};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    int fd = raw_greeted(setup), sent[2], byte;

    message_header_encode(&header, bytes);
    assert_int_equal(pipe(sent), 0);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &sent[1], sizeof(int));
    for (int i = 0; i < 100; i++) {
        assert_int_equal(sendmsg(fd, &message, MSG_NOSIGNAL), sizeof(bytes));
        assert_int_equal(raw_receive(fd, answer, sizeof(answer)), VARVE_OK);
    }
    (void)close(sent[1]);
    assert_int_equal(read(sent[0], &byte, 1), 0); /* nobody has the other end */
    (void)close(sent[0]);
    (void)close(fd);
}

/* Puts that are left in the middle, and ones that lie about what they have. */
static void
test_put_abandoned(void **state)
{
    struct setup *setup = *state;
    uint8_t body[MESSAGE_PUT_BYTES + 4 * MESSAGE_PAGE_BYTES], reserve[MESSAGE_RESERVE_BYTES + 16], answer[4096];
    varve_id ids[4];
    uint8_t exists[4];

    for (int step = 0; step < 5; step++) {
        int fd = raw_greeted(setup);
        uint32_t ns_id = raw_namespace(fd);

        message_put_encode(&(struct message_put){.ns_id = ns_id, .count = 4}, body);
        for (uint8_t i = 0; i < 4; i++) {
            ids[i] = (varve_id){{200, i, (uint8_t)step}};
            message_page_encode(&ids[i], 5000, true, body + MESSAGE_PUT_BYTES + i * (size_t)MESSAGE_PAGE_BYTES);
            wire_put32(reserve + MESSAGE_RESERVE_BYTES + i * (size_t)4, 5000);
        }
        assert_true(raw_send(fd, MESSAGE_PUT_BEGIN, body, sizeof(body)));
        assert_int_equal(raw_receive(fd, answer, sizeof(answer)), VARVE_OK);
        message_reserve_encode(&(struct message_reserve){.count = 4, .align_shift = 12}, reserve);
        if (step > 0) {
            assert_true(raw_send(fd, MESSAGE_RESERVE, reserve, sizeof(reserve)));
            assert_int_equal(raw_receive(fd, answer, sizeof(answer)), VARVE_OK);
        }
        if (step == 2) { /* the same once more */
            assert_true(raw_send(fd, MESSAGE_RESERVE, reserve, sizeof(reserve)));
            assert_int_equal(raw_receive(fd, answer, sizeof(answer)), 1);
        }
        if (step == 3) { /* other sums than pages */
            message_commit_encode(&(struct message_commit){.token = wire_get64(answer), .count = 3}, body);
            assert_true(raw_send(fd, MESSAGE_COMMIT, body, MESSAGE_COMMIT_BYTES + 24));
            assert_int_equal(raw_receive(fd, answer, sizeof(answer)), 1);
        }
        if (step == 4) { /* another put in between */
            assert_true(raw_send(fd, MESSAGE_PUT_BEGIN, body, sizeof(body)));
            assert_int_equal(raw_receive(fd, answer, sizeof(answer)), VARVE_OK);
        }
        (void)close(fd);
        assert_int_equal(varve_exists_batch(setup->peer, setup->peer_ns, ids, 4, exists, NULL), VARVE_OK);
        for (size_t i = 0; i < 4; i++)
            assert_int_equal(exists[i], 0);
    }
    honest(setup, 120);
}

/* A put that is left in the middle is given up after its time, also where its peer goes on to ask for other things. */
static void
test_put_late(void **state)
{
    struct setup *setup = *state;
    uint8_t body[MESSAGE_PUT_BYTES + MESSAGE_PAGE_BYTES], reserve[MESSAGE_RESERVE_BYTES + 4], answer[65536];
    const varve_id id = {{202, 1}};
    int fd = raw_greeted(setup), seconds = 0;
    uint32_t ns_id = raw_namespace(fd);

    message_put_encode(&(struct message_put){.ns_id = ns_id, .count = 1}, body);
    message_page_encode(&id, 5000, true, body + MESSAGE_PUT_BYTES);
    assert_true(raw_send(fd, MESSAGE_PUT_BEGIN, body, sizeof(body)));
    assert_int_equal(raw_receive(fd, answer, sizeof(answer)), VARVE_OK);
    message_reserve_encode(&(struct message_reserve){.count = 1, .align_shift = 12}, reserve);
    wire_put32(reserve + MESSAGE_RESERVE_BYTES, 5000);
    assert_true(raw_send(fd, MESSAGE_RESERVE, reserve, sizeof(reserve)));
    assert_int_equal(raw_receive(fd, answer, sizeof(answer)), VARVE_OK);
    assert_int_equal(shared_store_stat(setup->owner, "peer_abandoned"), 0);
    for (; seconds < 30 && raw_send(fd, MESSAGE_STATS, NULL, 0); seconds++) {
        if (raw_receive(fd, answer, sizeof(answer)) != VARVE_OK)
            break;
        (void)atomic_fetch_add(&ahead_ns, UINT64_C(1000000000));
    }
    assert_in_range(seconds, 14, 17);
    (void)close(fd);
    honest(setup, 160);
    assert_int_equal(shared_store_stat(setup->owner, "peer_abandoned"), 1);
}

/* What was committed without being written is never served: it fails its checksum at whoever reads it, and is forgotten. */
static void
test_lies(void **state)
{
    struct setup *setup = *state;
    uint8_t body[MESSAGE_PUT_BYTES + MESSAGE_PAGE_BYTES], reserve[MESSAGE_RESERVE_BYTES + 4], answer[4096];
    uint8_t bytes[8192];
    struct iovec iov = {bytes, sizeof(bytes)};
    varve_page page = {.id = {{201, 1}}, .iov = &iov, .iov_count = 1};
    uint8_t exists = 1;
    int fd = raw_greeted(setup);
    uint32_t ns_id = raw_namespace(fd);

    message_put_encode(&(struct message_put){.ns_id = ns_id, .count = 1}, body);
    message_page_encode(&page.id, 5000, true, body + MESSAGE_PUT_BYTES);
    assert_true(raw_send(fd, MESSAGE_PUT_BEGIN, body, sizeof(body)));
    assert_int_equal(raw_receive(fd, answer, sizeof(answer)), VARVE_OK);
    message_reserve_encode(&(struct message_reserve){.count = 1, .align_shift = 12}, reserve);
    wire_put32(reserve + MESSAGE_RESERVE_BYTES, 5000);
    assert_true(raw_send(fd, MESSAGE_RESERVE, reserve, sizeof(reserve)));
    assert_int_equal(raw_receive(fd, answer, sizeof(answer)), VARVE_OK);
    message_commit_encode(&(struct message_commit){.token = wire_get64(answer), .count = 1}, body);
    memset(body + MESSAGE_COMMIT_BYTES, 7, 8);
    assert_true(raw_send(fd, MESSAGE_COMMIT, body, MESSAGE_COMMIT_BYTES + 8));
    assert_int_equal(raw_receive(fd, answer, sizeof(answer)), VARVE_OK);
    (void)close(fd);
    assert_int_equal(varve_get_batch(setup->peer, setup->peer_ns, &page, 1, NULL), VARVE_OK);
    assert_int_equal(page.status, VARVE_MISS);
    assert_int_equal(varve_exists_batch(setup->owner, setup->owner_ns, &page.id, 1, &exists, NULL), VARVE_OK);
    assert_int_equal(exists, 0);
}

/* A segment that is dropped while its file is opened for a peer is gone, as one that was dropped before: no device has failed. */
static void
test_segment_dropped(void **state)
{
    struct setup *setup = *state;
    varve_item item = VARVE_ITEM_INIT;
    uint8_t number[MESSAGE_SEGMENT_BYTES], answer[4096];
    varve_iter *iter;
    int fd;

    honest(setup, 130);
    assert_int_equal(varve_close(setup->peer, NULL), VARVE_OK);
    assert_int_equal(varve_close(setup->owner, NULL), VARVE_OK); /* which has the file open */
    open_both(setup);
    assert_int_equal(varve_iter_open(setup->owner, NULL, VARVE_ITER_PAGES, &iter, NULL), VARVE_OK);
    assert_int_equal(varve_iter_next(iter, &item, NULL), VARVE_OK);
    varve_iter_close(iter);
    fd = raw_greeted(setup);
    wire_put64(number, item.segment);
    atomic_store(&to_clear, setup);
    assert_true(raw_send(fd, MESSAGE_SEGMENT, number, sizeof(number)));
    assert_int_equal(raw_receive(fd, answer, sizeof(answer)), VARVE_MISS);
    assert_null(atomic_load(&to_clear));
    (void)close(fd);
}

/* Reports that are asked for wrongly end the connection; ones that are left in the middle end with it. */
static void
test_reports(void **state)
{
    static const struct {
        uint16_t type;
        size_t size;
        uint8_t body[MESSAGE_MIX_BYTES];
    } wrong[] = {
        {MESSAGE_ITER_NEXT, 0, {0}},                                     /* of no iteration */
        {MESSAGE_ITER_OPEN, MESSAGE_ITER_BYTES, {0}},                    /* of no kind */
        {MESSAGE_ITER_OPEN, MESSAGE_ITER_BYTES, {VARVE_ITER_PAGES + 1}}, /* of an unknown one */
        {MESSAGE_ITER_OPEN, MESSAGE_ITER_BYTES - 1, {VARVE_ITER_PAGES}}, /* cut */
        {MESSAGE_CHECK, MESSAGE_CHECK_BYTES, {0xff}},                    /* flags that there are not */
        {MESSAGE_CHECK, 0, {0}},                                         /* none */
        {MESSAGE_TUNE, MESSAGE_MIX_BYTES, {2}},                          /* two mixes */
        {MESSAGE_TUNE, MESSAGE_MIX_BYTES, {1, 0, 0, 0, 0, 0, 0, 0, [14] = 0xf8, [15] = 0x7f}}, /* that is no number */
        {MESSAGE_TUNE, MESSAGE_MIX_BYTES, {1}},                                                /* less than one turn */
        {MESSAGE_TUNE_MEASURE, MESSAGE_MEASURE_BYTES, {0, 0, 0, 0, 0, 0, 1}},                  /* for days */
    };
    struct setup *setup = *state;
    uint8_t answer[65536];

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        int fd = raw_greeted(setup);

        assert_true(raw_send(fd, wrong[i].type, wrong[i].body, wrong[i].size));
        assert_int_equal(raw_receive(fd, answer, sizeof(answer)), 1);
        (void)close(fd);
    }
    for (int i = 0; i < 20; i++) {
        const uint8_t pages[MESSAGE_ITER_BYTES] = {VARVE_ITER_PAGES},
                      unknown[MESSAGE_ITER_BYTES] = {1, 0, 0, 0, 99, 99};
        const uint8_t deep[MESSAGE_CHECK_BYTES] = {VARVE_CHECK_DEEP};
        int fd = raw_greeted(setup);

        assert_true(raw_send(fd, MESSAGE_ITER_OPEN, unknown, sizeof(unknown)));
        assert_int_equal(raw_receive(fd, answer, sizeof(answer)), MESSAGE_STALE_NAMESPACE);
        assert_true(raw_send(fd, MESSAGE_ITER_OPEN, pages, sizeof(pages)));
        assert_int_equal(raw_receive(fd, answer, sizeof(answer)), VARVE_OK);
        if (i % 2 == 0)
            assert_true(raw_send(fd, MESSAGE_CHECK, deep, sizeof(deep)));
        (void)close(fd);
    }
    honest(setup, 140);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_versions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_user, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nonsense, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_options, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_probe_speeds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_floods, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_descriptors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_put_abandoned, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_put_late, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_segment_dropped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reports, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
