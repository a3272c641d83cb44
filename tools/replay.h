/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Playing a request trace against a store, as a serving node would: for each request probe the chain of its prompt,
 * get the hit prefix, put the rest. Page ids are chained digests, id_i = SHA-256(id_{i-1} || hash id as little-endian
 * uint64), and page bytes follow from the id (page_content.h), so everything that is read can be compared.
 */
#ifndef VARVE_TOOLS_REPLAY_H
#define VARVE_TOOLS_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "histogram.h"
#include "page_content.h"
#include "trace_read.h"
#include "varve.h"

#define REPLAY_BATCH 128 /* pages a call */

struct replay_settings {
    const char *trace;
    uint64_t page_bytes;
    uint64_t batch; /* pages a call, at most */
    uint64_t threads;
    uint64_t limit; /* requests, 0: all */
    bool no_verify;
    bool no_get;
    bool sync;
    bool progress;
    int ack_fd; /* -1: none */
};

struct replay_totals {
    uint64_t requests;
    uint64_t pages_probed; /* pages of all chains */
    uint64_t probe_hits;   /* of these, found by the probe */
    uint64_t pages_hit;    /* of these, read (or found, when nothing is read) */
    uint64_t pages_put;
    uint64_t pages_lost; /* found by the probe, gone at the get: evicted in between */
    uint64_t get_failed; /* the device or the store failed */
    uint64_t put_failed;
    uint64_t get_bytes;
    uint64_t put_bytes;
    uint64_t wrong_bytes;
    uint64_t wrong_pages;
    uint64_t get_busy_ns; /* wall time with at least one get under way */
    uint64_t put_busy_ns;
    uint64_t elapsed_ns;
    struct histogram probe_ns; /* per call: of a chain, or of a batch */
    struct histogram get_ns;
    struct histogram put_ns;
};

/* Play the trace. VARVE_OK, or the first failure that ended the run, with *err; *totals is filled either way. */
int replay_run(varve_store *store, varve_namespace *ns, const struct page_content *content,
               const struct replay_settings *settings, struct replay_totals *totals, varve_error *err);

/* The page ids of a request; ids has room for request->hash_count. VARVE_OK or VARVE_E_NOMEM. */
int replay_chain(const struct trace_request *request, varve_id *ids);

struct replay_acks_report {
    uint64_t acknowledged; /* pages */
    uint64_t missing;
    uint64_t wrong_pages;
    uint64_t wrong_bytes;
};

/* Check that every page acknowledged in the file at `path` is in the store and holds the right bytes. */
int replay_verify_acks(varve_store *store, varve_namespace *ns, const struct page_content *content,
                       const struct replay_settings *settings, const char *path, struct replay_acks_report *report,
                       varve_error *err);

#endif
