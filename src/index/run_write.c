/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing runs; see run_write.h. The locator is filled while the blocks are: it is sized by the bound. When a merge
 * dropped so much that the locator would take more than 6 bytes a page, it is built again from the finished blocks,
 * which costs one sequential read of them.
 */
#include "index/run_write.h"

#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "format/format.h"

#define WRITE_BYTES  ((size_t)1 << 20)
#define WRITE_SLOTS  2
#define BLOCK_USABLE (BLOCK_BYTES - BLOCK_HEADER_BYTES - BLOCK_SLACK_MAX - ENTRY_HEAD_MAX)

struct write_slot {
    struct io io;
    struct iovec iov;
    uint8_t *data; /* WRITE_BYTES */
};

/* What is left of an entry that was split at the end of a block, until it is its key's turn: copied. */
struct tail {
    struct tail *next; /* in key order */
    struct entry entry;
    uint8_t arrays[];
};

struct run_writer {
    struct env *env;
    struct io_queue_pool *pool;
    struct env_queue *queue;
    struct env_file *file; /* handed to the run by run_writer_finish() */
    struct run *run;       /* in the making */
    struct write_slot slots[WRITE_SLOTS];
    uint32_t slot;       /* being filled */
    uint32_t slot_block; /* block of that slot being filled */
    uint32_t fingerprint_bits;
    uint32_t block_count;
    uint64_t blocks_max;
    uint64_t entries;
    uint64_t pages;
    struct block_builder builder;
    struct key *first_keys; /* blocks_max */
    struct tail *tails;
    struct locator locator;
    struct run_bound bound;
    struct run_footer footer;
    int write_rc; /* first failure of a write */
    char name[FORMAT_NAME_MAX];
};

uint64_t
run_bound_blocks(const struct run_bound *bound)
{
    return (bound->array_bytes + bound->entries * ENTRY_HEAD_MAX) / BLOCK_USABLE + 1;
}

uint64_t
run_bound_file_bytes(const struct run_bound *bound, uint32_t fingerprint_bits)
{
    struct run_footer footer = {.block_count = (uint32_t)run_bound_blocks(bound)};
    struct locator locator;

    locator_plan(&locator, bound->pages, footer.block_count, fingerprint_bits);
    footer.bucket_count = locator.bucket_count;
    return run_file_bytes(&footer);
}

static void
write_done(struct io *io)
{
    struct run_writer *writer = io->arg;

    if (io->result < 0 && writer->write_rc == 0)
        writer->write_rc = io->result;
}

static void
submit(struct run_writer *writer, struct write_slot *slot, const void *data, size_t bytes, uint64_t offset)
{
    union {
        const void *in;
        void *out;
    } base = {.in = data}; /* an iovec has no const; a write does not change the bytes */

    slot->iov = (struct iovec){.iov_base = base.out, .iov_len = bytes};
    slot->io = (struct io){
        .op = ENV_OP_WRITE,
        .file = writer->file,
        .iov = &slot->iov,
        .iov_count = 1,
        .offset = offset,
        .done = write_done,
        .arg = writer,
    };
    io_submit(writer->queue, &slot->io);
}

static int
drain(struct run_writer *writer, varve_error *err)
{
    io_drain(writer->queue);
    return writer->write_rc < 0 ? error_os(err, writer->write_rc, "write %s", writer->name) : VARVE_OK;
}

static int
writer_alloc(struct run_writer *writer, const struct run_bound *bound)
{
    struct env *env = writer->env;

    for (int i = 0; i < WRITE_SLOTS; i++) {
        writer->slots[i].data = env->ops->alloc(env, WRITE_BYTES, RUN_PAD_BYTES);
        if (writer->slots[i].data == NULL)
            return VARVE_E_NOMEM;
    }
    writer->first_keys = env->ops->alloc(env, (size_t)writer->blocks_max * sizeof(struct key), 64);
    writer->run = env_zalloc(env, sizeof(*writer->run));
    if (writer->first_keys == NULL || writer->run == NULL)
        return VARVE_E_NOMEM;
    locator_plan(&writer->locator, bound->pages, writer->blocks_max, writer->fingerprint_bits);
    return locator_alloc(env, &writer->locator);
}

int
run_writer_create(struct env *env, struct io_queue_pool *pool, uint64_t number, const struct run_bound *bound,
                  uint32_t fingerprint_bits, struct run_writer **out, varve_error *err)
{
    struct run_writer *writer = env_zalloc(env, sizeof(*writer));
    int rc;

    if (writer == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory for writing a run");
    writer->env = env;
    writer->pool = pool;
    writer->bound = *bound;
    writer->fingerprint_bits = fingerprint_bits;
    writer->blocks_max = run_bound_blocks(bound);
    writer->footer = (struct run_footer){.salt = env->ops->random(env), .file_number = number};
    format_file_name(FORMAT_FILE_RUN, number, writer->name);
    if (writer_alloc(writer, bound) < 0) {
        rc = error_set(err, VARVE_E_NOMEM, "out of memory for writing a run");
        goto fail;
    }
    block_builder_init(&writer->builder);
    rc = io_queue_acquire(pool, &writer->queue);
    if (rc < 0) {
        writer->queue = NULL;
        rc = error_os(err, rc, "open an I/O queue");
        goto fail;
    }
    rc = env->ops->open(env, writer->name, ENV_OPEN_CREATE | ENV_OPEN_DIRECT, &writer->file);
    if (rc < 0) {
        writer->file = NULL;
        rc = error_os(err, rc, "create %s", writer->name);
        goto fail;
    }
    *out = writer;
    return VARVE_OK;

fail:
    (void)run_writer_destroy(writer);
    return rc;
}

bool
run_writer_destroy(struct run_writer *writer)
{
    struct env *env = writer->env;
    bool gone = true;

    if (writer->queue != NULL) {
        io_drain(writer->queue);
        io_queue_release(writer->pool, writer->queue);
    }
    if (writer->file != NULL) {
        env->ops->close(writer->file);
        gone = env->ops->unlink(env, writer->name) == 0;
    }
    while (writer->tails != NULL) {
        struct tail *tail = writer->tails;

        writer->tails = tail->next;
        env_free(env, tail);
    }
    for (int i = 0; i < WRITE_SLOTS; i++)
        env_free(env, writer->slots[i].data);
    env_free(env, writer->first_keys);
    env_free(env, writer->run);
    locator_free(&writer->locator);
    env_free(env, writer);
    return gone;
}

uint64_t
run_writer_entries(const struct run_writer *writer)
{
    return writer->entries;
}

/* Write the blocks of the slot being filled and go on with the other slot. */
static int
slot_flush(struct run_writer *writer, varve_error *err)
{
    struct write_slot *slot = &writer->slots[writer->slot];
    uint64_t first = writer->block_count - writer->slot_block;
    int rc = drain(writer, err); /* the other slot's write */

    if (rc < 0)
        return rc;
    submit(writer, slot, slot->data, (size_t)writer->slot_block * BLOCK_BYTES, first * BLOCK_BYTES);
    writer->slot = (writer->slot + 1) % WRITE_SLOTS;
    writer->slot_block = 0;
    return VARVE_OK;
}

static int
block_finish(struct run_writer *writer, varve_error *err)
{
    block_builder_seal(&writer->builder, writer->slots[writer->slot].data + (size_t)writer->slot_block * BLOCK_BYTES,
                       block_seed(writer->footer.salt, writer->footer.file_number, writer->block_count));
    writer->block_count++;
    writer->slot_block++;
    if (writer->slot_block == WRITE_BYTES / BLOCK_BYTES) {
        int rc = slot_flush(writer, err);

        if (rc < 0)
            return rc;
    }
    block_builder_init(&writer->builder);
    return VARVE_OK;
}

/* Place an entry's pages, the first of which is page `page` of the block. */
static void
locate_pages(struct locator *locator, const struct entry *entry, uint32_t block, uint32_t page)
{
    for (uint32_t i = 0; i < entry->count; i++)
        locator_insert(locator, hash_id(entry->key.ns_id, entry_id(entry, i)), block, page + i);
}

static int
tail_push(struct run_writer *writer, const struct entry *entry, varve_error *err)
{
    size_t count = entry->count;
    struct tail **link = &writer->tails;
    struct tail *tail =
        writer->env->ops->alloc(writer->env, sizeof(*tail) + count * ENTRY_PAGE_BYTES_MAX, _Alignof(struct tail));
    uint8_t *p;

    if (tail == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory for writing a run");
    p = tail->arrays;
    tail->entry = *entry;
    tail->entry.ids = memcpy(p, entry->ids, count * ID_PREFIX_BYTES);
    p += count * ID_PREFIX_BYTES;
    tail->entry.sums = memcpy(p, entry->sums, count * 8);
    p += count * 8;
    if (entry->sizes != NULL)
        tail->entry.sizes = memcpy(p, entry->sizes, count * 4);
    while (*link != NULL && key_compare(&(*link)->entry.key, &entry->key) <= 0)
        link = &(*link)->next;
    tail->next = *link;
    *link = tail;
    return VARVE_OK;
}

/* Put what fits of the entry into the present block, or, if that is full, into the next. The rest becomes a tail. */
static int
put_entry(struct run_writer *writer, const struct entry *entry, varve_error *err)
{
    uint32_t taken = block_builder_add(&writer->builder, entry);
    struct entry part;

    if (taken == 0) {
        int rc = block_finish(writer, err);

        if (rc < 0)
            return rc;
        taken = block_builder_add(&writer->builder, entry);
    }
    assert(writer->block_count < writer->blocks_max);
    if (writer->builder.entries == 1)
        writer->first_keys[writer->block_count] = entry->key;
    part = entry_slice(entry, 0, taken);
    locate_pages(&writer->locator, &part, writer->block_count, writer->builder.pages - taken);
    writer->entries++;
    writer->pages += taken;
    writer->footer.last_key = part.key;
    if (taken > writer->footer.entry_pages_max)
        writer->footer.entry_pages_max = taken;
    if (taken == entry->count)
        return VARVE_OK;
    part = entry_slice(entry, taken, entry->count - taken);
    return tail_push(writer, &part, err);
}

/* Put the tails that come before the key (NULL: all). */
static int
put_tails(struct run_writer *writer, const struct key *key, varve_error *err)
{
    int rc = VARVE_OK;

    while (rc == VARVE_OK && writer->tails != NULL &&
           (key == NULL || key_compare(&writer->tails->entry.key, key) <= 0)) {
        struct tail *tail = writer->tails;

        writer->tails = tail->next;
        rc = put_entry(writer, &tail->entry, err);
        env_free(writer->env, tail);
    }
    return rc;
}

int
run_writer_add(struct run_writer *writer, const struct entry *entry, varve_error *err)
{
    int rc = put_tails(writer, &entry->key, err);

    return rc == VARVE_OK ? put_entry(writer, entry, err) : rc;
}

/* Place the pages of `count` finished blocks, the first of which is `first`. false: they are not what was written. */
static bool
locate_blocks(const struct run_writer *writer, struct locator *locator, uint8_t *data, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *block = data + (size_t)i * BLOCK_BYTES;
        struct block_walk walk;
        struct entry entry;

        if (!block_check(block, block_seed(writer->footer.salt, writer->footer.file_number, first + i)))
            return false;
        block_walk_init(&walk, block);
        while (block_walk_next(&walk, &entry))
            locate_pages(locator, &entry, first + i, walk.page - entry.count);
    }
    return true;
}

/*
 * Read the finished blocks back and place their pages in a locator of the right size. If that fails, for whatever
 * reason, the one that is too large stays: it is as good, but for its size.
 */
static void
locator_rebuild(struct run_writer *writer)
{
    uint8_t *data = writer->slots[0].data;
    struct locator locator;

    locator_plan(&locator, writer->pages, writer->block_count, writer->fingerprint_bits);
    if (locator_alloc(writer->env, &locator) < 0)
        return;
    for (uint32_t first = 0; first < writer->block_count; first += WRITE_BYTES / BLOCK_BYTES) {
        uint32_t left = writer->block_count - first;
        uint32_t count = left < WRITE_BYTES / BLOCK_BYTES ? left : WRITE_BYTES / BLOCK_BYTES;

        if (io_read(writer->pool, writer->file, data, (size_t)count * BLOCK_BYTES, (uint64_t)first * BLOCK_BYTES) < 0 ||
            !locate_blocks(writer, &locator, data, first, count)) {
            locator_free(&locator);
            return;
        }
    }
    locator_free(&writer->locator);
    writer->locator = locator;
}

/* Write a section in pieces, all slots in flight at a time. The slots' own memory is not used. */
static int
write_section(struct run_writer *writer, const uint8_t *data, uint64_t bytes, uint64_t offset, varve_error *err)
{
    uint64_t done = 0;

    while (done < bytes) {
        int rc;

        for (int i = 0; i < WRITE_SLOTS && done < bytes; i++) {
            uint64_t part = bytes - done < WRITE_BYTES ? bytes - done : WRITE_BYTES;

            submit(writer, &writer->slots[i], data + done, (size_t)part, offset + done);
            done += part;
        }
        rc = drain(writer, err);
        if (rc < 0)
            return rc;
    }
    return VARVE_OK;
}

static int
write_index(struct run_writer *writer, varve_error *err)
{
    size_t bytes = (size_t)run_padded((uint64_t)writer->block_count * RUN_KEY_BYTES);
    uint8_t *data = writer->env->ops->alloc(writer->env, bytes, RUN_PAD_BYTES);
    int rc;

    if (data == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory for writing a run");
    memset(data, 0, bytes);
    for (uint32_t i = 0; i < writer->block_count; i++)
        run_key_encode(data + (size_t)i * RUN_KEY_BYTES, &writer->first_keys[i]);
    writer->footer.index_sum = hash_bytes(data, bytes);
    rc = write_section(writer, data, bytes, run_index_offset(&writer->footer), err);
    env_free(writer->env, data);
    return rc;
}

/* Everything behind the blocks. */
static int
write_tail(struct run_writer *writer, varve_error *err)
{
    struct run_footer *footer = &writer->footer;
    uint8_t *page = writer->slots[0].data;
    int rc;

    footer->entries = writer->entries;
    footer->pages = writer->pages;
    footer->block_count = writer->block_count;
    footer->bucket_count = writer->locator.bucket_count;
    footer->slot_bytes = writer->locator.slot_bytes;
    footer->block_bits = writer->locator.block_bits;
    footer->page_bits = writer->locator.page_bits;
    footer->fingerprint_bits = writer->locator.fingerprint_bits;
    rc = write_index(writer, err);
    if (rc < 0)
        return rc;
    footer->locator_sum = hash_bytes(writer->locator.buckets, (size_t)writer->locator.bytes);
    rc = write_section(writer, writer->locator.buckets, writer->locator.bytes, run_locator_offset(footer), err);
    if (rc < 0)
        return rc;
    run_footer_encode(page, footer);
    return write_section(writer, page, RUN_FOOTER_BYTES, run_file_bytes(footer) - RUN_FOOTER_BYTES, err);
}

/* Fill the run from what was written; cannot fail once its key array is there. */
static void
run_adopt(struct run_writer *writer, const struct index_hooks *hooks, uint32_t level, struct key *keys)
{
    struct run *run = writer->run;
    const struct run_footer *footer = &writer->footer;

    memcpy(keys, writer->first_keys, writer->block_count * sizeof(*keys));
    run->env = writer->env;
    run->hooks = hooks;
    run->file = writer->file;
    run->meta = (struct run_meta){
        .number = footer->file_number,
        .file_bytes = run_file_bytes(footer),
        .pages = writer->pages,
        .entries = writer->entries,
        .blocks = writer->block_count,
        .level = level,
    };
    run->salt = footer->salt;
    run->entry_pages_max = footer->entry_pages_max;
    run->first_keys = keys;
    run->last_key = footer->last_key;
    run->locator = writer->locator;
    atomic_init(&run->refs, 1);
    writer->locator.buckets = NULL;
    writer->file = NULL;
    writer->run = NULL;
}

int
run_writer_finish(struct run_writer *writer, const struct index_hooks *hooks, uint32_t level, struct run **out,
                  varve_error *err)
{
    struct run *run = writer->run;
    struct key *keys;
    int rc;

    assert(writer->entries > 0);
    rc = put_tails(writer, NULL, err);
    if (rc == VARVE_OK)
        rc = block_finish(writer, err);
    if (rc == VARVE_OK && writer->slot_block > 0)
        rc = slot_flush(writer, err);
    if (rc == VARVE_OK)
        rc = drain(writer, err);
    if (rc < 0)
        return rc;
    if (writer->pages < writer->bound.pages / 7 * 6)
        locator_rebuild(writer);
    rc = write_tail(writer, err);
    if (rc < 0)
        return rc;
    rc = writer->env->ops->sync(writer->file);
    if (rc < 0)
        return error_os(err, rc, "sync %s", writer->name);
    rc = writer->env->ops->sync_dir(writer->env);
    if (rc < 0)
        return error_os(err, rc, "sync the directory after creating %s", writer->name);
    keys = writer->env->ops->alloc(writer->env, writer->block_count * sizeof(*keys), _Alignof(struct key));
    if (keys == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory for the index of a run");
    run_adopt(writer, hooks, level, keys);
    *out = run;
    return VARVE_OK;
}
