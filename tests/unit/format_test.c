/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structures whose checksums hold and whose contents are wrong: each field is put out of its limits, one at a time, and the decoder has
 * to refuse what it says. So damage that a checksum cannot see (a bug of ours, or malice) ends here and not in an assertion further up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/wire.h"
#include "format/format.h"
#include "format/log_format.h"
#include "format/run_format.h"

#define SALT       UINT64_C(0x1122334455667788)
#define OFFSET     UINT64_C(8192)
#define BLOCK_SEED UINT64_C(0x5eed)
#define COUNT(a)   (sizeof(a) / sizeof((a)[0]))

/* A field set to a value: little-endian, `width` bytes at `at`. Width 0: nothing. */
struct edit {
    uint32_t at, width;
    uint64_t value;
};

static void
apply(uint8_t *data, const struct edit *edit)
{
    for (uint32_t i = 0; i < edit->width; i++)
        data[edit->at + i] = (uint8_t)(edit->value >> (8 * i));
}

static void
test_names(void **state)
{
    static const struct {
        const char *name;
        enum format_file_kind kind;
        uint64_t number;
    } cases[] = {
        {"LOCK", FORMAT_FILE_FIXED, 0},
        {"CURRENT", FORMAT_FILE_FIXED, 0},
        {"CURRENT.tmp", FORMAT_FILE_FIXED, 0},
        {"HEAT", FORMAT_FILE_FIXED, 0},
        {"HEAT.tmp", FORMAT_FILE_FIXED, 0},
        {"SOCKET", FORMAT_FILE_FIXED, 0},
        {"WRITERS", FORMAT_FILE_FIXED, 0},
        {"HEAT.bak", FORMAT_FILE_OTHER, 0},
        {"0000000000000007.seg", FORMAT_FILE_SEGMENT, 7},
        {"0123456789abcdef.run", FORMAT_FILE_RUN, UINT64_C(0x0123456789abcdef)},
        {"ffffffffffffffff.manifest", FORMAT_FILE_MANIFEST, UINT64_MAX},
        {"0000000000000007.SEG", FORMAT_FILE_OTHER, 0},
        {"000000000000000F.seg", FORMAT_FILE_OTHER, 0},
        {"000000000000000g.seg", FORMAT_FILE_OTHER, 0},
        {"00000000000000/7.seg", FORMAT_FILE_OTHER, 0},
        {"000000000000007.seg", FORMAT_FILE_OTHER, 0},
        {"00000000000000007.seg", FORMAT_FILE_OTHER, 0},
        {"0000000000000007.seg~", FORMAT_FILE_OTHER, 0},
        {"0000000000000007", FORMAT_FILE_OTHER, 0},
        {"notes.txt", FORMAT_FILE_OTHER, 0},
        {"", FORMAT_FILE_OTHER, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char again[FORMAT_NAME_MAX];
        uint64_t number;

        assert_int_equal(format_parse_name(cases[i].name, &number), cases[i].kind);
        if (cases[i].kind == FORMAT_FILE_OTHER || cases[i].kind == FORMAT_FILE_FIXED)
            continue;
        assert_int_equal(number, cases[i].number);
        format_file_name(cases[i].kind, number, again);
        assert_string_equal(again, cases[i].name);
    }
}

static void
test_segment_header(void **state)
{
    static const struct {
        struct edit edit;
        enum log_decode decoded;
    } cases[] = {
        {{0, 0, 0}, LOG_DECODE_OK},
        {{0, 4, 0x47455357}, LOG_DECODE_BAD},           /* magic */
        {{4, 2, FORMAT_VERSION + 1}, LOG_DECODE_NEWER}, /* version */
        {{6, 1, 8}, LOG_DECODE_BAD},                    /* align_shift */
        {{6, 1, 13}, LOG_DECODE_BAD},                   /* align_shift */
        {{6, 1, 12}, LOG_DECODE_OK},                    /* align_shift */
        {{16, 8, 1}, LOG_DECODE_OK},                    /* a salt is anything */
    };
    const struct segment_header header = {.number = 7, .salt = SALT, .bytes = 1 << 20, .align_shift = 9};
    uint8_t buf[SEGMENT_HEADER_BYTES];

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct segment_header out = {0};

        segment_header_encode(&header, buf);
        apply(buf, &cases[i].edit);
        wire_put64(buf + 32, hash_bytes(buf, 32));
        assert_int_equal(segment_header_decode(buf, &out), cases[i].decoded);
        if (cases[i].decoded == LOG_DECODE_OK)
            assert_true(out.number == 7 && out.bytes == 1 << 20);
        buf[33] ^= 1; /* and with a wrong checksum all of them are damage, a newer version too */
        assert_int_equal(segment_header_decode(buf, &out), LOG_DECODE_BAD);
    }
}

/* An extent of `count` pages of 600 bytes; returns the length of its header. */
static uint32_t
make_extent(uint8_t *buf, uint32_t count, bool uniform)
{
    struct extent_header header = {
        .salt = SALT, .offset = OFFSET, .branch = 5, .ns_id = 3, .count = count, .page_bytes = 600, .align_shift = 9};

    header.header_bytes = extent_header_size(count, uniform, 9);
    header.extent_bytes = log_pad(header.header_bytes + count * UINT64_C(1024), 12);
    memset(extent_table_ids(buf), 0x11, (size_t)count * (VARVE_ID_BYTES + 8));
    if (!uniform) {
        header.sizes = extent_table_sizes(buf, count);
        for (uint32_t i = 0; i < count; i++)
            wire_put32(extent_table_sizes(buf, count) + (size_t)i * 4, 600);
    }
    extent_header_encode(&header, buf);
    return header.header_bytes;
}

static void
fix_extent_sums(uint8_t *buf, uint32_t table)
{
    wire_put64(buf + 56, hash_bytes(buf + EXTENT_FIXED_BYTES, table));
    wire_put64(buf + 120, hash_bytes(buf, 120));
}

static void
test_extent_header(void **state)
{
    static const struct {
        struct edit edit;
        enum log_decode decoded;
    } cases[] = {
        {{0, 0, 0}, LOG_DECODE_OK},
        {{0, 4, 0x54585457}, LOG_DECODE_BAD},           /* magic */
        {{4, 2, FORMAT_VERSION + 1}, LOG_DECODE_NEWER}, /* version */
        {{6, 1, 200}, LOG_DECODE_OK},                   /* a codec that is not known: a miss, no damage */
        {{7, 1, 8}, LOG_DECODE_BAD},                    /* align_shift */
        {{7, 1, 13}, LOG_DECODE_BAD},
        {{8, 8, SALT + 1}, LOG_DECODE_BAD}, /* salt: of another segment */
        {{16, 8, OFFSET + 4096}, LOG_DECODE_BAD},
        {{24, 8, 0}, LOG_DECODE_BAD},                          /* branch */
        {{24, 8, FORMAT_NUMBER_READ_MAX + 1}, LOG_DECODE_BAD}, /* there would be no next one */
        {{24, 8, FORMAT_NUMBER_READ_MAX}, LOG_DECODE_OK},
        {{48, 8, 4096}, LOG_DECODE_BAD},
        {{48, 8, UINT64_MAX - 4095}, LOG_DECODE_BAD}, /* bytes of the extent */
        {{68, 4, UINT32_MAX - 2 * EXTENT_PAGES_MAX}, LOG_DECODE_OK},
        {{68, 4, UINT32_MAX - 2 * EXTENT_PAGES_MAX + 1}, LOG_DECODE_BAD}, /* depth: beyond what the index can hold */
        {{68, 4, UINT32_MAX}, LOG_DECODE_BAD},
        {{76, 4, 0}, LOG_DECODE_BAD}, /* count */
        {{76, 4, EXTENT_PAGES_MAX + 1}, LOG_DECODE_BAD},
        {{76, 4, UINT32_MAX}, LOG_DECODE_BAD},
        {{76, 4, 20}, LOG_DECODE_BAD},   /* does not make up the bytes of the extent */
        {{80, 4, 1025}, LOG_DECODE_BAD}, /* page_bytes: neither does this */
        {{80, 4, 1024}, LOG_DECODE_OK},  /* the same with the padding */
        {{80, 4, VARVE_PAGE_BYTES_MAX + 1}, LOG_DECODE_BAD},
        {{76, 4, EXTENT_PAGES_MAX}, LOG_DECODE_SHORT},
    };
    static uint8_t buf[EXTENT_HEADER_BYTES_MAX];

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct extent_header out;
        uint32_t size = make_extent(buf, 40, true), count;
        enum log_decode decoded;

        apply(buf, &cases[i].edit);
        count = wire_get32(buf + 76);
        fix_extent_sums(buf, count <= 40 ? count * 40 : 0);
        decoded = extent_header_decode(buf, size, SALT, OFFSET, &out);
        if (decoded != cases[i].decoded)
            fail_msg("case %zu: %d, not %d", i, (int)decoded, (int)cases[i].decoded);
        if (decoded == LOG_DECODE_SHORT)
            assert_int_equal(out.header_bytes, extent_header_size(EXTENT_PAGES_MAX, true, 9));
        buf[121] ^= 1;
        assert_int_equal(extent_header_decode(buf, size, SALT, OFFSET, &out), LOG_DECODE_BAD);
    }
}

static void
test_extent_table(void **state)
{
    static uint8_t buf[EXTENT_HEADER_BYTES_MAX];
    uint32_t size = make_extent(buf, 40, false);
    struct extent_header out;

    (void)state;
    assert_int_equal(extent_header_decode(buf, size, SALT, OFFSET, &out), LOG_DECODE_OK);
    assert_int_equal(extent_page_size(&out, 39), 600);
    wire_put32(extent_table_sizes(buf, 40) + 39 * 4, 601); /* the table is under a checksum of its own */
    assert_int_equal(extent_header_decode(buf, size, SALT, OFFSET, &out), LOG_DECODE_BAD);
    fix_extent_sums(buf, 40 * 44);
    assert_int_equal(extent_header_decode(buf, size, SALT, OFFSET, &out), LOG_DECODE_OK);
    assert_int_equal(extent_page_size(&out, 39), 601);
    wire_put32(extent_table_sizes(buf, 40) + 39 * 4, 1025 + 2048); /* a block more than the extent has */
    fix_extent_sums(buf, 40 * 44);
    assert_int_equal(extent_header_decode(buf, size, SALT, OFFSET, &out), LOG_DECODE_BAD);
    wire_put32(extent_table_sizes(buf, 40) + 39 * 4, VARVE_PAGE_BYTES_MAX + 1);
    fix_extent_sums(buf, 40 * 44);
    assert_int_equal(extent_header_decode(buf, size, SALT, OFFSET, &out), LOG_DECODE_BAD);
    assert_int_equal(extent_header_decode(buf, EXTENT_FIXED_BYTES, SALT, OFFSET, &out), LOG_DECODE_SHORT);
    assert_int_equal(out.header_bytes, size);
}

static void
test_footer(void **state)
{
    static const struct {
        struct edit edit;
        int rc;
    } cases[] = {
        {{0, 0, 0}, VARVE_OK},
        {{0, 8, 1}, VARVE_E_CORRUPT},                    /* magic */
        {{16, 4, FORMAT_VERSION + 1}, VARVE_E_VERSION},  /* version */
        {{20, 4, 0}, VARVE_E_CORRUPT},                   /* blocks */
        {{20, 4, 17}, VARVE_E_CORRUPT},                  /* more than block_bits can name */
        {{88, 4, 0}, VARVE_E_CORRUPT},                   /* most pages of one entry */
        {{88, 4, ENTRY_PAGES_MAX + 1}, VARVE_E_CORRUPT}, /* the same */
        {{88, 4, ENTRY_PAGES_MAX}, VARVE_OK},            /* the same */
        {{96, 8, 0}, VARVE_E_CORRUPT},                   /* buckets */
        {{96, 8, UINT64_C(1) << 32}, VARVE_E_CORRUPT},   /* the same */
        {{96, 8, UINT32_MAX}, VARVE_OK},                 /* the same */
        {{104, 1, 3}, VARVE_E_CORRUPT},                  /* slot bytes */
        {{104, 1, 6}, VARVE_E_CORRUPT},                  /* the same */
        {{104, 1, 5}, VARVE_OK},                         /* the same */
        {{105, 1, 0}, VARVE_E_CORRUPT},                  /* block bits */
        {{105, 1, 32}, VARVE_E_CORRUPT},                 /* the same */
        {{105, 1, 5}, VARVE_E_CORRUPT},                  /* one bit more than the slot has */
        {{106, 1, 11}, VARVE_E_CORRUPT},                 /* page bits */
        {{107, 1, 0}, VARVE_E_CORRUPT},                  /* fingerprint bits */
        {{107, 1, 33}, VARVE_E_CORRUPT},                 /* the same */
        {{107, 1, 26}, VARVE_E_CORRUPT},                 /* one bit more than the slot has */
    };
    const struct run_footer footer = {.salt = 1,
                                      .file_number = 2,
                                      .entries = 3,
                                      .pages = 4,
                                      .bucket_count = 7,
                                      .last_key = {8, 9, 10},
                                      .block_count = 11,
                                      .entry_pages_max = 12,
                                      .slot_bytes = 4,
                                      .block_bits = 4,
                                      .page_bits = 3,
                                      .fingerprint_bits = 25};
    uint8_t page[RUN_FOOTER_BYTES];

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct run_footer out;
        int rc;

        run_footer_encode(page, &footer);
        apply(page, &cases[i].edit);
        wire_put64(page + 8, 0);
        wire_put64(page + 8, hash_bytes(page, sizeof(page)));
        rc = run_footer_decode(page, &out);
        if (rc != cases[i].rc)
            fail_msg("case %zu: %d, not %d", i, rc, cases[i].rc);
    }
}

/* The base that an entry in segment 4 leaves, whose pages end at `end_offset`; no sizes. */
static struct entry_base
base_at(uint64_t end_offset, uint8_t align_shift, uint32_t depth)
{
    return (struct entry_base){.end = {.ns_id = 1, .depth = depth, .branch = 6},
                               .segment = 4,
                               .end_offset = end_offset,
                               .page_bytes = 600,
                               .align_shift = align_shift};
}

/* Heads byte by byte. Flags: 1 same branch, 2 contiguous, 4 follows, 8 sizes, 16 same shape, 32 parent. */
static void
test_entry_heads(void **state)
{
    static const struct {
        const char *what;
        uint64_t end_offset;
        uint32_t depth;
        uint8_t shift;
        uint8_t size, head[24];
        bool valid;
    } cases[] = {
        {"all as before", 8192, 10, 9, 2, {1 + 2 + 4 + 16, 1}, true},
        {"a flag that is not known", 8192, 10, 9, 2, {64 + 1 + 2 + 4 + 16, 1}, false},
        {"no pages", 8192, 10, 9, 2, {1 + 2 + 4 + 16, 0}, false},
        {"1024 pages", 8192, 10, 9, 3, {1 + 2 + 4 + 16, 0x80, 8}, true},
        {"1025 pages", 8192, 10, 9, 3, {1 + 2 + 4 + 16, 0x81, 8}, false},
        {"cut off before its count", 8192, 10, 9, 1, {1 + 2 + 4 + 16}, false},
        {"depth at the limit", 8192, UINT32_MAX - 1024, 9, 3, {1 + 2 + 4 + 16, 0x80, 8}, true},
        {"depth behind the limit", 8192, UINT32_MAX - 1023, 9, 3, {1 + 2 + 4 + 16, 0x80, 8}, false},
        {"depth below zero", 8192, 0, 9, 3, {1 + 4 + 16, 1, 1}, false},
        {"namespace below zero", 8192, 10, 9, 5, {4 + 16, 1, 3, 0, 0}, false},
        {"contiguous in another branch", 8192, 10, 9, 4, {2 + 4 + 16, 1, 0, 2}, false},
        {"follows, at the limit", UINT64_C(1) << 48, 10, 9, 2, {1 + 2 + 4 + 16, 1}, true},
        {"follows, behind the limit", (UINT64_C(1) << 48) + 512, 10, 9, 2, {1 + 2 + 4 + 16, 1}, false},
        {"follows, not aligned", 8192 + 512, 10, 9, 5, {1 + 2 + 4, 1, 0, 12, 0}, false},
        {"follows, aligned", 8192, 10, 9, 5, {1 + 2 + 4, 1, 0, 12, 0}, true},
        {"same shape, but sizes", 8192, 10, 9, 2, {1 + 2 + 4 + 8 + 16, 1}, false},
        {"alignment too small", 8192, 10, 9, 5, {1 + 2 + 4, 1, 0, 8, 0}, false},
        {"alignment too large", 8192, 10, 9, 5, {1 + 2 + 4, 1, 0, 13, 0}, false},
        {"page of 64 MiB", 8192, 10, 9, 8, {1 + 2 + 4, 1, 0, 9, 0x80, 0x80, 0x80, 0x20}, true},
        {"page larger than 64 MiB", 8192, 10, 9, 8, {1 + 2 + 4, 1, 0, 9, 0x81, 0x80, 0x80, 0x20}, false},
        {"same segment, before its start", 8192, 10, 9, 4, {1 + 2 + 16, 1, 0, 33}, false},
        {"same segment, at its start", 8192, 10, 9, 4, {1 + 2 + 16, 1, 0, 31}, true},
        {"parent 0", 8192, 10, 9, 4, {1 + 2 + 4 + 16 + 32, 1, 0, 0}, false},
        {"parent", 8192, 10, 9, 4, {1 + 2 + 4 + 16 + 32, 1, 7, 0}, true},
        {"parent deeper than 32 bits",
         8192,
         10,
         9,
         8,
         {1 + 2 + 4 + 16 + 32, 1, 7, 0x80, 0x80, 0x80, 0x80, 0x10},
         false},
        {"parent cut off", 8192, 10, 9, 3, {1 + 2 + 4 + 16 + 32, 1, 7}, false},
        {"a varint of 65 bits",
         8192,
         10,
         9,
         14,
         {1 + 2 + 4 + 16 + 32, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0},
         false},
        {"a varint of 64 bits",
         8192,
         10,
         9,
         13,
         {1 + 2 + 4 + 16 + 32, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0},
         true},
        {"a varint of 11 bytes",
         8192,
         10,
         9,
         14,
         {1 + 2 + 4 + 16 + 32, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 0},
         false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct entry_base base = base_at(cases[i].end_offset, cases[i].shift, cases[i].depth);
        struct wire_reader reader = wire_reader_make(cases[i].head, cases[i].size);
        struct entry out;
        bool has_sizes;

        if (entry_decode_head(&reader, &base, &out, &has_sizes) != cases[i].valid)
            fail_msg("%s: not %s", cases[i].what, cases[i].valid ? "accepted" : "refused");
        if (cases[i].valid)
            assert_ptr_equal(reader.next, reader.end);
    }
}

static struct block_builder builder; /* large */

/* A block of two entries: 3 pages of 600 bytes, then 2 pages with sizes. */
static void
make_block(uint8_t *block)
{
    static const uint8_t arrays[64];
    static uint8_t sizes[8];
    struct entry entry = {.key = {1, 0, 6},
                          .count = 3,
                          .segment = 4,
                          .offset = 4096,
                          .page_bytes = 600,
                          .align_shift = 9,
                          .ids = arrays,
                          .sums = arrays};

    block_builder_init(&builder);
    assert_int_equal(block_builder_add(&builder, &entry), 3);
    wire_put32(sizes, 5);
    wire_put32(sizes + 4, VARVE_PAGE_BYTES_MAX);
    entry.key.depth = 3;
    entry.count = 2;
    entry.sizes = sizes;
    assert_int_equal(block_builder_add(&builder, &entry), 2);
    block_builder_seal(&builder, block, BLOCK_SEED);
}

static void
test_block(void **state)
{
    const uint32_t sizes_at = BLOCK_HEADER_BYTES + 5 * (ID_PREFIX_BYTES + 8), heads_at = sizes_at + 8;
    const struct {
        const char *what;
        struct edit edit;
        bool valid;
    } cases[] = {
        {"as it was", {0, 0, 0}, true},
        {"magic", {0, 2, 1}, false},
        {"no entries", {2, 2, 0}, false},
        {"an entry more", {2, 2, 3}, false},
        {"an entry less", {2, 2, 1}, false},
        {"a page more", {4, 2, 6}, false},
        {"a page less", {4, 2, 4}, false},
        {"more pages than bytes", {4, 2, UINT16_MAX}, false},
        {"a size more", {6, 2, 3}, false},
        {"a size less", {6, 2, 1}, false},
        {"heads end early", {16, 2, 3}, false},
        {"heads end late", {16, 2, 100}, false},
        {"heads behind the block", {16, 2, BLOCK_BYTES}, false},
        {"a page too large", {sizes_at, 4, VARVE_PAGE_BYTES_MAX + 1}, false},
        {"the first entry has a page more", {heads_at + 1, 1, 4}, false},
        {"the first entry has more pages than the block", {heads_at + 1, 1, 6}, false},
    };
    uint8_t block[BLOCK_BYTES];

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        make_block(block);
        apply(block, &cases[i].edit);
        wire_put64(block + 8, BLOCK_SEED);
        wire_put64(block + 8, hash_bytes(block, sizeof(block)));
        if (block_check(block, BLOCK_SEED) != cases[i].valid)
            fail_msg("%s: not %s", cases[i].what, cases[i].valid ? "accepted" : "refused");
        assert_false(block_check(block, BLOCK_SEED + 1)); /* it lies elsewhere */
    }
}

/* A count of sizes that is not what the entries have, with the heads where that count puts them. */
static void
test_block_sizes(void **state)
{
    static const struct {
        uint32_t sizes;
        bool valid;
    } cases[] = {{0, false}, {1, false}, {2, true}, {3, false}};
    const uint32_t sizes_at = BLOCK_HEADER_BYTES + 5 * (ID_PREFIX_BYTES + 8);

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint8_t block[BLOCK_BYTES], heads[64];
        struct block_walk walk;
        struct entry entry;

        make_block(block);
        memcpy(heads, block + sizes_at + 8, sizeof(heads));
        memset(block + sizes_at, 0, sizeof(heads) + 16);
        memcpy(block + sizes_at + cases[i].sizes * 4, heads, sizeof(heads));
        wire_put16(block + 6, (uint16_t)cases[i].sizes);
        wire_put64(block + 8, BLOCK_SEED);
        wire_put64(block + 8, hash_bytes(block, sizeof(block)));
        if (block_check(block, BLOCK_SEED) != cases[i].valid)
            fail_msg("%u sizes: not %s", cases[i].sizes, cases[i].valid ? "accepted" : "refused");
        block_walk_init(&walk, block);
        assert_true(block_walk_next(&walk, &entry)); /* has none */
        assert_int_equal(block_walk_next(&walk, &entry), cases[i].sizes >= 2);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),         cmocka_unit_test(test_segment_header),
        cmocka_unit_test(test_extent_header), cmocka_unit_test(test_extent_table),
        cmocka_unit_test(test_footer),        cmocka_unit_test(test_entry_heads),
        cmocka_unit_test(test_block),         cmocka_unit_test(test_block_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
