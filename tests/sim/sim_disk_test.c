/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated disk keeps what a disk must keep, loses what it may lose, and does the same for the same seed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim_test_files.h"

#define SEEDS 200

static void
test_synced_survives(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_disk *disk = sim_disk_create(&sim_test_plain);
        struct env *env = sim_disk_env(disk);
        struct env_file *file = sim_test_make(disk, "a", 7, 5000);
        uint8_t data[8192];

        assert_int_equal(env->ops->sync(file), 0);
        assert_int_equal(env->ops->sync_dir(env), 0);
        sim_test_overwrite(file, 9, 1024, 1024);
        env->ops->close(file);
        sim_test_crash(disk, SIM_CRASH_POWER, seed);
        assert_int_equal(sim_test_read(disk, "a", data, sizeof(data)), 5000);
        for (size_t i = 0; i < 5000; i++) {
            if (i < 1024 || i >= 2048)
                assert_int_equal(data[i], 7); /* sectors that were not being written keep their bytes */
        }
        sim_disk_destroy(disk);
    }
}

/* Every outcome of one unsynced write of four sectors is seen: whole, lost, torn between sectors only, garbage in at most one. */
static void
test_tears_between_sectors(void **state)
{
    int whole = 0, lost = 0, torn = 0, noisy = 0;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_disk *disk = sim_disk_create(&sim_test_plain);
        struct env *env = sim_disk_env(disk);
        struct env_file *file = sim_test_make(disk, "a", 1, 2048);
        int news = 0, olds = 0, others = 0;
        uint8_t data[2048];

        assert_int_equal(env->ops->sync(file), 0);
        assert_int_equal(env->ops->sync_dir(env), 0);
        sim_test_overwrite(file, 2, 2048, 0);
        env->ops->close(file);
        sim_test_crash(disk, SIM_CRASH_POWER, seed);
        assert_int_equal(sim_test_read(disk, "a", data, sizeof(data)), 2048);
        for (size_t sector = 0; sector < 4; sector++) {
            const uint8_t *p = data + sector * 512;
            bool same = memcmp(p, p + 1, 511) == 0;

            news += same && *p == 2;
            olds += same && *p == 1;
            others += !same;
        }
        assert_int_equal(news + olds + others, 4);
        assert_true(others <= 1);
        whole += news == 4;
        lost += olds == 4;
        torn += news > 0 && olds > 0;
        noisy += others;
        sim_disk_destroy(disk);
    }
    assert_true(whole > 0 && lost > 0 && torn > 0 && noisy > 0);
}

static void
test_kill_keeps_what_completed(void **state)
{
    uint8_t data[8192];

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_disk *disk = sim_disk_create(&sim_test_plain);
        struct env *env = sim_disk_env(disk);
        struct env_file *file = sim_test_make(disk, "a", 7, 5000);

        assert_int_equal(env->ops->rename(env, "a", "b"), 0);
        env->ops->close(file);
        sim_test_crash(disk, SIM_CRASH_KILL, seed);
        assert_int_equal(sim_test_read(disk, "a", data, sizeof(data)), -1);
        assert_int_equal(sim_test_read(disk, "b", data, sizeof(data)), 5000);
        assert_int_equal(data[4999], 7);
        sim_disk_destroy(disk);
    }
}

/* What a killed process left unsynced may still be lost by the power failure that follows. */
static void
test_kill_then_power(void **state)
{
    int gone = 0;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_disk *disk = sim_disk_create(&sim_test_plain);
        struct env_file *file = sim_test_make(disk, "a", 7, 512);
        uint8_t data[512];

        sim_disk_env(disk)->ops->close(file);
        sim_test_crash(disk, SIM_CRASH_KILL, seed);
        sim_test_crash(disk, SIM_CRASH_POWER, seed);
        gone += sim_test_read(disk, "a", data, sizeof(data)) != 512;
        sim_disk_destroy(disk);
    }
    assert_in_range(gone, 1, SEEDS - 1);
}

static void
test_directory(void **state)
{
    int vanished = 0, old = 0, new = 0, back = 0;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_disk *disk = sim_disk_create(&sim_test_plain);
        struct env *env = sim_disk_env(disk);
        struct env_file *first = sim_test_make(disk, "CURRENT", 1, 16);
        struct env_file *second, *gone;
        uint8_t data[64];

        gone = sim_test_make(disk, "gone", 3, 16);
        assert_int_equal(env->ops->sync(first), 0);
        assert_int_equal(env->ops->sync(gone), 0);
        assert_int_equal(env->ops->sync_dir(env), 0);
        second = sim_test_make(disk, "tmp", 2, 16);
        assert_int_equal(env->ops->sync(second), 0);
        assert_int_equal(env->ops->rename(env, "tmp", "CURRENT"), 0);
        assert_int_equal(env->ops->unlink(env, "gone"), 0);
        env->ops->close(first);
        env->ops->close(second);
        env->ops->close(gone);
        sim_test_crash(disk, SIM_CRASH_POWER, seed);
        /* A rename is old or new, whatever became of the creation before it. */
        assert_int_equal(sim_test_read(disk, "CURRENT", data, sizeof(data)), 16);
        old += data[0] == 1;
        new += data[0] == 2;
        assert_int_equal(data[0], data[15]);
        if (data[0] == 2)
            assert_int_equal(sim_test_read(disk, "tmp", data, sizeof(data)), -1);
        else
            vanished += sim_test_read(disk, "tmp", data, sizeof(data)) == -1;
        if (sim_test_read(disk, "gone", data, sizeof(data)) == 16) {
            back++;
            assert_int_equal(data[0], 3);
        }
        sim_disk_destroy(disk);
    }
    assert_true(old > 0 && new > 0 && vanished > 0 && back > 0);
    assert_int_equal(old + new, SEEDS);
}

/* The length after a crash is one that the file had, and what was never written there is zero. */
static void
test_lengths(void **state)
{
    int seen[3] = {0};

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_disk *disk = sim_disk_create(&sim_test_plain);
        struct env *env = sim_disk_env(disk);
        struct env_file *file = sim_test_make(disk, "a", 1, 1024);
        uint8_t data[8192];
        int64_t size;

        assert_int_equal(env->ops->sync(file), 0);
        assert_int_equal(env->ops->sync_dir(env), 0);
        assert_int_equal(env->ops->truncate(file, 512), 0);
        assert_int_equal(env->ops->preallocate(file, 4096), 0);
        env->ops->close(file);
        sim_test_crash(disk, SIM_CRASH_POWER, seed);
        size = sim_test_read(disk, "a", data, sizeof(data));
        assert_true(size == 1024 || size == 512 || size == 4096);
        seen[size == 1024 ? 0 : size == 512 ? 1 : 2]++;
        for (int64_t i = 0; i < size; i++)
            assert_int_equal(data[i], i < 512 || size == 1024 ? 1 : 0);
        sim_disk_destroy(disk);
    }
    assert_true(seen[0] > 0 && seen[1] > 0 && seen[2] > 0);
}

static void
test_stop_and_in_flight(void **state)
{
    int applied = 0;

    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_disk *disk = sim_disk_create(&sim_test_plain);
        struct env *env = sim_disk_env(disk);
        struct env_file *file = sim_test_make(disk, "a", 1, 512);
        uint8_t data[512];

        assert_int_equal(env->ops->sync(file), 0);
        assert_int_equal(env->ops->sync_dir(env), 0);
        sim_disk_crash_after(disk, 2);
        assert_int_equal(env->ops->sync(file), 0);
        memset(data, 2, sizeof(data));
        assert_int_equal(sim_test_transfer(file, ENV_OP_WRITE, data, sizeof(data), 0), -EIO);
        assert_int_equal(env->ops->sync(file), -EIO);
        assert_int_equal(env->ops->unlink(env, "a"), -EIO);
        assert_true(disk->stopped);
        env->ops->close(file);
        sim_disk_crash(disk, seed % 2 == 0 ? SIM_CRASH_KILL : SIM_CRASH_POWER, seed);
        assert_int_equal(sim_test_read(disk, "a", data, sizeof(data)), 512);
        applied += data[0] == 2 && data[511] == 2;
        sim_disk_destroy(disk);
    }
    assert_in_range(applied, 1, SEEDS - 1);
}

/* Random operations and crashes from one seed; the digest of what is left. */
static uint64_t
random_life(uint64_t seed)
{
    struct sim_disk_settings settings = sim_test_plain;
    struct sim_rng rng = sim_rng_make(seed, 9);
    struct sim_disk *disk;
    struct env *env;
    uint64_t digest;

    settings.seed = seed;
    settings.short_per_mille = 200;
    settings.again_per_mille = 100;
    disk = sim_disk_create(&settings);
    env = sim_disk_env(disk);
    for (int i = 0; i < 100; i++) {
        char name[16];
        struct env_file *file;
        uint8_t data[3000];
        unsigned flags = 0;

        (void)snprintf(name, sizeof(name), "f%u", (unsigned)sim_rng_below(&rng, 5));
        sim_rng_fill(&rng, data, sizeof(data));
        if (env->ops->open(env, name, 0, &file) == -ENOENT)
            flags = ENV_OPEN_CREATE;
        if (flags != 0 && env->ops->open(env, name, flags, &file) < 0)
            abort();
        (void)sim_test_transfer(file, ENV_OP_WRITE, data, sizeof(data), sim_rng_below(&rng, 9000));
        if (sim_rng_chance(&rng, 200))
            (void)env->ops->sync(file);
        env->ops->close(file);
        if (sim_rng_chance(&rng, 100))
            (void)env->ops->unlink(env, name);
        if (sim_rng_chance(&rng, 200))
            (void)env->ops->sync_dir(env);
        if (sim_rng_chance(&rng, 50))
            sim_test_crash(disk, SIM_CRASH_POWER, sim_rng_next(&rng));
    }
    digest = sim_disk_digest(disk);
    sim_disk_destroy(disk);
    return digest;
}

static void
test_deterministic(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed < 30; seed++) {
        assert_true(random_life(seed) == random_life(seed));
        assert_true(random_life(seed) != random_life(seed + 1));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_synced_survives),
        cmocka_unit_test(test_tears_between_sectors),
        cmocka_unit_test(test_kill_keeps_what_completed),
        cmocka_unit_test(test_kill_then_power),
        cmocka_unit_test(test_directory),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_stop_and_in_flight),
        cmocka_unit_test(test_deterministic),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
