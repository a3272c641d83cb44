/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After a crash: is every acknowledged page there? The acknowledgement file has a line "request first-page count" for
 * each batch that a put acknowledged, written after the put returned. A last line without its newline was cut off by
 * the crash and does not count.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "cli.h"
#include "page_buffers.h"
#include "replay.h"

struct ack {
    uint64_t request;
    uint64_t first;
    uint64_t count;
};

struct acks {
    struct ack *rows;
    size_t count;
    size_t capacity;
};

struct verify {
    varve_store *store;
    varve_namespace *ns;
    const struct page_content *content;
    struct replay_acks_report *report;
    struct page_buffers buffers;
    varve_id *ids;
    size_t id_capacity;
    varve_error *err;
};

static int
by_request(const void *left, const void *right)
{
    const struct ack *a = left;
    const struct ack *b = right;

    return (a->request > b->request) - (a->request < b->request);
}

static bool
parse_ack(const char *line, struct ack *ack)
{
    uint64_t *const fields[] = {&ack->request, &ack->first, &ack->count};
    char *end;

    for (size_t i = 0; i < 3; i++) {
        errno = 0;
        *fields[i] = strtoull(line, &end, 10);
        if (end == line || errno != 0 || *end != (i < 2 ? ' ' : '\n'))
            return false;
        line = end + 1;
    }
    return true;
}

static int
acks_add(struct acks *acks, struct ack ack, varve_error *err)
{
    if (acks->count == acks->capacity) {
        size_t capacity = acks->capacity == 0 ? 1024 : 2 * acks->capacity;
        struct ack *rows = reallocarray(acks->rows, capacity, sizeof(*rows));

        if (rows == NULL)
            return error_set(err, VARVE_E_NOMEM, "no memory for %zu acknowledgements", capacity);
        acks->rows = rows;
        acks->capacity = capacity;
    }
    acks->rows[acks->count++] = ack;
    return VARVE_OK;
}

static int
acks_read(const char *path, struct acks *acks, varve_error *err)
{
    FILE *file = fopen(path, "re");
    char line[128];
    int rc = VARVE_OK;

    if (file == NULL)
        return error_os(err, -errno, "cannot open the acknowledgement file %s", path);
    while (rc == VARVE_OK && fgets(line, sizeof(line), file) != NULL) {
        struct ack ack;

        if (strchr(line, '\n') == NULL && feof(file))
            break; /* cut off */
        if (!parse_ack(line, &ack))
            rc = error_set(err, VARVE_E_ARG, "%s:%zu: three numbers were expected", path, acks->count + 1);
        else
            rc = acks_add(acks, ack, err);
    }
    if (rc == VARVE_OK && ferror(file))
        rc = error_os(err, -EIO, "cannot read %s", path);
    (void)fclose(file);
    if (acks->count > 0)
        qsort(acks->rows, acks->count, sizeof(*acks->rows), by_request);
    return rc;
}

/* Pages [first, first + count) of the chain in verify->ids, at most a batch. */
static int
verify_pages(struct verify *verify, uint64_t request, size_t first, size_t count)
{
    uint8_t exists[REPLAY_BATCH];
    varve_page *pages = verify->buffers.pages;
    struct replay_acks_report *report = verify->report;
    int rc;

    for (size_t i = 0; i < count; i++)
        pages[i].id = verify->ids[first + i];
    rc = varve_exists_batch(verify->store, verify->ns, verify->ids + first, count, exists, verify->err);
    if (rc == VARVE_OK)
        rc = varve_get_batch(verify->store, verify->ns, pages, count, verify->err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < count; i++) {
        uint64_t wrong = 0;

        report->acknowledged++;
        if (exists[i] == 0 || pages[i].status != VARVE_OK) {
            if (report->missing++ == 0)
                cli_error("replay: page %zu of request %" PRIu64 " was acknowledged and is %s", first + i, request,
                          exists[i] == 0 ? "missing" : varve_strerror(pages[i].status));
            continue;
        }
        wrong = page_buffers_wrong_bytes(&verify->buffers, i, verify->content);
        report->wrong_bytes += wrong;
        report->wrong_pages += wrong > 0;
    }
    return VARVE_OK;
}

static int
verify_ack(struct verify *verify, const struct trace_request *request, const struct ack *ack)
{
    uint64_t end;
    int rc = VARVE_OK;

    if (__builtin_add_overflow(ack->first, ack->count, &end) || end > request->hash_count)
        return error_set(verify->err, VARVE_E_ARG,
                         "request %" PRIu64 " has no pages %" PRIu64 " to %" PRIu64 ": another trace was played",
                         ack->request, ack->first, end);
    for (uint64_t first = ack->first; first < end && rc == VARVE_OK; first += verify->buffers.count) {
        uint64_t left = end - first;

        rc = verify_pages(verify, ack->request, (size_t)first,
                          left < verify->buffers.count ? (size_t)left : verify->buffers.count);
    }
    return rc;
}

static int
verify_chain(struct verify *verify, const struct trace_request *request)
{
    if (request->hash_count > verify->id_capacity) {
        varve_id *ids = reallocarray(verify->ids, request->hash_count, sizeof(*ids));

        if (ids == NULL)
            return error_set(verify->err, VARVE_E_NOMEM, "no memory for a chain of %zu pages", request->hash_count);
        verify->ids = ids;
        verify->id_capacity = request->hash_count;
    }
    if (request->hash_count > 0 && replay_chain(request, verify->ids) < 0)
        return error_set(verify->err, VARVE_E_NOMEM, "no memory to digest a chain of %zu pages", request->hash_count);
    return VARVE_OK;
}

/* Walk trace and acknowledgements together: both are in the order of the requests. */
static int
verify_all(struct verify *verify, struct trace_reader *reader, const struct acks *acks,
           const struct replay_settings *settings)
{
    struct cli_progress progress = cli_progress_start("verify", settings->progress);
    struct trace_request request = {0};
    uint64_t index = 0;
    size_t next = 0;
    int rc = VARVE_OK;

    while (next < acks->count && rc == VARVE_OK) {
        rc = trace_reader_next(reader, &request, verify->err);
        if (rc == VARVE_MISS)
            rc = error_set(verify->err, VARVE_E_ARG,
                           "the trace ends before request %" PRIu64 ": another trace was played",
                           acks->rows[next].request);
        if (rc == VARVE_OK && acks->rows[next].request == index)
            rc = verify_chain(verify, &request);
        for (; rc == VARVE_OK && next < acks->count && acks->rows[next].request == index; next++)
            rc = verify_ack(verify, &request, &acks->rows[next]);
        index++;
        cli_progress_update(&progress, next, acks->count);
    }
    cli_progress_finish(&progress);
    trace_request_deinit(&request);
    return rc;
}

int
replay_verify_acks(varve_store *store, varve_namespace *ns, const struct page_content *content,
                   const struct replay_settings *settings, const char *path, struct replay_acks_report *report,
                   varve_error *err)
{
    struct verify verify = {.store = store, .ns = ns, .content = content, .report = report, .err = err};
    struct trace_reader *reader = NULL;
    struct acks acks = {0};
    int rc;

    *report = (struct replay_acks_report){0};
    rc = acks_read(path, &acks, err);
    if (rc == VARVE_OK)
        rc = trace_reader_open(settings->trace, &reader, err);
    if (rc == VARVE_OK) {
        rc = page_buffers_init(&verify.buffers, (size_t)settings->batch, settings->page_bytes);
        if (rc < 0)
            rc = error_set(err, rc, "no memory for buffers: ask for a smaller --batch");
    }
    if (rc == VARVE_OK)
        rc = verify_all(&verify, reader, &acks, settings);
    page_buffers_deinit(&verify.buffers);
    trace_reader_close(reader);
    free(verify.ids);
    free(acks.rows);
    return rc;
}
