/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share_bench - what it costs to be a peer: gets and puts of batches of 128 pages by the owner and by a peer, and probes of 128 pages by both; and puts, synced, and gets
 * of several processes at once, of SIZE each, beside as many bytes without a store, by as many processes and by one. Owner and peer take
 * turns, for ROUNDS rounds; medians are printed. All processes are forked before they open anything.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
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
#define ALL           (-2) /* whose turn it is */

#define TOGETHER_FIRST (UINT64_C(1) << 32) /* the first chain of all processes at once */

enum work { WORK_PUT, WORK_GET, WORK_PROBE, WORKS };

static const char *const work_names[] = {"put", "get", "probe"};

/* Shared by all processes. */
struct shared {
    _Atomic int begin; /* the process whose turn it is, -1, or ALL: at once, each with its own chains */
    _Atomic int ready; /* processes that have the store open */
    _Atomic int done;  /* processes that have ended their turn */
    _Atomic int round; /* counts turns */
    _Atomic uint32_t work;
    _Atomic uint64_t first; /* chain of the turn */
    atomic_bool stop;
    double seconds[PROCESSES_MAX];
    double probe_us[PROCESSES_MAX];
    _Atomic int raw_written;              /* processes without a store that have written */
    double raw_seconds[2][PROCESSES_MAX]; /* what these took: WORK_PUT, WORK_GET */
};

struct bench {
    struct shared *shared;
    const char *dir;
    uint64_t page_bytes;
    uint64_t chains; /* a turn puts or gets, of BATCH pages */
    int processes;
    bool whole;
};

static void
must(bool holds, const char *what)
{
    if (!holds) {
        (void)fprintf(stderr, "share_bench: %s\n", what);
        exit(EXIT_FAILURE);
    }
}

/* A process that ends with this one: what it waits for would not come any more. */
static pid_t
fork_child(void)
{
    pid_t pid = fork();

    must(pid >= 0, "fork");
    if (pid == 0)
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
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
transfer(const struct bench *bench, int index, varve_store *store, varve_namespace *ns, struct page_buffers *buffers)
{
    bool put = atomic_load(&bench->shared->work) == WORK_PUT, all = atomic_load(&bench->shared->begin) == ALL;
    uint64_t first = atomic_load(&bench->shared->first) + (all ? (uint64_t)index * bench->chains : 0);

    for (uint64_t i = 0; i < bench->chains; i++) {
        set_ids(buffers, first + i);
        if (put)
            (void)varve_put_batch(store, ns, NULL, buffers->pages, BATCH, 0, NULL);
        else
            (void)varve_get_batch(store, ns, buffers->pages, BATCH, NULL);
        for (size_t page = 0; page < BATCH; page++)
            must(buffers->pages[page].status == VARVE_OK, "a page was not put or got");
    }
    if (put && all)
        must(varve_sync(store, NULL) == VARVE_OK, "sync");
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
        transfer(bench, index, store, ns, buffers);
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
    for (size_t i = 0; bench->whole && i < BATCH; i++) {
        buffers.iovs[2 * i] = (struct iovec){buffers.memory + i * bench->page_bytes, (size_t)bench->page_bytes};
        buffers.pages[i].iov_count = 1;
    }
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
        if (whose != index && whose != ALL)
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

/* Have one process, or ALL, do some work on the chains from `first` on. Wall seconds. */
static double
run_turn(const struct bench *bench, int whose, enum work work, uint64_t first)
{
    struct shared *shared = bench->shared;
    int wanted = whose == ALL ? bench->processes : 1;
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
    return whose == ALL ? (double)(cli_now_ns() - began_ns) / 1e9 : shared->seconds[whose];
}

/* What all processes did together, by round, in GB/s. */
struct speeds {
    double store[ROUNDS];
    double raw[ROUNDS]; /* without a store, by as many processes */
    double raw_of_one[ROUNDS];
};

/* A process that writes and reads without a store. */
struct raw_process {
    const struct bench *bench;
    int index, count; /* of count processes */
};

/* All begin to read at once, when all have written. */
static void
take_raw(void *arg, const struct bench_result *result)
{
    const struct raw_process *process = arg;
    struct shared *shared = process->bench->shared;
    bool put = strcmp(result->phase, "raw_write") == 0;

    shared->raw_seconds[put ? WORK_PUT : WORK_GET][process->index] = result->seconds;
    atomic_fetch_add(&shared->raw_written, put ? 1 : 0);
    while (atomic_load(&shared->raw_written) < process->count)
        (void)usleep(200);
}

static void
raw_main(const struct raw_process *process)
{
    const struct bench *bench = process->bench;
    const struct bench_settings settings = {.dir = bench->dir,
                                            .page_bytes = bench->page_bytes,
                                            .pages =
                                                bench->chains * BATCH * (uint64_t)(bench->processes / process->count),
                                            .batch = BATCH,
                                            .chain = BATCH,
                                            .seed = 1};
    struct page_content *content = page_content_create();
    const struct bench_sink sink = {.result = take_raw, .arg = (void *)(uintptr_t)process};
    char path[4096];

    (void)snprintf(path, sizeof(path), "%s.raw%d", bench->dir, process->index);
    must(content != NULL && bench_raw(&settings, path, content, &sink, NULL) == VARVE_OK,
         "the disk could not be measured");
    (void)directory_delete(path);
    _exit(0);
}

static double
slowest(const double *seconds, int count)
{
    double most = 0;

    for (int i = 0; i < count; i++)
        most = seconds[i] > most ? seconds[i] : most;
    return most;
}

/* GB/s at which `count` processes, a divisor of all, write and read without a store what all processes of the store did. */
static void
measure_raw(const struct bench *bench, int count, double *write, double *read)
{
    struct shared *shared = bench->shared;
    double bytes = (double)(bench->chains * BATCH * bench->page_bytes) * bench->processes;

    atomic_store(&shared->raw_written, 0);
    for (int i = 0; i < count; i++) {
        const struct raw_process process = {.bench = bench, .index = i, .count = count};

        if (fork_child() == 0)
            raw_main(&process);
    }
    for (int i = 0; i < count; i++) {
        int status;

        must(wait(&status) > 0 && status == 0, "the disk could not be measured");
    }
    *write = bytes / slowest(shared->raw_seconds[WORK_PUT], count) / 1e9;
    *read = bytes / slowest(shared->raw_seconds[WORK_GET], count) / 1e9;
}

/* All processes at once, then as many without a store, then one. */
static void
measure_together(const struct bench *bench, uint64_t round, struct speeds *put, struct speeds *get)
{
    double bytes = (double)(bench->chains * BATCH * bench->page_bytes) * bench->processes;
    uint64_t first = TOGETHER_FIRST + round * (uint64_t)bench->processes * bench->chains;

    put->store[round] = bytes / run_turn(bench, ALL, WORK_PUT, first) / 1e9;
    get->store[round] = bytes / run_turn(bench, ALL, WORK_GET, first) / 1e9;
    measure_raw(bench, bench->processes, &put->raw[round], &get->raw[round]);
    measure_raw(bench, 1, &put->raw_of_one[round], &get->raw_of_one[round]);
}

static void
print_together(const struct bench *bench, const char *what, struct speeds *speeds)
{
    double parts[ROUNDS], part;

    for (size_t round = 0; round < ROUNDS; round++)
        parts[round] = speeds->store[round] / speeds->raw[round] * 100;
    part = median(parts, ROUNDS); /* sorts them */
    (void)printf(
        "%8llu-byte pages  %-5s  %d processes at once %7.3f GB/s  without a store %7.3f  (%.0f %%; %.0f to %.0f), "
        "one process without a store %7.3f\n",
        (unsigned long long)bench->page_bytes, what, bench->processes, median(speeds->store, ROUNDS),
        median(speeds->raw, ROUNDS), part, parts[0], parts[ROUNDS - 1], median(speeds->raw_of_one, ROUNDS));
}

static void
measure(const struct bench *bench)
{
    double bytes = (double)(bench->chains * BATCH * bench->page_bytes);
    double results[2][WORKS][ROUNDS];
    struct speeds put, get;

    for (uint64_t round = 0; round < ROUNDS; round++) {
        for (uint64_t turn = 0; turn < 2; turn++) {
            int whose = (int)((turn + round) % 2); /* who begins alternates */
            uint64_t first = (round * 2 + turn) * bench->chains;

            results[whose][WORK_PUT][round] = bytes / run_turn(bench, whose, WORK_PUT, first) / 1e9;
            results[whose][WORK_GET][round] = bytes / run_turn(bench, whose, WORK_GET, first) / 1e9;
            (void)run_turn(bench, whose, WORK_PROBE, first);
            results[whose][WORK_PROBE][round] = bench->shared->probe_us[whose];
        }
        measure_together(bench, round, &put, &get);
    }
    for (enum work work = WORK_PUT; work < WORKS; work++) {
        double owner = median(results[0][work], ROUNDS), peer = median(results[1][work], ROUNDS);

        (void)printf("%8llu-byte pages  %-5s  owner %7.3f  peer %7.3f %s  (%.0f %%)\n",
                     (unsigned long long)bench->page_bytes, work_names[work], owner, peer,
                     work == WORK_PROBE ? "us  " : "GB/s", peer / owner * 100);
    }
    print_together(bench, work_names[WORK_PUT], &put);
    print_together(bench, work_names[WORK_GET], &get);
}

static void
run(struct bench *bench, uint64_t bytes)
{
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    must(shared != MAP_FAILED, "out of memory");
    bench->shared = shared;
    bench->chains = bytes / (bench->page_bytes * BATCH);
    atomic_store(&shared->begin, -1);
    for (int i = 0; i < bench->processes; i++) {
        if (fork_child() == 0)
            process_main(bench, i);
    }
    while (atomic_load(&shared->ready) < bench->processes) {
        must(waitpid(-1, NULL, WNOHANG) <= 0, "a process ended");
        (void)usleep(1000);
    }
    measure(bench);
    atomic_store(&shared->stop, true);
    while (wait(NULL) > 0)
        ;
    (void)directory_delete(bench->dir);
    (void)munmap(shared, sizeof(*shared));
}

int
main(int argc, char **argv)
{
    static const uint64_t page_bytes[] = {64 << 10, 1 << 20};
    struct bench bench = {.whole = false};
    uint64_t bytes = UINT64_C(256) << 20, processes = 8;
    const struct cli_option options[] = {
        {"bytes", CLI_SIZE, &bytes, "SIZE", "what a process puts and gets in its turn (256M)", (uint64_t)BATCH << 20, 0,
         0},
        {"processes", CLI_U64, &processes, "N", "that share the store (8)", 2, PROCESSES_MAX, 0},
        {"whole", CLI_FLAG, &bench.whole, NULL, "a page is one piece of memory, as without a store; else two, K and V",
         0, 0, 0},
    };
    const struct cli_spec spec = {
        .name = "share_bench",
        .is_program = true,
        .operands = "DIR",
        .description = "What it costs to be a peer, and what processes get together beside the disk without a store.\n"
                       "DIR must be absent or empty. It is removed at the end, and DIR.raw* beside it.\n",
        .examples = "  share_bench /mnt/nvme/share --processes 8\n      pages of 64 KiB and of 1 MiB; takes 15 GB\n",
        .options = options,
        .option_count = sizeof(options) / sizeof(options[0]),
        .operands_min = 1,
        .operands_max = 1,
    };
    int exit_code;

    if (!cli_parse(&spec, &argc, &argv, &exit_code))
        return exit_code;
    must(rmdir(argv[0]) == 0 || errno == ENOENT, "DIR must be absent or empty: all in it is removed");
    bench.dir = argv[0];
    bench.processes = (int)processes;
    for (size_t i = 0; i < sizeof(page_bytes) / sizeof(page_bytes[0]); i++) {
        bench.page_bytes = page_bytes[i];
        run(&bench, bytes);
    }
    return 0;
}
