/* SPDX-License-Identifier: Apache-2.0 */
/* sim_peers: run a store that several processes share, seed by seed. The first failure ends the process, with the line that repeats it. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "peers.h"
#include "sim_log.h"
#include "sim_seeds.h"

#define CALLS_DEFAULT 200
#define SECONDS_A_RUN 240 /* far more than any run takes */

struct arguments {
    uint64_t first, last, calls;
    const char *file;
    bool twice, require, verbose;
};

static const char usage[] =
    "usage: sim_peers [--seed=N | --seeds=A..B | --file=SEEDS] [--ops=M] [--twice] [--require] [--verbose]\n"
    "  --seed=N      one run\n"
    "  --seeds=A..B  one run for each seed from A to B\n"
    "  --file=SEEDS  the runs named in the file, a line each: SEED OPS, then # and why\n"
    "  --ops=M       calls a run, of all processes together (default 200)\n"
    "  --twice       every run two times: both must do the same\n"
    "  --require     fail when something that should happen now and then never did\n"
    "  --verbose     print every call, every operation of the disk, and every change of thread\n";

static char repro[128]; /* of the present run */

static void
run_one(const struct arguments *args, uint64_t seed, uint64_t calls, struct peers_totals *totals)
{
    const struct peers_plan plan = {.seed = seed, .calls = calls, .trace = args->verbose};
    uint64_t before = totals->digest, first;

    (void)snprintf(repro, sizeof(repro), "build/tests/sim/sim_peers --seed=%#" PRIx64 " --ops=%" PRIu64, seed, calls);
    sim_log_begin(repro);
    sim_watchdog(SECONDS_A_RUN);
    peers_run(&plan, totals);
    if (!args->twice)
        return;
    first = totals->digest;
    totals->digest = before;
    peers_run(&plan, totals);
    if (totals->digest != first)
        sim_fail("the same seed made two different runs");
}

struct file_runs {
    const struct arguments *args;
    struct peers_totals *totals;
};

static bool
run_named(void *arg, uint64_t seed, uint64_t calls, const char *how)
{
    const struct file_runs *runs = arg;

    if (*how != '\0')
        return false;
    run_one(runs->args, seed, calls, runs->totals);
    return true;
}

static bool
parse(int argc, char **argv, struct arguments *args)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'}, {"seeds", required_argument, NULL, 'r'},
        {"file", required_argument, NULL, 'f'}, {"ops", required_argument, NULL, 'o'},
        {"twice", no_argument, NULL, 't'},      {"require", no_argument, NULL, 'n'},
        {"verbose", no_argument, NULL, 'v'},    {NULL, 0, NULL, 0}};
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
            args->calls = strtoull(optarg, &rest, 0);
            break;
        case 't':
            args->twice = true;
            break;
        case 'n':
            args->require = true;
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
    return optind == argc && args->first <= args->last && args->calls > 0;
}

int
main(int argc, char **argv)
{
    struct arguments args = {.first = 1, .last = 1, .calls = CALLS_DEFAULT};
    struct peers_totals totals = {0};

    if (!parse(argc, argv, &args)) {
        (void)fputs(usage, stderr);
        return 2;
    }
    sim_log_verbose(args.verbose);
    sim_seeds_repro(repro);
    if (args.file != NULL && sim_seeds_file(args.file, "", run_named, &(struct file_runs){&args, &totals}) < 0)
        return 2;
    for (uint64_t seed = args.first; args.file == NULL && seed <= args.last; seed++)
        run_one(&args, seed, args.calls, &totals);
    peers_events_print(&totals);
    return args.require && !peers_events_complete(&totals) ? 1 : 0;
}
