/* SPDX-License-Identifier: Apache-2.0 */
/* Taking a directory's files out of the page cache, so that reads of them come from the device. */
#ifndef VARVE_TOOLS_SERVE_PAGE_CACHE_H
#define VARVE_TOOLS_SERVE_PAGE_CACHE_H

/* Write back what is dirty, unmap from this process what it maps, drop the rest. What cannot be dropped stays: a hint. */
void page_cache_drop(const char *path);

/* Remove the directory and all below it. 0 or a negative errno. */
int directory_remove(const char *path);

#endif
