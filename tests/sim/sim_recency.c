/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at recency from inside: what heat counts against a recount, what it knows against the index, what it calls live now against what it called live
 * before, and pages against their parents. Nothing is modelled: each of these must hold whatever was called.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "format/log_format.h"
#include "reclaim/heat_private.h"
#include "sim_driver.h"
#include "sim_log.h"

#define VALUE_DEAD  1u /* no clock value: clocks begin far above */
#define CROWDED_MAX 64 /* branches; where there are more, no parent is judged */

/* One walk over the index. */
struct walk {
    struct sim *sim;
    struct heat *heat;
    struct index_view *view;
    struct sim_recency *now; /* as sim->recency, of this walk */
    uint64_t live_bytes;
    /* Branches with a slot that was taken twice: who is whose parent is not known there. */
    uint64_t crowded[CROWDED_MAX];
    size_t crowded_count;
    /* The entry seen last. */
    struct key last;
    uint32_t last_count;
    uint8_t last_ids[ENTRY_PAGES_MAX * ID_PREFIX_BYTES];
};

static size_t
universe(const struct sim *sim)
{
    return (size_t)sim->oracle->settings.namespaces * sim->oracle->pages;
}

void
sim_recency_begin(struct sim *sim)
{
    free(sim->recency);
    sim->recency = sim_alloc(universe(sim) * sizeof(*sim->recency));
    sim->recency_losses = 0;
}

void
sim_recency_end(struct sim *sim)
{
    free(sim->recency);
    sim->recency = NULL;
}

void
sim_recency_forget(struct sim *sim, uint32_t ns, uint32_t page)
{
    sim->recency[(size_t)ns * sim->oracle->pages + page] = (struct sim_recency){0};
}

/* Segment by segment, page by page. */
static void
recount(const struct heat *heat)
{
    uint64_t live = 0, pinned = 0;

    for (const struct heat_segment *segment = heat->first; segment != NULL; segment = segment->next) {
        uint64_t not_dead = 0;

        for (uint32_t page = 0; page < segment->count; page++) {
            uint64_t bytes = heat_bytes(segment, page);

            not_dead += segment->stamps[page] != HEAT_DEAD ? bytes : 0;
            if (segment->stamps[page] == HEAT_PINNED)
                pinned += bytes;
            else if (heat_is_live(heat, segment, page))
                live += bytes;
        }
        if (not_dead != segment->live_bytes)
            sim_fail("heat counts %" PRIu64 " bytes in a segment, there are %" PRIu64, segment->live_bytes, not_dead);
    }
    if (live != heat->live_bytes || pinned != heat->pinned_bytes)
        sim_fail("heat counts %" PRIu64 " bytes live and %" PRIu64 " pinned, there are %" PRIu64 " and %" PRIu64,
                 heat->live_bytes, heat->pinned_bytes, live, pinned);
    if (live + pinned > heat->live_max && heat->horizon < heat_epoch_now(heat))
        sim_fail("%" PRIu64 " bytes are live after ageing, the target is %" PRIu64, live + pinned, heat->live_max);
}

/* The number of a namespace that the driver has open, or UINT32_MAX. */
static uint32_t
namespace_of(const struct sim *sim, uint32_t ns_id)
{
    for (uint32_t i = 0; i < sim->oracle->settings.namespaces; i++) {
        if (atomic_load(&sim->namespaces[i]->ns_id) == ns_id)
            return i;
    }
    return UINT32_MAX;
}

/* The page, or rather one copy of it, as it is now. */
static void
note_page(struct walk *walk, uint32_t ns, const uint8_t *prefix, const struct sim_recency *found)
{
    uint32_t page = oracle_find(walk->sim->oracle, prefix);
    size_t index = (size_t)ns * walk->sim->oracle->pages + page;
    struct sim_recency *now;

    if (ns == UINT32_MAX || page == UINT32_MAX)
        return;
    now = &walk->now[index];
    now->copies++;
    if (now->copies == 1 || now->value < found->value) {
        now->value = found->value;
        now->segment = found->segment;
        now->ns_id = found->ns_id;
    }
}

static bool
is_crowded(const struct walk *walk, uint64_t branch)
{
    for (size_t i = 0; i < walk->crowded_count && i < CROWDED_MAX; i++) {
        if (walk->crowded[i] == branch)
            return true;
    }
    return walk->crowded_count > CROWDED_MAX;
}

/*
 * A live page's parent is live and was used no earlier, if it stands: one that was dropped, and put again since, lies on another branch. `before`: the value
 * of the page before it in its entry.
 */
static void
judge_parent(struct walk *walk, const struct entry *entry, uint32_t i, uint64_t value, uint64_t before)
{
    struct key parent = {entry->key.ns_id, entry->key.depth + i - 1, entry->key.branch};
    unsigned shift = walk->heat->shift;
    struct index_slot found;

    if (i == 0) {
        if (entry->parent_branch != 0)
            parent = (struct key){entry->key.ns_id, entry->parent_depth, entry->parent_branch};
        else if (entry->key.depth == 0)
            return;
        if (is_crowded(walk, parent.branch))
            return;
        if (!index_find_key(walk->view, &parent, &found))
            return;
        before = recency_value(walk->sim->store, walk->view, &parent);
    }
    if (before >> shift < value >> shift)
        sim_fail("the page at branch %" PRIu64 " depth %" PRIu32 " was used at %" PRIu64 ", its parent at %" PRIu64,
                 entry->key.branch, entry->key.depth + i, value, before);
    SIM_COUNT(walk->sim, SIM_EVENT_PARENTS, 1);
}

static void
walk_entry(struct walk *walk, const struct entry *entry)
{
    struct sim *sim = walk->sim;
    struct log *log = sim->store->log;
    const struct heat_segment *segment = log_heat(log, entry->segment);
    uint32_t ns = namespace_of(sim, entry->key.ns_id), known = 0;
    uint64_t before = 0;

    for (uint32_t i = 0; i < entry->count; i++) {
        struct sim_recency found = {.segment = entry->segment, .ns_id = entry->key.ns_id};
        const uint8_t *prefix = entry->ids + (size_t)i * ID_PREFIX_BYTES;
        uint64_t place = entry_page_offset(entry, i);

        if (entry_size(entry, i) == 0)
            continue;
        known = segment == NULL ? 0 : heat_find(segment, place, known + 1);
        if (sim->ghosts && (segment == NULL || known >= segment->count))
            continue; /* short of memory, pages are not known, and die with their segment */
        if (segment == NULL || known >= segment->count)
            sim_fail("heat does not know the page at %" PRIu64 " of segment %" PRIu64, place, entry->segment);
        found.value = heat_value(walk->heat, segment, known);
        if (found.value != 0)
            walk->live_bytes += heat_bytes(segment, known);
        /* One that was removed may be stamped as an ancestor, or be live in HEAT: it goes with its segment, uncopied. */
        if (log_page_removed(log, entry->segment, place, prefix)) {
            before = 0;
            continue;
        }
        if (found.value != 0 && sim->config.honest && !sim->holes)
            judge_parent(walk, entry, i, found.value, before);
        before = found.value;
        found.value = found.value == 0 ? VALUE_DEAD : found.value;
        note_page(walk, ns, prefix, &found);
    }
}

/* Entries come in key order: one that begins before the end of the one before it shares slots with that, if they are not copies of the same pages. */
static void
note_crowded(struct walk *walk, const struct entry *entry)
{
    struct key *last = &walk->last;
    uint32_t skip = entry->key.depth - last->depth, shared;

    if (entry->key.ns_id == last->ns_id && entry->key.branch == last->branch && skip < walk->last_count) {
        shared = walk->last_count - skip < entry->count ? walk->last_count - skip : entry->count;
        if (memcmp(entry->ids, walk->last_ids + (size_t)skip * ID_PREFIX_BYTES, (size_t)shared * ID_PREFIX_BYTES) !=
            0) {
            if (walk->crowded_count < CROWDED_MAX)
                walk->crowded[walk->crowded_count] = entry->key.branch;
            walk->crowded_count++;
        }
    }
    *last = entry->key;
    walk->last_count = entry->count;
    memcpy(walk->last_ids, entry->ids, (size_t)entry->count * ID_PREFIX_BYTES);
}

/* Every entry, in key order. VARVE_MISS: to the end. */
static int
walk_index(struct walk *walk, void (*each)(struct walk *walk, const struct entry *entry))
{
    struct index_iter *iter;
    struct entry entry;
    int rc = index_iter_create(walk->view, &iter, NULL);

    while (rc == VARVE_OK) {
        rc = index_iter_next(iter, &entry, NULL);
        if (rc == VARVE_OK)
            each(walk, &entry);
    }
    index_iter_destroy(iter);
    return rc;
}

/* Epochs before it are dead for this namespace. */
static uint64_t
horizon_of(const struct heat *heat, uint32_t ns_id)
{
    const struct heat_group *group = heat_group_find(heat, ns_id);

    return group != NULL && group->horizon > heat->horizon ? group->horizon : heat->horizon;
}

/* What was live and is young enough to live is there, and no older than it was. */
static void
judge_pages(const struct walk *walk, bool excused)
{
    struct sim *sim = walk->sim;
    unsigned shift = walk->heat->shift;
    /* Epochs that became longer since then took some that were dead together with one that was not. */
    uint64_t blurred = shift != sim->recency_shift;

    for (size_t i = 0; i < universe(sim); i++) {
        struct sim_recency *old = &sim->recency[i], *now = &walk->now[i];

        if (!excused && old->value > VALUE_DEAD && old->value != UINT64_MAX && old->copies == 1 && now->copies <= 1 &&
            old->value >> shift >= horizon_of(walk->heat, old->ns_id) + blurred &&
            now->value >> shift < old->value >> shift)
            sim_fail("page %zu in namespace %zu was used at %" PRIu64 ", and now it is %s (%" PRIu64 ")",
                     i % sim->oracle->pages, i / sim->oracle->pages, old->value,
                     now->copies == 0 ? "gone" : "older than that", now->value);
        SIM_COUNT(sim, SIM_EVENT_SECOND_LIVES,
                  old->value == VALUE_DEAD && now->value > VALUE_DEAD && old->segment == now->segment);
        *old = *now;
    }
    sim->recency_shift = shift;
}

void
sim_recency_check(struct sim *sim)
{
    varve_store *store = sim->store;
    struct walk walk = {.sim = sim, .heat = store->recency.heat};
    uint64_t losses = SIM_STAT(sim, reclaim_lost_bytes) + SIM_STAT(sim, reclaim_damaged_pages), live;

    if (sim_excused(sim) || atomic_load(&store->read_only) || store->recency.missing)
        return;
    sim->holes = sim->holes || losses > 0;
    heat_age(walk.heat);
    recount(walk.heat);
    walk.now = sim_alloc(universe(sim) * sizeof(*walk.now));
    walk.view = index_view_acquire(store->index);
    (void)walk_index(&walk, note_crowded);
    if (walk_index(&walk, walk_entry) == VARVE_MISS) {
        live = walk.heat->live_bytes + walk.heat->pinned_bytes;
        if (walk.live_bytes > live || (walk.live_bytes < live && !sim->ghosts))
            sim_fail("%" PRIu64 " bytes are live, and %" PRIu64 " of them can be found", live, walk.live_bytes);
        judge_pages(&walk, losses != sim->recency_losses || sim->oracle->settings.twins);
        SIM_COUNT(sim, SIM_EVENT_RECOUNTS, 1);
    }
    sim->recency_losses = losses;
    index_view_release(walk.view);
    free(walk.now);
}
