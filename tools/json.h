/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON, as much as the command needs: a writer of one object a line, and a strict pull reader (RFC 8259, UTF-8
 * checked). The reader works in place on bytes that nobody has checked: it never reads past the end, never allocates,
 * never recurses, and after an error it stays there.
 */
#ifndef VARVE_TOOLS_JSON_H
#define VARVE_TOOLS_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Writes { "key": value, ... } and a newline. Errors stay in the FILE: ask ferror() at the end. */
struct json_writer {
    FILE *file;
    bool first;
};

struct json_writer json_begin(FILE *file);
void json_put_text(struct json_writer *writer, const char *key, const char *value); /* bad UTF-8 becomes U+FFFD */
void json_put_u64(struct json_writer *writer, const char *key, uint64_t value);
void json_put_double(struct json_writer *writer, const char *key, double value); /* null when not finite */
void json_put_hex(struct json_writer *writer, const char *key, const uint8_t *bytes, size_t size);
void json_put_u64s(struct json_writer *writer, const char *key, const uint64_t *values, size_t count);
void json_put_texts(struct json_writer *writer, const char *key, const char *const *values, size_t count);
void json_end(struct json_writer *writer);

/* An array of objects: begin; for each item a writer of its own, from json_item_begin() to json_item_end(); end. */
void json_array_begin(struct json_writer *writer, const char *key);
struct json_writer json_item_begin(struct json_writer *writer, bool first);
void json_item_end(struct json_writer *item);
void json_array_end(struct json_writer *writer);

#define JSON_DEPTH_MAX 64

enum json_token {
    JSON_ERROR, /* reader->error says what, reader->at where */
    JSON_END,   /* after one whole value */
    JSON_OBJECT,
    JSON_OBJECT_END,
    JSON_ARRAY,
    JSON_ARRAY_END,
    JSON_KEY,
    JSON_STRING,
    JSON_NUMBER,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL,
};

struct json_reader {
    const char *start;
    const char *at;
    const char *end;
    const char *error; /* NULL: none so far */
    const char *text;  /* of a key, string (without the quotes, still escaped) or number */
    size_t text_size;
    uint64_t objects; /* bit d: the container at depth d + 1 is an object */
    unsigned depth;
    int state; /* what may come next */
};

/* One JSON value in text[0, size); the text must outlive the reader. */
struct json_reader json_reader_make(const char *text, size_t size);

enum json_token json_next(struct json_reader *reader);

/* After JSON_KEY: pass over its value, whatever it is. False: an error was met. */
bool json_skip(struct json_reader *reader);

/* After JSON_KEY or JSON_STRING: whether it spells `text`, escapes resolved. */
bool json_text_is(const struct json_reader *reader, const char *text);

/*
 * After JSON_NUMBER: its value as an integer of 64 bits; false when it is none (a sign, a fraction, an exponent, too
 * large).
 */
bool json_u64(const struct json_reader *reader, uint64_t *value);

/* After JSON_NUMBER: its value; false when it is not finite or absurdly long. */
bool json_double(const struct json_reader *reader, double *value);

#endif
