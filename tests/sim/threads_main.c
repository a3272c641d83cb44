/* SPDX-License-Identifier: Apache-2.0 */
/* sim_threads: run the store with several clients at once, seed by seed. The first failure ends the process, with the line that repeats it. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim_log.h"
#include "sim_seeds.h"
#include "threads.h"

#define CALLS_DEFAULT 100
#define SECONDS_A_RUN 120 /* far more than any run takes */

struct arguments {
    struct threads_plan plan;
    uint64_t first, last;
    const char *file;
    bool twice, verbose;
};

static const char usage[] =
    "usage: sim_threads [--seed=N | --seeds=A..B | --file=SEEDS] [--faults] [--clients=N] [--ops=M] [--twice] "
    "[--verbose]\n"
    "  --seed=N      one run\n"
    "  --seeds=A..B  one run for each seed from A to B\n"
    "  --file=SEEDS  the runs named in the file, a line each: SEED OPS [faults], then # and why\n"
    "  --faults      operations and allocations fail in the middle of calls; what was acknowledged is there "
    "afterwards\n"
    "  --clients=N   threads that call the store (default: drawn from the seed, 2 to 6)\n"
    "  --ops=M       calls a run, of all clients together (default 100)\n"
    "  --twice       every run two times: both must do the same\n"
    "  --verbose     print every call, every operation of the disk, and every change of thread\n";

static char repro[128]; /* of the present run */

static void
run_one(const struct arguments *args, uint64_t seed, uint64_t calls, bool faults, struct threads_totals *totals)
{
    struct threads_plan plan = args->plan;
    uint64_t before = totals->digest, first;
    char clients[32] = "";

    plan.seed = seed;
    plan.calls = calls;
    plan.faults = faults;
    plan.trace = args->verbose;
    if (plan.clients > 0)
        (void)snprintf(clients, sizeof(clients), " --clients=%" PRIu32, plan.clients);
    (void)snprintf(repro, sizeof(repro), "build/tests/sim/sim_threads --seed=%#" PRIx64 " --ops=%" PRIu64 "%s%s", seed,
                   calls, plan.faults ? " --faults" : "", clients);
    sim_log_begin(repro);
    sim_watchdog(SECONDS_A_RUN);
    threads_run(&plan, totals);
    if (!args->twice)
        return;
    first = totals->digest;
    totals->digest = before;
    threads_run(&plan, totals);
    if (totals->digest != first)
        sim_fail("the same seed made two different runs");
}

struct file_runs {
    const struct arguments *args;
    struct threads_totals *totals;
};

static bool
run_named(void *arg, uint64_t seed, uint64_t calls, const char *how)
{
    const struct file_runs *runs = arg;
    bool faults = strcmp(how, "faults") == 0;

    if (!faults && *how != '\0')
        return false;
    run_one(runs->args, seed, calls, faults, runs->totals);
    return true;
}

static bool
parse(int argc, char **argv, struct arguments *args)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'},
                                            {"seeds", required_argument, NULL, 'r'},
                                            {"file", required_argument, NULL, 'f'},
                                            {"ops", required_argument, NULL, 'o'},
                                            {"clients", required_argument, NULL, 'c'},
                                            {"twice", no_argument, NULL, 't'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {"faults", no_argument, NULL, 'e'},
                                            {NULL, 0, NULL, 0}};
    char *rest = NULL;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 's':
            args->first = args->last = strtoull(optarg, &rest, 0);
            break;
        case 'r':
            if (!sim_seeds_range(optarg, &args->first, &args->last))
                return false;
            break;
        case 'f':
            args->file = optarg;
            break;
        case 'o':
            args->plan.calls = strtoull(optarg, &rest, 0);
            break;
        case 'c':
            args->plan.clients = (uint32_t)strtoull(optarg, &rest, 0);
            break;
        case 'e':
            args->plan.faults = true;
            break;
        case 't':
            args->twice = true;
            break;
        case 'v':
            args->verbose = true;
            break;
        default:
            return false;
        }
        if (rest != NULL && *rest != '\0')
            return false;
    }
    return optind == argc && args->first <= args->last && args->plan.calls > 0 &&
           args->plan.clients <= THREADS_CLIENTS_MAX;
}

int
main(int argc, char **argv)
{
    struct arguments args = {.first = 1, .last = 1, .plan = {.calls = CALLS_DEFAULT}};
    struct threads_totals totals = {0};
    int64_t runs = 0;

    if (!parse(argc, argv, &args)) {
        (void)fputs(usage, stderr);
        return 2;
    }
    sim_log_verbose(args.verbose);
    sim_seeds_repro(repro);
    if (args.file != NULL)
        runs = sim_seeds_file(args.file, " [faults]", run_named, &(struct file_runs){&args, &totals});
    for (uint64_t seed = args.first; args.file == NULL && seed <= args.last; seed++) {
        run_one(&args, seed, args.plan.calls, args.plan.faults, &totals);
        runs++;
    }
    if (runs < 0)
        return 2;
    if (args.plan.faults)
        printf("faults hit %" PRIu64 ", calls failed %" PRIu64 ", opens refused %" PRIu64 ", lives read-only %" PRIu64
               "\n",
               totals.faults_hit, totals.calls_failed, totals.opens_refused, totals.read_only);
    printf("%" PRId64 " runs: %" PRIu64 " calls, %" PRIu64 " lives, %" PRIu64 " crashes, %" PRIu64
           " steps; pages put %" PRIu64 ", not for want of space %" PRIu64 ", read %" PRIu64 ", recovered %" PRIu64
           ", torn %" PRIu64 "; segments dropped %" PRIu64 ", flushes %" PRIu64 ", merges %" PRIu64
           "; digest %016" PRIx64 ": ok\n",
           runs, totals.calls, totals.lives, totals.crashes, totals.steps, totals.pages_put, totals.no_space,
           totals.pages_read, totals.recovered, totals.torn, totals.drops, totals.flushes, totals.merges,
           totals.digest);
    return 0;
}
