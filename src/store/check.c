/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Check: the index against the log, the accounts against the directory, and, deep, every stored byte against its checksum.
 *
 * The log is walked header by header: headers have the full page ids, so each page found there can be looked up, and verified,
 * as a caller would. Then the index is walked, and has to hold nothing that the log does not.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "format/format.h"
#include "log/extent_scan.h"
#include "store/calls.h"
#include "store/store.h"

#define PROGRESS_STEPS 4096
#define PROGRESS_BYTES ((uint64_t)64 << 20) /* verified */
#define UNKNOWN_MAX    64                   /* files: more are not told apart */

struct check {
    varve_store *store;
    unsigned flags;
    struct check_listener *listener;
    varve_check_report *report;
    struct index_view *view;
    uint64_t pages_total; /* for progress */
    uint64_t pages_seen;
    uint64_t steps, told_bytes; /* since the listener heard something, and what was verified then */
    uint64_t index_pages;       /* live, in the index */
    uint64_t matched;           /* of them, found in the log where the index says */
    uint64_t elsewhere;         /* pages in the log whose id the index finds in another place: stored twice */
    struct extent_scan *extents;
    uint8_t *payload; /* grows to the largest page */
    size_t payload_capacity;
};

static void problem(struct check *check, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void
problem(struct check *check, const char *format, ...)
{
    char text[256];
    va_list args;

    check->report->problems++;
    if (check->listener->problem == NULL || check->listener->stop)
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    check->listener->problem(check->listener->arg, text);
}

/* A page, or an entry, is done. False: nobody wants to know any more. */
static bool
step(struct check *check)
{
    struct check_listener *listener = check->listener;

    if (++check->steps >= PROGRESS_STEPS || check->report->bytes_verified - check->told_bytes >= PROGRESS_BYTES) {
        check->steps = 0;
        check->told_bytes = check->report->bytes_verified;
        if (listener->progress != NULL)
            listener->progress(listener->arg, check->pages_seen, check->pages_total);
    }
    return !listener->stop;
}

/* Read [offset, offset + size) of a segment into check->payload; returns where it begins there, or NULL, also when size is 0. */
static uint8_t *
read_payload(struct check *check, struct env_file *file, uint64_t offset, uint32_t size)
{
    struct env *env = check->store->env;
    uint64_t mask = env->io_align - 1;
    uint64_t begin = offset & ~mask, end = (offset + size + mask) & ~mask;

    if (size == 0)
        return NULL;
    if (end - begin > check->payload_capacity) {
        env_free(env, check->payload);
        check->payload = env->ops->alloc(env, (size_t)(end - begin), IO_ALIGN_MAX);
        check->payload_capacity = check->payload == NULL ? 0 : (size_t)(end - begin);
        if (check->payload == NULL)
            return NULL;
    }
    if (io_read(check->store->pool, file, check->payload, (size_t)(end - begin), begin) < 0)
        return NULL;
    return check->payload + (offset - begin);
}

static void
verify_page(struct check *check, struct env_file *file, const struct extent_header *header, const varve_id *id,
            const struct location *location)
{
    struct iovec iov = {read_payload(check, file, location->offset, location->size), location->size};

    if (iov.iov_base == NULL && location->size > 0) {
        problem(check, "segment %" PRIu64 " offset %" PRIu64 ": a page of %u bytes could not be read",
                location->segment, location->offset, location->size);
        return;
    }
    if (hash_page(header->ns_id, id, &iov, 1, location->size) != location->sum) {
        problem(check, "segment %" PRIu64 " offset %" PRIu64 ": a page of %u bytes fails its checksum",
                location->segment, location->offset, location->size);
        return;
    }
    check->report->pages_verified++;
    check->report->bytes_verified += location->size;
}

/* Look every page of a header up in the index, and compare. False: to be stopped. */
static bool
check_extent(struct check *check, uint64_t segment, struct env_file *file, const struct extent_header *header)
{
    uint64_t offset = header->offset + header->header_bytes;
    struct index_cursor cursor;
    bool go_on = true;

    check->report->extents++;
    index_cursor_init(&cursor, check->view);
    for (uint32_t i = 0; i < header->count && go_on; i++) {
        uint32_t size = extent_page_size(header, i);
        struct location location;
        varve_id id;

        memcpy(id.bytes, header->ids + (size_t)i * VARVE_ID_BYTES, VARVE_ID_BYTES);
        if (index_cursor_find(&cursor, header->ns_id, &id, &location)) {
            if (location.segment != segment || location.offset != offset) {
                check->elsewhere++;
            } else {
                check->matched++;
                if (location.size != size || location.sum != wire_get64(header->sums + (size_t)i * 8))
                    problem(check, "segment %" PRIu64 " offset %" PRIu64 ": index and header differ about a page",
                            segment, offset);
                else if ((check->flags & VARVE_CHECK_DEEP) != 0)
                    verify_page(check, file, header, &id, &location);
            }
        }
        offset += log_pad(size, header->align_shift);
        check->pages_seen++;
        go_on = step(check);
    }
    index_cursor_deinit(&cursor);
    return go_on;
}

/* Walk the extents of one segment. */
static void
check_segment(struct check *check, struct segment *segment)
{
    struct log *log = check->store->log;
    struct extent_header header;
    uint64_t bytes, actual = 0;
    struct env_file *file;
    varve_error err;
    int rc;

    check->report->segments++;
    if (log_file_acquire(log, segment, &file, &err) != VARVE_OK) {
        if (log_segment_state(log, segment->number) == SEGMENT_GONE)
            return; /* dropped since */
        problem(check, "segment %" PRIu64 ": %s", segment->number, err.message);
        return;
    }
    bytes = log_segment_end(log, segment);
    if (check->store->env->ops->size(file, &actual) < 0 || actual < bytes)
        problem(check, "segment %" PRIu64 ": shorter than the %" PRIu64 " bytes it should have", segment->number,
                bytes);
    bytes = actual < bytes ? actual : bytes;
    extent_scan_begin(check->extents, file, segment->salt, SEGMENT_HEADER_BYTES, bytes);
    while ((rc = extent_scan_next(check->extents, &header)) > 0 && check_extent(check, segment->number, file, &header))
        ;
    if (rc == -EPROTO)
        problem(check, "segment %" PRIu64 ": has an extent of a newer version", segment->number);
    else if (rc < 0) {
        (void)error_os(&err, rc, "segment %" PRIu64 ": could not be read to its end", segment->number);
        problem(check, "%s", err.message);
    }
    log_file_release(log, segment);
}

struct numbers {
    uint64_t *at;
    size_t count, capacity;
};

static void
add_number(void *arg, const struct segment *segment)
{
    struct numbers *numbers = arg;

    if (numbers->count < numbers->capacity)
        numbers->at[numbers->count] = segment->number;
    numbers->count++;
}

static int
check_segments(struct check *check, varve_error *err)
{
    struct log *log = check->store->log;
    struct env *env = check->store->env;
    struct numbers numbers = {NULL, 0, 0};

    log_for_each(log, add_number, &numbers);
    numbers.capacity = numbers.count + 16; /* a few more may be made meanwhile */
    numbers.at = env->ops->alloc(env, numbers.capacity * sizeof(uint64_t), _Alignof(uint64_t));
    if (numbers.at == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    numbers.count = 0;
    log_for_each(log, add_number, &numbers);
    for (size_t i = 0; i < numbers.count && i < numbers.capacity && !check->listener->stop; i++) {
        struct segment *segment = log_acquire(log, numbers.at[i]);

        if (segment == NULL)
            continue; /* dropped since */
        check_segment(check, segment);
        log_release(log, segment);
    }
    env_free(env, numbers.at);
    return VARVE_OK;
}

/* Count what the index holds, and check that it lies within its segments. */
static int
check_index(struct check *check, varve_error *err)
{
    struct log *log = check->store->log;
    struct index_iter *iter;
    struct entry entry;
    int rc = index_iter_create(check->view, &iter, err);

    if (rc != VARVE_OK)
        return rc;
    while (!check->listener->stop && (rc = index_iter_next(iter, &entry, err)) == VARVE_OK) {
        struct segment *segment = log_acquire(log, entry.segment);
        uint64_t length = segment == NULL ? 0 : log_segment_end(log, segment);

        for (uint32_t i = 0; i < entry.count && segment != NULL; i++) {
            uint64_t offset = entry_page_offset(&entry, i);

            if (log_page_removed(log, entry.segment, offset, entry_id(&entry, i)))
                continue;
            check->index_pages++;
            if (offset + entry_size(&entry, i) > length)
                problem(check, "the index has a page behind the end of segment %" PRIu64, entry.segment);
        }
        if (segment != NULL)
            log_release(log, segment);
        (void)step(check);
    }
    index_iter_destroy(iter);
    if (rc == VARVE_MISS || rc == VARVE_OK)
        return VARVE_OK;
    problem(check, "the index could not be read to its end");
    return rc == VARVE_E_NOMEM ? rc : VARVE_OK;
}

/*
 * Files and bytes of the directory against what the manifest and the accounts say, at a moment when others work: files of segments that are being
 * made or dropped, and of merged runs that readers still hold, are not named any more, or yet. Bytes are compared only if nothing was
 * made meanwhile. A file that is unknown twice is a problem.
 */
struct census {
    struct check *check;
    const struct manifest_state *state;
    uint64_t manifest_number;
    uint64_t building; /* the run a merge is writing */
    uint64_t bytes;
    uint64_t used, taken; /* accounts, before the files are counted */
    bool old_views;
    size_t unknown_count;
    uint64_t unknown[UNKNOWN_MAX]; /* file numbers */
};

static bool
census_knows(const struct census *census, enum format_file_kind kind, uint64_t number)
{
    if (kind == FORMAT_FILE_SEGMENT)
        return manifest_state_segment(census->state, number) != NULL;
    if (kind == FORMAT_FILE_MANIFEST)
        return number == census->manifest_number;
    if (kind == FORMAT_FILE_RUN && census->old_views)
        return true;
    for (size_t i = 0; kind == FORMAT_FILE_RUN && i < census->state->run_count; i++) {
        if (census->state->runs[i].number == number)
            return true;
    }
    return kind == FORMAT_FILE_FIXED || number == census->building;
}

static int
census_file(void *arg, const char *name)
{
    struct census *census = arg;
    struct env *env = census->check->store->env;
    struct env_file *file;
    uint64_t number, bytes = 0;
    enum format_file_kind kind = format_parse_name(name, &number);

    if (kind == FORMAT_FILE_OTHER)
        return 0;
    if (!census_knows(census, kind, number) && census->unknown_count < UNKNOWN_MAX)
        census->unknown[census->unknown_count++] = number;
    if (env->ops->open(env, name, ENV_OPEN_READ, &file) < 0)
        return 0;
    if (env->ops->allocated(file, &bytes) == 0)
        census->bytes += bytes;
    env->ops->close(file);
    return 0;
}

static void
take_census(void *arg, const struct manifest_state *state)
{
    struct census *census = arg;
    struct env *env = census->check->store->env;

    census->state = state;
    if (env->ops->list(env, census_file, census) < 0)
        problem(census->check, "the directory could not be listed");
}

static struct census
count_files(struct check *check)
{
    varve_store *store = check->store;
    struct census census = {.check = check, .manifest_number = manifest_number(store->manifest)};
    size_t kept = 0;

    census.taken = space_taken(store);
    census.used = space_used(store);
    mutex_lock(&store->slice_lock); /* no flush or merge in between */
    census.building = index_building_run(store->index);
    census.old_views = index_has_old_views(store->index);
    manifest_read_state(store->manifest, take_census, &census);
    mutex_unlock(&store->slice_lock);
    for (size_t i = 0; i < census.unknown_count; i++) {
        if (!log_has_file(store->log, census.unknown[i]))
            census.unknown[kept++] = census.unknown[i];
    }
    census.unknown_count = kept;
    return census;
}

static void
check_files(struct check *check)
{
    varve_store *store = check->store;
    struct census first = count_files(check);
    struct census second = count_files(check);
    uint64_t used = space_used(store);
    bool settled = second.taken == space_taken(store);

    for (size_t i = 0; i < second.unknown_count; i++) {
        for (size_t j = 0; j < first.unknown_count; j++) {
            if (first.unknown[j] == second.unknown[i])
                problem(check, "file %016" PRIx64 " is in the directory, but not in the manifest", first.unknown[j]);
        }
    }
    if (settled && second.bytes > second.used)
        problem(check, "the directory holds %" PRIu64 " bytes, the accounts say at most %" PRIu64, second.bytes,
                second.used);
    if (used > space_ceiling(store))
        problem(check, "%" PRIu64 " bytes are in use, over the capacity of %" PRIu64, used, space_capacity(store));
}

static int
run_check(struct check *check, varve_error *err)
{
    struct log *log = check->store->log;
    uint64_t losses = log_losses(log);
    struct index_stats stats;
    int rc;

    index_stats_get(check->store->index, &stats);
    check->report->runs = stats.runs;
    check->pages_total = stats.run_pages + stats.memtable_pages;
    check->view = index_view_acquire(check->store->index);
    /* The index first: what others put meanwhile is then in the log only, and what they take away shows in log_losses(). */
    rc = check_index(check, err);
    if (rc == VARVE_OK)
        rc = check_segments(check, err);
    index_view_release(check->view);
    if (rc == VARVE_OK && check->listener->stop)
        rc = error_set(err, VARVE_E_TIMEOUT, "the check was stopped: nobody listens");
    if (rc == VARVE_OK && log_losses(log) == losses && check->index_pages > check->matched + check->elsewhere)
        problem(check, "%" PRIu64 " pages of the index are not in the log",
                check->index_pages - check->matched - check->elsewhere);
    check->report->pages = check->matched;
    if (!check->listener->stop)
        check_files(check);
    return rc;
}

int
store_check(varve_store *store, unsigned flags, struct check_listener *listener, varve_check_report *report,
            varve_error *err)
{
    struct check check = {.store = store, .flags = flags, .listener = listener, .report = report};
    int rc;

    check.extents = extent_scan_create(store->env, store->pool);
    if (check.extents == NULL)
        return error_set(err, VARVE_E_NOMEM, "out of memory");
    rc = run_check(&check, err);
    extent_scan_destroy(check.extents);
    env_free(store->env, check.payload);
    return rc;
}
