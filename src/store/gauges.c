/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics: those that are computed when they are asked for, and all of them in their order. */
#include <string.h>

#include "store/store.h"

static void
add_segment(void *arg, const struct segment *segment)
{
    struct gauges *out = arg;

    out->segments++;
    out->segment_bytes += segment->bytes;
}

void
store_gauges(varve_store *store, struct gauges *out)
{
    struct index_stats stats;
    uint64_t stored;

    index_stats_get(store->index, &stats);
    log_for_each(store->log, add_segment, out);
    recency_gauges(store, out);
    out->pin_budget_bytes = pin_budget(store);
    out->written_bytes = admission_written(store);
    out->write_budget_day_bytes = admission_day_bytes(store);
    out->capacity_bytes = space_capacity(store);
    out->disk_bytes = space_used(store);
    out->kept_bytes = space_kept(store);
    mutex_lock(&store->namespace_lock);
    out->namespaces = store->namespace_count;
    mutex_unlock(&store->namespace_lock);
    out->levels = stats.levels;
    out->runs = stats.runs;
    out->run_pages = stats.run_pages;
    out->run_entries = stats.run_entries;
    out->run_bytes = stats.run_bytes;
    out->memtable_pages = stats.memtable_pages;
    out->index_memory_bytes = stats.memory_bytes;
    out->locator_bytes = stats.locator_bytes;
    out->block_cache_bytes = stats.block_cache_bytes;
    out->block_cache_hits = stats.block_cache_hits;
    out->block_cache_misses = stats.block_cache_misses;
    out->index_lookups = stats.lookups;
    out->index_searches = stats.searches;
    out->index_searches_found = stats.searches_found;
    out->index_walks = stats.walks;
    out->index_locators_probed = stats.locators_probed;
    out->index_block_read_us = stats.block_read_ns / 1000;
    out->index_pages_flushed = stats.pages_flushed;
    out->index_pages_merged = stats.pages_merged;
    out->index_merge_us = stats.merge_ns / 1000;
    control_gauges(store, out);
    out->locator_hits = stats.locator_hits;
    out->locator_false_hits = stats.locator_false_hits;
    out->index_flushes = stats.flushes;
    out->index_merges = stats.merges;
    out->index_entries_merged = stats.entries_merged;
    out->index_entries_dropped = stats.entries_dropped;
    out->index_bytes_flushed = stats.bytes_flushed;
    out->index_bytes_merged = stats.bytes_merged;
    out->index_bytes_written = stats.bytes_flushed + stats.bytes_merged;
    out->index_blocks_corrupt = stats.blocks_corrupt;
    out->index_read_errors = stats.read_errors;
    out->read_only = atomic_load_explicit(&store->read_only, memory_order_acquire);
    out->io_engine_uring = strcmp(store->env->name, "uring") == 0;
    out->direct_io = store->env->direct_io;
    out->read_bandwidth_bytes_s = atomic_load_explicit(&store->read_bandwidth, memory_order_relaxed);
    out->codec_decode_bandwidth_bytes_s = atomic_load_explicit(&store->coding.decode_speed, memory_order_relaxed);
    out->codec_read_bandwidth_bytes_s = atomic_load_explicit(&store->coding.coded_bandwidth, memory_order_relaxed);
    out->codec_decode_threads = store->coding.threads;
    stored = atomic_load_explicit(&store->counters.codec_put_stored_bytes, memory_order_relaxed);
    if (stored > 0)
        out->codec_ratio_percent =
            (uint64_t)((double)atomic_load_explicit(&store->counters.codec_put_bytes, memory_order_relaxed) * 100 /
                       (double)stored);
    out->peers = atomic_load_explicit(&store->peers, memory_order_relaxed);
    out->owner = 1;
    out->read_latency_us = atomic_load_explicit(&store->read_latency_ns, memory_order_relaxed) / 1000;
}

/* The value at *index, where there is room for it; and one on. */
static void
give(uint64_t *values, size_t count, size_t *index, uint64_t value)
{
    if (*index < count)
        values[*index] = value;
    (*index)++;
}

size_t
store_stats_fill(varve_store *store, const struct gauges *gauges, uint64_t *values, size_t count)
{
    struct counters *counters = &store->counters;
    size_t i = 0;

#define COUNTER(name, help) give(values, count, &i, atomic_load_explicit(&counters->name, memory_order_relaxed));
#define GAUGE(name, help)   give(values, count, &i, gauges->name);
#include "api/stats.def"
#undef COUNTER
#undef GAUGE
    return i;
}

size_t
store_stats_get(varve_store *store, uint64_t *values, size_t count)
{
    struct gauges gauges = {0};

    store_gauges(store, &gauges);
    return store_stats_fill(store, &gauges, values, count);
}
