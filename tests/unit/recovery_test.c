/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a store whose process died, after its files were changed behind its back: headers that say something else under right checksums,
 * files that are cut, gone or none of ours, and a device or an allocation that fails at any step. Opening it either fails with a code and
 * a message that says which file, or finds exactly the pages that are whole; and what opens can be written to, closed and opened again.
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
#include "format/log_format.h"
#include "store/recovery.h"
#include "store_life.h"

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
/* What opens is a store: it takes what is missing, and has everything when it is opened again. */
static void
must_be_usable(void)
{
    for (uint32_t chain = 1; chain <= LIFE_CHAINS; chain++)
        (void)life_put(chain, LIFE_PAGES, LIFE_PAGE_BYTES);
    assert_int_equal(life_pages_right(), LIFE_ALL);
    life_must_close();
    life_must_open();
    assert_int_equal(life_pages_right(), LIFE_ALL);
    life_must_close();
}

static void
test_headers(void **state)
{
    static const struct {
        const char *what;
        uint32_t extent, at, width;
        uint64_t value;
        int rc;
        const char *message;
        uint32_t pages;
        const char *stat; /* one that says so: 1 */
    } cases[] = {
        {"nothing", 1, 0, 0, 0, VARVE_OK, "", 12, NULL},
        {"segment magic", 0, 0, 4, 1, VARVE_OK, "", 0, "segments_missing"},
        {"segment version", 0, 4, 2, FORMAT_VERSION + 1, VARVE_E_VERSION, ".seg was written by a newer version", 0,
         NULL},
        {"segment alignment", 0, 6, 1, 13, VARVE_OK, "", 0, "segments_missing"},
        {"segment number", 0, 8, 8, 77, VARVE_OK, "", 0, "segments_missing"},
        {"segment salt", 0, 16, 8, 77, VARVE_OK, "", 0, "segments_missing"},
        {"magic", 2, 0, 4, 1, VARVE_OK, "", 8, NULL},
        {"version", 2, 4, 2, FORMAT_VERSION + 1, VARVE_E_VERSION, ".seg was written by a newer version", 0, NULL},
        {"salt", 2, 8, 8, 1, VARVE_OK, "", 8, NULL},
        {"offset", 2, 16, 8, 4096, VARVE_OK, "", 8, NULL},
        {"branch of the last number", 2, 24, 8, UINT64_MAX, VARVE_OK, "", 8, NULL},
        {"extent longer than the file", 3, 48, 8, UINT64_C(1) << 40, VARVE_OK, "", 8, NULL},
        {"namespace nobody knows", 2, 64, 4, 77, VARVE_OK, "", 8, NULL},
        {"depth of the last number", 2, 68, 4, UINT32_MAX - LIFE_PAGES, VARVE_OK, "", 8, NULL},
        {"count", 2, 76, 4, 0, VARVE_OK, "", 8, NULL},
        {"page size", 2, 80, 4, LIFE_PAGE_BYTES - 1, VARVE_OK, "", 8, NULL},
        {"first id", 2, 128, 1, 77, VARVE_OK, "", 11, "recovered_torn_pages"},
        {"last id", 2, 128 + 3 * 32, 1, 77, VARVE_OK, "", 11, "recovered_torn_pages"},
        {"checksum of a page in the middle", 2, 128 + 4 * 32 + 8, 8, 77, VARVE_OK, "", 11, "recovered_torn_pages"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int rc;

        if (i > 0)
            life_begin_again();
        life_edit_header(cases[i].extent, cases[i].at, cases[i].width, cases[i].value);
        rc = life_open();
        if (rc != cases[i].rc || strstr(life.err.message, cases[i].message) == NULL)
            fail_msg("%s: %d \"%s\"", cases[i].what, rc, life.err.message);
        if (rc == VARVE_OK) {
            uint32_t pages = life_pages_right();

            if (pages != cases[i].pages || (cases[i].stat != NULL && life_stat(cases[i].stat) != 1))
                fail_msg("%s: %u pages", cases[i].what, pages);
            must_be_usable();
        }
    }
}

static void
test_cut_segments(void **state)
{
    static const struct {
        uint64_t size;
        uint32_t pages;
        uint64_t missing;
    } cases[] = {
        {0, 0, 1},
        {4095, 0, 1},
        {4096, 0, 0}, /* empty */
        {4096 + 100, 0, 0},
        {4096 + LIFE_EXTENT_BYTES - 1, 0, 0},
        {4096 + LIFE_EXTENT_BYTES, 4, 0},
        {4096 + 2 * LIFE_EXTENT_BYTES + 4096, 8, 0},
        {4096 + 3 * LIFE_EXTENT_BYTES - 1, 8, 0},
        {4096 + 3 * LIFE_EXTENT_BYTES, 12, 0},
        {16 << 20, 12, 0}, /* longer */
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char name[FORMAT_NAME_MAX];

        if (i > 0)
            life_begin_again();
        assert_true(store_file_find(life.disk, ".seg", name));
        store_file_cut(life.disk, name, cases[i].size);
        life_must_open();
        assert_int_equal(life_pages_right(), cases[i].pages);
        assert_int_equal(life_stat("segments_missing"), cases[i].missing);
        must_be_usable();
    }
}

/* Files with names of ours that the store never made. They are swept, and their numbers do no harm. */
static void
test_stray_files(void **state)
{
    static const char *const names[] = {
        "0000000000000100.seg",      "0000000000000200.run", "0000000000000300.manifest", "3fffffffffffffff.seg",
        "4000000000000000.manifest", "7fffffffffffffff.run", "ffffffffffffffff.seg",      "ffffffffffffffff.manifest",
    };
    static const char garbage[5000] = "no segment";

    (void)state;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        store_file_write(life.disk, names[i], garbage, sizeof(garbage));
    store_file_write(life.disk, "notes.txt", garbage, 10);
    life_must_open();
    assert_int_equal(life_pages_right(), LIFE_ALL);
    assert_int_equal(life_stat("segments_missing"), 1); /* the one whose number may have been given out */
    assert_true(manifest_number(life.store->manifest) > 0x300 && manifest_number(life.store->manifest) < 0x400);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        assert_false(store_file_exists(life.disk, names[i]));
    assert_true(store_file_exists(life.disk, "notes.txt"));
    must_be_usable();
}

/* A segment that the manifest does not know is taken in; one that is gone is left out. */
static void
test_segment_gone(void **state)
{
    char name[FORMAT_NAME_MAX];

    (void)state;
    assert_true(store_file_find(life.disk, ".seg", name));
    assert_int_equal(sim_disk_env(life.disk)->ops->unlink(sim_disk_env(life.disk), name), 0);
    life_must_open();
    assert_int_equal(life_pages_right(), 0);
    assert_int_equal(life_stat("segments_missing"), 1);
    must_be_usable();
}

/*
 * Of a store that several processes used, as far as can be told: a segment that was cut when it was dropped, where its unlink and the edit were lost with the power.
 */
static void
test_segment_emptied(void **state)
{
    struct env *env = sim_disk_env(life.disk);
    char name[FORMAT_NAME_MAX];
    struct env_file *file;

    (void)state;
    life_must_open();
    life_must_close(); /* the segment is sealed, and its pages are in a run: nobody has to read it */
    store_file_write(life.disk, FORMAT_WRITERS_NAME, "", 0);
    assert_true(store_file_find(life.disk, ".seg", name));
    assert_int_equal(env->ops->open(env, name, 0, &file), 0);
    assert_int_equal(env->ops->truncate(file, 0), 0);
    env->ops->close(file);
    store_fault(life.disk, SIM_OP_OPEN, FORMAT_WRITERS_NAME, EIO, 0, 1);
    life_must_open();
    assert_int_equal(life_stat("segments_missing"), 1);
    assert_false(store_file_exists(life.disk, name));
    assert_int_equal(life_pages_right(), 0);
    must_be_usable();
}

/* A manifest that says that runs cover the log up to the middle of a block: what is behind that block is found. */
static void
test_indexed_in_a_block(void **state)
{
    struct manifest_item item = {.kind = MANIFEST_SEGMENT_INDEXED};
    char name[FORMAT_NAME_MAX];

    (void)state;
    assert_true(store_file_find(life.disk, ".seg", name));
    (void)life_teardown(NULL);
    (void)life_setup(NULL);
    (void)format_parse_name(name, &item.u.segment.number);
    item.u.segment.offset = 4096 + 100;
    assert_int_equal(store_commit(life.store, &item, 1, true, &life.err), VARVE_OK);
    life_kill();
    life_must_open();
    assert_int_equal(life_pages_right(), LIFE_ALL - LIFE_PAGES); /* the first extent is said to be in a run */
    must_be_usable();
}

/* Each operation of the disk that recovery needs, failing once. The next open finds everything. */
static void
test_device_fails(void **state)
{
    static const struct {
        unsigned op;
        const char *glob;
        int error;
        uint64_t skip;
        int rc;
        const char *message;
    } cases[] = {
        {SIM_OP_LIST, NULL, EIO, 0, VARVE_E_IO, "list the directory"},
        {SIM_OP_LIST, NULL, EIO, 1, VARVE_E_IO, "list the directory"},
        {SIM_OP_LIST, NULL, EIO, 2, VARVE_OK, ""}, /* what is not swept now is swept the next time */
        {SIM_OP_LOCK, NULL, EIO, 0, VARVE_E_IO, "lock the store"},
        {SIM_OP_OPEN, "*.seg", EIO, 0, VARVE_E_IO, "open 0000"},
        {SIM_OP_READ, "*.seg", EIO, 0, VARVE_E_IO, "read 0000"},
        {SIM_OP_READ, "*.seg", EIO, 1, VARVE_OK, ""}, /* headers are read without what is between them */
        {SIM_OP_TRUNCATE, "*.seg", EIO, 0, VARVE_E_IO, "recover 0000"},
        {SIM_OP_SYNC, "*.seg", EIO, 0, VARVE_E_IO, "recover 0000"},
        {SIM_OP_CREATE, "*.run", EIO, 0, VARVE_E_IO, "create"},
        {SIM_OP_WRITE, "*.run", EIO, 0, VARVE_E_IO, "write"},
        {SIM_OP_CREATE, "*.manifest", EIO, 0, VARVE_E_IO, "create 0000"},
        {SIM_OP_UNLINK, NULL, EIO, 0, VARVE_OK, ""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int rc;

        if (i > 0)
            life_begin_again();
        store_fault(life.disk, cases[i].op, cases[i].glob, cases[i].error, cases[i].skip, 1);
        rc = life_open();
        if (rc != cases[i].rc || strstr(life.err.message, cases[i].message) == NULL)
            fail_msg("case %zu: %d \"%s\"", i, rc, life.err.message);
        assert_int_equal(life.disk->faults_hit, 1);
        sim_disk_faults_clear(life.disk);
        if (rc != VARVE_OK)
            life_must_open();
        assert_int_equal(life_pages_right(), LIFE_ALL);
        must_be_usable();
    }
}

/* Pages of a codec that is not known are misses, and are kept for the program that knows it. */
static void
test_unknown_codec(void **state)
{
    (void)state;
    life_edit_header(2, 6, 1, 9);
    life_must_open();
    assert_int_equal(life_get(2, LIFE_PAGES, LIFE_PAGE_BYTES), 0);
    assert_int_equal(life_stat("get_reads"), 0); /* not even read: nothing could be made of them */
    assert_int_equal(life_pages_right(), LIFE_ALL - LIFE_PAGES);
    assert_int_equal(life_stat("recovered_pages"), LIFE_ALL);
    life_must_close();
    life_must_open();
    assert_int_equal(life_pages_right(), LIFE_ALL - LIFE_PAGES);
    assert_int_equal(life_stat("get_corrupt"), 0);
    life_must_close();
}

/*
 * What a header says was durable is believed, and not read again; what lies behind that is. So the same damage is found by the open, or
 * by the get.
 */
static void
test_synced_mark(void **state)
{
    static const uint8_t damage[16] = "damage";

    (void)state;
    for (int marked = 0; marked <= 1; marked++) {
        char name[FORMAT_NAME_MAX];

        life_begin_again();
        assert_true(store_file_find(life.disk, ".seg", name));
        store_file_patch(life.disk, name, life_extent_offset(2) + LIFE_HEADER_BYTES, damage, sizeof(damage));
        if (marked)
            life_edit_header(3, 40, 8, life_extent_offset(3));
        life_must_open();
        assert_int_equal(life_stat("recovered_torn_pages"), marked ? 0 : 1);
        assert_int_equal(life_stat("recovered_pages"), marked ? LIFE_ALL : LIFE_ALL - 1);
        assert_int_equal(life_pages_right(), LIFE_ALL - 1);
        assert_int_equal(life_stat("get_corrupt"), marked ? 1 : 0);
        must_be_usable();
    }
}

/*
 * A page that cannot be read while it is verified is asked for again. It is given up, and said to be, only where the device gives what lies
 * beside it; a device that gives nothing keeps the store shut, and nothing is lost.
 */
static void
test_unreadable_page(void **state)
{
    static const struct {
        unsigned op;
        int error;
        uint64_t skip, count;
        int rc;
        uint64_t unread;
    } cases[] = {
        {SIM_OP_READ, EIO, 2 + 5, 1, VARVE_OK, 0}, /* behind those of the header and of the scan */
        {SIM_OP_READ, EIO, 2 + 5, RECOVERY_TRIES - 1, VARVE_OK, 0},
        {SIM_OP_READ, EIO, 2 + 5, RECOVERY_TRIES, VARVE_OK, 1},
        {SIM_OP_READ, EIO, 2 + 5, RECOVERY_TRIES + 1, VARVE_OK, 1},
        {SIM_OP_READ, EIO, 2 + 5, 2 * RECOVERY_TRIES - 1, VARVE_OK, 1},
        {SIM_OP_READ, EIO, 2 + 5, 2 * RECOVERY_TRIES, VARVE_E_IO, 0},
        {SIM_OP_READ, EIO, 2 + 5, 0, VARVE_E_IO, 0},
        {SIM_OP_READ, ENOMEM, 2 + 5, RECOVERY_TRIES, VARVE_E_NOMEM, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int rc;

        life_begin_again();
        store_fault(life.disk, cases[i].op, "*.seg", cases[i].error, cases[i].skip, cases[i].count);
        rc = life_open();
        sim_disk_faults_clear(life.disk);
        if (rc != cases[i].rc)
            fail_msg("case %zu: %d \"%s\"", i, rc, life.err.message);
        if (rc != VARVE_OK) {
            assert_non_null(strstr(life.err.message, "read a page of segment"));
            life_must_open();
        }
        assert_int_equal(life_stat("recovered_unread_pages"), cases[i].unread);
        assert_int_equal(life_stat("recovered_torn_pages"), 0);
        assert_int_equal(life_stat("recovered_pages"), LIFE_ALL - cases[i].unread);
        assert_int_equal(life_pages_right(), LIFE_ALL - cases[i].unread);
        must_be_usable();
    }
}

/* A header longer than what is read where extents lie far apart: whole, cut by the end of the file, and unreadable in its second half. */
static void
test_long_headers(void **state)
{
    enum { LARGE = 250, LONG = 600 };
    const uint64_t large = log_pad(extent_header_size(LARGE, true, 9) + LARGE * UINT64_C(5120), 12);
    const uint64_t at = 4096 + 3 * LIFE_EXTENT_BYTES +
                        large; /* of the long header, 24 KiB, and a MiB behind the others: 16 KiB are read first */

    (void)state;
    for (int round = 0; round < 3; round++) {
        char name[FORMAT_NAME_MAX];

        (void)life_teardown(NULL);
        (void)life_setup(NULL);
        assert_int_equal(life_put(10, LARGE, LIFE_PAGE_BYTES), LARGE);
        assert_int_equal(life_put(11, LONG, 100), LONG);
        life_kill();
        assert_true(store_file_find(life.disk, ".seg", name));
        if (round == 1)
            store_file_cut(life.disk, name, at + 16384);
        if (round == 2) {
            store_fault(life.disk, SIM_OP_READ, "*.seg", EIO, 3, 1);
            assert_int_equal(life_open(), VARVE_E_IO);
            assert_non_null(strstr(life.err.message, "recover 0000"));
            sim_disk_faults_clear(life.disk);
        }
        life_must_open();
        assert_int_equal(life_pages_right(), LIFE_ALL);
        assert_int_equal(life_get(10, LARGE, LIFE_PAGE_BYTES), LARGE);
        assert_int_equal(life_get(11, LONG, 100), round == 1 ? 0 : LONG);
        must_be_usable();
    }
}

/* A store that died with much to replay. */
static void
begin_with_much(void)
{
    (void)life_teardown(NULL);
    (void)life_setup(NULL);
    for (uint32_t chain = 20; chain < 24; chain++)
        assert_int_equal(life_put(chain, 300, 0), 300);
    life_kill();
}

/* Every allocation of an open, failing once. What the failed open left behind is no less. */
static void
test_out_of_memory(void **state)
{
    bool failed = true, opened = true;

    (void)state;
    for (uint64_t nth = 0; failed; nth++) {
        uint64_t hit;
        int rc;

        if (opened) /* and replayed */
            begin_with_much();
        hit = life.disk->faults_hit;
        store_fault(life.disk, SIM_OP_ALLOC, NULL, ENOMEM, nth, 1);
        rc = life_open();
        failed = life.disk->faults_hit > hit;
        sim_disk_faults_clear(life.disk);
        opened = life.store != NULL;
        if (rc == VARVE_OK) /* there was another way */
            assert_int_equal(life_pages_right(), LIFE_ALL);
        else if (rc != VARVE_E_NOMEM)
            fail_msg("allocation %d: %d \"%s\"", (int)nth, rc, life.err.message);
        if (opened)
            life_kill();
    }
    life_must_open();
    for (uint32_t chain = 20; chain < 24; chain++)
        assert_int_equal(life_get(chain, 300, 0), 300);
    must_be_usable();
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_headers, life_setup_killed, life_teardown),
        cmocka_unit_test_setup_teardown(test_cut_segments, life_setup_killed, life_teardown),
        cmocka_unit_test_setup_teardown(test_stray_files, life_setup_killed, life_teardown),
        cmocka_unit_test_setup_teardown(test_segment_gone, life_setup_killed, life_teardown),
        cmocka_unit_test_setup_teardown(test_segment_emptied, life_setup_killed, life_teardown),
        cmocka_unit_test_setup_teardown(test_indexed_in_a_block, life_setup_killed, life_teardown),
        cmocka_unit_test_setup_teardown(test_device_fails, life_setup_killed, life_teardown),
        cmocka_unit_test_setup_teardown(test_unknown_codec, life_setup_killed, life_teardown),
        cmocka_unit_test_setup_teardown(test_synced_mark, life_setup_killed, life_teardown),
        cmocka_unit_test_setup_teardown(test_unreadable_page, life_setup_killed, life_teardown),
        cmocka_unit_test_setup_teardown(test_long_headers, life_setup_killed, life_teardown),
        cmocka_unit_test_setup_teardown(test_out_of_memory, life_setup_killed, life_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
