/* SPDX-License-Identifier: Apache-2.0 */
#include "store/survivors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "store/extent_write.h"

#define LIST_PAGES_MAX     8192                /* looked for at once: more are sorted apart */
#define COPY_BYTES         ((uint64_t)2 << 20) /* read and written at once: reads of others wait behind it */
#define COPIED_PERCENT_MAX 56 /* of a segment, headers of the copies included: half of one may be live (reclaim.c) */
#define SHORT_PART                                                                                                     \
    8 /* a segment of at most this part of a full one was sealed early: it goes where there is any gain at all */
#define FROZEN_MEMTABLES_MAX                                                                                           \
    8 /* half of what there can be: then flushes are far behind, and there is no waiting for them here */

int
survivors_begin(struct survivors *survivors, varve_store *store, struct segment *victim, struct env_file *file)
{
    struct env *env = store->env;

    *survivors = (struct survivors){.store = store, .victim = victim, .file = file};
    survivors->scan = extent_scan_create(env, store->pool);
    survivors->list = env->ops->alloc(env, LIST_PAGES_MAX * sizeof(struct survivor), _Alignof(struct survivor));
    if (survivors->scan == NULL || survivors->list == NULL) {
        survivors_end(survivors);
        return VARVE_E_NOMEM;
    }
    survivors_restart(survivors);
    return VARVE_OK;
}

void
survivors_end(struct survivors *survivors)
{
    extent_scan_destroy(survivors->scan);
    env_free(survivors->store->env, survivors->list);
    survivors->scan = NULL;
    survivors->list = NULL;
}

void
survivors_restart(struct survivors *survivors)
{
    const struct segment *victim = survivors->victim;

    survivors->scanned = false;
    survivors->count = survivors->next = 0;
    extent_scan_begin(survivors->scan, survivors->file, victim->salt, SEGMENT_HEADER_BYTES, victim->bytes);
}

/* Take the live pages of one extent. */
static void
take_live(struct survivors *survivors, const struct extent_header *header)
{
    varve_store *store = survivors->store;
    const struct heat_segment *heat;
    uint64_t place = header->offset + header->header_bytes;
    uint32_t page = 0;

    mutex_lock(&store->recency.lock);
    heat = survivors->victim->heat;
    for (uint32_t i = 0; i < header->count && heat != NULL; i++) {
        uint32_t size = extent_page_size(header, i);
        struct survivor *survivor = &survivors->list[survivors->count];

        page = heat_find(heat, place, page + 1);
        if (size > 0 && page < heat->count && heat_is_live(store->recency.heat, heat, page)) {
            *survivor = (struct survivor){
                .key = {header->ns_id, header->depth + i, header->branch},
                .parent_branch = i == 0 ? header->parent_branch : 0,
                .parent_depth = i == 0 ? header->parent_depth : 0,
                .place = place,
                .sum = wire_get64(header->sums + (size_t)i * 8),
                .size = size,
                .codec = header->codec,
                .align_shift = header->align_shift,
                .pinned = heat_value(store->recency.heat, heat, page) == UINT64_MAX,
            };
            memcpy(survivor->id.bytes, header->ids + (size_t)i * VARVE_ID_BYTES, VARVE_ID_BYTES);
            survivors->count++;
        }
        place += log_pad(size, header->align_shift);
    }
    mutex_unlock(&store->recency.lock);
}

static int
compare(const void *a, const void *b)
{
    const struct survivor *left = a, *right = b;
    int order = key_compare(&left->key, &right->key);

    return order != 0 ? order : left->place < right->place ? -1 : left->place > right->place;
}

int
survivors_find(struct survivors *survivors, varve_error *err)
{
    struct extent_header header;
    int rc = 1;

    if (survivors->next < survivors->count)
        return VARVE_OK;
    survivors->count = survivors->next = 0;
    while (!survivors->scanned && survivors->count + EXTENT_PAGES_MAX <= LIST_PAGES_MAX) {
        rc = extent_scan_next(survivors->scan, &header);
        if (rc < 0)
            return error_os(err, rc, "read segment %llu", (unsigned long long)survivors->victim->number);
        if (rc == 0)
            survivors->scanned = true;
        else if (namespace_live(survivors->store, header.ns_id))
            take_live(survivors, &header);
    }
    if (survivors->count == 0)
        return survivors->scanned ? VARVE_MISS : VARVE_OK;
    qsort(survivors->list, survivors->count, sizeof(survivors->list[0]), compare);
    return VARVE_OK;
}

/* How many of the next survivors are consecutive pages of one branch, few enough to be copied at once. */
static size_t
group_size(const struct survivors *survivors, uint64_t *bytes)
{
    const struct survivor *first = &survivors->list[survivors->next];
    size_t count = 1;

    *bytes = log_pad(first->size, first->align_shift);
    while (survivors->next + count < survivors->count && count < EXTENT_PAGES_MAX) {
        const struct survivor *next = first + count;
        uint64_t padded = log_pad(next->size, next->align_shift);

        if (next->key.ns_id != first->key.ns_id || next->key.branch != first->key.branch ||
            next->key.depth != first->key.depth + count || next->codec != first->codec ||
            next->align_shift != first->align_shift || next->parent_branch != 0 || *bytes + padded > COPY_BYTES)
            break;
        *bytes += padded;
        count++;
    }
    return count;
}

/* Pages on their way from one place to another. */
struct move {
    struct survivors *survivors;
    struct survivor *group;
    size_t count;
    uint8_t *buf;
    varve_page *pages; /* status: VARVE_OK, to be copied */
    struct iovec *iovs;
    varve_page **list;
};

static int
move_create(struct move *move, uint64_t bytes)
{
    struct env *env = move->survivors->store->env;

    move->buf = env->ops->alloc(env, (size_t)bytes + (size_t)2 * IO_ALIGN_MAX, IO_ALIGN_MAX);
    move->pages = env_zalloc(env, move->count * sizeof(move->pages[0]));
    move->iovs = env_zalloc(env, move->count * sizeof(move->iovs[0]));
    move->list = env_zalloc(env, move->count * sizeof(varve_page *));
    return move->buf == NULL || move->pages == NULL || move->iovs == NULL || move->list == NULL ? VARVE_E_NOMEM
                                                                                                : VARVE_OK;
}

static void
move_destroy(struct move *move)
{
    struct env *env = move->survivors->store->env;

    env_free(env, move->buf);
    env_free(env, move->pages);
    env_free(env, move->iovs);
    env_free(env, move->list);
}

/*
 * The swap's comparison: leave out pages that were removed, or are found in another place already. An index block that cannot be read says nothing of that: VARVE_E_IO,
 * but on the last try, when nobody may copy a page that could have been removed. moves_lock held.
 */
static int
leave_out_moved(struct move *move, varve_error *err)
{
    varve_store *store = move->survivors->store;
    struct index_view *view = index_view_acquire(store->index);
    struct index_cursor cursor;
    struct location location;
    int rc = VARVE_OK;

    index_cursor_init(&cursor, view);
    for (size_t i = 0; i < move->count && rc == VARVE_OK; i++) {
        const struct survivor *survivor = &move->group[i];
        bool found = index_cursor_find(&cursor, survivor->key.ns_id, &survivor->id, &location);

        if (found && location.segment == move->survivors->victim->number && location.offset == survivor->place)
            continue;
        move->pages[i].status = !found && cursor.unread ? VARVE_E_IO : VARVE_MISS;
        if (found)
            recency_pass_pin(store, move->survivors->victim->number, survivor->place, &location);
        else if (cursor.unread && !move->survivors->last_try)
            rc = error_set(err, VARVE_E_IO, "a block of the index could not be read");
    }
    index_cursor_deinit(&cursor);
    index_view_release(view);
    return rc;
}

/* Read pages first..end - 1, which lie one after another, to where they are to be in the buffer. */
static int
read_run(struct move *move, size_t first, size_t end, uint64_t *used)
{
    varve_store *store = move->survivors->store;
    const struct survivor *group = move->group;
    uint64_t mask = store->env->io_align - 1;
    uint64_t begin = group[first].place & ~mask;
    uint64_t stop = (group[end - 1].place + group[end - 1].size + mask) & ~mask;
    uint8_t *to = move->buf + *used;
    int rc = io_read(store->pool, move->survivors->file, to, (size_t)(stop - begin), begin);

    for (size_t i = first; i < end && rc == 0; i++) {
        struct iovec *iov = &move->iovs[i];

        *iov = (struct iovec){to + (group[i].place - begin), group[i].size};
        move->pages[i].id = group[i].id;
        move->pages[i].iov = iov;
        move->pages[i].iov_count = 1;
        move->pages[i].size = group[i].size;
        if (hash_page(group[i].key.ns_id, &group[i].id, iov, 1, group[i].size) != group[i].sum)
            move->pages[i].status = VARVE_E_CORRUPT;
    }
    *used += stop - begin;
    return rc;
}

/* The same, of pages that cannot be read together: those that cannot be read alone either are given up. */
static void
read_singly(struct move *move, size_t first, size_t end, uint64_t *used)
{
    for (size_t i = first; i < end; i++) {
        uint64_t before = *used;

        if (read_run(move, i, i + 1, used) < 0) {
            move->pages[i].status = VARVE_E_IO;
            *used = before;
        }
    }
}

/* Read what is to be copied, and verify it. */
static int
read_pages(struct move *move, varve_error *err)
{
    uint64_t used = 0;

    for (size_t first = 0, end; first < move->count; first = end) {
        uint64_t before = used;
        int rc;

        end = first + 1;
        if (move->pages[first].status != VARVE_OK)
            continue;
        while (end < move->count && move->pages[end].status == VARVE_OK &&
               move->group[end].place ==
                   move->group[end - 1].place + log_pad(move->group[end - 1].size, move->group[end - 1].align_shift))
            end++;
        rc = read_run(move, first, end, &used);
        if (rc < 0 && rc != -ENOMEM && move->survivors->last_try) {
            used = before;
            read_singly(move, first, end, &used);
            rc = 0;
        }
        if (rc < 0)
            return error_os(err, rc, "read segment %llu", (unsigned long long)move->survivors->victim->number);
    }
    return VARVE_OK;
}

/* Make a written copy findable, as recent as the page is now, and let the old one die: at once for whoever looks under recency.lock. */
static int
install(struct move *move, struct extent_write *extent, const struct survivor *first)
{
    struct survivors *survivors = move->survivors;
    varve_store *store = survivors->store;
    struct entry entry = extent_write_entry(extent);
    int rc;

    if (extent->rc < 0)
        return extent_write_install(extent); /* which takes it back, with I/O */
    mutex_lock(&store->recency.lock);
    rc = extent_write_install(extent);
    for (uint32_t i = 0; i < entry.count && rc == VARVE_OK; i++) {
        struct entry page = entry_slice(&entry, i, 1);

        recency_move(store, &page, survivors->victim->number, first[i].place);
    }
    mutex_unlock(&store->recency.lock);
    if (rc == VARVE_OK) {
        survivors->bytes += extent->header.extent_bytes;
        survivors->pages += entry.count;
        COUNT(&store->counters, survivor_pages, entry.count);
        COUNT(&store->counters, survivor_bytes, extent->header.extent_bytes);
        COUNT(&store->counters, log_bytes_written, extent->header.extent_bytes);
    }
    return rc;
}

/* Write `count` consecutive pages as few extents as the room in the open segment allows. */
static int
write_run(struct move *move, struct write_batch *batch, size_t first, size_t count, varve_error *err)
{
    int rc = VARVE_OK;

    while (count > 0 && rc == VARVE_OK) {
        const struct survivor *survivor = &move->group[first];
        struct extent_header key_part = {
            .ns_id = survivor->key.ns_id,
            .branch = survivor->key.branch,
            .depth = survivor->key.depth,
            .parent_branch = survivor->parent_branch,
            .parent_depth = survivor->parent_depth,
            .codec = survivor->codec,
        };
        struct extent_write *extent;

        rc = extent_write_begin(batch, &key_part, move->list + first, count, &extent, err);
        if (rc != VARVE_OK)
            return rc == VARVE_MISS ? error_set(err, VARVE_E_NOSPC, "too many segments are being written") : rc;
        io_drain(batch->queue);
        first += extent->header.count;
        count -= extent->header.count;
        rc = install(move, extent, survivor);
        if (rc < 0)
            rc = error_set(err, rc, "copying live pages of segment %llu: %s",
                           (unsigned long long)move->survivors->victim->number, varve_strerror(rc));
        extent_write_destroy(extent);
    }
    return rc;
}

/* Write all that was read and verified. */
static int
write_pages(struct move *move, varve_error *err)
{
    varve_store *store = move->survivors->store;
    struct write_batch batch = {.store = store, .target = &write_to_log, .stream = LOG_SURVIVORS};
    int rc = io_queue_acquire(store->pool, &batch.queue);

    if (rc < 0)
        return error_os(err, rc, "open an I/O queue");
    bounce_begin(&batch.bounce, &store->bounce_memory, store->options.io_bytes);
    for (size_t first = 0, end; first < move->count && rc == VARVE_OK; first = end) {
        for (end = first; end < move->count && move->pages[end].status == VARVE_OK; end++)
            move->list[end] = &move->pages[end];
        if (end > first)
            rc = write_run(move, &batch, first, end - first, err);
        else
            end++;
    }
    io_queue_release(store->pool, batch.queue);
    bounce_end(&batch.bounce);
    return rc;
}

/* What is not copied is not looked at again. */
static void
give_up_damaged(struct move *move)
{
    struct survivors *survivors = move->survivors;

    for (size_t i = 0; i < move->count; i++) {
        if (move->pages[i].status == VARVE_OK)
            continue;
        survivors->lost += move->pages[i].status != VARVE_MISS;
        recency_kill(survivors->store, survivors->victim->number, move->group[i].place);
    }
}

/*
 * Whether another `bytes` of pages are worth copying: single small pages fill a block with their header, so that copies could take more than the
 * segment gives back. Pinned ones are, all the same.
 */
static bool
worth_copying(const struct move *move, uint64_t bytes)
{
    const struct survivors *survivors = move->survivors;
    uint64_t header = extent_header_size((uint32_t)move->count, true, survivors->store->align_shift);
    uint64_t most = survivors->victim->bytes / 100 * COPIED_PERCENT_MAX;

    if (survivors->victim->bytes <= survivors->store->segment_bytes / SHORT_PART)
        most = survivors->victim->bytes - LOG_BLOCK_BYTES;
    for (size_t i = 0; i < move->count; i++) {
        if (move->group[i].pinned)
            return true;
    }
    return survivors->bytes + log_pad(header + bytes, 12) <= most;
}

static bool
anything_pinned(varve_store *store)
{
    bool any;

    mutex_lock(&store->recency.lock);
    any = store->recency.heat->pinned_bytes > 0;
    mutex_unlock(&store->recency.lock);
    return any;
}

int
survivors_copy(struct survivors *survivors, varve_error *err)
{
    varve_store *store = survivors->store;
    struct move move = {.survivors = survivors, .group = &survivors->list[survivors->next]};
    uint64_t bytes;
    int rc;

    move.count = group_size(survivors, &bytes);
    if (index_frozen_count(store->index) >= FROZEN_MEMTABLES_MAX)
        return error_set(err, VARVE_E_NOSPC, "the index cannot take in copies of live pages: flushes are far behind");
    if (!worth_copying(&move, bytes)) {
        if (!anything_pinned(store))
            return error_set(err, VARVE_E_NOSPC, "copies of live pages would take more than their segment gives back");
        survivors->next += move.count; /* but there may be pinned ones behind */
        return VARVE_OK;
    }
    rc = move_create(&move, bytes + move.count * 2 * store->env->io_align);
    if (rc != VARVE_OK)
        rc = error_set(err, rc, "out of memory copying live pages");
    mutex_lock(&store->moves_lock);
    if (rc == VARVE_OK) {
        store->copies_unsynced = true; /* those that are found in another place may not be durable there either */
        rc = leave_out_moved(&move, err);
    }
    if (rc == VARVE_OK)
        rc = read_pages(&move, err);
    if (rc == VARVE_OK)
        rc = write_pages(&move, err);
    mutex_unlock(&store->moves_lock);
    if (rc == VARVE_OK) {
        give_up_damaged(&move);
        survivors->next += move.count;
    }
    move_destroy(&move);
    return rc;
}
