/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger, and the universe of pages: ids, sizes and bytes follow from a page's place in it. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "soak.h"

#define MIB            ((uint64_t)1 << 20)
#define UNIVERSE_BYTES (16 * MIB) /* of all pages, about */

struct ledger *
ledger_create(int *fd)
{
    *fd = memfd_create("ledger", 0); /* inherited by the processes of all roles */
    if (*fd < 0 || ftruncate(*fd, sizeof(struct ledger)) != 0) {
        perror("ledger");
        return NULL;
    }
    return ledger_map(*fd);
}

struct ledger *
ledger_map(int fd)
{
    void *at = mmap(NULL, sizeof(struct ledger), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (at == MAP_FAILED) {
        perror("ledger");
        return NULL;
    }
    return at;
}

void
epoch_draw(struct epoch *epoch, struct random *rng)
{
    static const uint32_t sizes[] = {200, 2000, 12288, 40960};
    uint64_t pages;

    epoch->size_max = sizes[random_below(rng, sizeof(sizes) / sizeof(sizes[0]))];
    pages = UNIVERSE_BYTES / (epoch->size_max / 2 + 1) / NAMESPACES;
    epoch->chains = pages / CHAIN_PAGES >= CHAINS ? CHAINS : (uint32_t)(pages / CHAIN_PAGES) + 1;
    epoch->roomy = epoch->trouble == TROUBLE_NONE && random_below(rng, 2) == 0;
    epoch->capacity = epoch->roomy ? 160 * MIB : (4 + random_below(rng, 12)) * MIB;
    if (epoch->trouble == TROUBLE_FULL)
        epoch->capacity = 1024 * MIB; /* more than the disk has */
    epoch->segment_bytes = (uint64_t)64 << (10 + random_below(rng, epoch->roomy ? 6 : 3));
    epoch->put_budget = epoch->roomy ? 64 * MIB : UINT64_MAX;
}

void
ledger_begin_epoch(struct ledger *ledger)
{
    atomic_store(&ledger->calls, 0);
    atomic_store(&ledger->put_bytes, 0);
    for (size_t i = 0; i < PAGES; i++)
        atomic_store(&ledger->state[i], PAGE_ABSENT);
    memset(ledger->put_call, 0, sizeof(ledger->put_call));
}

void
ledger_forget(struct ledger *ledger)
{
    for (size_t i = 0; i < PAGES; i++)
        atomic_store(&ledger->state[i], PAGE_MAYBE);
}

void
ledger_fail(struct ledger *ledger, const char *format, ...)
{
    va_list args;

    if (!atomic_flag_test_and_set(&ledger->failing)) {
        va_start(args, format);
        (void)vsnprintf(ledger->failure, sizeof(ledger->failure), format, args);
        va_end(args);
    }
    _exit(ROLE_FAILED);
}

size_t
page_index(uint32_t ns, uint32_t chain, uint32_t page)
{
    assert(ns < NAMESPACES && chain < CHAINS && page < CHAIN_PAGES);
    return ((size_t)ns * CHAINS + chain) * CHAIN_PAGES + page;
}

/* The same ids in all namespaces: a store that mixed them up would show. */
varve_id
soak_id(uint32_t chain, uint32_t page)
{
    struct random rng = random_make(page_index(0, chain, page));
    varve_id id;

    for (size_t i = 0; i < sizeof(id.bytes); i += sizeof(uint64_t)) {
        uint64_t word = random_next(&rng);

        memcpy(id.bytes + i, &word, sizeof(word));
    }
    return id;
}

size_t
soak_size(const struct epoch *epoch, uint32_t ns, uint32_t chain, uint32_t page)
{
    uint64_t word = random_mix(page_index(ns, chain, page));

    switch (word % 4) {
    case 0:
        return epoch->size_max;
    case 1:
        return (size_t)(word >> 8) % (epoch->size_max / 8 + 1);
    default:
        return (size_t)(word >> 8) % ((size_t)epoch->size_max + 1);
    }
}

static uint64_t
soak_word(size_t page, size_t i)
{
    return random_mix(random_mix(page) + i);
}

void
soak_fill(uint32_t ns, uint32_t chain, uint32_t page, uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word = soak_word(page_index(ns, chain, page), at);

        memcpy(bytes + at, &word, size - at < sizeof(word) ? size - at : sizeof(word));
    }
}

bool
soak_right(uint32_t ns, uint32_t chain, uint32_t page, const uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
        uint64_t word = soak_word(page_index(ns, chain, page), at);

        if (memcmp(bytes + at, &word, size - at < sizeof(word) ? size - at : sizeof(word)) != 0)
            return false;
    }
    return true;
}
