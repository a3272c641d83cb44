/* SPDX-License-Identifier: Apache-2.0 */
/*
 * descriptors.h - files of segments that the owner has given to this peer, by their numbers, which never come back. A bounded number is kept; those in use are not
 * closed. Threads: any.
 */
#ifndef VARVE_PEER_DESCRIPTORS_H
#define VARVE_PEER_DESCRIPTORS_H

#include "base/lock.h"
#include "env/env.h"

#define DESCRIPTOR_SLOTS 256

struct descriptor;

struct descriptors {
    struct env *env;
    struct mutex lock;
    struct descriptor *slots[DESCRIPTOR_SLOTS];
    uint32_t count, most;
    uint64_t clock; /* of uses */
};

void descriptors_init(struct descriptors *descriptors, struct env *env, uint32_t most);
/* None is in use. */
void descriptors_deinit(struct descriptors *descriptors);

/* One that is kept, in use until it is released, or NULL. */
struct descriptor *descriptor_find(struct descriptors *descriptors, uint64_t segment);
/* Keep a file, which goes along, and use it. NULL, with the file closed: out of memory. */
struct descriptor *descriptor_keep(struct descriptors *descriptors, uint64_t segment, struct env_file *file);
void descriptor_release(struct descriptors *descriptors, struct descriptor *descriptor);
struct env_file *descriptor_file(const struct descriptor *descriptor);

/* Close all, those in use when they are released: the owner is another, and frees the space of dropped segments by who has them open. */
void descriptors_clear(struct descriptors *descriptors);

#endif
