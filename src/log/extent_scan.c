/* SPDX-License-Identifier: Apache-2.0 */
/* Headers are decoded in a window of the file: large where they lie close together, small where payload lies between them. */
#include "log/extent_scan.h"

#include <assert.h>
#include <errno.h>

#define WINDOW_BYTES     ((size_t)1 << 20)  /* read at once where headers lie close together */
#define WINDOW_FAR_BYTES ((size_t)16 << 10) /* where they do not */
#define CLOSE_BYTES      ((uint64_t)128 << 10)

static_assert(WINDOW_BYTES > EXTENT_HEADER_BYTES_MAX + LOG_BLOCK_BYTES, "a header fits in a window");

struct extent_scan {
    struct env *env;
    struct io_queue_pool *pool;
    struct env_file *file;
    uint64_t salt;
    uint64_t offset; /* of the place to look at next */
    uint64_t end;
    uint8_t *window; /* WINDOW_BYTES, aligned */
    uint64_t window_offset;
    uint64_t window_bytes; /* valid in the window */
    bool near;             /* the last extent was small: read ahead */
};

struct extent_scan *
extent_scan_create(struct env *env, struct io_queue_pool *pool)
{
    struct extent_scan *scan = env_zalloc(env, sizeof(*scan));

    if (scan == NULL)
        return NULL;
    scan->env = env;
    scan->pool = pool;
    scan->window = env->ops->alloc(env, WINDOW_BYTES, IO_ALIGN_MAX);
    if (scan->window == NULL) {
        env_free(env, scan);
        return NULL;
    }
    return scan;
}

void
extent_scan_destroy(struct extent_scan *scan)
{
    if (scan == NULL)
        return;
    env_free(scan->env, scan->window);
    env_free(scan->env, scan);
}

void
extent_scan_begin(struct extent_scan *scan, struct env_file *file, uint64_t salt, uint64_t from, uint64_t end)
{
    assert(from % LOG_BLOCK_BYTES == 0);
    scan->file = file;
    scan->salt = salt;
    scan->offset = from;
    scan->end = end;
    scan->window_offset = from;
    scan->window_bytes = 0;
    scan->near = true;
}

/* Bytes at the scan's offset: at least `least`. NULL: there are not as many before the end, or *rc says how the device failed. */
static const uint8_t *
scan_read(struct extent_scan *scan, size_t least, size_t *available, int *rc)
{
    uint64_t offset = scan->offset;

    if (offset + least > scan->window_offset + scan->window_bytes) {
        uint64_t left = scan->end - offset;
        uint64_t bytes = scan->near ? WINDOW_BYTES : least > WINDOW_FAR_BYTES ? least : WINDOW_FAR_BYTES;

        bytes = (bytes < left ? bytes : left) & ~(uint64_t)(LOG_BLOCK_BYTES - 1);
        scan->window_offset = offset;
        scan->window_bytes = 0;
        if (bytes < least)
            return NULL;
        *rc = io_read(scan->pool, scan->file, scan->window, (size_t)bytes, offset);
        if (*rc == -EIO && bytes > least) { /* what cannot be read may be payload */
            bytes = least;
            *rc = io_read(scan->pool, scan->file, scan->window, (size_t)bytes, offset);
        }
        if (*rc < 0)
            return NULL;
        scan->window_bytes = bytes;
    }
    *available = (size_t)(scan->window_offset + scan->window_bytes - offset);
    return scan->window + (offset - scan->window_offset);
}

/* Decode the header at the scan's offset. LOG_DECODE_BAD when there is none, whatever the reason; *rc only when the device failed. */
static enum log_decode
scan_header(struct extent_scan *scan, struct extent_header *header, int *rc)
{
    enum log_decode decoded;
    const uint8_t *buf;
    size_t available;

    buf = scan_read(scan, LOG_BLOCK_BYTES, &available, rc);
    if (buf == NULL)
        return LOG_DECODE_BAD;
    decoded = extent_header_decode(buf, available, scan->salt, scan->offset, header);
    if (decoded == LOG_DECODE_SHORT) {
        buf = scan_read(scan, (size_t)log_pad(header->header_bytes, 12), &available, rc);
        if (buf == NULL)
            return LOG_DECODE_BAD;
        decoded = extent_header_decode(buf, available, scan->salt, scan->offset, header);
    }
    if (decoded == LOG_DECODE_OK && header->extent_bytes > scan->end - scan->offset)
        return LOG_DECODE_BAD; /* cut off by the end of the file */
    return decoded;
}

int
extent_scan_next(struct extent_scan *scan, struct extent_header *out)
{
    while (scan->offset + LOG_BLOCK_BYTES <= scan->end) {
        int rc = 0;
        enum log_decode decoded = scan_header(scan, out, &rc);

        if (rc < 0)
            return rc;
        if (decoded == LOG_DECODE_NEWER)
            return -EPROTO;
        if (decoded == LOG_DECODE_OK) {
            scan->near = out->extent_bytes < CLOSE_BYTES;
            scan->offset += out->extent_bytes;
            return 1;
        }
        scan->near = true;
        scan->offset += LOG_BLOCK_BYTES;
    }
    return 0;
}
