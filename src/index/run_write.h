/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run_write.h - writing a run: entries in key order in, a durable file and an open run out. The file is written front
 * to back in 1 MiB writes, one in flight while the next is filled. Until run_writer_finish() returns success the file
 * is worthless, and run_writer_destroy() removes it.
 *
 * Threads: one at a time.
 */
#ifndef VARVE_INDEX_RUN_WRITE_H
#define VARVE_INDEX_RUN_WRITE_H

#include "index/run_read.h"

/* What is known beforehand, at least: more entries, pages or bytes than these will not come. */
struct run_bound {
    uint64_t pages;
    uint64_t entries;
    uint64_t array_bytes; /* ids, sums and sizes */
};

/* Blocks, and bytes of the file, that a run within the bound needs at most. */
uint64_t run_bound_blocks(const struct run_bound *bound);
uint64_t run_bound_file_bytes(const struct run_bound *bound, uint32_t fingerprint_bits);

struct run_writer;

int run_writer_create(struct env *env, struct io_queue_pool *pool, uint64_t number, const struct run_bound *bound,
                      uint32_t fingerprint_bits, struct run_writer **out, varve_error *err);
/* Close the file and, if it was not finished, unlink it. False: such a file could not be, and stays. */
bool run_writer_destroy(struct run_writer *writer);

/* Append an entry; its key is not before that of the one before. */
int run_writer_add(struct run_writer *writer, const struct entry *entry, varve_error *err);

/* Entries written so far. */
uint64_t run_writer_entries(const struct run_writer *writer);

/* Write the rest, make file and name durable, and open the run at `level`. At least one entry was added. */
int run_writer_finish(struct run_writer *writer, const struct index_hooks *hooks, uint32_t level, struct run **out,
                      varve_error *err);

#endif
