/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_index.h"

#include <stdio.h>
#include <string.h>

#include "ablation.h"
#include "directory.h"

#define IO_THREADS  32
#define QUEUE_DEPTH 128

static enum segment_state
segment_state(void *arg, uint64_t segment)
{
    (void)arg;
    (void)segment;
    return SEGMENT_LIVE;
}

static bool
page_removed(void *arg, uint64_t segment, uint64_t offset, const uint8_t id_prefix[ID_PREFIX_BYTES])
{
    (void)arg;
    (void)segment;
    (void)offset;
    (void)id_prefix;
    return false;
}

static bool
namespace_live(void *arg, uint32_t ns_id)
{
    (void)arg;
    (void)ns_id;
    return true;
}

static uint64_t
new_file_number(void *arg)
{
    return atomic_fetch_add(&((struct bench_index *)arg)->file_number, 1) + 1;
}

static int
space_take(void *arg, uint64_t bytes)
{
    (void)arg;
    (void)bytes;
    return VARVE_OK;
}

static void
space_give_back(void *arg, uint64_t bytes)
{
    (void)arg;
    (void)bytes;
}

static int
commit(void *arg, const struct index_edit *edit, varve_error *err)
{
    struct bench_index *bench = arg;

    (void)err;
    for (size_t i = 0; i < edit->removed_count; i++) {
        size_t at = 0;

        while (at < bench->run_count && bench->runs[at].number != edit->removed[i])
            at++;
        ablation_must(at < bench->run_count, "a run that is not there was removed");
        bench->runs[at] = bench->runs[--bench->run_count];
    }
    if (edit->added != NULL) {
        ablation_must(bench->run_count < BENCH_INDEX_RUNS_MAX, "too many runs");
        bench->runs[bench->run_count++] = *edit->added;
    }
    return VARVE_OK;
}

struct index_settings
bench_index_settings(void)
{
    return (struct index_settings){.memtable_bytes = (uint64_t)8 << 20,
                                   .block_cache_bytes = (uint64_t)64 << 20,
                                   .size_ratio = 8,
                                   .runs_per_level = 3,
                                   .runs_last_level = 1,
                                   .fingerprint_bits = 14};
}

static void
start(struct bench_index *bench)
{
    ablation_must(index_create(bench->env, bench->pool, &bench->hooks, &bench->settings, &bench->index, NULL) ==
                      VARVE_OK,
                  "no index can be made");
}

void
bench_index_create(struct bench_index *bench, const char *path, const struct index_settings *settings)
{
    const struct env_settings env_settings = {.io_engine = "auto",
                                              .direct_io = "auto",
                                              .queue_depth = QUEUE_DEPTH,
                                              .io_threads = IO_THREADS,
                                              .create_dir = true};

    *bench = (struct bench_index){.settings = *settings,
                                  .hooks = {.arg = bench,
                                            .segment_state = segment_state,
                                            .page_removed = page_removed,
                                            .namespace_live = namespace_live,
                                            .new_file_number = new_file_number,
                                            .space_take = space_take,
                                            .space_give_back = space_give_back,
                                            .commit = commit}};
    (void)snprintf(bench->path, sizeof(bench->path), "%s", path);
    ablation_must(env_open_posix(path, &env_settings, &bench->env, NULL) == VARVE_OK, "the directory cannot be made");
    ablation_must(io_queue_pool_create(bench->env, &bench->pool) == 0, "no queues");
    start(bench);
}

void
bench_index_destroy(struct bench_index *bench)
{
    index_destroy(bench->index);
    io_queue_pool_destroy(bench->pool);
    bench->env->ops->destroy(bench->env);
    (void)directory_delete(bench->path);
}

void
bench_index_insert(struct bench_index *bench, const struct entry *entry)
{
    if (!index_has_room(bench->index, entry->count))
        bench_index_flush(bench);
    ablation_must(index_insert(bench->index, entry) == VARVE_OK, "an entry cannot be inserted");
}

void
bench_index_flush(struct bench_index *bench)
{
    struct index_stats stats;
    int rc;

    if (bench->memtable_bytes_per_page == 0) {
        index_stats_get(bench->index, &stats);
        bench->memtable_bytes_per_page = (double)stats.memory_bytes / (double)stats.memtable_pages;
    }
    ablation_must(index_rotate(bench->index, NULL) == VARVE_OK, "no memory for a memtable");
    while ((rc = index_flush(bench->index, NULL)) == VARVE_OK) {
    }
    ablation_must(rc == VARVE_MISS, "a memtable cannot be flushed");
    while ((rc = index_merge(bench->index, UINT64_C(1) << 20, NULL)) == VARVE_OK) {
    }
    ablation_must(rc == VARVE_MISS, "runs cannot be merged");
    index_stats_get(bench->index, &stats);
    bench->bytes_flushed = stats.bytes_flushed;
    bench->bytes_merged = stats.bytes_merged;
}

void
bench_index_reopen(struct bench_index *bench, uint64_t block_cache_bytes)
{
    index_destroy(bench->index);
    directory_uncache(bench->path); /* where the file system has no direct I/O */
    bench->settings.block_cache_bytes = block_cache_bytes;
    start(bench);
    for (size_t i = 0; i < bench->run_count; i++)
        ablation_must(index_add_run(bench->index, &bench->runs[i], NULL) == VARVE_OK, "a run cannot be opened");
}

uint64_t
bench_index_memory(struct bench_index *bench)
{
    struct index_view *view = index_view_acquire(bench->index);
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < view->run_count; i++)
        bytes += run_memory_bytes(view->runs[i]);
    index_view_release(view);
    return bytes;
}

uint64_t
bench_index_disk(const struct bench_index *bench)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < bench->run_count; i++)
        bytes += bench->runs[i].file_bytes;
    return bytes;
}

uint64_t
bench_index_blocks_read(struct bench_index *bench)
{
    struct index_stats stats;

    index_stats_get(bench->index, &stats);
    ablation_must(stats.blocks_corrupt == 0 && stats.read_errors == 0, "blocks could not be read");
    return stats.block_cache_misses;
}
