/* SPDX-License-Identifier: Apache-2.0 */
/* A position in the bytes of several iovecs. Callers never move past the last byte: they know the total. */
#ifndef VARVE_CODEC_IOV_CURSOR_H
#define VARVE_CODEC_IOV_CURSOR_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

struct iov_cursor {
    const struct iovec *iov; /* the present one, or the first of those to come */
    const struct iovec *end;
    size_t used; /* of *iov */
};

static inline struct iov_cursor
iov_cursor_make(const struct iovec *iov, uint32_t count)
{
    return (struct iov_cursor){.iov = iov, .end = iov == NULL ? NULL : iov + count};
}

static inline uint64_t
iov_total(const struct iovec *iov, uint32_t count)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < count; i++)
        total += iov[i].iov_len;
    return total;
}

/* One more piece of memory, or the last one longer where it goes on. The caller has room for it. */
static inline void
iov_append(struct iovec *iov, uint32_t *count, void *base, size_t size)
{
    if (*count > 0 && (uint8_t *)iov[*count - 1].iov_base + iov[*count - 1].iov_len == (uint8_t *)base)
        iov[*count - 1].iov_len += size;
    else
        iov[(*count)++] = (struct iovec){base, size};
}

/* The contiguous bytes from here on: at least one. */
static inline uint8_t *
iov_cursor_piece(struct iov_cursor *cursor, size_t *size)
{
    while (cursor->iov < cursor->end && cursor->used == cursor->iov->iov_len) {
        cursor->iov++;
        cursor->used = 0;
    }
    assert(cursor->iov < cursor->end);
    *size = cursor->iov->iov_len - cursor->used;
    return (uint8_t *)cursor->iov->iov_base + cursor->used;
}

static inline void
iov_cursor_read(struct iov_cursor *cursor, uint8_t *out, size_t size)
{
    while (size > 0) {
        size_t part;
        const uint8_t *piece = iov_cursor_piece(cursor, &part);

        part = part < size ? part : size;
        memcpy(out, piece, part);
        cursor->used += part;
        out += part;
        size -= part;
    }
}

static inline void
iov_cursor_write(struct iov_cursor *cursor, const uint8_t *in, size_t size)
{
    while (size > 0) {
        size_t part;
        uint8_t *piece = iov_cursor_piece(cursor, &part);

        part = part < size ? part : size;
        memcpy(piece, in, part);
        cursor->used += part;
        in += part;
        size -= part;
    }
}

static inline void
iov_cursor_skip(struct iov_cursor *cursor, size_t size)
{
    while (size > 0) {
        size_t part;

        (void)iov_cursor_piece(cursor, &part);
        part = part < size ? part : size;
        cursor->used += part;
        size -= part;
    }
}

#endif
