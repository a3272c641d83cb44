/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page's state is three sets of two bits: may be present, may be absent; now, after a kill, after a power failure. A call in flight
 * adds to the sets; its acknowledgement takes away.
 */
#include "oracle.h"

#include <stdlib.h>

#include "sim_log.h"

enum {
    PRESENT = 1,
    ABSENT = 2,
    EITHER = 3,
    AFTER_KILL = 2,  /* shifts */
    AFTER_POWER = 4, /* now: 0 */
};

/* Of given_up. Recency that was saved before a crash may give up again what was used since. */
#define GIVEN_UP      1u
#define GIVEN_UP_ONCE 2u

#define TWIN_PREFIX_BYTES 16

static unsigned
state_get(const struct oracle *oracle, uint32_t ns, uint32_t page, unsigned shift)
{
    assert(ns < oracle->settings.namespaces && page < oracle->pages);
    return oracle->states[(size_t)ns * oracle->pages + page] >> shift & EITHER;
}

static void
state_set(struct oracle *oracle, uint32_t ns, uint32_t page, unsigned shift, unsigned set)
{
    uint8_t *state = &oracle->states[(size_t)ns * oracle->pages + page];

    assert(set != 0);
    *state = (uint8_t)((*state & ~(unsigned)(EITHER << shift)) | set << shift);
}

static void
state_allow(struct oracle *oracle, uint32_t ns, uint32_t page, unsigned set)
{
    oracle->states[(size_t)ns * oracle->pages + page] |= (uint8_t)(set | set << AFTER_KILL | set << AFTER_POWER);
}

struct oracle *
oracle_create(const struct oracle_settings *settings)
{
    struct oracle *oracle = sim_alloc(sizeof(*oracle));
    struct sim_rng rng = sim_rng_make(settings->seed, 3);
    size_t states;

    oracle->settings = *settings;
    oracle->pages = settings->chains * settings->chain_pages;
    assert(oracle->pages > 0 && oracle->pages <= ORACLE_PAGES_MAX);
    oracle->chains = sim_alloc(settings->chains * sizeof(*oracle->chains));
    for (uint32_t i = 0; i < settings->chains; i++) {
        oracle->chains[i].from = i;
        if (i > 0 && settings->chain_pages > 1 && sim_rng_chance(&rng, 600)) {
            oracle->chains[i].from = (uint32_t)sim_rng_below(&rng, i);
            oracle->chains[i].fork = (uint32_t)sim_rng_between(&rng, 1, settings->chain_pages - 1);
        }
    }
    states = (size_t)settings->namespaces * oracle->pages;
    oracle->states = sim_alloc(states);
    oracle->used_ns = sim_alloc(states * sizeof(*oracle->used_ns));
    oracle->given_up = sim_alloc(states);
    oracle->pinned = sim_alloc(states);
    oracle->limits = sim_alloc(settings->namespaces * sizeof(*oracle->limits));
    oracle_new_life(oracle);
    memset(oracle->states, ABSENT | ABSENT << AFTER_KILL | ABSENT << AFTER_POWER, states);
    return oracle;
}

void
oracle_destroy(struct oracle *oracle)
{
    if (oracle == NULL)
        return;
    free(oracle->chains);
    free(oracle->states);
    free(oracle->used_ns);
    free(oracle->given_up);
    free(oracle->pinned);
    free(oracle->limits);
    free(oracle);
}

uint32_t
oracle_page(const struct oracle *oracle, uint32_t chain, uint32_t depth)
{
    assert(chain < oracle->settings.chains && depth < oracle->settings.chain_pages);
    while (depth < oracle->chains[chain].fork)
        chain = oracle->chains[chain].from;
    return chain * oracle->settings.chain_pages + depth;
}

/* The root whose prefix this page's id shares, or the page itself. */
static uint32_t
twin_of(const struct oracle *oracle, uint32_t page)
{
    uint32_t chain = page / oracle->settings.chain_pages;

    if (oracle->settings.twins && page % oracle->settings.chain_pages == 0 && chain % 2 == 1)
        return page - oracle->settings.chain_pages;
    return page;
}

static bool
is_twin(const struct oracle *oracle, uint32_t page)
{
    return oracle->settings.twins && page % oracle->settings.chain_pages == 0;
}

varve_id
oracle_id(const struct oracle *oracle, uint32_t page)
{
    struct sim_rng rng = sim_rng_make(oracle->settings.seed, 0x100000000u + page);
    struct sim_rng twin = sim_rng_make(oracle->settings.seed, 0x100000000u + twin_of(oracle, page));
    varve_id id;

    sim_rng_fill(&rng, id.bytes, sizeof(id.bytes));
    sim_rng_fill(&twin, id.bytes, TWIN_PREFIX_BYTES);
    /* Where a prefix is found, by oracle_find(): its page number is in it. */
    for (int i = 0; i < 4; i++)
        id.bytes[i] = (uint8_t)(twin_of(oracle, page) >> 8 * i ^ id.bytes[4 + i]);
    return id;
}

uint32_t
oracle_find(const struct oracle *oracle, const uint8_t prefix[16])
{
    uint32_t page = 0;
    varve_id id;

    for (int i = 0; i < 4; i++)
        page |= (uint32_t)(prefix[i] ^ prefix[4 + i]) << 8 * i;
    if (page >= oracle->pages)
        return UINT32_MAX;
    id = oracle_id(oracle, page);
    return memcmp(id.bytes, prefix, 16) == 0 ? page : UINT32_MAX;
}

uint32_t
oracle_size(const struct oracle *oracle, uint32_t ns, uint32_t page)
{
    struct sim_rng rng = sim_rng_make(oracle->settings.seed ^ (uint64_t)ns << 56, 0x200000000u + page);
    uint32_t max = oracle->settings.size_max;

    switch (oracle->settings.sizes) {
    case ORACLE_SIZES_FIXED:
        return max;
    case ORACLE_SIZES_ANY:
        return (uint32_t)sim_rng_log(&rng, (uint64_t)max + 1) - 1;
    case ORACLE_SIZES_BLOCKS:
        return (uint32_t)sim_rng_between(&rng, 0, max / 512) * 512;
    }
    return 0;
}

void
oracle_fill(const struct oracle *oracle, uint32_t ns, uint32_t page, uint8_t *data)
{
    struct sim_rng rng = sim_rng_make(oracle->settings.seed ^ (uint64_t)(ns + 1) << 48, 0x300000000u + page);

    sim_rng_fill(&rng, data, oracle_size(oracle, ns, page));
    /* The upper half of an exponent repeats. Not in every page: extents of pages that do not get shorter are wanted, too. */
    for (uint32_t i = 1; oracle->settings.bf16 && page % 8 != 0 && i < oracle_size(oracle, ns, page); i += 2)
        data[i] = (uint8_t)((data[i] & 0x83) | 0x3c);
}

bool
oracle_matches(const struct oracle *oracle, uint32_t ns, uint32_t page, const uint8_t *data)
{
    uint32_t size = oracle_size(oracle, ns, page);
    uint8_t *right = sim_alloc(size);
    bool same;

    oracle_fill(oracle, ns, page, right);
    same = memcmp(right, data, size) == 0;
    free(right);
    return same;
}

/* Whether the store may have given up the page by now, which takes effect while there is a time to live. */
static bool
may_be_given_up(const struct oracle *oracle, uint32_t ns, uint32_t page)
{
    const struct oracle_limits *limits = &oracle->limits[ns];
    size_t index = (size_t)ns * oracle->pages + page;

    if (oracle_pinned(oracle, ns, page))
        return false;
    if (limits->loose || (oracle->given_up[index] & GIVEN_UP) != 0)
        return true;
    return limits->ttl_ns > 0 && oracle->clock_ns != NULL &&
           *oracle->clock_ns - oracle->used_ns[index] >= limits->ttl_ns;
}

/* The limits of a namespace end: what they let die stays dead, in later lives, too, until it is used. */
static void
keep_given_up(struct oracle *oracle, uint32_t ns)
{
    for (uint32_t page = 0; page < oracle->pages; page++) {
        if (may_be_given_up(oracle, ns, page))
            oracle->given_up[(size_t)ns * oracle->pages + page] = GIVEN_UP | GIVEN_UP_ONCE;
    }
}

void
oracle_new_life(struct oracle *oracle)
{
    size_t states = (size_t)oracle->settings.namespaces * oracle->pages;

    for (uint32_t ns = 0; ns < oracle->settings.namespaces; ns++)
        keep_given_up(oracle, ns);
    memset(oracle->used_ns, 0, states * sizeof(*oracle->used_ns));
    memset(oracle->pinned, 0, states);
    memset(oracle->limits, 0, oracle->settings.namespaces * sizeof(*oracle->limits));
}

static void
note_use(uint64_t *used_ns, uint64_t now_ns)
{
    if (*used_ns < now_ns)
        *used_ns = now_ns;
}

void
oracle_use(struct oracle *oracle, uint32_t ns, uint32_t page, uint64_t now_ns)
{
    size_t index = (size_t)ns * oracle->pages + page;

    note_use(&oracle->used_ns[index], now_ns);
    oracle->given_up[index] &= (uint8_t)~GIVEN_UP;
}

void
oracle_limit(struct oracle *oracle, uint32_t ns, uint64_t ttl_ns, bool loose, uint64_t now_ns)
{
    struct oracle_limits *limits = &oracle->limits[ns];

    keep_given_up(oracle, ns);
    for (uint32_t page = 0; page < oracle->pages && limits->ttl_ns == 0; page++)
        note_use(&oracle->used_ns[(size_t)ns * oracle->pages + page], now_ns);
    *limits = (struct oracle_limits){ttl_ns, loose};
}

void
oracle_pin(struct oracle *oracle, uint32_t ns, uint32_t page, bool pinned)
{
    oracle->pinned[(size_t)ns * oracle->pages + page] = pinned;
}

bool
oracle_pinned(const struct oracle *oracle, uint32_t ns, uint32_t page)
{
    return oracle->pinned[(size_t)ns * oracle->pages + page] != 0;
}

void
oracle_unpin_all(struct oracle *oracle)
{
    memset(oracle->pinned, 0, (size_t)oracle->settings.namespaces * oracle->pages);
}

/* Whether a page that is stored may be a miss, for now: it would be there again if there were no time to live. */
static bool
may_have_expired(const struct oracle *oracle, uint32_t ns, uint32_t page)
{
    return oracle->limits[ns].ttl_ns > 0 && may_be_given_up(oracle, ns, page);
}

void
oracle_put_begin(struct oracle *oracle, uint32_t ns, uint32_t page)
{
    state_allow(oracle, ns, page, PRESENT);
}

void
oracle_put(struct oracle *oracle, uint32_t ns, uint32_t page, bool synced)
{
    state_set(oracle, ns, page, 0, PRESENT);
    state_set(oracle, ns, page, AFTER_KILL, PRESENT);
    if (synced)
        state_set(oracle, ns, page, AFTER_POWER, PRESENT);
}

void
oracle_remove_begin(struct oracle *oracle, uint32_t ns, uint32_t page)
{
    oracle_pin(oracle, ns, page, false);
    state_allow(oracle, ns, page, ABSENT);
}

void
oracle_remove(struct oracle *oracle, uint32_t ns, uint32_t page)
{
    state_set(oracle, ns, page, 0, ABSENT);
    state_set(oracle, ns, page, AFTER_KILL, ABSENT);
}

void
oracle_clear_begin(struct oracle *oracle, uint32_t ns)
{
    for (uint32_t page = 0; page < oracle->pages; page++)
        oracle_remove_begin(oracle, ns, page);
}

void
oracle_clear(struct oracle *oracle, uint32_t ns)
{
    for (uint32_t page = 0; page < oracle->pages; page++) {
        state_set(oracle, ns, page, 0, ABSENT);
        state_set(oracle, ns, page, AFTER_KILL, ABSENT);
        state_set(oracle, ns, page, AFTER_POWER, ABSENT);
    }
}

static void
copy_all(struct oracle *oracle, unsigned from, unsigned to)
{
    for (uint32_t ns = 0; ns < oracle->settings.namespaces; ns++) {
        for (uint32_t page = 0; page < oracle->pages; page++)
            state_set(oracle, ns, page, to, state_get(oracle, ns, page, from));
    }
}

void
oracle_sync(struct oracle *oracle)
{
    copy_all(oracle, 0, AFTER_POWER);
}

void
oracle_dropped(struct oracle *oracle)
{
    for (uint32_t ns = 0; ns < oracle->settings.namespaces; ns++) {
        for (uint32_t page = 0; page < oracle->pages; page++) {
            if (oracle_pinned(oracle, ns, page)) /* whatever becomes of it once it is not */
                oracle->states[(size_t)ns * oracle->pages + page] |= ABSENT << AFTER_KILL | ABSENT << AFTER_POWER;
            else
                state_allow(oracle, ns, page, ABSENT);
        }
    }
}

void
oracle_crash(struct oracle *oracle, enum sim_crash_mode mode)
{
    if (mode == SIM_CRASH_POWER)
        copy_all(oracle, AFTER_POWER, AFTER_KILL);
    copy_all(oracle, AFTER_KILL, 0);
    for (size_t i = 0; i < (size_t)oracle->settings.namespaces * oracle->pages; i++) {
        if (oracle->given_up[i] != 0)
            oracle->given_up[i] |= GIVEN_UP;
    }
}

bool
oracle_may_be(const struct oracle *oracle, uint32_t ns, uint32_t page, bool present)
{
    return oracle->lenient || is_twin(oracle, page) || (!present && may_have_expired(oracle, ns, page)) ||
           (state_get(oracle, ns, page, 0) & (present ? PRESENT : ABSENT)) != 0;
}

bool
oracle_observe(struct oracle *oracle, uint32_t ns, uint32_t page, bool present)
{
    if (!oracle_may_be(oracle, ns, page, present))
        return false;
    if (oracle->lenient || is_twin(oracle, page) || (!present && may_have_expired(oracle, ns, page)))
        return true;
    state_set(oracle, ns, page, 0, present ? PRESENT : ABSENT);
    /* What is there is on the disk, and the death of the process takes nothing from it. */
    if (present && !oracle->in_doubt)
        state_set(oracle, ns, page, AFTER_KILL, PRESENT);
    return true;
}
