/* SPDX-License-Identifier: Apache-2.0 */
/* forget.h - stored copies of pages are taken away for good. */
#ifndef VARVE_STORE_FORGET_H
#define VARVE_STORE_FORGET_H

#include "store/store.h"

/* The item that names one stored copy: a page's place and the first bytes of its id. */
struct manifest_item removal_item(uint64_t segment, uint64_t offset, const uint8_t *id);

/*
 * Forget `count` pages of one segment, given by their items, in one edit: all of them or, on failure, none (they may still be found). With
 * sync it is durable on return, else with the next sync. A segment that is not there any more has nothing to forget: VARVE_OK.
 */
int store_forget_pages(varve_store *store, const struct manifest_item *items, size_t count, bool sync,
                       varve_error *err);

#endif
