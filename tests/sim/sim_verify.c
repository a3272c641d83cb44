/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at a whole store: every page of the universe is read, all pages are iterated over, and the store checks itself. */
#include <inttypes.h>
#include <stdlib.h>

#include "sim_driver.h"
#include "sim_log.h"

#define VERIFY_BATCH 64

void
sim_verify_pages(struct sim *sim)
{
    uint32_t numbers[VERIFY_BATCH];

    sim_log("verify");
    for (uint32_t ns = 0; ns < sim->oracle->settings.namespaces; ns++) {
        for (uint32_t page = 0; page < sim->oracle->pages && !sim->disk->stopped;) {
            size_t count = 0;

            while (count < VERIFY_BATCH && page < sim->oracle->pages)
                numbers[count++] = page++;
            sim_read_pages(sim, ns, numbers, count, 0);
            sim->totals->pages_verified += count;
        }
    }
}

static uint32_t
namespace_number(const char *name)
{
    if (name == NULL || name[0] != 'n' || name[1] < '0' || name[1] >= '0' + SIM_NAMESPACES_MAX || name[2] != '\0')
        return UINT32_MAX;
    return (uint32_t)(name[1] - '0');
}

/* Tick off one row. */
static void
judge_row(struct sim *sim, const varve_item *item, uint8_t *seen)
{
    uint32_t ns = namespace_number(item->namespace_name);
    uint32_t page = oracle_find(sim->oracle, item->id_prefix);

    if (ns >= sim->oracle->settings.namespaces || page == UINT32_MAX)
        sim_fail("iteration: a page that was never put");
    if (item->bytes != oracle_size(sim->oracle, ns, page) && !sim->oracle->settings.twins)
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
    (void)arg;
    sim_log("  problem: %s", text);
}

void
sim_verify_check(struct sim *sim)
{
    varve_check_report report = VARVE_CHECK_REPORT_INIT;
    varve_error err = {0};
    int rc;

    sim_log("check");
    rc = varve_check(sim->store, VARVE_CHECK_DEEP, on_problem, NULL, NULL, &report, &err);
    sim_expect(sim, rc, "varve_check", &err);
    if (rc == VARVE_OK && report.problems > 0 && !sim_excused(sim))
        sim_fail("varve_check found %" PRIu32 " problems", report.problems);
    if (rc == VARVE_OK && report.pages_verified > report.pages)
        sim_fail("varve_check verified %" PRIu64 " of %" PRIu64 " pages", report.pages_verified, report.pages);
}
