/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.h - lossless coding of KV pages. Floats of 2 and 4 bytes are split into their exponents and the rest: exponents take few values and
 * are coded (Huffman, as zstd frames); the rest is noise and is stored as it is. Bytes of 8-bit floats are coded whole.
 *
 * The stored form says what it is made of, so decoding needs nothing else. It holds no checksum: whoever stores it has one over all of it. Decoding
 * trusts nothing even so: bytes that encoding did not make give VARVE_E_CORRUPT or other bytes, never a read or write out of bounds.
 *
 * Stored bytes are the same on every CPU. They may differ between versions of libzstd; each version reads those of the others.
 *
 * Threads: a struct codec serves one call at a time, any number of them may exist; codec_pool.h shares them. The other functions are pure.
 * Errors: codes only, since the caller knows which page it was.
 */
#ifndef VARVE_CODEC_CODEC_H
#define VARVE_CODEC_CODEC_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "varve.h"

#define CODEC_NOT_WORTH          1 /* positive: not an error */
#define CODEC_SAVING_MIN_PERCENT 8

struct codec;
struct env;
struct planes_ops;

/*
 * A context: 0.3 MiB, and from zstd 0.3 MiB at the first encode and 0.1 MiB at the first decode. VARVE_E_NOMEM. The caller owns it, and keeps
 * env until it is destroyed. NULL may be destroyed.
 */
int codec_create(struct env *env, struct codec **out);
void codec_destroy(struct codec *codec);

/* Split and join with this variant from now on, in place of the fastest: for tests and measurements. */
void codec_use_planes(struct codec *codec, const struct planes_ops *ops);

/* Room that the stored form of any page of `size` bytes fits in. */
uint64_t codec_bound(uint64_t size);

/*
 * Code the page that the iovecs hold (together at most VARVE_PAGE_BYTES_MAX; any lengths and addresses; elements may lie across their borders) into
 * out, which must not overlap them. *stored: the room at out, at least codec_bound(); on return the bytes used.
 *
 * VARVE_OK, or CODEC_NOT_WORTH: less than CODEC_SAVING_MIN_PERCENT saved. What is at out is valid then, too, for pages whose neighbours are
 * worth it. Always so for VARVE_ELEMENT_BYTES. VARVE_E_ARG: page too large, room too small, no such element; VARVE_E_NOMEM.
 */
int codec_encode(struct codec *codec, enum varve_element element, const struct iovec *iov, uint32_t iov_count,
                 uint8_t *out, uint64_t *stored);

/*
 * The inverse, into the first codec_original_size() bytes of the iovecs; the rest of them is untouched. VARVE_E_ARG: they are too small, and nothing was
 * written; VARVE_E_CORRUPT: their first bytes may hold anything; VARVE_E_NOMEM.
 */
int codec_decode(struct codec *codec, const uint8_t *in, uint64_t stored, const struct iovec *iov, uint32_t iov_count);

/* Bytes of the page that the `stored` bytes at `in` stand for; every length in them has been checked. VARVE_E_CORRUPT. */
int codec_original_size(const uint8_t *in, uint64_t stored, uint64_t *size);

/* Estimate, from some 2,000 elements, of stored bytes for 1,000 bytes of this page; 1000 when nothing would be saved. A few microseconds. */
uint32_t codec_sample(enum varve_element element, const struct iovec *iov, uint32_t iov_count);

#endif
