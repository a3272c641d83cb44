/* SPDX-License-Identifier: Apache-2.0 */
/* Whether to code an extent is decided by what was measured: by gets, and before there were any by coding_trial(). */
#include "store/coding.h"

#include <assert.h>

#include "base/error.h"
#include "store/store.h"

#define THREADS_MAX        8                    /* unless asked for: they decode faster than most drives read */
#define SAMPLED_PAGES      3                    /* of an extent: the first, the last, and one between them */
#define MEASURED_BYTES_MIN ((uint64_t)64 << 10) /* of one call */

void
coding_init(struct coding *coding, struct env *env, uint32_t threads)
{
    if (threads == 0)
        threads = env->cores > THREADS_MAX ? THREADS_MAX : env->cores;
    if (threads == 0)
        threads = 1;
    coding->threads = threads;
    codec_pool_init(&coding->codecs, env, threads);
    buffers_init(&coding->buffers, env, IO_ALIGN_MAX);
    crew_init(&coding->crew, threads - 1);
    mutex_init(&coding->lock);
}

void
coding_deinit(struct coding *coding)
{
    crew_deinit(&coding->crew);
    buffers_deinit(&coding->buffers);
    codec_pool_deinit(&coding->codecs);
    mutex_deinit(&coding->lock);
}

static enum codec_mode
option_codec(varve_store *store)
{
    enum codec_mode mode;

    mutex_lock(&store->background.lock);
    mode = (enum codec_mode)store->options.codec;
    mutex_unlock(&store->background.lock);
    return mode;
}

static uint32_t
sample_pages(enum varve_element element, varve_page *const *pages, size_t count)
{
    size_t samples = count < SAMPLED_PAGES ? count : SAMPLED_PAGES;
    uint32_t sum = 0;

    assert(count > 0);
    for (size_t i = 0; i < samples; i++) {
        const varve_page *page = pages[samples == 1 ? 0 : i * (count - 1) / (samples - 1)];

        sum += codec_sample(element, page->iov, page->iov_count);
    }
    return sum / (uint32_t)samples;
}

void
coding_measured(struct coding *coding, uint64_t bytes, uint64_t stored_bytes, uint64_t time_ns)
{
    if (bytes < MEASURED_BYTES_MIN)
        return;
    store_average(&coding->decode_speed, bytes_per_second(bytes, time_ns));
    store_average(&coding->decode_stored_speed, bytes_per_second(stored_bytes, time_ns));
}

void
coding_written(varve_store *store, const struct written_extent *extent)
{
    if (extent->bytes < BANDWIDTH_SAMPLE_MIN ||
        atomic_load_explicit(&store->coding.coded_bandwidth, memory_order_relaxed) != 0)
        return;
    mutex_lock(&store->coding.lock);
    if (extent->bytes > store->coding.written.bytes)
        store->coding.written = *extent;
    mutex_unlock(&store->coding.lock);
}

/* Once, when there is an extent to read. */
static void
try_out(varve_store *store, enum varve_element element, const varve_page *page, const struct coding_files *files)
{
    struct written_extent extent;

    mutex_lock(&store->coding.lock);
    extent = store->coding.written;
    store->coding.written.bytes = 0;
    mutex_unlock(&store->coding.lock);
    if (extent.bytes > 0)
        coding_trial(store, element, page, &extent, files);
}

bool
coding_trial_due(varve_store *store)
{
    bool due;

    mutex_lock(&store->coding.lock);
    due = store->coding.written.bytes > 0;
    mutex_unlock(&store->coding.lock);
    /* Not before gets have shown what it is to be compared with: the trial's own reads would be slowed by writes, as those of gets are not. */
    return due && option_codec(store) == CODEC_MODE_AUTO &&
           atomic_load_explicit(&store->read_bandwidth, memory_order_relaxed) != 0 &&
           atomic_load_explicit(&store->coding.coded_bandwidth, memory_order_relaxed) == 0;
}

enum codec_choice
coding_choose(varve_store *store, enum varve_element element, varve_page *const *pages, size_t count,
              const struct coding_files *files)
{
    struct coding *coding = &store->coding;
    struct codec_facts facts = {.mode = option_codec(store), .pages = count};

    if (facts.mode != CODEC_MODE_OFF)
        facts.stored_permille = sample_pages(element, pages, count);
    if (facts.mode == CODEC_MODE_AUTO) {
        if (coding_trial_due(store))
            try_out(store, element, pages[0], files);
        facts.read_bandwidth = atomic_load_explicit(&store->read_bandwidth, memory_order_relaxed);
        facts.coded_bandwidth = atomic_load_explicit(&coding->coded_bandwidth, memory_order_relaxed);
        facts.decode_speed = atomic_load_explicit(&coding->decode_speed, memory_order_relaxed);
    }
    return codec_choose(&facts);
}
