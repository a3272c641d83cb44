/* SPDX-License-Identifier: Apache-2.0 */
/* Hot and cold chains in a small store; see store_churn.h. */
#include "store_churn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

int
churn_setup(void **state)
{
    static const char *const options[][2] = {{"capacity", "8M"}, {"segment_bytes", "256K"}, {"memtable_bytes", "128K"}};

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        memcpy(life.options[i], options[i], sizeof(options[i]));
    return life_setup(state);
}

int
churn_teardown(void **state)
{
    memset(life.options, 0, sizeof(life.options));
    return life_teardown(state);
}

int64_t
churn_probe(uint32_t chain, uint32_t first, uint32_t count)
{
    varve_id ids[CHAIN_PAGES];

    for (uint32_t i = 0; i < count; i++)
        ids[i] = life_page_id(chain, first + i);
    return varve_probe(life.store, life.ns, ids, count, NULL, &life.err);
}

void
churn_work(void)
{
    while (store_tick(life.store))
        continue;
}

void
churn(uint64_t bytes, bool use_hot)
{
    static uint32_t cold = COLD;

    for (uint64_t at = 0; at < bytes; at += CHAIN_BYTES) {
        assert_int_equal(life_put(cold++, CHAIN_PAGES, PAGE_BYTES), CHAIN_PAGES);
        for (uint32_t i = 0; i < HOT_CHAINS && use_hot; i++)
            (void)churn_probe(HOT + i, 0, CHAIN_PAGES);
        churn_work();
        assert_true(sim_disk_used(life.disk) <= space_ceiling(life.store));
    }
}

void
churn_put_hot(void)
{
    for (uint32_t i = 0; i < HOT_CHAINS; i++) {
        assert_int_equal(life_put(HOT + i, CHAIN_PAGES, PAGE_BYTES), CHAIN_PAGES);
        churn(2 * CHAIN_BYTES, false);
    }
}

void
churn_fill(void)
{
    churn_put_hot();
    churn(CAPACITY, true);
}

uint32_t
churn_hot_right(void)
{
    uint32_t right = 0;

    for (uint32_t i = 0; i < HOT_CHAINS; i++)
        right += life_get(HOT + i, CHAIN_PAGES, PAGE_BYTES);
    return right;
}

void
churn_begin_job(void)
{
    while (life.store->reclaim_job == NULL)
        assert_int_equal(reclaim_work(life.store, &life.err), VARVE_OK);
}
