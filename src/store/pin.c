/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pins: pages that do not die. A stamp of its own in recency says that a page is pinned; copies by reclaim have it too. moves_lock is held, so that where a page is
 * found is where it stays: pages are pinned where a lookup finds them, wherever else there may be copies.
 */
#include "base/error.h"
#include "store/calls.h"
#include "store/store.h"

#define PIN_SHARE_DEFAULT 10 /* of the capacity: 1/10 */
#define PIN_SHARE_MAX     2
#define ANCESTORS_MAX     65536 /* entries on the way to the root; links read from disk could make a circle */

/* One store_pin() or store_unpin(). */
struct pinning {
    varve_store *store;
    uint32_t ns_id;
    struct index_view *view;
    struct index_cursor cursor;
    bool expires;
    uint64_t budget;
};

static void
pinning_begin(struct pinning *pinning, varve_store *store, varve_namespace *ns)
{
    pinning->store = store;
    pinning->budget = pin_budget(store);
    pinning->expires = limits_begin(ns, true);
    mutex_lock(&store->moves_lock);
    pinning->ns_id = atomic_load_explicit(&ns->ns_id, memory_order_acquire);
    pinning->view = index_view_acquire(store->index);
    index_cursor_init(&pinning->cursor, pinning->view);
}

static void
pinning_end(struct pinning *pinning)
{
    index_cursor_deinit(&pinning->cursor);
    index_view_release(pinning->view);
    mutex_unlock(&pinning->store->moves_lock);
}

static bool
find(struct pinning *pinning, const varve_id *id, struct location *location)
{
    return index_cursor_find(&pinning->cursor, pinning->ns_id, id, location) &&
           (!pinning->expires || recency_is_live(pinning->store, location));
}

uint64_t
pin_budget(varve_store *store)
{
    uint64_t capacity = space_capacity(store), bytes = store_live_option(store, &store->options.pin_bytes);

    if (bytes == 0)
        return capacity / PIN_SHARE_DEFAULT;
    return bytes < capacity / PIN_SHARE_MAX ? bytes : capacity / PIN_SHARE_MAX;
}

/* Bytes of the pages of a stretch that are not pinned yet; pin them. Those of a namespace with a time to live only while they are live. */
static uint64_t
pin_stretch(const struct pinning *pinning, const struct stretch *stretch, bool pin)
{
    struct heat *heat = pinning->store->recency.heat;
    uint64_t bytes = 0;

    for (uint32_t page = stretch->first; page < stretch->end; page++) {
        uint64_t value = heat_value(heat, stretch->segment, page);

        if (value == UINT64_MAX || (value == 0 && pinning->expires))
            continue;
        bytes += heat_bytes(stretch->segment, page);
        if (pin)
            heat_pin(heat, stretch->segment, page);
    }
    return bytes;
}

/* Its pages are dead from then on, and must not be pinned: nobody could name them any more. recency.lock held. */
static bool
cleared(const struct pinning *pinning)
{
    return !namespace_live(pinning->store, pinning->ns_id);
}

/* Bytes of the ancestors of the page at `from` that are not pinned yet; pin them. */
static uint64_t
pin_ancestors(struct pinning *pinning, const struct key *from, bool pin)
{
    struct recency *recency = &pinning->store->recency;
    struct key key = *from;
    struct stretch stretch;
    struct index_slot slot;
    uint64_t bytes = 0;

    for (uint32_t entries = 0; entries < ANCESTORS_MAX && recency_step_up(pinning->view, &key); entries++) {
        if (!index_find_key(pinning->view, &key, &slot))
            break;
        mutex_lock(&recency->lock);
        if (!cleared(pinning) && recency_stretch(pinning->store, &slot, &stretch))
            bytes += pin_stretch(pinning, &stretch, pin);
        mutex_unlock(&recency->lock);
        key = slot.first;
    }
    return bytes;
}

/* Whether so many more bytes may be pinned. */
static bool
fits(struct pinning *pinning, uint64_t bytes)
{
    struct recency *recency = &pinning->store->recency;
    bool fit;

    mutex_lock(&recency->lock);
    fit = recency->heat->pinned_bytes + bytes <= pinning->budget;
    mutex_unlock(&recency->lock);
    return fit;
}

/* Whether the page is pinned now. */
static bool
pin_page(struct pinning *pinning, const struct location *location)
{
    struct recency *recency = &pinning->store->recency;
    struct heat_segment *segment;
    uint32_t page = 0;
    bool pinned = false;

    if (location->size == 0) /* recency does not know it */
        return false;
    mutex_lock(&recency->lock);
    segment = log_heat(pinning->store->log, location->segment);
    if (segment != NULL)
        page = heat_find(segment, location->offset, 0);
    if (segment != NULL && page < segment->count && !cleared(pinning)) {
        pinned = heat_value(recency->heat, segment, page) == UINT64_MAX;
        if (!pinned && recency->heat->pinned_bytes + heat_bytes(segment, page) <= pinning->budget) {
            heat_pin(recency->heat, segment, page);
            pinned = true;
        }
    }
    mutex_unlock(&recency->lock);
    return pinned;
}

int64_t
store_pin(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, varve_error *err)
{
    struct pinning pinning;
    struct location location;
    size_t pinned = 0;
    int rc = recency_complete(store, err);

    if (rc != VARVE_OK)
        return rc;
    pinning_begin(&pinning, store, ns);
    for (; pinned < count && find(&pinning, &ids[pinned], &location); pinned++) {
        if (pinned == 0) { /* all of its ancestors, or none: then it could not be hit */
            if (location.size == 0 || !fits(&pinning, pin_ancestors(&pinning, &location.key, false)))
                break;
            (void)pin_ancestors(&pinning, &location.key, true);
        }
        if (!pin_page(&pinning, &location))
            break;
    }
    pinning_end(&pinning);
    return (int64_t)pinned;
}

/* Whether it was pinned. Now it was used at `value`. */
static bool
unpin_page(struct pinning *pinning, const struct location *location, uint64_t value)
{
    struct recency *recency = &pinning->store->recency;
    struct heat_segment *segment;
    uint32_t page = 0;
    bool pinned = false;

    mutex_lock(&recency->lock);
    segment = log_heat(pinning->store->log, location->segment);
    if (segment != NULL)
        page = heat_find(segment, location->offset, 0);
    if (segment != NULL && page < segment->count && heat_value(recency->heat, segment, page) == UINT64_MAX) {
        heat_unpin(recency->heat, segment, page, value);
        pinned = true;
    }
    mutex_unlock(&recency->lock);
    return pinned;
}

int64_t
store_unpin(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count)
{
    struct pinning pinning;
    struct location location;
    struct touches touches;
    int64_t unpinned = 0;

    pinning_begin(&pinning, store, ns);
    touches_begin(&touches, store, pinning.view, count, pinning.expires);
    for (size_t i = 0; i < count; i++) {
        if (!find(&pinning, &ids[i], &location))
            continue;
        touches_add(&touches, &location, (int64_t)i);
        unpinned += location.size > 0 && unpin_page(&pinning, &location, touches_value(&touches) - i);
    }
    touches_end(&touches);
    pinning_end(&pinning);
    return unpinned;
}
