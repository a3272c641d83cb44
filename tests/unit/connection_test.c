/* SPDX-License-Identifier: Apache-2.0 */
/* Messages over a real socket: what comes together is told apart, and time-outs hold, whatever interrupts. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "peer/connection.h"

#define NAME       "SOCKET"
#define TIMEOUT_MS 300
#define TICK_US    50000
#define TICKS      60 /* ten time-outs: a wait that each begins anew ends as well */

struct ends {
    char path[256];
    struct env *env;
    struct connection owner, peer;
};

static int
set_up(void **state)
{
    static const struct env_settings settings = {
        .io_engine = "threads", .direct_io = "auto", .queue_depth = 8, .io_threads = 1};
    static struct ends ends;
    const char *base = getenv("VARVE_TEST_DIR");
    struct env_socket *listener, *accepted, *connected;

    (void)snprintf(ends.path, sizeof(ends.path), "%s/connection_test.XXXXXX", base == NULL ? "/tmp" : base);
    assert_non_null(mkdtemp(ends.path));
    assert_int_equal(env_open_posix(ends.path, &settings, &ends.env, NULL), 0);
    assert_int_equal(ends.env->share->listen(ends.env, NAME, &listener), 0);
    assert_int_equal(ends.env->share->connect(ends.env, NAME, &connected), 0);
    assert_int_equal(ends.env->share->accept(listener, 10000, &accepted), 0);
    ends.env->share->close(listener);
    assert_int_equal(connection_init(&ends.owner, ends.env, accepted), 0);
    assert_int_equal(connection_init(&ends.peer, ends.env, connected), 0);
    *state = &ends;
    return 0;
}

static int
tear_down(void **state)
{
    struct ends *ends = *state;

    connection_deinit(&ends->owner);
    connection_deinit(&ends->peer);
    ends->env->ops->destroy(ends->env);
    assert_int_equal(directory_delete(ends->path), 0);
    return 0;
}

/* Bodies of an answer that goes on: none, small ones, many to a buffer, more than one has at first, and more than an idle one keeps. */
static const size_t sizes[] = {0, 5, 100, 0, 0, 16384 - 32, 16384 - 31, 20000, 1, 300000, 7, 64, 64, 64, 9000, 9000, 3};

#define SIZES  (sizeof(sizes) / sizeof(sizes[0]))
#define ROUNDS 20

static void *
tell_all(void *arg)
{
    static uint8_t body[300000];
    struct ends *ends = arg;
    int *failed = calloc(1, sizeof(*failed));

    for (size_t i = 0; i < ROUNDS * SIZES && failed != NULL; i++) {
        struct message_header header = {.type = MESSAGE_CHECK, .call = i, .status = MESSAGE_GOING_ON};
        struct iovec part = {body, sizes[i % SIZES]};

        memset(body, (int)i, part.iov_len);
        if (i == ROUNDS * SIZES - 1)
            header.status = 0;
        *failed += connection_send(&ends->owner, &header, &part, 1, NULL, 10000) != 0;
    }
    return failed;
}

static void
test_joined(void **state)
{
    struct ends *ends = *state;
    struct message_header header;
    const uint8_t *body;
    pthread_t teller;
    void *failed;

    assert_int_equal(pthread_create(&teller, NULL, tell_all, ends), 0);
    for (size_t i = 0; i < ROUNDS * SIZES; i++) {
        if (i % SIZES == 0)
            (void)usleep(5000); /* for some to come together */
        assert_int_equal(connection_receive(&ends->peer, 10000, 10000, &header, &body, NULL), 0);
        assert_int_equal(header.call, i);
        assert_int_equal(header.length, sizes[i % SIZES]);
        assert_int_equal(header.status, i == ROUNDS * SIZES - 1 ? 0 : MESSAGE_GOING_ON);
        for (size_t at = 0; at < header.length; at++)
            assert_int_equal(body[at], (uint8_t)i);
    }
    assert_int_equal(pthread_join(teller, &failed), 0);
    assert_non_null(failed);
    assert_int_equal(*(int *)failed, 0);
    free(failed);
    assert_int_equal(connection_receive(&ends->peer, 10, 10, &header, &body, NULL), -EAGAIN);
}

static void
tell(struct ends *ends, int32_t status, size_t size)
{
    struct message_header header = {.type = MESSAGE_CHECK, .status = status};
    char news[] = "news of a check";
    struct iovec part = {news, size};

    assert_int_equal(connection_send(&ends->owner, &header, &part, 1, NULL, 1000), 0);
}

/* Behind an answer that is not said to go on nothing may come. */
static void
test_answered(void **state)
{
    struct ends *ends = *state;
    struct message_header header;
    const uint8_t *body;

    tell(ends, MESSAGE_GOING_ON, 12);
    tell(ends, 0, 3);
    tell(ends, 0, 3);
    assert_int_equal(connection_receive(&ends->peer, 1000, 1000, &header, &body, NULL), 0);
    assert_int_equal(header.length, 12);
    assert_memory_equal(body, "news of a ch", 12);
    assert_int_equal(connection_receive(&ends->peer, 1000, 1000, &header, &body, NULL), -EPROTO);
}

/* The rest of one that began behind another must come in time; nonsense there is nonsense. */
static void
test_half(void **state)
{
    struct message_header half = {.version = MESSAGE_VERSION, .type = MESSAGE_CHECK, .length = 100};
    struct ends *ends = *state;
    struct message_header header;
    uint8_t bytes[MESSAGE_HEADER_BYTES + 1] = {0};
    const struct iovec part = {bytes, sizeof(bytes)};
    const uint8_t *body;

    for (int bad = 0; bad < 2; bad++) {
        tell(ends, MESSAGE_GOING_ON, 2);
        message_header_encode(&half, bytes);
        bytes[0] ^= (uint8_t)bad;
        assert_int_equal(ends->env->share->send(ends->owner.socket, &part, 1, NULL, 1000), sizeof(bytes));
        assert_int_equal(connection_receive(&ends->peer, 1000, 1000, &header, &body, NULL), 0);
        assert_int_equal(connection_receive(&ends->peer, 50, 50, &header, &body, NULL), bad ? -EPROTO : -ETIMEDOUT);
    }
}

static volatile sig_atomic_t ticks_left;

static void
tick(int number)
{
    const struct itimerval never = {.it_value = {0}};

    (void)number;
    if (--ticks_left == 0)
        (void)setitimer(ITIMER_REAL, &never, NULL);
}

static void
start_ticks(void)
{
    const struct itimerval often = {.it_interval = {.tv_usec = TICK_US}, .it_value = {.tv_usec = TICK_US}};
    struct sigaction action = {.sa_handler = tick};

    ticks_left = TICKS;
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
}

static void
stop_ticks(void)
{
    const struct itimerval never = {.it_value = {0}};

    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_true(ticks_left > 0 && ticks_left < TICKS); /* there were some, and not all */
}

/* Nothing comes, or nobody reads: a wait takes its time, no more and no less, and does not shorten the next one. */
static void
test_signals(void **state)
{
    static uint8_t bytes[65536];
    const struct iovec part = {bytes, sizeof(bytes)};
    struct ends *ends = *state;
    const struct env_share_ops *share = ends->env->share;

    for (int sends = 0; sends < 2; sends++) {
        for (int round = 0; round < 4; round++) {
            uint64_t began_ns, time_ms;
            int64_t rc;

            if (round % 2 == 0)
                start_ticks();
            do {
                began_ns = ends->env->ops->now_ns(ends->env);
                rc = sends ? share->send(ends->owner.socket, &part, 1, NULL, TIMEOUT_MS)
                           : share->receive(ends->peer.socket, bytes, sizeof(bytes), TIMEOUT_MS, NULL);
            } while (rc > 0); /* until there is no room */
            time_ms = (ends->env->ops->now_ns(ends->env) - began_ns) / 1000000;
            if (round % 2 == 0)
                stop_ticks();
            assert_int_equal(rc, -EAGAIN);
            assert_true(time_ms >= TIMEOUT_MS - 20); /* of the kernel's ticks */
        }
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_joined, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_answered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_half, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_signals, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
