/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file for each page, named by its id in hex: what the engines `file` and `file-threads` share. As SGLang's backends do, a page is written under a
 * temporary name and then renamed, and nothing is checked at a get but the size.
 *
 * Thread-safe. Functions for pages set their status.
 */
#ifndef VARVE_TOOLS_ENGINES_PAGE_FILES_H
#define VARVE_TOOLS_ENGINES_PAGE_FILES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "varve.h"

struct page_files {
    int dir_fd;
    bool fan_out;          /* into 256 sub-directories */
    uint32_t direct_align; /* direct I/O for pages whose buffers allow it; 0: never */
    _Atomic uint64_t temporary_count;
};

/* Makes the directory, and the sub-directories, where they are not there. VARVE_OK or an error with *err. */
int page_files_open(struct page_files *files, const char *path, bool fan_out, bool direct, varve_error *err);
void page_files_close(struct page_files *files);

bool page_files_has(const struct page_files *files, const varve_id *id);
void page_files_put(struct page_files *files, varve_page *page);
void page_files_get(const struct page_files *files, varve_page *page);
/* Of the whole file system: a call a file would be far slower. */
int page_files_sync(const struct page_files *files, varve_error *err);

#endif
