/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers for a batch of pages, laid out as serving engines do: the K halves of all pages together, the V halves
 * elsewhere, so each page is two iovecs. Halves start at multiples of 4096 and, where the page size allows, are
 * multiples of 512 long.
 */
#ifndef VARVE_TOOLS_PAGE_BUFFERS_H
#define VARVE_TOOLS_PAGE_BUFFERS_H

#include <stddef.h>
#include <stdint.h>

#include "page_content.h"
#include "varve.h"

struct page_buffers {
    uint64_t page_bytes;
    uint64_t k_bytes; /* the rest is V */
    size_t count;
    uint8_t *memory;
    struct iovec *iovs; /* two a page */
    varve_page *pages;  /* [i] with its iovecs; ids are the caller's to set */
};

/*
 * Zeroed memory for I/O, to be freed with free(); NULL when there is none. Huge pages where the kernel gives them: a
 * large transfer from scattered 4 KiB pages has more pieces than a device takes at once, and may run at half the
 * speed.
 */
void *page_memory_alloc(size_t size);

/* Make `count` pages of page_bytes. VARVE_OK or VARVE_E_NOMEM. */
int page_buffers_init(struct page_buffers *buffers, size_t count, uint64_t page_bytes);
void page_buffers_deinit(struct page_buffers *buffers);

/* Write the content of pages[index].id to its buffers. */
void page_buffers_fill(struct page_buffers *buffers, size_t index, const struct page_content *content);

/* How many bytes of page `index`, that was read as pages[index].id, are not what that id says. */
uint64_t page_buffers_wrong_bytes(const struct page_buffers *buffers, size_t index, const struct page_content *content);

#endif
