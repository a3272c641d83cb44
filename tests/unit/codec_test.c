/* SPDX-License-Identifier: Apache-2.0 */
/* The codec: what goes in comes back, the stored bytes are those of the format on every CPU, and damaged ones harm nobody. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/wire.h"
#include "codec/codec.h"
#include "codec/codec_pool.h"
#include "codec/planes.h"
#include "index_model.h"
#include "plain_env.h"
#include "tensor_data.h"

#define ELEMENTS     5 /* enum varve_element */
#define VARIANTS_MAX 8
#define PIECES_MAX   200
#define LARGE_BYTES  ((size_t)1 << 20)
#define GUARD_BYTES  64
#define GUARD        0xa5

static struct plain_env *env;
static struct codec *codec;
static uint64_t random_state;

static int
setup(void **state)
{
    (void)state;
    env = plain_env_create(NULL);
    random_state = model_seed();
    assert_int_equal(codec_create(&env->env, &codec), VARVE_OK);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    codec_destroy(codec);
    plain_env_destroy(env);
    return 0;
}

static uint64_t
random_below(uint64_t limit)
{
    return model_random(&random_state) % limit;
}

static uint8_t *
memory(size_t size) /* of the exact size: sanitizers see an overrun */
{
    uint8_t *bytes = malloc(size == 0 ? 1 : size);

    assert_non_null(bytes);
    return bytes;
}

/* What pages are made of. */
enum content {
    CONTENT_TENSOR,
    CONTENT_NOISE,
    CONTENT_ZERO,
    CONTENT_REPEATS,
    CONTENTS,
};

static void
fill(enum content content, enum varve_element element, uint8_t *out, size_t size)
{
    static const struct float_format *const formats[ELEMENTS] = {&tensor_fp8_e5m2, &tensor_bf16, &tensor_fp16,
                                                                 &tensor_fp32, &tensor_fp8_e4m3};
    const struct float_format *format = formats[element];
    uint64_t seed = model_random(&random_state);

    memset(out, 0, size);
    if (content == CONTENT_TENSOR)
        tensor_fill(format, 1.0, seed, out, size / format->bytes);
    else if (content == CONTENT_NOISE)
        noise_fill(seed, out, size);
    else if (content == CONTENT_REPEATS)
        for (size_t i = 0; i < size; i++)
            out[i] = (uint8_t)(seed >> (8 * (i % 7)));
}

/* Cut the buffer into pieces, some of them empty or of a few bytes. */
static uint32_t
cut(uint8_t *bytes, size_t size, struct iovec *pieces)
{
    uint32_t count = 0;
    size_t part;

    for (size_t at = 0; at < size; at += part) {
        part = (size_t)random_below(random_below(2) == 0 ? 9 : size + 1);
        part = part > size - at || count == PIECES_MAX - 1 ? size - at : part;
        pieces[count++] = (struct iovec){bytes + at, part};
    }
    return count;
}

/* Encode; the caller frees the stored bytes, which have no room behind them. */
static uint8_t *
encode(enum varve_element element, uint8_t *page, size_t size, uint64_t *stored, int *rc)
{
    uint64_t room = codec_bound(size);
    uint8_t *out = memory((size_t)room), *exact;
    struct iovec pieces[PIECES_MAX];

    *stored = room;
    *rc = codec_encode(codec, element, pieces, cut(page, size, pieces), out, stored);
    assert_true(*rc == VARVE_OK || *rc == CODEC_NOT_WORTH);
    assert_true(*stored <= room);
    exact = memory((size_t)*stored);
    memcpy(exact, out, (size_t)*stored);
    free(out);
    return exact;
}

static void
check_round_trip(enum varve_element element, enum content content, size_t size)
{
    uint8_t *page = memory(size), *back = memory(size + GUARD_BYTES), *in;
    struct iovec pieces[PIECES_MAX];
    uint64_t stored, original = 0;
    int rc;

    fill(content, element, page, size);
    memset(back, GUARD, size + GUARD_BYTES);
    in = encode(element, page, size, &stored, &rc);
    assert_int_equal(codec_original_size(in, stored, &original), VARVE_OK);
    assert_int_equal(original, size);
    assert_int_equal(codec_decode(codec, in, stored, pieces, cut(back, size + GUARD_BYTES, pieces)), VARVE_OK);
    if (memcmp(page, back, size) != 0)
        fail_msg("element %d, content %d, %zu bytes: other bytes come back", (int)element, (int)content, size);
    for (size_t i = 0; i < GUARD_BYTES; i++)
        assert_int_equal(back[size + i], GUARD);
    free(page);
    free(back);
    free(in);
}

static void
test_small_pages_come_back(void **state)
{
    (void)state;
    for (size_t size = 0; size <= 4096; size += size < 300 ? 1 : 1 + (size_t)random_below(16))
        for (int element = 0; element < ELEMENTS; element++)
            for (int content = 0; content < CONTENTS; content++)
                check_round_trip((enum varve_element)element, (enum content)content, size);
}

static void
test_large_pages_come_back(void **state)
{
    (void)state;
    for (int element = 0; element < ELEMENTS; element++) {
        for (int content = 0; content < CONTENTS; content++) {
            check_round_trip((enum varve_element)element, (enum content)content, LARGE_BYTES);
            check_round_trip((enum varve_element)element, (enum content)content, (size_t)random_below(LARGE_BYTES));
        }
        check_round_trip((enum varve_element)element, CONTENT_ZERO, VARVE_PAGE_BYTES_MAX);
    }
}

static size_t
all_variants(const struct planes_ops **variants)
{
    size_t count = 0;
    const struct planes_ops *next;

    variants[count++] = &planes_plain;
    for (size_t i = 0; (next = planes_x86(i)) != NULL; i++)
        variants[count++] = next;
    for (size_t i = 0; (next = planes_neon(i)) != NULL; i++)
        variants[count++] = next;
    assert_ptr_equal(variants[count - 1], planes_best());
    return count;
}

/* As the definition in planes.h has it, bit by bit. */
static void
check_split(uint32_t width, const uint8_t *elements, size_t count, uint8_t *const *planes)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *top = elements + i * width + width - 2;
        uint32_t value = wire_get16(top), rotated = (value << 1 | value >> 15) & 0xffff;

        assert_int_equal(planes[width - 1][i], rotated >> 8);
        assert_int_equal(planes[width - 2][i], rotated & 0xff);
        for (uint32_t plane = 0; plane + 2 < width; plane++)
            assert_int_equal(planes[plane][i], elements[i * width + plane]);
    }
}

static void
check_variant(const struct planes_ops *ops, uint32_t width, size_t count)
{
    uint8_t *elements = memory(count * width), *back = memory(count * width), *planes[PLANES_MAX] = {NULL};

    noise_fill(model_random(&random_state), elements, count * width);
    for (uint32_t plane = 0; plane < width; plane++)
        planes[plane] = memory(count);
    planes_split(ops, width, elements, count, planes);
    check_split(width, elements, count, planes);
    planes_join(ops, width, (const uint8_t *const *)planes, count, back);
    if (memcmp(elements, back, count * width) != 0)
        fail_msg("%s, %u bytes an element, %zu elements: joined wrong", ops->name, width, count);
    for (uint32_t plane = 0; plane < width; plane++)
        free(planes[plane]);
    free(elements);
    free(back);
}

static void
test_variants_split_and_join_alike(void **state)
{
    const struct planes_ops *variants[VARIANTS_MAX];
    size_t count = all_variants(variants);

    (void)state;
    for (size_t i = 0; i < count; i++)
        for (size_t elements = 0; elements <= 300; elements++)
            for (uint32_t width = 2; width <= 4; width += 2)
                check_variant(variants[i], width, elements);
}

static void
test_variants_store_the_same_bytes(void **state)
{
    const struct planes_ops *variants[VARIANTS_MAX];
    size_t count = all_variants(variants), size = 300001;
    uint8_t *page = memory(size), *first = NULL, *in;
    uint64_t stored, first_stored = 0;
    int rc;

    (void)state;
    for (int element = 0; element < ELEMENTS; element++) {
        fill(CONTENT_TENSOR, (enum varve_element)element, page, size);
        for (size_t i = 0; i < count; i++) {
            codec_use_planes(codec, variants[i]);
            in = encode((enum varve_element)element, page, size, &stored, &rc);
            if (i == 0) {
                first = in;
                first_stored = stored;
                continue;
            }
            assert_int_equal(stored, first_stored);
            assert_memory_equal(in, first, (size_t)stored);
            free(in);
        }
        free(first);
    }
    codec_use_planes(codec, planes_best());
    free(page);
}

/* Pages written down by hand, so that the format cannot change unnoticed. */
static void
test_format(void **state)
{
    static const uint8_t raw[] = {1,    VARVE_ELEMENT_BF16,
                                  0,    0,
                                  5,    0,
                                  0,    0,
                                  2,    0,
                                  0,    0,
                                  2,    0,
                                  0,    0, /* lengths: 2, 2 */
                                  0x81, 0x00,
                                  0x7f, 0x80,
                                  0x55}; /* rest; exponents; the byte that is left */
    static const uint8_t raw_page[] = {0xc0, 0xbf, 0x00, 0x40, 0x55};
    static const uint8_t run[] = {1,    VARVE_ELEMENT_FP8,
                                  0,    0,
                                  200,  0,
                                  0,    0,
                                  10,   0,
                                  0,    0x80, /* coded */
                                  0x28, 0xb5,
                                  0x2f, 0xfd,
                                  0x20, 200, /* a frame of 200 bytes */
                                  0x43, 0x06,
                                  0x00, 0x3c}; /* its last block, 200 times this */
    uint8_t page[200], expected[200];
    struct iovec iov = {page, sizeof(page)};
    uint64_t size = 0;

    (void)state;
    assert_int_equal(codec_decode(codec, raw, sizeof(raw), &iov, 1), VARVE_OK);
    assert_memory_equal(page, raw_page, sizeof(raw_page));
    assert_int_equal(codec_original_size(run, sizeof(run), &size), VARVE_OK);
    assert_int_equal(size, 200);
    assert_int_equal(codec_decode(codec, run, sizeof(run), &iov, 1), VARVE_OK);
    memset(expected, 0x3c, sizeof(expected));
    assert_memory_equal(page, expected, sizeof(expected));
}

/* Bits that are flipped in the header of a bf16 page of 1,001 bytes: in each field, and so that it is too small, too large, or another length. */
static const struct damage {
    size_t offset;
    uint8_t bits;
} damages[] = {
    {0, 1},  {0, 2},    {0, 0xff},                       /* version */
    {1, 1},  {1, 2},    {1, 4},    {1, 5},    {1, 0xff}, /* element */
    {2, 1},  {3, 0x80},                                  /* zero */
    {4, 1},  {4, 2},    {4, 0x80}, {5, 1},    {5, 4},    {5, 0x80},  {6, 1},     {6, 0xff},  {7, 1},
    {7, 4},  {7, 0xff},                                                                      /* bytes of the page */
    {8, 1},  {8, 0x80}, {9, 1},    {9, 0xff}, {10, 1},   {11, 1},    {11, 0x80}, {11, 0xff}, /* length of a raw plane, coded or not */
    {12, 1}, {12, 2},   {13, 1},   {13, 2},   {14, 1},   {15, 0x40}, {15, 0x80}, {15, 0xff}, /* of a coded one */
};

static void
test_damaged_headers(void **state)
{
    size_t size = 1001;
    uint8_t *page = memory(size), *in;
    struct iovec iov = {page, size};
    uint64_t stored, original;
    int rc;

    (void)state;
    fill(CONTENT_TENSOR, VARVE_ELEMENT_BF16, page, size);
    in = encode(VARVE_ELEMENT_BF16, page, size, &stored, &rc);
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        in[damages[i].offset] ^= damages[i].bits;
        if (codec_original_size(in, stored, &original) != VARVE_E_CORRUPT ||
            codec_decode(codec, in, stored, &iov, 1) != VARVE_E_CORRUPT)
            fail_msg("bits %u of byte %zu flipped: accepted", damages[i].bits, damages[i].offset);
        in[damages[i].offset] ^= damages[i].bits;
    }
    assert_int_equal(codec_decode(codec, in, stored, &iov, 1), VARVE_OK);
    free(page);
    free(in);
}

/* Decode what may be damaged, into a buffer that ends where the page ends. */
static int
decode_damaged(const uint8_t *in, uint64_t stored, size_t size)
{
    uint8_t *back = memory(size);
    struct iovec iov = {back, size};
    int rc = codec_decode(codec, in, stored, &iov, 1);
    uint64_t original;

    /* Nothing but the header says how large the page is. */
    if (rc == VARVE_E_ARG && codec_original_size(in, stored, &original) == VARVE_OK && original > size)
        rc = VARVE_E_CORRUPT;
    free(back);
    return rc;
}

/* A frame that is whole, but of another length than the plane: what an earlier page left behind must not fill the rest. */
static void
test_frame_of_another_length(void **state)
{
    static const uint8_t lengths[] = {199, 200, 201};
    uint8_t in[] = {
        1, VARVE_ELEMENT_FP8, 0, 0, 200, 0, 0, 0, 10, 0, 0, 0x80, 0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 0, 0, 0, 0x3c};
    uint8_t page[200];
    struct iovec iov = {page, sizeof(page)};

    (void)state;
    for (size_t i = 0; i < sizeof(lengths); i++) {
        in[17] = lengths[i];
        wire_put16(in + 18, (uint16_t)(lengths[i] << 3 | 3));
        assert_int_equal(codec_decode(codec, in, sizeof(in), &iov, 1),
                         lengths[i] == sizeof(page) ? VARVE_OK : VARVE_E_CORRUPT);
    }
}

static void
test_damaged_pages(void **state)
{
    size_t size = 1003;
    uint8_t *page = memory(size), *in, *part;
    uint64_t stored;
    int rc;

    (void)state;
    for (int element = 0; element < ELEMENTS; element++) {
        fill(CONTENT_TENSOR, (enum varve_element)element, page, size);
        in = encode((enum varve_element)element, page, size, &stored, &rc);
        for (size_t length = 0; length <= stored + 1; length++) {
            part = memory(length);
            memset(part, 0, length);
            memcpy(part, in, length < stored ? length : (size_t)stored);
            assert_int_equal(decode_damaged(part, length, size), length == stored ? VARVE_OK : VARVE_E_CORRUPT);
            free(part);
        }
        for (size_t bit = 0; bit < stored * 8; bit++) {
            in[bit / 8] ^= (uint8_t)(1u << bit % 8);
            rc = decode_damaged(in, stored, size);
            assert_true(rc == VARVE_OK || rc == VARVE_E_CORRUPT);
            in[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        assert_int_equal(decode_damaged(in, stored, size), VARVE_OK);
        free(in);
    }
    free(page);
}

static void
test_bad_arguments(void **state)
{
    uint8_t page[100] = {0}, back[100], out[200];
    struct iovec iov = {page, sizeof(page)}, small = {back, 99};
    struct iovec huge[2] = {{page, VARVE_PAGE_BYTES_MAX}, {page, 1}}; /* refused before a byte is read */
    uint64_t stored = codec_bound(100) - 1;

    (void)state;
    assert_int_equal(codec_encode(codec, VARVE_ELEMENT_BF16, &iov, 1, out, &stored), VARVE_E_ARG);
    stored = sizeof(out);
    assert_int_equal(codec_encode(codec, (enum varve_element)5, &iov, 1, out, &stored), VARVE_E_ARG);
    stored = UINT64_MAX;
    assert_int_equal(codec_encode(codec, VARVE_ELEMENT_BF16, huge, 2, out, &stored), VARVE_E_ARG);
    stored = sizeof(out);
    assert_int_equal(codec_encode(codec, VARVE_ELEMENT_BF16, &iov, 1, out, &stored), VARVE_OK);
    memset(back, GUARD, sizeof(back));
    assert_int_equal(codec_decode(codec, out, stored, &small, 1), VARVE_E_ARG);
    for (size_t i = 0; i < sizeof(back); i++)
        assert_int_equal(back[i], GUARD);
    assert_int_equal(codec_decode(codec, out, stored, NULL, 0), VARVE_E_ARG);
}

/* Code a page of noise that begins with zeros. */
static int
worth_of(enum varve_element element, size_t zero_bytes, uint64_t *stored)
{
    uint8_t *page = memory(LARGE_BYTES), *in;
    int rc;

    fill(CONTENT_NOISE, element, page, LARGE_BYTES);
    memset(page, 0, zero_bytes);
    in = encode(element, page, LARGE_BYTES, stored, &rc);
    free(in);
    free(page);
    return rc;
}

static void
test_what_is_worth_it(void **state)
{
    uint64_t stored;

    (void)state;
    /* A multiple of a block's bytes is zero: next to nothing of it is stored. */
    assert_int_equal(worth_of(VARVE_ELEMENT_FP8, 0, &stored), CODEC_NOT_WORTH);
    assert_in_range(stored, LARGE_BYTES, LARGE_BYTES + 100);
    assert_int_equal(worth_of(VARVE_ELEMENT_FP8, LARGE_BYTES / 16, &stored), CODEC_NOT_WORTH);
    assert_in_range(stored, LARGE_BYTES / 16 * 15, LARGE_BYTES / 16 * 15 + 1000);
    assert_int_equal(worth_of(VARVE_ELEMENT_FP8, LARGE_BYTES / 16 * 2, &stored), VARVE_OK);
    assert_in_range(stored, LARGE_BYTES / 16 * 14, LARGE_BYTES / 16 * 14 + 1000);
    assert_int_equal(worth_of(VARVE_ELEMENT_BF16, LARGE_BYTES, &stored), VARVE_OK);
    assert_in_range(stored, 1, 1000);
    assert_int_equal(worth_of(VARVE_ELEMENT_BYTES, LARGE_BYTES, &stored), CODEC_NOT_WORTH);
    assert_int_equal(worth_of(VARVE_ELEMENT_FP32, 0, &stored), CODEC_NOT_WORTH);
}

/* Values of a KV cache: a ratio that is promised, and a sample that foresees it. */
static void
test_ratio_and_sample(void **state)
{
    static const struct {
        enum varve_element element;
        uint32_t per_mille_max;
    } cases[] = {
        {VARVE_ELEMENT_BF16, 715}, {VARVE_ELEMENT_FP16, 900}, {VARVE_ELEMENT_FP32, 860}, {VARVE_ELEMENT_FP8, 910}};
    uint8_t *page = memory(LARGE_BYTES), *in;
    struct iovec pieces[PIECES_MAX];
    uint64_t stored;
    int rc;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t estimate;

        fill(CONTENT_TENSOR, cases[i].element, page, LARGE_BYTES);
        in = encode(cases[i].element, page, LARGE_BYTES, &stored, &rc);
        assert_int_equal(rc, VARVE_OK);
        assert_in_range(stored * 1000 / LARGE_BYTES, 1, cases[i].per_mille_max);
        estimate = codec_sample(cases[i].element, pieces, cut(page, LARGE_BYTES, pieces));
        assert_in_range(estimate, stored * 1000 / LARGE_BYTES - 20, stored * 1000 / LARGE_BYTES + 20);
        assert_int_equal(codec_sample(VARVE_ELEMENT_BYTES, pieces, cut(page, LARGE_BYTES, pieces)), 1000);
        fill(CONTENT_NOISE, cases[i].element, page, LARGE_BYTES);
        assert_int_equal(codec_sample(cases[i].element, pieces, cut(page, LARGE_BYTES, pieces)), 1000);
        fill(CONTENT_ZERO, cases[i].element, page, LARGE_BYTES);
        assert_in_range(codec_sample(cases[i].element, pieces, cut(page, LARGE_BYTES, pieces)), 0, 2);
        assert_int_equal(codec_sample(cases[i].element, NULL, 0), 1000);
        assert_int_equal(codec_sample(cases[i].element, pieces, cut(page, 3, pieces)), 1000);
        free(in);
    }
    free(page);
}

/* Pages that are hardly larger than the sample, or smaller: nothing behind them is read, and a short sample of noise does not look codable. */
static void
test_sample_of_small_pages(void **state)
{
    (void)state;
    for (size_t count = 300; count < 2400; count += count < 2040 ? 87 : 1) {
        for (int element = VARVE_ELEMENT_BF16; element < ELEMENTS; element++) {
            size_t size = count * planes_count((uint32_t)element);
            uint8_t *page = memory(size);
            struct iovec iov = {page, size};

            fill(CONTENT_NOISE, (enum varve_element)element, page, size);
            assert_int_equal(codec_sample((enum varve_element)element, &iov, 1), 1000);
            free(page);
        }
    }
}

static void *
code_with_pool(void *arg)
{
    struct codec_pool *pool = arg;
    uint8_t page[3000], back[3000], out[4000];
    struct iovec iov = {page, sizeof(page)}, back_iov = {back, sizeof(back)};

    tensor_fill(&tensor_bf16, 1.0, (uint64_t)(uintptr_t)page, page, sizeof(page) / 2);
    for (int i = 0; i < 200; i++) {
        struct codec *own = NULL;
        uint64_t stored = sizeof(out);

        if (codec_pool_acquire(pool, &own) != VARVE_OK ||
            codec_encode(own, VARVE_ELEMENT_BF16, &iov, 1, out, &stored) != VARVE_OK ||
            codec_decode(own, out, stored, &back_iov, 1) != VARVE_OK || memcmp(page, back, sizeof(page)) != 0)
            return arg;
        codec_pool_release(pool, own);
    }
    return NULL;
}

static void
test_pool(void **state)
{
    struct codec *first, *second, *again;
    struct codec_pool pool;
    pthread_t threads[4];
    void *failed;
    long allocs = atomic_load(&env->allocs);

    (void)state;
    codec_pool_init(&pool, &env->env, 1);
    atomic_store(&env->alloc_fails_in, 1);
    assert_int_equal(codec_pool_acquire(&pool, &first), VARVE_E_NOMEM);
    assert_int_equal(codec_pool_acquire(&pool, &first), VARVE_OK);
    assert_int_equal(codec_pool_acquire(&pool, &second), VARVE_OK);
    assert_ptr_not_equal(first, second);
    codec_pool_release(&pool, first);
    codec_pool_release(&pool, second); /* one too many to keep */
    assert_int_equal(atomic_load(&env->allocs), allocs + 1);
    assert_int_equal(codec_pool_acquire(&pool, &again), VARVE_OK);
    assert_ptr_equal(again, first);
    codec_pool_release(&pool, again);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, code_with_pool, &pool), 0);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    codec_pool_deinit(&pool);
    assert_int_equal(atomic_load(&env->allocs), allocs);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_pages_come_back),
        cmocka_unit_test(test_large_pages_come_back),
        cmocka_unit_test(test_variants_split_and_join_alike),
        cmocka_unit_test(test_variants_store_the_same_bytes),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_damaged_headers),
        cmocka_unit_test(test_frame_of_another_length),
        cmocka_unit_test(test_damaged_pages),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_what_is_worth_it),
        cmocka_unit_test(test_ratio_and_sample),
        cmocka_unit_test(test_sample_of_small_pages),
        cmocka_unit_test(test_pool),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
