/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at a whole store: every page of the universe is read, all pages are iterated over, and the store checks itself. */
#include <inttypes.h>
#include <stdlib.h>

#include "codec/codec.h"
#include "format/format.h"
#include "sim_driver.h"
#include "sim_log.h"

#define VERIFY_BATCH 24
#define ASK_BATCH    1024

/* Read the next pages. Returns the one behind them. */
static uint32_t
read_batch(struct sim *sim, uint32_t ns, uint32_t first)
{
    uint32_t numbers[VERIFY_BATCH];
    size_t count = 0;

    do
        numbers[count++] = first++;
    while (count < VERIFY_BATCH && first < sim->oracle->pages &&
           !(sim->config.honest && first % sim->oracle->settings.chain_pages == 0));
    sim_read_pages(sim, ns, numbers, count, 0);
    return first;
}

static void
ask_all(struct sim *sim, uint32_t ns)
{
    uint32_t *numbers = sim_alloc(ASK_BATCH * sizeof(*numbers));
    varve_id *ids = sim_alloc(ASK_BATCH * sizeof(*ids));

    for (uint32_t page = 0; page < sim->oracle->pages;) {
        size_t count = 0;

        for (; count < ASK_BATCH && page < sim->oracle->pages; count++, page++) {
            numbers[count] = page;
            ids[count] = oracle_id(sim->oracle, page);
        }
        sim_ask(sim, ns, numbers, ids, count);
        SIM_COUNT(sim, SIM_EVENT_PAGES_VERIFIED, count);
    }
    free(numbers);
    free(ids);
}

void
sim_verify_pages(struct sim *sim, bool read_all)
{
    sim_log("verify%s", read_all ? " all" : "");
    for (uint32_t ns = 0; ns < sim->oracle->settings.namespaces && !sim->disk->stopped; ns++) {
        ask_all(sim, ns);
        if (!read_all)
            (void)read_batch(sim, ns, (uint32_t)sim_rng_below(&sim->rng, sim->oracle->pages));
        for (uint32_t page = 0; read_all && page < sim->oracle->pages;)
            page = read_batch(sim, ns, page);
    }
}

static uint32_t
namespace_number(const char *name)
{
    if (name == NULL || name[0] != 'n' || name[1] < '0' || name[1] >= '0' + SIM_NAMESPACES_MAX || name[2] != '\0')
        return UINT32_MAX;
    return (uint32_t)(name[1] - '0');
}

/* Stored bytes of a page: coded, at least what is noise in them, a half. */
static bool
stored_size_fits(const struct oracle *oracle, uint64_t stored, uint64_t size)
{
    if (oracle->settings.twins || stored == size)
        return true;
    return oracle->settings.bf16 && stored >= size / 2 && stored <= codec_bound(size);
}

/* Tick off one row. */
static void
judge_row(struct sim *sim, const varve_item *item, uint8_t *seen)
{
    uint32_t ns = namespace_number(item->namespace_name);
    uint32_t page = oracle_find(sim->oracle, item->id_prefix);

    if (ns >= sim->oracle->settings.namespaces || page == UINT32_MAX)
        sim_fail("iteration: a page that was never put");
    if (!stored_size_fits(sim->oracle, item->bytes, oracle_size(sim->oracle, ns, page)))
        sim_fail("iteration: page %" PRIu32 " of %" PRIu64 " bytes, not %" PRIu32, page, item->bytes,
                 oracle_size(sim->oracle, ns, page));
    if (!oracle_observe(sim->oracle, ns, page, true))
        sim_fail("iteration: page %" PRIu32 " in namespace %" PRIu32 " is there, but must not be", page, ns);
    seen[(size_t)ns * sim->oracle->pages + page] = 1;
}

void
sim_verify_iteration(struct sim *sim)
{
    uint8_t *seen = sim_alloc((size_t)sim->oracle->settings.namespaces * sim->oracle->pages);
    varve_item item = VARVE_ITEM_INIT;
    varve_iter *iter = NULL;
    varve_error err = {0};
    int rc;

    sim_log("iterate");
    rc = varve_iter_open(sim->store, NULL, VARVE_ITER_PAGES, &iter, &err);
    sim_expect(sim, rc, "varve_iter_open", &err);
    while (rc == VARVE_OK) {
        rc = varve_iter_next(iter, &item, &err);
        if (rc == VARVE_OK)
            judge_row(sim, &item, seen);
    }
    sim_expect(sim, rc, "varve_iter_next", &err);
    varve_iter_close(iter);
    for (uint32_t ns = 0; ns < sim->oracle->settings.namespaces && rc == VARVE_MISS; ns++) {
        for (uint32_t page = 0; page < sim->oracle->pages; page++) {
            if (!seen[(size_t)ns * sim->oracle->pages + page] && !sim_excused(sim) &&
                !oracle_may_be(sim->oracle, ns, page, false))
                sim_fail("iteration: page %" PRIu32 " in namespace %" PRIu32 " is left out", page, ns);
        }
    }
    free(seen);
}

static void
on_problem(void *arg, const char *text)
{
    uint32_t *problems = arg;

    sim_log("  problem: %s", text);
    (*problems)++;
}

void
sim_verify_check(struct sim *sim)
{
    varve_check_report report = VARVE_CHECK_REPORT_INIT;
    uint32_t problems = 0;
    varve_error err = {0};
    int rc;

    sim_log("check");
    rc = varve_check(sim->store, sim_rng_chance(&sim->rng, 500) ? VARVE_CHECK_DEEP : 0, on_problem, NULL, &problems,
                     &report, &err);
    sim_expect(sim, rc, "varve_check", &err);
    if (rc == VARVE_OK && problems > 0 && !sim_excused(sim))
        sim_fail("varve_check found %" PRIu32 " problems", problems);
    if (rc == VARVE_OK && report.pages_verified > report.pages)
        sim_fail("varve_check verified %" PRIu64 " of %" PRIu64 " pages", report.pages_verified, report.pages);
}

/* The directory, file by file, against the manifest. */
struct account {
    const struct sim *sim;
    uint64_t manifest; /* the one in force */
    size_t segments, runs;
    uint64_t segment_bytes, run_bytes, heat_bytes;
    uint64_t kept_bytes; /* of files for the next segments */
};

static bool
has_run(const struct manifest_state *state, uint64_t number)
{
    for (size_t i = 0; i < state->run_count; i++) {
        if (state->runs[i].number == number)
            return true;
    }
    return false;
}

static void
judge_directory(void *arg, const struct manifest_state *state)
{
    struct account *account = arg;
    const struct sim *sim = account->sim;

    for (size_t i = 0; i < sim->disk->current.count; i++) {
        const struct sim_dir_entry *entry = &sim->disk->current.entries[i];
        uint64_t number, bytes = entry->inode->current.size;
        bool named = true;

        switch (format_parse_name(entry->name, &number)) {
        case FORMAT_FILE_SEGMENT:
            if (manifest_state_segment(state, number) != NULL) {
                account->segments++;
                account->segment_bytes += bytes;
            } else {
                named = log_has_file(sim->store->log, number);
                account->kept_bytes += bytes + LOG_BLOCK_BYTES;
            }
            break;
        case FORMAT_FILE_RUN:
            named = has_run(state, number);
            account->runs++;
            account->run_bytes += bytes;
            break;
        case FORMAT_FILE_MANIFEST:
            named = number == account->manifest;
            break;
        case FORMAT_FILE_FIXED:
            named = strcmp(entry->name, FORMAT_CURRENT_TMP_NAME) != 0 &&
                    strcmp(entry->name, FORMAT_HEAT_TMP_NAME) != 0 && strcmp(entry->name, FORMAT_CONTROL_TMP_NAME) != 0;
            if (strcmp(entry->name, FORMAT_HEAT_NAME) == 0)
                account->heat_bytes = log_pad(bytes, 12);
            break;
        case FORMAT_FILE_OTHER:
            named = false;
            break;
        }
        if (!named)
            sim_fail("%s is in the directory, and nothing names it", entry->name);
    }
    if (account->segments != state->segment_count || account->runs != state->run_count)
        sim_fail("%zu segments and %zu runs in the directory, %zu and %zu in the manifest", account->segments,
                 account->runs, state->segment_count, state->run_count);
}

static void
find_sealed(void *arg, const struct segment *segment)
{
    bool *found = arg;

    *found = *found || segment->phase == SEGMENT_SEALED;
}

void
sim_verify_limits(struct sim *sim)
{
    uint64_t used = space_used(sim->store), min_free = sim->store->options.min_free, available;
    bool droppable = false;

    if (sim_excused(sim) || atomic_load(&sim->store->read_only))
        return;
    log_for_each(sim->store->log, find_sealed, &droppable);
    if (used > sim->config.capacity && droppable)
        sim_fail("%" PRIu64 " bytes are used, the capacity is %" PRIu64, used, sim->config.capacity);
    SIM_COUNT(sim, SIM_EVENT_REACHED, sim->lowered && used <= sim->config.capacity);
    sim->lowered = sim->lowered && used > sim->config.capacity;
    if (sim->store->env->ops->free_space(sim->store->env, &available) < 0)
        return;
    if (available < min_free && droppable)
        sim_fail("%" PRIu64 " bytes are free, not %" PRIu64, available, min_free);
    SIM_COUNT(sim, SIM_EVENT_FREED, sim->freeing && available >= min_free);
    sim->freeing = sim->freeing && available < min_free;
}

void
sim_verify_accounts(struct sim *sim)
{
    struct account account = {.sim = sim, .manifest = manifest_number(sim->store->manifest)};
    struct gauges gauges = {0};
    uint64_t fixed;

    if (sim_excused(sim) || atomic_load(&sim->store->read_only))
        return;
    manifest_read_state(sim->store->manifest, judge_directory, &account);
    store_gauges(sim->store, &gauges);
    if (gauges.segments != account.segments || gauges.segment_bytes != account.segment_bytes ||
        gauges.runs != account.runs || gauges.run_bytes != account.run_bytes)
        sim_fail("the store counts %" PRIu64 " segments of %" PRIu64 " bytes, %" PRIu64 " runs of %" PRIu64
                 "; there are %zu of %" PRIu64 ", %zu of %" PRIu64,
                 gauges.segments, gauges.segment_bytes, gauges.runs, gauges.run_bytes, account.segments,
                 account.segment_bytes, account.runs, account.run_bytes);
    if (gauges.kept_bytes != account.kept_bytes)
        sim_fail("the store keeps files of %" PRIu64 " bytes, there are %" PRIu64, gauges.kept_bytes,
                 account.kept_bytes);
    if (gauges.heat_file_bytes != account.heat_bytes)
        sim_fail("the store counts %" PRIu64 " bytes for HEAT, it takes %" PRIu64, gauges.heat_file_bytes,
                 account.heat_bytes);
    fixed = gauges.disk_bytes - gauges.segment_bytes - gauges.segments * LOG_BLOCK_BYTES - gauges.run_bytes -
            gauges.kept_bytes - gauges.heat_file_bytes - sim->store->manifest_share;
    if (sim->fixed != 0 && fixed != sim->fixed)
        sim_fail("%" PRIu64 " bytes in use are no file's; there were %" PRIu64, fixed, sim->fixed);
    if (gauges.disk_bytes < sim_disk_used(sim->disk))
        sim_fail("%" PRIu64 " bytes are in use, and %" PRIu64 " counted", sim_disk_used(sim->disk), gauges.disk_bytes);
    sim->fixed = fixed;
    SIM_COUNT(sim, SIM_EVENT_ACCOUNTS, 1);
}
