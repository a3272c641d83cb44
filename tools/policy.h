/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.h - what stays in a cache of a given size, without any data: hit rates of a trace under the store's own ageing and reclaim (the code of
 * src/reclaim), beside page-granular LRU and Belady's optimum.
 *
 * All three count alike: a page of a request is a hit if it and all pages before it are there (longest prefix); first uses are misses, too. After a request
 * all its pages have been used.
 */
#ifndef VARVE_TOOLS_POLICY_H
#define VARVE_TOOLS_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "varve.h"

/* A trace in memory: request r asks for pages[first[r]] to pages[first[r + 1]], root first. */
struct policy_trace {
    size_t requests, accesses;
    size_t request_room, access_room, parent_room, depth_room;
    size_t *first;
    uint32_t *pages;   /* numbered from 0 in order of first use */
    uint32_t *parents; /* of each page: the page before it on its chain, UINT32_MAX at a root */
    uint32_t *depths;
    uint32_t page_count; /* distinct pages: the footprint */
};

struct policy_result {
    uint64_t hits;      /* of trace->accesses */
    uint64_t written;   /* pages stored for requests */
    uint64_t relocated; /* pages copied by reclaim */
    double orphan_rate; /* live pages below a hole in their chain, of all live pages; the mean over the trace */
};

/* Ranks that share a store, each with a part of every page. */
struct policy_ranks {
    uint32_t count;    /* at least 1 */
    uint32_t lag;      /* requests that a rank may be behind with its puts, at most */
    uint32_t given_up; /* of 1000 puts of a rank */
    uint64_t seed;
    bool together; /* the parts of a page are one: what the ranks are to be compared with */
};

struct trace_request;

/* VARVE_OK, or *err. limit 0: all requests. Free it in either case. */
int policy_trace_load(const char *path, uint64_t limit, struct policy_trace *trace, varve_error *err);

/* The same, and `note` (NULL: none) sees each request once it is part of the trace. What it returns other than VARVE_OK ends the reading. */
int policy_trace_read(const char *path, uint64_t limit, struct policy_trace *trace,
                      int (*note)(void *arg, const struct trace_request *request, varve_error *err), void *arg,
                      varve_error *err);
void policy_trace_free(struct policy_trace *trace);

/* Each: VARVE_OK or VARVE_E_NOMEM. `capacity` in pages, at least 1. */
int policy_lru(const struct policy_trace *trace, uint64_t capacity, struct policy_result *result);
int policy_belady(const struct policy_trace *trace, uint64_t capacity, struct policy_result *result);
int policy_varve(const struct policy_trace *trace, uint64_t capacity, struct policy_result *result);
/* `capacity` in whole pages. A request hits as far as all ranks have its pages. */
int policy_ranks(const struct policy_trace *trace, uint64_t capacity, const struct policy_ranks *ranks,
                 struct policy_result *result);

/*
 * All three at each of `capacities` ("1%,5%,2000": shares of the footprint, or pages), on standard output; or, with ranks->count > 0, ranks beside what they are to be
 * compared with. Returns the exit code.
 */
int policy_report(const char *path, const char *capacities, uint64_t limit, const struct policy_ranks *ranks,
                  bool json);

#endif
