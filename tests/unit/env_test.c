/* SPDX-License-Identifier: Apache-2.0 */
/*
 * env_test.c - the real environments on the real file system, every test over both backends. What was written through
 * the seam is read back with plain system calls and the other way round, so that a mistake cannot cancel itself. Works
 * in a new directory under the working directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "env/env.h"
#include "env/io.h"

#define UNIT 4096

struct fixture {
    const char *engine;
    char dir[32];
    struct env *env; /* NULL: this backend does not work here */
    struct io_queue_pool *pool;
};

static struct env_settings
settings_of(const char *engine)
{
    return (struct env_settings){.io_engine = engine, .direct_io = "auto", .queue_depth = 8, .io_threads = 3};
}

static void
make_dir(char dir[32])
{
    (void)snprintf(dir, 32, "env_test_XXXXXX");
    assert_non_null(mkdtemp(dir));
}

static const char *
path_in(const char *dir, const char *name, char path[96])
{
    (void)snprintf(path, 96, "%s/%s", dir, name);
    return path;
}

static int
remove_one(void *arg, const char *name)
{
    struct env *env = arg;

    return env->ops->unlink(env, name);
}

static int
setup(void **state)
{
    struct fixture *fixture = *state;
    struct env_settings settings = settings_of(fixture->engine);
    varve_error err;

    make_dir(fixture->dir);
    fixture->env = NULL;
    if (env_open_posix(fixture->dir, &settings, &fixture->env, &err) < 0) {
        print_message("%s\n", err.message);
        if (strcmp(fixture->engine, "uring") != 0)
            return -1;
        fixture->env = NULL;
        return 0;
    }
    return io_queue_pool_create(fixture->env, &fixture->pool);
}

static int
teardown(void **state)
{
    struct fixture *fixture = *state;

    if (fixture->env != NULL) {
        io_queue_pool_destroy(fixture->pool);
        if (fixture->env->ops->list(fixture->env, remove_one, fixture->env) < 0)
            return -1;
        fixture->env->ops->destroy(fixture->env);
    }
    return rmdir(fixture->dir);
}

static struct fixture *
fixture_of(void **state)
{
    struct fixture *fixture = *state;

    if (fixture->env == NULL)
        skip();
    return fixture;
}

static struct env_file *
open_file(struct env *env, const char *name, unsigned flags)
{
    struct env_file *file;

    assert_int_equal(env->ops->open(env, name, flags, &file), 0);
    return file;
}

static uint8_t *
alloc_filled(struct env *env, size_t size, uint64_t seed)
{
    uint8_t *buf = env->ops->alloc(env, size, UNIT);

    assert_non_null(buf);
    for (size_t i = 0; i < size; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        buf[i] = (uint8_t)(seed >> 56);
    }
    return buf;
}

static void
test_names(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct env *env = fixture->env;
    struct env_file *file;
    struct stat st;
    char path[96];

    assert_string_equal(env->name, fixture->engine);
    assert_int_equal(env->ops->open(env, "a", 0, &file), -ENOENT);
    env->ops->close(open_file(env, "a", ENV_OPEN_CREATE));
    assert_int_equal(env->ops->open(env, "a", ENV_OPEN_CREATE, &file), -EEXIST);
    assert_int_equal(stat(path_in(fixture->dir, "a", path), &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
    env->ops->close(open_file(env, "b", ENV_OPEN_CREATE | ENV_OPEN_DIRECT));
    assert_int_equal(env->ops->rename(env, "a", "b"), 0); /* replaces */
    assert_int_equal(env->ops->rename(env, "a", "c"), -ENOENT);
    assert_int_equal(env->ops->open(env, "a", ENV_OPEN_READ, &file), -ENOENT);
    assert_int_equal(env->ops->sync_dir(env), 0);
    assert_int_equal(env->ops->unlink(env, "b"), 0);
    assert_int_equal(env->ops->unlink(env, "b"), -ENOENT);
}

static int
mark_name(void *arg, const char *name)
{
    uint32_t *seen = arg;
    char *end;
    long number = strtol(name, &end, 10);

    assert_true(*end == '\0' && number >= 0 && number < 20);
    seen[number]++;
    return 0;
}

static int
stop_at_third(void *arg, const char *name)
{
    uint32_t *count = arg;

    (void)name;
    return ++*count == 3 ? -ECANCELED : 0;
}

static void
test_list(void **state)
{
    struct env *env = fixture_of(state)->env;
    uint32_t seen[20] = {0};
    uint32_t count = 0;
    char name[16];

    for (int i = 0; i < 20; i++) {
        (void)snprintf(name, sizeof(name), "%d", i);
        env->ops->close(open_file(env, name, ENV_OPEN_CREATE));
    }
    for (int round = 1; round <= 2; round++) {
        assert_int_equal(env->ops->list(env, mark_name, seen), 0);
        for (uint32_t i = 0; i < 20; i++)
            assert_int_equal(seen[i], round);
    }
    assert_int_equal(env->ops->list(env, stop_at_third, &count), -ECANCELED);
    assert_int_equal(count, 3);
}

static const struct round_case {
    unsigned flags;
    uint64_t offset;
    uint32_t iov_count;
    uint32_t iov_len;
} round_cases[] = {
    {0, 0, 1, 1},
    {0, 777, 1, 100000},
    {0, 3, 1024, 17},
    {0, 12345, 5, 4097},
    {ENV_OPEN_DIRECT, 0, 1, UNIT},
    {ENV_OPEN_DIRECT, 5 * UNIT, 1, 3 << 20},
    {ENV_OPEN_DIRECT, 2 * UNIT, 1024, UNIT},
    {ENV_OPEN_DIRECT, UNIT, 7, 9 * UNIT},
};

/* One transfer of the case's iovecs, which lie in memory in reverse order, so that order counts. */
static int
transfer_case(struct fixture *fixture, const struct round_case *c, enum env_op op, struct env_file *file, uint8_t *buf)
{
    struct iovec *iov = calloc(c->iov_count, sizeof(*iov));
    struct io io = {.op = op, .file = file, .iov = iov, .iov_count = c->iov_count, .offset = c->offset};
    struct env_queue *queue;

    assert_non_null(iov);
    for (uint32_t i = 0; i < c->iov_count; i++)
        iov[i] = (struct iovec){.iov_base = buf + (size_t)(c->iov_count - 1 - i) * c->iov_len, .iov_len = c->iov_len};
    assert_int_equal(io_queue_acquire(fixture->pool, &queue), 0);
    io_submit(queue, &io);
    io_drain(queue);
    io_queue_release(fixture->pool, queue);
    free(iov);
    return io.result;
}

static void
test_round_trip(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct env *env = fixture->env;
    char path[96];

    for (size_t n = 0; n < sizeof(round_cases) / sizeof(round_cases[0]); n++) {
        const struct round_case *c = &round_cases[n];
        size_t size = (size_t)c->iov_count * c->iov_len;
        struct env_file *file = open_file(env, "f", ENV_OPEN_CREATE | c->flags);
        uint8_t *written = alloc_filled(env, size, n);
        uint8_t *got = alloc_filled(env, size, n + 100);
        uint64_t file_size;
        int fd;

        assert_int_equal(transfer_case(fixture, c, ENV_OP_WRITE, file, written), 0);
        assert_int_equal(env->ops->sync(file), 0);
        assert_int_equal(env->ops->size(file, &file_size), 0);
        assert_int_equal(file_size, c->offset + size);
        fd = open(path_in(fixture->dir, "f", path), O_RDONLY);
        assert_true(fd >= 0);
        for (uint32_t i = 0; i < c->iov_count; i++) {
            assert_int_equal(pread(fd, got, c->iov_len, (off_t)(c->offset + (uint64_t)i * c->iov_len)), c->iov_len);
            assert_memory_equal(got, written + (size_t)(c->iov_count - 1 - i) * c->iov_len, c->iov_len);
        }
        assert_int_equal(close(fd), 0);
        memset(got, 0, size);
        assert_int_equal(transfer_case(fixture, c, ENV_OP_READ, file, got), 0);
        assert_memory_equal(got, written, size);
        env->ops->close(file);
        assert_int_equal(env->ops->unlink(env, "f"), 0);
        env_free(env, written);
        env_free(env, got);
    }
}

struct burst {
    struct env_io io;
    struct iovec iov;
    struct env_queue *queue;
    uint32_t again; /* times that done() submits it once more */
    uint32_t done;
};

static void
burst_done(struct env_io *io)
{
    struct burst *burst = io->arg;

    burst->done++;
    assert_int_equal(io->result, UNIT);
    if (burst->again > 0) {
        burst->again--;
        burst->queue->env->ops->submit(burst->queue, io);
    }
}

static uint32_t
total_done(const struct burst *bursts, uint32_t count)
{
    uint32_t total = 0;

    for (uint32_t i = 0; i < count; i++)
        total += bursts[i].done;
    return total;
}

/* Write and read many more blocks than the device sees at once, waiting for 0, 1, several or all. */
static void
test_more_than_depth(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct env *env = fixture->env;
    static const uint32_t steps[] = {0, 1, 3, 50, UINT32_MAX};
    static struct burst bursts[300];
    struct env_file *file = open_file(env, "f", ENV_OPEN_CREATE | ENV_OPEN_DIRECT);
    uint8_t *written = alloc_filled(env, 300 * UNIT, 5);
    uint8_t *got = alloc_filled(env, 300 * UNIT, 6);
    struct env_queue *queue;

    assert_int_equal(env->ops->queue_open(env, &queue), 0);
    assert_true(queue->depth < 300);
    for (uint32_t pass = 0; pass < 2; pass++) {
        uint32_t turn = 0;

        for (uint32_t i = 0; i < 300; i++) {
            uint32_t block = i * 7 % 300;

            bursts[i] = (struct burst){.queue = queue, .again = i % 3};
            bursts[i].iov = (struct iovec){(pass == 0 ? written : got) + (size_t)block * UNIT, UNIT};
            bursts[i].io = (struct env_io){.op = pass == 0 ? ENV_OP_WRITE : ENV_OP_READ,
                                           .iov = &bursts[i].iov,
                                           .iov_count = 1,
                                           .file = file,
                                           .offset = (uint64_t)block * UNIT,
                                           .done = burst_done,
                                           .arg = &bursts[i]};
            env->ops->submit(queue, &bursts[i].io);
        }
        while (queue->in_flight > 0) {
            uint32_t before = total_done(bursts, 300);
            uint32_t step = steps[turn++ % 5];
            uint32_t expect = step < queue->in_flight ? step : queue->in_flight;

            env->ops->wait(queue, step);
            assert_true(total_done(bursts, 300) - before >= expect);
        }
        for (uint32_t i = 0; i < 300; i++)
            assert_int_equal(bursts[i].done, 1 + i % 3);
    }
    assert_memory_equal(got, written, 300 * UNIT);
    env->ops->wait(queue, 1); /* with nothing in flight: returns */
    env->ops->queue_close(queue);
    env->ops->close(file);
    env_free(env, written);
    env_free(env, got);
}

/* wait(0) starts what was submitted and returns; others do the work, again and again. */
static void
test_started_without_waiting(void **state)
{
    struct env *env = fixture_of(state)->env;
    struct env_file *file = open_file(env, "f", ENV_OPEN_CREATE | ENV_OPEN_DIRECT);
    uint8_t *buf = alloc_filled(env, UNIT, 1);
    struct burst bursts[10];
    struct env_queue *queue;

    assert_int_equal(env->ops->queue_open(env, &queue), 0);
    for (int round = 0; round < 5; round++) {
        uint64_t until = env->ops->now_ns(env) + 20000000000u;

        for (uint32_t i = 0; i < 10; i++) {
            bursts[i] = (struct burst){.queue = queue, .iov = {buf, UNIT}};
            bursts[i].io = (struct env_io){.op = ENV_OP_WRITE,
                                           .iov = &bursts[i].iov,
                                           .iov_count = 1,
                                           .file = file,
                                           .offset = i * UNIT,
                                           .done = burst_done,
                                           .arg = &bursts[i]};
            env->ops->submit(queue, &bursts[i].io);
        }
        while (queue->in_flight > 0 && env->ops->now_ns(env) < until) {
            env->ops->wait(queue, 0);
            (void)usleep(200);
        }
        assert_int_equal(queue->in_flight, 0);
        assert_int_equal(total_done(bursts, 10), 10);
    }
    env->ops->queue_close(queue);
    env->ops->close(file);
    env_free(env, buf);
}

static void
keep_result(struct env_io *io)
{
    *(int64_t *)io->arg = io->result;
}

static int64_t
single(struct env *env, enum env_op op, struct env_file *file, void *buf, size_t size, uint64_t offset)
{
    int64_t result = INT64_MIN;
    const struct iovec iov = {.iov_base = buf, .iov_len = size};
    struct env_io io = {
        .op = op, .iov = &iov, .iov_count = 1, .file = file, .offset = offset, .done = keep_result, .arg = &result};
    struct env_queue *queue;

    assert_int_equal(env->ops->queue_open(env, &queue), 0);
    env->ops->submit(queue, &io);
    env->ops->wait(queue, 1);
    env->ops->queue_close(queue);
    return result;
}

static void
test_end_of_file(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct env *env = fixture->env;
    uint8_t *buf = alloc_filled(env, 2 * UNIT, 1);

    for (int direct = 0; direct < 2; direct++) {
        struct env_file *file = open_file(env, "f", ENV_OPEN_CREATE | (direct ? ENV_OPEN_DIRECT : 0u));

        assert_int_equal(env->ops->truncate(file, 1000), 0);
        assert_int_equal(single(env, ENV_OP_READ, file, buf, UNIT, 0), 1000);
        assert_int_equal(single(env, ENV_OP_READ, file, buf, UNIT, UNIT), 0);
        assert_int_equal(io_read(fixture->pool, file, buf, UNIT, 0), -ENODATA);
        assert_int_equal(io_read(fixture->pool, file, buf, 2 * UNIT, UNIT), -ENODATA);
        env->ops->close(file);
        assert_int_equal(env->ops->unlink(env, "f"), 0);
    }
    env_free(env, buf);
}

/* One bad operation of a batch fails alone. */
static void
test_errors_are_results(void **state)
{
    struct env *env = fixture_of(state)->env;
    struct env_file *good = open_file(env, "f", ENV_OPEN_CREATE);
    struct env_file *read_only = open_file(env, "f", ENV_OPEN_READ);
    uint8_t buf[64] = "some bytes";
    const struct iovec iov = {.iov_base = buf, .iov_len = sizeof(buf)};
    struct env_io ios[30];
    int64_t results[30];
    struct env_queue *queue;

    assert_int_equal(env->ops->queue_open(env, &queue), 0);
    for (uint32_t i = 0; i < 30; i++) {
        ios[i] = (struct env_io){.op = ENV_OP_WRITE,
                                 .iov = &iov,
                                 .iov_count = 1,
                                 .file = i % 3 == 1 ? read_only : good,
                                 .offset = i * sizeof(buf),
                                 .done = keep_result,
                                 .arg = &results[i]};
        env->ops->submit(queue, &ios[i]);
    }
    io_drain(queue);
    for (uint32_t i = 0; i < 30; i++)
        assert_int_equal(results[i], i % 3 == 1 ? -EBADF : (int64_t)sizeof(buf));
    env->ops->queue_close(queue);
    env->ops->close(good);
    env->ops->close(read_only);
}

static void
test_space(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct env *env = fixture->env;
    struct env_file *file = open_file(env, "f", ENV_OPEN_CREATE | ENV_OPEN_DIRECT);
    uint8_t *buf = alloc_filled(env, UNIT, 1);
    uint8_t *zero = env_zalloc(env, UNIT);
    uint64_t size;
    uint64_t allocated;
    uint64_t free_bytes = 0;
    int rc;

    assert_non_null(zero);
    assert_int_equal(env->ops->preallocate(file, 0), 0);
    assert_int_equal(env->ops->preallocate(file, 1 << 20), 0);
    assert_int_equal(env->ops->size(file, &size), 0);
    assert_int_equal(size, 1 << 20);
    assert_int_equal(env->ops->allocated(file, &allocated), 0);
    assert_true(allocated >= 1 << 20 && allocated < 2 << 20);
    assert_int_equal(io_read(fixture->pool, file, buf, UNIT, (1 << 20) - UNIT), 0);
    assert_memory_equal(buf, zero, UNIT);

    assert_int_equal(env->ops->preallocate(file, UNIT), 0); /* never shorter */
    assert_int_equal(env->ops->size(file, &size), 0);
    assert_int_equal(size, 1 << 20);
    rc = env->ops->preallocate(
        file,
        (uint64_t)1
            << 60); /* more than a file can hold: less than that would fill the disk for a moment, under other tests */
    assert_true(rc == -ENOSPC || rc == -EFBIG);
    assert_int_equal(env->ops->truncate(file, UNIT), 0);
    assert_int_equal(env->ops->sync(file), 0);
    assert_int_equal(env->ops->size(file, &size), 0);
    assert_int_equal(size, UNIT);
    assert_int_equal(env->ops->allocated(file, &allocated), 0);
    assert_true(allocated < 1 << 20);
    assert_int_equal(env->ops->truncate(file, 8 << 20), 0); /* a hole takes no space */
    assert_int_equal(env->ops->allocated(file, &allocated), 0);
    assert_true(allocated < 1 << 20);
    assert_int_equal(env->ops->free_space(env, &free_bytes), 0);
    assert_true(free_bytes > 1 << 20);
    env->ops->close(file);
    env_free(env, buf);
    env_free(env, zero);
}

static void
test_lock(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct env_settings settings = settings_of(fixture->engine);
    struct env *env = fixture->env;
    struct env *other;
    struct env_file *lock;
    struct env_file *second;
    char text[64] = "";
    char path[96];
    int fd;

    assert_int_equal(env_open_posix(fixture->dir, &settings, &other, NULL), VARVE_OK);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(env->ops->lock(env, "LOCK", &lock), 0);
        assert_int_equal(env->ops->lock(env, "LOCK", &second), -EWOULDBLOCK);
        assert_int_equal(other->ops->lock(other, "LOCK", &second), -EWOULDBLOCK);
        fd = open(path_in(fixture->dir, "LOCK", path), O_RDONLY);
        assert_true(read(fd, text, sizeof(text) - 1) > 0);
        assert_int_equal(close(fd), 0);
        assert_int_equal(strtol(text, NULL, 10), getpid());
        assert_non_null(strchr(text, '\n'));
        env->ops->close(lock);
    }
    assert_int_equal(other->ops->lock(other, "LOCK", &lock), 0);
    other->ops->close(lock);
    other->ops->destroy(other);
}

static void
test_memory_and_time(void **state)
{
    struct env *env = fixture_of(state)->env;
    uint64_t before = env->ops->now_ns(env);
    uint64_t value = env->ops->random(env);
    uint8_t *zero = env_zalloc(env, 1000);

    for (size_t align = 1; align <= 1 << 16; align *= 2) {
        void *ptr = env->ops->alloc(env, 100, align);

        assert_non_null(ptr);
        assert_int_equal((uintptr_t)ptr % align, 0);
        env_free(env, ptr);
    }
    assert_non_null(zero);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(zero[i], 0);
    env_free(env, zero);
    env_free(env, NULL);
    assert_true(env->ops->random(env) != value || env->ops->random(env) != value);
    assert_true(env->ops->now_ns(env) >= before);
    assert_true(env->io_align >= 512 && env->io_align <= IO_ALIGN_MAX && (env->io_align & (env->io_align - 1)) == 0);
}

#define WORKERS       4
#define WORKER_BLOCKS 16
#define WORKER_ROUNDS 60

struct worker {
    struct fixture *fixture;
    struct env_file *file;
    uint32_t index;
    uint32_t failures;
};

/* cmocka's assertions belong to the main thread, so a worker counts what went wrong. */
static void *
worker_main(void *arg)
{
    struct worker *worker = arg;
    struct env *env = worker->fixture->env;
    uint8_t *written = env->ops->alloc(env, WORKER_BLOCKS * UNIT, UNIT);
    uint8_t *got = env->ops->alloc(env, WORKER_BLOCKS * UNIT, UNIT);
    uint64_t base = (uint64_t)worker->index * WORKER_BLOCKS * UNIT;

    if (written == NULL || got == NULL)
        abort();
    for (uint32_t round = 0; round < WORKER_ROUNDS; round++) {
        struct iovec iov[WORKER_BLOCKS];
        struct io ios[WORKER_BLOCKS];
        struct env_queue *queue;

        memset(written, (int)(round * WORKERS + worker->index), WORKER_BLOCKS * UNIT);
        if (io_write(worker->fixture->pool, worker->file, written, WORKER_BLOCKS * UNIT, base) < 0 ||
            io_queue_acquire(worker->fixture->pool, &queue) < 0) {
            worker->failures++;
            continue;
        }
        for (uint32_t i = 0; i < WORKER_BLOCKS; i++) {
            iov[i] = (struct iovec){.iov_base = got + (size_t)i * UNIT, .iov_len = UNIT};
            ios[i] = (struct io){.op = ENV_OP_READ,
                                 .file = worker->file,
                                 .iov = &iov[i],
                                 .iov_count = 1,
                                 .offset = base + (uint64_t)i * UNIT};
            io_submit(queue, &ios[i]);
        }
        io_drain(queue);
        io_queue_release(worker->fixture->pool, queue);
        for (uint32_t i = 0; i < WORKER_BLOCKS; i++)
            worker->failures += ios[i].result != 0;
        worker->failures += memcmp(written, got, WORKER_BLOCKS * UNIT) != 0;
    }
    env_free(env, written);
    env_free(env, got);
    return NULL;
}

/* Queues pass from thread to thread through the pool, and the second set of threads gets those of the first. */
static void
test_threads(void **state)
{
    struct fixture *fixture = fixture_of(state);
    struct env_file *file = open_file(fixture->env, "f", ENV_OPEN_CREATE | ENV_OPEN_DIRECT);
    struct worker workers[WORKERS];
    pthread_t threads[WORKERS];

    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < WORKERS; i++) {
            workers[i] = (struct worker){.fixture = fixture, .file = file, .index = i};
            assert_int_equal(pthread_create(&threads[i], NULL, worker_main, &workers[i]), 0);
        }
        for (uint32_t i = 0; i < WORKERS; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);
            assert_int_equal(workers[i].failures, 0);
        }
    }
    fixture->env->ops->close(file);
}

#define BOTH(test) cmocka_unit_test_prestate_setup_teardown(test, setup, teardown, &fixture)

static int
run_backend(const char *engine)
{
    static struct fixture fixture;
    const struct CMUnitTest tests[] = {
        BOTH(test_names),
        BOTH(test_list),
        BOTH(test_round_trip),
        BOTH(test_more_than_depth),
        BOTH(test_started_without_waiting),
        BOTH(test_end_of_file),
        BOTH(test_errors_are_results),
        BOTH(test_space),
        BOTH(test_lock),
        BOTH(test_memory_and_time),
        BOTH(test_threads),
    };

    fixture = (struct fixture){.engine = engine};
    return cmocka_run_group_tests_name(engine, tests, NULL, NULL);
}

int
main(void)
{
    return run_backend("uring") + run_backend("threads");
}
