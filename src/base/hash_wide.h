/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VARVE_BASE_HASH_WIDE_H
#define VARVE_BASE_HASH_WIDE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* XXH3-64 of the first `size` > 0 bytes of the iovecs, with a seed: for every processor. */
uint64_t hash_stream_plain(const struct iovec *iov, uint32_t iov_count, uint64_t size, uint64_t seed);

/* The same, only on x86-64 where __builtin_cpu_supports("avx2"). */
uint64_t hash_stream_wide(const struct iovec *iov, uint32_t iov_count, uint64_t size, uint64_t seed);

#endif
