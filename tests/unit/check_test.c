/* SPDX-License-Identifier: Apache-2.0 */
/*
 * varve_check() on stores that were changed behind their back: each kind of damage is said once, with its place, and nothing else is; and a
 * sound store has no problems.
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

static char problems[4096];
static uint64_t progressed;

static void
note_problem(void *arg, const char *text)
{
    size_t used = strlen(problems);

    (void)arg;
    (void)snprintf(problems + used, sizeof(problems) - used, "%s\n", text);
}

static void
note_progress(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    assert_true(done > progressed && done <= total);
    progressed = done;
}

static varve_check_report
check(unsigned flags)
{
    varve_check_report report = VARVE_CHECK_REPORT_INIT;

    problems[0] = '\0';
    progressed = 0;
    life.err = (varve_error){0};
    if (varve_check(life.store, flags, note_problem, note_progress, NULL, &report, &life.err) != VARVE_OK)
        fail_msg("check: %s", life.err.message);
    return report;
}

/* So many problems, and the text is among them. */
static void
expect(const varve_check_report *report, uint64_t count, const char *text)
{
    varve_check_report quiet = VARVE_CHECK_REPORT_INIT;

    if (report->problems != count || strstr(problems, text) == NULL)
        fail_msg("%d problems, not %d with \"%s\":\n%s", (int)report->problems, (int)count, text, problems);
    assert_int_equal(varve_check(life.store, 0, NULL, NULL, NULL, &quiet, NULL), VARVE_OK); /* nobody listens */
}

static void
segment_name(char *name)
{
    assert_true(store_file_find(life.disk, ".seg", name));
}

static void
test_sound(void **state)
{
    varve_check_report report = check(0);

    (void)state;
    expect(&report, 0, "");
    assert_int_equal(report.pages, LIFE_ALL);
    assert_int_equal(report.pages_verified, 0);
    assert_int_equal(report.extents, LIFE_CHAINS);
    report = check(VARVE_CHECK_DEEP);
    expect(&report, 0, "");
    assert_int_equal(report.pages_verified, LIFE_ALL);
    assert_int_equal(report.bytes_verified, LIFE_ALL * LIFE_PAGE_BYTES);
    for (uint32_t chain = 10; chain < 20; chain++)
        assert_int_equal(life_put(chain, 1000, 0), 1000); /* enough to show progress; pages without bytes */
    report = check(VARVE_CHECK_DEEP);
    expect(&report, 0, "");
    assert_int_equal(report.pages_verified, LIFE_ALL + 10000);
    assert_true(progressed >= 4096);
}

static void
test_damaged_page(void **state)
{
    static const uint8_t damage[16] = "damage";
    char name[FORMAT_NAME_MAX];
    varve_check_report report;

    (void)state;
    segment_name(name);
    store_file_patch(life.disk, name, life_extent_offset(2) + LIFE_HEADER_BYTES, damage, sizeof(damage));
    report = check(0);
    expect(&report, 0, "");
    report = check(VARVE_CHECK_DEEP);
    expect(&report, 1, "offset 29184: a page of 5000 bytes fails its checksum");
    assert_int_equal(report.pages_verified, LIFE_ALL - 1);
}

static void
test_headers(void **state)
{
    static const struct {
        const char *what;
        uint32_t at, width;
        uint64_t value;
        uint64_t problems;
        const char *text;
        uint64_t extents;
    } cases[] = {
        {"magic", 0, 4, 1, 1, "4 pages of the index are not in the log", 2},
        {"version", 4, 2, FORMAT_VERSION + 1, 2, "has an extent of a newer version", 1},
        {"size of the pages", 80, 4, LIFE_PAGE_BYTES - 1, 4, "index and header differ about a page", 3},
        {"checksum of a page", 128 + 4 * 32, 8, 1, 1, "offset 29184: index and header differ about a page", 3},
        {"id of a page", 128, 1, 77, 1, "1 pages of the index are not in the log", 3},
        {"more pages than the file has", 76, 4, 1000, 1, "4 pages of the index are not in the log", 2},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        varve_check_report report;

        (void)life_teardown(NULL);
        (void)life_setup(NULL);
        life_edit_header(2, cases[i].at, cases[i].width, cases[i].value);
        report = check(0);
        expect(&report, cases[i].problems, cases[i].text);
        assert_int_equal(report.extents, cases[i].extents);
    }
}

/* A sealed segment that was cut: what is left of it is verified, and the rest is missed. */
static void
test_cut_segment(void **state)
{
    varve_check_report report;
    char name[FORMAT_NAME_MAX];

    (void)state;
    life_must_close();
    segment_name(name);
    store_file_cut(life.disk, name, life_extent_offset(3) + 100);
    life_must_open();
    report = check(VARVE_CHECK_DEEP);
    expect(&report, 2, "shorter than the");
    expect(&report, 2, "4 pages of the index are not in the log");
    assert_int_equal(report.pages_verified, 2 * LIFE_PAGES);
}

/* A file that the manifest does not name, and more bytes than were accounted for. */
static void
test_files(void **state)
{
    static uint8_t bytes[4 << 20];
    varve_check_report report;

    (void)state;
    store_file_write(life.disk, "notes.txt", bytes, 100);
    store_file_write(life.disk, FORMAT_CURRENT_TMP_NAME, bytes, 1);
    report = check(0);
    expect(&report, 0, "");
    store_file_write(life.disk, "0000000000000999.run", bytes, 100);
    report = check(0);
    expect(&report, 1, "file 0000000000000999 is in the directory, but not in the manifest");
    store_file_write(life.disk, "0000000000000998.manifest", bytes, 100);
    store_file_write(life.disk, "0000000000000997.seg", bytes, sizeof(bytes));
    report = check(0);
    expect(&report, 4, "the accounts say at most");
    for (uint64_t number = 0x1000; number < 0x1000 + 100; number++) { /* more than are told apart */
        char name[FORMAT_NAME_MAX];

        format_file_name(FORMAT_FILE_RUN, number, name);
        store_file_write(life.disk, name, bytes, 1);
    }
    report = check(0);
    assert_int_equal(report.problems, 64 + 1);
}

static void
test_device_fails(void **state)
{
    static const struct {
        unsigned op;
        const char *glob;
        const char *text;
    } cases[] = {
        {SIM_OP_LIST, NULL, "the directory could not be listed"},
        {SIM_OP_READ, "*.seg", "12 pages of the index are not in the log"},
        {SIM_OP_READ, "*.seg", "could not be read to its end"},
        {SIM_OP_OPEN, "*.seg", "12 pages of the index are not in the log"},
        {SIM_OP_READ, "*.run", "the index could not be read to its end"},
    };

    (void)state;
    life_must_close();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        varve_check_report report;

        life_must_open(); /* nothing is in the cache of blocks */
        store_fault(life.disk, cases[i].op, cases[i].glob, EIO, 0, 0);
        report = check(VARVE_CHECK_DEEP);
        sim_disk_faults_clear(life.disk);
        if (report.problems == 0 || strstr(problems, cases[i].text) == NULL)
            fail_msg("%d problems, none with \"%s\":\n%s", (int)report.problems, cases[i].text, problems);
        report = check(VARVE_CHECK_DEEP);
        expect(&report, 0, "");
        life_must_close();
    }
    life_must_open();
    store_fault(life.disk, SIM_OP_READ, "*.seg", EIO, 3, 1); /* the fourth page of the first extent */
    (void)check(VARVE_CHECK_DEEP);
    assert_non_null(strstr(problems, "a page of 5000 bytes could not be read"));
}

static void
test_out_of_memory(void **state)
{
    bool failed = true;

    (void)state;
    life_must_close();
    for (uint64_t nth = 0; failed; nth++) {
        varve_check_report report = VARVE_CHECK_REPORT_INIT;
        uint64_t hit;
        int rc;

        life_must_open();
        hit = life.disk->faults_hit;
        problems[0] = '\0';
        store_fault(life.disk, SIM_OP_ALLOC, NULL, ENOMEM, nth, 1);
        rc = varve_check(life.store, VARVE_CHECK_DEEP, note_problem, NULL, NULL, &report, &life.err);
        failed = life.disk->faults_hit > hit;
        sim_disk_faults_clear(life.disk);
        if (!failed)
            assert_true(rc == VARVE_OK && report.problems == 0);
        else if (rc == VARVE_OK)
            assert_true(report.problems > 0 && problems[0] != '\0'); /* it does not say that all is well */
        else
            assert_int_equal(rc, VARVE_E_NOMEM);
        life_must_close();
    }
}

static void
test_arguments(void **state)
{
    varve_check_report report = VARVE_CHECK_REPORT_INIT;

    (void)state;
    assert_int_equal(varve_check(NULL, 0, NULL, NULL, NULL, &report, &life.err), VARVE_E_ARG);
    assert_int_equal(varve_check(life.store, 0, NULL, NULL, NULL, NULL, &life.err), VARVE_E_ARG);
    assert_int_equal(varve_check(life.store, 0x80, NULL, NULL, NULL, &report, &life.err), VARVE_E_ARG);
    assert_non_null(strstr(life.err.message, "0x80"));
    report.struct_size--;
    assert_int_equal(varve_check(life.store, 0, NULL, NULL, NULL, &report, &life.err), VARVE_E_ARG);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sound, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_damaged_page, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_headers, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_cut_segment, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_files, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_device_fails, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_out_of_memory, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(test_arguments, life_setup, life_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
