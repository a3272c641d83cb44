/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of the arrays that callers hand in, shared by put, get and the lookups. */
#ifndef VARVE_STORE_PAGES_H
#define VARVE_STORE_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "varve.h"

/* The arguments every batch call has. Fills err. */
int pages_check_call(const varve_store *store, const varve_namespace *ns, const void *items, size_t count,
                     varve_error *err);

/* How large the single reads of a batch of `total` bytes are to be: a multiple of IO_ALIGN_MAX, at most io_bytes. */
uint64_t store_piece_bytes(const varve_store *store, uint64_t total);

/* Bytes in a page's buffers; false: the iovec is not usable (a NULL with a length, too many, or more bytes than any memory). */
bool page_buffer_bytes(const varve_page *page, uint64_t *bytes);

/* Whether the first `size` bytes can be moved by direct I/O as they lie: addresses, lengths and the size are aligned. */
bool page_is_aligned(const varve_page *page, uint64_t size, uint32_t align);

#endif
