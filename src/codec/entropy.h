/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Estimates of what entropy coding saves, from a sample. A sample is runs of neighbouring elements at uneven distances: heads and channels repeat at
 * powers of two, which even distances would always hit at the same place.
 */
#ifndef VARVE_CODEC_ENTROPY_H
#define VARVE_CODEC_ENTROPY_H

#include <stddef.h>
#include <stdint.h>

#define ENTROPY_ONE_BIT   UINT64_C(1024) /* unit: 1/1024 bit */
#define ENTROPY_BYTES_MAX 65536
#define ENTROPY_CODED_MAX                                                                                              \
    (15 * ENTROPY_ONE_BIT / 2) /* planes above are stored as they are: 1/16 is not worth the time */

/* Bits of information a byte, each byte on its own, in `count` (at most ENTROPY_BYTES_MAX) bytes; corrected for the shortness of the sample. At most 8. */
uint32_t entropy_of_bytes(const uint8_t *bytes, size_t count);

/* Where run `index` of `runs` runs of `length` begins in `total` (>= runs * length): ascending, and without overlap. */
uint64_t entropy_run_begin(uint32_t index, uint32_t runs, uint32_t length, uint64_t total);

#endif
