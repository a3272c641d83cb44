/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flushes and merges; see merge.h. Capacity for the largest output that the inputs can make is taken before the first
 * byte is written, and what was not needed is given back. Nothing refers to the output before merge_commit(), and all
 * that can fail is done before the edit is committed.
 */
#include "index/merge.h"

#include <assert.h>

#include "base/error.h"
#include "index/join.h"
#include "index/run_write.h"
#include "index/source.h"

/*
 * A damaged block makes the merge fail, and its inputs stay: the next try may read it right. One that is damaged this often is lost, and
 * left out, or its level would never be merged again.
 */
struct merge {
    struct index *index;
    struct memtable *memtable; /* referenced, or NULL */
    struct run **runs;         /* referenced; run_count */
    uint64_t *numbers;         /* of the runs */
    size_t run_count;
    uint32_t level;
    uint64_t output_number; /* of the file being written */
    struct source_set sources;
    struct join join;
    struct run_writer *writer;
    struct run *output;   /* finished, not yet committed */
    uint64_t bytes_taken; /* of capacity, for a file that is not finished */
    uint64_t entries_in;
    uint64_t pages_in;
    uint64_t entries_dropped;
    uint64_t state_segment; /* what is known of segments and namespaces, to ask less often */
    uint32_t state_ns;
    bool segment_live, ns_live;
    bool has_segment, has_ns;
};

static void
bound_of_memtable(const struct memtable *memtable, struct run_bound *bound)
{
    for (const struct mem_entry *node = memtable_first(memtable); node != NULL; node = memtable_next(node)) {
        bound->entries++;
        bound->pages += node->entry.count;
        bound->array_bytes += (uint64_t)node->entry.count * entry_bytes_per_page(&node->entry);
    }
}

static void
bound_of_run(const struct run *run, struct run_bound *bound)
{
    bound->entries += run->meta.entries;
    bound->pages += run->meta.pages;
    bound->array_bytes += (uint64_t)run->meta.blocks * (BLOCK_BYTES - BLOCK_HEADER_BYTES);
}

/* Reference the inputs, open them as sources, and add up what they hold. */
static int
take_inputs(struct merge *merge, const struct merge_inputs *inputs, struct run_bound *bound)
{
    struct env *env = merge->index->env;
    uint32_t runs = inputs->memtable != NULL ? 0 : inputs->view->run_count;

    merge->runs = env_zalloc(env, (runs + 1) * sizeof(struct run *));
    merge->numbers = env_zalloc(env, (runs + 1) * sizeof(uint64_t));
    if (merge->runs == NULL || merge->numbers == NULL ||
        source_set_init(&merge->sources, env, merge->index->pool, runs + 1,
                        merge->index->merge_failures < MERGE_TRIES) < 0)
        return VARVE_E_NOMEM;
    if (inputs->memtable != NULL) {
        merge->memtable = inputs->memtable;
        memtable_ref(merge->memtable);
        source_set_add_memtable(&merge->sources, merge->memtable);
        bound_of_memtable(merge->memtable, bound);
    }
    for (uint32_t i = 0; i < runs; i++) {
        struct run *run = inputs->view->runs[i];

        if (!inputs->picked[i].picked)
            continue;
        merge->runs[merge->run_count] = run;
        merge->numbers[merge->run_count++] = run->meta.number;
        run_ref(run);
        if (source_set_add_run(&merge->sources, run) < 0)
            return VARVE_E_NOMEM;
        bound_of_run(run, bound);
    }
    return VARVE_OK;
}

int
merge_create(struct index *index, const struct merge_inputs *inputs, struct merge **out, varve_error *err)
{
    const struct index_hooks *hooks = &index->hooks;
    struct merge *merge = env_zalloc(index->env, sizeof(*merge));
    struct run_bound bound = {0};
    uint32_t fingerprint_bits;
    uint64_t bytes;
    int rc;

    if (merge == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory for a merge");
    mutex_lock(&index->lock);
    fingerprint_bits = index->settings.fingerprint_bits;
    mutex_unlock(&index->lock);
    merge->index = index;
    merge->level = inputs->level;
    rc = join_init(&merge->join, index->env);
    if (rc == VARVE_OK)
        rc = take_inputs(merge, inputs, &bound);
    if (rc < 0) {
        rc = error_set(err, rc, "out of memory for a merge");
        goto fail;
    }
    if (bound.entries == 0) {
        *out = merge; /* an empty memtable: nothing to write, only to commit */
        return VARVE_OK;
    }
    bytes = run_bound_file_bytes(&bound, fingerprint_bits);
    rc = hooks->space_take(hooks->arg, bytes);
    if (rc < 0) {
        rc = error_set(err, rc, "no capacity left for an index run of up to %llu bytes", (unsigned long long)bytes);
        goto fail;
    }
    merge->bytes_taken = bytes;
    merge->output_number = hooks->new_file_number(hooks->arg);
    rc =
        run_writer_create(index->env, index->pool, merge->output_number, &bound, fingerprint_bits, &merge->writer, err);
    if (rc < 0)
        goto fail;
    *out = merge;
    return VARVE_OK;

fail:
    merge_destroy(merge);
    return rc;
}

/* Let go of the writer, and of the capacity that its file did not need. A file that cannot be removed keeps its space. */
static void
release_writer(struct merge *merge)
{
    const struct index_hooks *hooks = &merge->index->hooks;
    bool gone = merge->writer == NULL || run_writer_destroy(merge->writer);

    merge->writer = NULL;
    if (gone && merge->bytes_taken > 0)
        hooks->space_give_back(hooks->arg, merge->bytes_taken);
    merge->bytes_taken = 0;
}

void
merge_destroy(struct merge *merge)
{
    struct index *index = merge->index;

    release_writer(merge);
    if (merge->output != NULL) {
        run_mark_obsolete(merge->output);
        run_unref(merge->output);
    }
    counter_add(&index->counters.blocks_corrupt, merge->sources.counters.blocks_corrupt);
    counter_add(&index->counters.read_errors, merge->sources.counters.read_errors);
    if (merge->sources.sources != NULL)
        source_set_deinit(&merge->sources);
    join_deinit(&merge->join);
    if (merge->memtable != NULL)
        memtable_unref(merge->memtable);
    for (size_t i = 0; i < merge->run_count; i++)
        run_unref(merge->runs[i]);
    env_free(index->env, merge->runs);
    env_free(index->env, merge->numbers);
    env_free(index->env, merge);
}

static bool
is_dead(struct merge *merge, const struct entry *entry)
{
    const struct index_hooks *hooks = &merge->index->hooks;

    if (!merge->has_segment || merge->state_segment != entry->segment) {
        merge->segment_live = hooks->segment_state(hooks->arg, entry->segment) != SEGMENT_GONE;
        merge->state_segment = entry->segment;
        merge->has_segment = true;
    }
    if (!merge->has_ns || merge->state_ns != entry->key.ns_id) {
        merge->ns_live = hooks->namespace_live(hooks->arg, entry->key.ns_id);
        merge->state_ns = entry->key.ns_id;
        merge->has_ns = true;
    }
    return !merge->segment_live || !merge->ns_live;
}

int
merge_step(struct merge *merge, uint64_t budget_bytes, varve_error *err)
{
    uint64_t until = merge->sources.counters.bytes_read + budget_bytes;
    struct entry entry, complete;
    int rc;

    merge->has_segment = merge->has_ns = false; /* may have changed since the last call */
    do {
        rc = source_set_next(&merge->sources, &entry, err);
        if (rc != VARVE_OK)
            break;
        merge->entries_in++;
        merge->pages_in += entry.count;
        if (is_dead(merge, &entry)) {
            merge->entries_dropped++;
            continue;
        }
        if (join_put(&merge->join, &entry, &complete))
            rc = run_writer_add(merge->writer, &complete, err);
    } while (rc == VARVE_OK && merge->sources.counters.bytes_read <= until);
    if (rc == VARVE_MISS && join_end(&merge->join, &complete)) {
        int added = run_writer_add(merge->writer, &complete, err);

        if (added < 0)
            rc = added;
    }
    return rc;
}

/* Finish the file, if anything is in it, and settle the capacity. */
static int
finish_output(struct merge *merge, varve_error *err)
{
    const struct index_hooks *hooks = &merge->index->hooks;

    if (merge->writer != NULL && run_writer_entries(merge->writer) > 0) {
        int rc = run_writer_finish(merge->writer, hooks, merge->level, &merge->output, err);

        if (rc < 0)
            return rc;
        assert(merge->output->meta.file_bytes <= merge->bytes_taken);
        merge->bytes_taken -= merge->output->meta.file_bytes; /* the run answers for the rest */
    }
    release_writer(merge);
    return VARVE_OK;
}

static void
count_work(const struct merge *merge)
{
    struct index_counters *counters = &merge->index->counters;
    uint64_t bytes = merge->output == NULL ? 0 : merge->output->meta.file_bytes;

    counter_add(merge->memtable != NULL ? &counters->flushes : &counters->merges, 1);
    counter_add(merge->memtable != NULL ? &counters->bytes_flushed : &counters->bytes_merged, bytes);
    counter_add(merge->memtable != NULL ? &counters->pages_flushed : &counters->pages_merged, merge->pages_in);
    if (merge->memtable == NULL)
        counter_add(&counters->entries_merged, merge->entries_in);
    counter_add(&counters->entries_dropped, merge->entries_dropped);
}

int
merge_commit(struct merge *merge, varve_error *err)
{
    struct index *index = merge->index;
    struct index_edit edit = {
        .removed = merge->numbers,
        .removed_count = merge->run_count,
        .flush_mark = merge->memtable == NULL ? NULL : merge->memtable->mark,
    };
    struct view_change change = {
        .dropped_memtable = merge->memtable,
        .removed = merge->runs,
        .removed_count = merge->run_count,
    };
    struct index_view *next;
    bool published;
    int rc;

    rc = finish_output(merge, err);
    if (rc < 0)
        return rc;
    next = view_create(index, view_run_count(index) + 1);
    if (next == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory for a view of the index");
    if (merge->output != NULL)
        edit.added = &merge->output->meta;
    rc = index->hooks.commit(index->hooks.arg, &edit, err);
    if (rc < 0) {
        index_view_release(next);
        if (merge->output != NULL && rc != VARVE_E_NOMEM) {
            /* The edit may be on the disk, so the file has to be; the next open uses it, or removes it. */
            run_unref(merge->output);
            merge->output = NULL;
        }
        return rc;
    }
    change.run = merge->output;
    published = view_publish(index, next, &change);
    assert(published); /* only this thread changes the set of runs */
    (void)published;
    count_work(merge);
    if (merge->output != NULL) {
        index->grown |= UINT32_C(1) << merge->output->meta.level;
        run_unref(merge->output);
        merge->output = NULL;
    }
    return VARVE_OK;
}

uint64_t
merge_output_number(const struct merge *merge)
{
    return merge->output_number;
}
