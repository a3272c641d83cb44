/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine (engine.h) as the storage of the modelled serving engine: real pages, real I/O, timed. Before each read its files are taken out of the page
 * cache, outside the measured time; what is read is compared with what was written.
 */
#ifndef VARVE_TOOLS_SERVE_STORE_H
#define VARVE_TOOLS_SERVE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"
#include "page_buffers.h"
#include "page_content.h"
#include "serve/serve.h"

struct serve_store {
    const struct engine_ops *ops;
    struct engine *engine;
    const char *path;
    const struct serve_trace *trace;
    const struct page_content *content;
    struct page_buffers buffers;
    bool verify;
    bool warm;    /* leave the page cache as it is */
    double scale; /* measured times count so many times */
    uint64_t bytes_read;
    uint64_t bytes_written;
    uint64_t pages_failed; /* could not be put */
    uint64_t wrong_bytes;
    double write_us;
};

/* Make the engine's store in `settings->path`. The fields above that are settings are the caller's. VARVE_OK or *err. */
int serve_store_open(struct serve_store *store, const struct engine_settings *settings, varve_error *err);

/* Closes the engine and frees the buffers. VARVE_OK or *err. */
int serve_store_close(struct serve_store *store, varve_error *err);

struct serve_storage serve_store_storage(struct serve_store *store);

#endif
