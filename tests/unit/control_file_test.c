/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file CONTROL, on the simulated disk: decisions outlive the process, and whatever the file holds, or the disk does to it, the store opens and serves all the same, and takes
 * no more room than it counts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "format/format.h"
#include "store_life.h"

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
#define SECOND      ((uint64_t)1000000000)

static char text[FORMAT_CONTROL_BYTES + 1];

/* What the file holds, in `text`; its lines without the head. -1: there is no file. */
static int
read_lines(void)
{
    struct env *env = sim_disk_env(life.disk);
    struct env_file *file;
    uint64_t size;
    int lines = 0;

    if (!store_file_exists(life.disk, FORMAT_CONTROL_NAME))
        return -1;
    assert_int_equal(env->ops->open(env, FORMAT_CONTROL_NAME, ENV_OPEN_READ, &file), 0);
    assert_int_equal(env->ops->size(file, &size), 0);
    assert_true(size > 0 && size <= FORMAT_CONTROL_BYTES);
    assert_int_equal(io_read(life.store->pool, file, text, (size_t)size, 0), 0);
    env->ops->close(file);
    text[size] = '\0';
    for (const char *at = text; *at != '\0'; at++)
        lines += *at == '\n';
    return lines - 1;
}

/* A decision that its line is known by: the first memtable has so many KiB. */
static void
decide(unsigned mark)
{
    const struct control_decision decision = {
        .event = CONTROL_SWITCH,
        .from = {8, 3, 1, 14, (uint64_t)mark << 10, 64 << 20},
        .to = {4, 1, 1, 14, (uint64_t)8 << 20, 64 << 20},
        .mix = {.pages_put = 12345, .walks = 678},
    };

    control_log_add(life.store, &decision);
}

static const char *
line_of(unsigned mark)
{
    char word[32];

    (void)snprintf(word, sizeof(word), "memtable %uK cache 65536K ->", mark);
    return strstr(text, word);
}

/* Decisions of three lives are in the file, the oldest first, and the last 64 of them. */
static void
test_outlives_the_process(void **state)
{
    (void)state;
    assert_int_equal(read_lines(), -1);
    for (unsigned i = 0; i < 3; i++)
        decide(1001 + i);
    life_must_close();
    life_must_open();
    assert_int_equal(read_lines(), 3);
    assert_int_equal(memcmp(text, FORMAT_CONTROL_HEAD, strlen(FORMAT_CONTROL_HEAD)), 0);
    assert_non_null(strstr(text, "\n2033-05-18T03:33:"));           /* the simulated clock */
    assert_int_equal(varve_control_log(life.store, NULL, NULL), 0); /* they are not this life's */
    life_must_close();
    life_must_open();
    assert_int_equal(read_lines(), 3); /* nothing was decided */
    decide(1004);
    life_must_close();
    life_must_open();
    assert_int_equal(read_lines(), 4);
    assert_true(line_of(1001) < line_of(1002) && line_of(1003) < line_of(1004));
    for (unsigned i = 0; i < 2 * CONTROL_LOG_MAX; i++)
        decide(2001 + i);
    life_must_close();
    life_must_open();
    assert_true(read_lines() > 20 && read_lines() <= CONTROL_LOG_MAX);
    assert_null(line_of(1004));
    assert_non_null(line_of(2000 + 2 * CONTROL_LOG_MAX));
    assert_int_equal(life_pages_right(), LIFE_ALL);
}

static bool
is_written(unsigned mark)
{
    while (store_tick(life.store))
        ;
    return read_lines() >= 0 && line_of(mark) != NULL;
}

/* The first decision is written at once, later ones ten seconds after that at the earliest. */
static void
test_paced(void **state)
{
    (void)state;
    decide(1001);
    assert_true(is_written(1001));
    decide(1002);
    assert_false(is_written(1002));
    life.disk->now_ns += 9 * SECOND;
    assert_false(is_written(1002));
    life.disk->now_ns += 2 * SECOND;
    assert_true(is_written(1002));
    life_kill();
    life_must_open();
    assert_true(read_lines() >= 2); /* the controller itself may have fallen asleep */
    assert_true(line_of(1001) < line_of(1002));
}

/* What is not as it should be is as if there were nothing, and is replaced by the next decision. */
static void
test_damage(void **state)
{
    static char longer[2 * FORMAT_CONTROL_BYTES];
    static const char *const contents[] = {
        "",
        "\n",
        "# Decisions",
        FORMAT_CONTROL_HEAD "no newline at the end",
        FORMAT_CONTROL_HEAD "an escape \033[2J\n",
        FORMAT_CONTROL_HEAD "more than ASCII \xc3\xa4\n",
        "# Decisions of something else.\nline\n",
    };

    (void)state;
    memset(longer, 'x', sizeof(longer));
    memcpy(longer, FORMAT_CONTROL_HEAD, sizeof(FORMAT_CONTROL_HEAD) - 1);
    longer[sizeof(longer) - 1] = '\n';
    for (size_t i = 0; i <= COUNT_OF(contents); i++) {
        bool oversized = i == COUNT_OF(contents);
        uint64_t used = space_used(life.store);

        life_must_close();
        store_file_write(life.disk, FORMAT_CONTROL_NAME, oversized ? longer : contents[i],
                         oversized ? sizeof(longer) : strlen(contents[i]));
        life_must_open();
        assert_int_equal(life_pages_right(), LIFE_ALL);
        if (oversized)
            assert_false(store_file_exists(life.disk, FORMAT_CONTROL_NAME));
        assert_true(space_used(life.store) <= used);
        decide(1001);
        life_must_close();
        life_must_open();
        assert_int_equal(read_lines(), 1);
        assert_non_null(line_of(1001));
    }
}

/* The directory takes no more than is counted, with the file and with the one that is to replace it. */
static void
test_space(void **state)
{
    uint64_t used = space_used(life.store);

    (void)state;
    for (unsigned i = 0; i < CONTROL_LOG_MAX; i++)
        decide(1001 + i);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(control_save(life.store, &life.err), VARVE_OK);
        assert_true(space_used(life.store) == used);
        assert_true(sim_disk_used(life.disk) <= used);
    }
    assert_false(store_file_exists(life.disk, FORMAT_CONTROL_TMP_NAME));
}

/* A disk that is full, or fails, keeps the file from being written, and nothing else. */
static void
test_faults(void **state)
{
    static const struct {
        unsigned op;
        int error;
    } cases[] = {
        {SIM_OP_CREATE, ENOSPC}, {SIM_OP_WRITE, ENOSPC}, {SIM_OP_CREATE, EIO},
        {SIM_OP_WRITE, EIO},     {SIM_OP_SYNC, EIO},     {SIM_OP_RENAME, EIO},
    };

    (void)state;
    decide(1001);
    assert_int_equal(control_save(life.store, &life.err), VARVE_OK);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        decide(1002 + (unsigned)i);
        store_fault(life.disk, cases[i].op, "CONTROL*", cases[i].error, 0, 1);
        assert_int_equal(control_save(life.store, &life.err), cases[i].error == ENOSPC ? VARVE_MISS : VARVE_E_IO);
        sim_disk_faults_clear(life.disk);
        assert_true(control_save_due(life.store) == (life.disk->now_ns - life.store->control.saved_ns >=
                                                     10 * SECOND)); /* tried again, but not at once */
        assert_int_equal(read_lines(), 1 + (int)i);                 /* the old one is whole */
        assert_false(store_file_exists(life.disk, FORMAT_CONTROL_TMP_NAME));
        assert_int_equal(life_stat("read_only"), 0);
        assert_int_equal(control_save(life.store, &life.err), VARVE_OK);
    }
    decide(1100);
    store_fault(life.disk, SIM_OP_WRITE, "CONTROL*", ENOSPC, 0, 1);
    life_must_close();
    life_must_open();
    assert_int_equal(read_lines(), 1 + (int)COUNT_OF(cases));
    assert_int_equal(life_pages_right(), LIFE_ALL);
}

/* A store without runs cannot be measured; with them it can, and the controller takes none of it for work. */
static void
test_measure(void **state)
{
    varve_tune_mix mix = VARVE_TUNE_MIX_INIT;
    varve_tune_row row;

    (void)state;
    assert_int_equal(varve_tune_measure(life.store, 0, &life.err), VARVE_E_ARG);
    assert_int_equal(varve_tune_measure(life.store, 1e6, &life.err), VARVE_E_ARG);
    assert_int_equal(varve_tune_measure(NULL, 1, &life.err), VARVE_E_ARG);
    assert_int_equal(varve_tune_measure(life.store, 0.001, &life.err), VARVE_MISS);
    life_must_close();
    life_must_open();
    assert_int_equal(life_stat("control_read_ns"), 100000);
    assert_int_equal(varve_tune_measure(life.store, 0.05, &life.err), VARVE_OK);
    assert_true(life_stat("control_read_ns") != 100000 && life_stat("control_read_ns") > 5000);
    assert_int_equal(life_stat("control_windows"), 0);
    mix.walks = mix.walk_pages = 1;
    assert_true(varve_tune(life.store, &mix, &row, 1, &life.err) > 1);
    assert_true(row.current && row.cost > 0);
    store_fault(life.disk, SIM_OP_READ, "*.run", EIO, 0, 1000000);
    assert_int_equal(varve_tune_measure(life.store, 0.05, &life.err), VARVE_E_IO);
    sim_disk_faults_clear(life.disk);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_outlives_the_process, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_paced, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_damage, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_space, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_faults, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_measure, life_setup, life_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
