/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coding.h - what the store knows about coding pages: codecs and threads for it, how fast decoding is, and whether an extent is to be coded.
 * extent_encode.h codes the pages of a put, read_decode.c decodes those of a get.
 */
#ifndef VARVE_STORE_CODING_H
#define VARVE_STORE_CODING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/lock.h"
#include "codec/buffers.h"
#include "codec/choice.h"
#include "codec/codec.h"
#include "codec/codec_pool.h"
#include "codec/crew.h"
#include "env/env.h"

#define CODING_NONE   0 /* codec byte of extents: pages as they are, */
#define CODING_PLANES 1 /* or as src/codec/stored_page.h has them */

/* An extent that was written: reading it tells how fast the device is. */
struct written_extent {
    uint64_t segment;
    uint64_t offset;
    uint64_t bytes; /* 0: none */
};

struct coding {
    struct codec_pool codecs;
    struct buffers buffers; /* for coded pages; at multiples of IO_ALIGN_MAX */
    struct crew crew;
    uint32_t threads;              /* of the crew, and the caller */
    _Atomic uint64_t decode_speed; /* of one thread, bytes/s of decoded pages; EWMA of calls. 0: not measured yet */
    _Atomic uint64_t decode_stored_speed; /* the same in stored bytes */
    _Atomic uint64_t coded_bandwidth;     /* of gets of coded pages, bytes/s of decoded pages; 0: not measured yet */
    struct mutex lock;                    /* a leaf; guards what follows */
    struct written_extent written;
};

/* threads: that code at once, the caller's included; 0: as many as there are cores, within reason. */
void coding_init(struct coding *coding, struct env *env, uint32_t threads);
void coding_deinit(struct coding *coding);

/* Files of segments that extents were written to, for reads: of this process, or got from another. */
struct coding_files {
    void *arg;
    /* What close() takes; *file is open until then. NULL: the segment is gone, or out of reach. */
    void *(*open)(void *arg, uint64_t segment, struct env_file **file);
    void (*close)(void *arg, void *held);
};

/*
 * What is best for the `count` pages from pages[0] on (one or more), which are an extent or the beginning of several. A few times in the
 * life of a store this takes some tens of milliseconds for a trial.
 */
enum codec_choice coding_choose(varve_store *store, enum varve_element element, varve_page *const *pages, size_t count,
                                const struct coding_files *files);
/* Whether the next choice will make the trial: nothing else should be in flight then. */
bool coding_trial_due(varve_store *store);

/* coding_trial.c: measure reading the extent and decoding together; a failure leaves things as unknown as they were. */
void coding_trial(varve_store *store, enum varve_element element, const varve_page *page,
                  const struct written_extent *extent, const struct coding_files *files);

/* Time that one thread took to decode pages. */
void coding_measured(struct coding *coding, uint64_t bytes, uint64_t stored_bytes, uint64_t time_ns);

/* While nothing is known yet, keep where an extent was written. */
void coding_written(varve_store *store, const struct written_extent *extent);

static inline uint64_t
bytes_per_second(uint64_t bytes, uint64_t time_ns)
{
    return (uint64_t)((double)bytes * 1e9 / (double)(time_ns == 0 ? 1 : time_ns));
}

#endif
