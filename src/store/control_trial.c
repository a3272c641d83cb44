/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the index costs on this device, tried out on a store without traffic: random blocks of its runs, read past the cache, and page ids that nobody put. Merges and flushes
 * are not tried: they change the store.
 */
#include <string.h>

#include "base/error.h"
#include "store/calls.h"
#include "store/store.h"

#define BATCH_READS   4
#define BATCH_LOOKUPS 4000
#define BATCHES_MIN   5 /* of a round: as many searches as false positives are judged by */

/* VARVE_OK; VARVE_MISS: there are no runs; a code: a block could not be read. */
static int
try_reads(varve_store *store)
{
    int rc = VARVE_OK;

    for (int i = 0; i < BATCH_READS && rc == VARVE_OK; i++)
        rc = index_read_any(store->index, store->env->ops->random(store->env));
    return rc;
}

static void
try_lookups(varve_store *store)
{
    struct index_view *view = index_view_acquire(store->index);
    struct index_cursor cursor;

    index_cursor_init(&cursor, view);
    for (int i = 0; i < BATCH_LOOKUPS; i++) {
        uint64_t words[sizeof(varve_id) / sizeof(uint64_t)];
        struct location location;
        varve_id id;

        for (size_t word = 0; word < sizeof(words) / sizeof(words[0]); word++)
            words[word] = store->env->ops->random(store->env);
        memcpy(&id, words, sizeof(id));
        (void)index_cursor_find(&cursor, (uint32_t)words[0], &id, &location);
    }
    index_cursor_deinit(&cursor);
    index_view_release(view);
}

/* One window, which the controller's own leaves out. */
static int
try_round(varve_store *store, uint64_t round_ns)
{
    struct control *control = &store->control;
    struct control_sums begin, end;
    struct reuse_sample reuse;
    int batches = 0, rc;

    mutex_lock(&store->slice_lock);
    control_sums_take(store, &begin);
    do {
        rc = try_reads(store);
        if (rc == VARVE_OK)
            try_lookups(store);
        control_sums_take(store, &end);
        batches++;
    } while (rc == VARVE_OK && (batches < BATCHES_MIN || end.at_ns - begin.at_ns < round_ns));
    mutex_lock(&control->lock);
    control_measure_constants(&control->constants, &begin, &end);
    index_reuse_take(store->index, &reuse);
    control->begin = end;
    mutex_unlock(&control->lock);
    mutex_unlock(&store->slice_lock);
    return rc;
}

int
store_tune_measure(varve_store *store, uint64_t round_ns, varve_error *err)
{
    int rc = try_round(store, round_ns);

    return rc < 0 ? error_set(err, rc, "blocks of the index could not be read: run varve check") : rc;
}
