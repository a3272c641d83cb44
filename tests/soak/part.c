/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parts of chains against the ledger. A page that must be there and is not is a failure unless it may have been dropped: in a roomy store it
 * may not, and in a tight one not while it was put a moment ago.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "soak.h"

#define ALIGN ((size_t)4096)

/*
 * A page that was absent and is put at the root of its chain is as recent as can be. (One that is stored already may be in a segment that is
 * just being dropped.) It may go only when everything else has been touched since, which
 * takes more calls than these, or when much of the store has been written over, puts in flight included.
 */
#define FRESH_CALLS 4

void
part_make(struct part *part, const struct epoch *epoch, uint8_t *buf, size_t skew)
{
    for (uint32_t i = 0; i < part->count; i++) {
        size_t size = soak_size(epoch, part->ns, part->chain, part->first + i);

        part->ids[i] = soak_id(part->chain, part->first + i);
        part->iov[i] = (struct iovec){buf + skew, size};
        part->pages[i] = (varve_page){.id = part->ids[i], .iov = &part->iov[i], .iov_count = 1};
        buf += (size + skew + ALIGN - 1) / ALIGN * ALIGN;
    }
}

void
part_fill(struct part *part)
{
    for (uint32_t i = 0; i < part->count; i++)
        soak_fill(part->ns, part->chain, part->first + i, part->iov[i].iov_base, part->iov[i].iov_len);
}

bool
soak_full_code(const struct ledger *ledger, int rc)
{
    return ledger->space_short && (rc == VARVE_E_NOSPC || rc == VARVE_E_READONLY);
}

uint32_t
part_get(struct part *part, struct ledger *ledger, varve_store *store, varve_namespace *ns, bool *found)
{
    varve_error err = {0};
    uint32_t count = 0;
    uint64_t bytes = 0;

    if (varve_get_batch(store, ns, part->pages, part->count, &err) != VARVE_OK)
        ledger_fail(ledger, "get: %s", err.message);
    for (uint32_t i = 0; i < part->count; i++) {
        const varve_page *page = &part->pages[i];
        bool damaged = ledger->epoch.trouble == TROUBLE_DAMAGE && page->status == VARVE_E_IO;

        found[i] = page->status == VARVE_OK;
        if (!found[i] && page->status != VARVE_MISS && !damaged)
            ledger_fail(ledger, "get of page %u/%u/%u: %s", part->ns, part->chain, part->first + i,
                        varve_strerror(page->status));
        if (!found[i])
            continue;
        if (page->size != part->iov[i].iov_len ||
            !soak_right(part->ns, part->chain, part->first + i, part->iov[i].iov_base, part->iov[i].iov_len))
            ledger_fail(ledger, "wrong bytes in page %u/%u/%u (%" PRIu64 " of %zu bytes)", part->ns, part->chain,
                        part->first + i, page->size, part->iov[i].iov_len);
        count++;
        bytes += page->size;
    }
    atomic_fetch_add(&ledger->totals.verified_pages, count);
    atomic_fetch_add(&ledger->totals.verified_bytes, bytes);
    return count;
}

bool
part_put(struct part *part, struct ledger *ledger, varve_store *store, varve_namespace *ns, unsigned flags)
{
    varve_id parent = soak_id(part->chain, part->first > 0 ? part->first - 1 : 0);
    uint64_t bytes = ALIGN, at, call;
    varve_error err = {0};
    bool stored = true, is_new[CHAIN_PAGES] = {false};

    for (uint32_t i = 0; i < part->count; i++) {
        _Atomic uint8_t *state = &ledger->state[page_index(part->ns, part->chain, part->first + i)];
        uint8_t absent = PAGE_ABSENT;

        is_new[i] = atomic_compare_exchange_strong(state, &absent, PAGE_MAYBE);
        bytes += (part->iov[i].iov_len + 2 * ALIGN - 1) / ALIGN * ALIGN;
    }
    at = atomic_fetch_add(&ledger->put_bytes, bytes); /* before: puts in flight count */
    part_fill(part);
    if (varve_put_batch(store, ns, part->first > 0 ? &parent : NULL, part->pages, part->count, flags, &err) != VARVE_OK)
        ledger_fail(ledger, "put: %s", err.message);
    call = atomic_load(&ledger->calls);
    for (uint32_t i = 0; i < part->count; i++) {
        size_t index = page_index(part->ns, part->chain, part->first + i);

        if (part->pages[i].status == VARVE_OK) {
            ledger->put_at[index] = at;
            ledger->put_call[index] = part->first == 0 && is_new[i] ? call : 0;
            atomic_store(&ledger->state[index], PAGE_PRESENT);
        } else if (part->pages[i].status == VARVE_SKIPPED) { /* out of reach in a full store: its parent went */
            atomic_store(&ledger->state[index], PAGE_MAYBE);
        } else if (soak_full_code(ledger, part->pages[i].status)) {
            stored = false;
        } else {
            ledger_fail(ledger, "put of page %u/%u/%u: %s", part->ns, part->chain, part->first + i,
                        varve_strerror(part->pages[i].status));
        }
    }
    return stored;
}

/* May the page have been dropped to make room? */
static bool
may_be_dropped(const struct ledger *ledger, size_t index)
{
    const struct epoch *epoch = &ledger->epoch;
    uint64_t written = atomic_load(&ledger->put_bytes);
    uint64_t in_flight = (uint64_t)epoch->threads * CHAIN_PAGES * (epoch->size_max + 2 * ALIGN);

    if (epoch->trouble != TROUBLE_NONE)
        return true;
    if (epoch->roomy || written < epoch->capacity / 2)
        return false;
    return ledger->put_call[index] == 0 || ledger->put_call[index] + FRESH_CALLS < atomic_load(&ledger->calls) ||
           in_flight > epoch->capacity / 4 || ledger->put_at[index] + epoch->capacity / 8 < written;
}

void
part_expect(const struct part *part, struct ledger *ledger, const bool *found, const char *who)
{
    for (uint32_t i = 0; i < part->count; i++) {
        size_t index = page_index(part->ns, part->chain, part->first + i);
        uint8_t state = atomic_load(&ledger->state[index]);

        if (ledger->epoch.trouble == TROUBLE_DAMAGE || part->ns == WILD_NAMESPACE)
            continue;
        if (found[i] && state == PAGE_ABSENT)
            ledger_fail(ledger, "%s: page %u/%u/%u is there, though it was removed, cleared or never put", who,
                        part->ns, part->chain, part->first + i);
        if (!found[i] && state == PAGE_PRESENT) {
            if (!may_be_dropped(ledger, index))
                ledger_fail(ledger, "%s: page %u/%u/%u was acknowledged, and is not there (%s, %" PRIu64 " bytes put)",
                            who, part->ns, part->chain, part->first + i, ledger->epoch.roomy ? "roomy" : "tight",
                            atomic_load(&ledger->put_bytes));
            atomic_fetch_add(&ledger->totals.losses, 1);
            atomic_store(&ledger->state[index], PAGE_MAYBE);
        }
    }
}

static void
set_option(varve_options *options, const char *name, const char *value)
{
    varve_error err = {0};

    if (varve_options_set(options, name, value, &err) != VARVE_OK) {
        (void)fprintf(stderr, "kill_loop: %s=%s: %s\n", name, value, err.message);
        abort();
    }
}

static void
set_number(varve_options *options, const char *name, uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "%" PRIu64, value);
    set_option(options, name, text);
}

int
soak_open(const struct epoch *epoch, struct random *rng, bool background, varve_store **store, varve_error *err)
{
    static const char *const sync_ms[] = {"0", "3", "50", "1000"};
    static const char *const io_bytes[] = {"16K", "128K", "1M"};
    varve_options *options = varve_options_create();
    int rc;

    if (options == NULL)
        abort();
    set_option(options, "io_engine", epoch->engine);
    set_option(options, "share", "off"); /* a second process is to be refused; share_soak is the one with several */
    set_number(options, "capacity", epoch->capacity);
    set_number(options, "segment_bytes", epoch->segment_bytes);
    set_option(options, "memtable_bytes", "256K");
    set_option(options, "block_cache_bytes", "256K");
    set_number(options, "size_ratio", 2 + random_below(rng, 3));
    set_number(options, "runs_per_level", 1 + random_below(rng, 3));
    set_option(options, "sync_interval_ms", sync_ms[random_below(rng, 4)]);
    set_option(options, "sync_bytes", random_below(rng, 2) == 0 ? "256K" : "256M");
    set_option(options, "io_bytes", io_bytes[random_below(rng, 3)]);
    set_number(options, "io_threads", 1 + random_below(rng, 8));
    set_option(options, "direct_io", random_below(rng, 4) == 0 ? "off" : "auto");
    set_option(options, "background", background ? "on" : "off");
    rc = varve_open(epoch->path, options, store, err);
    varve_options_destroy(options);
    return rc;
}

void
soak_namespaces(struct ledger *ledger, varve_store *store, varve_namespace **namespaces)
{
    static const char *const names[NAMESPACES] = {"one", "two", "three", "wild"};
    varve_error err = {0};

    for (size_t i = 0; i < NAMESPACES; i++) {
        int rc = varve_namespace_open(store, names[i], NULL, &namespaces[i], &err);

        if (soak_full_code(ledger, rc))
            namespaces[i] = NULL;
        else if (rc != VARVE_OK)
            ledger_fail(ledger, "namespace %s: %s", names[i], err.message);
    }
}

uint64_t
soak_stat(varve_store *store, const char *name)
{
    uint64_t values[256];
    size_t count = varve_stats_get(store, values, sizeof(values) / sizeof(values[0]));
    const varve_stat_desc *desc;

    for (size_t i = 0; i < count && (desc = varve_stat_describe(i)) != NULL; i++) {
        if (strcmp(desc->name, name) == 0)
            return values[i];
    }
    (void)fprintf(stderr, "kill_loop: no statistic %s\n", name);
    abort();
}
