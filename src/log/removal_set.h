/* SPDX-License-Identifier: Apache-2.0 */
/*
 * removal_set.h - the pages of one segment that were removed, or found damaged. A page is named by its place and id, so
 * putting it again, elsewhere, is not affected. Callers lock.
 */
#ifndef VARVE_LOG_REMOVAL_SET_H
#define VARVE_LOG_REMOVAL_SET_H

#include "env/env.h"
#include "manifest/manifest_state.h"

struct removal_set;

struct removal_set *removal_set_create(struct env *env); /* NULL: out of memory */
void removal_set_destroy(struct removal_set *set);

/* VARVE_OK (also when it is there already) or VARVE_E_NOMEM. */
int removal_set_add(struct removal_set *set, const struct state_removal *removal);
/* Make sure that one addition will not fail, until it is unreserved. VARVE_OK or VARVE_E_NOMEM. */
int removal_set_reserve(struct removal_set *set);
void removal_set_unreserve(struct removal_set *set);
bool removal_set_has(const struct removal_set *set, const struct state_removal *removal);

#endif
