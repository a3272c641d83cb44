/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading and writing little-endian integers and LEB128 varints. A wire_reader never reads past its end: the
 * first overrun sets `failed` and every later read gives zero, so a parser checks once, at the end.
 */
#ifndef VARVE_BASE_WIRE_H
#define VARVE_BASE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WIRE_VARINT_MAX 10 /* bytes of the longest varint of 64 bits */

static inline void
wire_put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void
wire_put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static inline void
wire_put64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static inline uint16_t
wire_get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | (p[1] << 8));
}

static inline uint32_t
wire_get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t
wire_get64(const uint8_t *p)
{
    return (uint64_t)wire_get32(p) | (uint64_t)wire_get32(p + 4) << 32;
}

/* Writes at most WIRE_VARINT_MAX bytes; returns the first byte after them. */
static inline uint8_t *
wire_put_varint(uint8_t *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *p++ = (uint8_t)v;
    return p;
}

/* Small magnitudes of either sign become small varints. */
static inline uint64_t
wire_zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static inline int64_t
wire_unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

struct wire_reader {
    const uint8_t *next;
    const uint8_t *end;
    bool failed;
};

static inline struct wire_reader
wire_reader_make(const uint8_t *data, size_t size)
{
    return (struct wire_reader){.next = data, .end = data + size};
}

/* The next `size` bytes, or NULL (and failed) when there are fewer. */
static inline const uint8_t *
wire_read_bytes(struct wire_reader *reader, size_t size)
{
    const uint8_t *p = reader->next;

    if (reader->failed || (size_t)(reader->end - p) < size) {
        reader->failed = true;
        return NULL;
    }
    reader->next = p + size;
    return p;
}

static inline uint8_t
wire_read8(struct wire_reader *reader)
{
    const uint8_t *p = wire_read_bytes(reader, 1);

    return p == NULL ? 0 : *p;
}

static inline uint32_t
wire_read32(struct wire_reader *reader)
{
    const uint8_t *p = wire_read_bytes(reader, 4);

    return p == NULL ? 0 : wire_get32(p);
}

static inline uint64_t
wire_read_varint(struct wire_reader *reader)
{
    uint64_t v = 0;

    for (int shift = 0; shift < 64; shift += 7) {
        const uint8_t *p = wire_read_bytes(reader, 1);

        if (p == NULL)
            return 0;
        if (shift == 63 && *p > 1)
            break; /* more than 64 bits */
        v |= (uint64_t)(*p & 0x7f) << shift;
        if (*p < 0x80)
            return v;
    }
    reader->failed = true;
    return 0;
}

#endif
