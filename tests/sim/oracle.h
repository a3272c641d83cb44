/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oracle.h - what must be true of a store, from the calls made to it.
 *
 * The pages of a run form a small universe: chains that fork from one another, in a few namespaces. Ids, sizes and bytes are functions of the
 * seed, so the oracle keeps no bytes: for each page it keeps what an observer may see now, after the death of the process, and
 * after a power failure: present, absent, or either. An observation that is not allowed is a bug of the store.
 */
#ifndef VARVE_SIM_ORACLE_H
#define VARVE_SIM_ORACLE_H

#include "sim_disk.h"

#define ORACLE_PAGES_MAX 65536

enum oracle_sizes {
    ORACLE_SIZES_FIXED,  /* all are size_max */
    ORACLE_SIZES_ANY,    /* 0..size_max, small ones as likely as large ones */
    ORACLE_SIZES_BLOCKS, /* multiples of 512 up to size_max */
};

struct oracle_settings {
    uint64_t seed;
    uint32_t namespaces;
    uint32_t chains;
    uint32_t chain_pages; /* pages of each chain, those shared with the chain it forks from included */
    enum oracle_sizes sizes;
    uint32_t size_max;
    bool bf16;  /* pages look like tensors of bf16, and namespaces say so: the codec finds something to do */
    bool twins; /* roots of neighbouring chains share the first 16 bytes of their ids */
};

struct oracle_chain {
    uint32_t from; /* the chain it forks from; itself: a root of its own */
    uint32_t fork; /* pages shared with it */
};

/* Of a namespace, in this life. */
struct oracle_limits {
    uint64_t ttl_ns; /* 0: none */
    bool loose;      /* pages may die of other causes, too, and have no second life */
};

struct oracle {
    struct oracle_settings settings;
    struct oracle_chain *chains;
    uint32_t pages;               /* in the universe; page = chain * chain_pages + depth */
    uint8_t *states;              /* namespace * pages + page */
    const uint64_t *clock_ns;     /* NULL: nothing expires */
    struct oracle_limits *limits; /* by namespace */
    uint64_t *used_ns;            /* as states: when it certainly was, in this life */
    uint8_t *given_up;            /* as states, bits: for age, a quota or capacity, in whatever life */
    uint8_t *pinned;              /* as states */
    bool lenient;                 /* the device lied: any page may be there or not, but never a wrong byte */
    bool in_doubt;                /* calls that failed in this life may yet have an effect in the next */
};

struct oracle *oracle_create(const struct oracle_settings *settings);
void oracle_destroy(struct oracle *oracle);

/* The page at `depth` of a chain. Pages before the fork are the other chain's. */
uint32_t oracle_page(const struct oracle *oracle, uint32_t chain, uint32_t depth);
varve_id oracle_id(const struct oracle *oracle, uint32_t page);
/* The page whose id begins with these 16 bytes, or UINT32_MAX. */
uint32_t oracle_find(const struct oracle *oracle, const uint8_t prefix[16]);
uint32_t oracle_size(const struct oracle *oracle, uint32_t ns, uint32_t page);
/* Its bytes: oracle_size() of them. */
void oracle_fill(const struct oracle *oracle, uint32_t ns, uint32_t page, uint8_t *data);
bool oracle_matches(const struct oracle *oracle, uint32_t ns, uint32_t page, const uint8_t *data);

/* Calls: _begin before each, the other when it was acknowledged. */
void oracle_put_begin(struct oracle *oracle, uint32_t ns, uint32_t page);
void oracle_put(struct oracle *oracle, uint32_t ns, uint32_t page, bool synced);
void oracle_remove_begin(struct oracle *oracle, uint32_t ns, uint32_t page);
void oracle_remove(struct oracle *oracle, uint32_t ns, uint32_t page);
void oracle_clear_begin(struct oracle *oracle, uint32_t ns);
void oracle_clear(struct oracle *oracle, uint32_t ns);
void oracle_sync(struct oracle *oracle);
/* A new life begins: nothing is pinned, nothing expires. */
void oracle_new_life(struct oracle *oracle);
/* Limits were set by a call that began at now_ns: what is there, and was not given up, counts as used then. */
void oracle_limit(struct oracle *oracle, uint32_t ns, uint64_t ttl_ns, bool loose, uint64_t now_ns);
/* A page that was there was used by a call that began at now_ns. */
void oracle_use(struct oracle *oracle, uint32_t ns, uint32_t page, uint64_t now_ns);
void oracle_pin(struct oracle *oracle, uint32_t ns, uint32_t page, bool pinned);
bool oracle_pinned(const struct oracle *oracle, uint32_t ns, uint32_t page);
/* Live pages were lost: those that are pinned may be among them. */
void oracle_unpin_all(struct oracle *oracle);
/* The store dropped a segment: any page may be gone, but pinned ones. */
void oracle_dropped(struct oracle *oracle);
void oracle_crash(struct oracle *oracle, enum sim_crash_mode mode);

bool oracle_may_be(const struct oracle *oracle, uint32_t ns, uint32_t page, bool present);
/* The page was seen to be there, or not: false when that must not be. From now on it is so. */
bool oracle_observe(struct oracle *oracle, uint32_t ns, uint32_t page, bool present);

#endif
