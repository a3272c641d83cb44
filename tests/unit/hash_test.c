/* SPDX-License-Identifier: Apache-2.0 */
/* The sums of all kinds of vectors are those of libxxhash, however the bytes are spread over iovecs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <xxhash.h>

#include "base/hash_wide.h"
#include "random.h"

#define BYTES_MAX ((size_t)300 << 10)
#define PARTS_MAX 16
#define TRIES     2000

/* Cut `size` bytes into parts, some of them empty, the last one longer than is asked for. */
static uint32_t
cut(struct random *random, uint8_t *bytes, size_t size, struct iovec *iov)
{
    uint32_t count = 1 + (uint32_t)random_below(random, PARTS_MAX);

    for (uint32_t i = 0; i < count; i++) {
        size_t part = i + 1 == count ? size : (size_t)random_below(random, size + 1);

        iov[i] = (struct iovec){bytes, part};
        bytes += part;
        size -= part;
    }
    iov[count - 1].iov_len += random_below(random, 64);
    return count;
}

static void
test_sums(void **state)
{
    struct random random = random_make(7);
    uint8_t *bytes = malloc(BYTES_MAX + 64);
    struct iovec iov[PARTS_MAX];

    (void)state;
    assert_non_null(bytes);
    for (size_t i = 0; i < BYTES_MAX + 64; i++)
        bytes[i] = (uint8_t)random_below(&random, 256);
    for (int i = 0; i < TRIES; i++) {
        size_t size = 1 + (size_t)random_below(&random, i % 8 == 0 ? BYTES_MAX : 600);
        uint64_t seed = random_below(&random, UINT64_MAX);
        uint32_t count = cut(&random, bytes, size, iov);
        uint64_t sum = XXH3_64bits_withSeed(bytes, size, seed);

        assert_int_equal(hash_stream_plain(iov, count, size, seed), sum);
#if defined(__x86_64__)
        if (__builtin_cpu_supports("avx2"))
            assert_int_equal(hash_stream_wide(iov, count, size, seed), sum);
#endif
    }
    free(bytes);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
