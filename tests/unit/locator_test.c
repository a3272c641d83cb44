/* SPDX-License-Identifier: Apache-2.0 */
/* The locator: finds all that was put in, says maybe to little else, and keeps to its size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "format/run_format.h"
#include "index/locator.h"
#include "index_model.h"

#define PROBES 1000000

struct size_case {
    uint64_t pages;
    uint64_t blocks; /* planned for; the pages are spread over them */
    uint32_t fingerprint_bits;
    uint8_t slot_bytes; /* expected */
    double bytes_per_page_max;
};

static const struct size_case cases[] = {
    {1, 1, 15, 4, 5000},           {16, 2, 15, 4, 300},
    {1000, 3, 8, 4, 10},           {100000, 160, 15, 4, 5.1},
    {1000000, 1600, 15, 4, 5.01},  {1000000, 15000, 18, 4, 5.01},
    {1000000, 15000, 19, 5, 6.0},  {1000000, 1 << 20, 24, 5, 6.0},
    {300000, 1 << 17, 15, 4, 5.1}, {300000, 1 << 18, 15, 5, 6.0},
};

static uint64_t
hash_of(uint64_t page)
{
    uint64_t state = page * 77;

    return model_random(&state);
}

static bool
may_be_at(const struct locator *locator, uint64_t hash, uint32_t block, uint32_t page)
{
    struct locator_probe probe;
    struct locator_match match;

    locator_probe_init(&probe, locator, hash);
    while (locator_probe_next(&probe, &match)) {
        if (match.block == block && match.first <= page && page < match.end)
            return true;
    }
    return false;
}

static void
check_case(struct env *env, const struct size_case *c)
{
    struct locator locator;
    uint64_t maybe = 0;

    locator_plan(&locator, c->pages, c->blocks, c->fingerprint_bits);
    assert_int_equal(locator.slot_bytes, c->slot_bytes);
    assert_true(locator.fingerprint_bits >= 15);
    assert_true(locator.block_bits + locator.page_bits + locator.fingerprint_bits <= 8 * locator.slot_bytes);
    assert_true((double)locator.bytes / (double)c->pages <= c->bytes_per_page_max);
    assert_int_equal(locator_alloc(env, &locator), VARVE_OK);
    for (uint64_t i = 0; i < c->pages; i++)
        locator_insert(&locator, hash_of(i), (uint32_t)(i % c->blocks), (uint32_t)(i % BLOCK_PAGES_MAX));
    for (uint64_t i = 0; i < c->pages; i++)
        assert_true(may_be_at(&locator, hash_of(i), (uint32_t)(i % c->blocks), (uint32_t)(i % BLOCK_PAGES_MAX)));
    for (uint64_t i = 0; i < PROBES; i++) {
        struct locator_probe probe;
        struct locator_match match;

        locator_probe_init(&probe, &locator, hash_of(c->pages + i));
        maybe += locator_probe_next(&probe, &match);
    }
    if (maybe > PROBES / 1000)
        fail_msg("%llu pages, %u fingerprint bits: %llu false positives in a million", (unsigned long long)c->pages,
                 locator.fingerprint_bits, (unsigned long long)maybe);
    locator_free(&locator);
}

static void
test_sizes(void **state)
{
    struct plain_env *env = plain_env_create(NULL);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_case(&env->env, &cases[i]);
    plain_env_destroy(env);
}

/* The same id in many blocks: all are given, although they overflow many buckets. */
static void
test_repeated_id(void **state)
{
    struct plain_env *env = plain_env_create(NULL);
    struct locator locator;
    struct locator_probe probe;
    struct locator_match match;
    bool seen[100] = {false};

    (void)state;
    locator_plan(&locator, 100, 100, 15);
    assert_int_equal(locator_alloc(&env->env, &locator), VARVE_OK);
    for (uint32_t block = 0; block < 100; block++)
        locator_insert(&locator, UINT64_C(0xffffffff00000000), block, 0); /* fingerprint 0, last bucket */
    locator_probe_init(&probe, &locator, UINT64_C(0xffffffff00000000));
    while (locator_probe_next(&probe, &match))
        seen[match.block] = true;
    for (int i = 0; i < 100; i++)
        assert_true(seen[i]);
    locator_free(&locator);
    plain_env_destroy(env);
}

/* A locator without an empty slot still answers. */
static void
test_full(void **state)
{
    struct plain_env *env = plain_env_create(NULL);
    struct locator locator;
    struct locator_probe probe;
    struct locator_match match;
    uint64_t slots;

    (void)state;
    locator_plan(&locator, 100, 100, 15);
    slots = locator.bucket_count * 16;
    assert_int_equal(locator_alloc(&env->env, &locator), VARVE_OK);
    for (uint64_t i = 0; i < slots; i++)
        locator_insert(&locator, hash_of(i), 1, 0);
    for (uint64_t i = 0; i < slots; i++)
        assert_true(may_be_at(&locator, hash_of(i), 1, 0));
    locator_probe_init(&probe, &locator, hash_of(slots));
    while (locator_probe_next(&probe, &match))
        assert_int_equal(match.block, 1);
    locator_free(&locator);
    plain_env_destroy(env);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_repeated_id),
        cmocka_unit_test(test_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
