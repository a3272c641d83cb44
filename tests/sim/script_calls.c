/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls of a script: each is made, judged, told to the oracle, and written down. A call that the world stopped in is in doubt: what it
 * acknowledged holds, the rest may have happened or not.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/hash.h"
#include "script_run.h"
#include "sim_log.h"

/* The pages that an operation names, with buffers of exactly their sizes. */
struct call_pages {
    uint32_t ns;
    size_t count;
    uint32_t numbers[SCRIPT_CHAIN_PAGES];
    varve_id ids[SCRIPT_CHAIN_PAGES];
    varve_page pages[SCRIPT_CHAIN_PAGES];
    struct iovec iov[SCRIPT_CHAIN_PAGES];
    void *blocks[SCRIPT_CHAIN_PAGES];
};

#define ALIGN 4096
#define SHIFT 24 /* of every third buffer: not aligned */

static void
pages_name(const struct script_run *run, const struct script_op *op, struct call_pages *call)
{
    *call = (struct call_pages){.ns = op->args[0], .count = op->args[3]};
    for (size_t i = 0; i < call->count; i++) {
        call->numbers[i] = oracle_page(run->oracle, op->args[1], op->args[2] + (uint32_t)i);
        call->ids[i] = oracle_id(run->oracle, call->numbers[i]);
    }
}

static void
pages_make(const struct script_run *run, const struct script_op *op, bool fill, struct call_pages *call)
{
    pages_name(run, op, call);
    for (size_t i = 0; i < call->count; i++) {
        uint32_t size = oracle_size(run->oracle, call->ns, call->numbers[i]);
        size_t shift = call->numbers[i] % 3 == 0 ? SHIFT : 0;

        if (posix_memalign(&call->blocks[i], ALIGN, shift + size + (size == 0)) != 0)
            abort();
        call->iov[i] = (struct iovec){(uint8_t *)call->blocks[i] + shift, size};
        if (fill)
            oracle_fill(run->oracle, call->ns, call->numbers[i], call->iov[i].iov_base);
        else
            memset(call->iov[i].iov_base, 0xee, size);
        call->pages[i] = (varve_page){
            .id = call->ids[i], .iov = size == 0 ? NULL : &call->iov[i], .iov_count = size > 0, .status = -1};
    }
}

static void
pages_free(struct call_pages *call)
{
    for (size_t i = 0; i < call->count; i++)
        free(call->blocks[i]);
}

void
script_call_put(struct script_run *run, const struct script_op *op)
{
    bool sync = op->kind == SCRIPT_PUT_SYNC;
    struct call_pages call;
    varve_error err = {0};
    varve_id parent;
    int rc;

    pages_make(run, op, true, &call);
    if (op->args[2] > 0)
        parent = oracle_id(run->oracle, oracle_page(run->oracle, op->args[1], op->args[2] - 1));
    for (size_t i = 0; i < call.count; i++)
        oracle_put_begin(run->oracle, call.ns, call.numbers[i]);
    rc = varve_put_batch(run->store, run->namespaces[call.ns], op->args[2] > 0 ? &parent : NULL, call.pages, call.count,
                         sync ? VARVE_PUT_SYNC : 0, &err);
    script_expect(run, rc, "varve_put_batch", &err);
    for (size_t i = 0; i < call.count && rc == VARVE_OK; i++) {
        script_note(run, " %d", call.pages[i].status);
        if (call.pages[i].status == VARVE_OK)
            oracle_put(run->oracle, call.ns, call.numbers[i], sync);
        else if (!script_run_stopped(run))
            script_fail(run, "put of page %" PRIu32 ": status %d", call.numbers[i], call.pages[i].status);
    }
    pages_free(&call);
}

static void
judge_presence(struct script_run *run, uint32_t ns, uint32_t page, bool present, const char *call)
{
    if (!present && script_run_stopped(run))
        return; /* it could not be looked up */
    if (!oracle_observe(run->oracle, ns, page, present))
        script_fail(run, "%s: page %" PRIu32 " in namespace %" PRIu32 " is %s", call, page, ns,
                    present ? "there, but must not be" : "LOST");
}

static void
judge_get(struct script_run *run, const struct call_pages *call, size_t i)
{
    const varve_page *page = &call->pages[i];
    uint32_t number = call->numbers[i], size = oracle_size(run->oracle, call->ns, number);
    const void *data = call->iov[i].iov_base;

    script_note(run, " %d", page->status);
    if (page->status != VARVE_OK && page->status != VARVE_MISS && !script_run_stopped(run))
        script_fail(run, "get of page %" PRIu32 ": status %d", number, page->status);
    if (page->status == VARVE_OK) {
        if (page->size != size || !oracle_matches(run->oracle, call->ns, number, data))
            script_fail(run, "get of page %" PRIu32 " in namespace %" PRIu32 ": WRONG BYTES", number, call->ns);
        script_note(run, ",%" PRIu64 ",%" PRIx64, page->size, hash_bytes(data, size));
    }
    judge_presence(run, call->ns, number, page->status == VARVE_OK, "get");
}

void
script_call_get(struct script_run *run, const struct script_op *op)
{
    struct call_pages call;
    varve_error err = {0};
    int rc;

    pages_make(run, op, false, &call);
    rc = varve_get_batch(run->store, run->namespaces[call.ns], call.pages, call.count, &err);
    script_expect(run, rc, "varve_get_batch", &err);
    for (size_t i = 0; i < call.count && rc == VARVE_OK; i++)
        judge_get(run, &call, i);
    pages_free(&call);
}

void
script_call_probe(struct script_run *run, const struct script_op *op)
{
    uint64_t bytes[SCRIPT_CHAIN_PAGES] = {0};
    varve_estimate estimate = VARVE_ESTIMATE_INIT;
    struct call_pages call;
    varve_error err = {0};
    int64_t found;

    estimate.prefix_bytes = bytes;
    pages_name(run, op, &call);
    found = varve_probe(run->store, run->namespaces[call.ns], call.ids, call.count, &estimate, &err);
    script_expect(run, found, "varve_probe", &err);
    script_note(run, " %" PRId64, found);
    for (int64_t i = 0; i < found; i++)
        judge_presence(run, call.ns, call.numbers[i], true, "probe");
    if (found >= 0 && found < (int64_t)call.count)
        judge_presence(run, call.ns, call.numbers[found], false, "probe");
}

void
script_call_exists(struct script_run *run, const struct script_op *op)
{
    uint8_t exists[SCRIPT_CHAIN_PAGES] = {0};
    struct call_pages call;
    varve_error err = {0};
    int rc;

    pages_name(run, op, &call);
    rc = varve_exists_batch(run->store, run->namespaces[call.ns], call.ids, call.count, exists, &err);
    script_expect(run, rc, "varve_exists_batch", &err);
    for (size_t i = 0; i < call.count && rc == VARVE_OK; i++) {
        script_note(run, " %u", exists[i]);
        judge_presence(run, call.ns, call.numbers[i], exists[i] != 0, "exists");
    }
}

/* The number of pages that a call found: `found`, between what must and what may have been there. */
static void
judge_count(struct script_run *run, const struct call_pages *call, int64_t found, const char *name)
{
    int64_t least = 0, most = 0;

    for (size_t i = 0; i < call->count; i++) {
        least += !oracle_may_be(run->oracle, call->ns, call->numbers[i], false);
        most += oracle_may_be(run->oracle, call->ns, call->numbers[i], true);
    }
    script_note(run, " %" PRId64, found);
    if (!script_run_stopped(run) && (found < least || found > most))
        script_fail(run, "%s: %" PRId64 " pages, not %" PRId64 " to %" PRId64, name, found, least, most);
}

void
script_call_touch(struct script_run *run, const struct script_op *op)
{
    struct call_pages call;
    varve_error err = {0};
    int64_t found;

    pages_name(run, op, &call);
    found = varve_touch(run->store, run->namespaces[call.ns], call.ids, call.count, &err);
    script_expect(run, found, "varve_touch", &err);
    judge_count(run, &call, found, "touch");
}

void
script_call_remove(struct script_run *run, const struct script_op *op)
{
    struct call_pages call;
    varve_error err = {0};
    int64_t found;

    pages_name(run, op, &call);
    found = varve_remove_batch(run->store, run->namespaces[call.ns], call.ids, call.count, &err);
    script_expect(run, found, "varve_remove_batch", &err);
    judge_count(run, &call, found, "remove");
    for (size_t i = 0; i < call.count; i++) {
        oracle_remove_begin(run->oracle, call.ns, call.numbers[i]);
        if (!script_run_stopped(run))
            oracle_remove(run->oracle, call.ns, call.numbers[i]);
    }
}

void
script_call_clear(struct script_run *run, const struct script_op *op)
{
    varve_error err = {0};
    int rc;

    oracle_clear_begin(run->oracle, op->args[0]);
    rc = varve_namespace_clear(run->store, run->namespaces[op->args[0]], &err);
    script_expect(run, rc, "varve_namespace_clear", &err);
    if (rc == VARVE_OK)
        oracle_clear(run->oracle, op->args[0]);
}

/*
 * All pages, in any order. Left out of the history: the branch, which says where a page lies, not what it is: a slot of a branch that a removed
 * page had is free once a merge has left that page out.
 */
void
script_call_list(struct script_run *run, const struct script_op *op)
{
    uint64_t digests[SCRIPT_NAMESPACES] = {0}, counts[SCRIPT_NAMESPACES] = {0};
    varve_item item = VARVE_ITEM_INIT;
    varve_iter *iter = NULL;
    varve_error err = {0};
    int rc = varve_iter_open(run->store, NULL, VARVE_ITER_PAGES, &iter, &err);

    (void)op;
    script_expect(run, rc, "varve_iter_open", &err);
    while (rc == VARVE_OK && (rc = varve_iter_next(iter, &item, &err)) == VARVE_OK) {
        uint64_t row[] = {item.depth, item.bytes, hash_bytes(item.id_prefix, sizeof(item.id_prefix))};
        uint32_t ns = item.namespace_name == NULL ? UINT32_MAX : (uint32_t)(item.namespace_name[1] - '0');
        uint32_t page = oracle_find(run->oracle, item.id_prefix);

        if (ns >= SCRIPT_NAMESPACES || page == UINT32_MAX)
            script_fail(run, "list: a page that was never put");
        judge_presence(run, ns, page, true, "list");
        digests[ns] += sim_mix(hash_bytes(row, sizeof(row)));
        counts[ns]++;
    }
    script_expect(run, rc, "varve_iter_next", &err);
    varve_iter_close(iter);
    for (uint32_t ns = 0; ns < SCRIPT_NAMESPACES; ns++)
        script_note(run, " %" PRIu64 ",%" PRIx64, counts[ns], digests[ns]);
}
