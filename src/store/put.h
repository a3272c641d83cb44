/* SPDX-License-Identifier: Apache-2.0 */
/*
 * put.h - one put: pages are checked, coded, checksummed and written by the process whose buffers they lie in. What is stored already, where new pages go,
 * and that they can be found then, is the matter of the process that owns the store: this one, or another.
 *
 * All of it is used by the caller's thread alone.
 */
#ifndef VARVE_STORE_PUT_H
#define VARVE_STORE_PUT_H

#include "store/extent_write.h"
#include "store/placement.h"

struct put;

/* The owner's part of a put, as struct placement has it: here, or at the other end of a connection. */
struct put_source {
    int (*begin)(struct put *put, varve_namespace *ns, const varve_id *parent);
    void (*place)(struct put *put, size_t first, size_t count, struct extent_header *key_part);
    void (*stored)(struct put *put, const struct entry *entry, size_t first);
    /* The log has no room while others write: a little time, then it is asked again. */
    void (*wait)(struct put *put, uint64_t time_ms);
    void (*end)(struct put *put); /* after begin, whatever that returned */
};

struct put {
    varve_store *store;
    varve_page *pages;
    size_t count;
    uint32_t ns_id;
    const struct put_source *source;
    void *source_arg;
    struct write_batch batch;
    struct extent_write *extents, **extents_end;
};

/* Run the put of `put->pages`: store, pages, count, source and batch.target are given. VARVE_OK, or what the status of every page is then. */
int put_run(struct put *put, varve_namespace *ns, const varve_id *parent);
/* The status of every page. */
void put_fail(struct put *put, int status);
/* Count what became of the pages. */
void put_count(struct put *put);

#endif
