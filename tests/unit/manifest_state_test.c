/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Items of manifest edits, as bytes and as what they do to the state. An item that says what no store can have said is refused: fields
 * beyond their limits when it is read, and contradictions when it is applied.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <stdlib.h>

#include "format/format.h"
#include "manifest/manifest_state.h"
#include "plain_env.h"

#define SALT       UINT64_C(0x99aabbccddeeff00)
#define NUMBER_MAX FORMAT_NUMBER_READ_MAX
#define COUNT(a)   (sizeof(a) / sizeof((a)[0]))

static const char long_name[VARVE_NAMESPACE_NAME_MAX + 1] = "";

static struct manifest_item
counters(uint64_t next_number, uint64_t next_branch)
{
    return (struct manifest_item){.kind = MANIFEST_COUNTERS, .u.counters = {next_number, next_branch}};
}

static struct manifest_item
namespace_item(const char *name, size_t size, uint32_t ns_id)
{
    return (struct manifest_item){.kind = MANIFEST_NAMESPACE,
                                  .u.ns = {.ns_id = ns_id, .name = name, .name_size = (uint32_t)size}};
}

static struct manifest_item
segment_item(enum manifest_item_kind kind, uint64_t number, uint64_t value)
{
    struct manifest_item item = {.kind = kind};

    item.u.segment.number = number;
    item.u.segment.align_shift = 9;
    item.u.segment.bytes = item.u.segment.offset = value;
    return item;
}

static struct manifest_item
run_item(enum manifest_item_kind kind, uint64_t number)
{
    return (struct manifest_item){.kind = kind, .u.run = {.number = number, .level = 1}};
}

/* Apply an item that has been through its bytes. VARVE_E_CORRUPT: it could not be read, or it does not fit. */
static int
apply(struct manifest_state *state, const struct manifest_item *item)
{
    uint8_t *buf = test_malloc(manifest_item_bound(item));
    uint8_t *end = manifest_item_encode(item, buf);
    struct wire_reader reader = wire_reader_make(buf, (size_t)(end - buf));
    struct manifest_item out;
    int rc = VARVE_E_CORRUPT;

    assert_true((size_t)(end - buf) <= manifest_item_bound(item));
    if (manifest_item_decode(&reader, &out)) {
        assert_ptr_equal(reader.next, reader.end);
        rc = manifest_state_apply(state, &out);
    }
    test_free(buf);
    return rc;
}

/* One item after those that make namespace "a" (id 5), segment 3, run 4. */
static void
test_items(void **unused)
{
    const struct manifest_item before[] = {counters(10, 20), namespace_item("a", 1, 5),
                                           segment_item(MANIFEST_SEGMENT_ADD, 3, 4096), run_item(MANIFEST_RUN_ADD, 4)};
    const struct {
        const char *what;
        struct manifest_item item;
        int rc;
    } cases[] = {
        {"counters", counters(11, 21), VARVE_OK},
        {"counters at their limit", counters(FORMAT_COUNTER_READ_MAX, FORMAT_COUNTER_READ_MAX), VARVE_OK},
        {"a number that was never given out", counters(FORMAT_COUNTER_READ_MAX + 1, 1), VARVE_E_CORRUPT},
        {"a branch that was never given out", counters(1, FORMAT_COUNTER_READ_MAX + 1), VARVE_E_CORRUPT},
        {"a namespace", namespace_item("b", 1, 6), VARVE_OK},
        {"a namespace that is cleared", namespace_item("a", 1, 6), VARVE_OK},
        {"a namespace as it is", namespace_item("a", 1, 5), VARVE_OK},
        {"a namespace without id", namespace_item("b", 1, 0), VARVE_E_CORRUPT},
        {"a namespace with the id of another", namespace_item("b", 1, 5), VARVE_E_CORRUPT},
        {"a namespace without name", namespace_item("", 0, 6), VARVE_E_CORRUPT},
        {"a name with a NUL", namespace_item("b\0c", 3, 6), VARVE_E_CORRUPT},
        {"a name that is too long", namespace_item(long_name, sizeof(long_name), 6), VARVE_E_CORRUPT},
        {"a segment", segment_item(MANIFEST_SEGMENT_ADD, 6, 4096), VARVE_OK},
        {"a segment before another", segment_item(MANIFEST_SEGMENT_ADD, 2, 4096), VARVE_OK},
        {"a segment twice", segment_item(MANIFEST_SEGMENT_ADD, 3, 4096), VARVE_E_CORRUPT},
        {"a segment beyond all numbers", segment_item(MANIFEST_SEGMENT_ADD, NUMBER_MAX + 1, 4096), VARVE_E_CORRUPT},
        {"the last segment number", segment_item(MANIFEST_SEGMENT_ADD, NUMBER_MAX, 4096), VARVE_OK},
        {"a segment of 2^48 bytes", segment_item(MANIFEST_SEGMENT_ADD, 6, UINT64_C(1) << 48), VARVE_OK},
        {"a segment of more", segment_item(MANIFEST_SEGMENT_ADD, 6, (UINT64_C(1) << 48) + 1), VARVE_E_CORRUPT},
        {"sealed", segment_item(MANIFEST_SEGMENT_SEAL, 3, 8192), VARVE_OK},
        {"sealed with too many bytes", segment_item(MANIFEST_SEGMENT_SEAL, 3, UINT64_MAX), VARVE_E_CORRUPT},
        {"sealed, but not there", segment_item(MANIFEST_SEGMENT_SEAL, 8, 8192), VARVE_OK},
        {"in use", segment_item(MANIFEST_SEGMENT_USE, 3, 0), VARVE_OK},
        {"indexed", segment_item(MANIFEST_SEGMENT_INDEXED, 3, 8192), VARVE_OK},
        {"indexed too far", segment_item(MANIFEST_SEGMENT_INDEXED, 3, UINT64_MAX - 100), VARVE_E_CORRUPT},
        {"a page removed", segment_item(MANIFEST_PAGE_REMOVE, 3, 8192), VARVE_OK},
        {"a segment dropped", segment_item(MANIFEST_SEGMENT_DROP, 3, 0), VARVE_OK},
        {"a segment dropped that is not there", segment_item(MANIFEST_SEGMENT_DROP, 2, 0), VARVE_E_CORRUPT},
        {"a segment dropped behind the last", segment_item(MANIFEST_SEGMENT_DROP, 8, 0), VARVE_E_CORRUPT},
        {"a run", run_item(MANIFEST_RUN_ADD, 6), VARVE_OK},
        {"a run twice", run_item(MANIFEST_RUN_ADD, 4), VARVE_E_CORRUPT},
        {"a run beyond all numbers", run_item(MANIFEST_RUN_ADD, NUMBER_MAX + 1), VARVE_E_CORRUPT},
        {"a run removed", run_item(MANIFEST_RUN_REMOVE, 4), VARVE_OK},
        {"a run removed that is not there", run_item(MANIFEST_RUN_REMOVE, 3), VARVE_E_CORRUPT},
    };
    struct plain_env *env = plain_env_create(NULL);

    (void)unused;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct manifest_state state;
        int rc;

        manifest_state_init(&state, &env->env);
        for (size_t k = 0; k < COUNT(before); k++)
            assert_int_equal(apply(&state, &before[k]), VARVE_OK);
        rc = apply(&state, &cases[i].item);
        if (rc != cases[i].rc)
            fail_msg("%s: %d, not %d", cases[i].what, rc, cases[i].rc);
        assert_true(state.next_number <= FORMAT_NUMBER_MAX && state.next_branch <= FORMAT_NUMBER_MAX);
        for (size_t k = 0; k < state.segment_count; k++)
            assert_true(state.segments[k].number < state.next_number &&
                        (k == 0 || state.segments[k - 1].number < state.segments[k].number));
        manifest_state_deinit(&state);
    }
    plain_env_destroy(env);
}

/* Bytes that are no item. Every item is also cut off at each of its bytes. */
static void
test_bytes(void **unused)
{
    static const struct {
        const char *what;
        uint8_t size, bytes[20];
    } cases[] = {
        {"kind 0", 2, {0, 1}},
        {"kind 11", 2, {11, 1}},
        {"an id of more than 32 bits", 9, {2, 0x80, 0x80, 0x80, 0x80, 0x10, 0, 0, 0}},
        {"a use of more than 32 bits", 9, {5, 3, 0x80, 0x80, 0x80, 0x80, 0x10, 0, 0}},
        {"a level of more than 32 bits", 12, {8, 3, 0, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10, 0}},
        {"a name longer than the record", 6, {2, 1, 0, 0, 3, 'a'}},
    };
    struct manifest_item item;

    (void)unused;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct wire_reader reader = wire_reader_make(cases[i].bytes, cases[i].size);

        if (manifest_item_decode(&reader, &item) || !reader.failed)
            fail_msg("%s: not refused", cases[i].what);
        assert_false(manifest_item_decode(&reader, &item)); /* and nothing is read behind it */
    }
    for (int kind = MANIFEST_COUNTERS; kind <= MANIFEST_PAGE_REMOVE; kind++) {
        uint8_t buf[200];
        struct wire_reader reader;
        size_t size;

        item = segment_item((enum manifest_item_kind)kind, 3, 4096);
        if (kind == MANIFEST_NAMESPACE)
            item = namespace_item("a", 1, 5);
        size = (size_t)(manifest_item_encode(&item, buf) - buf);
        for (size_t cut = 1; cut < size; cut++) {
            reader = wire_reader_make(buf, cut);
            assert_false(manifest_item_decode(&reader, &item));
            assert_true(reader.failed);
        }
        reader = wire_reader_make(buf, 0);
        assert_false(manifest_item_decode(&reader, &item));
        assert_false(reader.failed); /* the end is no failure */
    }
}

/* What no bytes can say, but a caller could: the state refuses it by itself. */
static void
test_items_out_of_range(void **unused)
{
    const struct manifest_item items[] = {
        {.kind = (enum manifest_item_kind)99},
        counters(FORMAT_NUMBER_MAX + 1, 1),
        counters(1, FORMAT_NUMBER_MAX + 1),
        segment_item(MANIFEST_SEGMENT_ADD, FORMAT_NUMBER_MAX, 4096),
        run_item(MANIFEST_RUN_ADD, FORMAT_NUMBER_MAX),
    };
    struct manifest_state state;

    (void)unused;
    manifest_state_init(&state, NULL);
    for (size_t i = 0; i < COUNT(items); i++)
        assert_int_equal(manifest_state_apply(&state, &items[i]), VARVE_E_CORRUPT);
    assert_int_equal(state.next_number, 1);
}

static void
test_records(void **unused)
{
    static const struct {
        const char *what;
        uint32_t at, width;
        uint64_t value;
    } cases[] = {
        {"magic", 0, 4, 1},
        {"longer than a record may be", 4, 4, MANIFEST_RECORD_BYTES_MAX + 1},
        {"longer than the file", 4, 4, 41},
        {"shorter than it was", 4, 4, 39},
        {"sequence", 8, 8, 8},
        {"checksum", 16, 1, 1},
        {"an item", MANIFEST_FRAME_BYTES + 39, 1, 1},
    };
    uint8_t record[MANIFEST_FRAME_BYTES + 40];

    (void)unused;
    for (size_t i = 0; i < COUNT(cases); i++) {
        memset(record, 0, sizeof(record));
        manifest_record_seal(record, 40, SALT, 7);
        assert_int_equal(manifest_record_check(record, sizeof(record), SALT, 7), sizeof(record));
        for (uint32_t k = 0; k < cases[i].width; k++)
            record[cases[i].at + k] = (uint8_t)(cases[i].value >> (8 * k));
        if (manifest_record_check(record, sizeof(record), SALT, 7) != 0)
            fail_msg("%s: not refused", cases[i].what);
    }
    manifest_record_seal(record, 40, SALT, 7);
    assert_int_equal(manifest_record_check(record, sizeof(record) - 1, SALT, 7), 0);
    assert_int_equal(manifest_record_check(record, MANIFEST_FRAME_BYTES - 1, SALT, 7), 0);
    assert_int_equal(manifest_record_check(record, sizeof(record), SALT + 1, 7), 0);
}

/* Whatever allocation fails, the item says so, and nothing leaks. */
static void
test_out_of_memory(void **unused)
{
    const struct manifest_item items[] = {
        namespace_item("a", 1, 5),
        segment_item(MANIFEST_SEGMENT_ADD, 3, 4096),
        segment_item(MANIFEST_SEGMENT_USE, 3, 0),
        segment_item(MANIFEST_PAGE_REMOVE, 3, 4096),
        run_item(MANIFEST_RUN_ADD, 4),
    };
    struct plain_env *env = plain_env_create(NULL);
    const long allocations = 6; /* two for the namespace */
    uint32_t size = 0;

    (void)unused;
    for (long fails = 1; fails <= allocations + 2; fails++) {
        struct manifest_state state;
        int rc = VARVE_OK;
        uint8_t *snapshot;

        manifest_state_init(&state, &env->env);
        atomic_store(&env->alloc_fails_in, fails);
        for (size_t i = 0; i < COUNT(items) && rc == VARVE_OK; i++)
            rc = apply(&state, &items[i]);
        assert_int_equal(rc, fails <= allocations ? VARVE_E_NOMEM : VARVE_OK);
        if (rc == VARVE_OK) {
            snapshot = manifest_state_snapshot(&state, 8, &size);
            assert_int_equal(snapshot == NULL, fails == allocations + 1);
            env_free(&env->env, snapshot);
        }
        atomic_store(&env->alloc_fails_in, 0);
        manifest_state_deinit(&state);
    }
    plain_env_destroy(env);
}

/* A state of more than a record may hold: no snapshot, and no buffer for one either. */
static void
test_too_large_for_a_record(void **unused)
{
    enum { SEGMENTS = 1200, USES = 10000 };
    struct plain_env *env = plain_env_create(NULL);
    struct state_segment *segments = test_calloc(SEGMENTS, sizeof(segments[0]));
    struct state_use *uses = test_calloc(USES, sizeof(uses[0]));
    struct manifest_state state = {.env = &env->env, .segments = segments, .segment_count = SEGMENTS};
    uint32_t size = 0;

    (void)unused;
    for (size_t i = 0; i < SEGMENTS; i++) /* they share their uses: it is only counted */
        segments[i] = (struct state_segment){.number = i + 1, .uses = uses, .use_count = USES};
    assert_null(manifest_state_snapshot(&state, 0, &size));
    assert_int_equal(size, 0);
    test_free(segments);
    test_free(uses);
    plain_env_destroy(env);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_items),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_items_out_of_range),
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_too_large_for_a_record),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
