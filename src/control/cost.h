/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cost.h - what the index costs under a configuration, for a mix of work. Pure.
 *
 * Costs are seconds of threads and of the device, for each second of the mix: reads of blocks, searches of locators, flushes, merges, and
 * the reads that merges bring about by replacing cached blocks. docs/controller.md has the formulas; they are those of Dostoevsky (Dayan and Idreos, SIGMOD '18) with
 * the levels as outlook.h plays them, the Bloom filter's false positives replaced by the locator's, and cache hits from a sampled LRU stack.
 */
#ifndef VARVE_CONTROL_COST_H
#define VARVE_CONTROL_COST_H

#include "control/outlook.h"
#include "index/reuse.h"

/* What the controller chooses. */
struct control_choice {
    uint32_t size_ratio;       /* T */
    uint32_t runs_per_level;   /* K */
    uint32_t runs_last_level;  /* Z */
    uint32_t fingerprint_bits; /* least width of the fingerprints of locators to come */
    uint64_t memtable_bytes;
    uint64_t cache_bytes;
};

/* Work: rates, each a second. */
struct control_mix {
    double pages_put;      /* inserted into the index */
    double walks;          /* calls that found pages in runs */
    double searches;       /* of all locators, */
    double searches_found; /* that found the page in a run, coming from another: each pins a block */
    double onward_pins;    /* other blocks pinned, by walks that go on into the next one */
    double reads;          /* blocks read */
    double payload_s;      /* seconds of calls in reads and writes of payload */
    double index_s;        /* seconds that the index took, as measured: what control_cost_of() predicts */
    double uses[REUSE_BUCKETS +
                1]; /* of blocks, by the size of cache that would have held them, in steps; the last: none */
};

/* What things cost on this machine and for this store. */
struct control_constants {
    double read_s;         /* to read a block */
    double locator_s;      /* to ask one locator */
    double false_rate;     /* of a locator that is asked for a page it does not have, with fingerprints of false_bits */
    double merge_page_s;   /* to merge a page, per page of input */
    double flush_page_s;   /* to write a page to a run */
    double flush_s;        /* a flush, whatever its size: syncs */
    double memtable_pages; /* that a byte of memtable holds */
    double extent_pages;   /* pages of an extent put */
    double memtable_extents; /* that any memtable holds at most; 0: no limit */
    double reuse_step_bytes; /* of control_mix.uses */
    uint32_t false_bits;
};

struct control_cost {
    double reads, locators, flushes, merges, refills;
    double total;
};

/* Pages of one flush. */
double control_flush_pages(const struct control_constants *constants, uint64_t memtable_bytes);

/*
 * The cost of a mix where the levels are as `outlook` says; `now` are the levels that the mix was measured with, `pages` those in runs, and `page_bytes` what one takes
 * in a run.
 */
struct control_levels {
    const struct outlook *now, *outlook;
    double pages, page_bytes;
};
void control_cost_of(const struct control_mix *mix, const struct control_constants *constants,
                     const struct control_levels *levels, const struct control_choice *choice,
                     struct control_cost *out);

/* Of uses of blocks, the share that a cache of so many bytes would not have. */
double control_miss_ratio(const struct control_mix *mix, const struct control_constants *constants, double cache_bytes);

#endif
