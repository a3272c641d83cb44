/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recency of pages that were stored in an earlier life, when nobody remembers it: from the index, which knows what there is and who is whose parent. A page is
 * never younger than its parent, and roots are as old as their segments.
 */
#include "store/recency.h"

#include "base/error.h"
#include "store/store.h"

#define DEPTHS UINT64_C(16384) /* that are told apart below a root of unknown age */
#define AGES   UINT64_C(30000) /* of roots */

/* How far the walk over the index is. */
struct loading {
    varve_store *store;
    struct index_view *view;
    uint64_t oldest;             /* the value of a root of unknown age in the segment that was made first */
    uint64_t first, last_number; /* file numbers of segments */
    struct entry last;           /* of which the next entry may be the rest */
    uint64_t value;              /* of the page after it */
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

/* What is not known is taken from when a root was stored, or last moved, and from how far below it a page is. */
static uint64_t
unknown_value(const struct loading *loading, const struct entry *entry)
{
    uint64_t depth = entry->key.depth < DEPTHS ? entry->key.depth : DEPTHS;
    uint64_t numbers = loading->last_number - loading->first + 1;
    uint64_t place = entry->segment < loading->last_number ? entry->segment - loading->first : numbers - 1;

    return loading->oldest + (uint64_t)((double)place / (double)numbers * (double)AGES) - depth;
}

/* The value of the entry's first page: its parent's, if that has one. */
static uint64_t
first_value(const struct loading *loading, const struct entry *entry)
{
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
    return value != 0 && value != UINT64_MAX ? value : unknown_value(loading, entry);
}

static void
load_entry(struct loading *loading, const struct entry *entry)
{
    uint64_t value = first_value(loading, entry), known;
    struct key last = entry->key;

    recency_add(loading->store, entry, value);
    last.depth += entry->count - 1;
    known =
        recency_value(loading->store, loading->view, &last); /* it was there, if HEAT had it or it was used meanwhile */
    loading->last = *entry;
    if (known != 0 && known != UINT64_MAX)
        loading->value = known > 1 ? known - 1 : 1;
    else
        loading->value =
            value > entry->count ? value - entry->count : 1; /* of a chain longer than that, all are as old */
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

static void
see_number(void *arg, const struct segment *segment)
{
    struct loading *loading = arg;

    if (segment->number < loading->first)
        loading->first = segment->number;
    if (segment->number > loading->last_number)
        loading->last_number = segment->number;
}

bool
recency_load(varve_store *store)
{
    struct recency *recency = &store->recency;
    struct loading loading = {.store = store, .first = UINT64_MAX};

    if (!recency->missing)
        return true;
    mutex_lock(&recency->lock);
    loading.oldest = heat_clock(recency->heat, AGES + DEPTHS) - AGES;
    mutex_unlock(&recency->lock);
    log_for_each(store->log, see_number, &loading);
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
