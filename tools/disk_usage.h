/* SPDX-License-Identifier: Apache-2.0 */
/* How many bytes a directory holds on the device, now and at most during a run. */
#ifndef VARVE_TOOLS_DISK_USAGE_H
#define VARVE_TOOLS_DISK_USAGE_H

#include <stdint.h>

/* Allocated bytes of the files in the directory (not below it), 0 when it cannot be read. */
uint64_t disk_usage(const char *path);

struct disk_sampler; /* a thread that asks every few milliseconds */

/* NULL when no thread can be had. `path` must outlive the sampler. */
struct disk_sampler *disk_sampler_start(const char *path);

/* Stop, free, and return the largest usage seen, that of now included. */
uint64_t disk_sampler_stop(struct disk_sampler *sampler);

#endif
