/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole directory: edits of a small valid store, closed or killed, on the simulated disk, from arbitrary bytes. It is opened, read, checked, written,
 * closed and opened again. Whatever was edited, there is never a wrong byte, a leak, or an error without a reason; what opens once opens again.
 * While no checksum is put right after an edit, all that was lost can be put again.
 *
 * An input: flags (1: checksums are put right, but for those of pages; 2: the killed store), then edits.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/wire.h"
#include "format/format.h"
#include "fuzz.h"
#include "fuzz_directory.h"
#include "store/store.h"

#define CHAINS      6
#define CHAIN_PAGES 9
#define NAMESPACES  3
#define PAGE_ROOM   4096

static const char *const names[NAMESPACES] = {"a", "b", "c"};
static struct image bases[2]; /* a store that was closed, and one that was killed */

static const struct sim_disk_settings disk_settings = {
    .seed = 1, .io_align = 512, .direct_io = true, .sector_bytes = 512, .queue_depth = 8};

static size_t
page_size(uint32_t chain, uint32_t index)
{
    return chain == 1 ? 0 : chain == 2 ? index * 300u : chain * 100u;
}

static int
open_store(struct sim_disk *disk, varve_store **store, varve_error *err)
{
    static const char *const settings[][2] = {
        {"capacity", "4M"},    {"segment_bytes", "64K"}, {"memtable_bytes", "256K"}, {"block_cache_bytes", "256K"},
        {"background", "off"}, {"size_ratio", "2"},
    };
    varve_options *options = varve_options_create();
    int rc;

    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        fuzz_require(varve_options_set(options, settings[i][0], settings[i][1], NULL) == VARVE_OK, "an option");
    rc = store_open(sim_disk_env(disk), options, store, err);
    varve_options_destroy(options);
    return rc;
}

/* What the pages of each chain are, computed once. */
static struct content {
    varve_id ids[CHAIN_PAGES];
    uint8_t bytes[CHAIN_PAGES][PAGE_ROOM];
} contents[CHAINS];

static void
make_contents(void)
{
    for (uint32_t chain = 1; chain <= CHAINS; chain++) {
        struct content *content = &contents[chain - 1];

        golden_ids(chain, CHAIN_PAGES, content->ids);
        for (uint32_t i = 0; i < CHAIN_PAGES; i++)
            golden_fill(&content->ids[i], content->bytes[i], page_size(chain, i));
    }
}

/* Returns how many pages were stored, or were already. */
static uint32_t
put_chain(varve_store *store, varve_namespace *ns, uint32_t number, uint32_t count)
{
    struct content *content = &contents[number - 1];
    struct iovec iov[CHAIN_PAGES];
    varve_page pages[CHAIN_PAGES];
    uint32_t stored = 0;

    for (uint32_t i = 0; i < count; i++) {
        iov[i] = (struct iovec){content->bytes[i], page_size(number, i)};
        pages[i] = (varve_page){.id = content->ids[i], .iov = &iov[i], .iov_count = 1};
    }
    fuzz_require(varve_put_batch(store, ns, NULL, pages, count, 0, NULL) == VARVE_OK, "a batch did not run");
    for (uint32_t i = 0; i < count; i++)
        stored += pages[i].status == VARVE_OK;
    return stored;
}

/* Returns a bit for each page that is there. */
static uint32_t
get_chain(varve_store *store, varve_namespace *ns, uint32_t number)
{
    static uint8_t bytes[CHAIN_PAGES][PAGE_ROOM];
    const struct content *content = &contents[number - 1];
    struct iovec iov[CHAIN_PAGES];
    varve_page pages[CHAIN_PAGES];
    uint32_t there = 0;

    for (uint32_t i = 0; i < CHAIN_PAGES; i++) {
        iov[i] = (struct iovec){bytes[i], PAGE_ROOM};
        pages[i] = (varve_page){.id = content->ids[i], .iov = &iov[i], .iov_count = 1};
    }
    fuzz_require(varve_get_batch(store, ns, pages, CHAIN_PAGES, NULL) == VARVE_OK, "a batch did not run");
    for (uint32_t i = 0; i < CHAIN_PAGES; i++) {
        if (pages[i].status != VARVE_OK)
            continue;
        fuzz_require(pages[i].size == page_size(number, i) &&
                         memcmp(bytes[i], content->bytes[i], page_size(number, i)) == 0,
                     "a page has other bytes than were put");
        there |= 1u << i;
    }
    return there;
}

static void
require_no_leaks(const struct sim_disk *disk)
{
    fuzz_require(disk->handles_open + disk->queues_open + disk->allocations == 0, "a leak");
    fuzz_require(disk->violations == 0, "the rules of the env were broken");
}

static void
make_base(bool killed, struct image *out)
{
    struct sim_disk *disk = sim_disk_create(&disk_settings);
    varve_namespace *ns[NAMESPACES];
    varve_store *store;

    for (uint32_t life = 0; life < 3; life++) {
        fuzz_require(open_store(disk, &store, NULL) == VARVE_OK, "the store does not open");
        for (uint32_t i = 0; i < NAMESPACES; i++) {
            fuzz_require(varve_namespace_open(store, names[i], NULL, &ns[i], NULL) == VARVE_OK, "a namespace");
            (void)put_chain(store, ns[i], 2 * life + 1, 4 + i);
            (void)put_chain(store, ns[i], 2 * life + 2, CHAIN_PAGES);
        }
        if (life == 1) {
            fuzz_require(varve_namespace_clear(store, ns[2], NULL) == VARVE_OK, "clear");
            fuzz_require(varve_remove_batch(store, ns[1], &(varve_id){.bytes = {0}}, 1, NULL) == 0, "remove");
        }
        if (life < 2 || !killed)
            fuzz_require(varve_close(store, NULL) == VARVE_OK, "close");
    }
    if (killed) {
        sim_disk_stop(disk);
        store_abandon(store);
        sim_disk_crash(disk, SIM_CRASH_KILL, 1);
    }
    image_take(disk, out);
    sim_disk_destroy(disk);
}

/* Step through rows of one kind. */
static void
iterate(varve_store *store, enum varve_iter_kind kind)
{
    varve_item item = VARVE_ITEM_INIT;
    varve_iter *iter = NULL;
    varve_error err = {0};
    int rc = varve_iter_open(store, NULL, kind, &iter, &err);

    while (rc == VARVE_OK)
        rc = varve_iter_next(iter, &item, &err);
    fuzz_require(rc == VARVE_MISS || (err.code == rc && err.message[0] != '\0'), "an error without a reason");
    varve_iter_close(iter);
}

/* Read everything; there[] is filled with the pages found. */
static void
read_all(varve_store *store, varve_namespace *const *ns, uint32_t *there)
{
    for (uint32_t i = 0; i < NAMESPACES; i++) {
        for (uint32_t chain = 1; chain <= CHAINS; chain++)
            there[i * CHAINS + chain - 1] = get_chain(store, ns[i], chain);
    }
}

static void
look(varve_store *store, bool honest)
{
    varve_check_report report = VARVE_CHECK_REPORT_INIT;
    varve_error err = {0};
    int rc = varve_check(store, VARVE_CHECK_DEEP, NULL, NULL, NULL, &report, &err);

    fuzz_require(rc == VARVE_OK || (err.code == rc && err.message[0] != '\0'), "an error without a reason");
    fuzz_require(rc == VARVE_OK || !honest, "a check did not come to its end");
    fuzz_require(report.pages_verified <= report.pages, "more pages were verified than there are");
    for (enum varve_iter_kind kind = VARVE_ITER_NAMESPACES; kind <= VARVE_ITER_PAGES; kind++)
        iterate(store, kind);
}

/* One life: pages of there[] are there if `must`; all are put again then. True: the store was opened. */
static bool
live(struct sim_disk *disk, bool honest, bool must, uint32_t *there)
{
    uint32_t before[NAMESPACES * CHAINS];
    varve_namespace *ns[NAMESPACES];
    varve_store *store = NULL;
    varve_error err = {0};
    int rc = open_store(disk, &store, &err);

    memcpy(before, there, sizeof(before));
    if (rc != VARVE_OK) {
        fuzz_require(err.code == rc && rc <= VARVE_E_ARG && rc >= VARVE_E_NOSTORE && err.message[0] != '\0',
                     "an error without a reason");
        fuzz_require(!must, "what opened once does not open again");
        return false;
    }
    for (uint32_t i = 0; i < NAMESPACES; i++) {
        rc = varve_namespace_open(store, names[i], NULL, &ns[i], &err);
        if (rc != VARVE_OK) { /* no room for one more */
            fuzz_require(!honest && err.code == rc, "a namespace does not open");
            (void)varve_close(store, NULL);
            return true;
        }
    }
    look(store, honest);
    read_all(store, ns, there);
    for (uint32_t i = 0; i < NAMESPACES * CHAINS; i++) {
        uint32_t all = (1u << CHAIN_PAGES) - 1;

        fuzz_require(!must || !honest || there[i] == before[i], "a page of a closed store is gone");
        if (there[i] != all)
            fuzz_require(put_chain(store, ns[i / CHAINS], i % CHAINS + 1, CHAIN_PAGES) == CHAIN_PAGES || !honest,
                         "a page can not be put again");
    }
    while (store_tick(store))
        ;
    read_all(store, ns, there);
    for (uint32_t i = 0; i < NAMESPACES * CHAINS; i++)
        fuzz_require(there[i] == (1u << CHAIN_PAGES) - 1 || !honest, "a page was put, and is not there");
    rc = varve_close(store, &err);
    fuzz_require(rc == VARVE_OK || !honest, "a store does not close");
    return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t there[NAMESPACES * CHAINS] = {0};
    struct sim_disk *disk;
    struct image image;
    bool honest;

    if (bases[0].count == 0) {
        make_contents();
        make_base(false, &bases[0]);
        make_base(true, &bases[1]);
    }
    if (size < 1)
        return 0;
    image_copy(&bases[data[0] >> 1 & 1], &image);
    directory_edit(&image, data + 1, size - 1);
    honest = !FUZZ_FIX_SUMS(data[0]);
    if (!honest)
        directory_fix_sums(&image);
    disk = sim_disk_create(&disk_settings);
    image_put(&image, disk);
    image_free(&image);
    if (live(disk, honest, false, there)) {
        require_no_leaks(disk);
        (void)live(disk, honest, true, there);
    }
    require_no_leaks(disk);
    sim_disk_destroy(disk);
    return 0;
}

size_t
fuzz_example(struct sim_rng *rng, uint8_t *out)
{
    size_t size = 1;

    out[0] = (uint8_t)sim_rng_below(rng, 4);
    for (uint64_t edits = sim_rng_log(rng, 6); edits > 0; edits--)
        size += directory_edit_example(rng, out + size);
    return size;
}
