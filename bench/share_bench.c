/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share_bench - what it costs to be a peer: gets and puts of batches of 128 pages by the owner and by a peer, probes of 128 pages by both, and gets of several
 * processes at once beside the raw disk. Owner and peer take turns, for ROUNDS rounds; medians are printed. All processes are forked before they
 * open anything.
 * Run: build/bench/share_bench DIR [--bytes=SIZE] [--processes=N]
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "cli.h"
#include "directory.h"
#include "page_buffers.h"
#include "random.h"
#include "varve.h"

#define BATCH         128
#define ROUNDS        5
#define PROBES        2000
#define PROCESSES_MAX 64

enum work { WORK_PUT, WORK_GET, WORK_PROBE, WORKS };

static const char *const work_names[] = {"put", "get", "probe"};

/* Shared by all processes. */
struct shared {
    _Atomic int begin; /* the process whose turn it is, or -1; -2: all at once */
    _Atomic int ready; /* processes that have the store open */
    _Atomic int done;  /* processes that have ended their turn */
    _Atomic int round; /* counts turns */
    _Atomic uint32_t work;
    _Atomic uint64_t first; /* chain of the turn */
    atomic_bool stop;
    double seconds[PROCESSES_MAX];
    double probe_us[PROCESSES_MAX];
};

struct bench {
    struct shared *shared;
    const char *dir;
    uint64_t page_bytes;
    uint64_t chains; /* a turn puts or gets, of BATCH pages */
    int processes;
};

static void
must(bool holds, const char *what)
{
    if (!holds) {
        (void)fprintf(stderr, "share_bench: %s\n", what);
        exit(EXIT_FAILURE);
    }
}

static void
set_ids(struct page_buffers *buffers, uint64_t chain)
{
    for (uint64_t i = 0; i < BATCH; i++) {
        memset(&buffers->pages[i].id, 0, sizeof(varve_id));
        memcpy(buffers->pages[i].id.bytes, &(uint64_t[2]){random_mix(chain * BATCH + i), chain}, 16);
    }
}

static int
compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

static double
median(double *values, size_t count)
{
    qsort(values, count, sizeof(values[0]), compare_doubles);
    return values[count / 2];
}

static void
transfer(const struct bench *bench, varve_store *store, varve_namespace *ns, struct page_buffers *buffers)
{
    bool put = atomic_load(&bench->shared->work) == WORK_PUT;

    for (uint64_t i = 0; i < bench->chains; i++) {
        set_ids(buffers, atomic_load(&bench->shared->first) + i);
        if (put)
            (void)varve_put_batch(store, ns, NULL, buffers->pages, BATCH, 0, NULL);
        else
            (void)varve_get_batch(store, ns, buffers->pages, BATCH, NULL);
        for (size_t page = 0; page < BATCH; page++)
            must(buffers->pages[page].status == VARVE_OK, "a page was not put or got");
    }
}

/* Median time of a probe that finds all. */
static double
probe(const struct bench *bench, varve_store *store, varve_namespace *ns, struct page_buffers *buffers)
{
    static double times_us[PROBES];
    varve_id ids[BATCH];

    for (uint64_t i = 0; i < PROBES; i++) {
        uint64_t began_ns;

        set_ids(buffers, atomic_load(&bench->shared->first) + i % bench->chains);
        for (size_t page = 0; page < BATCH; page++)
            ids[page] = buffers->pages[page].id;
        began_ns = cli_now_ns();
        must(varve_probe(store, ns, ids, BATCH, NULL, NULL) == BATCH, "a probe missed");
        times_us[i] = (double)(cli_now_ns() - began_ns) / 1e3;
    }
    return median(times_us, PROBES);
}

static void
take_turn(const struct bench *bench, int index, varve_store *store, varve_namespace *ns, struct page_buffers *buffers)
{
    uint64_t began_ns = cli_now_ns();

    if (atomic_load(&bench->shared->work) == WORK_PROBE)
        bench->shared->probe_us[index] = probe(bench, store, ns, buffers);
    else
        transfer(bench, store, ns, buffers);
    bench->shared->seconds[index] = (double)(cli_now_ns() - began_ns) / 1e9;
}

/* A process: index 0 is the owner. */
static void
process_main(const struct bench *bench, int index)
{
    struct shared *shared = bench->shared;
    struct page_buffers buffers;
    varve_store *store;
    varve_namespace *ns;
    int round = 0, exit_code;

    while (atomic_load(&shared->ready) < index)
        (void)usleep(1000);
    must(page_buffers_init(&buffers, BATCH, bench->page_bytes) == VARVE_OK, "out of memory");
    for (size_t i = 0; i < BATCH * bench->page_bytes; i += 8)
        memcpy(buffers.memory + i, &(uint64_t){random_mix(i)}, 8);
    store = cli_open(bench->dir, NULL, true, &exit_code);
    must(store != NULL && varve_namespace_open(store, "bench", NULL, &ns, NULL) == VARVE_OK, "open");
    atomic_fetch_add(&shared->ready, 1);
    while (!atomic_load(&shared->stop)) {
        int turn = atomic_load(&shared->round), whose;

        if (turn == round) {
            (void)usleep(200);
            continue;
        }
        round = turn;
        whose = atomic_load(&shared->begin);
        if (whose != index && whose != -2)
            continue;
        take_turn(bench, index, store, ns, &buffers);
        atomic_fetch_add(&shared->done, 1);
    }
    /* The owner last: nobody is to recover what is thrown away. */
    while (index == 0 && atomic_load(&shared->ready) > 1)
        (void)usleep(1000);
    (void)varve_close(store, NULL);
    atomic_fetch_sub(&shared->ready, 1);
    _exit(0);
}

/* Have one process, or (-2) all, do some work on the chains from `first` on. Wall seconds. */
static double
run_turn(const struct bench *bench, int whose, enum work work, uint64_t first)
{
    struct shared *shared = bench->shared;
    int wanted = whose == -2 ? bench->processes : 1;
    uint64_t began_ns;

    atomic_store(&shared->done, 0);
    atomic_store(&shared->begin, whose);
    atomic_store(&shared->work, (uint32_t)work);
    atomic_store(&shared->first, first);
    began_ns = cli_now_ns();
    atomic_fetch_add(&shared->round, 1);
    while (atomic_load(&shared->done) < wanted) {
        must(waitpid(-1, NULL, WNOHANG) <= 0, "a process ended");
        (void)usleep(200);
    }
    return whose == -2 ? (double)(cli_now_ns() - began_ns) / 1e9 : shared->seconds[whose];
}

static void
take_read(void *arg, const struct bench_result *result)
{
    if (strcmp(result->phase, "raw_read") == 0)
        *(double *)arg = (double)result->bytes / result->seconds / 1e9;
}

/* GB/s that one process reads, without a store. */
static double
measure_raw(const struct bench *bench)
{
    struct bench_settings settings = {.dir = bench->dir,
                                      .page_bytes = bench->page_bytes,
                                      .pages = bench->chains * BATCH,
                                      .batch = BATCH,
                                      .chain = BATCH,
                                      .seed = 1};
    struct page_content *content = page_content_create();
    double speed = 0;
    const struct bench_sink sink = {.result = take_read, .arg = &speed};
    char path[4096];

    (void)snprintf(path, sizeof(path), "%s.raw", bench->dir);
    must(content != NULL && bench_raw(&settings, path, content, &sink, NULL) == VARVE_OK && speed > 0,
         "the disk could not be measured");
    page_content_destroy(content);
    (void)directory_delete(path);
    return speed;
}

static void
measure(const struct bench *bench)
{
    double bytes = (double)(bench->chains * BATCH * bench->page_bytes);
    double results[2][WORKS][ROUNDS], together[ROUNDS], raw_reads[ROUNDS], parts[ROUNDS], part;

    for (uint64_t round = 0; round < ROUNDS; round++) {
        for (uint64_t turn = 0; turn < 2; turn++) {
            int whose = (int)((turn + round) % 2); /* who begins alternates */
            uint64_t first = (round * 2 + turn + 1) * bench->chains * 2;

            results[whose][WORK_PUT][round] = bytes / run_turn(bench, whose, WORK_PUT, first) / 1e9;
            results[whose][WORK_GET][round] = bytes / run_turn(bench, whose, WORK_GET, first) / 1e9;
            (void)run_turn(bench, whose, WORK_PROBE, first);
            results[whose][WORK_PROBE][round] = bench->shared->probe_us[whose];
        }
        together[round] =
            bytes * bench->processes / run_turn(bench, -2, WORK_GET, (round * 2 + 1) * bench->chains * 2) / 1e9;
        raw_reads[round] = measure_raw(bench);
        parts[round] = together[round] / raw_reads[round] * 100;
    }
    for (enum work work = WORK_PUT; work < WORKS; work++) {
        double owner = median(results[0][work], ROUNDS), peer = median(results[1][work], ROUNDS);

        (void)printf("%8llu-byte pages  %-5s  owner %7.3f  peer %7.3f %s  (%.0f %%)\n",
                     (unsigned long long)bench->page_bytes, work_names[work], owner, peer,
                     work == WORK_PROBE ? "us  " : "GB/s", peer / owner * 100);
    }
    part = median(parts, ROUNDS); /* sorts them */
    (void)printf("%8llu-byte pages  get, %d processes together %.3f GB/s; raw reads beside each round %.3f GB/s; "
                 "%.0f %% (%.0f to %.0f)\n",
                 (unsigned long long)bench->page_bytes, bench->processes, median(together, ROUNDS),
                 median(raw_reads, ROUNDS), part, parts[0], parts[ROUNDS - 1]);
}

static void
run(const char *dir, uint64_t page_bytes, uint64_t bytes, int processes)
{
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct bench bench = {.shared = shared, .dir = dir, .page_bytes = page_bytes, .processes = processes};

    must(shared != MAP_FAILED, "out of memory");
    bench.chains = bytes / (page_bytes * BATCH);
    atomic_store(&shared->begin, -1);
    must(bench.chains > 0, "--bytes must be a batch at least");
    for (int i = 0; i < processes; i++) {
        pid_t pid = fork();

        must(pid >= 0, "fork");
        if (pid == 0)
            process_main(&bench, i);
    }
    while (atomic_load(&shared->ready) < processes) {
        must(waitpid(-1, NULL, WNOHANG) <= 0, "a process ended");
        (void)usleep(1000);
    }
    measure(&bench);
    atomic_store(&shared->stop, true);
    while (wait(NULL) > 0)
        ;
    (void)directory_delete(dir);
    (void)munmap(shared, sizeof(*shared));
}

int
main(int argc, char **argv)
{
    static const uint64_t page_bytes[] = {64 << 10, 1 << 20};
    uint64_t bytes = UINT64_C(512) << 20;
    int processes = 8;

    must(argc >= 2, "usage: share_bench DIR [--bytes=SIZE] [--processes=N]");
    for (int i = 2; i < argc; i++) {
        if (strncmp(argv[i], "--bytes=", 8) == 0)
            must(cli_parse_size(argv[i] + 8, &bytes), "--bytes takes a size");
        else if (strncmp(argv[i], "--processes=", 12) == 0)
            processes = (int)strtol(argv[i] + 12, NULL, 10);
        else
            must(false, "usage: share_bench DIR [--bytes=SIZE] [--processes=N]");
    }
    must(processes >= 2 && processes <= PROCESSES_MAX, "--processes takes 2 to 64");
    for (size_t i = 0; i < sizeof(page_bytes) / sizeof(page_bytes[0]); i++)
        run(argv[1], page_bytes[i], bytes, processes);
    return 0;
}
