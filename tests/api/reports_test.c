/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls about the whole store, made by a peer: what it lists, checks and tunes is what the owner does. Owner and peer are two handles of one process here; that they
 * may be two processes is for share_test.c.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api_util.h"

#define SMALL_PAGES                                                                                                    \
    ((size_t)6000) /* more than a check does between two words of progress, and than an answer has rows */
#define SMALL_BYTES ((size_t)512)
#define BATCH       ((size_t)500)
#define ROWS_MAX    1024
#define DAMAGED     60

static const char *const settings[] = {"capacity=256M", "segment_bytes=4M", "peer_timeout_ms=20000", NULL};

struct pair {
    char path[PATH_BYTES];
    varve_store *owner, *peer;
    varve_namespace *owner_ns, *peer_ns;
};

static void
open_pair(struct pair *pair)
{
    scratch_create(pair->path);
    pair->owner = store_open_with(pair->path, settings);
    pair->peer = store_open_with(pair->path, settings);
    assert_int_equal(stat_value(pair->owner, "owner"), 1);
    assert_int_equal(stat_value(pair->peer, "owner"), 0);
    pair->owner_ns = namespace_get(pair->owner, "test");
    pair->peer_ns = namespace_get(pair->peer, "test");
}

static void
close_pair(struct pair *pair)
{
    store_close(pair->peer);
    store_close(pair->owner);
    scratch_remove(pair->path);
}

static void
put_small(varve_store *store, varve_namespace *ns, uint64_t chain, size_t count)
{
    for (size_t first = 0; first < count; first += BATCH) {
        varve_id parent = page_id(chain, first - 1);
        size_t batch_count = count - first < BATCH ? count - first : BATCH;
        struct batch batch;

        batch_init(&batch, chain, first, batch_count, SMALL_BYTES, 0);
        batch_fill(&batch);
        batch_put(store, ns, first == 0 ? NULL : &parent, &batch);
        batch_free(&batch);
    }
}

/* Pages in three namespaces, of which one was cleared, and removed ones among them. */
static void
fill(struct pair *pair)
{
    varve_id removed[3] = {page_id(1, 0), page_id(1, 700), page_id(2, 39)};

    put_small(pair->owner, pair->owner_ns, 1, SMALL_PAGES);
    put_small(pair->peer, pair->peer_ns, 2, 40);
    put_small(pair->peer, namespace_get(pair->peer, "another"), 3, 300);
    put_small(pair->owner, namespace_get(pair->owner, "third"), 4, 20);
    assert_int_equal(varve_namespace_clear(pair->owner, namespace_get(pair->owner, "third"), NULL), VARVE_OK);
    assert_int_equal(varve_remove_batch(pair->peer, pair->peer_ns, removed, 3, NULL), 3);
}

/* Both list the same; returns how many rows. */
static size_t
compare_rows(struct pair *pair, bool one_namespace, enum varve_iter_kind kind)
{
    varve_iter *iters[2];
    varve_item items[2] = {VARVE_ITEM_INIT, VARVE_ITEM_INIT};
    size_t rows = 0;
    int rc;

    assert_int_equal(varve_iter_open(pair->owner, one_namespace ? pair->owner_ns : NULL, kind, &iters[0], NULL), 0);
    assert_int_equal(varve_iter_open(pair->peer, one_namespace ? pair->peer_ns : NULL, kind, &iters[1], NULL), 0);
    while ((rc = varve_iter_next(iters[0], &items[0], NULL)) == VARVE_OK) {
        assert_int_equal(varve_iter_next(iters[1], &items[1], NULL), VARVE_OK);
        assert_int_equal(items[0].namespace_name == NULL, items[1].namespace_name == NULL);
        if (items[0].namespace_name != NULL)
            assert_string_equal(items[0].namespace_name, items[1].namespace_name);
        items[1].namespace_name = items[0].namespace_name;
        assert_memory_equal(&items[0], &items[1], sizeof(items[0]));
        rows++;
    }
    assert_int_equal(rc, VARVE_MISS);
    for (int again = 0; again < 2; again++)
        assert_int_equal(varve_iter_next(iters[1], &items[1], NULL), VARVE_MISS);
    varve_iter_close(iters[0]);
    varve_iter_close(iters[1]);
    return rows;
}

static void
test_iterate(void **state)
{
    struct pair pair;
    varve_iter *iter;

    (void)state;
    open_pair(&pair);
    assert_int_equal(compare_rows(&pair, false, VARVE_ITER_PAGES), 0);
    fill(&pair);
    assert_int_equal(compare_rows(&pair, false, VARVE_ITER_NAMESPACES), 2);
    assert_true(compare_rows(&pair, false, VARVE_ITER_BRANCHES) >= 3);
    assert_true(compare_rows(&pair, false, VARVE_ITER_EXTENTS) >= 8);
    assert_int_equal(compare_rows(&pair, true, VARVE_ITER_PAGES), SMALL_PAGES + 40 - 3);
    assert_int_equal(compare_rows(&pair, false, VARVE_ITER_PAGES), SMALL_PAGES + 40 - 3 + 300);
    assert_int_equal(varve_iter_open(pair.peer, pair.owner_ns, VARVE_ITER_PAGES, &iter, NULL), VARVE_E_ARG);
    assert_int_equal(varve_iter_open(pair.peer, NULL, (enum varve_iter_kind)9, &iter, NULL), VARVE_E_ARG);
    close_pair(&pair);
}

/* The owner goes in the middle: that is said, and the next listing is complete. */
static void
test_iterate_owner_gone(void **state)
{
    struct pair pair;
    varve_item item = VARVE_ITEM_INIT;
    varve_error err = {0};
    varve_iter *iter;
    size_t rows = 0;
    int rc;

    (void)state;
    open_pair(&pair);
    fill(&pair);
    assert_int_equal(varve_iter_open(pair.peer, NULL, VARVE_ITER_PAGES, &iter, NULL), VARVE_OK);
    assert_int_equal(varve_iter_next(iter, &item, NULL), VARVE_OK);
    store_close(pair.owner);
    while ((rc = varve_iter_next(iter, &item, &err)) == VARVE_OK)
        rows++;
    assert_int_equal(rc, VARVE_E_TIMEOUT);
    assert_true(rows < SMALL_PAGES && strstr(err.message, "anew") != NULL);
    assert_int_equal(varve_iter_next(iter, &item, &err), VARVE_E_TIMEOUT);
    varve_iter_close(iter);
    assert_int_equal(varve_iter_open(pair.peer, NULL, VARVE_ITER_PAGES, &iter, NULL), VARVE_OK);
    for (rows = 0; varve_iter_next(iter, &item, NULL) == VARVE_OK;)
        rows++;
    assert_int_equal(rows, SMALL_PAGES + 40 - 3 + 300);
    varve_iter_close(iter);
    assert_int_equal(stat_value(pair.peer, "owner"), 1);
    store_close(pair.peer);
    scratch_remove(pair.path);
}

/* What a child of fork() is told: nothing of the store is its. 0: as it should be. */
static int
calls_of_child(const struct pair *pair, varve_iter *iter)
{
    varve_item item = VARVE_ITEM_INIT;
    varve_error err = {0};

    if (varve_iter_next(iter, &item, &err) != VARVE_E_ARG || strstr(err.message, "fork") == NULL)
        return 1;
    return stat_value(pair->peer, "capacity_bytes") == 0 && stat_value(pair->owner, "capacity_bytes") == 0 &&
                   stat_value(pair->peer, "put_pages") > 0
               ? 0
               : 2;
}

/* A child that goes on with what its parent began takes nothing of it away. */
static void
test_iterate_forked(void **state)
{
    struct pair pair;
    varve_item item = VARVE_ITEM_INIT;
    uint64_t asked;
    size_t rows = 0;
    pid_t child;
    int status;

    (void)state;
    open_pair(&pair);
    fill(&pair);
    for (int own = 0; own < 2; own++) {
        varve_iter *iter;

        assert_int_equal(varve_iter_open(own ? pair.owner : pair.peer, NULL, VARVE_ITER_PAGES, &iter, NULL), VARVE_OK);
        for (rows = 0; rows < 10; rows++)
            assert_int_equal(varve_iter_next(iter, &item, NULL), VARVE_OK);
        asked = stat_value(pair.owner, "peer_calls");
        child = fork();
        assert_true(child >= 0);
        if (child == 0)
            _exit(calls_of_child(&pair, iter));
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        assert_int_equal(stat_value(pair.owner, "peer_calls"), asked);
        while (varve_iter_next(iter, &item, NULL) == VARVE_OK)
            rows++;
        assert_int_equal(rows, SMALL_PAGES + 40 - 3 + 300);
        varve_iter_close(iter);
    }
    close_pair(&pair);
}

struct heard {
    unsigned problems, progress;
    uint64_t done, total;
    char text[256];
};

/* Slower than they are found: those that follow have come when this one was heard. */
static void
hear_problem(void *arg, const char *text)
{
    struct heard *heard = arg;

    (void)usleep(2000);
    heard->problems++;
    (void)snprintf(heard->text, sizeof(heard->text), "%s", text);
}

static void
hear_progress(void *arg, uint64_t done, uint64_t total)
{
    struct heard *heard = arg;

    heard->progress++;
    heard->done = done;
    heard->total = total;
}

static varve_check_report
check(varve_store *store, unsigned flags, struct heard *heard)
{
    varve_check_report report = VARVE_CHECK_REPORT_INIT;

    *heard = (struct heard){0};
    assert_int_equal(varve_check(store, flags, hear_problem, hear_progress, heard, &report, NULL), VARVE_OK);
    assert_int_equal(report.problems, heard->problems);
    return report;
}

/* Change a byte of the page's payload on the disk. */
static void
damage(const struct pair *pair, const varve_item *item)
{
    char path[PATH_BYTES + 32];
    uint8_t byte;
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%016llx.seg", pair->path, (unsigned long long)item->segment);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)item->offset + 5), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)item->offset + 5), 1);
    assert_int_equal(fsync(fd), 0);
    (void)close(fd);
}

static void
test_check(void **state)
{
    varve_item item = VARVE_ITEM_INIT;
    varve_check_report mine, theirs;
    struct heard own, asked;
    struct pair pair;
    varve_iter *iter;

    (void)state;
    open_pair(&pair);
    fill(&pair);
    mine = check(pair.owner, VARVE_CHECK_DEEP, &own);
    theirs = check(pair.peer, VARVE_CHECK_DEEP, &asked);
    assert_memory_equal(&mine, &theirs, sizeof(mine));
    assert_int_equal(theirs.problems, 0);
    assert_int_equal(theirs.pages_verified, SMALL_PAGES + 40 - 3 + 300 + 20);
    assert_true(asked.progress > 0 && asked.progress == own.progress);
    assert_true(asked.done >= 4000 && asked.total >= asked.done);

    assert_int_equal(varve_iter_open(pair.peer, pair.peer_ns, VARVE_ITER_PAGES, &iter, NULL), VARVE_OK);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(varve_iter_next(iter, &item, NULL), VARVE_OK);
        if (i >= 300 - DAMAGED)
            damage(&pair, &item);
    }
    varve_iter_close(iter);
    assert_int_equal(check(pair.peer, 0, &asked).problems, 0);
    assert_int_equal(check(pair.peer, VARVE_CHECK_DEEP, &asked).problems, DAMAGED);
    assert_non_null(strstr(asked.text, "fails its checksum"));
    assert_int_equal(stat_value(pair.peer, "peer_reconnects"), 0);
    assert_int_equal(varve_check(pair.peer, 8, NULL, NULL, NULL, &mine, NULL), VARVE_E_ARG);
    close_pair(&pair);
}

/* A file that is gone is found out by a peer as by the owner: its pages are misses, forgotten, and stored anew. */
static void
test_lost_segment(void **state)
{
    const uint64_t chain = 5;
    const varve_id id = page_id(chain, 0);
    varve_item item = VARVE_ITEM_INIT;
    char path[PATH_BYTES + 32];
    struct batch batch;
    struct pair pair;
    varve_iter *iter;

    (void)state;
    open_pair(&pair);
    put_small(pair.owner, pair.owner_ns, chain, 1);
    store_close(pair.peer);
    store_close(pair.owner); /* which has the file open */
    pair.owner = store_open_with(pair.path, settings);
    pair.peer = store_open_with(pair.path, settings);
    pair.peer_ns = namespace_get(pair.peer, "test");
    assert_int_equal(varve_iter_open(pair.peer, NULL, VARVE_ITER_PAGES, &iter, NULL), VARVE_OK);
    assert_int_equal(varve_iter_next(iter, &item, NULL), VARVE_OK);
    varve_iter_close(iter);
    (void)snprintf(path, sizeof(path), "%s/%016llx.seg", pair.path, (unsigned long long)item.segment);
    assert_int_equal(unlink(path), 0);
    batch_init(&batch, chain, 0, 1, SMALL_BYTES, 0);
    assert_int_equal(varve_get_batch(pair.peer, pair.peer_ns, batch.pages, 1, NULL), VARVE_OK);
    assert_int_equal(batch.pages[0].status, VARVE_MISS);
    assert_int_equal(varve_probe(pair.peer, pair.peer_ns, &id, 1, NULL, NULL), 0);
    batch_free(&batch);
    chain_put(pair.peer, pair.peer_ns, chain, 1, SMALL_BYTES);
    close_pair(&pair);
}

static void
count_line(void *arg, const char *text)
{
    assert_true(*text != '\0');
    ++*(size_t *)arg;
}

/* The same mix is judged alike, with what the peer had the owner measure. */
static void
test_tune(void **state)
{
    static varve_tune_row mine[ROWS_MAX], theirs[ROWS_MAX];
    varve_tune_mix mix = VARVE_TUNE_MIX_INIT;
    size_t own_lines = 0, asked_lines = 0;
    struct pair pair;
    int64_t count;

    (void)state;
    open_pair(&pair);
    assert_int_equal(varve_tune_measure(pair.peer, 0.01, NULL), VARVE_MISS); /* no runs */
    fill(&pair);
    store_close(pair.owner);
    assert_int_equal(varve_sync(pair.peer, NULL), VARVE_OK); /* takes over */
    store_close(pair.peer);                                  /* and flushes */
    pair.peer = store_open_with(pair.path, settings);
    pair.owner = pair.peer;
    pair.peer = store_open_with(pair.path, settings);
    mix.pages_put = 20000;
    mix.walks = 300;
    mix.misses = 100;
    mix.walk_pages = 50;
    assert_int_equal(varve_tune_measure(pair.peer, 0.05, NULL), VARVE_OK);
    assert_true(stat_value(pair.owner, "index_searches") > 4000);
    count = varve_tune(pair.owner, &mix, mine, ROWS_MAX, NULL);
    assert_true(count > 100 && count <= ROWS_MAX);
    assert_int_equal(varve_tune(pair.peer, &mix, theirs, ROWS_MAX, NULL), count);
    assert_memory_equal(mine, theirs, (size_t)count * sizeof(mine[0]));
    assert_int_equal(varve_tune(pair.peer, &mix, theirs, 3, NULL), count);
    assert_int_equal(varve_tune(pair.peer, NULL, NULL, 0, NULL), count);
    assert_int_equal(varve_control_log(pair.owner, count_line, &own_lines),
                     varve_control_log(pair.peer, count_line, &asked_lines));
    assert_int_equal(own_lines, asked_lines);
    mix.walk_turns = 0;
    assert_int_equal(varve_tune(pair.peer, &mix, theirs, ROWS_MAX, NULL), VARVE_E_ARG);
    assert_int_equal(varve_tune_measure(pair.peer, -1, NULL), VARVE_E_ARG);
    assert_int_equal(varve_tune_measure(NULL, 1, NULL), VARVE_E_ARG);
    close_pair(&pair);
}

/* What gets and puts of a peer take comes to the owner's controller: with the next question, and no more than can be true. */
static void
test_time(void **state)
{
    struct pair pair;
    uint64_t get_us, put_us;

    (void)state;
    open_pair(&pair);
    chain_put(pair.peer, pair.peer_ns, 1, 64, 65536);
    chain_get(pair.peer, pair.peer_ns, 1, 64, 65536);
    assert_int_equal(chain_probe(pair.peer, pair.peer_ns, 1, 64), 64);
    put_us = stat_value(pair.owner, "peer_put_time_us");
    get_us = stat_value(pair.owner, "peer_get_time_us");
    assert_true(put_us > 0 && get_us > 0);
    assert_int_equal(chain_probe(pair.peer, pair.peer_ns, 1, 64), 64);
    assert_int_equal(stat_value(pair.owner, "peer_put_time_us"), put_us);
    assert_true(stat_value(pair.owner, "get_time_us") == 0);
    close_pair(&pair);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_iterate),      cmocka_unit_test(test_iterate_owner_gone),
        cmocka_unit_test(test_check),        cmocka_unit_test(test_tune),
        cmocka_unit_test(test_time),         cmocka_unit_test(test_iterate_forked),
        cmocka_unit_test(test_lost_segment),
    };

    scratch_require(UINT64_C(1) << 29);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
