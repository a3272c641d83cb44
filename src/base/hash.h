/* SPDX-License-Identifier: Apache-2.0 */
/* XXH3 from libxxhash, inlined: the one checksum and the one hash of the store. */
#ifndef VARVE_BASE_HASH_H
#define VARVE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "varve.h"

#define ID_PREFIX_BYTES 16 /* of a page id, kept in the index */

/* Checksum of a structure on disk. */
uint64_t hash_bytes(const void *data, size_t size);

/* Where a page id is looked up: spreads ids over tables, apart by namespace. Only the prefix counts. */
uint64_t hash_id(uint32_t ns_id, const uint8_t id_prefix[ID_PREFIX_BYTES]);

/*
 * Checksum of a page: XXH3-64 of the stored bytes, seeded with XXH3-64 of (namespace id, little-endian uint32 || page id, 32 bytes).
 * Bytes stored under another id or namespace fail it. The bytes are the first `size` of the iovecs.
 */
uint64_t hash_page(uint32_t ns_id, const varve_id *id, const struct iovec *iov, uint32_t iov_count, uint64_t size);

#endif
