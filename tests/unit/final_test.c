/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A failed fsync is final, and so is a failed write of the manifest: though the device works again at once, the store takes no more writes
 * and calls nothing durable until it is reopened, and serves what it has meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "store_life.h"

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

/* One page that is not stored yet; its status. */
static int
put_new_page(void)
{
    uint8_t data[LIFE_PAGE_BYTES] = {0};
    struct iovec iov = {data, sizeof(data)};
    varve_page page = {.id = life_page_id(LIFE_CHAINS + 1, 0), .iov = &iov, .iov_count = 1};

    assert_int_equal(varve_put_batch(life.store, life.ns, NULL, &page, 1, 0, &life.err), VARVE_OK);
    return page.status;
}

static int64_t
remove_page(uint32_t chain)
{
    varve_id id = life_page_id(chain, 0);

    return varve_remove_batch(life.store, life.ns, &id, 1, &life.err);
}

static void
must_be_read_only(uint32_t pages)
{
    for (int tries = 0; tries < 3; tries++) {
        assert_int_equal(put_new_page(), VARVE_E_READONLY);
        assert_int_equal(varve_sync(life.store, &life.err), VARVE_E_READONLY);
        assert_int_equal(remove_page(1), VARVE_E_READONLY);
        assert_int_equal(varve_namespace_clear(life.store, life.ns, &life.err), VARVE_E_READONLY);
        assert_false(store_tick(life.store));
        assert_int_equal(life_pages_right(), pages);
    }
}

static void
test_final(void **state)
{
    static const struct {
        unsigned op;
        const char *glob;
        bool removes;     /* the failing call is a removal, which then did not happen; else a sync */
        uint32_t removed; /* pages, before the sync that fails */
    } cases[] = {
        {SIM_OP_SYNC, "*.seg", false, 0},
        {SIM_OP_SYNC, "*.manifest", false, 1},
        {SIM_OP_WRITE, "*.manifest", true, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        if (i > 0) {
            life_begin_again();
            life_must_open();
        }
        (void)life_put(LIFE_CHAINS + 2, 1,
                       LIFE_PAGE_BYTES); /* there is an open segment: puts need nothing of the manifest */
        if (cases[i].removed > 0)
            assert_int_equal(remove_page(LIFE_CHAINS), 1);
        store_fault(life.disk, cases[i].op, cases[i].glob, EIO, 0, 1);
        if (cases[i].removes)
            assert_int_equal(remove_page(LIFE_CHAINS), VARVE_E_IO);
        else
            assert_int_equal(varve_sync(life.store, &life.err), VARVE_E_IO);
        assert_int_equal(life.disk->faults_hit, 1);
        sim_disk_faults_clear(life.disk);
        must_be_read_only(LIFE_ALL - cases[i].removed);

        life_kill();
        life_must_open();
        assert_int_equal(varve_sync(life.store, &life.err), VARVE_OK);
        assert_int_equal(put_new_page(), VARVE_OK);
        life_must_close();
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_final, life_setup, life_teardown),
    };

    return cmocka_run_group_tests_name("final", tests, NULL, NULL);
}
