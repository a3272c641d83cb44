/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file image of an extent is described by a list of pieces (header, page buffers, padding) and cut into chunks of io_bytes.
 * A chunk is written as soon as the pages it covers are checksummed; those with the header go last, since it holds
 * all checksums. Aligned buffers, and coded pages, are written from where they lie; otherwise chunks are copied.
 */
#include "store/extent_write.h"

#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "codec/iov_cursor.h"
#include "store/forget.h"
#include "store/pages.h"

#define CHUNK_IOV_MAX     512
#define WRITE_PIECE_BYTES ((uint64_t)6 << 10) /* smaller ones are faster to copy than to write from */

struct chunk {
    struct io io; /* first */
    struct extent_write *extent;
    uint64_t bytes;
    uint8_t *bounce; /* NULL: written from the pieces */
    struct iovec iov[];
};

/* Where in the pieces the next chunk begins. */
struct chunk_cursor {
    size_t piece;
    size_t skip;     /* bytes of that piece already in chunks */
    uint64_t offset; /* from the start of the extent */
};

static const uint8_t zeros[LOG_BLOCK_BYTES] __attribute__((aligned(LOG_BLOCK_BYTES)));

static uint64_t
stored_size(varve_page *const *pages, const struct encode_page *coded, size_t index)
{
    return coded != NULL ? coded[index].stored_bytes : pages[index]->size;
}

/*
 * Pages and buffers that are whole blocks are laid out by blocks, which takes no more room, since extents are whole blocks anyway. To preallocated space ext4
 * writes unaligned data, be it only an address in memory, one at a time and with nothing else in flight: puts had 60 % of the speed.
 */
static uint8_t
choose_alignment(const varve_store *store, const struct extent_fit *fit)
{
    if (fit->coded != NULL)
        return store->align_shift;
    for (size_t i = 0; i < fit->count && i < EXTENT_PAGES_MAX; i++) {
        if (!page_is_aligned(fit->pages[i], fit->pages[i]->size, LOG_BLOCK_BYTES))
            return store->align_shift;
    }
    return LOG_BLOCK_SHIFT;
}

uint32_t
extent_fit_size(const struct extent_fit *fit, size_t index)
{
    return (uint32_t)stored_size(fit->pages, fit->coded, index);
}

uint64_t
extent_fit_least(const struct extent_fit *fit)
{
    return log_pad(extent_header_size(1, true, fit->align_shift) + stored_size(fit->pages, fit->coded, 0), 12);
}

uint64_t
extent_fit_take(void *arg, uint64_t room)
{
    struct extent_fit *fit = arg;
    uint64_t payload = 0, taken = 0;
    bool uniform = true;

    fit->fitting = 0;
    for (size_t i = 0; i < fit->count && i < EXTENT_PAGES_MAX; i++) {
        uint64_t bytes, size = stored_size(fit->pages, fit->coded, i);

        uniform = uniform && size == stored_size(fit->pages, fit->coded, 0);
        payload += log_pad(size, fit->align_shift);
        bytes = log_pad(extent_header_size((uint32_t)i + 1, uniform, fit->align_shift) + payload, 12);
        if (bytes > room)
            break;
        taken = bytes;
        fit->fitting = i + 1;
        fit->uniform = uniform;
    }
    return taken;
}

static size_t
count_pieces(const struct extent_write *extent)
{
    size_t count = 2; /* header, final padding */

    for (uint32_t i = 0; i < extent->header.count; i++)
        count += extent->coded != NULL ? 1u : extent->pages[i]->iov_count + 1u; /* and padding */
    return count;
}

static int
allocate(struct extent_write *extent, varve_error *err)
{
    struct env *env = extent->batch->store->env;
    uint32_t count = extent->header.count;

    extent->buf = env->ops->alloc(env, extent->header.header_bytes, IO_ALIGN_MAX);
    extent->id_prefixes = env->ops->alloc(env, (size_t)count * ID_PREFIX_BYTES, 1);
    extent->pieces = env->ops->alloc(env, count_pieces(extent) * sizeof(struct iovec), _Alignof(struct iovec));
    if (extent->buf == NULL || extent->id_prefixes == NULL || extent->pieces == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory for an extent of %u pages", count);
    return VARVE_OK;
}

static void
add_piece(struct extent_write *extent, const void *base, uint64_t size)
{
    if (size > 0)
        iov_append(extent->pieces, &extent->piece_count, (void *)(uintptr_t)base, (size_t)size);
}

/* One page of the image, padded. */
static void
add_page(struct extent_write *extent, uint32_t index, uint64_t padded)
{
    const varve_page *page = extent->pages[index];

    if (extent->coded != NULL) {
        add_piece(extent, extent->coded[index].stored.memory, padded);
        return;
    }
    if (!page_is_aligned(page, page->size, 1u << extent->header.align_shift))
        extent->copied = true;
    for (uint32_t j = 0; j < page->iov_count; j++)
        add_piece(extent, page->iov[j].iov_base, page->iov[j].iov_len);
    add_piece(extent, zeros, padded - page->size);
}

/* List the extent's image, and fill the header's ids and sizes. */
static void
lay_out(struct extent_write *extent)
{
    struct extent_header *header = &extent->header;
    uint64_t bytes = header->header_bytes;

    header->ids = extent_table_ids(extent->buf);
    header->sums = extent_table_sums(extent->buf, header->count);
    if (header->sizes != NULL)
        header->sizes = extent_table_sizes(extent->buf, header->count);
    add_piece(extent, extent->buf, header->header_bytes);
    for (uint32_t i = 0; i < header->count; i++) {
        const varve_page *page = extent->pages[i];
        uint64_t size = stored_size(extent->pages, extent->coded, i), padded = log_pad(size, header->align_shift);

        memcpy(extent_table_ids(extent->buf) + (size_t)i * VARVE_ID_BYTES, page->id.bytes, VARVE_ID_BYTES);
        memcpy(extent->id_prefixes + (size_t)i * ID_PREFIX_BYTES, page->id.bytes, ID_PREFIX_BYTES);
        if (header->sizes != NULL)
            wire_put32(extent_table_sizes(extent->buf, header->count) + (size_t)i * 4, (uint32_t)size);
        add_page(extent, i, padded);
        extent->payload_bytes += size;
        extent->original_bytes += page->size;
        bytes += padded;
    }
    add_piece(extent, zeros, header->extent_bytes - bytes);
    if (bounce_pays(extent->batch->store->env, header->extent_bytes, extent->piece_count, WRITE_PIECE_BYTES))
        extent->copied = true;
}

/* All of the extent is on the device, or failed to get there: what it was written from is not needed any more. */
static void
written(struct extent_write *extent)
{
    const struct written_extent where = {extent->place.segment, extent->header.offset, extent->header.extent_bytes};

    encode_release(extent->batch, &extent->window);
    if (extent->rc == 0)
        coding_written(extent->batch->store, &where);
}

static void
chunk_done(struct io *io)
{
    struct chunk *chunk = (struct chunk *)io;
    struct extent_write *extent = chunk->extent;
    struct env *env = extent->batch->store->env;

    if (io->result < 0 && extent->rc == 0)
        extent->rc = io->result;
    assert(extent->pending > 0);
    extent->pending--;
    bounce_give_back(&extent->batch->bounce, chunk->bounce);
    env_free(env, chunk);
    if (extent->submitted && extent->pending == 0)
        written(extent);
}

/*
 * Take the next chunk's pieces into iov: at most io_bytes and CHUNK_IOV_MAX of them, ending on an alignment boundary. Returns its bytes
 * and moves the cursor. All pieces but those of copied extents are multiples of the alignment, so any cut of them is.
 */
static uint64_t
take_pieces(const struct extent_write *extent, struct chunk_cursor *cursor, struct iovec *iov, uint32_t *iov_count)
{
    uint64_t limit = extent->batch->store->options.io_bytes;
    uint64_t bytes = 0;

    *iov_count = 0;
    while (cursor->piece < extent->piece_count && bytes < limit && (extent->copied || *iov_count < CHUNK_IOV_MAX)) {
        const struct iovec *piece = &extent->pieces[cursor->piece];
        uint64_t left = piece->iov_len - cursor->skip;
        uint64_t part = left < limit - bytes ? left : limit - bytes;

        if (!extent->copied)
            iov[*iov_count] = (struct iovec){(uint8_t *)piece->iov_base + cursor->skip, (size_t)part};
        else
            memcpy((uint8_t *)iov[0].iov_base + bytes, (uint8_t *)piece->iov_base + cursor->skip, (size_t)part);
        (*iov_count)++;
        bytes += part;
        cursor->skip += (size_t)part;
        if (cursor->skip == piece->iov_len) {
            cursor->piece++;
            cursor->skip = 0;
        }
    }
    cursor->offset += bytes;
    return bytes;
}

static struct chunk *
chunk_create(struct extent_write *extent)
{
    varve_store *store = extent->batch->store;
    struct env *env = store->env;
    size_t iov_max = extent->copied ? 1 : CHUNK_IOV_MAX;
    struct chunk *chunk = env->ops->alloc(env, sizeof(*chunk) + iov_max * sizeof(struct iovec), _Alignof(struct chunk));

    if (chunk == NULL)
        return NULL;
    *chunk = (struct chunk){.extent = extent};
    if (extent->copied) {
        chunk->bounce = bounce_take(&extent->batch->bounce);
        if (chunk->bounce == NULL) {
            env_free(env, chunk);
            return NULL;
        }
        chunk->iov[0].iov_base = chunk->bounce;
    }
    return chunk;
}

/* Submit the chunk at the cursor. */
static int
write_chunk(struct extent_write *extent, struct chunk_cursor *cursor)
{
    struct write_batch *batch = extent->batch;
    struct chunk *chunk;
    uint64_t at = cursor->offset;
    uint32_t iov_count;

    while (extent->copied && bounce_is_full(&batch->bounce))
        batch->store->env->ops->wait(batch->queue, 1);
    chunk = chunk_create(extent);
    if (chunk == NULL)
        return VARVE_E_NOMEM;
    chunk->bytes = take_pieces(extent, cursor, chunk->iov, &iov_count);
    if (extent->copied) {
        chunk->iov[0].iov_len = (size_t)chunk->bytes;
        iov_count = 1;
        COUNT(&batch->store->counters, put_copied_bytes, chunk->bytes);
    }
    chunk->io.op = ENV_OP_WRITE;
    chunk->io.file = extent->place.file;
    chunk->io.iov = chunk->iov;
    chunk->io.iov_count = iov_count;
    chunk->io.offset = extent->place.offset + at;
    chunk->io.done = chunk_done;
    extent->pending++;
    io_submit(batch->queue, &chunk->io);
    batch->store->env->ops->wait(batch->queue, 0); /* to the device now, while the next pages are checksummed */
    return VARVE_OK;
}

/* The cursor after the chunks that hold any of the header, without writing them. */
static struct chunk_cursor
skip_header(const struct extent_write *extent)
{
    uint64_t io_bytes = extent->batch->store->options.io_bytes;
    uint64_t whole = (extent->header.header_bytes - 1) / io_bytes * io_bytes; /* chunks of nothing else: piece 0 */
    struct chunk_cursor cursor = {.skip = (size_t)whole, .offset = whole};
    uint64_t limit = whole + io_bytes;

    for (uint32_t taken = 0; cursor.piece < extent->piece_count && cursor.offset < limit; taken++) {
        const struct iovec *piece = &extent->pieces[cursor.piece];
        uint64_t part = piece->iov_len - cursor.skip;

        if (!extent->copied && taken == CHUNK_IOV_MAX)
            break;
        if (part > limit - cursor.offset)
            part = limit - cursor.offset;
        cursor.offset += part;
        cursor.skip += (size_t)part;
        if (cursor.skip == piece->iov_len) {
            cursor.piece++;
            cursor.skip = 0;
        }
    }
    return cursor;
}

static uint64_t
page_sum(const struct extent_write *extent, uint32_t index)
{
    const varve_page *page = extent->pages[index];
    struct iovec stored;

    if (extent->coded == NULL)
        return hash_page(extent->header.ns_id, &page->id, page->iov, page->iov_count, page->size);
    stored = (struct iovec){extent->coded[index].stored.memory, (size_t)extent->coded[index].stored_bytes};
    return hash_page(extent->header.ns_id, &page->id, &stored, 1, stored.iov_len);
}

/* Checksum page after page, and write what is complete. */
static int
write_all(struct extent_write *extent)
{
    struct extent_header *header = &extent->header;
    uint64_t ready = header->header_bytes; /* bytes of the image whose pages are checksummed */
    uint64_t io_bytes = extent->batch->store->options.io_bytes;
    struct chunk_cursor cursor = skip_header(extent);
    struct chunk_cursor first = {0, 0, 0};
    uint64_t header_end = cursor.offset;
    int rc = VARVE_OK;

    for (uint32_t i = 0; i < header->count && rc == VARVE_OK; i++) {
        wire_put64(extent_table_sums(extent->buf, header->count) + (size_t)i * 8, page_sum(extent, i));
        ready += log_pad(stored_size(extent->pages, extent->coded, i), header->align_shift);
        while (rc == VARVE_OK && cursor.offset + io_bytes <= ready)
            rc = write_chunk(extent, &cursor);
    }
    while (rc == VARVE_OK && cursor.offset < header->extent_bytes)
        rc = write_chunk(extent, &cursor);
    extent_header_encode(header, extent->buf);
    while (rc == VARVE_OK && first.offset < header_end)
        rc = write_chunk(extent, &first);
    extent->submitted = rc == VARVE_OK;
    if (extent->submitted && extent->pending == 0)
        written(extent);
    return rc;
}

static void
fill_header(struct extent_write *extent, const struct extent_header *key_part, const struct extent_fit *fit)
{
    extent->header = *key_part;
    extent->header.salt = extent->place.salt;
    extent->header.offset = extent->place.offset;
    extent->header.synced_offset = extent->place.synced_offset;
    extent->header.extent_bytes = extent->place.bytes;
    extent->header.count = (uint32_t)fit->fitting;
    extent->header.align_shift = fit->align_shift;
    extent->header.codec = fit->codec;
    extent->header.page_bytes = extent_fit_size(fit, 0);
    extent->header.sizes = fit->uniform ? NULL : zeros; /* set for real in lay_out() */
    extent->header.header_bytes = extent_header_size(extent->header.count, fit->uniform, fit->align_shift);
}

int
extent_write_reserve(struct write_batch *batch, const struct extent_header *key_part, varve_page **pages, size_t count,
                     struct extent_write **out, varve_error *err)
{
    varve_store *store = batch->store;
    struct extent_fit fit = {.pages = pages, .codec = key_part->codec, .align_shift = key_part->align_shift};
    struct extent_header header = *key_part;
    struct extent_write *extent = env_zalloc(store->env, sizeof(*extent));
    int rc;

    if (extent == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    extent->batch = batch;
    extent->pages = pages;
    extent->coded = fit.coded = encode_choose(batch, pages, &count);
    fit.count = count;
    if (fit.coded != NULL)
        fit.codec = CODING_PLANES;
    if (fit.align_shift == 0)
        fit.align_shift = choose_alignment(store, &fit);
    rc = batch->target->reserve(extent, &fit, &header, err);
    if (rc != VARVE_OK) {
        env_free(store->env, extent);
        return rc;
    }
    fill_header(extent, &header, &fit);
    if (fit.coded != NULL)
        extent->window = encode_take(batch, fit.fitting);
    rc = allocate(extent, err);
    if (rc != VARVE_OK) {
        batch->target->abandon(extent);
        extent_write_destroy(extent);
        return rc;
    }
    lay_out(extent);
    *out = extent;
    return VARVE_OK;
}

int
extent_write_begin(struct write_batch *batch, const struct extent_header *key_part, varve_page **pages, size_t count,
                   struct extent_write **out, varve_error *err)
{
    struct extent_write *extent;
    int rc = extent_write_reserve(batch, key_part, pages, count, &extent, err);

    if (rc != VARVE_OK)
        return rc;
    rc = write_all(extent);
    if (rc != VARVE_OK) {
        (void)error_set(err, rc, "out of memory writing an extent");
        while (extent->pending > 0)
            batch->store->env->ops->wait(batch->queue, 1);
        batch->target->abandon(extent);
        extent_write_destroy(extent);
        return rc;
    }
    *out = extent;
    return VARVE_OK;
}

void
extent_write_count(const struct extent_write *extent)
{
    struct counters *counters = &extent->batch->store->counters;

    COUNT(counters, log_bytes_written, extent->header.extent_bytes); /* first: admission.c */
    COUNT(counters, put_pages, extent->header.count);
    COUNT(counters, put_bytes, extent->original_bytes);
    COUNT(counters, extents_written, 1);
    if (extent->header.codec == CODING_NONE)
        return;
    COUNT(counters, codec_extents, 1);
    COUNT(counters, codec_put_pages, extent->header.count);
    COUNT(counters, codec_put_bytes, extent->original_bytes);
    COUNT(counters, codec_put_stored_bytes, extent->payload_bytes);
}

struct entry
extent_write_entry(const struct extent_write *extent)
{
    const struct extent_header *header = &extent->header;

    return (struct entry){
        .key = {.ns_id = header->ns_id, .depth = header->depth, .branch = header->branch},
        .parent_branch = header->parent_branch,
        .parent_depth = header->parent_depth,
        .count = header->count,
        .segment = extent->place.segment,
        .offset = header->offset + header->header_bytes,
        .page_bytes = header->page_bytes,
        .codec = header->codec,
        .align_shift = header->align_shift,
        .ids = extent->id_prefixes,
        .sums = header->sums,
        .sizes = header->sizes,
    };
}

/*
 * After a failure: take the header away again or, where the device does not let us, or somebody may write it once more, remove the pages in the manifest; if not even that can be done, the
 * store takes no more writes. The pages are reported as not stored; recovery would list them, torn as they are, and find them before a later copy that is whole.
 */
static void
take_back_header(const struct extent_write *extent)
{
    varve_store *store = extent->batch->store;
    const struct extent_header *header = &extent->header;
    uint64_t number = extent->place.segment, offset = header->offset + header->header_bytes;
    struct manifest_item *items;
    int rc = VARVE_E_NOMEM;

    if (io_write(store->pool, extent->place.file, zeros, sizeof(zeros), header->offset) == 0 && !extent->late)
        return;
    items = env_zalloc(store->env, header->count * sizeof(items[0]));
    for (uint32_t i = 0; items != NULL && i < header->count; i++) {
        items[i] = removal_item(number, offset, extent->pages[i]->id.bytes);
        offset += log_pad(extent_page_size(header, i), header->align_shift); /* coded pages are let go already */
    }
    /* Durable before a sync can say that the log is whole up to here: recovery verifies nothing that lies before such a mark. */
    if (items != NULL)
        rc = store_forget_pages(store, items, header->count, true, NULL);
    if (rc != VARVE_OK)
        store_fail(store);
    env_free(store->env, items);
}

static int
log_target_reserve(struct extent_write *extent, struct extent_fit *fit, struct extent_header *key_part,
                   varve_error *err)
{
    struct log_fit need = {.take = extent_fit_take, .arg = fit, .least = extent_fit_least(fit)};
    struct reservation *reservation = &extent->reservation;
    int rc = log_reserve(extent->batch->store->log, extent->batch->stream, &need, reservation, err);

    (void)key_part;
    if (rc != VARVE_OK)
        return rc;
    extent->place = (struct extent_place){.segment = reservation->segment->number,
                                          .salt = reservation->segment->salt,
                                          .offset = reservation->offset,
                                          .bytes = reservation->bytes,
                                          .synced_offset = reservation->synced_offset,
                                          .file = reservation->segment->file};
    return VARVE_OK;
}

static int
log_target_install(struct extent_write *extent)
{
    varve_store *store = extent->batch->store;
    struct entry entry = extent_write_entry(extent);
    int rc = VARVE_OK;

    if (extent->rc < 0) {
        rc = error_os(NULL, extent->rc, "write");
        take_back_header(extent);
    }
    mutex_lock(&store->write_lock);
    if (rc == VARVE_OK) {
        log_written(store->log, &extent->reservation);
        rc = store_insert(store, &entry);
    }
    log_finish(store->log, &extent->reservation, rc == VARVE_OK, extent->header.ns_id, extent->header.count,
               extent->payload_bytes);
    mutex_unlock(&store->write_lock);
    return rc;
}

static void
log_target_abandon(struct extent_write *extent)
{
    log_finish(extent->batch->store->log, &extent->reservation, false, extent->header.ns_id, 0, 0);
}

static void *
log_target_open_written(void *arg, uint64_t number, struct env_file **file)
{
    struct log *log = ((struct write_batch *)arg)->store->log;
    struct segment *segment = log_acquire(log, number);

    if (segment != NULL && log_file_acquire(log, segment, file, NULL) != VARVE_OK) {
        log_release(log, segment);
        segment = NULL;
    }
    return segment;
}

static void
log_target_close_written(void *arg, void *held)
{
    struct log *log = ((struct write_batch *)arg)->store->log;

    log_file_release(log, held);
    log_release(log, held);
}

const struct write_target write_to_log = {.reserve = log_target_reserve,
                                          .install = log_target_install,
                                          .abandon = log_target_abandon,
                                          .open_written = log_target_open_written,
                                          .close_written = log_target_close_written};

int
extent_write_install(struct extent_write *extent)
{
    return extent->batch->target->install(extent);
}

void
extent_write_destroy(struct extent_write *extent)
{
    struct env *env = extent->batch->store->env;

    assert(extent->pending == 0);
    encode_release(extent->batch, &extent->window); /* where not all of it was written */
    env_free(env, extent->buf);
    env_free(env, extent->id_prefixes);
    env_free(env, extent->pieces);
    env_free(env, extent);
}
