/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request traces in the JSONL format that Mooncake published: one object a line with `timestamp` (ms), `input_length`
 * and `output_length` (tokens), `hash_ids` (one id per block of the prompt, root first; equal ids mean equal prefixes
 * up to that block) and `block_size` (tokens a block, 512 where absent). Other keys are ignored. Of the known ones
 * only hash_ids must be there. Traces come from anywhere: whatever the bytes, the reader answers with a request or
 * with a message that names the line.
 */
#ifndef VARVE_TOOLS_TRACE_READ_H
#define VARVE_TOOLS_TRACE_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "varve.h"

#define TRACE_BLOCK_SIZE 512                 /* tokens, where the trace does not say */
#define TRACE_BLOCKS_MAX ((size_t)1 << 20)   /* of one request: half a billion tokens at the usual block size */
#define TRACE_NUMBER_MAX ((uint64_t)1 << 53) /* of every number but the ids: exact in a double */

struct trace_request {
    uint64_t timestamp_ms;
    uint64_t input_length;
    uint64_t output_length;
    uint64_t block_size;
    uint64_t stage; /* 0: the trace has no stages */
    uint64_t *hash_ids;
    size_t hash_count;
    size_t hash_capacity;
};

/* Free what the request holds; it may be used again. A zeroed request is valid. */
void trace_request_deinit(struct trace_request *request);

/* Make room for one more id and add it. False: out of memory. */
bool trace_request_add(struct trace_request *request, uint64_t hash_id);

/*
 * Parse one line (no newline needed) into *request, whose memory is reused. VARVE_OK, VARVE_E_ARG or VARVE_E_NOMEM
 * with *err filled.
 */
int trace_parse(const char *line, size_t size, struct trace_request *request, varve_error *err);

struct trace_reader;

/* Open the file at `path`, or standard input for "-". The caller owns the reader. One thread at a time. */
int trace_reader_open(const char *path, struct trace_reader **out, varve_error *err);
void trace_reader_close(struct trace_reader *reader);

/* The next request: VARVE_OK, VARVE_MISS at the end, or an error whose message begins with file and line. */
int trace_reader_next(struct trace_reader *reader, struct trace_request *request, varve_error *err);

/* Bytes read so far and the size of the file, 0 where it is not known (a pipe): for a progress line. */
void trace_reader_position(const struct trace_reader *reader, uint64_t *done, uint64_t *total);

#endif
