/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share_soak - several processes use one directory and are killed at random, the owner among them, and replaced.
 *
 * What they know of each chain of pages is in memory that they share: a word with a generation and whether it is stored, changed by the one process that has
 * claimed the chain. A get of a chain whose word says "stored", before and after, must bring every byte: nothing that was acknowledged may be lost. Every few
 * kills all processes end, some rounds by being killed together; the directory is opened by the parent alone and checked, deep.
 *
 * share_soak [--kills=N] [--processes=N] [--every=N] [--seed=N] [--dir=DIR]
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "directory.h"
#include "random.h"
#include "varve.h"

#define CHAINS        96
#define CHAIN_PAGES   12
#define PAGE_BYTES    16384
#define PROCESSES_MAX 64

/* Of a chain's word: generation << 8 | state. A claimed one has its process in place of the state. */
#define STATE_UNKNOWN 0u
#define STATE_STORED  1u
#define STATE_CLAIMED 2u /* and the index of the process */

struct shared {
    _Atomic uint64_t chains[CHAINS];
    _Atomic int owner; /* index of the process that said so last */
    atomic_bool stop;
    atomic_bool failed;
    _Atomic uint64_t calls, slowest_ms;
    _Atomic uint64_t kill_ms; /* when the last process was killed; 0: a call has ended since */
    _Atomic uint64_t slowest_after_kill_ms;
    char message[256];
};

struct soak {
    struct shared *shared;
    char dir[4096];
    uint64_t kills, every, seed;
    int processes;
    pid_t pids[PROCESSES_MAX];
    struct random rng;
};

/* One process. */
struct worker {
    struct shared *shared;
    int index;
    struct random rng;
    varve_store *store;
    varve_namespace *ns;
    uint8_t *memory;
    struct iovec iov[CHAIN_PAGES];
    varve_page pages[CHAIN_PAGES];
};

static uint64_t
now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void
fail(struct shared *shared, const char *what, uint64_t chain, int64_t value)
{
    if (!atomic_exchange(&shared->failed, true))
        (void)snprintf(shared->message, sizeof(shared->message), "%.160s: chain %" PRIu64 ", %" PRId64, what, chain,
                       value);
}

static void
raise_to(_Atomic uint64_t *most, uint64_t value)
{
    uint64_t before = atomic_load(most);

    while (value > before && !atomic_compare_exchange_weak(most, &before, value))
        ;
}

/* A call that began then has ended. */
static void
note_call(struct shared *shared, uint64_t began_ms)
{
    uint64_t ended_ms = now_ms(), kill_ms = atomic_load(&shared->kill_ms);

    atomic_fetch_add(&shared->calls, 1);
    raise_to(&shared->slowest_ms, ended_ms - began_ms);
    if (kill_ms != 0 && began_ms <= kill_ms)
        raise_to(&shared->slowest_after_kill_ms, ended_ms - kill_ms);
}

static varve_id
make_id(uint64_t chain, uint64_t page)
{
    struct random rng = random_make(chain * 1000003 + page);
    varve_id id;

    for (size_t i = 0; i < sizeof(id.bytes); i += 8) {
        uint64_t word = random_next(&rng);

        memcpy(id.bytes + i, &word, 8);
    }
    return id;
}

static uint64_t
content_seed(const varve_id *id)
{
    uint64_t seed;

    memcpy(&seed, id->bytes + 8, sizeof(seed));
    return seed;
}

/* A page's size follows from its id, too: some are not whole blocks. */
static size_t
page_size(const varve_id *id)
{
    return id->bytes[0] % 3 == 0 ? PAGE_BYTES - 100 - id->bytes[1] : PAGE_BYTES;
}

static void
prepare(struct worker *worker, uint64_t chain, bool fill)
{
    memset(worker->memory, 0, (size_t)CHAIN_PAGES * PAGE_BYTES);
    for (uint64_t i = 0; i < CHAIN_PAGES; i++) {
        varve_id id = make_id(chain, i);
        uint8_t *bytes = worker->memory + i * PAGE_BYTES;
        struct random rng = random_make(content_seed(&id));

        for (size_t at = 0; fill && at < PAGE_BYTES; at += 8) {
            uint64_t word = random_next(&rng);

            memcpy(bytes + at, &word, 8);
        }
        worker->iov[i] = (struct iovec){bytes, page_size(&id)};
        worker->pages[i] = (varve_page){.id = id, .iov = &worker->iov[i], .iov_count = 1};
    }
}

/* Pages that were read, all right; -1: a byte of one is wrong. */
static int
count_right(const struct worker *worker)
{
    int right = 0;

    for (size_t i = 0; i < CHAIN_PAGES; i++) {
        const varve_page *page = &worker->pages[i];
        struct random rng = random_make(content_seed(&page->id));
        const uint8_t *bytes = worker->iov[i].iov_base;

        if (page->status != VARVE_OK)
            continue;
        if (page->size != page_size(&page->id))
            return -1;
        for (size_t at = 0; at < page->size; at += 8) {
            uint64_t word = random_next(&rng);

            if (memcmp(bytes + at, &word, page->size - at < 8 ? (size_t)page->size - at : 8) != 0)
                return -1;
        }
        right++;
    }
    return right;
}

static void
get_chain(struct worker *worker, uint64_t chain)
{
    struct shared *shared = worker->shared;
    uint64_t before = atomic_load(&shared->chains[chain]), began_ms;
    int right;

    prepare(worker, chain, false);
    began_ms = now_ms();
    (void)varve_get_batch(worker->store, worker->ns, worker->pages, CHAIN_PAGES, NULL);
    note_call(shared, began_ms);
    right = count_right(worker);
    if (right < 0)
        fail(shared, "a wrong byte", chain, right);
    else if ((before & 0xff) == STATE_STORED && atomic_load(&shared->chains[chain]) == before && right != CHAIN_PAGES)
        fail(shared, "pages of a stored chain are gone; right are", chain, right);
}

static void
probe_chain(struct worker *worker, uint64_t chain)
{
    struct shared *shared = worker->shared;
    uint64_t before = atomic_load(&shared->chains[chain]), began_ms = now_ms();
    varve_id ids[CHAIN_PAGES];
    int64_t found;

    for (uint64_t i = 0; i < CHAIN_PAGES; i++)
        ids[i] = make_id(chain, i);
    found = varve_probe(worker->store, worker->ns, ids, CHAIN_PAGES, NULL, NULL);
    note_call(shared, began_ms);
    if ((before & 0xff) == STATE_STORED && atomic_load(&shared->chains[chain]) == before && found != CHAIN_PAGES)
        fail(shared, "a probe of a stored chain found", chain, found);
}

/* Put the chain, or remove it where it is stored and `may_remove`. */
static void
change_chain(struct worker *worker, uint64_t chain, bool may_remove)
{
    struct shared *shared = worker->shared;
    uint64_t before = atomic_load(&shared->chains[chain]), next = ((before >> 8) + 1) << 8, began_ms;
    bool removes = may_remove && (before & 0xff) == STATE_STORED, stored = false;

    if ((before & 0xff) >= STATE_CLAIMED ||
        !atomic_compare_exchange_strong(&shared->chains[chain], &before,
                                        next | (STATE_CLAIMED + (unsigned)worker->index)))
        return;
    prepare(worker, chain, true);
    began_ms = now_ms();
    if (removes) {
        varve_id ids[CHAIN_PAGES];

        for (uint64_t i = 0; i < CHAIN_PAGES; i++)
            ids[i] = worker->pages[i].id;
        (void)varve_remove_batch(worker->store, worker->ns, ids, CHAIN_PAGES, NULL);
    } else {
        unsigned flags = random_below(&worker->rng, 8) == 0 ? VARVE_PUT_SYNC : 0;

        (void)varve_put_batch(worker->store, worker->ns, NULL, worker->pages, CHAIN_PAGES, flags, NULL);
        stored = true;
        for (size_t i = 0; i < CHAIN_PAGES; i++)
            stored = stored && worker->pages[i].status == VARVE_OK;
        if (!stored)
            fail(shared, "a put failed", chain, worker->pages[CHAIN_PAGES - 1].status);
    }
    note_call(shared, began_ms);
    atomic_store(&shared->chains[chain], next | (stored ? STATE_STORED : STATE_UNKNOWN));
}

static void
set_option(varve_options *options, const char *name, const char *value)
{
    if (varve_options_set(options, name, value, NULL) != VARVE_OK)
        abort();
}

static varve_store *
open_store(const char *dir, struct shared *shared)
{
    varve_options *options = varve_options_create();
    varve_store *store = NULL;
    varve_error err = {0};

    if (options == NULL)
        abort();
    set_option(options, "capacity", "256M");
    set_option(options, "segment_bytes", "1M");
    set_option(options, "memtable_bytes", "128K");
    set_option(options, "peer_timeout_ms", "30000"); /* a miss is a failure here: none may come of waiting */
    if (varve_open(dir, options, &store, &err) != VARVE_OK)
        fail(shared, err.message, 0, err.code);
    varve_options_destroy(options);
    return store;
}

static bool
owns(varve_store *store)
{
    uint64_t values[256];
    size_t count = varve_stats_get(store, values, 256);

    for (size_t i = 0; i < count && i < 256; i++) {
        if (strcmp(varve_stat_describe(i)->name, "owner") == 0)
            return values[i] == 1;
    }
    abort();
}

static void
worker_run(struct worker *worker)
{
    struct shared *shared = worker->shared;

    for (uint64_t round = 0; !atomic_load(&shared->stop) && !atomic_load(&shared->failed); round++) {
        uint64_t chain = random_below(&worker->rng, CHAINS), what = random_below(&worker->rng, 10);

        if (round % 16 == 0 && owns(worker->store))
            atomic_store(&shared->owner, worker->index);
        if (what < 3)
            change_chain(worker, chain, what == 0);
        else if (what < 5)
            probe_chain(worker, chain);
        else
            get_chain(worker, chain);
    }
}

static bool
worker_open(struct worker *worker, const struct soak *soak)
{
    worker->shared = soak->shared;
    worker->memory = aligned_alloc(4096, (size_t)CHAIN_PAGES * PAGE_BYTES);
    worker->store = open_store(soak->dir, soak->shared);
    if (worker->memory == NULL)
        abort();
    if (worker->store != NULL && varve_namespace_open(worker->store, "soak", NULL, &worker->ns, NULL) != VARVE_OK)
        fail(soak->shared, "the namespace could not be opened", 0, 0);
    return worker->store != NULL && worker->ns != NULL;
}

static void
worker_close(struct worker *worker)
{
    if (worker->store != NULL && varve_close(worker->store, NULL) != VARVE_OK)
        fail(worker->shared, "close failed", 0, 0);
    free(worker->memory);
}

static void
start_worker(struct soak *soak, int index)
{
    uint64_t seed = random_next(&soak->rng);
    struct worker worker = {.index = index, .rng = random_make(seed)};
    pid_t pid = fork();

    if (pid < 0)
        abort();
    if (pid > 0) {
        soak->pids[index] = pid;
        return;
    }
    if (worker_open(&worker, soak))
        worker_run(&worker);
    worker_close(&worker);
    _exit(0);
}

static void
reap(struct soak *soak, int index)
{
    int status;

    if (waitpid(soak->pids[index], &status, 0) != soak->pids[index])
        abort();
    if (!WIFEXITED(status) && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
        fail(soak->shared, "a process ended by itself", (uint64_t)index, status);
    else if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        fail(soak->shared, "a process failed", (uint64_t)index, WEXITSTATUS(status));
}

/*
 * What processes that were killed had claimed may be stored or not. Said only when all have ended: the owner may still be doing what one of them asked for, and take
 * away what another has put since.
 */
static void
give_up_claims(struct soak *soak)
{
    for (uint64_t chain = 0; chain < CHAINS; chain++) {
        uint64_t word = atomic_load(&soak->shared->chains[chain]);

        if ((word & 0xff) >= STATE_CLAIMED)
            atomic_store(&soak->shared->chains[chain], ((word >> 8) + 1) << 8 | STATE_UNKNOWN);
    }
}

static void
print_problem(void *arg, const char *text)
{
    (void)arg;
    (void)fprintf(stderr, "problem: %s\n", text);
}

/* Nobody has the store open: everything that is known to be stored is there, and the files are as they should be. */
static void
verify(struct soak *soak)
{
    varve_check_report report = VARVE_CHECK_REPORT_INIT;
    struct worker worker = {.index = 0, .rng = random_make(1)};

    if (worker_open(&worker, soak)) {
        if (!owns(worker.store))
            fail(soak->shared, "somebody still has the store", 0, 0);
        for (uint64_t chain = 0; chain < CHAINS; chain++)
            get_chain(&worker, chain);
        if (varve_check(worker.store, VARVE_CHECK_DEEP, print_problem, NULL, NULL, &report, NULL) != VARVE_OK ||
            report.problems > 0)
            fail(soak->shared, "the check found problems", 0, (int64_t)report.problems);
    }
    worker_close(&worker);
}

static void
kill_one(struct soak *soak)
{
    int owner = atomic_load(&soak->shared->owner);
    int index = random_below(&soak->rng, 2) == 0 ? owner : (int)random_below(&soak->rng, (uint64_t)soak->processes);

    (void)usleep((unsigned)random_below(&soak->rng, 60000));
    atomic_store(&soak->shared->kill_ms, now_ms());
    (void)kill(soak->pids[index], SIGKILL);
    reap(soak, index);
    if (random_below(&soak->rng, 4) > 0) /* else there may be nobody yet who has noticed */
        (void)usleep((unsigned)random_below(&soak->rng, 30000));
    start_worker(soak, index);
}

/* Processes until so many were killed, and then none. */
static void
run_round(struct soak *soak, uint64_t kills)
{
    bool together = random_below(&soak->rng, 3) == 0;

    atomic_store(&soak->shared->stop, false);
    for (int i = 0; i < soak->processes; i++)
        start_worker(soak, i);
    (void)usleep(30000);
    for (uint64_t i = 0; i < kills && !atomic_load(&soak->shared->failed); i++)
        kill_one(soak);
    for (int i = 0; together && i < soak->processes; i++)
        (void)kill(soak->pids[i], SIGKILL);
    atomic_store(&soak->shared->stop, true);
    for (int i = 0; i < soak->processes; i++)
        reap(soak, i);
    give_up_claims(soak);
}

static void
parse(struct soak *soak, int argc, char **argv)
{
    const char *parent = ".";

    *soak = (struct soak){.kills = 20, .every = 5, .seed = 1, .processes = 8};
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--kills=", 8) == 0)
            soak->kills = strtoull(argv[i] + 8, NULL, 10);
        else if (strncmp(argv[i], "--every=", 8) == 0)
            soak->every = strtoull(argv[i] + 8, NULL, 10);
        else if (strncmp(argv[i], "--processes=", 12) == 0)
            soak->processes = (int)strtol(argv[i] + 12, NULL, 10);
        else if (strncmp(argv[i], "--seed=", 7) == 0)
            soak->seed = strtoull(argv[i] + 7, NULL, 10);
        else if (strncmp(argv[i], "--dir=", 6) == 0)
            parent = argv[i] + 6;
        else
            exit(2);
    }
    if (soak->every == 0 || soak->processes < 2 || soak->processes > PROCESSES_MAX)
        exit(2);
    (void)snprintf(soak->dir, sizeof(soak->dir), "%s/share_soak.%ld", parent, (long)getpid());
    soak->rng = random_make(soak->seed);
}

int
main(int argc, char **argv)
{
    struct soak soak;
    struct shared *shared;
    uint64_t done = 0;

    parse(&soak, argc, argv);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        abort();
    soak.shared = shared;
    while (done < soak.kills && !atomic_load(&shared->failed)) {
        uint64_t kills = soak.kills - done < soak.every ? soak.kills - done : soak.every;

        run_round(&soak, kills);
        verify(&soak);
        done += kills;
    }
    (void)printf("%" PRIu64 " kills, %" PRIu64 " calls; the slowest took %" PRIu64 " ms; all answered %" PRIu64
                 " ms after a kill (seed %" PRIu64 ")\n",
                 done, atomic_load(&shared->calls), atomic_load(&shared->slowest_ms),
                 atomic_load(&shared->slowest_after_kill_ms), soak.seed);
    if (atomic_load(&shared->failed)) {
        (void)printf("FAILED: %s; the directory is left: %s\n", shared->message, soak.dir);
        return 1;
    }
    return directory_delete(soak.dir) == 0 ? 0 : 1;
}
