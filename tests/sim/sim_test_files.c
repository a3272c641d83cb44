/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, reading and writing through the env, one whole operation at a time. */
#include "sim_test_files.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

const struct sim_disk_settings sim_test_plain = {.seed = 1,
                                                 .io_align = 512,
                                                 .direct_io = true,
                                                 .sector_bytes = 512,
                                                 .queue_depth = 8,
                                                 .torn_per_mille = 300,
                                                 .garbage_per_mille = 300};

struct result {
    int done;
    int64_t value;
};

static void
on_done(struct env_io *io)
{
    struct result *result = io->arg;

    result->done++;
    result->value = io->result;
}

int64_t
sim_test_transfer(struct env_file *file, enum env_op op, void *buf, size_t size, uint64_t offset)
{
    struct env *env = file->env;
    struct iovec iov = {buf, size};
    struct result result = {0, 0};
    struct env_io io = {
        .op = op, .iov_count = 1, .iov = &iov, .file = file, .offset = offset, .done = on_done, .arg = &result};
    struct env_queue *queue;

    assert_int_equal(env->ops->queue_open(env, &queue), 0);
    env->ops->submit(queue, &io);
    env->ops->wait(queue, 1);
    env->ops->queue_close(queue);
    assert_int_equal(result.done, 1);
    return result.value;
}

struct env_file *
sim_test_open(struct sim_disk *disk, const char *name, unsigned flags)
{
    struct env *env = sim_disk_env(disk);
    struct env_file *file = NULL;

    assert_int_equal(env->ops->open(env, name, flags, &file), 0);
    return file;
}

struct env_file *
sim_test_make(struct sim_disk *disk, const char *name, uint8_t fill, size_t size)
{
    struct env_file *file = sim_test_open(disk, name, ENV_OPEN_CREATE);
    uint8_t *data = test_malloc(size);

    memset(data, fill, size);
    assert_int_equal(sim_test_transfer(file, ENV_OP_WRITE, data, size, 0), size);
    test_free(data);
    return file;
}

void
sim_test_overwrite(struct env_file *file, uint8_t fill, size_t size, uint64_t offset)
{
    uint8_t *data = test_malloc(size);

    memset(data, fill, size);
    assert_int_equal(sim_test_transfer(file, ENV_OP_WRITE, data, size, offset), size);
    test_free(data);
}

void
sim_test_crash(struct sim_disk *disk, enum sim_crash_mode mode, uint64_t seed)
{
    sim_disk_stop(disk);
    sim_disk_crash(disk, mode, seed);
}

int64_t
sim_test_read(struct sim_disk *disk, const char *name, uint8_t *data, size_t room)
{
    struct env *env = sim_disk_env(disk);
    struct env_file *file;
    uint64_t size;

    if (env->ops->open(env, name, ENV_OPEN_READ, &file) == -ENOENT)
        return -1;
    assert_int_equal(env->ops->size(file, &size), 0);
    assert_true(size <= room);
    if (size > 0)
        assert_int_equal(sim_test_transfer(file, ENV_OP_READ, data, size, 0), size);
    env->ops->close(file);
    return (int64_t)size;
}
