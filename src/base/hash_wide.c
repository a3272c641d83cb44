/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XXH3 of pages with AVX2: this file alone is compiled for it, and called where there is AVX2. The same sums as with the vectors of hash.c; on an AMD EPYC at 1.6 times
 * the speed on bytes from memory, 3 times on cached ones (bench/hash_bench). AVX-512 was slower than AVX2 from memory.
 */
#define XXH_INLINE_ALL
#include "base/hash_wide.h"

#include <assert.h>
#include <xxhash.h>

#define HASH_STREAM hash_stream_wide
#include "base/hash_stream.h"
