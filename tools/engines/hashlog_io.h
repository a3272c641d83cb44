/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transfers of one put or get of the engine `hashlog`: pages that lie next to each other in the log are moved together, straight between the log and the
 * caller's buffers where those are aligned, and checksums are made while others are in flight. One thread's.
 */
#ifndef VARVE_TOOLS_ENGINES_HASHLOG_IO_H
#define VARVE_TOOLS_ENGINES_HASHLOG_IO_H

#include <stddef.h>
#include <stdint.h>

#include "env/io.h"
#include "varve.h"

/* A page that is to be moved. */
struct hashlog_place {
    varve_page *page; /* status VARVE_OK; another one after a failure */
    uint64_t offset;  /* in the log, aligned */
    uint64_t size;
    uint64_t checksum; /* of a put: computed */
};

struct hashlog_transfer;

struct hashlog_call {
    struct env *env;
    struct env_file *log;
    varve_page *pages;
    size_t count;
    struct hashlog_place *places; /* room for `count`; the caller fills active_count of them */
    size_t active_count;
    struct hashlog_transfer *transfers;
    size_t transfer_count;
    struct iovec *iovs;
    size_t iov_count;
};

/* What a page of `size` bytes takes in the log. */
uint64_t hashlog_padded(const struct env *env, uint64_t size);

/* VARVE_OK or VARVE_E_NOMEM. Deinit in any case. */
int hashlog_call_init(struct hashlog_call *call, struct env *env, struct env_file *log, varve_page *pages,
                      size_t count);
void hashlog_call_deinit(struct hashlog_call *call);

/* Move all places; failures are statuses of pages. VARVE_OK or, with nothing done, an error. */
int hashlog_call_run(struct hashlog_call *call, struct io_queue_pool *queues, enum env_op op);

#endif
