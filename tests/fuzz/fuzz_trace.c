/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line of a trace, and JSON at large, from arbitrary text. The reader's tokens nest, stay inside the text and come to an end; a request that is
 * accepted says the same when it is written and read again.
 */
#include "trace_read.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "json.h"

/* Read all tokens. Returns whether the text is JSON. */
static bool
check_tokens(const char *text, size_t size)
{
    struct json_reader reader = json_reader_make(text, size);
    size_t tokens = 0;
    int depth = 0;

    for (;;) {
        enum json_token token = json_next(&reader);
        uint64_t whole;
        double number;

        fuzz_require(reader.at >= text && reader.at <= text + size, "the reader left its text");
        if (token == JSON_ERROR) {
            fuzz_require(reader.error != NULL && json_next(&reader) == JSON_ERROR, "an error does not stay");
            return false;
        }
        if (token == JSON_END)
            break;
        depth += (token == JSON_OBJECT || token == JSON_ARRAY) - (token == JSON_OBJECT_END || token == JSON_ARRAY_END);
        fuzz_require(depth >= 0 && depth <= JSON_DEPTH_MAX && tokens++ <= size, "tokens do not nest, or do not end");
        if (token == JSON_KEY || token == JSON_STRING || token == JSON_NUMBER)
            fuzz_require(reader.text >= text && reader.text_size <= (size_t)(text + size - reader.text),
                         "a text outside of the text");
        if (token == JSON_NUMBER && json_u64(&reader, &whole) && json_double(&reader, &number))
            fuzz_require(number == (double)whole, "two values of one number");
    }
    fuzz_require(depth == 0 && json_next(&reader) == JSON_END, "the end does not stay");
    return true;
}

static char *
write_request(const struct trace_request *request, size_t *size)
{
    char *text = NULL;
    FILE *file = open_memstream(&text, size);
    struct json_writer writer;

    if (file == NULL)
        abort();
    writer = json_begin(file);
    json_put_u64(&writer, "timestamp", request->timestamp_ms);
    json_put_u64(&writer, "input_length", request->input_length);
    json_put_u64(&writer, "output_length", request->output_length);
    json_put_u64(&writer, "block_size", request->block_size);
    json_put_u64(&writer, "stage", request->stage);
    json_put_u64s(&writer, "hash_ids", request->hash_ids, request->hash_count);
    json_end(&writer);
    (void)fclose(file);
    return text;
}

static void
check_request(const struct trace_request *request)
{
    struct trace_request again = {.hash_ids = NULL};
    size_t size;
    char *text;

    fuzz_require(request->timestamp_ms <= TRACE_NUMBER_MAX && request->output_length <= TRACE_NUMBER_MAX &&
                     request->block_size >= 1 && request->block_size <= TRACE_NUMBER_MAX &&
                     request->stage <= TRACE_NUMBER_MAX && request->hash_count <= TRACE_BLOCKS_MAX,
                 "a number out of range");
    if (request->input_length > TRACE_NUMBER_MAX) /* not in the line: it follows from the number of blocks */
        return;
    text = write_request(request, &size);
    fuzz_require(trace_parse(text, size, &again, NULL) == VARVE_OK, "what was written can not be read");
    fuzz_require(again.timestamp_ms == request->timestamp_ms && again.input_length == request->input_length &&
                     again.output_length == request->output_length && again.block_size == request->block_size &&
                     again.stage == request->stage && again.hash_count == request->hash_count,
                 "a number changes when it is written and read");
    fuzz_require(request->hash_count == 0 ||
                     memcmp(again.hash_ids, request->hash_ids, request->hash_count * sizeof(uint64_t)) == 0,
                 "an id changes when it is written and read");
    trace_request_deinit(&again);
    free(text);
}

/* Any text survives as a JSON string. */
static void
check_text(const char *text)
{
    size_t size;
    char *line = NULL;
    FILE *file = open_memstream(&line, &size);
    struct json_writer writer;

    if (file == NULL)
        abort();
    writer = json_begin(file);
    json_put_text(&writer, "text", text);
    json_put_hex(&writer, "hex", (const uint8_t *)text, strlen(text));
    json_end(&writer);
    (void)fclose(file);
    fuzz_require(check_tokens(line, size), "the writer made something that is not JSON");
    free(line);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trace_request request = {.hash_ids = NULL};
    char *text = malloc(size + 1);
    varve_error err = {0};
    bool is_json;
    int rc;

    if (text == NULL)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    is_json = check_tokens((const char *)data, size);
    rc = trace_parse((const char *)data, size, &request, &err);
    if (rc == VARVE_OK) {
        fuzz_require(is_json, "a request that is not JSON");
        check_request(&request);
    } else {
        fuzz_require(rc == VARVE_E_ARG && err.code == rc && err.message[0] != '\0', "a refusal without a reason");
    }
    check_text(text);
    trace_request_deinit(&request);
    free(text);
    return 0;
}

size_t
fuzz_example(struct sim_rng *rng, uint8_t *out)
{
    static const char *const extras[] = {
        "",
        ", \"type\": \"text\"",
        ", \"a\": [1, -2.5e-3, {\"b\": [[], {}, null, true, false]}]",
        ", \"\\u0062lock_siz\\u0065\": 16",
        ", \"name\": \"\\ud83d\\ude00 \\\" \\\\ \\/ \\b\\f\\n\\r\\t \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
        ", \"stage\": 2.75, \"block_size\": 1e2",
    };
    char *text = (char *)out;
    int size = snprintf(text, 256, "{\"timestamp\": %" PRIu64 ", \"input_length\": %" PRIu64 ", \"hash_ids\": [",
                        sim_rng_log(rng, UINT64_MAX), sim_rng_log(rng, 100000));

    for (uint64_t left = sim_rng_log(rng, 20); left > 0; left--)
        size += snprintf(text + size, 32, "%" PRIu64 "%s", sim_rng_log(rng, UINT64_MAX), left > 1 ? ", " : "");
    size += snprintf(text + size, 256, "], \"output_length\": %" PRIu64 "%s}\n", sim_rng_log(rng, 1000),
                     extras[sim_rng_below(rng, sizeof(extras) / sizeof(extras[0]))]);
    return (size_t)size;
}
