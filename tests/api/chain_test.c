/* SPDX-License-Identifier: Apache-2.0 */
/*
 * varve_chain() against vectors computed with another implementation of SHA-256 (Python's hashlib: the previous digest, if any, then
 * the tokens as little-endian uint32). The ids of a prompt must be those that SGLang computes, or nothing would be found.
 */
#include "api_util.h"

#include <stdio.h>
#include <string.h>

#define TOKENS_MAX 2000

static void
assert_id(const varve_id *id, const char *hex)
{
    char text[2 * VARVE_ID_BYTES + 1];

    for (size_t i = 0; i < VARVE_ID_BYTES; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", id->bytes[i]);
    assert_string_equal(text, hex);
}

static void
test_vectors(void **state)
{
    static const char *const eight_by_four[] = {"baed642339816affb3fe8719792d0e4ce82f12db72b7373d244eaa65445800fe",
                                                "01414b052706d93bd0f1f1646c0e8ca2fa8ef5efd7bcc99f7a1cee8eb11ad052"};
    static const char *const extremes[] = {"ad95131bc0b799c0b1af477fb14fcf26a6a9f76079e48bf090acb7e8367bfd0e",
                                           "1f5d91f54f99c91c22ac9d5eb258f8fa9fe04e6ddb926c3e6d42aa7587d46c5f",
                                           "43131a200a0b339102fa6dc64b9c32296d1cbb059d99ee0d8b0ff930b8074deb"};
    static const char *const thousands[] = {"c77fd3a657f86eee08952346275d95b7d8e91b1947dfc89a7aa78f93cf33d286",
                                            "62e2a0e34126041dbc08ee24fbc7b2f4526e30f7562df1273c74c5e8617da1b4"};
    static const uint32_t extreme_tokens[] = {0xffffffff, 0x80000000, 1};
    static const uint32_t small_tokens[] = {1, 2, 3};
    uint32_t tokens[TOKENS_MAX];
    varve_id ids[3], prior;

    (void)state;
    for (uint32_t i = 0; i < 8; i++)
        tokens[i] = i;
    assert_int_equal(varve_chain(tokens, 8, 4, NULL, ids), 2);
    assert_id(&ids[0], eight_by_four[0]);
    assert_id(&ids[1], eight_by_four[1]);
    assert_int_equal(varve_chain(tokens, 1, 1, NULL, ids), 1);
    assert_id(&ids[0], "df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119");
    assert_int_equal(varve_chain(extreme_tokens, 3, 1, NULL, ids), 3);
    for (size_t i = 0; i < 3; i++)
        assert_id(&ids[i], extremes[i]);
    for (uint32_t i = 0; i < TOKENS_MAX; i++)
        tokens[i] = i * 2654435761u;
    assert_int_equal(varve_chain(tokens, TOKENS_MAX, 1000, NULL, ids), 2);
    assert_id(&ids[0], thousands[0]);
    assert_id(&ids[1], thousands[1]);
    for (size_t i = 0; i < VARVE_ID_BYTES; i++)
        prior.bytes[i] = (uint8_t)i;
    assert_int_equal(varve_chain(small_tokens, 3, 3, &prior, ids), 1);
    assert_id(&ids[0], "11201576a8c81b071b734298e1d9702565ddcde9f0d9e3a50fda64a69e644ef0");
}

/* A chain computed in pieces, each with the last id before it, is the same chain. */
static void
test_pieces(void **state)
{
    static uint32_t tokens[TOKENS_MAX];
    static varve_id whole[TOKENS_MAX], pieces[TOKENS_MAX];
    uint64_t rng = rng_seed(21);

    (void)state;
    for (size_t i = 0; i < TOKENS_MAX; i++)
        tokens[i] = (uint32_t)rng_next(&rng);
    for (int round = 0; round < 200; round++) {
        size_t page_tokens = 1 + rng_below(&rng, 70);
        size_t pages = TOKENS_MAX / page_tokens, done = 0;

        assert_int_equal(varve_chain(tokens, TOKENS_MAX, page_tokens, NULL, whole), pages);
        while (done < pages) {
            size_t part = 1 + rng_below(&rng, pages - done);

            assert_int_equal(varve_chain(tokens + done * page_tokens, part * page_tokens, page_tokens,
                                         done == 0 ? NULL : &pieces[done - 1], pieces + done),
                             part);
            done += part;
        }
        assert_memory_equal(whole, pieces, pages * sizeof(varve_id));
    }
}

/* Only full pages have an id; and what is no input is refused. */
static void
test_edges(void **state)
{
    uint32_t tokens[10] = {0};
    varve_id ids[3];

    (void)state;
    memset(ids, 0x7e, sizeof(ids));
    assert_int_equal(varve_chain(tokens, 10, 4, NULL, ids), 2);
    for (size_t i = 0; i < VARVE_ID_BYTES; i++)
        assert_int_equal(ids[2].bytes[i], 0x7e);
    assert_int_equal(varve_chain(tokens, 3, 4, NULL, NULL), 0);
    assert_int_equal(varve_chain(NULL, 0, 4, NULL, NULL), 0);
    assert_int_equal(varve_chain(tokens, 10, 0, NULL, ids), VARVE_E_ARG);
    assert_int_equal(varve_chain(NULL, 10, 4, NULL, ids), VARVE_E_ARG);
    assert_int_equal(varve_chain(tokens, 10, 4, NULL, NULL), VARVE_E_ARG);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_edges),
    };

    return cmocka_run_group_tests_name("chain", tests, NULL, NULL);
}
