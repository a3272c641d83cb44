/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Line by line through the pull reader of json.h. Invariant: a request is handed out only when its whole line was one
 * well-formed object with numbers in range.
 */
#include "trace_read.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "json.h"

struct trace_reader {
    FILE *file;
    bool is_stdin;
    char *line;
    size_t line_capacity;
    uint64_t line_number;
    uint64_t position;
    uint64_t total;
    char name[128]; /* the end of the path, for messages */
};

void
trace_request_deinit(struct trace_request *request)
{
    free(request->hash_ids);
    *request = (struct trace_request){0};
}

bool
trace_request_add(struct trace_request *request, uint64_t hash_id)
{
    if (request->hash_count == request->hash_capacity) {
        size_t capacity = request->hash_capacity == 0 ? 64 : 2 * request->hash_capacity;
        uint64_t *ids = reallocarray(request->hash_ids, capacity, sizeof(*ids));

        if (ids == NULL)
            return false;
        request->hash_ids = ids;
        request->hash_capacity = capacity;
    }
    request->hash_ids[request->hash_count++] = hash_id;
    return true;
}

static int
parse_hash_ids(struct json_reader *json, struct trace_request *request, varve_error *err)
{
    enum json_token token;

    if (json_next(json) != JSON_ARRAY)
        return json->error != NULL ? VARVE_E_ARG : error_set(err, VARVE_E_ARG, "\"hash_ids\" must be an array");
    while ((token = json_next(json)) == JSON_NUMBER) {
        uint64_t hash_id;

        if (!json_u64(json, &hash_id))
            break;
        if (request->hash_count == TRACE_BLOCKS_MAX)
            return error_set(err, VARVE_E_ARG, "\"hash_ids\" has more than %zu entries", TRACE_BLOCKS_MAX);
        if (!trace_request_add(request, hash_id))
            return error_set(err, VARVE_E_NOMEM, "no memory for %zu hash ids", request->hash_count);
    }
    if (token != JSON_ARRAY_END)
        return json->error != NULL ? VARVE_E_ARG
                                   : error_set(err, VARVE_E_ARG, "\"hash_ids\" must hold integers from 0 to 2^64 - 1");
    return VARVE_OK;
}

/* Whole numbers; a fraction is cut off (timestamps have them in some traces). */
static int
parse_number(struct json_reader *json, const char *key, uint64_t *out, varve_error *err)
{
    enum json_token token = json_next(json);
    double value;

    if (json->error != NULL)
        return VARVE_E_ARG;
    if (token != JSON_NUMBER || !json_double(json, &value) || value < 0 || value > (double)TRACE_NUMBER_MAX)
        return error_set(err, VARVE_E_ARG, "\"%s\" must be a number from 0 to 2^53", key);
    *out = (uint64_t)value;
    return VARVE_OK;
}

enum trace_key {
    KEY_TIMESTAMP,
    KEY_INPUT_LENGTH,
    KEY_OUTPUT_LENGTH,
    KEY_BLOCK_SIZE,
    KEY_STAGE,
    KEY_HASH_IDS,
    KEY_COUNT,
};

static const char *const key_names[KEY_COUNT] = {"timestamp",  "input_length", "output_length",
                                                 "block_size", "stage",        "hash_ids"};

/* json is behind a key: take its value. *seen has a bit for each known key. */
static int
parse_member(struct json_reader *json, struct trace_request *request, unsigned *seen, varve_error *err)
{
    uint64_t *const numbers[] = {&request->timestamp_ms, &request->input_length, &request->output_length,
                                 &request->block_size, &request->stage};
    unsigned key = 0;

    while (key < KEY_COUNT && !json_text_is(json, key_names[key]))
        key++;
    if (key == KEY_COUNT)
        return json_skip(json) ? VARVE_OK : VARVE_E_ARG;
    if ((*seen & 1u << key) != 0)
        return error_set(err, VARVE_E_ARG, "\"%s\" occurs twice", key_names[key]);
    *seen |= 1u << key;
    if (key == KEY_HASH_IDS)
        return parse_hash_ids(json, request, err);
    return parse_number(json, key_names[key], numbers[key], err);
}

int
trace_parse(const char *line, size_t size, struct trace_request *request, varve_error *err)
{
    struct json_reader json = json_reader_make(line, size);
    unsigned seen = 0;
    enum json_token token;
    int rc = VARVE_OK;

    *request = (struct trace_request){.hash_ids = request->hash_ids, .hash_capacity = request->hash_capacity};
    request->block_size = TRACE_BLOCK_SIZE;
    token = json_next(&json);
    if (token != JSON_OBJECT && token != JSON_ERROR)
        return error_set(err, VARVE_E_ARG, "a JSON object was expected");
    while (rc == VARVE_OK && json_next(&json) == JSON_KEY)
        rc = parse_member(&json, request, &seen, err);
    if (rc == VARVE_OK)
        (void)json_next(&json); /* the end of the text */
    if (json.error != NULL)
        return error_set(err, VARVE_E_ARG, "not JSON: %s (column %td)", json.error, json.at - json.start + 1);
    if (rc != VARVE_OK)
        return rc;
    if ((seen & 1u << KEY_HASH_IDS) == 0)
        return error_set(err, VARVE_E_ARG, "\"hash_ids\" is missing");
    if (request->block_size == 0)
        return error_set(err, VARVE_E_ARG, "\"block_size\" must be at least 1");
    if ((seen & 1u << KEY_INPUT_LENGTH) == 0)
        request->input_length = request->hash_count * request->block_size;
    return VARVE_OK;
}

int
trace_reader_open(const char *path, struct trace_reader **out, varve_error *err)
{
    struct trace_reader *reader = calloc(1, sizeof(*reader));
    struct stat status;
    const char *base = strrchr(path, '/');

    if (reader == NULL)
        return error_set(err, VARVE_E_NOMEM, "no memory to read %s", path);
    reader->is_stdin = strcmp(path, "-") == 0;
    reader->file = reader->is_stdin ? stdin : fopen(path, "re");
    if (reader->file == NULL) {
        int rc = error_os(err, -errno, "cannot open the trace %s", path);

        free(reader);
        return rc;
    }
    (void)snprintf(reader->name, sizeof(reader->name), "%s",
                   reader->is_stdin ? "standard input"
                   : base != NULL   ? base + 1
                                    : path);
    if (fstat(fileno(reader->file), &status) == 0 && S_ISREG(status.st_mode))
        reader->total = (uint64_t)status.st_size;
    *out = reader;
    return VARVE_OK;
}

void
trace_reader_close(struct trace_reader *reader)
{
    if (reader == NULL)
        return;
    if (!reader->is_stdin)
        (void)fclose(reader->file);
    free(reader->line);
    free(reader);
}

static bool
is_blank(const char *line, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r' && line[i] != '\n')
            return false;
    }
    return true;
}

int
trace_reader_next(struct trace_reader *reader, struct trace_request *request, varve_error *err)
{
    varve_error reason = {0};
    ssize_t size;
    int rc;

    do {
        errno = 0;
        size = getline(&reader->line, &reader->line_capacity, reader->file);
        if (size < 0 && (ferror(reader->file) || errno == ENOMEM))
            return error_os(err, errno == 0 ? -EIO : -errno, "cannot read %s after line %" PRIu64, reader->name,
                            reader->line_number);
        if (size < 0)
            return VARVE_MISS;
        reader->line_number++;
        reader->position += (uint64_t)size;
    } while (is_blank(reader->line, (size_t)size));
    rc = trace_parse(reader->line, (size_t)size, request, &reason);
    if (rc < 0)
        return error_set(err, rc, "%s:%" PRIu64 ": %s", reader->name, reader->line_number, reason.message);
    return VARVE_OK;
}

void
trace_reader_position(const struct trace_reader *reader, uint64_t *done, uint64_t *total)
{
    *done = reader->position;
    *total = reader->total;
}
