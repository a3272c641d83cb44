/* SPDX-License-Identifier: Apache-2.0 */
/* One allocation, strided. Invariant: the iovecs of a page sum up to page_bytes, and no two overlap. */
#include "page_buffers.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BUFFER_ALIGN    4096
#define HUGE_PAGE_BYTES ((size_t)2 << 20)

static uint64_t
stride_of(uint64_t bytes)
{
    return (bytes + BUFFER_ALIGN - 1) & ~(uint64_t)(BUFFER_ALIGN - 1);
}

void *
page_memory_alloc(size_t size)
{
    size_t align = size >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : BUFFER_ALIGN;
    size_t rounded = size == 0 ? align : (size + align - 1) & ~(align - 1);
    void *memory = aligned_alloc(align, rounded);

    if (memory == NULL)
        return NULL;
    if (align == HUGE_PAGE_BYTES)
        (void)madvise(memory, rounded, MADV_HUGEPAGE); /* a hint */
    memset(memory, 0, rounded);                        /* page faults belong to no measurement */
    return memory;
}

int
page_buffers_init(struct page_buffers *buffers, size_t count, uint64_t page_bytes)
{
    uint64_t k_bytes = page_bytes / 2 >= 512 ? page_bytes / 2 & ~(uint64_t)511 : page_bytes / 2;
    uint64_t k_stride = stride_of(k_bytes);
    uint64_t v_stride = stride_of(page_bytes - k_bytes);
    uint64_t total;

    *buffers = (struct page_buffers){.page_bytes = page_bytes, .k_bytes = k_bytes, .count = count};
    if (__builtin_mul_overflow(k_stride + v_stride, count, &total) || total > SIZE_MAX / 2)
        return VARVE_E_NOMEM;
    buffers->iovs = calloc(count, 2 * sizeof(*buffers->iovs));
    buffers->pages = calloc(count, sizeof(*buffers->pages));
    buffers->memory = page_memory_alloc((size_t)total);
    if (buffers->iovs == NULL || buffers->pages == NULL || buffers->memory == NULL) {
        page_buffers_deinit(buffers);
        return VARVE_E_NOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        struct iovec *iov = &buffers->iovs[2 * i];
        size_t used = 0;

        if (k_bytes > 0)
            iov[used++] = (struct iovec){buffers->memory + i * k_stride, (size_t)k_bytes};
        if (page_bytes > k_bytes)
            iov[used++] =
                (struct iovec){buffers->memory + count * k_stride + i * v_stride, (size_t)(page_bytes - k_bytes)};
        buffers->pages[i].iov = used > 0 ? iov : NULL;
        buffers->pages[i].iov_count = (uint32_t)used;
    }
    return VARVE_OK;
}

void
page_buffers_deinit(struct page_buffers *buffers)
{
    free(buffers->iovs);
    free(buffers->pages);
    free(buffers->memory);
    *buffers = (struct page_buffers){0};
}

void
page_buffers_fill(struct page_buffers *buffers, size_t index, const struct page_content *content)
{
    const varve_page *page = &buffers->pages[index];
    uint64_t offset = 0;

    for (uint32_t i = 0; i < page->iov_count; i++) {
        page_content_fill(content, &page->id, offset, page->iov[i].iov_base, page->iov[i].iov_len);
        offset += page->iov[i].iov_len;
    }
}

uint64_t
page_buffers_wrong_bytes(const struct page_buffers *buffers, size_t index, const struct page_content *content)
{
    const varve_page *page = &buffers->pages[index];
    uint64_t offset = 0;
    uint64_t wrong = 0;

    if (page->size != buffers->page_bytes)
        return page->size > buffers->page_bytes ? page->size : buffers->page_bytes;
    for (uint32_t i = 0; i < page->iov_count; i++) {
        wrong += page_content_wrong_bytes(content, &page->id, offset, page->iov[i].iov_base, page->iov[i].iov_len);
        offset += page->iov[i].iov_len;
    }
    return wrong;
}
