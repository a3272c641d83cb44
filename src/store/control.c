/* SPDX-License-Identifier: Apache-2.0 */
#include "store/control.h"

#include <math.h>

#include "base/error.h"
#include "format/run_format.h"
#include "store/store.h"

/* A window: 5 s, or 20,000 pages looked up or put, but then a tenth of a second at least: shorter ones are noise. */
#define WINDOW_NS_MAX ((uint64_t)5000000000)
#define WINDOW_NS_MIN ((uint64_t)100000000)
#define WINDOW_PAGES  20000u

#define MEMTABLES       3 /* active, and FROZEN_MAX that wait */
#define MEMTABLE_MIN    ((uint64_t)512 << 10)
#define CACHE_BYTES_MIN ((uint64_t)1 << 20)

static struct control_choice
choice_of_options(const struct varve_options *options)
{
    return (struct control_choice){
        .size_ratio = (uint32_t)options->size_ratio,
        .runs_per_level = (uint32_t)options->runs_per_level,
        .runs_last_level = (uint32_t)options->runs_last_level,
        .fingerprint_bits = (uint32_t)options->fingerprint_bits,
        .memtable_bytes = options->memtable_bytes,
        .cache_bytes = options->block_cache_bytes,
    };
}

uint64_t
control_memory(const struct varve_options *options)
{
    return options->block_cache_bytes + MEMTABLES * options->memtable_bytes;
}

void
control_sums_take(varve_store *store, struct control_sums *out)
{
    struct counters *counters = &store->counters;

    index_stats_get(store->index, &out->index);
    out->put_pages = atomic_load_explicit(&counters->put_pages, memory_order_relaxed) +
                     atomic_load_explicit(&counters->survivor_pages, memory_order_relaxed);
    out->extents = atomic_load_explicit(&counters->extents_written, memory_order_relaxed);
    out->get_us = atomic_load_explicit(&counters->get_time_us, memory_order_relaxed) +
                  atomic_load_explicit(&counters->peer_get_time_us, memory_order_relaxed);
    out->put_us = atomic_load_explicit(&counters->put_time_us, memory_order_relaxed) +
                  atomic_load_explicit(&counters->peer_put_time_us, memory_order_relaxed);
    out->flush_us = atomic_load_explicit(&counters->flush_time_us, memory_order_relaxed);
    out->at_ns = store->env->ops->now_ns(store->env);
}

int
control_init(varve_store *store, varve_error *err)
{
    struct control *control = &store->control;
    struct control_choice start = choice_of_options(&store->options);
    const struct control_bounds bounds = {
        .memory_bytes = control_memory(&store->options),
        .memtables = MEMTABLES,
        .memtable_bytes_min =
            store->options.memtable_bytes < MEMTABLE_MIN ? store->options.memtable_bytes : MEMTABLE_MIN,
        .cache_bytes_min =
            store->options.block_cache_bytes < CACHE_BYTES_MIN ? store->options.block_cache_bytes : CACHE_BYTES_MIN,
        .fingerprint_bits_min = (uint32_t)store->options.fingerprint_bits,
    };
    struct reuse_sample sample;

    control->controller = controller_create(store->env, &bounds, &start);
    if (control->controller == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory for the controller");
    (void)controller_configure(control->controller, (enum control_mode)store->options.controller, &start);
    control->constants = control_constants_initial;
    control->constants.memtable_extents = ACTIVE_EXTENTS_MAX;
    control->constants.false_bits = start.fingerprint_bits;
    index_reuse_take(store->index, &sample);
    control->constants.reuse_step_bytes = (double)sample.step_blocks * BLOCK_BYTES;
    control_sums_take(store, &control->begin);
    control->opened_ns = control->begin.at_ns;
    return VARVE_OK;
}

void
control_deinit(varve_store *store)
{
    struct control *control = &store->control;

    controller_destroy(control->controller);
    env_free(store->env, control->earlier);
    control->controller = NULL;
    control->earlier = NULL; /* who fails to become an owner may try again, or be destroyed */
    control->earlier_bytes = 0;
}

static void
apply(varve_store *store, const struct control_choice *choice)
{
    index_set_shape(store->index, choice->size_ratio, choice->runs_per_level, choice->runs_last_level);
    index_set_memory(store->index, choice->memtable_bytes, choice->cache_bytes);
    index_set_fingerprint_bits(store->index, choice->fingerprint_bits);
}

void
control_configure(varve_store *store)
{
    struct control *control = &store->control;
    struct control_choice start = choice_of_options(&store->options);
    enum control_mode mode = (enum control_mode)store->options.controller;

    mutex_lock(&control->lock);
    if (control->controller != NULL && controller_configure(control->controller, mode, &start))
        apply(store, &start);
    mutex_unlock(&control->lock);
}

static bool
window_is_over(const struct control_sums *begin, const struct control_sums *now)
{
    uint64_t ns = now->at_ns - begin->at_ns;
    uint64_t pages = now->put_pages - begin->put_pages + now->index.lookups - begin->index.lookups;

    return pages > 0 && (ns >= WINDOW_NS_MAX || (ns >= WINDOW_NS_MIN && pages >= WINDOW_PAGES));
}

/* Memory that a smaller memtable is to give back would be used until the next flush, which may be long in coming. */
static void
shrink_memtable(varve_store *store, double pages)
{
    mutex_lock(&store->write_lock);
    if ((double)index_active_pages(store->index) > pages && index_frozen_count(store->index) == 0)
        (void)store_rotate(store); /* else the next flush does it */
    mutex_unlock(&store->write_lock);
}

static void
carry_out(varve_store *store, const struct control_decision *decision)
{
    struct control *control = &store->control;

    if (decision->event == CONTROL_NONE)
        return;
    control_log_add(store, decision);
    if (decision->event != CONTROL_SWITCH && decision->event != CONTROL_REVERT)
        return;
    COUNT(&store->counters, control_switches, 1);
    COUNT(&store->counters, control_reverts, decision->event == CONTROL_REVERT);
    apply(store, &decision->to);
    index_look_at_levels(store->index);
    if (decision->to.memtable_bytes < decision->from.memtable_bytes)
        shrink_memtable(store, control_flush_pages(&control->constants, decision->to.memtable_bytes));
}

void
control_slice(varve_store *store)
{
    struct control *control = &store->control;
    uint64_t began_ns = store->env->ops->now_ns(store->env);
    struct outlook_layout layout;
    struct control_decision decision = {.event = CONTROL_NONE};
    struct control_sums now;
    struct reuse_sample reuse;
    struct control_mix mix;

    if (began_ns - control->begin.at_ns < WINDOW_NS_MIN)
        return;
    control_sums_take(store, &now);
    if (!window_is_over(&control->begin, &now))
        return;
    control_measure_layout(store->index, &layout);
    mutex_lock(&control->lock);
    index_reuse_take(store->index, &reuse);
    control_measure_constants(&control->constants, &control->begin, &now);
    control_measure_mix(&control->constants, &control->begin, &now, &reuse, &mix);
    controller_window(control->controller, &mix, (double)(now.at_ns - control->begin.at_ns) / 1e9, &control->constants,
                      &layout, &decision);
    control->constants.false_bits = controller_choice(control->controller).fingerprint_bits;
    control->begin = now;
    mutex_unlock(&control->lock);
    carry_out(store, &decision);
    COUNT(&store->counters, control_windows, 1);
    COUNT(&store->counters, control_time_us, (store->env->ops->now_ns(store->env) - began_ns) / 1000);
}

void
control_gauges(varve_store *store, struct gauges *out)
{
    struct control *control = &store->control;
    struct control_choice choice;
    struct control_mix mix;

    mutex_lock(&control->lock);
    choice = controller_choice(control->controller);
    mix = controller_mix(control->controller);
    out->control_asleep = controller_asleep(control->controller);
    out->control_read_ns = (uint64_t)(control->constants.read_s * 1e9);
    out->control_locator_ps = (uint64_t)(control->constants.locator_s * 1e12);
    out->control_merge_page_ps = (uint64_t)(control->constants.merge_page_s * 1e12);
    out->control_flush_us = (uint64_t)(control->constants.flush_s * 1e6);
    out->control_false_ppb = (uint64_t)(control->constants.false_rate * 1e9);
    mutex_unlock(&control->lock);
    out->control_size_ratio = choice.size_ratio;
    out->control_runs_per_level = choice.runs_per_level;
    out->control_runs_last_level = choice.runs_last_level;
    out->control_fingerprint_bits = choice.fingerprint_bits;
    out->control_memtable_bytes = choice.memtable_bytes;
    out->control_cache_bytes = choice.cache_bytes;
    out->control_index_ppm = (uint64_t)(mix.index_s * 1e6);
    out->control_payload_ppm = (uint64_t)(mix.payload_s * 1e6);
}
