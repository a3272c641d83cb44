/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_life.h - one store on the simulated disk, without a background thread, and pages whose ids and bytes follow from (chain, index), so
 * that any answer can be checked. LIFE_CHAINS chains of LIFE_PAGES pages of LIFE_PAGE_BYTES are one extent each, back to back in the
 * first segment, so tests know where their headers are. What fails here, fails the test.
 */
#ifndef VARVE_TESTS_STORE_LIFE_H
#define VARVE_TESTS_STORE_LIFE_H

#include "store/store.h"
#include "store_files.h"

#define LIFE_CHAINS       3 /* 1 to 3 */
#define LIFE_PAGES        4
#define LIFE_ALL          (LIFE_CHAINS * LIFE_PAGES)
#define LIFE_PAGE_BYTES   5000
#define LIFE_HEADER_BYTES 512
#define LIFE_EXTENT_BYTES 24576 /* 512 of header, 4 x 5120, padded to 4096 */
#define LIFE_BATCH_MAX    1024

struct store_life {
    struct sim_disk *disk;
    varve_store *store;   /* NULL: it could not be opened */
    varve_namespace *ns;  /* "n" */
    const char *capacity; /* of opens; NULL: 64M */
    varve_error err;
    const char *options[4][2]; /* name and value: set at the next open, in place of the usual ones; NULL: none */
};

extern struct store_life life;

/* A disk with a store of LIFE_ALL pages. Setup: it is open. Setup_killed: its process died before anything was flushed. */
int life_setup(void **state);
int life_setup_killed(void **state);
/* Closes the store, if it is still open; everything must have been given back. */
int life_teardown(void **state);
/* A new disk, as after life_setup_killed(). */
void life_begin_again(void);

/* The code, with life.err saying why. */
int life_open(void);
void life_must_open(void);
void life_must_close(void);
/* As if the process had died. */
void life_kill(void);

/* Put or get pages [0, count) of a chain. Returns how many are there, with their right bytes; others must be misses. */
uint32_t life_put(uint32_t chain, uint32_t count, uint32_t page_bytes);
uint32_t life_get(uint32_t chain, uint32_t count, uint32_t page_bytes);
/* Of the LIFE_ALL pages. */
uint32_t life_pages_right(void);
/* How many of these the store says it has, without reading them. */
uint32_t life_listed(uint32_t chain, uint32_t count);
varve_id life_page_id(uint32_t chain, uint32_t index);
uint64_t life_stat(const char *name);

/* Where the extent of a chain begins. */
uint64_t life_extent_offset(uint32_t chain);
/* Set a field of the header of the segment (chain 0) or of a chain's extent, and put its checksums right. */
void life_edit_header(uint32_t chain, uint32_t at, uint32_t width, uint64_t value);

#endif
