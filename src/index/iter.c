/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Iteration over everything in a view, in key order. Reads run files past the block cache. A block that cannot be had
 * is reported once, and the iteration can go on after it.
 */
#include "base/error.h"
#include "index/join.h"
#include "index/source.h"
#include "index/view.h"

struct index_iter {
    struct index_view *view; /* referenced */
    struct source_set sources;
    struct join join;
};

int
index_iter_create(struct index_view *view, struct index_iter **out, varve_error *err)
{
    struct index *index = view->index;
    struct index_iter *iter = env_zalloc(index->env, sizeof(*iter));
    int rc;

    if (iter == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory for an iterator");
    (void)atomic_fetch_add_explicit(&view->refs, 1, memory_order_relaxed);
    iter->view = view;
    rc = join_init(&iter->join, index->env);
    if (rc == VARVE_OK)
        rc = source_set_init(&iter->sources, index->env, index->pool, view->memtable_count + view->run_count, true);
    for (uint32_t i = 0; rc == VARVE_OK && i < view->memtable_count; i++)
        source_set_add_memtable(&iter->sources, view->memtables[i]);
    for (uint32_t i = 0; rc == VARVE_OK && i < view->run_count; i++)
        rc = source_set_add_run(&iter->sources, view->runs[i]);
    if (rc < 0) {
        index_iter_destroy(iter);
        return error_set(err, rc, "out of memory for an iterator");
    }
    *out = iter;
    return VARVE_OK;
}

static bool
is_dead(const struct index_iter *iter, const struct entry *entry)
{
    const struct index_hooks *hooks = &iter->view->index->hooks;

    return hooks->segment_state(hooks->arg, entry->segment) == SEGMENT_GONE ||
           !hooks->namespace_live(hooks->arg, entry->key.ns_id);
}

int
index_iter_next(struct index_iter *iter, struct entry *out, varve_error *err)
{
    for (;;) {
        struct entry entry;
        int rc = source_set_next(&iter->sources, &entry, err);

        if (rc == VARVE_MISS)
            return join_end(&iter->join, out) ? VARVE_OK : VARVE_MISS;
        if (rc < 0)
            return rc;
        if (!is_dead(iter, &entry) && join_put(&iter->join, &entry, out))
            return VARVE_OK;
    }
}

void
index_iter_destroy(struct index_iter *iter)
{
    struct env *env = iter->view->index->env;

    if (iter->sources.sources != NULL)
        source_set_deinit(&iter->sources);
    join_deinit(&iter->join);
    index_view_release(iter->view);
    env_free(env, iter);
}
