/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index as the store sees it: creation, inserts, and the background steps; see index.h. Lookups are in cursor.c,
 * ordered questions in slot.c and iter.c.
 */
#include "index/index.h"

#include <assert.h>

#include "base/error.h"
#include "index/merge.h"

static uint64_t
cache_bytes_max(const struct index_settings *settings)
{
    return settings->block_cache_bytes_max > settings->block_cache_bytes ? settings->block_cache_bytes_max
                                                                         : settings->block_cache_bytes;
}

int
index_create(struct env *env, struct io_queue_pool *pool, const struct index_hooks *hooks,
             const struct index_settings *settings, struct index **out, varve_error *err)
{
    struct index *index = env_zalloc(env, sizeof(*index));

    if (index == NULL)
        goto fail;
    mutex_init(&index->lock);
    index->env = env;
    index->pool = pool;
    index->hooks = *hooks;
    index->settings = *settings;
    index->grown = UINT32_C(1) << 1;                        /* many short sessions leave many small runs */
    index->level_base_bytes = settings->memtable_bytes / 2; /* a full memtable makes a run of 3/5 of its size */
    index_set_shape(index, settings->size_ratio, settings->runs_per_level, settings->runs_last_level);
    if (block_cache_init(&index->cache, env, pool, settings->block_cache_bytes, cache_bytes_max(settings)) < 0)
        goto fail_free;
    if (memtable_create(env, settings->memtable_bytes, &index->active) < 0)
        goto fail_cache;
    index->view = view_create(index, 0);
    if (index->view == NULL)
        goto fail_memtable;
    index->view->memtables[index->view->memtable_count++] = index->active;
    memtable_ref(index->active);
    *out = index;
    return VARVE_OK;

fail_memtable:
    memtable_unref(index->active);
fail_cache:
    block_cache_deinit(&index->cache);
fail_free:
    mutex_deinit(&index->lock);
    env_free(env, index);
fail:
    return error_set(err, VARVE_E_NOMEM, "out of memory for the index: lower memtable_bytes or block_cache_bytes");
}

void
index_destroy(struct index *index)
{
    if (index->merge != NULL)
        merge_destroy(index->merge);
    assert(atomic_load_explicit(&index->view->refs, memory_order_relaxed) == 1);
    index_view_release(index->view);
    memtable_unref(index->active);
    block_cache_deinit(&index->cache);
    mutex_deinit(&index->lock);
    env_free(index->env, index);
}

int
index_add_run(struct index *index, const struct run_meta *meta, varve_error *err)
{
    struct index_view *next;
    struct run *run;
    bool published;
    int rc;

    if (meta->level < 1 || meta->level > LEVEL_MAX)
        return error_set(err, VARVE_E_CORRUPT, "the manifest names a run on level %u", meta->level);
    rc = run_open(index->env, index->pool, &index->hooks, meta, &run, err);
    if (rc < 0)
        return rc;
    next = view_create(index, view_run_count(index) + 1);
    if (next == NULL) {
        run_unref(run);
        return error_set(err, VARVE_E_NOMEM, "out of memory for a view of the index");
    }
    published = view_publish(index, next, &(struct view_change){.run = run});
    assert(published);
    (void)published;
    run_unref(run);
    return VARVE_OK;
}

void
index_set_shape(struct index *index, uint32_t size_ratio, uint32_t runs_per_level, uint32_t runs_last_level)
{
    mutex_lock(&index->lock);
    index->settings.size_ratio = size_ratio < 2 ? 2 : size_ratio;
    index->settings.runs_per_level = runs_per_level < 1 ? 1 : runs_per_level;
    index->settings.runs_last_level = runs_last_level < 1 ? 1 : runs_last_level;
    mutex_unlock(&index->lock);
}

void
index_set_memory(struct index *index, uint64_t memtable_bytes, uint64_t block_cache_bytes)
{
    mutex_lock(&index->lock);
    index->settings.memtable_bytes = memtable_bytes;
    index->settings.block_cache_bytes = block_cache_bytes;
    mutex_unlock(&index->lock);
    block_cache_resize(&index->cache, block_cache_bytes);
}

void
index_set_fingerprint_bits(struct index *index, uint32_t fingerprint_bits)
{
    mutex_lock(&index->lock);
    index->settings.fingerprint_bits = fingerprint_bits;
    mutex_unlock(&index->lock);
}

void
index_look_at_levels(struct index *index)
{
    index->grown = UINT32_MAX;
}

uint64_t
index_level_base(const struct index *index)
{
    return index->level_base_bytes;
}

bool
index_has_room(const struct index *index, uint32_t count)
{
    return memtable_has_room(index->active, count);
}

int
index_insert(struct index *index, const struct entry *entry)
{
    assert(entry->count >= 1 && entry->count <= ENTRY_PAGES_MAX);
    assert(entry->key.depth <= UINT32_MAX - ENTRY_PAGES_MAX);
    assert(entry->align_shift >= ENTRY_SHIFT_MIN && entry->align_shift <= ENTRY_SHIFT_MAX);
    assert(entry->offset % (UINT64_C(1) << entry->align_shift) == 0 && entry->offset <= ENTRY_OFFSET_MAX);
    return memtable_insert(index->active, entry);
}

static uint64_t
memtable_bytes_set(struct index *index)
{
    uint64_t bytes;

    mutex_lock(&index->lock);
    bytes = index->settings.memtable_bytes;
    mutex_unlock(&index->lock);
    return bytes;
}

int
index_rotate(struct index *index, void *mark)
{
    struct memtable *fresh;
    bool published = false;

    if (index_frozen_count(index) >= VIEW_FROZEN_MAX ||
        memtable_create(index->env, memtable_bytes_set(index), &fresh) < 0)
        return VARVE_E_NOMEM;
    index->active->mark = mark;
    counter_add(&index->counters.pages_rotated, index_active_pages(index));
    counter_add(&index->counters.rotated_bytes,
                atomic_load_explicit(&index->active->memory_bytes, memory_order_relaxed));
    while (!published) {
        /* A flush may add a run between these two: then once more. */
        struct index_view *next = view_create(index, view_run_count(index) + 1);

        if (next == NULL) {
            memtable_unref(fresh);
            return VARVE_E_NOMEM;
        }
        published = view_publish(index, next, &(struct view_change){.active = fresh});
        if (!published)
            index_view_release(next);
    }
    memtable_unref(index->active);
    index->active = fresh;
    return VARVE_OK;
}

uint64_t
index_active_pages(const struct index *index)
{
    return atomic_load_explicit(&index->active->pages, memory_order_relaxed);
}

uint32_t
index_frozen_count(struct index *index)
{
    uint32_t count;

    mutex_lock(&index->lock);
    count = index->view->memtable_count - 1;
    mutex_unlock(&index->lock);
    return count;
}

int
index_flush(struct index *index, varve_error *err)
{
    struct index_view *view = index_view_acquire(index);
    struct merge_inputs inputs = {.level = 1};
    struct merge *merge;
    int rc;

    if (view->memtable_count == 1) {
        index_view_release(view);
        return VARVE_MISS;
    }
    inputs.memtable = view->memtables[view->memtable_count - 1];
    rc = merge_create(index, &inputs, &merge, err);
    index_view_release(view); /* the merge holds the memtable */
    if (rc < 0)
        return rc;
    while (rc == VARVE_OK)
        rc = merge_step(merge, UINT64_MAX / 2, err);
    if (rc == VARVE_MISS)
        rc = merge_commit(merge, err);
    merge_destroy(merge);
    return rc;
}

/* Begin the merge that is due. VARVE_MISS: none is. */
static int
begin_merge(struct index *index, varve_error *err)
{
    struct index_view *view = index_view_acquire(index);
    struct merge_inputs inputs = {.view = view};
    struct level_shape shape;
    struct level_run *runs = env_zalloc(index->env, (view->run_count + 1) * sizeof(*runs));
    int rc = VARVE_MISS;

    if (runs == NULL) {
        rc = error_set(err, VARVE_E_NOMEM, "out of memory for a merge");
        goto out;
    }
    for (uint32_t i = 0; i < view->run_count; i++)
        runs[i] = (struct level_run){.bytes = view->runs[i]->meta.file_bytes, .level = view->runs[i]->meta.level};
    mutex_lock(&index->lock);
    shape = (struct level_shape){
        .size_ratio = index->settings.size_ratio,
        .runs_per_level = index->settings.runs_per_level,
        .runs_last_level = index->settings.runs_last_level,
        .base_bytes = index->level_base_bytes,
    };
    mutex_unlock(&index->lock);
    inputs.picked = runs;
    inputs.level = level_pick(&shape, index->grown, runs, view->run_count);
    if (inputs.level == 0)
        index->grown = 0;
    else
        rc = merge_create(index, &inputs, &index->merge, err);
out:
    env_free(index->env, runs);
    index_view_release(view);
    return rc;
}

uint64_t
index_building_run(const struct index *index)
{
    return index->merge == NULL ? 0 : merge_output_number(index->merge);
}

int
index_merge(struct index *index, uint64_t budget_bytes, varve_error *err)
{
    uint64_t begin_ns = index->env->ops->now_ns(index->env);
    bool ended;
    int rc;

    if (index->merge == NULL) {
        rc = index->grown == 0 ? VARVE_MISS : begin_merge(index, err);
        if (rc != VARVE_OK)
            return rc;
    }
    rc = merge_step(index->merge, budget_bytes, err);
    ended = rc != VARVE_OK;
    if (rc == VARVE_MISS)
        rc = merge_commit(index->merge, err);
    counter_add(&index->counters.merge_ns, index->env->ops->now_ns(index->env) - begin_ns);
    if (!ended)
        return VARVE_OK;
    merge_destroy(index->merge);
    index->merge = NULL;
    index->merge_failures = rc < 0 ? index->merge_failures + 1 : 0;
    return rc;
}

static void
count_view(const struct index_view *view, struct index_stats *out)
{
    for (uint32_t i = 0; i < view->run_count; i++) {
        const struct run *run = view->runs[i];

        if (run->meta.level > out->levels)
            out->levels = run->meta.level;
        out->runs++;
        out->run_pages += run->meta.pages;
        out->run_entries += run->meta.entries;
        out->run_bytes += run->meta.file_bytes;
        out->locator_bytes += run->locator.bytes;
        out->memory_bytes += run_memory_bytes(run);
    }
    for (uint32_t i = 0; i < view->memtable_count; i++) {
        const struct memtable *memtable = view->memtables[i];

        out->memtables++;
        out->memtable_pages += atomic_load_explicit(&memtable->pages, memory_order_relaxed);
        out->memory_bytes += atomic_load_explicit(&memtable->memory_bytes, memory_order_relaxed);
    }
}

static void
count_cache(struct block_cache *cache, struct index_stats *out)
{
    for (int i = 0; i < BLOCK_CACHE_SHARDS; i++) {
        struct block_shard *shard = &cache->shards[i];

        mutex_lock(&shard->mutex);
        out->block_cache_hits += shard->hits;
        out->block_cache_misses += shard->misses;
        mutex_unlock(&shard->mutex);
    }
    out->block_cache_bytes = block_cache_bytes(cache);
    out->block_reads = atomic_load_explicit(&cache->reads, memory_order_relaxed);
    out->block_read_ns = atomic_load_explicit(&cache->read_ns, memory_order_relaxed);
    out->blocks_corrupt += atomic_load_explicit(&cache->corrupt, memory_order_relaxed);
    out->read_errors += atomic_load_explicit(&cache->read_errors, memory_order_relaxed);
}

int
index_read_any(struct index *index, uint64_t random)
{
    struct index_view *view = index_view_acquire(index);
    uint64_t blocks = 0;
    int rc = VARVE_MISS;

    for (uint32_t i = 0; i < view->run_count; i++)
        blocks += view->runs[i]->meta.blocks;
    random = blocks > 0 ? random % blocks : 0;
    for (uint32_t i = 0; i < view->run_count && rc == VARVE_MISS; i++) {
        if (random < view->runs[i]->meta.blocks)
            rc = block_cache_read(&index->cache, view->runs[i], (uint32_t)random);
        else
            random -= view->runs[i]->meta.blocks;
    }
    index_view_release(view);
    return rc;
}

void
index_stats_get(struct index *index, struct index_stats *out)
{
    struct index_counters *counters = &index->counters;
    struct index_view *view = index_view_acquire(index);

    *out = (struct index_stats){
        .lookups = atomic_load_explicit(&counters->lookups, memory_order_relaxed),
        .locator_hits = atomic_load_explicit(&counters->locator_hits, memory_order_relaxed),
        .locator_false_hits = atomic_load_explicit(&counters->locator_false_hits, memory_order_relaxed),
        .walks = atomic_load_explicit(&counters->walks, memory_order_relaxed),
        .searches = atomic_load_explicit(&counters->searches, memory_order_relaxed),
        .searches_found = atomic_load_explicit(&counters->searches_found, memory_order_relaxed),
        .searches_onward = atomic_load_explicit(&counters->searches_onward, memory_order_relaxed),
        .locators_probed = atomic_load_explicit(&counters->locators_probed, memory_order_relaxed),
        .locators_timed = atomic_load_explicit(&counters->locators_timed, memory_order_relaxed),
        .locators_ns = atomic_load_explicit(&counters->locators_ns, memory_order_relaxed),
        .pages_rotated = atomic_load_explicit(&counters->pages_rotated, memory_order_relaxed),
        .rotated_bytes = atomic_load_explicit(&counters->rotated_bytes, memory_order_relaxed),
        .pages_flushed = atomic_load_explicit(&counters->pages_flushed, memory_order_relaxed),
        .pages_merged = atomic_load_explicit(&counters->pages_merged, memory_order_relaxed),
        .merge_ns = atomic_load_explicit(&counters->merge_ns, memory_order_relaxed),
        .flushes = atomic_load_explicit(&counters->flushes, memory_order_relaxed),
        .merges = atomic_load_explicit(&counters->merges, memory_order_relaxed),
        .entries_merged = atomic_load_explicit(&counters->entries_merged, memory_order_relaxed),
        .entries_dropped = atomic_load_explicit(&counters->entries_dropped, memory_order_relaxed),
        .bytes_flushed = atomic_load_explicit(&counters->bytes_flushed, memory_order_relaxed),
        .bytes_merged = atomic_load_explicit(&counters->bytes_merged, memory_order_relaxed),
        .blocks_corrupt = atomic_load_explicit(&counters->blocks_corrupt, memory_order_relaxed),
        .read_errors = atomic_load_explicit(&counters->read_errors, memory_order_relaxed),
    };
    count_view(view, out);
    count_cache(&index->cache, out);
    index_view_release(view);
}

void
index_reuse_take(struct index *index, struct reuse_sample *out)
{
    reuse_take(&index->cache.reuse, out);
}

uint64_t
index_bytes_written(const struct index *index)
{
    return atomic_load_explicit(&index->counters.bytes_flushed, memory_order_relaxed) +
           atomic_load_explicit(&index->counters.bytes_merged, memory_order_relaxed);
}
