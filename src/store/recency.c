/* SPDX-License-Identifier: Apache-2.0 */
#include "store/recency.h"

#include "base/error.h"
#include "store/store.h"

/* Entries looked at on the way to the root: chains are shorter. Links read from disk could make a circle. */
#define ANCESTOR_ENTRIES_MAX 65536

int
recency_init(varve_store *store, varve_error *err)
{
    struct recency *recency = &store->recency;

    recency->heat = heat_create(store->env, 0);
    if (recency->heat == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    reclaim_init(&recency->reclaim, recency->heat, store->options.capacity, store->segment_bytes);
    return VARVE_OK;
}

/* Destroy what log_for_each() brings: everything is quiet. */
static void
forget_segment(void *arg, const struct segment *segment)
{
    heat_segment_destroy(((varve_store *)arg)->recency.heat, segment->heat);
}

void
recency_deinit(varve_store *store)
{
    if (store->log != NULL && store->recency.heat != NULL)
        log_for_each(store->log, forget_segment, store);
    heat_destroy(store->recency.heat);
    judge_destroy(store->recency.judge);
}

void
recency_begin_judging(varve_store *store)
{
    struct recency *recency = &store->recency;
    uint64_t pages = 0;

    if (atomic_load_explicit(&recency->judging, memory_order_relaxed))
        return;
    mutex_lock(&recency->lock);
    for (const struct heat_segment *segment = recency->heat->first; segment != NULL; segment = segment->next)
        pages += segment->count;
    if (pages > 0) /* short of memory there is none: then the order is that of the last use */
        recency->judge = judge_create(store->env, pages);
    atomic_store_explicit(&recency->judging, recency->judge != NULL, memory_order_release);
    mutex_unlock(&recency->lock);
}

/* Ids are digests: any part of one is as good as random. */
static uint64_t
part_of_id(const varve_id *id)
{
    return wire_get64(id->bytes + VARVE_ID_BYTES - 8);
}

void
recency_asked(varve_store *store, uint32_t ns_id, const varve_id *ids, size_t count)
{
    struct recency *recency = &store->recency;
    struct judge_call call;

    if (!atomic_load_explicit(&recency->judging, memory_order_acquire))
        return;
    mutex_lock(&recency->lock);
    judge_begin(recency->judge, &call, count);
    for (size_t i = 0; i < count; i++)
        judge_asked(recency->judge, &call, part_of_id(&ids[i]) ^ ns_id, i);
    judge_end(recency->judge, &call);
    mutex_unlock(&recency->lock);
}

void
recency_note_segment(varve_store *store, uint64_t bytes)
{
    struct recency *recency = &store->recency;
    uint64_t copied = atomic_load_explicit(&store->counters.survivor_bytes, memory_order_relaxed);

    mutex_lock(&recency->lock);
    reclaim_note(&recency->reclaim, bytes, copied - recency->survivor_bytes_noted);
    recency->survivor_bytes_noted = copied;
    mutex_unlock(&recency->lock);
}

void
recency_gauges(varve_store *store, struct gauges *out)
{
    const struct heat *heat = store->recency.heat;

    mutex_lock(&store->recency.lock);
    out->live_bytes = heat->live_bytes + heat->pinned_bytes;
    out->heat_file_bytes = store->recency.file_bytes;
    out->pinned_bytes = heat->pinned_bytes;
    out->live_target_bytes = heat->live_max;
    out->eviction_answer = store->recency.judge == NULL ? 0 : judge_answer(store->recency.judge);
    out->recency_memory_bytes = sizeof(*heat);
    for (const struct heat_segment *segment = heat->first; segment != NULL; segment = segment->next)
        out->recency_memory_bytes += sizeof(*segment) + (uint64_t)segment->room * HEAT_PAGE_BYTES +
                                     segment->span_room * sizeof(segment->spans[0]);
    mutex_unlock(&store->recency.lock);
}

void
recency_segment_begin(varve_store *store, struct segment *segment)
{
    mutex_lock(&store->recency.lock);
    segment->heat = heat_segment_create(store->recency.heat, segment);
    mutex_unlock(&store->recency.lock);
}

void
recency_segment_trim(varve_store *store, struct segment *segment)
{
    mutex_lock(&store->recency.lock);
    if (segment->heat != NULL)
        heat_segment_trim(store->recency.heat, segment->heat);
    mutex_unlock(&store->recency.lock);
}

void
recency_segment_end(varve_store *store, struct segment *segment)
{
    mutex_lock(&store->recency.lock);
    heat_segment_destroy(store->recency.heat, segment->heat);
    segment->heat = NULL;
    mutex_unlock(&store->recency.lock);
}

void
recency_add(varve_store *store, const struct entry *entry, uint64_t value)
{
    struct recency *recency = &store->recency;
    uint64_t places[ENTRY_PAGES_MAX], end = entry->offset;
    struct heat_segment *segment;

    for (uint32_t i = 0; i < entry->count; i++) {
        places[i] = end;
        end += entry_padded(entry, entry_size(entry, i));
    }
    mutex_lock(&recency->lock);
    if (!namespace_live(store, entry->key.ns_id)) /* cleared meanwhile: whose pages are dead already */
        value = 0;
    segment = log_heat(store->log, entry->segment);
    if (segment != NULL) /* else: dropped meanwhile, or short of memory */
        (void)heat_add(recency->heat, segment, entry->key.ns_id, places, entry->count, end, value);
    heat_age(recency->heat);
    mutex_unlock(&recency->lock);
}

/* The page at a place; its index is *page. NULL: not known. recency.lock held. */
static struct heat_segment *
find_page(varve_store *store, uint64_t number, uint64_t place, uint32_t *page)
{
    struct heat_segment *segment = log_heat(store->log, number);

    if (segment == NULL)
        return NULL;
    *page = heat_find(segment, place, 0);
    return *page < segment->count ? segment : NULL;
}

bool
recency_is_live(varve_store *store, const struct location *location)
{
    const struct heat_segment *segment;
    uint32_t page;
    bool live;

    if (location->size == 0)
        return true;
    mutex_lock(&store->recency.lock);
    segment = find_page(store, location->segment, location->offset, &page);
    live = segment != NULL && heat_is_live(store->recency.heat, segment, page);
    mutex_unlock(&store->recency.lock);
    return live;
}

void
recency_move(varve_store *store, const struct entry *entry, uint64_t number, uint64_t place)
{
    struct heat *heat = store->recency.heat;
    uint64_t value = 0, end = entry->offset + entry_padded(entry, entry_size(entry, 0));
    struct heat_segment *segment;
    uint32_t page;

    segment = find_page(store, number, place, &page);
    if (segment != NULL) {
        value = heat_value(heat, segment, page);
        heat_kill(heat, segment, page);
    }
    segment = log_heat(store->log, entry->segment);
    if (segment != NULL)
        (void)heat_add(heat, segment, entry->key.ns_id, &entry->offset, 1, end, 0);
    segment = find_page(store, entry->segment, entry->offset, &page);
    if (segment != NULL && value == UINT64_MAX)
        heat_pin(heat, segment, page);
    else if (segment != NULL && value > 0)
        heat_touch(heat, segment, page, value);
}

void
recency_pass_pin(varve_store *store, uint64_t number, uint64_t place, const struct location *to)
{
    struct heat_segment *segment;
    uint32_t page;
    bool pinned;

    mutex_lock(&store->recency.lock);
    segment = find_page(store, number, place, &page);
    pinned = segment != NULL && heat_value(store->recency.heat, segment, page) == UINT64_MAX;
    segment = pinned ? find_page(store, to->segment, to->offset, &page) : NULL;
    if (segment != NULL)
        heat_pin(store->recency.heat, segment, page);
    mutex_unlock(&store->recency.lock);
}

void
recency_kill(varve_store *store, uint64_t number, uint64_t place)
{
    struct heat_segment *segment;
    uint32_t page;

    mutex_lock(&store->recency.lock);
    segment = find_page(store, number, place, &page);
    if (segment != NULL)
        heat_kill(store->recency.heat, segment, page);
    mutex_unlock(&store->recency.lock);
}

void
touches_begin(struct touches *touches, varve_store *store, struct index_view *view, size_t count, bool expires)
{
    touches->store = store;
    touches->view = view;
    touches->count = count;
    touches->expires = expires;
    touches->base = touches->demotion = touches->name = 0;
    touches->unless_recent = touches->skipped = touches->has_first = false;
    touches->first_index = touches->last_index = 0;
    touches->run_count = 0;
}

void
touches_name(struct touches *touches, uint32_t ns_id, const varve_id *last)
{
    touches->name = part_of_id(last);
    touches->ns_id = ns_id;
}

/* The pages between two places of a segment. false: it was dropped since it was found, or there was no memory for it. recency.lock held. */
static bool
stretch_between(varve_store *store, uint64_t number, uint64_t place, uint64_t end, struct stretch *stretch)
{
    stretch->segment = log_heat(store->log, number);
    if (stretch->segment == NULL)
        return false;
    stretch->first = heat_find_from(stretch->segment, place);
    stretch->end = end < place ? stretch->first : heat_find_from(stretch->segment, end); /* places come from disk */
    return true;
}

bool
recency_stretch(varve_store *store, const struct index_slot *slot, struct stretch *stretch)
{
    return stretch_between(store, slot->segment, slot->offset, slot->end, stretch) &&
           (stretch->first < stretch->end || slot->offset == slot->end);
}

/* The pages of a stretch were used; the first at `value`, each later one at one less. recency.lock held. */
static void
stamp(varve_store *store, const struct stretch *stretch, uint64_t value, bool revive)
{
    struct heat *heat = store->recency.heat;

    if (value > heat->clock)
        value = heat->clock; /* more ancestors than the depth of a page says: links are data from disk */
    if (revive)
        heat_touch_run(heat, stretch->segment, stretch->first, stretch->end - stretch->first, value);
    for (uint32_t page = stretch->first; page < stretch->end && !revive; page++) {
        if (heat_is_live(heat, stretch->segment, page))
            heat_touch(heat, stretch->segment, page, value - (page - stretch->first));
    }
}

bool
recency_step_up(struct index_view *view, struct key *key)
{
    struct key up = {key->ns_id, key->depth - 1, key->branch};
    struct index_slot slot;

    if (key->depth == 0)
        return false;
    if (!index_find_key(view, key, &slot))
        return false;
    if (slot.first.depth == key->depth && slot.parent_branch != 0)
        up = (struct key){key->ns_id, slot.parent_depth, slot.parent_branch};
    *key = up;
    return true;
}

uint64_t
recency_value(varve_store *store, struct index_view *view, const struct key *key)
{
    struct key at = *key;
    struct index_slot slot;

    for (uint32_t entries = 0; entries < ANCESTOR_ENTRIES_MAX && index_find_key(view, &at, &slot); entries++) {
        struct stretch stretch;
        uint64_t value = 0;
        bool known;

        mutex_lock(&store->recency.lock);
        known = recency_stretch(store, &slot, &stretch);
        if (known && stretch.first < stretch.end)
            value = heat_value(store->recency.heat, stretch.segment, stretch.end - 1);
        mutex_unlock(&store->recency.lock);
        if (!known || stretch.first < stretch.end)
            return value;
        at = slot.first;
        if (!recency_step_up(view, &at))
            break;
    }
    return 0;
}

/*
 * Stamp the pages of a stretch, of which the last one is `before` pages below the first, and was used at `value` at least: unless it was used no earlier, or is a hole. Whether
 * there is more to do above them. recency.lock held.
 */
static bool
stamp_stretch(varve_store *store, const struct stretch *stretch, uint64_t value, uint32_t before, bool expires)
{
    uint64_t used;

    if (stretch->first == stretch->end)
        return true;
    used = heat_value(store->recency.heat, stretch->segment, stretch->end - 1);
    /* A pinned one says nothing of those above it. One that must not be revived is a hole: what is above it cannot be hit from here. */
    if ((used >= value && used != UINT64_MAX) || (used == 0 && expires))
        return false;
    stamp(store, stretch, value + before, !expires);
    return true;
}

void
recency_stamp_ancestors(varve_store *store, struct index_view *view, const struct key *from, uint64_t value,
                        bool expires)
{
    struct key key = *from;
    struct index_slot slot;

    for (uint32_t entries = 0; entries < ANCESTOR_ENTRIES_MAX && recency_step_up(view, &key); entries++) {
        struct stretch stretch;
        uint32_t before;
        bool more;

        if (!index_find_key(view, &key, &slot))
            return;
        value++; /* of the page at key */
        before = key.depth - slot.first.depth;
        mutex_lock(&store->recency.lock);
        more =
            recency_stretch(store, &slot, &stretch) ? stamp_stretch(store, &stretch, value, before, expires) : !expires;
        mutex_unlock(&store->recency.lock);
        if (!more)
            return;
        value += before;
        key = slot.first;
    }
}

static bool
is_recent(varve_store *store, uint32_t ns_id, uint64_t value)
{
    bool recent;

    mutex_lock(&store->recency.lock);
    recent = heat_is_recent_in(store->recency.heat, ns_id, value);
    mutex_unlock(&store->recency.lock);
    return recent;
}

/*
 * The value of the parent of the first page, if it stands for the call: if it was used so lately that the value of the call's last page, which is as much lower
 * as that is deeper, is one of lately as well. A long call on a young store would else give its pages values before the horizon, or before a mark that they were used
 * after. Else 0.
 */
static uint64_t
recent_parent(const struct touches *touches)
{
    struct key key = touches->first;
    uint64_t below = touches->count - 1 - (uint64_t)touches->first_index, value;

    if (!touches->has_first || !recency_step_up(touches->view, &key))
        return 0;
    value = recency_value(touches->store, touches->view, &key);
    if (value == 0 || value == UINT64_MAX || value < below) /* dead, or pinned: that says nothing of when it was used */
        return 0;
    return is_recent(touches->store, key.ns_id, value - below) ? value : 0;
}

/*
 * Whether all that was found was used lately: the last page of each run, since those above it are at least as young. Of a chain whose head everybody uses the end may be
 * old; and of runs that no link joins one may be dead while the other was just stored. Where there may be more runs it is not known.
 */
static bool
all_recent(const struct touches *touches)
{
    varve_store *store = touches->store;
    bool recent = touches->run_count > 0 && touches->run_count < TOUCH_RUNS_MAX;

    mutex_lock(&store->recency.lock);
    for (uint32_t i = 0; i < touches->run_count && recent; i++) {
        const struct touch_run *run = &touches->runs[i];
        struct stretch stretch;
        uint64_t value = 0;

        if (stretch_between(store, run->segment, run->place, run->end, &stretch) && stretch.first < stretch.end)
            value = heat_value(store->recency.heat, stretch.segment, stretch.end - 1);
        recent =
            value != 0 && value != UINT64_MAX && heat_is_recent_in(store->recency.heat, touches->first.ns_id, value);
    }
    mutex_unlock(&store->recency.lock);
    return recent;
}

/* Values above that of the call's first page that its ancestors may need. */
static uint64_t
room_above(const struct touches *touches)
{
    return (touches->has_first ? touches->first.depth : 0) + (touches->first_index < 0 ? 1 : 0);
}

/* Another namespace made the same call a while ago: this one is as old. recency.lock held. */
static bool
follow_kin(struct touches *touches)
{
    struct recency *recency = &touches->store->recency;
    const struct kin_call *same = kin_take(&recency->kin, recency->heat, touches->name, touches->ns_id);

    /* It may be longer, or lie deeper, than the other was: then there may be no values yet for what is above. */
    if (same == NULL || touches->count - 1 + room_above(touches) > recency->heat->clock - same->value)
        return false;
    touches->base = same->value + touches->count - 1;
    touches->demotion = touches->expires ? 0 : same->demotion;
    return true;
}

/*
 * A new call: room for its pages, and for as many ancestors as there can be above them, or behind a parent that was used lately, as old as that. False: that; then it is
 * no reason to look at those above. recency.lock held.
 */
static bool
begin_call(struct touches *touches, uint64_t parent)
{
    struct recency *recency = &touches->store->recency;
    struct kin_call call = {.id = touches->name};

    /* Once: of the call's new pages, too, none is older than the one behind it. Under a time to live older ones would be gone before it is over. */
    if (recency->judge != NULL && !touches->expires)
        touches->demotion = judge_demotion(recency->judge, recency->heat);
    if (parent != 0)
        touches->base = parent + (uint64_t)touches->first_index;
    else
        touches->base = heat_clock(recency->heat, touches->count + room_above(touches)) - room_above(touches);
    if (touches->name != 0) {
        call.value = touches->base - (touches->count - 1);
        call.demotion = touches->demotion;
        kin_note(&recency->kin, recency->heat, &call, touches->ns_id);
    }
    return parent == 0;
}

/* Decide what values the call's pages get. */
static void
settle(struct touches *touches)
{
    struct recency *recency = &touches->store->recency;
    uint64_t parent;
    bool look_up;

    if (touches->base != 0 || touches->skipped)
        return;
    touches->skipped = touches->unless_recent && all_recent(touches);
    if (touches->skipped)
        return;
    /* Pages before the first one found are new, and younger than its parent: there may be no value for them yet. */
    parent = touches->first_index <= 0 ? recent_parent(touches) : 0;
    mutex_lock(&recency->lock);
    look_up = follow_kin(touches) || begin_call(touches, parent);
    mutex_unlock(&recency->lock);
    if (look_up && touches->has_first)
        recency_stamp_ancestors(touches->store, touches->view, &touches->first,
                                touches->base - (uint64_t)touches->first_index, touches->expires);
}

static void
flush_runs(struct touches *touches)
{
    varve_store *store = touches->store;

    if (touches->run_count == 0)
        return;
    settle(touches);
    mutex_lock(&store->recency.lock);
    for (uint32_t i = 0; i < touches->run_count && !touches->skipped; i++) {
        const struct touch_run *run = &touches->runs[i];
        struct stretch stretch;

        if (stretch_between(store, run->segment, run->place, run->end, &stretch))
            stamp(store, &stretch, touches->base - (uint64_t)run->index, true);
    }
    heat_age(store->recency.heat);
    mutex_unlock(&store->recency.lock);
    touches->run_count = 0;
}

void
touches_add(struct touches *touches, const struct location *location, int64_t index)
{
    const struct location *last = &touches->last;
    struct touch_run *run = touches->run_count == 0 ? NULL : &touches->runs[touches->run_count - 1];
    bool goes_on = run != NULL && run->index + run->count == index && last->segment == location->segment &&
                   last->key.branch == location->key.branch && last->key.depth + 1 == location->key.depth &&
                   location->offset > last->offset && location->offset - last->offset - last->size < LOG_BLOCK_BYTES;

    if (location->size == 0)
        return; /* takes no space: not known to heat */
    if (!touches->has_first) {
        touches->has_first = true;
        touches->first = location->key;
        touches->first_index = index;
    }
    touches->last = *location;
    touches->last_index = index;
    if (goes_on) {
        run->count++;
        run->end = location->offset + location->size;
        return;
    }
    if (touches->run_count == TOUCH_RUNS_MAX)
        flush_runs(touches);
    touches->runs[touches->run_count++] = (struct touch_run){.segment = location->segment,
                                                             .place = location->offset,
                                                             .end = location->offset + location->size,
                                                             .count = 1,
                                                             .index = index};
}

uint64_t
touches_value(struct touches *touches)
{
    settle(touches);
    flush_runs(touches);
    return touches->base;
}

uint64_t
touches_new_value(struct touches *touches, size_t index)
{
    uint64_t value = touches_value(touches) - index;

    return touches->has_first && (int64_t)index < touches->last_index ? value : value - touches->demotion;
}

void
touches_end(struct touches *touches)
{
    flush_runs(touches);
}
