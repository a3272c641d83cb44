/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest_state.h - what a manifest says, as a value: the result of applying its edits in order. Recovery reads the store's
 * shape from it, and rotation writes it out as the first record of the next manifest. Pure memory; callers lock.
 */
#ifndef VARVE_MANIFEST_MANIFEST_STATE_H
#define VARVE_MANIFEST_MANIFEST_STATE_H

#include "env/env.h"
#include "format/manifest_format.h"

struct state_namespace {
    uint32_t ns_id;
    uint32_t element_type;
    uint64_t page_bytes_hint;
    char *name; /* NUL-terminated */
};

struct state_use {
    uint32_t ns_id;
    uint64_t pages;
    uint64_t bytes;
};

struct state_removal {
    uint64_t offset;
    uint8_t id_prefix[ID_PREFIX_BYTES];
};

struct state_segment {
    uint64_t number;
    uint64_t salt;
    uint64_t bytes;   /* of the file: preallocated, or final when sealed */
    uint64_t indexed; /* extents before it are in runs */
    bool sealed;
    bool present; /* recovery's: its file is in the directory */
    uint8_t align_shift;
    struct state_use *uses;
    size_t use_count, use_capacity;
    struct state_removal *removals;
    size_t removal_count, removal_capacity;
};

struct manifest_state {
    struct env *env;
    uint64_t next_number;
    uint64_t next_branch;
    struct state_namespace *namespaces;
    size_t namespace_count, namespace_capacity;
    struct state_segment *segments; /* by number, ascending */
    size_t segment_count, segment_capacity;
    struct run_meta *runs;
    size_t run_count, run_capacity;
    char *spare_name; /* room for the name of the next namespace, or NULL */
};

void manifest_state_init(struct manifest_state *state, struct env *env);
void manifest_state_deinit(struct manifest_state *state);

/* VARVE_OK, VARVE_E_NOMEM, or VARVE_E_CORRUPT when the item contradicts the state (a seal of an unknown segment, ...). */
int manifest_state_apply(struct manifest_state *state, const struct manifest_item *item);

/*
 * Memory for what applying these items would add, so that it cannot fail for want of it, unless they are about a segment that one of them adds. VARVE_OK or
 * VARVE_E_NOMEM; the state says the same as before.
 */
int manifest_state_reserve(struct manifest_state *state, const struct manifest_item *items, size_t count);

/* All of the state as items in one buffer, `prefix` bytes left free before them. env_free() it. NULL: out of memory. */
uint8_t *manifest_state_snapshot(const struct manifest_state *state, size_t prefix, uint32_t *size);

struct state_segment *manifest_state_segment(const struct manifest_state *state, uint64_t number);

#endif
