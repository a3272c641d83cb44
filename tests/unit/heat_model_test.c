/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random operations against a model that is as simple as can be: a table of pages with the exact value of their last use, horizons that are moved by looking
 * at all of them, and sums made anew each time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../sim/sim_rng.h"
#include "format/heat_format.h"
#include "index_model.h"
#include "plain_env.h"
#include "reclaim/heat.h"

#define SEGMENTS   8
#define PAGES      48 /* a segment, at most */
#define PAGE       UINT64_C(4096)
#define NAMESPACES 4

struct page {
    bool exists, dead, pinned;
    int ns;
    uint64_t value;
};

struct limits {
    bool exists;
    uint64_t quota;
    uint64_t horizon;
};

struct state {
    struct plain_env *env;
    struct sim_rng rng;
    struct heat *heat;
    struct heat_segment *segments[SEGMENTS];
    struct page pages[SEGMENTS][PAGES];
    uint64_t end[SEGMENTS]; /* in pages */
    uint64_t live_max, horizon;
    unsigned shift;
    struct limits limits[NAMESPACES];
};

static const uint32_t ns_ids[NAMESPACES] = {7, 1, UINT32_MAX, 500};

static uint64_t
horizon_of(const struct state *state, int ns)
{
    const struct limits *limits = &state->limits[ns];

    return limits->exists && limits->horizon > state->horizon ? limits->horizon : state->horizon;
}

static uint64_t
now(const struct state *state)
{
    return state->heat->clock >> state->shift;
}

static uint64_t
bytes_of(const struct state *state, size_t segment, size_t page)
{
    size_t next = page + 1;

    while (next < PAGES && !state->pages[segment][next].exists)
        next++;
    return ((next < PAGES ? next : state->end[segment]) - page) * PAGE;
}

struct sums {
    uint64_t live, pinned;
    uint64_t oldest; /* epoch of a live page that is not pinned; UINT64_MAX: none */
};

/* Of one namespace, or (-1) of all. */
static struct sums
sum(const struct state *state, int ns)
{
    struct sums sums = {.oldest = UINT64_MAX};

    for (size_t i = 0; i < SEGMENTS; i++) {
        for (size_t k = 0; k < PAGES; k++) {
            const struct page *page = &state->pages[i][k];
            uint64_t epoch = page->value >> state->shift;

            if (!page->exists || (ns >= 0 && page->ns != ns))
                continue;
            if (page->pinned) {
                sums.pinned += bytes_of(state, i, k);
            } else if (!page->dead) {
                sums.live += bytes_of(state, i, k);
                sums.oldest = epoch < sums.oldest ? epoch : sums.oldest;
            }
        }
    }
    return sums;
}

/* Horizons have moved. */
static void
let_die(struct state *state)
{
    for (size_t i = 0; i < SEGMENTS; i++) {
        for (size_t k = 0; k < PAGES; k++) {
            struct page *page = &state->pages[i][k];

            if (!page->pinned && page->value >> state->shift < horizon_of(state, page->ns))
                page->dead = true;
        }
    }
}

static void
age(struct state *state, int ns, uint64_t most, uint64_t *horizon)
{
    for (;;) {
        struct sums sums = sum(state, ns);

        if (sums.live + sums.pinned <= most || *horizon >= now(state))
            return;
        *horizon = sums.oldest < now(state) ? sums.oldest + 1 : now(state);
        let_die(state);
    }
}

static void
age_all(struct state *state)
{
    for (int ns = 0; ns < NAMESPACES; ns++) {
        struct limits *limits = &state->limits[ns];

        if (!limits->exists)
            continue;
        limits->horizon = horizon_of(state, ns);
        age(state, ns, limits->quota, &limits->horizon);
    }
    age(state, -1, state->live_max, &state->horizon);
    heat_age(state->heat);
}

static uint64_t
advance(struct state *state, uint64_t depth)
{
    uint64_t value = heat_clock(state->heat, depth);

    for (; state->shift < state->heat->shift; state->shift++) {
        state->horizon /= 2;
        for (int ns = 0; ns < NAMESPACES; ns++)
            state->limits[ns].horizon /= 2;
    }
    assert_int_equal(state->shift, state->heat->shift);
    assert_true(now(state) - state->horizon <= HEAT_SPAN_MAX);
    return value;
}

static void
add_random(struct state *state)
{
    size_t segment = sim_rng_below(&state->rng, SEGMENTS), first = sim_rng_below(&state->rng, PAGES);
    int ns = (int)sim_rng_below(&state->rng, NAMESPACES);
    uint32_t count = 0, most = (uint32_t)sim_rng_between(&state->rng, 1, 12);
    uint64_t places[PAGES], value;
    bool full = sim_rng_chance(&state->rng, 100);
    int rc;

    for (; count < most && first + count < PAGES && !state->pages[segment][first + count].exists; count++)
        places[count] = (first + count) * PAGE;
    if (count == 0)
        return;
    value = advance(state, count);
    value = sim_rng_chance(&state->rng, 100) ? 0 : value;
    atomic_store(&state->env->alloc_fails_in, full ? (long)sim_rng_between(&state->rng, 1, 2) : 0);
    rc = heat_add(state->heat, state->segments[segment], ns_ids[ns], places, count, (first + count) * PAGE, value);
    atomic_store(&state->env->alloc_fails_in, 0);
    assert_true(rc == VARVE_OK || (full && rc == VARVE_E_NOMEM));
    for (uint32_t i = 0; i < count && rc == VARVE_OK; i++)
        state->pages[segment][first + i] = (struct page){.exists = true, .ns = ns, .value = value == 0 ? 0 : value - i};
    if (rc == VARVE_OK && state->end[segment] < first + count)
        state->end[segment] = first + count;
    let_die(state);
}

static void
touch_random(struct state *state)
{
    size_t segment = sim_rng_below(&state->rng, SEGMENTS), slot = sim_rng_below(&state->rng, PAGES);
    uint32_t first = heat_find(state->segments[segment], slot * PAGE, (uint32_t)slot), count, i = 0;
    uint64_t value = advance(state, PAGES);

    if (!state->pages[segment][slot].exists) {
        assert_int_equal(first, state->segments[segment]->count);
        return;
    }
    if (sim_rng_chance(&state->rng, 100)) /* a value of a while ago */
        value -= sim_rng_below(&state->rng, value - PAGES);
    count = (uint32_t)sim_rng_between(&state->rng, 1, state->segments[segment]->count - first);
    heat_touch_run(state->heat, state->segments[segment], first, count, value);
    for (; i < count; slot++) {
        struct page *page = &state->pages[segment][slot];

        if (!page->exists)
            continue;
        if (!page->pinned && (value - i) >> state->shift >= horizon_of(state, page->ns)) {
            page->value = !page->dead && page->value > value - i ? page->value : value - i;
            page->dead = false;
        }
        i++;
    }
}

/* A removed page, or one that is pinned or let go. */
static void
change_random(struct state *state)
{
    size_t segment = sim_rng_below(&state->rng, SEGMENTS), slot = sim_rng_below(&state->rng, PAGES);
    struct page *page = &state->pages[segment][slot];
    struct heat_segment *heat_segment = state->segments[segment];
    uint32_t index = heat_find(heat_segment, slot * PAGE, 0);
    uint64_t value = advance(state, 0);

    if (!page->exists)
        return;
    switch (sim_rng_below(&state->rng, 4)) {
    case 0:
        heat_kill(state->heat, heat_segment, index);
        page->dead = true;
        page->pinned = false;
        break;
    case 1:
        heat_pin(state->heat, heat_segment, index);
        page->dead = false;
        page->pinned = true;
        break;
    default:
        value -= sim_rng_chance(&state->rng, 200) ? sim_rng_below(&state->rng, value) : 0;
        heat_unpin(state->heat, heat_segment, index, value);
        if (page->pinned)
            *page = (struct page){.exists = true, .ns = page->ns, .value = value};
        let_die(state);
    }
}

static void
limit_random(struct state *state)
{
    int ns = (int)sim_rng_below(&state->rng, NAMESPACES);
    struct limits *limits = &state->limits[ns];
    bool full = sim_rng_chance(&state->rng, 200);
    uint64_t quota = sim_rng_chance(&state->rng, 300) ? UINT64_MAX : PAGE * sim_rng_below(&state->rng, 80);
    uint64_t value = state->heat->clock + 100, back = sim_rng_log(&state->rng, value);
    int rc;

    switch (sim_rng_below(&state->rng, 8)) {
    case 0:
        heat_group_destroy(state->heat, ns_ids[ns]);
        limits->exists = false;
        break;
    case 1:
    case 2:
        atomic_store(&state->env->alloc_fails_in, full ? (long)sim_rng_between(&state->rng, 1, 2) : 0);
        rc = heat_group_create(state->heat, ns_ids[ns], quota);
        atomic_store(&state->env->alloc_fails_in, 0);
        assert_true(rc == VARVE_OK || (full && rc == VARVE_E_NOMEM));
        if (rc == VARVE_OK)
            *limits = (struct limits){true, quota, horizon_of(state, ns)};
        break;
    default:
        heat_expire(state->heat, ns_ids[ns], value - back);
        if (limits->exists && (value - back) >> state->shift > horizon_of(state, ns))
            limits->horizon = (value - back) >> state->shift < now(state) ? (value - back) >> state->shift : now(state);
        let_die(state);
    }
}

static void
clear_random(struct state *state)
{
    int ns = (int)sim_rng_below(&state->rng, NAMESPACES);

    heat_gone(state->heat, ns_ids[ns]);
    state->limits[ns].exists = false;
    for (size_t i = 0; i < SEGMENTS; i++) {
        for (size_t k = 0; k < PAGES; k++) {
            if (state->pages[i][k].ns == ns) {
                state->pages[i][k].dead = true;
                state->pages[i][k].pinned = false;
            }
        }
    }
}

static void
renew_segment(struct state *state, size_t segment)
{
    heat_segment_destroy(state->heat, state->segments[segment]);
    state->segments[segment] = heat_segment_create(state->heat, &state->segments[segment]);
    assert_non_null(state->segments[segment]);
    memset(state->pages[segment], 0, sizeof(state->pages[segment]));
    state->end[segment] = 0;
}

/* Everything through bytes into another heat, between calls of others. Limits are given anew; pins are kept. */
static void
restart(struct state *state)
{
    static uint8_t header[HEAT_HEADER_BYTES], records[SEGMENTS][8192];
    struct heat_file files[SEGMENTS];
    bool header_last = sim_rng_chance(&state->rng, 500);
    size_t bytes[SEGMENTS];

    if (!header_last)
        heat_snapshot_header(state->heat, header);
    for (size_t i = 0; i < SEGMENTS; i++) {
        files[i] = (struct heat_file){i + 1, sim_rng_next(&state->rng), state->end[i] * PAGE};
        bytes[i] = heat_snapshot_segment(state->heat, state->segments[i], &files[i], records[i], sizeof(records[i]));
        assert_int_equal(bytes[i], heat_snapshot_bytes(state->segments[i]));
        if (sim_rng_chance(&state->rng, 100))
            (void)advance(state, sim_rng_log(&state->rng, UINT64_C(40000) << state->shift));
    }
    if (header_last)
        heat_snapshot_header(state->heat, header);
    else
        (void)heat_snapshot_segment(state->heat, state->segments[SEGMENTS - 1], &files[SEGMENTS - 1],
                                    records[SEGMENTS - 1], sizeof(records[SEGMENTS - 1]));
    for (size_t i = 0; i < SEGMENTS; i++)
        heat_segment_destroy(state->heat, state->segments[i]);
    heat_destroy(state->heat);
    state->heat = heat_create(&state->env->env, state->live_max);
    assert_non_null(state->heat);
    assert_int_equal(heat_restore_header(state->heat, header, sizeof(header)), VARVE_OK);
    for (size_t i = 0; i < SEGMENTS; i++) {
        state->segments[i] = heat_segment_create(state->heat, &state->segments[i]);
        assert_non_null(state->segments[i]);
        assert_int_equal(heat_restore_segment(state->heat, state->segments[i], &files[i], records[i], bytes[i]),
                         VARVE_OK);
        if (i != SEGMENTS / 2)
            continue;
        for (int ns = 0; ns < NAMESPACES; ns++) { /* when some pages are there, and others come */
            if (state->limits[ns].exists)
                assert_int_equal(heat_group_create(state->heat, ns_ids[ns], state->limits[ns].quota), VARVE_OK);
        }
    }
    for (int ns = 0; ns < NAMESPACES; ns++)
        state->limits[ns].horizon = 0;
    assert_int_equal(state->heat->shift, state->shift);
}

static void
verify_pages(const struct state *state, size_t i)
{
    const struct heat_segment *segment = state->segments[i];
    uint64_t live = 0;
    uint32_t index = 0;

    for (size_t k = 0; k < PAGES; k++) {
        const struct page *page = &state->pages[i][k];
        bool alive = page->pinned || !page->dead;

        if (!page->exists)
            continue;
        assert_int_equal(segment->at[index], k * PAGE / HEAT_UNIT);
        assert_int_equal(heat_bytes(segment, index), bytes_of(state, i, k));
        assert_int_equal(heat_is_live(state->heat, segment, index), alive);
        if (page->pinned)
            assert_int_equal(heat_value(state->heat, segment, index), UINT64_MAX);
        else
            assert_int_equal(heat_value(state->heat, segment, index),
                             alive ? page->value >> state->shift << state->shift : 0);
        live += alive ? bytes_of(state, i, k) : 0;
        index++;
    }
    assert_int_equal(segment->count, index);
    assert_true(segment->live_bytes >= live);
    if (state->heat->sweep_debt == 0 && state->heat->swept_horizon == state->heat->horizon &&
        state->heat->group_count == 0)
        assert_int_equal(segment->live_bytes, live);
}

static void
verify(const struct state *state)
{
    const struct heat *heat = state->heat;
    struct sums sums = sum(state, -1);
    uint64_t counted = 0;

    assert_int_equal(heat->horizon, state->horizon);
    assert_int_equal(heat->live_bytes, sums.live);
    assert_int_equal(heat->pinned_bytes, sums.pinned);
    for (size_t i = 0; i <= HEAT_EPOCHS; i++)
        counted += heat->bytes_at[i];
    assert_int_equal(counted, sums.live);
    for (int ns = 0; ns < NAMESPACES; ns++) {
        const struct heat_group *group = heat_group_find(heat, ns_ids[ns]);

        assert_int_equal(group != NULL, state->limits[ns].exists);
        if (group == NULL)
            continue;
        sums = sum(state, ns);
        assert_int_equal(group->horizon, horizon_of(state, ns));
        assert_int_equal(group->live_bytes, sums.live);
        assert_int_equal(group->pinned_bytes, sums.pinned);
        counted = 0;
        for (size_t i = 0; i < HEAT_GROUP_EPOCHS; i++)
            counted += group->bytes_at[i];
        assert_int_equal(counted, sums.live);
    }
    for (size_t i = 0; i < SEGMENTS; i++)
        verify_pages(state, i);
}

static bool
any(const void *owner)
{
    return owner != NULL;
}

static void
step(struct state *state)
{
    uint64_t kind = sim_rng_below(&state->rng, 1000);

    if (kind < 200)
        add_random(state);
    else if (kind < 600)
        touch_random(state);
    else if (kind < 700)
        change_random(state);
    else if (kind < 740)
        limit_random(state);
    else if (kind < 745)
        clear_random(state);
    else if (kind < 760)
        renew_segment(state, sim_rng_below(&state->rng, SEGMENTS));
    else if (kind < 780)
        heat_sweep(state->heat, state->segments[sim_rng_below(&state->rng, SEGMENTS)], NULL, NULL);
    else if (kind < 785)
        (void)heat_coldest(state->heat, any);
    else if (kind < 790) /* a long silence, or very deep chains: epochs get longer */
        (void)advance(state, sim_rng_log(&state->rng, UINT64_C(100000) << state->shift));
    else if (kind < 795)
        restart(state);
    else if (kind < 800)
        heat_segment_trim(state->heat, state->segments[sim_rng_below(&state->rng, SEGMENTS)]);
    else
        age_all(state);
}

static void
state_begin(struct state *state, uint64_t seed, uint64_t round)
{
    *state = (struct state){.env = plain_env_create(NULL), .rng = sim_rng_make(seed, round)};
    state->live_max = PAGE * sim_rng_between(&state->rng, 1, SEGMENTS * PAGES);
    state->heat = heat_create(&state->env->env, state->live_max);
    assert_non_null(state->heat);
    state->horizon = state->heat->horizon;
    for (size_t i = 0; i < SEGMENTS; i++)
        renew_segment(state, i);
}

static void
state_end(struct state *state)
{
    for (size_t i = 0; i < SEGMENTS; i++)
        heat_segment_destroy(state->heat, state->segments[i]);
    assert_int_equal(state->heat->live_bytes, 0);
    assert_int_equal(state->heat->pinned_bytes, 0);
    for (size_t i = 0; i < state->heat->group_count; i++) {
        assert_int_equal(state->heat->groups[i]->live_bytes, 0);
        assert_int_equal(state->heat->groups[i]->pinned_bytes, 0);
    }
    heat_destroy(state->heat);
    plain_env_destroy(state->env);
}

static void
test_random_operations(void **unused)
{
    uint64_t seed = model_seed();

    (void)unused;
    for (uint64_t round = 0; round < 16; round++) {
        static struct state state;

        state_begin(&state, seed, round);
        for (int i = 0; i < 3000; i++) {
            step(&state);
            if (i % 16 == 0 || i < 300)
                verify(&state);
        }
        heat_sweep_all(state.heat);
        verify(&state);
        state_end(&state);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
