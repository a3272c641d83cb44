/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader is a state machine over the text: `state` says what the grammar allows next, `objects` and `depth` are
 * its stack. Invariant: start <= at <= end, and every dereference of `at` comes after a comparison with `end`.
 */
#include "json.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum json_state {
    EXPECT_VALUE,
    EXPECT_VALUE_OR_END, /* after [ */
    EXPECT_KEY,
    EXPECT_KEY_OR_END, /* after { */
    AFTER_VALUE,
    FAILED,
};

/* Bytes of the UTF-8 character at p, 0 if it is malformed, overlong, a surrogate or beyond U+10FFFF. */
static size_t
utf8_length(const char *p, const char *end)
{
    const unsigned char *s = (const unsigned char *)p;
    size_t length;

    if (s[0] < 0x80)
        return 1;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    length = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if ((size_t)(end - p) < length)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return length;
}

static void
write_string(FILE *file, const char *text)
{
    const char *end = text + strlen(text);

    (void)fputc('"', file);
    while (text < end) {
        size_t length = utf8_length(text, end);

        if (length == 0) {
            (void)fputs("\\ufffd", file);
            length = 1;
        } else if (*text == '"' || *text == '\\') {
            (void)fprintf(file, "\\%c", *text);
        } else if ((unsigned char)*text < 0x20) {
            (void)fprintf(file, "\\u%04x", (unsigned)*text);
        } else {
            (void)fwrite(text, 1, length, file);
        }
        text += length;
    }
    (void)fputc('"', file);
}

static void
write_key(struct json_writer *writer, const char *key)
{
    (void)fputs(writer->first ? "{" : ", ", writer->file);
    writer->first = false;
    write_string(writer->file, key);
    (void)fputs(": ", writer->file);
}

struct json_writer
json_begin(FILE *file)
{
    return (struct json_writer){.file = file, .first = true};
}

void
json_put_text(struct json_writer *writer, const char *key, const char *value)
{
    write_key(writer, key);
    write_string(writer->file, value);
}

void
json_put_u64(struct json_writer *writer, const char *key, uint64_t value)
{
    write_key(writer, key);
    (void)fprintf(writer->file, "%" PRIu64, value);
}

void
json_put_double(struct json_writer *writer, const char *key, double value)
{
    write_key(writer, key);
    if (isfinite(value))
        (void)fprintf(writer->file, "%.6g", value);
    else
        (void)fputs("null", writer->file);
}

void
json_put_hex(struct json_writer *writer, const char *key, const uint8_t *bytes, size_t size)
{
    write_key(writer, key);
    (void)fputc('"', writer->file);
    for (size_t i = 0; i < size; i++)
        (void)fprintf(writer->file, "%02x", bytes[i]);
    (void)fputc('"', writer->file);
}

void
json_put_u64s(struct json_writer *writer, const char *key, const uint64_t *values, size_t count)
{
    write_key(writer, key);
    (void)fputc('[', writer->file);
    for (size_t i = 0; i < count; i++)
        (void)fprintf(writer->file, "%s%" PRIu64, i == 0 ? "" : ", ", values[i]);
    (void)fputc(']', writer->file);
}

void
json_put_texts(struct json_writer *writer, const char *key, const char *const *values, size_t count)
{
    write_key(writer, key);
    (void)fputc('[', writer->file);
    for (size_t i = 0; i < count; i++) {
        (void)fputs(i == 0 ? "" : ", ", writer->file);
        write_string(writer->file, values[i]);
    }
    (void)fputc(']', writer->file);
}

void
json_array_begin(struct json_writer *writer, const char *key)
{
    write_key(writer, key);
    (void)fputc('[', writer->file);
}

struct json_writer
json_item_begin(struct json_writer *writer, bool first)
{
    if (!first)
        (void)fputs(", ", writer->file);
    return json_begin(writer->file);
}

void
json_item_end(struct json_writer *item)
{
    (void)fputs(item->first ? "{}" : "}", item->file);
}

void
json_array_end(struct json_writer *writer)
{
    (void)fputc(']', writer->file);
}

void
json_end(struct json_writer *writer)
{
    (void)fputs(writer->first ? "{}\n" : "}\n", writer->file);
}

struct json_reader
json_reader_make(const char *text, size_t size)
{
    return (struct json_reader){.start = text, .at = text, .end = text + size, .state = EXPECT_VALUE};
}

static enum json_token
fail(struct json_reader *reader, const char *error)
{
    reader->state = FAILED;
    reader->error = error;
    return JSON_ERROR;
}

static void
skip_space(struct json_reader *reader)
{
    while (reader->at < reader->end &&
           (*reader->at == ' ' || *reader->at == '\t' || *reader->at == '\n' || *reader->at == '\r'))
        reader->at++;
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The four digits after \u, or -1. */
static int
hex_unit(const char *p, const char *end)
{
    int unit = 0;

    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(p[i]);

        if (digit < 0)
            return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

/* `at` is behind a backslash: the length of the escape after it, 0 when it is none. */
static size_t
escape_length(const char *p, const char *end)
{
    int unit;

    if (p >= end)
        return 0;
    if (*p != 'u')
        return *p != '\0' && strchr("\"\\/bfnrt", *p) != NULL ? 1 : 0;
    unit = hex_unit(p + 1, end);
    if (unit < 0 || (unit >= 0xdc00 && unit <= 0xdfff))
        return 0;
    if (unit < 0xd800 || unit > 0xdbff)
        return 5;
    if (end - p < 11 || p[5] != '\\' || p[6] != 'u')
        return 0; /* half of a surrogate pair */
    unit = hex_unit(p + 7, end);
    return unit >= 0xdc00 && unit <= 0xdfff ? 11 : 0;
}

/* `at` is on the opening quote; afterwards behind the closing one. */
static bool
scan_string(struct json_reader *reader)
{
    const char *p = reader->at + 1;

    reader->text = p;
    while (p < reader->end && *p != '"') {
        size_t length;

        if ((unsigned char)*p < 0x20) {
            reader->at = p;
            (void)fail(reader, "control character in a string");
            return false;
        }
        length = *p == '\\' ? escape_length(p + 1, reader->end) : utf8_length(p, reader->end);
        if (length == 0) {
            reader->at = p;
            (void)fail(reader, *p == '\\' ? "bad escape in a string" : "a string is not UTF-8");
            return false;
        }
        p += length + (*p == '\\');
    }
    reader->at = p;
    if (p >= reader->end) {
        (void)fail(reader, "a string has no end");
        return false;
    }
    reader->text_size = (size_t)(p - reader->text);
    reader->at = p + 1;
    return true;
}

static size_t
scan_digits(struct json_reader *reader)
{
    const char *first = reader->at;

    while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9')
        reader->at++;
    return (size_t)(reader->at - first);
}

static bool
accept_one(struct json_reader *reader, const char *characters)
{
    if (reader->at >= reader->end || *reader->at == '\0' || strchr(characters, *reader->at) == NULL)
        return false;
    reader->at++;
    return true;
}

static enum json_token
scan_number(struct json_reader *reader)
{
    reader->text = reader->at;
    (void)accept_one(reader, "-");
    if (!accept_one(reader, "0") && scan_digits(reader) == 0)
        return fail(reader, "a value was expected");
    if (accept_one(reader, ".") && scan_digits(reader) == 0)
        return fail(reader, "digits were expected after the point");
    if (accept_one(reader, "eE")) {
        (void)accept_one(reader, "+-");
        if (scan_digits(reader) == 0)
            return fail(reader, "digits were expected in the exponent");
    }
    reader->text_size = (size_t)(reader->at - reader->text);
    reader->state = AFTER_VALUE;
    return JSON_NUMBER;
}

static enum json_token
scan_word(struct json_reader *reader, const char *word, enum json_token token)
{
    size_t size = strlen(word);

    if ((size_t)(reader->end - reader->at) < size || memcmp(reader->at, word, size) != 0)
        return fail(reader, "a value was expected");
    reader->at += size;
    reader->state = AFTER_VALUE;
    return token;
}

static enum json_token
open_container(struct json_reader *reader, bool object)
{
    if (reader->depth >= JSON_DEPTH_MAX)
        return fail(reader, "nested too deep");
    reader->at++;
    reader->objects &= ~((uint64_t)1 << reader->depth);
    reader->objects |= (uint64_t)object << reader->depth;
    reader->depth++;
    reader->state = object ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
    return object ? JSON_OBJECT : JSON_ARRAY;
}

static bool
in_object(const struct json_reader *reader)
{
    return reader->depth > 0 && (reader->objects >> (reader->depth - 1) & 1) != 0;
}

static enum json_token
close_container(struct json_reader *reader)
{
    bool object = in_object(reader);

    assert(reader->depth > 0);
    reader->at++;
    reader->depth--;
    reader->state = AFTER_VALUE;
    return object ? JSON_OBJECT_END : JSON_ARRAY_END;
}

static enum json_token
next_value(struct json_reader *reader)
{
    switch (*reader->at) {
    case '{':
        return open_container(reader, true);
    case '[':
        return open_container(reader, false);
    case '"':
        if (!scan_string(reader))
            return JSON_ERROR;
        reader->state = AFTER_VALUE;
        return JSON_STRING;
    case 't':
        return scan_word(reader, "true", JSON_TRUE);
    case 'f':
        return scan_word(reader, "false", JSON_FALSE);
    case 'n':
        return scan_word(reader, "null", JSON_NULL);
    default:
        return scan_number(reader);
    }
}

static enum json_token
next_key(struct json_reader *reader)
{
    const char *text;
    size_t text_size;

    if (*reader->at != '"')
        return fail(reader, "a key in quotes was expected");
    if (!scan_string(reader))
        return JSON_ERROR;
    text = reader->text;
    text_size = reader->text_size;
    skip_space(reader);
    if (!accept_one(reader, ":"))
        return fail(reader, "a colon was expected after the key");
    reader->text = text;
    reader->text_size = text_size;
    reader->state = EXPECT_VALUE;
    return JSON_KEY;
}

enum json_token
json_next(struct json_reader *reader)
{
    if (reader->state == FAILED)
        return JSON_ERROR;
    skip_space(reader);
    if (reader->state == AFTER_VALUE && reader->depth == 0)
        return reader->at == reader->end ? JSON_END : fail(reader, "more text after the value");
    if (reader->at == reader->end)
        return fail(reader, "the text ends too early");
    if (reader->state == AFTER_VALUE) {
        if (*reader->at == (in_object(reader) ? '}' : ']'))
            return close_container(reader);
        if (!accept_one(reader, ","))
            return fail(reader, "a comma or the end was expected");
        reader->state = in_object(reader) ? EXPECT_KEY : EXPECT_VALUE;
        skip_space(reader);
        if (reader->at == reader->end)
            return fail(reader, "the text ends too early");
    }
    if ((reader->state == EXPECT_KEY_OR_END && *reader->at == '}') ||
        (reader->state == EXPECT_VALUE_OR_END && *reader->at == ']'))
        return close_container(reader);
    if (reader->state == EXPECT_KEY || reader->state == EXPECT_KEY_OR_END)
        return next_key(reader);
    return next_value(reader);
}

bool
json_skip(struct json_reader *reader)
{
    unsigned depth = reader->depth;

    do {
        if (json_next(reader) == JSON_ERROR)
            return false;
    } while (reader->depth > depth);
    return true;
}

/* One character of a checked string to UTF-8, at most 4 bytes; advances *p. */
static size_t
decode(const char **p, const char *end, char out[4])
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    const char *s = *p;
    uint32_t code;

    if (*s != '\\') {
        size_t length = utf8_length(s, end);

        memcpy(out, s, length);
        *p = s + length;
        return length;
    }
    if (s[1] != 'u') {
        out[0] = values[strchr(names, s[1]) - names];
        *p = s + 2;
        return 1;
    }
    code = (uint32_t)hex_unit(s + 2, end);
    *p = s + 6;
    if (code >= 0xd800 && code <= 0xdbff) {
        code = 0x10000 + ((code - 0xd800) << 10) + ((uint32_t)hex_unit(s + 8, end) - 0xdc00);
        *p = s + 12;
    }
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

bool
json_text_is(const struct json_reader *reader, const char *text)
{
    const char *p = reader->text;
    const char *end = p + reader->text_size;
    size_t left = strlen(text);

    while (p < end) {
        char character[4];
        size_t length = decode(&p, end, character);

        if (length > left || memcmp(character, text, length) != 0)
            return false;
        text += length;
        left -= length;
    }
    return left == 0;
}

bool
json_u64(const struct json_reader *reader, uint64_t *value)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < reader->text_size; i++) {
        char c = reader->text[i];

        if (c < '0' || c > '9' || __builtin_mul_overflow(sum, 10, &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(c - '0'), &sum))
            return false;
    }
    *value = sum;
    return true;
}

bool
json_double(const struct json_reader *reader, double *value)
{
    char copy[64];

    if (reader->text_size >= sizeof(copy))
        return false;
    memcpy(copy, reader->text, reader->text_size);
    copy[reader->text_size] = '\0';
    *value = strtod(copy, NULL);
    return isfinite(*value);
}
