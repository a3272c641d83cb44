/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of the heat: what is damaged, of another file or of a newer version is not used, and changes nothing; what is around it is. That what was
 * written comes back is tested by heat_model_test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/wire.h"
#include "format/format.h"
#include "format/heat_format.h"
#include "plain_env.h"
#include "reclaim/heat.h"

#define PAGE         4096u
#define PAGES        20u
#define COUNT(a)     (sizeof(a) / sizeof((a)[0]))
#define COLUMNS_SUM  64u /* offsets in docs/FORMAT.md */
#define HEAD_SUM     72u
#define HEADER_SUM   504u
#define RECORDS      3u
#define FILE_ROOM    (HEAT_HEADER_BYTES + RECORDS * RECORD_BYTES)
#define RECORD_BYTES 512u /* of PAGES pages in two spans */
#define SPAN_AT(i)   (HEAT_HEAD_BYTES + (i)*HEAT_SPAN_BYTES)
#define PLACE_AT(i)  (SPAN_AT(2) + (i)*HEAT_PLACE_BYTES)

static const struct heat_file file = {7, UINT64_C(0x1122334455667788), PAGES *PAGE};

struct heats {
    struct plain_env *env;
    struct heat *heat, *fresh;
    struct heat_segment *segment, *empty;
};

/* A heat of a segment with two namespaces, one page pinned and one dead, and an empty one to restore into. */
static void
heats_begin(struct heats *heats)
{
    uint64_t places[PAGES];

    for (uint32_t i = 0; i < PAGES; i++)
        places[i] = i * PAGE;
    *heats = (struct heats){.env = plain_env_create(NULL)};
    heats->heat = heat_create(&heats->env->env, UINT64_MAX);
    heats->fresh = heat_create(&heats->env->env, UINT64_MAX);
    assert_true(heats->heat != NULL && heats->fresh != NULL);
    heats->segment = heat_segment_create(heats->heat, NULL);
    heats->empty = heat_segment_create(heats->fresh, NULL);
    assert_true(heats->segment != NULL && heats->empty != NULL);
    assert_int_equal(heat_add(heats->heat, heats->segment, 1, places, 8, 8 * PAGE, heat_clock(heats->heat, 8)),
                     VARVE_OK);
    (void)heat_clock(heats->heat, 100000); /* epochs of 4 values */
    assert_int_equal(
        heat_add(heats->heat, heats->segment, 2, places + 8, PAGES - 8, PAGES * PAGE, heat_clock(heats->heat, PAGES)),
        VARVE_OK);
    heat_pin(heats->heat, heats->segment, 3);
    heat_kill(heats->heat, heats->segment, 4);
}

static void
heats_end(struct heats *heats)
{
    heat_segment_destroy(heats->heat, heats->segment);
    heat_segment_destroy(heats->fresh, heats->empty);
    heat_destroy(heats->heat);
    heat_destroy(heats->fresh);
    plain_env_destroy(heats->env);
}

static void
assert_nothing_restored(const struct heats *heats)
{
    assert_int_equal(heats->empty->count, 0);
    assert_int_equal(heats->empty->span_count, 0);
    assert_int_equal(heats->empty->live_bytes, 0);
    assert_int_equal(heats->fresh->live_bytes, 0);
    assert_int_equal(heats->fresh->clock, HEAT_EPOCHS);
}

static void
encode(const struct heats *heats, uint8_t *record)
{
    assert_int_equal(heat_snapshot_bytes(heats->segment), RECORD_BYTES);
    assert_int_equal(heat_snapshot_segment(heats->heat, heats->segment, &file, record, RECORD_BYTES - 1), 0);
    assert_int_equal(heat_snapshot_segment(heats->heat, heats->segment, &file, record, RECORD_BYTES), RECORD_BYTES);
}

static void
test_round_trip(void **state)
{
    uint8_t header[HEAT_HEADER_BYTES], record[RECORD_BYTES];
    struct heats heats;

    (void)state;
    heats_begin(&heats);
    encode(&heats, record);
    heat_snapshot_header(heats.heat, header);
    assert_int_equal(heat_restore_header(heats.fresh, header, sizeof(header)), VARVE_OK);
    assert_int_equal(heat_restore_segment(heats.fresh, heats.empty, &file, record, sizeof(record)), VARVE_OK);
    assert_int_equal(heats.fresh->clock, heats.heat->clock);
    assert_int_equal(heats.fresh->shift, heats.heat->shift);
    assert_int_equal(heats.fresh->horizon, heats.heat->horizon);
    assert_int_equal(heats.fresh->live_bytes, heats.heat->live_bytes);
    assert_int_equal(heats.fresh->pinned_bytes, PAGE);
    assert_int_equal(heats.empty->count, PAGES);
    assert_int_equal(heats.empty->room, PAGES); /* no more memory than is needed */
    assert_int_equal(heats.empty->used, heats.segment->used);
    assert_int_equal(heats.empty->end, heats.segment->end);
    assert_memory_equal(heats.empty->at, heats.segment->at, PAGES * sizeof(heats.empty->at[0]));
    assert_memory_equal(heats.empty->stamps, heats.segment->stamps, PAGES * sizeof(heats.empty->stamps[0]));
    assert_int_equal(heats.empty->span_count, 2);
    assert_memory_equal(heats.empty->spans, heats.segment->spans, 2 * sizeof(heats.empty->spans[0]));
    assert_int_equal(heat_restore_segment(heats.fresh, heats.empty, &file, record, sizeof(record)), VARVE_E_CORRUPT);
    assert_int_equal(heats.fresh->live_bytes, heats.heat->live_bytes); /* nothing twice */
    heats_end(&heats);
}

/* Records whose header is lost begin a heat of their own. */
static void
test_records_without_a_header(void **state)
{
    uint8_t record[RECORD_BYTES];
    struct heats heats;

    (void)state;
    heats_begin(&heats);
    encode(&heats, record);
    assert_int_equal(heat_restore_segment(heats.fresh, heats.empty, &file, record, sizeof(record)), VARVE_OK);
    for (uint32_t page = 0; page < PAGES; page++)
        assert_int_equal(heat_value(heats.fresh, heats.empty, page), heat_value(heats.heat, heats.segment, page));
    assert_int_equal(heats.fresh->clock, heats.heat->clock);
    heats_end(&heats);
}

static void
test_no_byte_is_believed_when_it_was_changed(void **state)
{
    uint8_t header[HEAT_HEADER_BYTES], record[RECORD_BYTES];
    struct heats heats;

    (void)state;
    heats_begin(&heats);
    encode(&heats, record);
    heat_snapshot_header(heats.heat, header);
    for (size_t i = 0; i < sizeof(record); i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            record[i] ^= (uint8_t)(1u << bit);
            assert_int_equal(heat_restore_segment(heats.fresh, heats.empty, &file, record, sizeof(record)),
                             VARVE_E_CORRUPT);
            record[i] ^= (uint8_t)(1u << bit);
        }
    }
    for (size_t i = 0; i < sizeof(header); i++) {
        header[i] ^= 0x10;
        assert_int_equal(heat_restore_header(heats.fresh, header, sizeof(header)), VARVE_E_CORRUPT);
        header[i] ^= 0x10;
    }
    for (size_t size = 0; size < sizeof(record); size++) { /* of the exact size: an overrun is seen */
        uint8_t *cut = malloc(size + 1);

        assert_non_null(cut);
        memcpy(cut + 1, record, size);
        assert_int_equal(heat_restore_segment(heats.fresh, heats.empty, &file, cut + 1, size), VARVE_E_CORRUPT);
        memcpy(cut + 1, header, size);
        assert_int_equal(heat_restore_header(heats.fresh, cut + 1, size), VARVE_E_CORRUPT);
        free(cut);
    }
    assert_nothing_restored(&heats);
    heats_end(&heats);
}

static void
test_records_of_other_files(void **state)
{
    const struct heat_file others[] = {
        {file.number + 1, file.salt, file.bytes},
        {file.number, file.salt + 1, file.bytes}, /* another life of the number */
        {file.number, file.salt, file.bytes - HEAT_UNIT},
        {file.number, file.salt, 0},
    };
    uint8_t record[RECORD_BYTES];
    struct heats heats;

    (void)state;
    heats_begin(&heats);
    encode(&heats, record);
    for (size_t i = 0; i < COUNT(others); i++)
        assert_int_equal(heat_restore_segment(heats.fresh, heats.empty, &others[i], record, sizeof(record)),
                         VARVE_E_CORRUPT);
    assert_nothing_restored(&heats);
    heats_end(&heats);
}

/* A field set to a value, little-endian, and the checksums put right. */
struct edit {
    uint32_t at, width;
    uint64_t value;
    int rc;
};

static void
apply(uint8_t *data, const struct edit *edit)
{
    for (uint32_t i = 0; i < edit->width; i++)
        data[edit->at + i] = (uint8_t)(edit->value >> (8 * i));
}

static void
test_records_that_make_no_sense(void **state)
{
    static const struct edit edits[] = {
        {0, 1, 0, VARVE_E_CORRUPT},                  /* magic */
        {4, 2, FORMAT_VERSION + 1, VARVE_E_VERSION}, /* newer */
        {6, 1, HEAT_SHIFT_MAX + 1, VARVE_E_CORRUPT}, /* shift */
        {8, 8, FORMAT_NUMBER_READ_MAX + 1, VARVE_E_CORRUPT},
        {24, 8, HEAT_CLOCK_MAX + 1, VARVE_E_CORRUPT}, /* clock */
        {24, 8, 0, VARVE_E_CORRUPT},                  /* used after it */
        {32, 8, HEAT_CLOCK_MAX, VARVE_E_CORRUPT},     /* used later */
        {40, 4, 0, VARVE_E_CORRUPT},                  /* spans without pages */
        {40, 4, 1, VARVE_E_CORRUPT},                  /* more spans than pages */
        {40, 4, UINT32_MAX, VARVE_E_CORRUPT},
        {40, 4, HEAT_PAGES_MAX + 1, VARVE_E_CORRUPT},
        {44, 4, 0, VARVE_E_CORRUPT}, /* end before the last page */
        {44, 4, (PAGES - 1) * 8, VARVE_E_CORRUPT},
        {44, 4, UINT32_MAX, VARVE_E_CORRUPT}, /* behind the file's */
        {48, 4, 0, VARVE_E_CORRUPT},          /* pages without a namespace */
        {48, 4, UINT32_MAX, VARVE_E_CORRUPT},
        {48, 4, 3, VARVE_E_CORRUPT},
        {SPAN_AT(0), 4, 8, VARVE_E_CORRUPT},  /* a page before the first span */
        {SPAN_AT(1), 4, 0, VARVE_E_CORRUPT},  /* not in order */
        {SPAN_AT(1), 4, 65, VARVE_E_CORRUPT}, /* not a page's place */
        {SPAN_AT(1), 4, PAGES * 8, VARVE_E_CORRUPT},
        {PLACE_AT(5), 4, 4 * 8, VARVE_E_CORRUPT}, /* two pages at one place */
        {PLACE_AT(5), 4, UINT32_MAX, VARVE_E_CORRUPT},
        {PLACE_AT(PAGES - 1), 4, PAGES * 8, VARVE_E_CORRUPT},
        {16, 0, 0, VARVE_OK}, /* no change: they can be used */
    };
    struct heats heats;

    (void)state;
    heats_begin(&heats);
    for (size_t i = 0; i < COUNT(edits); i++) {
        uint8_t record[RECORD_BYTES];

        encode(&heats, record);
        apply(record, &edits[i]);
        wire_put64(record + COLUMNS_SUM, hash_bytes(record + HEAT_HEAD_BYTES, RECORD_BYTES - HEAT_HEAD_BYTES));
        wire_put64(record + HEAD_SUM, hash_bytes(record, HEAD_SUM));
        if (edits[i].rc != VARVE_OK)
            assert_nothing_restored(&heats);
        assert_int_equal(heat_restore_segment(heats.fresh, heats.empty, &file, record, sizeof(record)), edits[i].rc);
    }
    heats_end(&heats);
}

static void
test_headers_that_make_no_sense(void **state)
{
    static const struct edit edits[] = {
        {0, 1, 0, VARVE_E_CORRUPT},
        {4, 2, FORMAT_VERSION + 1, VARVE_E_VERSION},
        {6, 1, HEAT_SHIFT_MAX + 1, VARVE_E_CORRUPT},
        {6, 1, 0, VARVE_E_CORRUPT}, /* the live set spans too many epochs */
        {8, 8, HEAT_CLOCK_MAX + 1, VARVE_E_CORRUPT},
        {8, 8, 1, VARVE_E_CORRUPT}, /* horizon after the clock */
        {16, 8, UINT64_MAX, VARVE_E_CORRUPT},
        {8, 0, 0, VARVE_OK},
    };
    struct heats heats;

    (void)state;
    heats_begin(&heats);
    for (size_t i = 0; i < COUNT(edits); i++) {
        uint8_t header[HEAT_HEADER_BYTES];

        heat_snapshot_header(heats.heat, header);
        apply(header, &edits[i]);
        wire_put64(header + HEADER_SUM, hash_bytes(header, HEADER_SUM));
        if (edits[i].rc != VARVE_OK)
            assert_nothing_restored(&heats);
        assert_int_equal(heat_restore_header(heats.fresh, header, sizeof(header)), edits[i].rc);
    }
    heats_end(&heats);
}

/* Whatever happens to one record, the others are found. */
static void
test_records_around_a_damaged_one(void **state)
{
    uint8_t data[FILE_ROOM];
    struct heats heats;

    (void)state;
    heats_begin(&heats);
    for (size_t damaged = HEAT_HEADER_BYTES; damaged < FILE_ROOM; damaged++) {
        size_t offset = HEAT_HEADER_BYTES, usable = 0;
        struct heat_record record;

        heat_snapshot_header(heats.heat, data);
        for (size_t i = 0; i < RECORDS; i++)
            encode(&heats, data + HEAT_HEADER_BYTES + i * RECORD_BYTES);
        data[damaged] ^= 1;
        while ((offset = heat_record_find(data, FILE_ROOM, offset, &record)) < FILE_ROOM) {
            usable += heat_record_check(&record, data + offset) == VARVE_OK;
            offset += heat_record_bytes(record.count, record.span_count);
        }
        assert_int_equal(offset, FILE_ROOM);
        assert_int_equal(usable, RECORDS - 1);
    }
    heats_end(&heats);
}

static void
test_out_of_memory(void **state)
{
    uint8_t record[RECORD_BYTES];
    struct heats heats;
    long n = 0;
    int rc;

    (void)state;
    heats_begin(&heats);
    encode(&heats, record);
    do {
        assert_nothing_restored(&heats);
        atomic_store(&heats.env->alloc_fails_in, ++n);
        rc = heat_restore_segment(heats.fresh, heats.empty, &file, record, sizeof(record));
        assert_true(rc == VARVE_OK || rc == VARVE_E_NOMEM);
    } while (rc != VARVE_OK);
    atomic_store(&heats.env->alloc_fails_in, 0);
    assert_true(n > 1);
    assert_int_equal(heats.empty->count, PAGES);
    heats_end(&heats);
}

/* No pages, no record to speak of. */
static void
test_empty_segment(void **state)
{
    uint8_t record[RECORD_BYTES];
    struct heats heats;

    (void)state;
    heats_begin(&heats);
    assert_int_equal(heat_snapshot_segment(heats.fresh, heats.empty, &file, record, sizeof(record)), RECORD_BYTES);
    assert_int_equal(heat_restore_segment(heats.fresh, heats.empty, &file, record, sizeof(record)), VARVE_OK);
    assert_nothing_restored(&heats);
    heats_end(&heats);
}

/* At most 6 bytes a page, in memory and on disk, and little more for a segment. */
static void
test_bytes_a_page(void **state)
{
    const uint32_t pages = 16384; /* of 16 KiB in 256 MiB */

    (void)state;
    assert_int_equal(HEAT_PLACE_BYTES + HEAT_STAMP_BYTES, 6);
    assert_int_equal(sizeof(((struct heat_segment *)NULL)->at[0]) + sizeof(((struct heat_segment *)NULL)->stamps[0]),
                     6);
    assert_true(sizeof(struct heat_segment) + 2 * sizeof(struct heat_span) <= 128);
    assert_true(heat_record_bytes(pages, 1) <= pages * 6 + HEAT_RECORD_ALIGN);
    assert_true(sizeof(struct heat) <= 513 * 1024); /* for the whole store */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_records_without_a_header),
        cmocka_unit_test(test_no_byte_is_believed_when_it_was_changed),
        cmocka_unit_test(test_records_of_other_files),
        cmocka_unit_test(test_records_that_make_no_sense),
        cmocka_unit_test(test_headers_that_make_no_sense),
        cmocka_unit_test(test_records_around_a_damaged_one),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_empty_segment),
        cmocka_unit_test(test_bytes_a_page),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
