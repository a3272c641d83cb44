/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated disk enforces the rules of direct I/O, injects the faults it is told to, and notices what is left open. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim_test_files.h"

static void
test_rules_of_direct_io(void **state)
{
    static const struct {
        uint32_t io_align;
        uint32_t shift, size; /* of the buffer */
        uint64_t offset;
        bool valid;
    } cases[] = {
        {512, 0, 512, 0, true},      {512, 0, 1024, 512, true},   {512, 1, 512, 0, false},
        {512, 0, 511, 0, false},     {512, 0, 512, 100, false},   {4096, 0, 512, 0, false},
        {4096, 512, 4096, 0, false}, {4096, 0, 4096, 512, false}, {4096, 0, 8192, 4096, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sim_disk_settings settings = sim_test_plain;
        struct sim_disk *disk;
        struct env_file *file;
        uint8_t *block;
        int64_t rc;

        settings.io_align = cases[i].io_align;
        disk = sim_disk_create(&settings);
        assert_int_equal(posix_memalign((void **)&block, 4096, 16384), 0);
        memset(block, 0, 16384);
        file = sim_test_open(disk, "a", ENV_OPEN_CREATE | ENV_OPEN_DIRECT);
        rc = sim_test_transfer(file, ENV_OP_WRITE, block + cases[i].shift, cases[i].size, cases[i].offset);
        assert_int_equal(rc, cases[i].valid ? (int64_t)cases[i].size : -EINVAL);
        assert_int_equal(disk->violations, cases[i].valid ? 0 : 1);
        sim_disk_env(disk)->ops->close(file);
        free(block);
        sim_disk_destroy(disk);
    }
}

static void
test_faults(void **state)
{
    static const struct sim_fault second_sync = {
        .ops = SIM_OP_SYNC, .glob = "*.manifest", .kind = SIM_FAULT_SYNC_LOST, .error = EIO, .skip = 1, .count = 1};
    static const struct sim_fault dead = {.ops = SIM_OP_READ, .kind = SIM_FAULT_ERROR, .error = EIO};
    struct sim_disk_settings settings = sim_test_plain;
    struct sim_disk *disk;
    struct env *env;
    struct env_file *file, *other;
    uint8_t data[4096];

    (void)state;
    settings.size_bytes = 8192;
    disk = sim_disk_create(&settings);
    env = sim_disk_env(disk);
    sim_disk_fault_add(disk, &second_sync);
    file = sim_test_make(disk, "1.manifest", 5, 4096);
    other = sim_test_make(disk, "1.seg", 6, 512);
    assert_int_equal(env->ops->sync(file), 0);
    assert_int_equal(env->ops->sync_dir(env), 0);
    sim_test_overwrite(file, 8, 4096, 0);
    assert_int_equal(env->ops->sync(other), 0);
    assert_int_equal(env->ops->sync(file), -EIO);
    assert_int_equal(env->ops->sync(file), 0);
    assert_int_equal(sim_test_transfer(file, ENV_OP_READ, data, sizeof(data), 0), 4096);
    assert_int_equal(data[0], 8); /* reads still show what a crash takes */
    assert_int_equal(env->ops->preallocate(other, 16384), -ENOSPC);
    sim_disk_fault_add(disk, &dead);
    assert_int_equal(sim_test_transfer(other, ENV_OP_READ, data, 512, 0), -EIO);
    sim_disk_faults_clear(disk);
    assert_int_equal(sim_test_transfer(other, ENV_OP_READ, data, 512, 0), 512);
    env->ops->close(file);
    env->ops->close(other);
    for (uint64_t seed = 0; seed < 20; seed++)
        sim_test_crash(disk, SIM_CRASH_POWER, seed);
    assert_int_equal(sim_test_read(disk, "1.manifest", data, sizeof(data)), 4096);
    assert_int_equal(data[0], 5);
    assert_int_equal(disk->violations, 0);
    sim_disk_destroy(disk);
}

static void
test_lock_and_leaks(void **state)
{
    struct sim_disk *disk = sim_disk_create(&sim_test_plain);
    struct env *env = sim_disk_env(disk);
    struct env_file *lock, *again;
    void *ptr;

    (void)state;
    assert_int_equal(env->ops->lock(env, "LOCK", &lock), 0);
    assert_int_equal(env->ops->lock(env, "LOCK", &again), -EWOULDBLOCK);
    assert_int_equal(disk->handles_open, 1);
    env->ops->close(lock);
    assert_int_equal(env->ops->lock(env, "LOCK", &again), 0);
    env->ops->close(again);
    ptr = env->ops->alloc(env, 100, 4096);
    assert_int_equal((uintptr_t)ptr % 4096, 0);
    assert_int_equal(disk->allocations, 1);
    env->ops->free(env, ptr);
    assert_int_equal(disk->allocations + disk->handles_open + disk->queues_open, 0);
    sim_disk_destroy(disk);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rules_of_direct_io), cmocka_unit_test(test_faults),
                                       cmocka_unit_test(test_lock_and_leaks)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
