/* SPDX-License-Identifier: Apache-2.0 */
/* How fast pages are checksummed: from memory, and in the cache, with the vectors that every processor has and with the widest. Prints GB/s of one core. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hash_wide.h"

#define BYTES ((size_t)1 << 30)
#define PAGE  ((size_t)64 << 10)

static double
now(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void
measure(const char *name, uint64_t (*sum)(const struct iovec *, uint32_t, uint64_t, uint64_t), uint8_t *bytes)
{
    double gb_per_s[2];
    uint64_t sums = 0;

    for (size_t cached = 0; cached < 2; cached++) {
        double began = now();

        for (size_t at = 0; at < BYTES; at += PAGE) {
            struct iovec page = {bytes + (cached == 1 ? 0 : at), PAGE};

            sums += sum(&page, 1, PAGE, at);
        }
        gb_per_s[cached] = (double)BYTES / (now() - began) / 1e9;
    }
    (void)printf("%-5s from memory %5.1f  cached %5.1f  GB/s  (%016llx)\n", name, gb_per_s[0], gb_per_s[1],
                 (unsigned long long)sums);
}

int
main(void)
{
    uint8_t *bytes = aligned_alloc((size_t)2 << 20, BYTES);

    if (bytes == NULL)
        return 1;
    memset(bytes, 3, BYTES);
    measure("plain", hash_stream_plain, bytes);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        measure("wide", hash_stream_wide, bytes);
#endif
    free(bytes);
    return 0;
}
