/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.c: tables of good and bad texts, what the writer makes read back, and damaged texts that must not crash the
 * reader.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "json.h"
#include "random.h"

/* Copy to an allocation of exactly that size, so that a sanitizer sees a read past the end; count the tokens, or -1. */
static int
count_tokens(const char *text, size_t size)
{
    char *copy = malloc(size == 0 ? 1 : size);
    struct json_reader reader;
    enum json_token token;
    int count = 0;

    assert_non_null(copy);
    memcpy(copy, text, size);
    reader = json_reader_make(copy, size);
    while ((token = json_next(&reader)) > JSON_END) {
        uint64_t integer;
        double number;

        if (token == JSON_KEY || token == JSON_STRING)
            (void)json_text_is(&reader, "hash_ids");
        if (token == JSON_NUMBER) {
            (void)json_u64(&reader, &integer);
            (void)json_double(&reader, &number);
        }
        count++;
    }
    if (token == JSON_ERROR) {
        assert_non_null(reader.error);
        assert_true(reader.at >= copy && reader.at <= copy + size);
        assert_int_equal(json_next(&reader), JSON_ERROR);
        count = -1;
    }
    free(copy);
    return count;
}

static void
test_texts(void **state)
{
    static const struct {
        const char *text;
        int tokens; /* -1: an error */
    } cases[] = {
        {"null", 1},
        {" true ", 1},
        {"{}", 2},
        {"[]", 2},
        {"[1,2,3]", 5},
        {"{\"a\":1}", 4},
        {"{\"a\":{\"b\":[1,{\"c\":null}]},\"d\":\"e\"}", 15},
        {"[0,-0,1.5,1e9,-1.25E-3,0.5e+7]", 8},
        {"\"\\u00e9\\ud83d\\ude00\\n\"", 1},
        {"\"\xc3\xa9\xf0\x9f\x98\x80\"", 1},
        {"", -1},
        {" ", -1},
        {"{", -1},
        {"}", -1},
        {"[1", -1},
        {"[1,", -1},
        {"[1,]", -1},
        {"[,1]", -1},
        {"[1 2]", -1},
        {"{\"a\"}", -1},
        {"{\"a\":}", -1},
        {"{\"a\":1,}", -1},
        {"{a:1}", -1},
        {"{1:1}", -1},
        {"[1}", -1},
        {"{\"a\":1]", -1},
        {"1 1", -1},
        {"01", -1},
        {"+1", -1},
        {"-", -1},
        {".5", -1},
        {"1.", -1},
        {"1e", -1},
        {"tru", -1},
        {"True", -1},
        {"NaN", -1},
        {"'a'", -1},
        {"\"a", -1},
        {"\"a\\", -1},
        {"\"\\x\"", -1},
        {"\"\\u12\"", -1},
        {"\"\\u12g4\"", -1},
        {"\"\\ud800\"", -1},
        {"\"\\udc00\"", -1},
        {"\"\\ud800\\u0041\"", -1},
        {"\"\t\"", -1},
        {"\"\xff\"", -1},
        {"\"\xc0\xaf\"", -1},
        {"\"\xed\xa0\x80\"", -1},
        {"\"\xf4\x90\x80\x80\"", -1},
        {"\"\xe2\x82", -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (count_tokens(cases[i].text, strlen(cases[i].text)) != cases[i].tokens)
            fail_msg("%s: not %d tokens", cases[i].text, cases[i].tokens);
    }
    assert_int_equal(count_tokens("\0", 1), -1);
    assert_int_equal(count_tokens("\"\0\"", 3), -1);
}

static void
test_depth(void **state)
{
    char text[2 * JSON_DEPTH_MAX + 2];

    (void)state;
    memset(text, '[', JSON_DEPTH_MAX + 1);
    memset(text + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    assert_int_equal(count_tokens(text, sizeof(text)), -1);
    assert_int_equal(count_tokens(text + 1, sizeof(text) - 2), 2 * JSON_DEPTH_MAX);
}

static void
test_numbers(void **state)
{
    static const struct {
        const char *text;
        int is_integer;
        uint64_t integer;
        int is_finite;
    } cases[] = {
        {"0", 1, 0, 1},
        {"18446744073709551615", 1, UINT64_MAX, 1},
        {"18446744073709551616", 0, 0, 1},
        {"99999999999999999999999", 0, 0, 1},
        {"-1", 0, 0, 1},
        {"1.0", 0, 0, 1},
        {"1e3", 0, 0, 1},
        {"1e999", 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct json_reader reader = json_reader_make(cases[i].text, strlen(cases[i].text));
        uint64_t integer = 0;
        double number;

        assert_int_equal(json_next(&reader), JSON_NUMBER);
        assert_int_equal(json_u64(&reader, &integer), cases[i].is_integer);
        assert_int_equal(integer, cases[i].integer);
        assert_int_equal(json_double(&reader, &number), cases[i].is_finite);
    }
}

static void
test_text_is(void **state)
{
    static const struct {
        const char *text;
        const char *means;
    } cases[] = {
        {"\"\"", ""},
        {"\"hash_ids\"", "hash_ids"},
        {"\"h\\u0061sh\\u005fids\"", "hash_ids"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"\\u00e9\\u20ac\\ud83d\\ude00\"", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct json_reader reader = json_reader_make(cases[i].text, strlen(cases[i].text));

        assert_int_equal(json_next(&reader), JSON_STRING);
        assert_true(json_text_is(&reader, cases[i].means));
        assert_false(json_text_is(&reader, "other"));
        assert_false(json_text_is(&reader, "hash_id"));
        assert_false(json_text_is(&reader, "hash_ids2"));
    }
}

static void
test_skip(void **state)
{
    static const char text[] = "{\"a\":[1,[2,{\"b\":3}]],\"c\":\"d\",\"e\":5}";
    struct json_reader reader = json_reader_make(text, strlen(text));
    uint64_t value;

    (void)state;
    assert_int_equal(json_next(&reader), JSON_OBJECT);
    assert_int_equal(json_next(&reader), JSON_KEY);
    assert_true(json_skip(&reader));
    assert_int_equal(json_next(&reader), JSON_KEY);
    assert_true(json_text_is(&reader, "c"));
    assert_true(json_skip(&reader));
    assert_int_equal(json_next(&reader), JSON_KEY);
    assert_true(json_text_is(&reader, "e"));
    assert_int_equal(json_next(&reader), JSON_NUMBER);
    assert_true(json_u64(&reader, &value));
    assert_int_equal(value, 5);
    assert_int_equal(json_next(&reader), JSON_OBJECT_END);
    assert_int_equal(json_next(&reader), JSON_END);
}

static void
test_writer(void **state)
{
    static const uint64_t ids[] = {1, UINT64_MAX};
    static const uint8_t bytes[] = {0, 0xab};
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    struct json_writer writer;

    (void)state;
    assert_non_null(file);
    writer = json_begin(file);
    json_put_text(&writer, "t", "a\"\\\n\xc3\xa9\xff");
    json_put_u64(&writer, "u", UINT64_MAX);
    json_put_double(&writer, "d", 0.25);
    json_put_double(&writer, "n", strtod("nan", NULL));
    json_put_hex(&writer, "h", bytes, sizeof(bytes));
    json_put_u64s(&writer, "ids", ids, 2);
    json_end(&writer);
    writer = json_begin(file);
    json_end(&writer);
    assert_int_equal(fclose(file), 0);
    assert_string_equal(
        text, "{\"t\": \"a\\\"\\\\\\u000a\xc3\xa9\\ufffd\", \"u\": 18446744073709551615, \"d\": 0.25, \"n\": null, "
              "\"h\": \"00ab\", \"ids\": [1, 18446744073709551615]}\n{}\n");
    assert_int_equal(count_tokens(text, strlen(text) - 3), 17);
    free(text);
}

static void
test_writer_of_arrays(void **state)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    struct json_writer writer, item;

    (void)state;
    assert_non_null(file);
    writer = json_begin(file);
    json_array_begin(&writer, "none");
    json_array_end(&writer);
    json_array_begin(&writer, "two");
    item = json_item_begin(&writer, true);
    json_put_u64(&item, "a", 1);
    json_put_u64(&item, "b", 2);
    json_item_end(&item);
    item = json_item_begin(&writer, false);
    json_item_end(&item);
    json_array_end(&writer);
    json_put_u64(&writer, "last", 3);
    json_end(&writer);
    assert_int_equal(fclose(file), 0);
    assert_string_equal(text, "{\"none\": [], \"two\": [{\"a\": 1, \"b\": 2}, {}], \"last\": 3}\n");
    free(text);
}

static void
test_damaged_texts(void **state)
{
    static const char good[] =
        "{\"timestamp\": 12.5e1, \"hash_ids\": [0, 1, 46], \"x\\ud83d\\ude00\": {\"y\": [true, null]}}";
    static const char alphabet[] = "{}[]\",:\\u0d8tfn-.eE \xc3\xa9\xf0";
    struct random random = random_make(11);
    int good_count = 0;

    (void)state;
    print_message("seed 11\n");
    for (int round = 0; round < 200000; round++) {
        char text[sizeof(good)];
        size_t size = (size_t)random_below(&random, sizeof(good));

        memcpy(text, good, sizeof(text));
        if (random_below(&random, 2) == 0)
            size = sizeof(good) - 1;
        for (uint64_t changes = random_below(&random, 4); changes > 0; changes--)
            text[random_below(&random, sizeof(good) - 1)] = random_below(&random, 2) == 0
                                                                ? (char)random_next(&random)
                                                                : alphabet[random_below(&random, sizeof(alphabet) - 1)];
        good_count += count_tokens(text, size) >= 0;
    }
    assert_true(good_count > 1000); /* damage that the grammar allows */
    assert_true(good_count < 190000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_text_is),
        cmocka_unit_test(test_skip),
        cmocka_unit_test(test_writer),
        cmocka_unit_test(test_writer_of_arrays),
        cmocka_unit_test(test_damaged_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
