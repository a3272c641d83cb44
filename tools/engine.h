/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h - the stores that are compared: varve and its peers, behind one set of calls.
 *
 * All hold pages by id, are given the same bytes in the same order, and are asked the way an LLM serving engine asks: put the pages of a chain, how many of its first pages
 * are there, get those. What an engine cannot do (parents, batches) it leaves out or does page by page: that is its cost.
 *
 * Errors: VARVE_OK or a negative VARVE_E_* with *err; statuses of pages in pages[i].status, as varve.h has them. Threads: an engine may be called by several threads
 * at once after open and before close. Buffers are page aligned, and the caller's.
 */
#ifndef VARVE_TOOLS_ENGINE_H
#define VARVE_TOOLS_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "varve.h"

struct engine_settings {
    const char *path;             /* a directory of its own; made if it is not there */
    uint64_t capacity;            /* bytes on disk, for engines that have a limit or reserve space */
    uint64_t page_bytes;          /* of most pages */
    uint64_t batch;               /* pages a call, at most */
    const varve_options *options; /* varve's own; NULL: its defaults */
    const char
        *io_engine; /* auto, uring or threads, for engines that use the library's I/O; NULL: as options, or auto */
    enum varve_element element; /* what the pages are said to be, for engines that code them */
};

struct engine; /* each implementation has its own */

struct engine_ops {
    const char *name;
    const char *description; /* for --help and reports: what it is, and how it was tuned */
    int (*open)(const struct engine_settings *settings, struct engine **out, varve_error *err);
    /* Pages of one chain in order; `parent` is the id before the first, NULL: it is the chain's first. */
    int (*put)(struct engine *engine, const varve_id *parent, varve_page *pages, size_t count, varve_error *err);
    /* How many of the first ids are stored, or a negative error. */
    int64_t (*probe)(struct engine *engine, const varve_id *ids, size_t count, varve_error *err);
    int (*get)(struct engine *engine, varve_page *pages, size_t count, varve_error *err);
    /* What was put so far survives a power failure. */
    int (*sync)(struct engine *engine, varve_error *err);
    /* Ends the engine in any case. What was put before is there after the next open. */
    int (*close)(struct engine *engine, varve_error *err);
    /* A statistic, by the name that varve's has: false where there is none. NULL: none at all. */
    bool (*stat)(struct engine *engine, const char *name, uint64_t *value);
};

/* NULL: no such engine, or it was left out when this program was built: then *missing says what to install (NULL: unknown name). */
const struct engine_ops *engine_find(const char *name, const char **missing);

/* The engines that were built, in the order of reports; NULL behind the last. */
const struct engine_ops *engine_at(size_t index);

#endif
