/* SPDX-License-Identifier: Apache-2.0 */
/* See measure.h. */
#include "control/measure.h"

#include "format/run_format.h"

#define PAGE_BYTES_UNKNOWN 28    /* of a run, while there is none: docs/FORMAT.md */
#define WEIGHT             0.2   /* of the last window, in what is averaged */
#define IN_VAIN_MIN        20000 /* locators asked in vain; fewer are too few for what happens once in thousands */

/* Until something was measured: an NVMe drive, and what gcc 12 made of merges and locators on a 2 GHz core. */
const struct control_constants control_constants_initial = {
    .read_s = 100e-6,
    .locator_s = 30e-9,
    .false_rate = 1.0 / 8192,
    .merge_page_s = 0.25e-6,
    .flush_page_s = 0.25e-6,
    .flush_s = 5e-3,
    .memtable_pages = 1.0 / 40,
    .extent_pages = 16,
    .reuse_step_bytes = BLOCK_BYTES,
};

static void
measure(double *constant, double sum, double count)
{
    if (count > 0 && sum > 0)
        *constant += WEIGHT * (sum / count - *constant);
}

/* What things cost, from the window's sums. */
void
control_measure_constants(struct control_constants *constants, const struct control_sums *a,
                          const struct control_sums *b)
{
    const struct index_stats *from = &a->index, *to = &b->index;
    double searches = (double)(to->searches - from->searches),
           found = (double)(to->searches_found - from->searches_found);
    double probed = (double)(to->locators_probed - from->locators_probed);
    double in_vain = searches > 0 ? probed - found * (probed / searches + 1) / 2 : 0;
    double flushes = (double)(to->flushes - from->flushes), flushed = (double)(to->pages_flushed - from->pages_flushed);
    double flush_s = (double)(b->flush_us - a->flush_us) / 1e6 - flushed * constants->flush_page_s;

    measure(&constants->read_s, (double)(to->block_read_ns - from->block_read_ns) / 1e9,
            (double)(to->block_reads - from->block_reads));
    measure(&constants->locator_s, (double)(to->locators_ns - from->locators_ns) / 1e9,
            (double)(to->locators_timed - from->locators_timed));
    measure(&constants->merge_page_s, (double)(to->merge_ns - from->merge_ns) / 1e9,
            (double)(to->pages_merged - from->pages_merged));
    constants->flush_page_s = constants->merge_page_s; /* the same code, with less to read */
    measure(&constants->flush_s, flush_s, flushes);
    if (in_vain >= IN_VAIN_MIN)
        constants->false_rate +=
            WEIGHT * ((double)(to->locator_false_hits - from->locator_false_hits) / in_vain - constants->false_rate);
    measure(&constants->memtable_pages, (double)(to->pages_rotated - from->pages_rotated),
            (double)(to->rotated_bytes - from->rotated_bytes));
    measure(&constants->extent_pages, (double)(b->put_pages - a->put_pages), (double)(b->extents - a->extents));
}

/* Seconds that the index took in a window. */
static double
index_seconds(const struct control_constants *constants, const struct control_sums *a, const struct control_sums *b)
{
    const struct index_stats *from = &a->index, *to = &b->index;
    uint64_t ns = to->block_read_ns - from->block_read_ns + to->merge_ns - from->merge_ns;

    return (double)ns / 1e9 + (double)(b->flush_us - a->flush_us) / 1e6 +
           (double)(to->locators_probed - from->locators_probed) * constants->locator_s;
}

void
control_measure_mix(const struct control_constants *constants, const struct control_sums *a,
                    const struct control_sums *b, const struct reuse_sample *reuse, struct control_mix *mix)
{
    const struct index_stats *from = &a->index, *to = &b->index;
    double seconds = (double)(b->at_ns - a->at_ns) / 1e9;
    uint64_t pins = to->block_cache_hits + to->block_cache_misses - from->block_cache_hits - from->block_cache_misses;
    uint64_t onward = to->searches_onward - from->searches_onward;
    uint64_t found = to->searches_found - from->searches_found - onward;
    uint64_t false_hits = to->locator_false_hits - from->locator_false_hits;

    *mix = (struct control_mix){
        .pages_put = (double)(b->put_pages - a->put_pages) / seconds,
        .walks = (double)(to->walks - from->walks) / seconds,
        .searches = (double)(to->searches - from->searches - onward) / seconds,
        .searches_found = (double)found / seconds,
        .onward_pins = pins > found + false_hits ? (double)(pins - found - false_hits) / seconds : 0,
        .reads = (double)(to->block_reads - from->block_reads) / seconds,
        .payload_s = (double)(b->get_us - a->get_us + b->put_us - a->put_us) / 1e6 / seconds,
        .index_s = index_seconds(constants, a, b) / seconds,
    };
    mix->uses[REUSE_BUCKETS] = (double)reuse->uses;
    for (int i = 0; i < REUSE_BUCKETS; i++) {
        mix->uses[i] = (double)reuse->found[i];
        mix->uses[REUSE_BUCKETS] -= mix->uses[i];
    }
}

void
control_measure_layout(struct index *index, struct outlook_layout *layout)
{
    struct run_meta runs[OUTLOOK_RUNS_MAX];
    struct index_view *view = index_view_acquire(index);
    size_t count = index_view_runs(view, runs, OUTLOOK_RUNS_MAX);
    double pages = 0, bytes = 0;

    index_view_release(view);
    *layout = (struct outlook_layout){.base_bytes = index_level_base(index)};
    layout->count = count < OUTLOOK_RUNS_MAX ? count : OUTLOOK_RUNS_MAX;
    for (size_t i = 0; i < layout->count; i++) {
        layout->runs[i] = (struct outlook_run){.pages = (double)runs[i].pages, .level = runs[i].level};
        pages += (double)runs[i].pages;
        bytes += (double)runs[i].file_bytes;
    }
    layout->page_bytes = pages > 0 ? bytes / pages : PAGE_BYTES_UNKNOWN;
}
