/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest/manifest_state.h"

#include <assert.h>
#include <string.h>

#include "format/format.h"

void
manifest_state_init(struct manifest_state *state, struct env *env)
{
    *state = (struct manifest_state){.env = env, .next_number = 1, .next_branch = 1};
}

static void
segment_deinit(struct env *env, struct state_segment *segment)
{
    env_free(env, segment->uses);
    env_free(env, segment->removals);
}

void
manifest_state_deinit(struct manifest_state *state)
{
    for (size_t i = 0; i < state->namespace_count; i++)
        env_free(state->env, state->namespaces[i].name);
    for (size_t i = 0; i < state->segment_count; i++)
        segment_deinit(state->env, &state->segments[i]);
    env_free(state->env, state->namespaces);
    env_free(state->env, state->segments);
    env_free(state->env, state->runs);
    env_free(state->env, state->spare_name);
    *state = (struct manifest_state){.env = state->env};
}

/* Room for `more` elements at the end of a growing array. VARVE_OK or VARVE_E_NOMEM. The array pointer is updated. */
static int
array_reserve(struct env *env, void *array_pointer, size_t count, size_t *capacity, size_t more, size_t element)
{
    size_t grown = *capacity == 0 ? 8 : *capacity * 2;
    void *old, *bigger;

    if (*capacity - count >= more)
        return VARVE_OK;
    if (grown < count + more)
        grown = count + more;
    bigger = env->ops->alloc(env, grown * element, 16);
    if (bigger == NULL)
        return VARVE_E_NOMEM;
    memcpy(&old, array_pointer, sizeof(old));
    if (count > 0)
        memcpy(bigger, old, count * element);
    env_free(env, old);
    memcpy(array_pointer, &bigger, sizeof(bigger));
    *capacity = grown;
    return VARVE_OK;
}

/* One more element, all zero; NULL when out of memory. */
static void *
array_append(struct env *env, void *array_pointer, size_t *count, size_t *capacity, size_t element)
{
    void *array, *slot;

    if (array_reserve(env, array_pointer, *count, capacity, 1, element) != VARVE_OK)
        return NULL;
    memcpy(&array, array_pointer, sizeof(array));
    slot = (uint8_t *)array + *count * element;
    memset(slot, 0, element);
    (*count)++;
    return slot;
}

/* Index of the first segment whose number is >= number. */
static size_t
segment_position(const struct manifest_state *state, uint64_t number)
{
    size_t low = 0, high = state->segment_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (state->segments[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct state_segment *
manifest_state_segment(const struct manifest_state *state, uint64_t number)
{
    size_t i = segment_position(state, number);

    return i < state->segment_count && state->segments[i].number == number ? &state->segments[i] : NULL;
}

/* Memory for a name, the spare one first. */
static char *
take_name(struct manifest_state *state)
{
    char *name = state->spare_name;

    state->spare_name = NULL;
    return name != NULL ? name : state->env->ops->alloc(state->env, VARVE_NAMESPACE_NAME_MAX + 1, 1);
}

static int
apply_namespace(struct manifest_state *state, const struct manifest_item *item)
{
    struct state_namespace *ns = NULL;

    if (item->u.ns.ns_id == 0)
        return VARVE_E_CORRUPT;
    for (size_t i = 0; i < state->namespace_count; i++) {
        const char *name = state->namespaces[i].name;

        if (strlen(name) == item->u.ns.name_size && memcmp(name, item->u.ns.name, item->u.ns.name_size) == 0)
            ns = &state->namespaces[i];
        else if (state->namespaces[i].ns_id == item->u.ns.ns_id)
            return VARVE_E_CORRUPT; /* the pages of one would pass for pages of the other */
    }
    if (ns == NULL) {
        char *name = take_name(state);

        if (name == NULL)
            return VARVE_E_NOMEM;
        memcpy(name, item->u.ns.name, item->u.ns.name_size);
        name[item->u.ns.name_size] = '\0';
        ns = array_append(state->env, &state->namespaces, &state->namespace_count, &state->namespace_capacity,
                          sizeof(*ns));
        if (ns == NULL) {
            env_free(state->env, name);
            return VARVE_E_NOMEM;
        }
        ns->name = name;
    }
    ns->ns_id = item->u.ns.ns_id;
    ns->element_type = item->u.ns.element_type;
    ns->page_bytes_hint = item->u.ns.page_bytes_hint;
    return VARVE_OK;
}

static int
apply_segment_add(struct manifest_state *state, const struct manifest_item *item)
{
    size_t at = segment_position(state, item->u.segment.number);
    struct state_segment added = {
        .number = item->u.segment.number,
        .salt = item->u.segment.salt,
        .bytes = item->u.segment.bytes,
        .align_shift = item->u.segment.align_shift,
    };

    if (added.number >= FORMAT_NUMBER_MAX || (at < state->segment_count && state->segments[at].number == added.number))
        return VARVE_E_CORRUPT;
    if (array_append(state->env, &state->segments, &state->segment_count, &state->segment_capacity, sizeof(added)) ==
        NULL)
        return VARVE_E_NOMEM;
    memmove(&state->segments[at + 1], &state->segments[at], (state->segment_count - 1 - at) * sizeof(added));
    state->segments[at] = added;
    if (state->next_number <= added.number)
        state->next_number = added.number + 1;
    return VARVE_OK;
}

static int
apply_segment_drop(struct manifest_state *state, uint64_t number)
{
    size_t at = segment_position(state, number);

    if (at == state->segment_count || state->segments[at].number != number)
        return VARVE_E_CORRUPT;
    segment_deinit(state->env, &state->segments[at]);
    state->segment_count--;
    memmove(&state->segments[at], &state->segments[at + 1], (state->segment_count - at) * sizeof(state->segments[0]));
    return VARVE_OK;
}

static int
apply_segment_change(struct manifest_state *state, const struct manifest_item *item)
{
    struct state_segment *segment = manifest_state_segment(state, item->u.segment.number);
    struct state_removal *removal;
    struct state_use *use;

    if (segment == NULL)
        return VARVE_OK; /* dropped meanwhile: the edit raced with the drop and has nothing left to say */
    switch ((int)item->kind) {
    case MANIFEST_SEGMENT_SEAL:
        segment->sealed = true;
        segment->bytes = item->u.segment.bytes;
        return VARVE_OK;
    case MANIFEST_SEGMENT_INDEXED:
        if (item->u.segment.offset > segment->indexed)
            segment->indexed = item->u.segment.offset;
        return VARVE_OK;
    case MANIFEST_SEGMENT_USE:
        use = array_append(state->env, &segment->uses, &segment->use_count, &segment->use_capacity, sizeof(*use));
        if (use == NULL)
            return VARVE_E_NOMEM;
        *use = (struct state_use){item->u.segment.ns_id, item->u.segment.use_pages, item->u.segment.use_bytes};
        return VARVE_OK;
    default:
        assert(item->kind == MANIFEST_PAGE_REMOVE);
        removal = array_append(state->env, &segment->removals, &segment->removal_count, &segment->removal_capacity,
                               sizeof(*removal));
        if (removal == NULL)
            return VARVE_E_NOMEM;
        removal->offset = item->u.segment.offset;
        memcpy(removal->id_prefix, item->u.segment.id_prefix, ID_PREFIX_BYTES);
        return VARVE_OK;
    }
}

static int
apply_run_add(struct manifest_state *state, const struct run_meta *meta)
{
    struct run_meta *run;

    if (meta->number >= FORMAT_NUMBER_MAX)
        return VARVE_E_CORRUPT;
    for (size_t i = 0; i < state->run_count; i++) {
        if (state->runs[i].number == meta->number)
            return VARVE_E_CORRUPT;
    }
    run = array_append(state->env, &state->runs, &state->run_count, &state->run_capacity, sizeof(*run));
    if (run == NULL)
        return VARVE_E_NOMEM;
    *run = *meta;
    if (state->next_number <= meta->number)
        state->next_number = meta->number + 1;
    return VARVE_OK;
}

static int
apply_run_remove(struct manifest_state *state, uint64_t number)
{
    for (size_t i = 0; i < state->run_count; i++) {
        if (state->runs[i].number == number) {
            state->runs[i] = state->runs[--state->run_count];
            return VARVE_OK;
        }
    }
    return VARVE_E_CORRUPT;
}

int
manifest_state_apply(struct manifest_state *state, const struct manifest_item *item)
{
    switch (item->kind) {
    case MANIFEST_COUNTERS:
        if (item->u.counters.next_number > FORMAT_NUMBER_MAX || item->u.counters.next_branch > FORMAT_NUMBER_MAX)
            return VARVE_E_CORRUPT;
        if (item->u.counters.next_number > state->next_number)
            state->next_number = item->u.counters.next_number;
        if (item->u.counters.next_branch > state->next_branch)
            state->next_branch = item->u.counters.next_branch;
        return VARVE_OK;
    case MANIFEST_NAMESPACE:
        return apply_namespace(state, item);
    case MANIFEST_SEGMENT_ADD:
        return apply_segment_add(state, item);
    case MANIFEST_SEGMENT_DROP:
        return apply_segment_drop(state, item->u.segment.number);
    case MANIFEST_SEGMENT_SEAL:
    case MANIFEST_SEGMENT_INDEXED:
    case MANIFEST_SEGMENT_USE:
    case MANIFEST_PAGE_REMOVE:
        return apply_segment_change(state, item);
    case MANIFEST_RUN_ADD:
        return apply_run_add(state, &item->u.run);
    case MANIFEST_RUN_REMOVE:
        return apply_run_remove(state, item->u.run.number);
    }
    return VARVE_E_CORRUPT;
}

/* The same, of one item, for `more` of its kind. */
static int
reserve_items(struct manifest_state *state, const struct manifest_item *item, size_t more)
{
    struct env *env = state->env;
    struct state_segment *segment;

    switch ((int)item->kind) {
    case MANIFEST_NAMESPACE:
        if (state->spare_name == NULL)
            state->spare_name = take_name(state);
        if (state->spare_name == NULL)
            return VARVE_E_NOMEM;
        return array_reserve(env, &state->namespaces, state->namespace_count, &state->namespace_capacity, more,
                             sizeof(state->namespaces[0]));
    case MANIFEST_SEGMENT_ADD:
        return array_reserve(env, &state->segments, state->segment_count, &state->segment_capacity, more,
                             sizeof(state->segments[0]));
    case MANIFEST_RUN_ADD:
        return array_reserve(env, &state->runs, state->run_count, &state->run_capacity, more, sizeof(state->runs[0]));
    case MANIFEST_SEGMENT_USE:
        segment = manifest_state_segment(state, item->u.segment.number);
        return segment == NULL ? VARVE_OK
                               : array_reserve(env, &segment->uses, segment->use_count, &segment->use_capacity, more,
                                               sizeof(segment->uses[0]));
    case MANIFEST_PAGE_REMOVE:
        segment = manifest_state_segment(state, item->u.segment.number);
        return segment == NULL ? VARVE_OK
                               : array_reserve(env, &segment->removals, segment->removal_count,
                                               &segment->removal_capacity, more, sizeof(segment->removals[0]));
    default:
        return VARVE_OK; /* replaces or takes away */
    }
}

int
manifest_state_reserve(struct manifest_state *state, const struct manifest_item *items, size_t count)
{
    int rc = VARVE_OK;

    /* Of those that follow there are no more of its kind than items. */
    for (size_t i = 0; i < count && rc == VARVE_OK; i++)
        rc = reserve_items(state, &items[i], count - i);
    return rc;
}

/* Give every item that rebuilds the segment to `each`. */
static void
segment_items(const struct state_segment *segment, void (*each)(void *arg, const struct manifest_item *item), void *arg)
{
    struct manifest_item item = {.kind = MANIFEST_SEGMENT_ADD};

    item.u.segment.number = segment->number;
    item.u.segment.salt = segment->salt;
    item.u.segment.bytes = segment->bytes;
    item.u.segment.align_shift = segment->align_shift;
    each(arg, &item);
    if (segment->sealed) {
        item.kind = MANIFEST_SEGMENT_SEAL;
        each(arg, &item);
    }
    if (segment->indexed > 0) {
        item.kind = MANIFEST_SEGMENT_INDEXED;
        item.u.segment.offset = segment->indexed;
        each(arg, &item);
    }
    for (size_t i = 0; i < segment->use_count; i++) {
        item.kind = MANIFEST_SEGMENT_USE;
        item.u.segment.ns_id = segment->uses[i].ns_id;
        item.u.segment.use_pages = segment->uses[i].pages;
        item.u.segment.use_bytes = segment->uses[i].bytes;
        each(arg, &item);
    }
    for (size_t i = 0; i < segment->removal_count; i++) {
        item.kind = MANIFEST_PAGE_REMOVE;
        item.u.segment.offset = segment->removals[i].offset;
        memcpy(item.u.segment.id_prefix, segment->removals[i].id_prefix, ID_PREFIX_BYTES);
        each(arg, &item);
    }
}

static void
state_items(const struct manifest_state *state, void (*each)(void *arg, const struct manifest_item *item), void *arg)
{
    struct manifest_item item = {.kind = MANIFEST_COUNTERS};

    item.u.counters.next_number = state->next_number;
    item.u.counters.next_branch = state->next_branch;
    each(arg, &item);
    for (size_t i = 0; i < state->namespace_count; i++) {
        const struct state_namespace *ns = &state->namespaces[i];

        item.kind = MANIFEST_NAMESPACE;
        item.u.ns.ns_id = ns->ns_id;
        item.u.ns.element_type = ns->element_type;
        item.u.ns.page_bytes_hint = ns->page_bytes_hint;
        item.u.ns.name = ns->name;
        item.u.ns.name_size = (uint32_t)strlen(ns->name);
        each(arg, &item);
    }
    for (size_t i = 0; i < state->segment_count; i++)
        segment_items(&state->segments[i], each, arg);
    for (size_t i = 0; i < state->run_count; i++) {
        item.kind = MANIFEST_RUN_ADD;
        item.u.run = state->runs[i];
        each(arg, &item);
    }
}

static void
add_bound(void *arg, const struct manifest_item *item)
{
    *(size_t *)arg += manifest_item_bound(item);
}

static void
add_bytes(void *arg, const struct manifest_item *item)
{
    uint8_t **p = arg;

    *p = manifest_item_encode(item, *p);
}

uint8_t *
manifest_state_snapshot(const struct manifest_state *state, size_t prefix, uint32_t *size)
{
    size_t bound = 0;
    uint8_t *buf, *p;

    state_items(state, add_bound, &bound);
    if (bound > MANIFEST_RECORD_BYTES_MAX)
        return NULL;
    buf = state->env->ops->alloc(state->env, prefix + bound, 16);
    if (buf == NULL)
        return NULL;
    p = buf + prefix;
    state_items(state, add_bytes, &p);
    *size = (uint32_t)(p - (buf + prefix));
    return buf;
}
