/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing with linear probing, at most half full; nothing is ever taken out. */
#include "log/removal_set.h"

#include <assert.h>
#include <string.h>

#define SLOTS_FIRST 16

struct removal_set {
    struct env *env;
    struct state_removal *slots; /* offset 0: free (no payload lies there) */
    size_t slot_count;           /* power of two */
    size_t count;
    size_t reserved; /* additions to come that must not fail */
};

struct removal_set *
removal_set_create(struct env *env)
{
    struct removal_set *set = env_zalloc(env, sizeof(*set));

    if (set == NULL)
        return NULL;
    set->env = env;
    set->slot_count = SLOTS_FIRST;
    set->slots = env_zalloc(env, SLOTS_FIRST * sizeof(set->slots[0]));
    if (set->slots == NULL) {
        env_free(env, set);
        return NULL;
    }
    return set;
}

void
removal_set_destroy(struct removal_set *set)
{
    if (set == NULL)
        return;
    env_free(set->env, set->slots);
    env_free(set->env, set);
}

/* The slot that holds the removal, or the free one where it belongs. */
static size_t
find_slot(const struct state_removal *slots, size_t slot_count, const struct state_removal *removal)
{
    size_t i = (size_t)(hash_id(0, removal->id_prefix) + removal->offset) & (slot_count - 1);

    while (slots[i].offset != 0 &&
           (slots[i].offset != removal->offset || memcmp(slots[i].id_prefix, removal->id_prefix, ID_PREFIX_BYTES) != 0))
        i = (i + 1) & (slot_count - 1);
    return i;
}

static int
grow(struct removal_set *set)
{
    size_t slot_count = set->slot_count * 2;
    struct state_removal *slots = env_zalloc(set->env, slot_count * sizeof(slots[0]));

    if (slots == NULL)
        return VARVE_E_NOMEM;
    for (size_t i = 0; i < set->slot_count; i++) {
        if (set->slots[i].offset != 0)
            slots[find_slot(slots, slot_count, &set->slots[i])] = set->slots[i];
    }
    env_free(set->env, set->slots);
    set->slots = slots;
    set->slot_count = slot_count;
    return VARVE_OK;
}

int
removal_set_reserve(struct removal_set *set)
{
    while ((set->count + set->reserved + 1) * 2 > set->slot_count) {
        if (grow(set) != VARVE_OK)
            return VARVE_E_NOMEM;
    }
    set->reserved++;
    return VARVE_OK;
}

void
removal_set_unreserve(struct removal_set *set)
{
    assert(set->reserved > 0);
    set->reserved--;
}

int
removal_set_add(struct removal_set *set, const struct state_removal *removal)
{
    size_t i;

    if (removal->offset == 0)
        return VARVE_OK;
    if (set->count * 2 >= set->slot_count && grow(set) != VARVE_OK)
        return VARVE_E_NOMEM;
    i = find_slot(set->slots, set->slot_count, removal);
    if (set->slots[i].offset == 0) {
        set->slots[i] = *removal;
        set->count++;
    }
    return VARVE_OK;
}

bool
removal_set_has(const struct removal_set *set, const struct state_removal *removal)
{
    return removal->offset != 0 && set->slots[find_slot(set->slots, set->slot_count, removal)].offset != 0;
}
