/* SPDX-License-Identifier: Apache-2.0 */
/*
 * placement.h - what the owner of the store decides about a put: which of its pages are stored already, which are admitted, and where on which branch each
 * run of new pages goes. Of pages it looks at ids, sizes and statuses only, so it serves puts of peers as well.
 *
 * Used by one thread at a time.
 */
#ifndef VARVE_STORE_PLACEMENT_H
#define VARVE_STORE_PLACEMENT_H

#include "format/log_format.h"
#include "store/store.h"

#define STATUS_PENDING INT32_MAX /* in pages[].status while a put runs: to be written */

struct placement {
    varve_store *store;
    varve_page *pages;
    size_t count;
    uint32_t ns_id;
    bool expires;     /* the namespace has a time to live */
    bool parent_gone; /* one was given, and is not stored */
    struct touches touches;
    struct key parent;  /* of the first page, when that is new; branch 0: none, or not known */
    struct key *places; /* count: where a page that is stored lies; branch 0: not known */
};

/*
 * Of pages that are STATUS_PENDING: those that are stored become VARVE_OK, and are touched; those that are not to be stored VARVE_SKIPPED. store, pages and
 * count are given. VARVE_OK or VARVE_E_NOMEM; placement_end() in any case.
 */
int placement_begin(struct placement *placement, varve_namespace *ns, const varve_id *parent);

/* The key of a run of `count` new pages from pages[first] on, the page before which is not pending: to *key_part. */
void placement_place(struct placement *placement, size_t first, size_t count, struct extent_header *key_part);

/* Pages were made findable; the first is pages[first]. */
void placement_stored(struct placement *placement, const struct entry *entry, size_t first);

void placement_end(struct placement *placement);

#endif
