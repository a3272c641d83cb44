/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buffers.h - memory kept for reuse, for coded pages and bounces: large blocks go back to the kernel when they are freed, and each of their pages costs a
 * fault when they are taken again, which for encoding is as much as half of the encoding itself.
 */
#ifndef VARVE_CODEC_BUFFERS_H
#define VARVE_CODEC_BUFFERS_H

#include <stddef.h>
#include <stdint.h>

#include "base/lock.h"

#define BUFFERS_IDLE_MAX       64
#define BUFFERS_IDLE_BYTES_MAX ((uint64_t)32 << 20)
#define BUFFERS_KEPT_MIN       ((uint64_t)64 << 10) /* smaller ones are the allocator's business */

struct env;

struct buffer {
    uint8_t *memory; /* at a multiple of `align` */
    uint64_t bytes;
};

struct buffers {
    struct env *env;
    size_t align;
    struct mutex mutex; /* guards what follows; a leaf: nothing is allocated under it */
    uint64_t idle_bytes;
    uint32_t idle_count;
    struct buffer idle[BUFFERS_IDLE_MAX];
};

/* Keeps env until buffers_deinit(), which all have been given back before. */
void buffers_init(struct buffers *buffers, struct env *env, size_t align);
void buffers_deinit(struct buffers *buffers);

/* Any thread. At least `bytes`, of any content; memory NULL: there is none. */
struct buffer buffers_acquire(struct buffers *buffers, uint64_t bytes);
void buffers_release(struct buffers *buffers, struct buffer buffer);

#endif
