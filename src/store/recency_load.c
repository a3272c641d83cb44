/* SPDX-License-Identifier: Apache-2.0 */
/* Recency of pages that were stored in an earlier life, when nobody remembers it: from the index, which knows what there is and who is whose parent. */
#include "store/recency.h"

#include "base/error.h"
#include "store/store.h"

#define DEPTH_MAX UINT64_C(1048576) /* told apart, of pages with no parent */

/* How far the walk over the index is. */
struct loading {
    varve_store *store;
    struct index_view *view;
    uint64_t unknown;  /* a root without recency gets this value */
    struct entry last; /* of which the next entry may be the rest */
    uint64_t value;    /* of the page after it */
};

void
recency_expect(varve_store *store, uint64_t number)
{
    struct segment *segment = log_acquire(store->log, number);

    if (segment == NULL)
        return;
    recency_segment_begin(store, segment);
    log_release(store->log, segment);
    store->recency.missing = true;
}

/* The value of the entry's first page: its parent's, or, of one that has none, one that tells depths apart. */
static uint64_t
first_value(const struct loading *loading, const struct entry *entry)
{
    uint64_t depth = entry->key.depth < DEPTH_MAX ? entry->key.depth : DEPTH_MAX;
    struct key key = entry->key;
    uint64_t value = 0;

    if (loading->last.count > 0 && entry->key.ns_id == loading->last.key.ns_id &&
        entry->key.branch == loading->last.key.branch &&
        entry->key.depth == loading->last.key.depth + loading->last.count)
        return loading->value;
    if (entry->parent_branch != 0)
        key = (struct key){entry->key.ns_id, entry->parent_depth, entry->parent_branch};
    if (entry->parent_branch != 0 || key.depth-- > 0)
        value = recency_value(loading->store, loading->view, &key);
    return value != 0 && value != UINT64_MAX ? value : loading->unknown - depth;
}

static void
load_entry(struct loading *loading, const struct entry *entry)
{
    uint64_t value = first_value(loading, entry);

    recency_add(loading->store, entry, value);
    loading->last = *entry;
    loading->value = value - entry->count;
}

/* VARVE_MISS: all was seen. */
static int
load_all(struct loading *loading)
{
    struct index_iter *iter;
    struct entry entry;
    int rc = index_iter_create(loading->view, &iter, NULL);

    if (rc != VARVE_OK)
        return rc;
    for (;;) {
        rc = index_iter_next(iter, &entry, NULL);
        if (rc == VARVE_OK)
            load_entry(loading, &entry);
        else if (rc == VARVE_MISS || rc == VARVE_E_NOMEM) /* else it goes on behind a block that cannot be read */
            break;
    }
    index_iter_destroy(iter);
    return rc;
}

bool
recency_load(varve_store *store)
{
    struct recency *recency = &store->recency;
    struct loading loading = {.store = store};

    if (!recency->missing)
        return true;
    mutex_lock(&recency->lock);
    loading.unknown = heat_clock(recency->heat, DEPTH_MAX);
    mutex_unlock(&recency->lock);
    loading.view = index_view_acquire(store->index);
    recency->missing = load_all(&loading) != VARVE_MISS;
    index_view_release(loading.view);
    return !recency->missing;
}

int
recency_complete(varve_store *store, varve_error *err)
{
    bool complete;

    mutex_lock(&store->reclaim_lock);
    complete = recency_load(store);
    mutex_unlock(&store->reclaim_lock);
    return complete ? VARVE_OK : error_set(err, VARVE_E_NOMEM, "out of memory for when pages were used");
}
