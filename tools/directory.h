/* SPDX-License-Identifier: Apache-2.0 */
/* Whole directories of stores that are measured: out of the page cache, and away. */
#ifndef VARVE_TOOLS_DIRECTORY_H
#define VARVE_TOOLS_DIRECTORY_H

/*
 * Take the files below out of the page cache, so that reads of them come from the device: write back what is dirty, unmap from this process what it maps, drop the rest.
 * What cannot be dropped stays: a hint.
 */
void directory_uncache(const char *path);

/* Remove the directory and all below it. 0 or a negative errno: what could not be removed is there, and what had not been come to. */
int directory_delete(const char *path);

#endif
