/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at a whole store: every page, the store's own check, the numbers of branches, and the directory against the manifest.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "format/format.h"
#include "script_run.h"
#include "sim_log.h"
#include "store/store.h"

#define UNIVERSE   ((uint32_t)SCRIPT_CHAINS * SCRIPT_CHAIN_PAGES) /* pages of a namespace */
#define PLACES_MAX 256

static void
verify_pages(struct script_run *run)
{
    for (uint32_t ns = 0; ns < SCRIPT_NAMESPACES; ns++) {
        for (uint32_t chain = 0; chain < SCRIPT_CHAINS; chain++) {
            uint32_t fork = run->oracle->chains[chain].fork; /* what lies before it is looked at with the other chain */
            const struct script_op op = {.kind = SCRIPT_GET, .args = {ns, chain, fork, SCRIPT_CHAIN_PAGES - fork}};

            script_call_get(run, &op);
        }
    }
}

static void
on_problem(void *arg, const char *text)
{
    (void)arg;
    sim_log("  problem: %s", text);
}

static void
verify_check(struct script_run *run)
{
    varve_check_report report = VARVE_CHECK_REPORT_INIT;
    varve_error err = {0};
    int rc = varve_check(run->store, VARVE_CHECK_DEEP, on_problem, NULL, NULL, &report, &err);

    script_expect(run, rc, "varve_check", &err);
    if (rc == VARVE_OK && report.problems > 0 && !script_run_stopped(run))
        script_fail(run, "varve_check found %" PRIu32 " problems", report.problems);
}

/*
 * What verify_pages() read is listed, and nothing else. A page may lie in two places, when a power failure took back its removal after it had
 * been put again; one place is listed once.
 */
static void
verify_listing(struct script_run *run)
{
    bool seen[SCRIPT_NAMESPACES][UNIVERSE] = {{false}};
    struct {
        uint64_t segment, offset;
    } places[PLACES_MAX];
    varve_item item = VARVE_ITEM_INIT;
    varve_iter *iter = NULL;
    varve_error err = {0};
    size_t count = 0;
    int rc = varve_iter_open(run->store, NULL, VARVE_ITER_PAGES, &iter, &err);

    script_expect(run, rc, "varve_iter_open", &err);
    while (rc == VARVE_OK && (rc = varve_iter_next(iter, &item, &err)) == VARVE_OK) {
        uint32_t page = oracle_find(run->oracle, item.id_prefix);
        uint32_t ns = item.namespace_name == NULL ? UINT32_MAX : (uint32_t)(item.namespace_name[1] - '0');

        if (page == UINT32_MAX || ns >= SCRIPT_NAMESPACES || count == PLACES_MAX)
            script_fail(run, "iteration: a page that was never put");
        if (!oracle_may_be(run->oracle, ns, page, true))
            script_fail(run, "iteration: page %" PRIu32 " in namespace %" PRIu32 " is there, but must not be", page,
                        ns);
        for (size_t i = 0; i < count; i++) {
            if (item.bytes > 0 && places[i].segment == item.segment && places[i].offset == item.offset)
                script_fail(run, "iteration: page %" PRIu32 " in namespace %" PRIu32 " twice", page, ns);
        }
        places[count].segment = item.segment;
        places[count++].offset = item.bytes > 0 ? item.offset : 0;
        seen[ns][page] = true;
    }
    script_expect(run, rc, "varve_iter_next", &err);
    varve_iter_close(iter);
    for (uint32_t i = 0; i < SCRIPT_NAMESPACES * UNIVERSE && rc == VARVE_MISS; i++) {
        if (!seen[i / UNIVERSE][i % UNIVERSE] && !oracle_may_be(run->oracle, i / UNIVERSE, i % UNIVERSE, false))
            script_fail(run, "iteration: page %" PRIu32 " in namespace %" PRIu32 " is left out", i % UNIVERSE,
                        i / UNIVERSE);
    }
}

/*
 * No two branches have the same number: a page at depth 0 or with a parent begins one, in however many segments it lies. Further on, a place may have two pages, once one
 * that was there was removed.
 */
static void
verify_branches(struct script_run *run)
{
    varve_item *begun = sim_alloc(PLACES_MAX * sizeof(*begun));
    varve_item item = VARVE_ITEM_INIT;
    varve_iter *iter = NULL;
    varve_error err = {0};
    size_t count = 0;
    int rc = varve_iter_open(run->store, NULL, VARVE_ITER_PAGES, &iter, &err);

    script_expect(run, rc, "varve_iter_open", &err);
    while (rc == VARVE_OK && (rc = varve_iter_next(iter, &item, &err)) == VARVE_OK) {
        if (item.depth > 0 && item.parent_branch == 0)
            continue;
        for (size_t i = 0; i < count; i++) {
            if (begun[i].branch == item.branch &&
                memcmp(begun[i].id_prefix, item.id_prefix, sizeof(item.id_prefix)) != 0)
                script_fail(run, "two branches have the number %" PRIu64, item.branch);
        }
        if (count == PLACES_MAX)
            script_fail(run, "iteration: more places than there can be");
        begun[count++] = item;
    }
    script_expect(run, rc, "varve_iter_next", &err);
    varve_iter_close(iter);
    free(begun);
}

struct file_count {
    struct script_run *run;
    const struct manifest_state *state;
    size_t segments, runs, manifests;
};

static int
count_file(void *arg, const char *name)
{
    struct file_count *files = arg;
    const struct manifest_state *state = files->state;
    uint64_t number;
    bool known = false;

    switch (format_parse_name(name, &number)) {
    case FORMAT_FILE_SEGMENT:
        /* Else it may be a dropped one's, which waits for the next segment. */
        known = manifest_state_segment(state, number) != NULL;
        files->segments += known;
        known = known || log_has_file(files->run->store->log, number);
        break;
    case FORMAT_FILE_RUN:
        for (size_t i = 0; i < state->run_count; i++)
            known = known || state->runs[i].number == number;
        known = known || number == index_building_run(files->run->store->index);
        files->runs += number != index_building_run(files->run->store->index);
        break;
    case FORMAT_FILE_MANIFEST:
        known = true;
        files->manifests++;
        break;
    case FORMAT_FILE_FIXED:
        known = strcmp(name, FORMAT_CURRENT_TMP_NAME) != 0 && strcmp(name, FORMAT_HEAT_TMP_NAME) != 0 &&
                strcmp(name, FORMAT_CONTROL_TMP_NAME) != 0;
        break;
    case FORMAT_FILE_OTHER:
        break;
    }
    if (!known)
        script_fail(files->run, "the file %s is not accounted for", name);
    return 0;
}

static void
count_files(void *arg, const struct manifest_state *state)
{
    struct file_count *files = arg;
    struct env *env = files->run->store->env;

    files->state = state;
    if (env->ops->list(env, count_file, files) < 0)
        return;
    if (files->segments != state->segment_count || files->runs != state->run_count || files->manifests != 1)
        script_fail(files->run, "%zu segments, %zu runs, %zu manifests, but the manifest says %zu, %zu, 1",
                    files->segments, files->runs, files->manifests, state->segment_count, state->run_count);
}

void
script_run_verify(struct script_run *run)
{
    FILE *history = run->history;
    struct file_count files = {.run = run};

    if (run->ended)
        return;
    sim_log("verify");
    run->history = NULL; /* looking is no part of the script */
    verify_check(run);   /* first: a read forgets a page that it finds damaged */
    verify_pages(run);
    verify_listing(run);
    verify_branches(run);
    if (!script_run_stopped(run))
        manifest_read_state(run->store->manifest, count_files, &files);
    run->history = history;
}
