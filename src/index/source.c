/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ordered streams of entries; see source.h. A 256 KiB piece that cannot be read is tried again block by block, so that
 * one bad sector costs one block.
 */
#include "index/source.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "base/error.h"

#define BUFFER_BLOCKS       16
#define SOURCE_BUFFER_BYTES ((size_t)BUFFER_BLOCKS * BLOCK_BYTES)

int
source_set_init(struct source_set *set, struct env *env, struct io_queue_pool *pool, size_t capacity, bool strict)
{
    *set = (struct source_set){.env = env, .pool = pool, .capacity = capacity, .strict = strict};
    set->sources = env_zalloc(env, (capacity + 1) * sizeof(*set->sources));
    return set->sources == NULL ? VARVE_E_NOMEM : VARVE_OK;
}

void
source_set_deinit(struct source_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        env_free(set->env, set->sources[i].buffer);
    env_free(set->env, set->sources);
    *set = (struct source_set){.count = 0};
}

void
source_set_add_memtable(struct source_set *set, const struct memtable *memtable)
{
    assert(set->count < set->capacity);
    set->sources[set->count++] = (struct source){.memtable = memtable, .stale = true};
}

int
source_set_add_run(struct source_set *set, struct run *run)
{
    uint8_t *buffer = set->env->ops->alloc(set->env, SOURCE_BUFFER_BYTES, RUN_PAD_BYTES);

    assert(set->count < set->capacity);
    if (buffer == NULL)
        return VARVE_E_NOMEM;
    set->sources[set->count++] = (struct source){.run = run, .buffer = buffer, .stale = true};
    return VARVE_OK;
}

/* Whether reading other blocks makes sense after this failure: the device's fault, not ours or memory's. */
static bool
is_device_error(int rc)
{
    return rc == -EIO || rc == -ENODATA;
}

static int
read_blocks(struct source_set *set, struct source *source, uint32_t first, uint32_t count)
{
    int rc = io_read(set->pool, source->run->file, source->buffer, (size_t)count * BLOCK_BYTES,
                     (uint64_t)first * BLOCK_BYTES);

    source->buffer_first = first;
    source->buffer_count = rc < 0 ? 0 : count;
    set->counters.bytes_read += (uint64_t)count * BLOCK_BYTES;
    return rc;
}

/* Bring next_block into the buffer. */
static int
fill(struct source_set *set, struct source *source)
{
    uint32_t block = source->next_block;
    uint32_t left = source->run->meta.blocks - block;
    int rc;

    if (block - source->buffer_first < source->buffer_count)
        return 0;
    rc = read_blocks(set, source, block, left < BUFFER_BLOCKS ? left : BUFFER_BLOCKS);
    if (is_device_error(rc))
        rc = read_blocks(set, source, block, 1);
    return rc;
}

/* Open the next block. VARVE_MISS: no more. On an error of the block itself, next_block has moved on. */
static int
open_block(struct source_set *set, struct source *source, varve_error *err)
{
    const struct run *run = source->run;
    uint8_t *data;
    uint32_t block = source->next_block;
    int rc;

    if (block == run->meta.blocks)
        return VARVE_MISS;
    rc = fill(set, source);
    if (rc < 0) {
        if (is_device_error(rc)) {
            source->next_block++;
            set->counters.read_errors++;
        }
        return error_os(err, rc, "read run file %016" PRIx64 " block %" PRIu32, run->meta.number, block);
    }
    source->next_block++;
    data = source->buffer + (size_t)(block - source->buffer_first) * BLOCK_BYTES;
    if (!block_check(data, block_seed(run->salt, run->meta.number, block))) {
        set->counters.blocks_corrupt++;
        return error_set(err, VARVE_E_CORRUPT, "run file %016" PRIx64 " block %" PRIu32 " fails its checksum",
                         run->meta.number, block);
    }
    block_walk_init(&source->walk, data);
    source->in_block = true;
    return VARVE_OK;
}

static int
step_run(struct source_set *set, struct source *source, varve_error *err)
{
    for (;;) {
        int rc;

        if (source->in_block && block_walk_next(&source->walk, &source->entry))
            return VARVE_OK;
        source->in_block = false;
        rc = open_block(set, source, err);
        if (rc == VARVE_E_CORRUPT && !set->strict)
            continue;
        if (rc != VARVE_OK)
            return rc;
    }
}

static int
step(struct source_set *set, struct source *source, varve_error *err)
{
    int rc;

    if (source->run != NULL) {
        rc = step_run(set, source, err);
        if (rc < 0)
            return rc;
        source->ended = rc == VARVE_MISS;
    } else {
        source->node = source->node == NULL ? memtable_first(source->memtable) : memtable_next(source->node);
        source->ended = source->node == NULL;
        if (!source->ended)
            source->entry = source->node->entry;
    }
    source->stale = false;
    return VARVE_OK;
}

int
source_set_next(struct source_set *set, struct entry *out, varve_error *err)
{
    struct source *least = NULL;

    if (set->last != NULL)
        set->last->stale = true;
    set->last = NULL;
    for (size_t i = 0; i < set->count; i++) {
        struct source *source = &set->sources[i];

        if (source->stale) {
            int rc = step(set, source, err);

            if (rc < 0)
                return rc;
        }
        if (!source->ended && (least == NULL || key_compare(&source->entry.key, &least->entry.key) < 0))
            least = source;
    }
    if (least == NULL)
        return VARVE_MISS;
    set->last = least;
    *out = least->entry;
    return VARVE_OK;
}
