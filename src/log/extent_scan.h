/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extent_scan.h - the valid extents of a segment's file, one after the other, by their headers alone; payload is not read.
 *
 * Writes complete in any order, so a place without a valid header (an extent that was in flight, a page's bytes, zeros) does not end
 * the scan: it goes on at the next LOG_BLOCK_BYTES until a header is valid again. Nor does payload that the device does not give. Salt and offset make it impossible to take
 * payload, or a header of an earlier file, for a header of this place.
 *
 * Threads: one at a time; several scans may read the same file.
 */
#ifndef VARVE_LOG_EXTENT_SCAN_H
#define VARVE_LOG_EXTENT_SCAN_H

#include "env/io.h"
#include "format/log_format.h"

struct extent_scan;

/* Holds a window of 1 MiB for headers, for any number of files in turn. NULL: out of memory. Destroying NULL is a no-op. */
struct extent_scan *extent_scan_create(struct env *env, struct io_queue_pool *pool);
void extent_scan_destroy(struct extent_scan *scan);

/*
 * Scan the bytes [from, end) of the segment with `salt`; from is a multiple of LOG_BLOCK_BYTES. The file stays the caller's, open until the scan
 * has ended or begins anew; ENV_OPEN_DIRECT or not.
 */
void extent_scan_begin(struct extent_scan *scan, struct env_file *file, uint64_t salt, uint64_t from, uint64_t end);

/*
 * The next extent that lies wholly before the end: 1 and *out, whose views are valid until the next call; or 0, there is none. -EPROTO: a
 * valid header of a newer format version; -ENODATA: the file is shorter than `end`; else -errno of the device. After an error: begin anew.
 */
int extent_scan_next(struct extent_scan *scan, struct extent_header *out);

/* The encoded header (header_bytes long) of what extent_scan_next() gave. */
static inline const uint8_t *
extent_scan_encoded(const struct extent_header *header)
{
    return header->ids - EXTENT_FIXED_BYTES;
}

#endif
