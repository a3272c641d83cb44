/* SPDX-License-Identifier: Apache-2.0 */
#include "store/pages.h"

#include "base/error.h"
#include "store/store.h"

int
pages_check_call(const varve_store *store, const varve_namespace *ns, const void *items, size_t count, varve_error *err)
{
    if (store == NULL || ns == NULL || ns->store != store)
        return error_set(err, VARVE_E_ARG, "a store and one of its namespaces must be given");
    if (items == NULL || count == 0 || count > VARVE_BATCH_PAGES_MAX)
        return error_set(err, VARVE_E_ARG, "a batch has 1 to %d pages, not %zu: split it", VARVE_BATCH_PAGES_MAX,
                         items == NULL ? (size_t)0 : count);
    return VARVE_OK;
}

/*
 * Few large reads cost the least CPU, many keep the device busy. For batches of 8 MiB, 8, 16 and 32 reads were equal within the noise of a
 * virtual disk; for batches of 2 MiB, 8 reads were a little faster than 16 or 4. (Writes are always as large as they may be: each one into preallocated space
 * changes the file system's extents; at 256 KiB they reached two thirds of what they do at 1 MiB.)
 */
#define PIECES_WANTED   16
#define PIECE_BYTES_MIN ((uint64_t)256 << 10)

uint64_t
store_piece_bytes(const varve_store *store, uint64_t total)
{
    uint64_t bytes = (total / PIECES_WANTED + IO_ALIGN_MAX - 1) & ~(uint64_t)(IO_ALIGN_MAX - 1);

    if (bytes < PIECE_BYTES_MIN)
        bytes = PIECE_BYTES_MIN;
    return bytes < store->options.io_bytes ? bytes : store->options.io_bytes;
}

bool
page_buffer_bytes(const varve_page *page, uint64_t *bytes)
{
    *bytes = 0;
    if (page->iov_count > VARVE_PAGE_IOV_MAX || (page->iov_count > 0 && page->iov == NULL))
        return false;
    for (uint32_t i = 0; i < page->iov_count; i++) {
        if (page->iov[i].iov_base == NULL && page->iov[i].iov_len > 0)
            return false;
        if (__builtin_add_overflow(*bytes, page->iov[i].iov_len, bytes))
            return false;
    }
    return true;
}

bool
page_is_aligned(const varve_page *page, uint64_t size, uint32_t align)
{
    if (size % align != 0)
        return false;
    for (uint32_t i = 0; i < page->iov_count && size > 0; i++) {
        size_t part = page->iov[i].iov_len < size ? page->iov[i].iov_len : (size_t)size;

        if (part % align != 0 || (part > 0 && (uintptr_t)page->iov[i].iov_base % align != 0))
            return false;
        size -= part;
    }
    return true;
}
