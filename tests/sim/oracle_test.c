/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle allows what the promises allow, and nothing else; ids, sizes and bytes are functions of the seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "oracle.h"

static const struct oracle_settings shape = {
    .seed = 7, .namespaces = 2, .chains = 9, .chain_pages = 20, .sizes = ORACLE_SIZES_ANY, .size_max = 3000};

#define TTL_NS UINT64_C(1000)

enum step {
    PUT_BEGIN,
    PUT,
    PUT_SYNC,
    REMOVE_BEGIN,
    REMOVE,
    CLEAR,
    SYNC,
    DROPPED,
    KILL,
    POWER,
    SEEN,
    USE,
    TTL,      /* TTL_NS */
    LONG_TTL, /* twice that */
    QUOTA,    /* no time to live, but a quota */
    NO_LIMIT,
    WAIT, /* for TTL_NS */
    NEXT_LIFE,
    END
};

static uint64_t now_ns;

/* After the steps, may page 3 of namespace 1 be there, may it be absent? */
static const struct {
    enum step steps[10];
    bool present, absent;
} cases[] = {
    {{END}, false, true},
    {{PUT_BEGIN, END}, true, true},
    {{PUT_BEGIN, PUT, END}, true, false},
    {{PUT_BEGIN, PUT, KILL, END}, true, false},
    {{PUT_BEGIN, PUT, POWER, END}, true, true},
    {{PUT_BEGIN, PUT_SYNC, POWER, END}, true, false},
    {{PUT_BEGIN, PUT, SYNC, POWER, END}, true, false},
    {{PUT_BEGIN, PUT, KILL, POWER, END}, true, true},
    {{PUT_BEGIN, PUT, KILL, SYNC, POWER, END}, true, false},
    {{PUT_BEGIN, KILL, END}, true, true},
    {{PUT_BEGIN, PUT, SYNC, DROPPED, POWER, END}, true, true},
    {{PUT_BEGIN, PUT, SYNC, REMOVE_BEGIN, REMOVE, END}, false, true},
    {{PUT_BEGIN, PUT, SYNC, REMOVE_BEGIN, REMOVE, KILL, END}, false, true},
    {{PUT_BEGIN, PUT, SYNC, REMOVE_BEGIN, REMOVE, POWER, END}, true, true},
    {{PUT_BEGIN, PUT, SYNC, REMOVE_BEGIN, REMOVE, SYNC, POWER, END}, false, true},
    {{PUT_BEGIN, PUT, SYNC, REMOVE_BEGIN, KILL, END}, true, true},
    {{PUT_BEGIN, PUT, SYNC, CLEAR, POWER, END}, false, true},
    {{PUT_BEGIN, PUT, POWER, SEEN, KILL, END}, true, false},
    {{PUT_BEGIN, PUT, POWER, SEEN, POWER, END}, true, true},
    /* Limits: what they gave up stays given up, under a time to live, until it is used. */
    {{PUT_BEGIN, PUT, WAIT, TTL, END}, true, false},
    {{PUT_BEGIN, PUT, TTL, WAIT, END}, true, true},
    {{PUT_BEGIN, PUT, TTL, WAIT, NO_LIMIT, END}, true, false},
    {{PUT_BEGIN, PUT, TTL, WAIT, NO_LIMIT, TTL, END}, true, true},
    {{PUT_BEGIN, PUT, TTL, WAIT, LONG_TTL, END}, true, true},
    {{PUT_BEGIN, PUT, TTL, LONG_TTL, WAIT, END}, true, false},
    {{PUT_BEGIN, PUT, TTL, WAIT, LONG_TTL, USE, WAIT, END}, true, false},
    {{PUT_BEGIN, PUT, QUOTA, NEXT_LIFE, END}, true, false},
    {{PUT_BEGIN, PUT, QUOTA, NEXT_LIFE, TTL, END}, true, true},
    {{PUT_BEGIN, PUT, QUOTA, NEXT_LIFE, USE, TTL, END}, true, false},
    {{PUT_BEGIN, PUT, QUOTA, NEXT_LIFE, USE, KILL, NEXT_LIFE, TTL, END}, true, true},
    {{PUT_BEGIN, PUT, KILL, NEXT_LIFE, TTL, END}, true, false},
};

/* The steps that have to do with limits, and with time. */
static void
limit_do(struct oracle *oracle, enum step step)
{
    if (step == USE)
        oracle_use(oracle, 1, 3, now_ns);
    else if (step == WAIT)
        now_ns += TTL_NS;
    else if (step == NEXT_LIFE)
        oracle_new_life(oracle);
    else
        oracle_limit(oracle, 1, step == TTL ? TTL_NS : step == LONG_TTL ? 2 * TTL_NS : 0, step == QUOTA, now_ns);
}

static void
step_do(struct oracle *oracle, enum step step)
{
    switch (step) {
    case PUT_BEGIN:
        oracle_put_begin(oracle, 1, 3);
        return;
    case PUT:
    case PUT_SYNC:
        oracle_put(oracle, 1, 3, step == PUT_SYNC);
        return;
    case REMOVE_BEGIN:
        oracle_remove_begin(oracle, 1, 3);
        return;
    case REMOVE:
        oracle_remove(oracle, 1, 3);
        return;
    case CLEAR:
        oracle_clear_begin(oracle, 1);
        oracle_clear(oracle, 1);
        return;
    case SYNC:
        oracle_sync(oracle);
        return;
    case DROPPED:
        oracle_dropped(oracle);
        return;
    case KILL:
    case POWER:
        oracle_crash(oracle, step == KILL ? SIM_CRASH_KILL : SIM_CRASH_POWER);
        return;
    case SEEN:
        assert_true(oracle_observe(oracle, 1, 3, true));
        return;
    case USE:
    case TTL:
    case LONG_TTL:
    case QUOTA:
    case NO_LIMIT:
    case WAIT:
    case NEXT_LIFE:
        limit_do(oracle, step);
        return;
    case END:
        return;
    }
}

static void
test_states(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct oracle *oracle = oracle_create(&shape);

        oracle->clock_ns = &now_ns;
        for (size_t k = 0; cases[i].steps[k] != END; k++)
            step_do(oracle, cases[i].steps[k]);
        if (oracle_may_be(oracle, 1, 3, true) != cases[i].present ||
            oracle_may_be(oracle, 1, 3, false) != cases[i].absent)
            fail_msg("case %zu", i);
        assert_false(oracle_may_be(oracle, 0, 3, true)); /* another namespace is another page */
        oracle_destroy(oracle);
    }
}

static void
test_pages(void **state)
{
    struct oracle *oracle = oracle_create(&shape), *again = oracle_create(&shape);
    uint8_t data[3000], other[3000];

    (void)state;
    for (uint32_t page = 0; page < oracle->pages; page++) {
        varve_id id = oracle_id(oracle, page), same = oracle_id(again, page);

        assert_memory_equal(id.bytes, same.bytes, VARVE_ID_BYTES);
        assert_int_equal(oracle_find(oracle, id.bytes), page);
        id.bytes[15] ^= 1;
        assert_int_equal(oracle_find(oracle, id.bytes), UINT32_MAX);
        assert_true(oracle_size(oracle, 1, page) <= 3000);
        oracle_fill(oracle, 1, page, data);
        oracle_fill(again, 1, page, other);
        assert_memory_equal(data, other, oracle_size(oracle, 1, page));
        assert_true(oracle_matches(oracle, 1, page, data));
        if (oracle_size(oracle, 1, page) > 8) {
            data[5] ^= 4;
            assert_false(oracle_matches(oracle, 1, page, data));
        }
    }
    for (uint32_t chain = 0; chain < shape.chains; chain++) {
        uint32_t fork = oracle->chains[chain].fork;

        assert_int_equal(oracle_page(oracle, chain, shape.chain_pages - 1) / shape.chain_pages, chain);
        if (fork > 0)
            assert_int_equal(oracle_page(oracle, chain, fork - 1),
                             oracle_page(oracle, oracle->chains[chain].from, fork - 1));
    }
    oracle_destroy(oracle);
    oracle_destroy(again);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_states), cmocka_unit_test(test_pages)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
