/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ranks of a server in one small store: each has a part of every page in a namespace of its own, and a request hits as far as all of them have its pages. That is
 * about as many as one rank hits that keeps whole pages in a store of the same size, though the ranks call in any order, and store later than they asked; and more than
 * ranks hit whose ids differ, so that nothing says which parts belong together.
 */
#include "api_util.h"

#include <stdio.h>
#include <string.h>

#define RANKS      4
#define PAGE_BYTES ((size_t)32768) /* of all ranks together */
#define SESSIONS   20
#define TURN_PAGES 48
#define TURNS_MAX  8
#define REQUESTS   200
#define RUNS       2

static const char *const small[] = {"capacity=48M", "memtable_bytes=256K", "codec=off", "sync_interval_ms=0", NULL};

struct put {
    uint64_t chain;
    size_t first, count;
};

struct server {
    varve_store *store;
    unsigned ranks;
    bool apart; /* their ids differ */
    varve_namespace *ns[RANKS];
    struct put late[RANKS]; /* that a rank has not come to yet; count 0: none */
    uint64_t rng;
};

static uint64_t
chain_of(const struct server *server, unsigned rank, uint64_t chain)
{
    return server->apart ? chain * RANKS + rank : chain;
}

static void
put_part(struct server *server, unsigned rank, const struct put *put)
{
    uint64_t chain = chain_of(server, rank, put->chain);
    varve_id parent;
    struct batch batch;

    if (put->count == 0)
        return;
    batch_init(&batch, chain, put->first, put->count, PAGE_BYTES / server->ranks, 0);
    if (put->first > 0)
        parent = page_id(chain, put->first - 1);
    assert_int_equal(varve_put_batch(server->store, server->ns[rank], put->first > 0 ? &parent : NULL, batch.pages,
                                     put->count, 0, NULL),
                     VARVE_OK);
    batch_free(&batch);
}

/* All ranks ask for a chain, from any one on. Returns the pages that all of them have. */
static size_t
probe(struct server *server, uint64_t chain, size_t count)
{
    unsigned first = (unsigned)rng_below(&server->rng, server->ranks);
    size_t hits = count;

    for (unsigned i = 0; i < server->ranks; i++) {
        unsigned rank = (first + i) % server->ranks;
        int64_t found = chain_probe(server->store, server->ns[rank], chain_of(server, rank, chain), count);

        assert_true(found >= 0);
        hits = (size_t)found < hits ? (size_t)found : hits;
    }
    return hits;
}

/* Hits of a hundred pages asked for, of sessions that grow, end, and are replaced by others. */
static double
serve(unsigned ranks, bool apart, uint64_t seed)
{
    struct fixture *fixture = fixture_create(small);
    struct server server = {.store = fixture->store, .ranks = ranks, .apart = apart, .rng = seed};
    uint64_t sessions[SESSIONS], turns[SESSIONS] = {0}, chains = 0, traffic = seed, asked = 0, hits = 0, lagging;
    char name[16];

    for (unsigned rank = 0; rank < ranks; rank++) {
        (void)snprintf(name, sizeof(name), "rank %u", rank);
        server.ns[rank] = namespace_get(fixture->store, name);
    }
    for (size_t i = 0; i < SESSIONS; i++)
        sessions[i] = ++chains;
    for (int request = 0; request < REQUESTS; request++) {
        uint64_t a = rng_below(&traffic, SESSIONS), b = rng_below(&traffic, SESSIONS), at = a < b ? a : b;
        struct put put = {.chain = sessions[at]};
        size_t count = ++turns[at] * TURN_PAGES;

        put.first = probe(&server, put.chain, count);
        put.count = count - put.first;
        asked += count;
        hits += put.first;
        lagging = rng_next(&traffic) % (1 << RANKS); /* a page is stored when all its parts are */
        for (unsigned rank = 0; rank < ranks; rank++) {
            put_part(&server, rank, &server.late[rank]);
            server.late[rank] = put;
            if (ranks == 1 ? lagging == 0 : (lagging >> rank & 1) == 0) {
                put_part(&server, rank, &put);
                server.late[rank].count = 0;
            }
        }
        if (turns[at] == TURNS_MAX) {
            sessions[at] = ++chains;
            turns[at] = 0;
        }
    }
    fixture_destroy(fixture);
    return 100.0 * (double)hits / (double)asked;
}

static void
test_ranks_hit_as_one(void **state)
{
    uint64_t seed = rng_seed(5);
    double one = 0, group = 0, apart = 0;

    (void)state;
    for (uint64_t run = 0; run < RUNS; run++) {
        one += serve(1, false, seed + run) / RUNS;
        group += serve(RANKS, false, seed + run) / RUNS;
        apart += serve(RANKS, true, seed + run) / RUNS;
    }
    print_message("one rank hits %.2f %%, %d ranks %.2f %%, with ids of their own %.2f %%\n", one, RANKS, group, apart);
    assert_true(one > 20 && one < 80); /* else there is nothing to see */
    assert_true(group > one - 6);
    assert_true(group > apart + 0.5);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ranks_hit_as_one)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
