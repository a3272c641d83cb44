/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manifest's files: what is read from damaged ones, with right checksums and without, and what each failure of the disk leaves behind.
 * A load gives what was committed, or a code and a message; never a part of an edit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "base/wire.h"
#include "format/format.h"
#include "manifest/manifest.h"
#include "store_files.h"

#define SALT     UINT64_C(0x99aabbccddeeff00)
#define NUMBER   7
#define NAME     "0000000000000007.manifest"
#define CURRENT  NAME "\n"
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct sim_disk *disk;
static struct env *env;
static struct io_queue_pool *pool;
static varve_error err;

static int
setup(void **state)
{
    (void)state;
    disk = sim_disk_create(&sim_test_plain);
    env = sim_disk_env(disk);
    err = (varve_error){0};
    return io_queue_pool_create(env, &pool);
}

static int
teardown(void **state)
{
    (void)state;
    io_queue_pool_destroy(pool);
    store_disk_destroy(disk);
    return 0;
}

static struct manifest_item
counters(uint64_t next_number)
{
    return (struct manifest_item){.kind = MANIFEST_COUNTERS, .u.counters = {next_number, 2}};
}

static struct manifest_item
add_segment(uint64_t number)
{
    struct manifest_item item = {.kind = MANIFEST_SEGMENT_ADD};

    item.u.segment.number = number;
    item.u.segment.bytes = 4096;
    item.u.segment.align_shift = 9;
    return item;
}

/* Load; the number of segments in the state, or the code. */
static int
load(void)
{
    struct manifest_state state;
    struct manifest_header header;
    int rc, segments;

    err = (varve_error){0};
    manifest_state_init(&state, env);
    rc = manifest_load(env, pool, &state, &header, &err);
    segments = (int)state.segment_count;
    manifest_state_deinit(&state);
    assert_int_equal(rc < 0 ? err.code : VARVE_OK, err.code);
    return rc == VARVE_OK ? segments : rc;
}

static void
expect_load(const char *what, int expected, const char *message)
{
    int rc = load();

    if (rc != expected || strstr(err.message, message) == NULL)
        fail_msg("%s: %d \"%s\", not %d \"%s\"", what, rc, err.message, expected, message);
}

/* A manifest of three items: its number, and segments 3 and 4. */
static size_t
make(uint64_t number, uint64_t next_number, uint8_t *buf)
{
    const struct manifest_header header = {.number = number, .salt = SALT};
    const struct manifest_item items[] = {counters(next_number), add_segment(3), add_segment(4)};

    return store_manifest_make(&header, items, COUNT(items), buf);
}

static void
test_current(void **state)
{
    static const struct {
        const char *text;
        int rc;
        const char *message;
    } cases[] = {
        {CURRENT, 2, ""},
        {"", VARVE_E_CORRUPT, "CURRENT does not name a manifest"},
        {"\n", VARVE_E_CORRUPT, "CURRENT does not name a manifest"},
        {NAME, VARVE_E_CORRUPT, "CURRENT does not name a manifest"},
        {NAME " ", VARVE_E_CORRUPT, "CURRENT does not name a manifest"},
        {NAME "\n\n", VARVE_E_CORRUPT, "CURRENT does not name a manifest"},
        {"0000000000000007.seg\n", VARVE_E_CORRUPT, "CURRENT does not name a manifest"},
        {"../0000000000000007.manifest\n", VARVE_E_CORRUPT, "CURRENT does not name a manifest"},
        {NAME "                         \n", VARVE_E_CORRUPT, "CURRENT does not name a manifest"},
        {"0000000000000008.manifest\n", VARVE_E_CORRUPT, "0000000000000008.manifest, which CURRENT names, is missing"},
        {"0000000000000006.manifest\n", VARVE_E_CORRUPT, "0000000000000006.manifest is damaged"}, /* a copy of 7 */
    };
    uint8_t buf[1024];
    size_t size = make(NUMBER, 8, buf);

    (void)state;
    assert_int_equal(load(), VARVE_MISS); /* no CURRENT: no store */
    store_file_write(disk, NAME, buf, size);
    store_file_write(disk, "0000000000000006.manifest", buf, size);
    for (size_t i = 0; i < COUNT(cases); i++) {
        store_file_write(disk, FORMAT_CURRENT_NAME, cases[i].text, strlen(cases[i].text));
        expect_load(cases[i].text, cases[i].rc, cases[i].message);
    }
    store_file_cut(disk, FORMAT_CURRENT_NAME, 4097);
    expect_load("a large CURRENT", VARVE_E_CORRUPT, "CURRENT is too large");
}

/* An edit of the file: `width` bytes at `at` become `value`; then checksums are put right where `fix` says so. */
static void
test_damage(void **state)
{
    enum { FIX_NOTHING, FIX_HEADER, FIX_RECORD };
    static const struct {
        const char *what;
        uint32_t at, width;
        uint64_t value;
        int fix, rc;
        const char *message;
    } cases[] = {
        {"nothing", 0, 0, 0, FIX_NOTHING, 2, ""},
        {"magic", 0, 4, 1, FIX_HEADER, VARVE_E_CORRUPT, NAME " is damaged"},
        {"version", 4, 2, FORMAT_VERSION + 1, FIX_HEADER, VARVE_E_VERSION, "newer version"},
        {"version alone", 4, 2, FORMAT_VERSION + 1, FIX_NOTHING, VARVE_E_CORRUPT, NAME " is damaged"},
        {"number", 8, 8, 6, FIX_HEADER, VARVE_E_CORRUPT, NAME " is damaged"},
        {"salt", 16, 8, 1, FIX_HEADER, VARVE_E_CORRUPT, NAME " is damaged"},
        {"store id", 24, 8, 1, FIX_HEADER, 2, ""},
        {"record magic", 64, 4, 1, FIX_NOTHING, VARVE_E_CORRUPT, NAME " is damaged"},
        {"record sequence", 72, 8, 1, FIX_RECORD, VARVE_E_CORRUPT, NAME " is damaged"},
        {"an item flipped", 90, 1, 77, FIX_NOTHING, VARVE_E_CORRUPT, NAME " is damaged"},
        {"an item of no kind", 88, 1, 99, FIX_RECORD, VARVE_E_CORRUPT, NAME " is damaged"},
        {"a last item of no kind", 97, 1, 99, FIX_RECORD, VARVE_E_CORRUPT, NAME " is damaged"},
        {"its own number is unused", 89, 1, NUMBER, FIX_RECORD, VARVE_E_CORRUPT, NAME " is damaged"},
        {"a segment twice", 98, 1, 3, FIX_RECORD, VARVE_E_CORRUPT, NAME " is damaged"},
    };
    uint8_t buf[1024];

    (void)state;
    store_file_write(disk, FORMAT_CURRENT_NAME, CURRENT, strlen(CURRENT));
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t size = make(NUMBER, 8, buf);

        for (uint32_t k = 0; k < cases[i].width; k++)
            buf[cases[i].at + k] = (uint8_t)(cases[i].value >> (8 * k));
        if (cases[i].fix == FIX_HEADER)
            wire_put64(buf + 56, hash_bytes(buf, 56));
        if (cases[i].fix == FIX_RECORD)
            manifest_record_seal(buf + MANIFEST_HEADER_BYTES,
                                 (uint32_t)size - MANIFEST_HEADER_BYTES - MANIFEST_FRAME_BYTES, SALT,
                                 wire_get64(buf + 72));
        store_file_write(disk, NAME, buf, size);
        expect_load(cases[i].what, cases[i].rc, cases[i].message);
    }
    /* A store that names itself by the last number there is. */
    store_file_write(disk, FORMAT_CURRENT_NAME, "ffffffffffffffff.manifest\n", 26);
    store_file_write(disk, "ffffffffffffffff.manifest", buf, make(UINT64_MAX, 8, buf));
    expect_load("the last number", VARVE_E_CORRUPT, "ffffffffffffffff.manifest is damaged");
}

/* Cut anywhere: nothing of an edit, or all of it. The first record is one that cannot be torn. */
static void
test_cut(void **state)
{
    const struct manifest_item second = add_segment(5);
    uint8_t buf[1024];
    size_t size = make(NUMBER, 8, buf), first = size;
    uint8_t *end = manifest_item_encode(&second, buf + size + MANIFEST_FRAME_BYTES);

    (void)state;
    manifest_record_seal(buf + size, (uint32_t)(end - buf - (ptrdiff_t)size) - MANIFEST_FRAME_BYTES, SALT, 1);
    size = (size_t)(end - buf);
    store_file_write(disk, FORMAT_CURRENT_NAME, CURRENT, strlen(CURRENT));
    for (size_t cut = 0; cut <= size; cut++) {
        store_file_write(disk, NAME, buf, cut);
        if (cut < first)
            expect_load("in the first record", VARVE_E_CORRUPT, NAME " is damaged");
        else
            expect_load("in the second", cut < size ? 2 : 3, "");
    }
    memset(end, 0, 100); /* what is behind the last record is a torn tail */
    store_file_write(disk, NAME, buf, size + 100);
    expect_load("zeros", 3, "");
}

static int
size_fails(struct env_file *file, uint64_t *size)
{
    (void)file;
    *size = 0;
    return -EIO;
}

static int
size_is_huge(struct env_file *file, uint64_t *size)
{
    (void)file;
    *size = UINT64_C(1) << 40;
    return 0;
}

static void
test_load_fails(void **state)
{
    static const struct {
        unsigned op;
        const char *glob;
        int error, rc;
        const char *message;
    } cases[] = {
        {SIM_OP_OPEN, "CURRENT", EACCES, VARVE_E_READONLY, "open CURRENT"},
        {SIM_OP_OPEN, "*.manifest", EIO, VARVE_E_IO, "open " NAME},
        {SIM_OP_OPEN, "*.manifest", ENOENT, VARVE_E_CORRUPT, "is missing"},
        {SIM_OP_READ, "CURRENT", EIO, VARVE_E_IO, "read CURRENT"},
        {SIM_OP_READ, "*.manifest", EIO, VARVE_E_IO, "read " NAME},
    };
    struct env_ops ops = *env->ops;
    const struct env_ops *real = env->ops;
    uint8_t buf[1024];
    int rc = VARVE_E_NOMEM;

    (void)state;
    store_file_write(disk, FORMAT_CURRENT_NAME, CURRENT, strlen(CURRENT));
    store_file_write(disk, NAME, buf, make(NUMBER, 8, buf));
    for (size_t i = 0; i < COUNT(cases); i++) {
        store_fault(disk, cases[i].op, cases[i].glob, cases[i].error, 0, 1);
        expect_load(cases[i].message, cases[i].rc, cases[i].message);
        sim_disk_faults_clear(disk);
    }
    for (uint64_t nth = 0; rc == VARVE_E_NOMEM; nth++) {
        store_fault(disk, SIM_OP_ALLOC, NULL, ENOMEM, nth, 1);
        rc = load();
        sim_disk_faults_clear(disk);
        assert_true(rc == 2 ? nth >= 3 : strstr(err.message, "out of memory") != NULL);
    }
    assert_int_equal(rc, 2);
    env->ops = &ops;
    ops.size = size_fails;
    expect_load("size", VARVE_E_IO, "size of CURRENT");
    ops.size = size_is_huge;
    expect_load("huge", VARVE_E_CORRUPT, "CURRENT is too large to be what its name says");
    env->ops = real;
}

static _Atomic uint64_t written;

static int
create(uint64_t rotate_bytes, struct manifest **out)
{
    struct manifest_state state;
    const uint8_t store_id[16] = {1};
    int rc;

    err = (varve_error){0};
    manifest_state_init(&state, env);
    rc = manifest_create(env, pool, &state, store_id, rotate_bytes, &written, out, &err);
    manifest_state_deinit(&state);
    return rc;
}

static void
test_create_fails(void **state)
{
    static const struct {
        unsigned op;
        const char *glob;
        const char *message;
    } cases[] = {
        {SIM_OP_CREATE, "*.manifest", "create 0000000000000001.manifest"},
        {SIM_OP_WRITE, "*.manifest", "write 0000000000000001.manifest"},
        {SIM_OP_SYNC, "*.manifest", "write 0000000000000001.manifest"},
        {SIM_OP_CREATE, "CURRENT.tmp", "create CURRENT.tmp"},
        {SIM_OP_WRITE, "CURRENT.tmp", "write CURRENT.tmp"},
        {SIM_OP_SYNC_DIR, NULL, "replace CURRENT"},
        {SIM_OP_RENAME, NULL, "replace CURRENT"},
    };
    struct manifest *manifest = NULL;
    char name[FORMAT_NAME_MAX];
    int rc = VARVE_E_NOMEM;

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        store_fault(disk, cases[i].op, cases[i].glob, EIO, 0, 1);
        assert_int_equal(create(1 << 20, &manifest), VARVE_E_IO);
        if (strstr(err.message, cases[i].message) == NULL)
            fail_msg("\"%s\", not \"%s\"", err.message, cases[i].message);
        sim_disk_faults_clear(disk);
        assert_int_equal(load(), VARVE_MISS);            /* nothing is in force */
        while (store_file_find(disk, ".manifest", name)) /* left by a replacement that failed half-way */
            assert_int_equal(env->ops->unlink(env, name), 0);
    }
    for (uint64_t nth = 0; rc == VARVE_E_NOMEM; nth++) {
        store_fault(disk, SIM_OP_ALLOC, NULL, ENOMEM, nth, 1);
        rc = create(1 << 20, &manifest);
        sim_disk_faults_clear(disk);
    }
    assert_int_equal(rc, VARVE_OK); /* over a CURRENT.tmp that was left, too */
    manifest_destroy(manifest);
    assert_int_equal(load(), 0);
}

/* One edit that fails is the last: the end of the file is unknown. */
static void
test_commit_fails(void **state)
{
    static const struct {
        unsigned op;
        int error, rc;
        const char *message;
    } cases[] = {
        {SIM_OP_WRITE, EIO, VARVE_E_IO, "append to the manifest"},
        {SIM_OP_SYNC, EIO, VARVE_E_IO, "sync the manifest"},
        {SIM_OP_SYNC, ENOMEM, VARVE_E_IO, "sync the manifest"}, /* not VARVE_E_NOMEM: something was written */
    };
    const struct manifest_item item = add_segment(100), other = add_segment(101);

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct manifest *manifest;

        assert_int_equal(create(1 << 20, &manifest), VARVE_OK);
        assert_int_equal(manifest_sync(manifest, &err), VARVE_OK); /* nothing to do */
        assert_int_equal(manifest_commit(manifest, &item, 1, true, &err), VARVE_OK);
        store_fault(disk, cases[i].op, "*.manifest", cases[i].error, 0, 1);
        assert_int_equal(manifest_commit(manifest, &other, 1, true, &err), cases[i].rc);
        assert_non_null(strstr(err.message, cases[i].message));
        assert_int_equal(manifest_commit(manifest, &other, 1, false, &err), VARVE_E_READONLY);
        assert_non_null(strstr(err.message, "reopen the store"));
        assert_int_equal(manifest_sync(manifest, &err), VARVE_E_READONLY);
        sim_disk_faults_clear(disk);
        manifest_destroy(manifest);
        assert_int_equal(load(), cases[i].op == SIM_OP_WRITE ? 1 : 2);
        assert_int_equal(env->ops->unlink(env, FORMAT_CURRENT_NAME), 0);
        assert_int_equal(env->ops->unlink(env, "0000000000000001.manifest"), 0);
    }
}

/* Commit with each allocation failing in turn: nothing is written then, and it can be tried again. Returns how many there are. */
static uint64_t
commit_in_the_end(struct manifest *manifest, const struct manifest_item *items, size_t count)
{
    const struct manifest_item other = {.kind = MANIFEST_COUNTERS};
    int rc = VARVE_E_NOMEM;
    uint64_t failures = 0;

    while (rc != VARVE_OK) {
        uint64_t bytes = manifest_bytes(manifest);

        assert_int_equal(rc, VARVE_E_NOMEM);
        store_fault(disk, SIM_OP_ALLOC, NULL, ENOMEM, failures, 1);
        rc = manifest_commit(manifest, items, count, true, &err);
        sim_disk_faults_clear(disk);
        if (rc == VARVE_OK)
            break;
        failures++;
        assert_non_null(strstr(err.message, "manifest"));
        assert_int_equal(manifest_bytes(manifest), bytes);
        assert_int_equal(manifest_commit(manifest, &other, 1, true, &err), VARVE_OK);
    }
    return failures;
}

/* Without memory nothing was written yet, whatever it was: no failure of that kind is final. */
static void
test_commit_out_of_memory(void **state)
{
    struct manifest_item items[20] = {{.kind = MANIFEST_RUN_ADD, .u.run = {.number = 50, .level = 1}},
                                      {.kind = MANIFEST_NAMESPACE, .u.ns = {.ns_id = 5, .name = "a", .name_size = 1}}};
    const struct manifest_item segment = add_segment(100);
    struct manifest *manifest;

    (void)state;
    assert_int_equal(create(1 << 20, &manifest), VARVE_OK);
    assert_true(commit_in_the_end(manifest, &segment, 1) >= 2);
    assert_true(commit_in_the_end(manifest, items, 2) >= 3);
    for (uint32_t i = 0; i < COUNT(items); i++) {
        items[i] = (struct manifest_item){.kind = i < 10 ? MANIFEST_SEGMENT_USE : MANIFEST_PAGE_REMOVE};
        items[i].u.segment.number = 100;
        items[i].u.segment.ns_id = 5 + i;
        items[i].u.segment.offset = (uint64_t)(1 + i) << 12;
    }
    assert_true(commit_in_the_end(manifest, items, COUNT(items)) >= 3);
    manifest_destroy(manifest);
    assert_int_equal(load(), 1);
}

static void
commit_segments(struct manifest *manifest, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        const struct manifest_item item = add_segment(first + i);

        assert_int_equal(manifest_commit(manifest, &item, 1, true, &err), VARVE_OK);
    }
}

/* A state that does not fit in the size at which a manifest is begun anew must not make one with every edit. */
static void
test_rotation(void **state)
{
    struct manifest *manifest;
    uint64_t number;
    int rotations = 0;

    (void)state;
    assert_int_equal(create(400, &manifest), VARVE_OK);
    number = manifest_number(manifest);
    for (uint64_t i = 0; i < 200; i++) {
        commit_segments(manifest, 100 + i, 1);
        if (manifest_number(manifest) != number)
            rotations++;
        number = manifest_number(manifest);
    }
    assert_in_range(rotations, 3, 20); /* 200 edits; the limit grows with the state */
    assert_true(manifest_bytes(manifest) < 200 * 40);
    manifest_destroy(manifest);
    assert_int_equal(load(), 200);
}

/* A new manifest that cannot be made: the old one goes on, unless CURRENT may name either. */
static void
test_rotation_fails(void **state)
{
    static const struct {
        unsigned op;
        const char *glob;
        bool final;
    } cases[] = {
        {SIM_OP_ALLOC, NULL, false},        {SIM_OP_CREATE, "*.manifest", false}, {SIM_OP_WRITE, "CURRENT.tmp", true},
        {SIM_OP_SYNC, "CURRENT.tmp", true}, {SIM_OP_SYNC_DIR, NULL, true},        {SIM_OP_RENAME, NULL, true},
    };
    const struct manifest_item item = add_segment(150);

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct manifest *manifest;
        char name[FORMAT_NAME_MAX];

        assert_int_equal(create(180, &manifest), VARVE_OK);
        commit_segments(manifest, 100, 2); /* one more, and it is too large */
        store_fault(disk, cases[i].op, cases[i].glob, EIO, cases[i].op == SIM_OP_ALLOC ? 1 : 0, 1);
        assert_int_equal(manifest_commit(manifest, &item, 1, true, &err), VARVE_OK); /* it is in the old one */
        assert_int_equal(disk->faults_hit, i + 1);
        sim_disk_faults_clear(disk);
        assert_int_equal(manifest_number(manifest), 1);
        assert_int_equal(manifest_sync(manifest, &err), cases[i].final ? VARVE_E_READONLY : VARVE_OK);
        manifest_destroy(manifest);
        assert_int_equal(load(), 3);
        assert_int_equal(env->ops->unlink(env, FORMAT_CURRENT_NAME), 0);
        while (store_file_find(disk, ".manifest", name))
            assert_int_equal(env->ops->unlink(env, name), 0);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_current, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(test_load_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_create_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_commit_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_commit_out_of_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation_fails, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
