/* SPDX-License-Identifier: Apache-2.0 */
/* Memory between the device and the pages' buffers: which slots are used, that they do not overlap, what is kept for the next call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "plain_env.h"
#include "store/bounce.h"

#define SLOT_BYTES 10000 /* not aligned: three blocks of 4 KiB */

static void
test_when_it_pays(void **state)
{
    static const struct {
        uint64_t bytes, pieces, piece_bytes;
        bool pays;
    } cases[] = {
        {256 << 10, 256, 32 << 10, true}, {256 << 10, 1, 32 << 10, false},      {16 << 10, 8, 32 << 10, false},
        {18 << 10, 9, 32 << 10, true},    {4 << 20, 128, 32 << 10, false},      {(4 << 20) - 4096, 128, 32 << 10, true},
        {0, 0, 32 << 10, false},          {4 << 20, 128, (32 << 10) + 1, true},
    };

    const struct env direct = {.direct_io = true}, cached = {.direct_io = false};

    (void)state;
    assert_false(bounce_pays(&cached, 256 << 10, 256, 32 << 10));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(bounce_pays(&direct, cases[i].bytes, cases[i].pieces, cases[i].piece_bytes), cases[i].pays);
}

static void
test_slots(void **state)
{
    struct plain_env *env = plain_env_create(NULL);
    struct buffers memory;
    struct bounce bounce = {0};
    uint8_t *slots[BOUNCE_SLOTS], *first;

    (void)state;
    buffers_init(&memory, &env->env, BOUNCE_ALIGN);
    for (int call = 0; call < 2; call++) {
        bounce_begin(&bounce, &memory, SLOT_BYTES);
        for (int i = 0; i < BOUNCE_SLOTS; i++) {
            assert_false(bounce_is_full(&bounce));
            slots[i] = bounce_take(&bounce);
            assert_non_null(slots[i]);
            assert_int_equal((uintptr_t)slots[i] % 4096, 0);
            memset(slots[i], i, SLOT_BYTES);
        }
        assert_true(bounce_is_full(&bounce));
        for (int i = 0; i < BOUNCE_SLOTS; i++)
            assert_true(slots[i][0] == i && slots[i][SLOT_BYTES - 1] == i);
        if (call == 1)
            assert_ptr_equal(slots[0], first); /* kept since the last call */
        first = slots[0];
        bounce_give_back(&bounce, slots[5]);
        bounce_give_back(&bounce, slots[2]);
        assert_ptr_equal(bounce_take(&bounce), slots[2]); /* the lowest */
        assert_ptr_equal(bounce_take(&bounce), slots[5]);
        for (int i = 0; i < BOUNCE_SLOTS; i++)
            bounce_give_back(&bounce, slots[i]);
        bounce_give_back(&bounce, NULL);
        bounce_end(&bounce);
        assert_int_equal(memory.idle_count, 1);
    }
    bounce_end(&bounce); /* nothing is held: a no-op */
    assert_int_equal(memory.idle_count, 1);
    buffers_deinit(&memory);
    plain_env_destroy(env);
}

/* A call that reads again, in larger pieces. */
static void
test_other_size(void **state)
{
    struct plain_env *env = plain_env_create(NULL);
    struct buffers memory;
    struct bounce bounce = {0};
    uint8_t *slot;

    (void)state;
    buffers_init(&memory, &env->env, BOUNCE_ALIGN);
    for (uint64_t slot_bytes = 4096; slot_bytes <= (uint64_t)1 << 20; slot_bytes *= 16) {
        bounce_begin(&bounce, &memory, slot_bytes);
        slot = bounce_take(&bounce);
        memset(slot, 1, (size_t)slot_bytes);
        bounce_give_back(&bounce, slot);
        slot = bounce_take(&bounce);
        memset(slot, 1, (size_t)slot_bytes);
        bounce_give_back(&bounce, slot);
    }
    bounce_end(&bounce);
    atomic_store(&env->alloc_fails_in, 1);
    bounce_begin(&bounce, &memory, (uint64_t)3 << 20); /* more than is kept */
    assert_null(bounce_take(&bounce));
    assert_false(bounce_is_full(&bounce));
    bounce_end(&bounce);
    buffers_deinit(&memory);
    plain_env_destroy(env);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_when_it_pays),
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_other_size),
    };

    return cmocka_run_group_tests_name("bounce", tests, NULL, NULL);
}
