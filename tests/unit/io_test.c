/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_test.c - whole transfers over an env that is a bad disk: it moves fewer bytes than asked, stops off alignment, is
 * interrupted, refuses for now, fails. The fake checks every request for what direct I/O demands, so a transfer that
 * goes on from the wrong byte is caught there, and a transfer that forgets or repeats bytes in the wrong place by
 * comparing them.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "env/env.h"
#include "env/io.h"

#define FILE_BYTES 65536
#define ALIGN      512
#define FULL       INT64_MAX /* in a script: move all */

struct fake_env {
    struct env env;
    struct env_ops ops;
    uint64_t random;
    const int64_t *script; /* results of the next requests: FULL, bytes or -errno; NULL: from the seed */
    uint32_t script_left;
    uint32_t fault_percent; /* of requests, where there is no script */
    uint32_t requests;
    uint32_t queues_open;
    uint32_t queue_opens_left; /* then -EMFILE */
    uint32_t allocs_left;      /* then NULL */
};

struct fake_file {
    struct env_file file;
    bool direct;
    uint64_t size;
    uint8_t bytes[FILE_BYTES];
};

struct fake_queue {
    struct env_queue queue;
    struct env_io *first;
};

static uint64_t
draw(struct fake_env *env, uint64_t below)
{
    env->random = env->random * 6364136223846793005u + 1442695040888963407u;
    return (env->random >> 33) % below;
}

static int
fake_size(struct env_file *file, uint64_t *size)
{
    *size = ((struct fake_file *)file)->size;
    return 0;
}

static void *
fake_alloc(struct env *env, size_t size, size_t align)
{
    struct fake_env *fake = (struct fake_env *)env;
    void *ptr = NULL;

    if (fake->allocs_left == 0)
        return NULL;
    fake->allocs_left--;
    return posix_memalign(&ptr, align < sizeof(void *) ? sizeof(void *) : align, size) == 0 ? ptr : NULL;
}

static void
fake_free(struct env *env, void *ptr)
{
    (void)env;
    free(ptr);
}

static int
fake_queue_open(struct env *env, struct env_queue **out)
{
    struct fake_env *fake = (struct fake_env *)env;
    struct fake_queue *queue;

    if (fake->queue_opens_left == 0)
        return -EMFILE;
    fake->queue_opens_left--;
    fake->queues_open++;
    queue = calloc(1, sizeof(*queue));
    assert_non_null(queue);
    queue->queue.env = env;
    *out = &queue->queue;
    return 0;
}

static void
fake_queue_close(struct env_queue *queue)
{
    ((struct fake_env *)queue->env)->queues_open--;
    free(queue);
}

static void
fake_submit(struct env_queue *base, struct env_io *io)
{
    struct fake_queue *queue = (struct fake_queue *)base;

    io->next = queue->first;
    queue->first = io;
    base->in_flight++;
}

/* What the disk does with a request of `size` bytes. */
static int64_t
decide(struct fake_env *env, uint64_t size)
{
    if (env->script != NULL) {
        assert_true(env->script_left > 0);
        env->script_left--;
        return *env->script++;
    }
    if (draw(env, 100) >= env->fault_percent)
        return FULL;
    switch (draw(env, 4)) {
    case 0:
        return -EINTR;
    case 1:
        return -EAGAIN;
    case 2: /* often just around a boundary of alignment */
        return (int64_t)(1 + draw(env, 3 * ALIGN));
    default:
        return (int64_t)(1 + draw(env, size));
    }
}

static void
check_direct(const struct env_io *io)
{
    uint64_t bits = io->offset;

    for (uint32_t i = 0; i < io->iov_count; i++)
        bits |= (uintptr_t)io->iov[i].iov_base | io->iov[i].iov_len;
    assert_int_equal(bits % ALIGN, 0);
}

static int64_t
move(struct fake_file *file, const struct env_io *io, uint64_t limit)
{
    uint64_t offset = io->offset;
    uint64_t left = limit;

    if (io->op == ENV_OP_READ && left > file->size - offset)
        left = file->size - offset;
    limit = left;
    for (uint32_t i = 0; i < io->iov_count && left > 0; i++) {
        uint64_t size = io->iov[i].iov_len < left ? io->iov[i].iov_len : left;

        assert_true(offset + size <= FILE_BYTES);
        if (size > 0 && io->op == ENV_OP_READ)
            memcpy(io->iov[i].iov_base, file->bytes + offset, size);
        else if (size > 0)
            memcpy(file->bytes + offset, io->iov[i].iov_base, size);
        offset += size;
        left -= size;
    }
    return (int64_t)limit;
}

static void
serve(struct fake_env *env, struct env_io *io)
{
    struct fake_file *file = (struct fake_file *)io->file;
    uint64_t size = 0;
    int64_t verdict;

    env->requests++;
    assert_true(io->iov_count >= 1 && io->iov_count <= 1024);
    for (uint32_t i = 0; i < io->iov_count; i++)
        size += io->iov[i].iov_len;
    assert_true(size > 0);
    if (file->direct)
        check_direct(io);
    verdict = decide(env, size);
    io->result = verdict < 0 ? verdict : move(file, io, (uint64_t)verdict < size ? (uint64_t)verdict : size);
}

static void
fake_wait(struct env_queue *base, uint32_t at_least)
{
    struct fake_queue *queue = (struct fake_queue *)base;
    struct fake_env *env = (struct fake_env *)base->env;

    for (uint32_t i = 0; i < at_least; i++) {
        struct env_io **link = &queue->first;
        struct env_io *io;

        assert_non_null(*link);
        while ((*link)->next != NULL && draw(env, 2) == 0) /* any order */
            link = &(*link)->next;
        io = *link;
        *link = io->next;
        base->in_flight--;
        serve(env, io);
        io->done(io);
    }
}

static void
fake_env_init(struct fake_env *env, uint64_t seed)
{
    *env = (struct fake_env){
        .random = seed,
        .queue_opens_left = UINT32_MAX,
        .allocs_left = UINT32_MAX,
        .ops = {.size = fake_size,
                .alloc = fake_alloc,
                .free = fake_free,
                .queue_open = fake_queue_open,
                .queue_close = fake_queue_close,
                .submit = fake_submit,
                .wait = fake_wait},
    };
    env->env = (struct env){.ops = &env->ops, .name = "fake", .io_align = ALIGN, .direct_io = true};
}

/* Results of the requests of one transfer of 4096 bytes, and what must come of it. */
static const struct script_case {
    const char *name;
    enum env_op op;
    bool direct;
    uint64_t file_size;
    uint32_t repeat; /* of results[0], before the others */
    int64_t results[4];
    int expect;
    uint32_t expect_requests;
} script_cases[] = {
    {"whole read", ENV_OP_READ, false, FILE_BYTES, 1, {FULL}, 0, 1},
    {"whole write", ENV_OP_WRITE, false, FILE_BYTES, 1, {FULL}, 0, 1},
    {"short read goes on", ENV_OP_READ, false, FILE_BYTES, 1, {1000, FULL}, 0, 2},
    {"short write goes on", ENV_OP_WRITE, false, FILE_BYTES, 1, {1000, 1, FULL}, 0, 3},
    {"direct read stops off alignment", ENV_OP_READ, true, FILE_BYTES, 1, {1000, 600, FULL}, 0, 3},
    {"direct write stops off alignment", ENV_OP_WRITE, true, FILE_BYTES, 1, {513, 4095 - 512, FULL}, 0, 3},
    {"read at the end", ENV_OP_READ, false, FILE_BYTES, 1, {0}, -ENODATA, 1},
    {"write of nothing", ENV_OP_WRITE, false, FILE_BYTES, 1, {0}, -EIO, 1},
    {"the file ends inside", ENV_OP_READ, false, 1000, 1, {FULL, 0}, -ENODATA, 2},
    {"the file ends off alignment", ENV_OP_READ, true, 1000, 1, {FULL, FULL}, -ENODATA, 2},
    {"the file ends in the first unit", ENV_OP_READ, true, 100, 1, {FULL}, -ENODATA, 1},
    {"direct read of less than a unit, not at the end", ENV_OP_READ, true, FILE_BYTES, 3, {100, FULL}, 0, 4},
    {"interrupted a hundred times", ENV_OP_READ, false, FILE_BYTES, 100, {-EINTR, FULL}, 0, 101},
    {"interrupted for ever", ENV_OP_READ, false, FILE_BYTES, 101, {-EINTR}, -EINTR, 101},
    {"refused for ever", ENV_OP_WRITE, false, FILE_BYTES, 101, {-EAGAIN}, -EAGAIN, 101},
    {"direct write gets nowhere", ENV_OP_WRITE, true, FILE_BYTES, 101, {511}, -EIO, 101},
    {"direct read gets nowhere", ENV_OP_READ, true, FILE_BYTES, 101, {511}, -EIO, 101},
    {"failed", ENV_OP_READ, false, FILE_BYTES, 1, {-EIO}, -EIO, 1},
    {"failed after a part", ENV_OP_WRITE, false, FILE_BYTES, 1, {512, -ENOSPC}, -ENOSPC, 2},
};

static void
test_scripts(void **state)
{
    static _Alignas(ALIGN) uint8_t buf[4096];
    static struct fake_file file;

    (void)state;
    for (size_t i = 0; i < sizeof(script_cases) / sizeof(script_cases[0]); i++) {
        const struct script_case *c = &script_cases[i];
        struct io_queue_pool *pool;
        struct fake_env env;
        int64_t script[110];
        uint32_t count = 0;
        int rc;

        fake_env_init(&env, 1);
        while (count < c->repeat)
            script[count++] = c->results[0];
        for (uint32_t k = 1; k < 4; k++)
            script[count++] = c->results[k];
        env.script = script;
        env.script_left = count;
        file.file.env = &env.env;
        file.direct = c->direct;
        file.size = c->file_size;
        for (uint32_t k = 0; k < FILE_BYTES; k++)
            file.bytes[k] = (uint8_t)(k * 7 + k / 256);
        memset(buf, 0xee, sizeof(buf));
        assert_int_equal(io_queue_pool_create(&env.env, &pool), 0);
        if (c->op == ENV_OP_READ)
            rc = io_read(pool, &file.file, buf, sizeof(buf), 0);
        else
            rc = io_write(pool, &file.file, buf, sizeof(buf), 0);
        if (rc != c->expect || env.requests != c->expect_requests)
            fail_msg("%s: result %d after %u requests", c->name, rc, env.requests);
        if (rc == 0)
            assert_memory_equal(buf, file.bytes, sizeof(buf));
        io_queue_pool_destroy(pool);
        assert_int_equal(env.queues_open, 0);
    }
}

#define TRANSFERS 12
#define PART      (FILE_BYTES / TRANSFERS / ALIGN * ALIGN)
#define IOVS_MAX  9

struct transfer {
    struct io io;
    struct iovec iov[IOVS_MAX];
    uint8_t *buf;
    uint64_t offset;
    uint64_t size;
    uint32_t done;
};

static void
count_done(struct io *io)
{
    ((struct transfer *)io->arg)->done++;
}

/* Cut the transfer's buffer into iovecs, some empty; in direct mode at multiples of ALIGN. */
static void
make_transfer(struct fake_env *env, struct fake_file *file, struct transfer *t, enum env_op op, uint32_t index)
{
    uint64_t unit = file->direct ? ALIGN : 1;
    uint64_t units = PART / unit;
    uint64_t left;

    t->offset = (uint64_t)index * PART;
    left = 1 + draw(env, units);
    if (left < units)
        t->offset += draw(env, units - left) * unit;
    t->size = left * unit;
    t->done = 0;
    t->io =
        (struct io){.op = op, .file = &file->file, .iov = t->iov, .offset = t->offset, .done = count_done, .arg = t};
    for (uint64_t used = 0; left > 0; t->io.iov_count++) {
        uint64_t take = t->io.iov_count == IOVS_MAX - 1 ? left : draw(env, left + 1);

        t->iov[t->io.iov_count] = (struct iovec){.iov_base = t->buf + used * unit, .iov_len = take * unit};
        used += take;
        left -= take;
    }
}

static void
run_transfers(struct fake_env *env, struct fake_file *file, struct transfer *transfers, enum env_op op)
{
    struct io_queue_pool *pool;
    struct env_queue *queue;

    assert_int_equal(io_queue_pool_create(&env->env, &pool), 0);
    assert_int_equal(io_queue_acquire(pool, &queue), 0);
    for (uint32_t i = 0; i < TRANSFERS; i++) {
        make_transfer(env, file, &transfers[i], op, i);
        io_submit(queue, &transfers[i].io);
    }
    io_drain(queue);
    io_queue_release(pool, queue);
    io_queue_pool_destroy(pool);
    for (uint32_t i = 0; i < TRANSFERS; i++) {
        assert_int_equal(transfers[i].done, 1);
        assert_int_equal(transfers[i].io.result, 0);
    }
}

static void
random_round(uint64_t seed, bool direct, struct transfer *transfers)
{
    static struct fake_file file;
    static uint8_t model[FILE_BYTES];
    struct fake_env env;

    fake_env_init(&env, seed);
    env.fault_percent = (uint32_t)draw(&env, 60);
    env.env.direct_io = direct;
    file.file.env = &env.env;
    file.direct = direct;
    file.size = FILE_BYTES;
    for (uint32_t i = 0; i < FILE_BYTES; i++)
        model[i] = file.bytes[i] = (uint8_t)draw(&env, 256);
    for (uint32_t i = 0; i < TRANSFERS; i++)
        for (uint32_t k = 0; k < PART; k++)
            transfers[i].buf[k] = (uint8_t)draw(&env, 256);

    run_transfers(&env, &file, transfers, ENV_OP_WRITE);
    for (uint32_t i = 0; i < TRANSFERS; i++)
        memcpy(model + transfers[i].offset, transfers[i].buf, transfers[i].size);
    assert_memory_equal(file.bytes, model, FILE_BYTES);

    for (uint32_t i = 0; i < TRANSFERS; i++)
        memset(transfers[i].buf, 0x55, PART);
    run_transfers(&env, &file, transfers, ENV_OP_READ);
    for (uint32_t i = 0; i < TRANSFERS; i++)
        assert_memory_equal(transfers[i].buf, model + transfers[i].offset, transfers[i].size);
}

static void
test_random(void **state)
{
    static struct transfer transfers[TRANSFERS];
    const char *from = getenv("TEST_SEED");
    uint64_t first = from != NULL ? strtoull(from, NULL, 10) : 1;

    (void)state;
    print_message("seeds from %llu; TEST_SEED sets the first\n", (unsigned long long)first);
    for (uint32_t i = 0; i < TRANSFERS; i++)
        assert_int_equal(posix_memalign((void **)&transfers[i].buf, ALIGN, PART), 0);
    for (uint64_t seed = first; seed < first + 200; seed++)
        random_round(seed, seed % 2 == 0, transfers);
    for (uint32_t i = 0; i < TRANSFERS; i++)
        free(transfers[i].buf);
}

/* A transfer may leave out done(); one of no bytes does nothing. */
static void
test_without_done(void **state)
{
    static struct fake_file file;
    struct io_queue_pool *pool;
    struct env_queue *queue;
    struct fake_env env;
    uint8_t byte = 9;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct io io = {.op = ENV_OP_WRITE, .file = &file.file, .iov = &iov, .iov_count = 1, .offset = 77, .result = -1};

    (void)state;
    fake_env_init(&env, 1);
    file.file.env = &env.env;
    file.size = FILE_BYTES;
    assert_int_equal(io_queue_pool_create(&env.env, &pool), 0);
    assert_int_equal(io_queue_acquire(pool, &queue), 0);
    io_submit(queue, &io);
    io_drain(queue);
    assert_int_equal(io.result, 0);
    assert_int_equal(file.bytes[77], 9);
    io_queue_release(pool, queue);
    env.requests = 0;
    assert_int_equal(io_read(pool, &file.file, &byte, 0, FILE_BYTES + 1), 0);
    assert_int_equal(env.requests, 0);
    io_queue_pool_destroy(pool);
}

static void
test_queue_pool(void **state)
{
    struct env_queue *queues[40];
    struct env_queue *again;
    struct io_queue_pool *pool;
    struct fake_env env;

    (void)state;
    fake_env_init(&env, 1);
    assert_int_equal(io_queue_pool_create(&env.env, &pool), 0);
    for (uint32_t i = 0; i < 40; i++) {
        assert_int_equal(io_queue_acquire(pool, &queues[i]), 0);
        for (uint32_t k = 0; k < i; k++)
            assert_ptr_not_equal(queues[i], queues[k]);
    }
    for (uint32_t i = 0; i < 40; i++)
        io_queue_release(pool, queues[i]);
    assert_int_equal(env.queues_open, 40);
    env.queue_opens_left = 0; /* none may be opened now: they are reused */
    for (uint32_t i = 0; i < 40; i++)
        assert_int_equal(io_queue_acquire(pool, &queues[i]), 0);
    assert_int_equal(io_queue_acquire(pool, &again), -EMFILE);
    for (uint32_t i = 0; i < 40; i++)
        io_queue_release(pool, queues[i]);
    io_queue_pool_destroy(pool);
    assert_int_equal(env.queues_open, 0);
    io_queue_pool_destroy(NULL);
}

static void
test_out_of_memory(void **state)
{
    static struct fake_file file;
    uint8_t byte = 1;

    (void)state;
    for (uint32_t n = 0; n < 2; n++) {
        struct io_queue_pool *pool = NULL;
        struct fake_env env;
        int rc;

        fake_env_init(&env, 1);
        env.allocs_left = n;
        file.file.env = &env.env;
        file.size = FILE_BYTES;
        rc = io_queue_pool_create(&env.env, &pool);
        assert_int_equal(rc, n == 0 ? -ENOMEM : 0);
        if (rc == 0) {
            assert_int_equal(io_write(pool, &file.file, &byte, 1, 0), -ENOMEM);
            env.allocs_left = 1;
            assert_int_equal(io_write(pool, &file.file, &byte, 1, 0), 0);
        }
        io_queue_pool_destroy(pool);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scripts),    cmocka_unit_test(test_random),        cmocka_unit_test(test_without_done),
        cmocka_unit_test(test_queue_pool), cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests_name("io", tests, NULL, NULL);
}
