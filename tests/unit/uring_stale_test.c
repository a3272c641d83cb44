/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completions that nobody waits for. Before each entry into the kernel an operation that does nothing is slipped into the ring, under the name that an
 * earlier one had, or one that no operation ever had: its completion must end nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "env/env_posix.h"
#include "env/uring_load.h"

#define ROUNDS 200
#define BLOCK  4096

static struct uring_library real;
static uint64_t stale_name;
static unsigned slipped;

/* The ring has room: no test has more than half of it in flight. */
static int
submit_and_wait(struct io_uring *ring, unsigned wait_count)
{
    struct io_uring_sq *sq = &ring->sq;
    uint64_t seen = sq->sqe_tail == sq->sqe_head ? stale_name : sq->sqes[sq->sqe_head & sq->ring_mask].user_data;
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

    if (sqe != NULL) {
        io_uring_prep_nop(sqe);
        sqe->user_data = slipped % 3 == 0 ? UINT64_MAX : stale_name;
        slipped++;
    }
    stale_name = seen; /* by the next entry it has been completed */
    return real.submit_and_wait(ring, wait_count == 0 ? 0 : wait_count + 1);
}

static unsigned done;

static void
on_done(struct env_io *io)
{
    assert_int_equal(io->result, BLOCK);
    done++;
}

static void
test_stale_completions(void **state)
{
    static const struct env_settings settings = {
        .io_engine = "uring", .direct_io = "off", .queue_depth = 8, .io_threads = 1};
    char path[] = "/tmp/varve_stale_XXXXXX";
    char block[2][BLOCK];
    struct uring_library *library;
    struct env_queue *queue;
    struct env_file *file;
    varve_error err = {0};
    struct env *env;

    (void)state;
    assert_non_null(mkdtemp(path));
    if (env_open_posix(path, &settings, &env, &err) != VARVE_OK) {
        (void)rmdir(path);
        print_message("no io_uring here: %s\n", err.message);
        skip();
    }
    library = ((struct posix_env *)env)->uring;
    real = *library;
    library->submit_and_wait = submit_and_wait;
    assert_int_equal(env->ops->open(env, "file", ENV_OPEN_CREATE, &file), 0);
    assert_int_equal(env->ops->queue_open(env, &queue), 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct iovec iov[2] = {{block[0], BLOCK}, {block[1], BLOCK}};
        struct env_io io[2];

        for (unsigned i = 0; i < 2; i++) {
            memset(block[i], (int)(round + i), BLOCK);
            io[i] = (struct env_io){.op = ENV_OP_WRITE,
                                    .iov = &iov[i],
                                    .iov_count = 1,
                                    .file = file,
                                    .offset = (uint64_t)i * BLOCK,
                                    .done = on_done};
            env->ops->submit(queue, &io[i]);
        }
        env->ops->wait(queue, 2);
        assert_int_equal(queue->in_flight, 0);
        assert_int_equal(done, (round + 1) * 2);
    }
    assert_true(slipped >= ROUNDS);
    env->ops->queue_close(queue);
    env->ops->close(file);
    assert_int_equal(env->ops->unlink(env, "file"), 0);
    *library = real;
    env->ops->destroy(env);
    assert_int_equal(rmdir(path), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_stale_completions)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
