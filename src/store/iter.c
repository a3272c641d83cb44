/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Iteration: the index in key order, folded into namespaces or branches, or unfolded into pages. One entry of the index is
 * held back, since a group ends only where the next one begins.
 */
#include <string.h>

#include "base/error.h"
#include "store/calls.h"

struct store_iter {
    varve_store *store;
    enum varve_iter_kind kind;
    uint32_t ns_id; /* 0: all */
    struct index_view *view;
    struct index_iter *entries;
    struct entry entry; /* the one held back, when has_entry */
    uint32_t page;      /* of it, for pages */
    bool has_entry;
};

int
store_iter_open(varve_store *store, uint32_t ns_id, enum varve_iter_kind kind, struct store_iter **out,
                varve_error *err)
{
    struct store_iter *iter = env_zalloc(store->env, sizeof(*iter));
    int rc;

    if (iter == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    iter->store = store;
    iter->kind = kind;
    iter->ns_id = ns_id;
    iter->view = index_view_acquire(store->index);
    rc = index_iter_create(iter->view, &iter->entries, err);
    if (rc != VARVE_OK) {
        index_view_release(iter->view);
        env_free(store->env, iter);
        return rc;
    }
    *out = iter;
    return VARVE_OK;
}

void
store_iter_close(struct store_iter *iter)
{
    if (iter == NULL)
        return;
    index_iter_destroy(iter->entries);
    index_view_release(iter->view);
    env_free(iter->store->env, iter);
}

/* Have an entry of the wanted namespace at hand. */
static int
fetch_entry(struct store_iter *iter, varve_error *err)
{
    int rc = VARVE_OK;

    while (rc == VARVE_OK && !iter->has_entry) {
        rc = index_iter_next(iter->entries, &iter->entry, err);
        iter->page = 0;
        iter->has_entry = rc == VARVE_OK && (iter->ns_id == 0 || iter->entry.key.ns_id == iter->ns_id);
    }
    return rc;
}

static bool
page_is_removed(const struct store_iter *iter, uint32_t page)
{
    return log_page_removed(iter->store->log, iter->entry.segment, entry_page_offset(&iter->entry, page),
                            entry_id(&iter->entry, page));
}

/* Start the row at the entry at hand. */
static void
begin_item(const struct store_iter *iter, varve_item *item)
{
    const struct entry *entry = &iter->entry;

    *item = (varve_item){
        .struct_size = item->struct_size,
        .depth = entry->key.depth,
        .namespace_name = namespace_name(iter->store, entry->key.ns_id),
        .branch = entry->key.branch,
        .parent_branch = entry->parent_branch,
        .parent_depth = entry->parent_depth,
        .segment = entry->segment,
        .offset = entry->offset,
    };
}

static void
add_entry(struct store_iter *iter, varve_item *item)
{
    for (uint32_t i = 0; i < iter->entry.count; i++) {
        if (page_is_removed(iter, i))
            continue;
        item->page_count++;
        item->bytes += entry_size(&iter->entry, i);
    }
    iter->has_entry = false;
}

/* Fold entries while they belong to the row's group. */
static int
next_group(struct store_iter *iter, varve_item *item, varve_error *err)
{
    uint32_t ns_id = iter->entry.key.ns_id;
    uint64_t branch = iter->entry.key.branch;
    int rc = VARVE_OK;

    begin_item(iter, item);
    while (rc == VARVE_OK && iter->entry.key.ns_id == ns_id &&
           (iter->kind == VARVE_ITER_NAMESPACES || iter->entry.key.branch == branch)) {
        add_entry(iter, item);
        rc = fetch_entry(iter, err);
    }
    if (iter->kind == VARVE_ITER_NAMESPACES)
        item->branch = item->parent_branch = item->segment = item->offset = item->depth = item->parent_depth = 0;
    return rc == VARVE_MISS ? VARVE_OK : rc;
}

static void
fill_page(struct store_iter *iter, varve_item *item)
{
    begin_item(iter, item);
    item->depth += iter->page;
    if (iter->page > 0)
        item->parent_branch = item->parent_depth = 0;
    item->page_count = 1;
    item->bytes = entry_size(&iter->entry, iter->page);
    item->offset = entry_page_offset(&iter->entry, iter->page);
    item->checksum = entry_sum(&iter->entry, iter->page);
    memcpy(item->id_prefix, entry_id(&iter->entry, iter->page), ID_PREFIX_BYTES);
}

int
store_iter_next(struct store_iter *iter, varve_item *item, varve_error *err)
{
    int rc;

    for (;;) {
        rc = fetch_entry(iter, err);
        if (rc != VARVE_OK)
            return rc;
        if (iter->kind == VARVE_ITER_PAGES) {
            uint32_t page = iter->page;
            bool removed = page_is_removed(iter, page);

            if (!removed)
                fill_page(iter, item);
            iter->page++;
            iter->has_entry = iter->page < iter->entry.count;
            if (!removed)
                return VARVE_OK;
        } else if (iter->kind == VARVE_ITER_EXTENTS) {
            begin_item(iter, item);
            add_entry(iter, item);
            if (item->page_count > 0)
                return VARVE_OK;
        } else {
            rc = next_group(iter, item, err);
            if (rc != VARVE_OK || item->page_count > 0)
                return rc;
        }
    }
}
