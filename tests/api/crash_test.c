/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that puts is killed at random moments, again and again; each time every batch that it had acknowledged must be there,
 * right to the byte, and the store clean. The child acknowledges a batch by writing its chain and length to a pipe after
 * varve_put_batch() returned; what is in the pipe survives it.
 */
#include "api_util.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KILLS_PER_ENGINE 15
#define LIVE_US_MAX      80000
#define BATCH_PAGES_MAX  24

/* What the child tells of a batch. Small enough that the pipe takes it whole or not at all. */
struct ack {
    uint64_t chain;
    uint32_t count;
    uint32_t size;
};

struct acks {
    struct ack *at;
    size_t count, capacity;
};

static void
pause_us(uint64_t us)
{
    struct timespec time = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};

    (void)nanosleep(&time, NULL);
}

/* The child: put batches until killed. Never returns. */
static void
put_forever(const char *path, const char *const *settings, uint64_t first_chain, uint64_t seed, int pipe_fd)
{
    varve_options *options = options_from(settings);
    varve_store *store;
    varve_namespace *ns;

    if (varve_open(path, options, &store, NULL) != VARVE_OK ||
        varve_namespace_open(store, "crash", NULL, &ns, NULL) != VARVE_OK)
        _exit(3);
    for (uint64_t chain = first_chain;; chain++) {
        struct ack ack = {.chain = chain,
                          .count = (uint32_t)(1 + rng_below(&seed, BATCH_PAGES_MAX)),
                          .size = (uint32_t)rng_below(&seed, 3) * 4096 + (uint32_t)rng_below(&seed, 2) * 777};
        unsigned flags = rng_below(&seed, 10) == 0 ? VARVE_PUT_SYNC : 0;
        struct batch batch;

        batch_init(&batch, ack.chain, 0, ack.count, ack.size, 0);
        batch_fill(&batch);
        if (varve_put_batch(store, ns, NULL, batch.pages, batch.count, flags, NULL) != VARVE_OK)
            _exit(4);
        for (size_t i = 0; i < batch.count; i++) {
            if (batch.pages[i].status != VARVE_OK)
                _exit(5);
        }
        batch_free(&batch);
        if (write(pipe_fd, &ack, sizeof(ack)) != (ssize_t)sizeof(ack))
            _exit(6);
    }
}

static void
take_acks(int pipe_fd, struct acks *acks)
{
    struct ack ack;

    while (read(pipe_fd, &ack, sizeof(ack)) == (ssize_t)sizeof(ack)) {
        if (acks->count == acks->capacity) {
            acks->capacity = acks->capacity * 2 + 64;
            acks->at = realloc(acks->at, acks->capacity * sizeof(acks->at[0]));
            assert_non_null(acks->at);
        }
        acks->at[acks->count++] = ack;
    }
}

/* Start a child, kill it after `us`, take what it acknowledged. */
static void
live_and_die(const char *path, const char *const *settings, uint64_t first_chain, uint64_t *rng, struct acks *acks)
{
    uint64_t child_seed = rng_next(rng), us = rng_below(rng, LIVE_US_MAX);
    int fds[2], status;
    pid_t child;

    assert_int_equal(pipe(fds), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(fds[0]);
        put_forever(path, settings, first_chain, child_seed, fds[1]);
    }
    (void)close(fds[1]);
    pause_us(us);
    /* A pipe holds 4,096 of these; a child that fills it waits, which is as good a moment to die as any. */
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFSIGNALED(status))
        fail_msg("the child failed by itself: exit code %d", WEXITSTATUS(status));
    take_acks(fds[0], acks);
    (void)close(fds[0]);
}

static void
verify_acks(varve_store *store, const struct acks *acks, size_t from)
{
    varve_namespace *ns = namespace_get(store, "crash");

    for (size_t i = from; i < acks->count; i++) {
        const struct ack *ack = &acks->at[i];

        assert_int_equal(chain_probe(store, ns, ack->chain, ack->count), ack->count);
        chain_get(store, ns, ack->chain, ack->count, ack->size);
    }
}

static void
crash_repeatedly(const char *const *settings, uint64_t rng)
{
    struct acks acks = {0};
    char path[PATH_BYTES];
    varve_store *store;

    scratch_create(path);
    for (uint64_t kills = 0; kills < KILLS_PER_ENGINE; kills++) {
        size_t before = acks.count;

        live_and_die(path, settings, kills * 1000000, &rng, &acks);
        store = store_open_with(path, settings);
        verify_acks(store, &acks, before);
        check_clean(store);
        if (rng_below(&rng, 2) == 0) {
            store_close(store);
        } else { /* what this process adds, and closes, must not disturb the next life */
            chain_put(store, namespace_get(store, "crash"), kills * 1000000 + 999999, 3, 100);
            store_close(store);
        }
    }
    store = store_open_with(path, settings);
    verify_acks(store, &acks, 0);
    check_clean(store);
    store_close(store);
    print_message("%zu acknowledged batches verified\n", acks.count);
    assert_true(acks.count > 0);
    free(acks.at);
    scratch_remove(path);
}

static void
test_kill_uring(void **state)
{
    static const char *const settings[] = {"capacity=1G", "segment_bytes=4M", "memtable_bytes=256K", NULL};

    (void)state; /* auto: io_uring wherever it is allowed */
    crash_repeatedly(settings, rng_seed(11));
}

static void
test_kill_threads(void **state)
{
    static const char *const settings[] = {"capacity=1G", "io_engine=threads", "sync_interval_ms=5", NULL};

    (void)state;
    crash_repeatedly(settings, rng_seed(12));
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill_uring),
        cmocka_unit_test(test_kill_threads),
    };

    scratch_require((uint64_t)1 << 30);
    return cmocka_run_group_tests_name("crash", tests, NULL, NULL);
}
