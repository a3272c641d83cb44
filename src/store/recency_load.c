/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recency of pages that were stored in an earlier life, when nobody remembers it: from the index, which knows what there is and who is whose parent. A page is
 * never younger than its parent, and roots are as old as their segments.
 */
#include "store/recency.h"

#include "base/error.h"
#include "store/store.h"

#define DEPTHS_MAX  UINT64_C(16384) /* that are told apart below a root of unknown age */
#define AGES_MAX    UINT64_C(30000) /* of roots */
#define SMALL_PAGES UINT64_C(65536) /* of the index: read in tens of milliseconds */
#define BYTES_PER_VALUE                                                                                                \
    4096 /* of both there are fewer in small stores: what was used within a part of them counts as just used */

/* How far the walk over the index is. */
struct loading {
    varve_store *store;
    struct index_view *view;
    uint64_t first, last_number; /* file numbers of segments */
    struct entry last;           /* of which the next entry may be the rest */
    uint64_t value;              /* of the page after it */
    bool dead_above;             /* the last page, or the parent of a branch, is not live, or not there */
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

static void
add_bytes(void *arg, const struct segment *segment)
{
    *(uint64_t *)arg += segment->bytes;
}

void
recency_begin_life(varve_store *store)
{
    struct recency *recency = &store->recency;
    uint64_t bytes = 0, values;

    log_for_each(store->log, add_bytes, &bytes);
    values = bytes / BYTES_PER_VALUE;
    recency->unknown_ages = values < AGES_MAX ? values : AGES_MAX;
    recency->unknown_depths = values < DEPTHS_MAX ? values : DEPTHS_MAX;
    if (values == 0)
        return;
    mutex_lock(&recency->lock);
    recency->oldest_unknown =
        heat_clock(recency->heat, recency->unknown_ages + recency->unknown_depths) - recency->unknown_ages;
    mutex_unlock(&recency->lock);
}

/* What is not known is taken from when a root was stored, or last moved, and from how far below it a page is. */
static uint64_t
unknown_value(const struct loading *loading, const struct entry *entry)
{
    const struct recency *recency = &loading->store->recency;
    uint64_t depth = entry->key.depth < recency->unknown_depths ? entry->key.depth : recency->unknown_depths;
    uint64_t numbers = loading->last_number - loading->first + 1;
    uint64_t place = entry->segment < loading->last_number ? entry->segment - loading->first : numbers - 1;

    return recency->oldest_unknown + (uint64_t)((double)place / (double)numbers * (double)recency->unknown_ages) -
           depth;
}

/* The value of a page so far below one of a value. Of a chain that is longer than there are values, all the rest are as old, and live. */
static uint64_t
below(varve_store *store, uint64_t value, uint64_t depth)
{
    struct recency *recency = &store->recency;
    uint64_t floor = recency->oldest_unknown - recency->unknown_depths;

    if (value < floor) { /* one that HEAT knew */
        mutex_lock(&recency->lock);
        floor = recency->heat->horizon << recency->heat->shift;
        mutex_unlock(&recency->lock);
    }
    if (value < floor)
        return 1;
    return value - floor > depth ? value - depth : floor;
}

/* The value of the entry's first page: one less than its parent's, if that has one. */
static uint64_t
first_value(struct loading *loading, const struct entry *entry)
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
    loading->dead_above = value == 0;
    return value != 0 && value != UINT64_MAX ? below(loading->store, value, 1) : unknown_value(loading, entry);
}

/* A live page is younger than what is above it, which was used, or put again, after HEAT was written: so it has been used since. */
static void
raise_ancestors(const struct loading *loading, const struct key *key, uint64_t value)
{
    if (value != 0 && value != UINT64_MAX)
        recency_stamp_ancestors(loading->store, loading->view, key, value, false);
}

/* Make pages known, the first as old as *value if it is not; *value: of the page behind them. */
static void
load_pages(struct loading *loading, const struct entry *pages, uint64_t *value)
{
    struct key last = pages->key;
    uint64_t known;

    recency_add(loading->store, pages, *value);
    last.depth += pages->count - 1;
    known = recency_value(loading->store, loading->view, &last); /* HEAT had it, or it was used meanwhile */
    if (loading->dead_above && pages->count > 1)
        raise_ancestors(loading, &pages->key, recency_value(loading->store, loading->view, &pages->key));
    if ((loading->dead_above && pages->count == 1) || known > *value + 1)
        raise_ancestors(loading, &last, known);
    loading->dead_above = known == 0;
    if (known != 0 && known != UINT64_MAX)
        *value = below(loading->store, known, 1);
    else
        *value = below(loading->store, *value, pages->count);
}

static void
load_entry(struct loading *loading, const struct entry *entry)
{
    uint64_t value = first_value(loading, entry);

    /*
     * One by one where the first ones are known, since HEAT was written before there were more, or nobody has used the others; and where there is not a value for each.
     */
    if (recency_value(loading->store, loading->view, &entry->key) == 0 &&
        below(loading->store, value, entry->count) == value - entry->count) {
        load_pages(loading, entry, &value);
    } else {
        for (uint32_t i = 0; i < entry->count; i++) {
            struct entry page = entry_slice(entry, i, 1);

            load_pages(loading, &page, &value);
        }
    }
    loading->last = *entry;
    loading->value = value;
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
    log_for_each(store->log, see_number, &loading);
    loading.view = index_view_acquire(store->index);
    recency->missing = load_all(&loading) != VARVE_MISS;
    index_view_release(loading.view);
    return !recency->missing;
}

void
recency_load_small(varve_store *store)
{
    struct index_stats stats;

    index_stats_get(store->index, &stats);
    if (stats.run_pages + stats.memtable_pages <= SMALL_PAGES)
        (void)recency_load(store);
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
