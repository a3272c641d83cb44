/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several processes on one directory: an owner and its peers, each a process of its own that does what it is told through a pipe. Bytes are verified
 * wherever they are read; owners and peers are killed and stopped.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "api_util.h"

#define CHAIN_PAGES 40
#define PAGE_SIZE   65536

#define THREADS       6
#define THREAD_CHAINS 12

/* What a helper process does. */
enum task {
    TASK_PUT,       /* a chain of CHAIN_PAGES */
    TASK_GET,       /* and verify it: pages right */
    TASK_PROBE,     /* pages found */
    TASK_EXISTS,    /* pages found */
    TASK_TOUCH,     /* pages found */
    TASK_REMOVE,    /* pages removed */
    TASK_CLEAR,     /* status */
    TASK_SYNC,      /* status */
    TASK_LIMIT,     /* status; argument: quota */
    TASK_STAT,      /* value of the statistic "owner" */
    TASK_PEERS,     /* value of the statistic "peers" */
    TASK_CAPACITY,  /* status; argument: MiB */
    TASK_CHECK,     /* problems, or a negative code */
    TASK_PUT_LOOP,  /* put chains from the argument on until killed; never answers */
    TASK_PUT_CODED, /* pages that were stored coded, of a chain of bf16 pages */
    TASK_GET_CODED, /* pages right */
    TASK_TIMED_GET, /* milliseconds that a get took */
    TASK_WAITS,     /* how many of 40 probes waited for an owner that hangs, beyond what the time they took explains */
    TASK_THREADS,   /* THREADS threads put and get chains from the argument on: those that are whole */
    TASK_CLOSE,     /* status; the process ends */
};

struct order {
    enum task task;
    uint64_t argument;
};

/* A process with the store open. */
struct helper {
    pid_t pid;
    int orders, answers;
};

static const char *const settings[] = {"capacity=768M", "segment_bytes=4M", "peer_timeout_ms=20000", NULL};
static const char *const impatient[] = {"capacity=256M", "segment_bytes=4M", "peer_timeout_ms=200", NULL};

static uint64_t
now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int64_t
get_right(varve_store *store, varve_namespace *ns, uint64_t chain)
{
    struct batch batch;
    int64_t right = 0;

    batch_init(&batch, chain, 0, CHAIN_PAGES, PAGE_SIZE, 0);
    batch_wipe(&batch);
    if (varve_get_batch(store, ns, batch.pages, batch.count, NULL) != VARVE_OK)
        return -1;
    for (size_t i = 0; i < batch.count; i++) {
        const varve_page *page = &batch.pages[i];

        if (page->status == VARVE_OK && !page_right(&page->id, batch.iov[i].iov_base, (size_t)page->size))
            return -2; /* a wrong byte */
        right += page->status == VARVE_OK;
    }
    batch_free(&batch);
    return right;
}

static int64_t
put_stored(varve_store *store, varve_namespace *ns, uint64_t chain)
{
    struct batch batch;
    int64_t stored = 0;

    batch_init(&batch, chain, 0, CHAIN_PAGES, PAGE_SIZE, 0);
    batch_fill(&batch);
    if (varve_put_batch(store, ns, NULL, batch.pages, batch.count, 0, NULL) != VARVE_OK)
        return -1;
    for (size_t i = 0; i < batch.count; i++)
        stored += batch.pages[i].status == VARVE_OK;
    batch_free(&batch);
    return stored;
}

static int64_t
by_ids(varve_store *store, varve_namespace *ns, enum task task, uint64_t chain)
{
    varve_id ids[CHAIN_PAGES];
    uint8_t exists[CHAIN_PAGES];
    int64_t found = 0;

    for (uint64_t i = 0; i < CHAIN_PAGES; i++)
        ids[i] = page_id(chain, i);
    if (task == TASK_PROBE)
        return varve_probe(store, ns, ids, CHAIN_PAGES, NULL, NULL);
    if (task == TASK_TOUCH)
        return varve_touch(store, ns, ids, CHAIN_PAGES, NULL);
    if (task == TASK_REMOVE)
        return varve_remove_batch(store, ns, ids, CHAIN_PAGES, NULL);
    if (varve_exists_batch(store, ns, ids, CHAIN_PAGES, exists, NULL) != VARVE_OK)
        return -1;
    for (size_t i = 0; i < CHAIN_PAGES; i++)
        found += exists[i];
    return found;
}

static int64_t
set_limit(varve_store *store, varve_namespace *ns, uint64_t quota)
{
    varve_namespace_limits limits = VARVE_NAMESPACE_LIMITS_INIT;

    limits.quota_bytes = quota;
    return varve_namespace_limits_set(store, ns, &limits, NULL);
}

static int64_t
run_check(varve_store *store)
{
    varve_check_report report = VARVE_CHECK_REPORT_INIT;
    int rc = varve_check(store, VARVE_CHECK_DEEP, NULL, NULL, NULL, &report, NULL);

    return rc < 0 ? rc : (int64_t)report.problems;
}

/* Pages of a namespace of floats, which get shorter when they are coded. */
static int64_t
coded_pages(varve_store *store, bool put, uint64_t chain)
{
    varve_namespace_attributes attributes = VARVE_NAMESPACE_ATTRIBUTES_INIT;
    uint64_t before = stat_value(store, "codec_put_pages");
    varve_namespace *ns;
    struct batch batch;
    int64_t right = 0;

    attributes.element_type = VARVE_ELEMENT_BF16;
    if (varve_namespace_open(store, "floats", &attributes, &ns, NULL) != VARVE_OK)
        return -1;
    batch_init(&batch, chain, 0, CHAIN_PAGES, PAGE_SIZE, 0);
    for (size_t i = 0; i < batch.bytes_size; i++)
        batch.bytes[i] = put ? (uint8_t)(i % 2 == 0 ? i * 7 : 0x3f) : 0;
    if (put)
        (void)varve_put_batch(store, ns, NULL, batch.pages, batch.count, 0, NULL);
    else
        (void)varve_get_batch(store, ns, batch.pages, batch.count, NULL);
    for (size_t i = 0; i < batch.count; i++) {
        const uint8_t *bytes = batch.iov[i].iov_base;
        bool same = batch.pages[i].status == VARVE_OK && batch.pages[i].size == PAGE_SIZE;

        for (size_t at = 0; same && at < PAGE_SIZE; at++) {
            size_t place = (size_t)(bytes - batch.bytes) + at;

            same = bytes[at] == (uint8_t)(place % 2 == 0 ? place * 7 : 0x3f);
        }
        right += same;
    }
    batch_free(&batch);
    return put ? (int64_t)(stat_value(store, "codec_put_pages") - before) : right;
}

struct thread {
    pthread_t thread;
    varve_store *store;
    varve_namespace *ns;
    uint64_t first;
    int64_t whole;
};

static void *
thread_main(void *arg)
{
    struct thread *thread = arg;

    for (uint64_t chain = thread->first; chain < thread->first + THREAD_CHAINS; chain++) {
        int64_t stored = put_stored(thread->store, thread->ns, chain);
        int64_t found = by_ids(thread->store, thread->ns, TASK_PROBE, chain);
        int64_t right = get_right(thread->store, thread->ns, chain);

        if (stored == CHAIN_PAGES && found == CHAIN_PAGES && right == CHAIN_PAGES)
            thread->whole++;
        else
            print_message("chain %d: %d pages stored, %d found, %d right\n", (int)chain, (int)stored, (int)found,
                          (int)right);
    }
    return NULL;
}

static int64_t
run_threads(varve_store *store, varve_namespace *ns, uint64_t first)
{
    struct thread threads[THREADS];
    int64_t whole = 0;

    for (uint64_t i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){.store = store, .ns = ns, .first = first + i * THREAD_CHAINS};
        if (pthread_create(&threads[i].thread, NULL, thread_main, &threads[i]) != 0)
            return -1;
    }
    for (size_t i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i].thread, NULL);
        whole += threads[i].whole;
    }
    return whole;
}

/* After a call that waited in vain, those of as long a time do not wait at all: so one of two time-outs is spent waiting, at most. */
static int64_t
excess_waits(varve_store *store, varve_namespace *ns)
{
    const uint64_t timeout_ms = 200; /* as in `impatient` */
    uint64_t began_ms = now_ms(), waits = stat_value(store, "peer_timeouts"), explained;

    for (int i = 0; i < 40; i++)
        (void)by_ids(store, ns, TASK_PROBE, 1);
    waits = stat_value(store, "peer_timeouts") - waits;
    explained = 2 + (now_ms() - began_ms) / (2 * timeout_ms);
    return waits > explained ? (int64_t)(waits - explained) : 0;
}

static int64_t
do_order(varve_store *store, varve_namespace *ns, const struct order *order)
{
    uint64_t began_ms = now_ms();
    char text[32];

    switch (order->task) {
    case TASK_PUT:
        return put_stored(store, ns, order->argument);
    case TASK_GET:
        return get_right(store, ns, order->argument);
    case TASK_CLEAR:
        return varve_namespace_clear(store, ns, NULL);
    case TASK_SYNC:
        return varve_sync(store, NULL);
    case TASK_LIMIT:
        return set_limit(store, ns, order->argument);
    case TASK_STAT:
        return (int64_t)stat_value(store, "owner");
    case TASK_PEERS:
        return (int64_t)stat_value(store, "peers");
    case TASK_CAPACITY:
        (void)snprintf(text, sizeof(text), "%dM", (int)order->argument);
        return varve_option_set(store, "capacity", text, NULL);
    case TASK_CHECK:
        return run_check(store);
    case TASK_PUT_LOOP:
        for (uint64_t chain = order->argument;; chain++)
            (void)put_stored(store, ns, chain);
    case TASK_TIMED_GET:
        (void)get_right(store, ns, order->argument);
        return (int64_t)(now_ms() - began_ms);
    case TASK_WAITS:
        return excess_waits(store, ns);
    case TASK_PUT_CODED:
    case TASK_GET_CODED:
        return coded_pages(store, order->task == TASK_PUT_CODED, order->argument);
    case TASK_THREADS:
        return run_threads(store, ns, order->argument);
    case TASK_CLOSE:
        return varve_close(store, NULL);
    case TASK_PROBE:
    case TASK_EXISTS:
    case TASK_TOUCH:
    case TASK_REMOVE:
        break;
    }
    return by_ids(store, ns, order->task, order->argument);
}

/* The life of a helper: exec'd would be the same, the store is opened after the fork. */
static void
helper_main(const char *path, const char *const *with, int orders, int answers)
{
    varve_store *store = store_open_with(path, with);
    varve_namespace *ns = namespace_get(store, "test");
    struct order order = {TASK_STAT, 0};

    do {
        int64_t answer = do_order(store, ns, &order);

        if (write(answers, &answer, sizeof(answer)) != sizeof(answer) || order.task == TASK_CLOSE)
            break;
    } while (read(orders, &order, sizeof(order)) == sizeof(order));
    _exit(0);
}

static int64_t
answer_of(const struct helper *helper)
{
    int64_t answer = INT64_MIN;

    if (read(helper->answers, &answer, sizeof(answer)) != sizeof(answer))
        return INT64_MIN;
    return answer;
}

static void
send_order(const struct helper *helper, enum task task, uint64_t argument)
{
    struct order order;

    memset(&order, 0, sizeof(order));
    order.task = task;
    order.argument = argument;
    assert_int_equal(write(helper->orders, &order, sizeof(order)), sizeof(order));
}

static int64_t
tell(const struct helper *helper, enum task task, uint64_t argument)
{
    send_order(helper, task, argument);
    return answer_of(helper);
}

/* A process that has the store open; whether it owns it is *owner. */
static struct helper
helper_start(const char *path, const char *const *with, bool *owner)
{
    struct helper helper;
    int orders[2], answers[2];
    int64_t answer;

    assert_int_equal(pipe2(orders, O_CLOEXEC), 0);
    assert_int_equal(pipe2(answers, O_CLOEXEC), 0);
    helper.pid = fork();
    assert_true(helper.pid >= 0);
    if (helper.pid == 0) {
        (void)close(orders[1]);
        (void)close(answers[0]);
        helper_main(path, with, orders[0], answers[1]);
    }
    (void)close(orders[0]);
    (void)close(answers[1]);
    helper.orders = orders[1];
    helper.answers = answers[0];
    answer = answer_of(&helper);
    assert_true(answer == 0 || answer == 1);
    *owner = answer == 1;
    return helper;
}

static void
helper_reap(struct helper *helper)
{
    (void)close(helper->orders);
    (void)close(helper->answers);
    assert_int_equal(waitpid(helper->pid, NULL, 0), helper->pid);
}

static void
helper_kill(struct helper *helper)
{
    assert_int_equal(kill(helper->pid, SIGKILL), 0);
    helper_reap(helper);
}

static void
helper_close(struct helper *helper)
{
    assert_int_equal(tell(helper, TASK_CLOSE, 0), VARVE_OK);
    helper_reap(helper);
}

/* The last process is gone: the directory is whole. */
static void
check_directory(const char *path)
{
    varve_store *store = store_open_with(path, settings);

    check_clean(store);
    store_close(store);
}

#define PEERS 3

/* An owner, which is helpers[0], and PEERS peers. */
static void
start_all(const char *path, const char *const *with, struct helper *helpers)
{
    for (int i = 0; i <= PEERS; i++) {
        bool owner;

        helpers[i] = helper_start(path, with, &owner);
        assert_int_equal(owner, i == 0);
    }
}

static void
test_calls(void **state)
{
    struct helper helpers[PEERS + 1];
    char path[PATH_BYTES], below[PATH_BYTES + 16];
    struct stat about;

    (void)state;
    scratch_create(path);
    start_all(path, settings, helpers);
    (void)snprintf(below, sizeof(below), "%s/SOCKET", path);
    assert_int_equal(stat(below, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    for (int writer = 0; writer <= PEERS; writer++) {
        uint64_t chain = 100 + (uint64_t)writer;

        assert_int_equal(tell(&helpers[writer], TASK_PUT, chain), CHAIN_PAGES);
        for (int reader = 0; reader <= PEERS; reader++) {
            assert_int_equal(tell(&helpers[reader], TASK_PROBE, chain), CHAIN_PAGES);
            assert_int_equal(tell(&helpers[reader], TASK_EXISTS, chain), CHAIN_PAGES);
            assert_int_equal(tell(&helpers[reader], TASK_GET, chain), CHAIN_PAGES);
            assert_int_equal(tell(&helpers[reader], TASK_TOUCH, chain), CHAIN_PAGES);
            assert_int_equal(tell(&helpers[reader], TASK_PUT, chain), CHAIN_PAGES); /* stored already */
        }
        assert_int_equal(tell(&helpers[(writer + 1) % (PEERS + 1)], TASK_REMOVE, chain), CHAIN_PAGES);
        for (int reader = 0; reader <= PEERS; reader++) {
            assert_int_equal(tell(&helpers[reader], TASK_PROBE, chain), 0);
            assert_int_equal(tell(&helpers[reader], TASK_GET, chain), 0);
        }
        assert_int_equal(tell(&helpers[writer], TASK_PUT, chain), CHAIN_PAGES);
    }
    assert_int_equal(tell(&helpers[1], TASK_SYNC, 0), VARVE_OK);
    assert_int_equal(tell(&helpers[1], TASK_LIMIT, UINT64_C(1) << 30), VARVE_OK);
    assert_int_equal(tell(&helpers[1], TASK_CAPACITY, 200), VARVE_OK);
    assert_int_equal(tell(&helpers[1], TASK_CHECK, 0), 0);
    assert_int_equal(tell(&helpers[0], TASK_CHECK, 0), 0);
    assert_true(tell(&helpers[2], TASK_PEERS, 0) >= PEERS);
    /* Cleared by one, and gone for all, who go on under its new number. */
    assert_int_equal(tell(&helpers[2], TASK_CLEAR, 0), VARVE_OK);
    for (int i = 0; i <= PEERS; i++)
        assert_int_equal(tell(&helpers[i], TASK_PROBE, 100), 0);
    assert_int_equal(tell(&helpers[3], TASK_PUT, 7), CHAIN_PAGES);
    for (int i = 0; i <= PEERS; i++)
        assert_int_equal(tell(&helpers[i], TASK_GET, 7), CHAIN_PAGES);
    for (int i = PEERS; i >= 0; i--)
        helper_close(&helpers[i]);
    assert_int_equal(stat(below, &about), -1);
    check_directory(path);
    scratch_remove(path);
}

/* Who is the owner of these? */
static int
owner_of(const struct helper *helpers, int from)
{
    for (int i = from; i <= PEERS; i++) {
        if (tell(&helpers[i], TASK_STAT, 0) == 1)
            return i;
    }
    return -1;
}

static void
test_owner_killed(void **state)
{
    struct helper helpers[PEERS + 1];
    char path[PATH_BYTES];

    (void)state;
    scratch_create(path);
    start_all(path, settings, helpers);
    assert_int_equal(tell(&helpers[1], TASK_LIMIT, UINT64_C(1) << 30), VARVE_OK);
    for (int i = 0; i <= PEERS; i++)
        assert_int_equal(tell(&helpers[i], TASK_PUT, (uint64_t)i), CHAIN_PAGES);
    for (int killed = 0; killed < PEERS; killed++) {
        uint64_t began_ms;
        int owner = owner_of(helpers, killed);

        /* The owner is moved to the front, and killed while all others put. */
        struct helper moved = helpers[killed];

        assert_true(owner >= 0);
        helpers[killed] = helpers[owner];
        helpers[owner] = moved;
        for (int i = killed + 1; i <= PEERS; i++)
            send_order(&helpers[i], TASK_PUT, (uint64_t)killed * 10 + (uint64_t)i + 10);
        helper_kill(&helpers[killed]);
        began_ms = now_ms();
        for (int i = killed + 1; i <= PEERS; i++)
            assert_int_equal(answer_of(&helpers[i]), CHAIN_PAGES);
        print_message("all answered %d ms after the owner was killed\n", (int)(now_ms() - began_ms));
        for (int i = killed + 1; i <= PEERS; i++) {
            assert_int_equal(tell(&helpers[i], TASK_GET, 0), CHAIN_PAGES);
            assert_int_equal(tell(&helpers[i], TASK_GET, (uint64_t)killed * 10 + (uint64_t)i + 10), CHAIN_PAGES);
        }
    }
    assert_int_equal(tell(&helpers[PEERS], TASK_CHECK, 0), 0);
    helper_close(&helpers[PEERS]);
    check_directory(path);
    scratch_remove(path);
}

/* A process with many threads in the middle of calls takes over, and all of them go on. */
static void
test_threads(void **state)
{
    uint64_t seed = rng_seed(5);
    char path[PATH_BYTES];

    (void)state;
    for (uint64_t round = 0; round < 4; round++) {
        struct helper owner, peers[2];
        bool is_owner;

        scratch_create(path); /* anew: nothing is to be given up for want of room */
        owner = helper_start(path, settings, &is_owner);
        assert_true(is_owner);
        for (uint64_t i = 0; i < 2; i++) {
            peers[i] = helper_start(path, settings, &is_owner);
            send_order(&peers[i], TASK_THREADS, 10000 * (round + 1) + 1000 * i);
        }
        (void)usleep((unsigned)(rng_below(&seed, 150000)));
        helper_kill(&owner);
        for (int i = 0; i < 2; i++)
            assert_int_equal(answer_of(&peers[i]), THREADS * THREAD_CHAINS);
        assert_int_equal(tell(&peers[0], TASK_STAT, 0) + tell(&peers[1], TASK_STAT, 0), 1);
        helper_close(&peers[0]);
        helper_close(&peers[1]);
        check_directory(path);
        scratch_remove(path);
    }
}

/* One that closes while others use it is replaced as well. */
static void
test_owner_closes(void **state)
{
    struct helper helpers[PEERS + 1];
    char path[PATH_BYTES];

    (void)state;
    scratch_create(path);
    start_all(path, settings, helpers);
    for (uint64_t chain = 0; chain < 20; chain += 2) {
        send_order(&helpers[1], TASK_PUT, chain);
        send_order(&helpers[2], TASK_PUT, chain + 1);
        if (chain == 8)
            helper_close(&helpers[0]);
        assert_int_equal(answer_of(&helpers[1]), CHAIN_PAGES);
        assert_int_equal(answer_of(&helpers[2]), CHAIN_PAGES);
    }
    for (uint64_t chain = 0; chain < 20; chain++)
        assert_int_equal(tell(&helpers[3], TASK_GET, chain), CHAIN_PAGES);
    for (int i = 1; i <= PEERS; i++)
        helper_close(&helpers[i]);
    check_directory(path);
    scratch_remove(path);
}

static void
test_peer_killed(void **state)
{
    char path[PATH_BYTES];
    struct helper owner;
    uint64_t seed = rng_seed(1);
    bool is_owner;

    (void)state;
    scratch_create(path);
    owner = helper_start(path, settings, &is_owner);
    assert_true(is_owner);
    for (int round = 0; round < 10; round++) {
        struct helper peer = helper_start(path, settings, &is_owner);
        uint64_t first = 1000 * (uint64_t)round;

        assert_false(is_owner);
        send_order(&peer, TASK_PUT_LOOP, first);
        (void)usleep((unsigned)(1000 + rng_below(&seed, 60000)));
        helper_kill(&peer);
        /* What is found is right, and the owner goes on. */
        for (uint64_t chain = first; tell(&owner, TASK_PROBE, chain) > 0; chain++)
            assert_true(tell(&owner, TASK_GET, chain) >= 0);
        assert_int_equal(tell(&owner, TASK_PUT, first + 999), CHAIN_PAGES);
        assert_int_equal(tell(&owner, TASK_GET, first + 999), CHAIN_PAGES);
        assert_int_equal(tell(&owner, TASK_CHECK, 0), 0);
    }
    helper_close(&owner);
    check_directory(path);
    scratch_remove(path);
}

/* Coded by one process, decoded by another. */
static void
test_coded(void **state)
{
    static const char *const coded[] = {"capacity=256M", "segment_bytes=4M", "codec=on", NULL};
    struct helper helpers[PEERS + 1];
    char path[PATH_BYTES];

    (void)state;
    scratch_create(path);
    start_all(path, coded, helpers);
    for (int writer = 0; writer < 2; writer++) {
        assert_int_equal(tell(&helpers[writer], TASK_PUT_CODED, (uint64_t)writer), CHAIN_PAGES);
        for (int reader = 0; reader <= PEERS; reader++)
            assert_int_equal(tell(&helpers[reader], TASK_GET_CODED, (uint64_t)writer), CHAIN_PAGES);
    }
    for (int i = PEERS; i >= 0; i--)
        helper_close(&helpers[i]);
    check_directory(path);
    scratch_remove(path);
}

/* A peer with codec=auto finds out for itself, as an owner does: once a get has shown how fast the device is, extents are not left out for want of figures. */
static void
test_coded_auto(void **state)
{
    static const char *const automatic[] = {"capacity=256M", "segment_bytes=4M", NULL};
    varve_namespace_attributes attributes = VARVE_NAMESPACE_ATTRIBUTES_INIT;
    varve_store *owner, *peer;
    varve_namespace *ns;
    struct batch batch;
    char path[PATH_BYTES];

    (void)state;
    attributes.element_type = VARVE_ELEMENT_BF16;
    scratch_create(path);
    owner = store_open_with(path, automatic);
    peer = store_open_with(path, automatic);
    assert_int_equal(varve_namespace_open(peer, "tensors", &attributes, &ns, NULL), VARVE_OK);
    for (uint64_t chain = 0; chain < 3; chain++) {
        uint64_t left_out = stat_value(peer, "codec_left_out_unmeasured");

        batch_init(&batch, chain, 0, CHAIN_PAGES, PAGE_SIZE, 0);
        memset(batch.bytes, 1, batch.bytes_size); /* to be halved, at least */
        assert_int_equal(varve_put_batch(peer, ns, NULL, batch.pages, batch.count, 0, NULL), VARVE_OK);
        assert_int_equal(stat_value(peer, "codec_left_out_unmeasured") - left_out, chain == 0);
        assert_int_equal(varve_get_batch(peer, ns, batch.pages, batch.count, NULL), VARVE_OK);
        for (size_t i = 0; i < batch.bytes_size; i++)
            assert_int_equal(batch.bytes[i], 1);
        batch_free(&batch);
    }
    store_close(peer);
    check_clean(owner);
    store_close(owner);
    scratch_remove(path);
}

/* A stopped owner costs its peers misses, not their time; when it goes on, so do they. */
static void
test_owner_hangs(void **state)
{
    struct helper helpers[PEERS + 1];
    char path[PATH_BYTES];

    (void)state;
    scratch_create(path);
    start_all(path, impatient, helpers);
    assert_int_equal(tell(&helpers[1], TASK_PUT, 1), CHAIN_PAGES);
    assert_int_equal(tell(&helpers[2], TASK_GET, 1), CHAIN_PAGES);
    assert_int_equal(kill(helpers[0].pid, SIGSTOP), 0);
    assert_true(tell(&helpers[1], TASK_TIMED_GET, 1) < 2000);
    assert_int_equal(tell(&helpers[1], TASK_GET, 1), 0);
    assert_int_equal(tell(&helpers[2], TASK_PROBE, 1), 0);
    assert_int_equal(tell(&helpers[3], TASK_WAITS, 0), 0);
    assert_int_equal(tell(&helpers[1], TASK_PUT, 2), 0);
    assert_int_equal(tell(&helpers[1], TASK_SYNC, 0), VARVE_E_TIMEOUT);
    assert_int_equal(kill(helpers[0].pid, SIGCONT), 0);
    for (int tries = 0; tell(&helpers[1], TASK_GET, 1) != CHAIN_PAGES; tries++) {
        assert_true(tries < 1000);
        (void)usleep(10000);
    }
    assert_int_equal(tell(&helpers[1], TASK_PUT, 2), CHAIN_PAGES);
    for (int i = PEERS; i >= 0; i--)
        helper_close(&helpers[i]);
    check_directory(path);
    scratch_remove(path);
}

/* Bytes of files that a process has open, and that have no name any more. */
static uint64_t
unlinked_bytes(pid_t pid)
{
    char path[64], link[128], name[PATH_BYTES];
    uint64_t bytes = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    for (int fd = 0; fd < 1024; fd++) {
        struct stat about;
        ssize_t size;

        (void)snprintf(link, sizeof(link), "%s/%d", path, fd);
        size = readlink(link, name, sizeof(name) - 1);
        if (size <= 0)
            continue;
        name[size] = '\0';
        if (strstr(name, ".seg (deleted)") != NULL && stat(link, &about) == 0)
            bytes += (uint64_t)about.st_blocks * 512;
    }
    return bytes;
}

/* Dropped segments give their space back although peers have them open, and nobody reads anything else in their place. */
static void
test_churn(void **state)
{
    static const char *const small[] = {"capacity=24M", "segment_bytes=1M", NULL};
    struct helper helpers[PEERS + 1];
    char path[PATH_BYTES];

    (void)state;
    scratch_create(path);
    start_all(path, small, helpers);
    for (uint64_t chain = 0; chain < 60; chain += PEERS + 1) {
        for (int i = 0; i <= PEERS; i++)
            send_order(&helpers[i], TASK_PUT, chain + (uint64_t)i);
        for (int i = 0; i <= PEERS; i++)
            assert_true(answer_of(&helpers[i]) >= 0);
        for (int i = 0; i <= PEERS; i++)
            send_order(&helpers[i], TASK_GET, chain + (uint64_t)((i + 1) % (PEERS + 1)));
        for (int i = 0; i <= PEERS; i++)
            assert_true(answer_of(&helpers[i]) >= 0);
    }
    assert_int_equal(tell(&helpers[0], TASK_CHECK, 0), 0);
    for (int i = 0; i <= PEERS; i++)
        assert_int_equal(unlinked_bytes(helpers[i].pid), 0);
    for (int i = PEERS; i >= 0; i--)
        helper_close(&helpers[i]);
    check_directory(path);
    scratch_remove(path);
}

static void
test_fork(void **state)
{
    struct fixture *fixture = fixture_create(NULL);
    int status;
    pid_t child = fork();

    (void)state;
    assert_true(child >= 0);
    if (child == 0) {
        varve_id id = page_id(1, 1);
        varve_error err = {0};
        int64_t found = varve_probe(fixture->store, fixture->ns, &id, 1, NULL, &err);

        _exit(found == VARVE_E_ARG && strstr(err.message, "fork") != NULL &&
                      varve_close(fixture->store, NULL) == VARVE_E_ARG
                  ? 0
                  : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    chain_put(fixture->store, fixture->ns, 1, 3, 1000);
    fixture_destroy(fixture);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls),       cmocka_unit_test(test_owner_killed), cmocka_unit_test(test_owner_closes),
        cmocka_unit_test(test_peer_killed), cmocka_unit_test(test_owner_hangs),  cmocka_unit_test(test_churn),
        cmocka_unit_test(test_fork),        cmocka_unit_test(test_threads),      cmocka_unit_test(test_coded),
        cmocka_unit_test(test_coded_auto),
    };

    scratch_require((uint64_t)1 << 30);
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
