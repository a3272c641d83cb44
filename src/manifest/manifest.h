/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.h - the append-only record of which files and namespaces make up the store.
 *
 * CURRENT names the manifest in force. An edit is one record: it happens whole or not at all. When the file has grown past its
 * limit, the state is written to a new manifest and CURRENT is replaced (tmp, sync, rename, sync of the directory).
 *
 * Threads: all calls from any thread; commits take turns, and hold the manifest's lock across their I/O. Nothing that reads or writes
 * pages waits for that lock.
 */
#ifndef VARVE_MANIFEST_MANIFEST_H
#define VARVE_MANIFEST_MANIFEST_H

#include <stdatomic.h>

#include "env/io.h"
#include "manifest/manifest_state.h"

struct manifest;

/*
 * Read CURRENT and the manifest it names into *state (initialised by the caller). VARVE_MISS: there is no CURRENT. VARVE_E_CORRUPT,
 * VARVE_E_VERSION, VARVE_E_IO, VARVE_E_NOMEM. A torn tail is left out: it was never acknowledged.
 */
int manifest_load(struct env *env, struct io_queue_pool *pool, struct manifest_state *state,
                  struct manifest_header *header, varve_error *err);

/*
 * Write `state` (taken over, emptied) as a new manifest, make it CURRENT, durably, and keep it open for edits. `bytes_written` counts what is
 * written from then on; `rotate_bytes` is the size at which the next one is begun.
 */
int manifest_create(struct env *env, struct io_queue_pool *pool, struct manifest_state *state,
                    const uint8_t store_id[16], uint64_t rotate_bytes, _Atomic uint64_t *bytes_written,
                    struct manifest **out, varve_error *err);
void manifest_destroy(struct manifest *manifest);

/*
 * Append one edit. With sync it is durable on return, and so are all before. VARVE_E_NOMEM: nothing was written, and it may be tried again. Any other failure is
 * final: VARVE_E_READONLY from then on, since the end of the file is unknown.
 */
int manifest_commit(struct manifest *manifest, const struct manifest_item *items, size_t count, bool sync,
                    varve_error *err);

/*
 * The size at which the next one is begun is another from now on. A smaller one is begun at once, so that the room of the old one comes back. On failure it is as
 * before.
 */
int manifest_resize(struct manifest *manifest, uint64_t rotate_bytes, varve_error *err);

/* Make all edits durable. */
int manifest_sync(struct manifest *manifest, varve_error *err);

/* A file number never used before in this store. */
uint64_t manifest_new_number(struct manifest *manifest);

/* Number and bytes of the file in force. */
uint64_t manifest_number(struct manifest *manifest);
uint64_t manifest_bytes(struct manifest *manifest);

/* Run `read` on the state, under the lock; it must be quick. */
void manifest_read_state(struct manifest *manifest, void (*read)(void *arg, const struct manifest_state *state),
                         void *arg);

#endif
