/* SPDX-License-Identifier: Apache-2.0 */
/* Ids that differ from a stored one in a single byte, whichever: a probe tells the first 16 apart, a get all 32. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store_life.h"

#define CHAIN 1
#define WRONG 2 /* the page of the chain that is asked for by a wrong id: the one after a page that is found */

static void
ask(uint32_t byte)
{
    static uint8_t data[LIFE_PAGES][LIFE_PAGE_BYTES];
    struct iovec iov[LIFE_PAGES];
    varve_page pages[LIFE_PAGES];
    varve_id ids[LIFE_PAGES];
    uint8_t exists[LIFE_PAGES];

    for (uint32_t i = 0; i < LIFE_PAGES; i++) {
        ids[i] = life_page_id(CHAIN, i);
        ids[i].bytes[byte] ^= i == WRONG ? 0x80 : 0;
        iov[i] = (struct iovec){data[i], LIFE_PAGE_BYTES};
        pages[i] = (varve_page){.id = ids[i], .iov = &iov[i], .iov_count = 1};
    }
    if (byte < ID_PREFIX_BYTES) {
        assert_int_equal(varve_probe(life.store, life.ns, ids, LIFE_PAGES, NULL, &life.err), WRONG);
        assert_int_equal(varve_exists_batch(life.store, life.ns, ids, LIFE_PAGES, exists, &life.err), VARVE_OK);
        for (uint32_t i = 0; i < LIFE_PAGES; i++)
            assert_int_equal(exists[i], i != WRONG);
    }
    assert_int_equal(varve_get_batch(life.store, life.ns, pages, LIFE_PAGES, &life.err), VARVE_OK);
    for (uint32_t i = 0; i < LIFE_PAGES; i++)
        assert_int_equal(pages[i].status, i == WRONG ? VARVE_MISS : VARVE_OK);
}

static void
test_one_byte(void **state)
{
    (void)state;
    for (uint32_t byte = 0; byte < VARVE_ID_BYTES; byte++) {
        /* In the memtable, then in a run. What fails its checksum is forgotten, so each has a store of its own. */
        (void)life_teardown(NULL);
        (void)life_setup(NULL);
        ask(byte);

        life_begin_again();
        life_must_open();
        ask(byte);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_byte, life_setup_killed, life_teardown),
    };

    return cmocka_run_group_tests_name("lookup", tests, NULL, NULL);
}
