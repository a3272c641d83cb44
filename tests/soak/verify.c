/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verifier: opens what a killed worker left, gets every page, compares with the ledger, checks the files and the whole store, and puts
 * something. The contender: finds the store locked.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "soak.h"

struct verifier {
    struct ledger *ledger;
    varve_store *store;
    varve_namespace *namespaces[NAMESPACES];
    uint8_t *buf;
    struct part part;
    bool found[CHAIN_PAGES];
    char problem[200]; /* the first one of a check */
};

static void
take_chain(struct verifier *self, uint32_t ns, uint32_t chain)
{
    self->part = (struct part){.ns = ns, .chain = chain, .count = CHAIN_PAGES};
    part_make(&self->part, &self->ledger->epoch, self->buf, 0);
}

/* All of a chain, against the ledger, which then knows. */
static void
verify_chain(struct verifier *self, uint32_t ns, uint32_t chain)
{
    struct ledger *ledger = self->ledger;

    take_chain(self, ns, chain);
    (void)part_get(&self->part, ledger, self->store, self->namespaces[ns], self->found);
    part_expect(&self->part, ledger, self->found, "after reopening");
    for (uint32_t i = 0; i < CHAIN_PAGES; i++)
        atomic_store(&ledger->state[page_index(ns, chain, i)], self->found[i] ? PAGE_PRESENT : PAGE_ABSENT);
    atomic_fetch_add(&ledger->calls, 1);
}

/* With what the put said of each page, and whether it was found: SKIPPED pages, and holes, have causes of their own. */
static void
put_again_failed(const struct verifier *self, const int *put_status)
{
    char text[4 * CHAIN_PAGES + 1];
    size_t used = 0;

    for (uint32_t i = 0; i < CHAIN_PAGES; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, " %d%c", put_status[i], self->found[i] ? '+' : '-');
    ledger_fail(self->ledger, "a chain that was just put again is not whole (status, found):%s", text);
}

/*
 * What is missing can be put, and is there then: unless reclaim says that it lost live pages, which in a tight store of small pages it may, or the store has
 * found that new pages are better let go first.
 */
static void
put_again(struct verifier *self)
{
    struct ledger *ledger = self->ledger;
    uint32_t chain = (uint32_t)(ledger->life_seed >> 8) % ledger->epoch.chains;
    int put_status[CHAIN_PAGES];
    uint64_t lost = soak_stat(self->store, "reclaim_lost_bytes");

    take_chain(self, 0, chain);
    if (!part_put(&self->part, ledger, self->store, self->namespaces[0], 0))
        ledger_fail(ledger, "the disk has room again, and a put was refused");
    for (uint32_t i = 0; i < CHAIN_PAGES; i++)
        put_status[i] = self->part.pages[i].status;
    if (part_get(&self->part, ledger, self->store, self->namespaces[0], self->found) != CHAIN_PAGES &&
        soak_stat(self->store, "reclaim_lost_bytes") == lost && soak_stat(self->store, "eviction_answer") == 0)
        put_again_failed(self, put_status);
}

static void
note_problem(void *arg, const char *text)
{
    struct verifier *self = arg;

    if (self->problem[0] == '\0')
        (void)snprintf(self->problem, sizeof(self->problem), "%s", text);
}

static void
check_store(struct verifier *self)
{
    struct ledger *ledger = self->ledger;
    varve_check_report report = VARVE_CHECK_REPORT_INIT;
    varve_error err = {0};

    if (varve_check(self->store, VARVE_CHECK_DEEP, note_problem, NULL, self, &report, &err) != VARVE_OK)
        ledger_fail(ledger, "check: %s", err.message);
    if (report.problems > 0 && ledger->epoch.trouble != TROUBLE_DAMAGE)
        ledger_fail(ledger, "check: %u problems: %s", report.problems, self->problem);
    atomic_fetch_add(&ledger->totals.checked_pages, report.pages_verified);
}

static void
check_files(struct verifier *self)
{
    struct ledger *ledger = self->ledger;
    const struct epoch *epoch = &ledger->epoch;
    uint64_t bytes = directory_bytes(epoch->path);
    const char *stray =
        directory_stray(epoch->path, soak_stat(self->store, "segments"), soak_stat(self->store, "runs"));

    if (stray != NULL)
        ledger_fail(ledger, "files of the open store: %s", stray);
    if (bytes > epoch->capacity)
        ledger_fail(ledger, "after reopening the directory holds %" PRIu64 " bytes, capacity is %" PRIu64, bytes,
                    epoch->capacity);
}

static void
count_recovery(struct totals *totals, varve_store *store)
{
    atomic_fetch_add(&totals->recovered_pages, soak_stat(store, "recovered_pages"));
    atomic_fetch_add(&totals->torn_pages, soak_stat(store, "recovered_torn_pages"));
    atomic_fetch_add(&totals->dropped_segments, soak_stat(store, "segments_dropped"));
    atomic_fetch_add(&totals->flushes, soak_stat(store, "index_flushes"));
    atomic_fetch_add(&totals->merges, soak_stat(store, "index_merges"));
}

/* Why a store that was damaged, or lies on a full disk, was not opened. */
static int
refused(struct ledger *ledger, int rc, const varve_error *err)
{
    bool damaged = ledger->epoch.trouble == TROUBLE_DAMAGE && (rc == VARVE_E_CORRUPT || rc == VARVE_E_NOSTORE);

    if (!damaged && !soak_full_code(ledger, rc))
        ledger_fail(ledger, "reopening: %d %s", rc, err->message);
    if (err->code != rc || strlen(err->message) < 10)
        ledger_fail(ledger, "reopening: code %d comes without an explanation: '%s'", rc, err->message);
    return ROLE_REFUSED;
}

int
verifier_run(struct ledger *ledger)
{
    static struct verifier self;
    struct random rng = random_make(ledger->life_seed + THREADS_MAX + 1);
    varve_error err = {0};
    int rc;

    self.ledger = ledger;
    self.buf = aligned_alloc(4096, BATCH_BYTES);
    if (self.buf == NULL)
        abort();
    /* Without a background thread nothing changes while the files are looked at. */
    rc = soak_open(&ledger->epoch, &rng, false, &self.store, &err);
    if (rc != VARVE_OK)
        return refused(ledger, rc, &err);
    if (ledger->epoch.trouble != TROUBLE_DAMAGE)
        check_files(&self);
    soak_namespaces(ledger, self.store, self.namespaces);
    for (uint32_t ns = 0; ns < NAMESPACES; ns++) {
        for (uint32_t chain = 0; chain < ledger->epoch.chains && self.namespaces[ns] != NULL; chain++)
            verify_chain(&self, ns, chain);
    }
    check_store(&self);
    if (!ledger->space_short)
        put_again(&self);
    count_recovery(&ledger->totals, self.store);
    free(self.buf);
    if (random_below(&rng, 2) == 0)
        return ROLE_OK; /* as dead as if it had been killed */
    rc = varve_close(self.store, &err);
    if (rc != VARVE_OK && !soak_full_code(ledger, rc))
        ledger_fail(ledger, "close after reopening: %d %s", rc, err.message);
    return ROLE_OK;
}

int
contender_run(struct ledger *ledger)
{
    struct random rng = random_make(ledger->life_seed);
    varve_store *store = NULL;
    varve_error err = {0};
    int rc = soak_open(&ledger->epoch, &rng, false, &store, &err);

    if (rc != VARVE_E_LOCKED)
        ledger_fail(ledger, "a second process opened the store: %d %s", rc, err.message);
    return ROLE_OK;
}
