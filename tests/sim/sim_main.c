/* SPDX-License-Identifier: Apache-2.0 */
/* sim: run the store on the simulated disk, seed by seed. The first failure ends the process, with the line that repeats it. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_driver.h"
#include "sim_log.h"

#define OPS_DEFAULT     300
#define SECONDS_A_RUN   120 /* far more than any run takes */
#define SEED_LINE_BYTES 256

struct arguments {
    struct sim_plan plan;
    uint64_t first, last;
    const char *file;
    bool verbose;
};

static const char usage[] =
    "usage: sim [--seed=N | --seeds=A..B | --file=SEEDS] [--ops=M] [--faults | --nth=OP[,N]] [--verbose]\n"
    "  --seed=N      one run\n"
    "  --seeds=A..B  one run for each seed from A to B\n"
    "  --file=SEEDS  the runs named in the file, a line each: SEED OPS [faults|nth=OP,N], then # and why\n"
    "  --ops=M       calls a run (default 300)\n"
    "  --faults      failing and lying devices, failing allocations: the store may lose pages, never give wrong bytes\n"
    "  --nth=OP[,N]  the Nth operation fails; without N: one run for each N, until none fails any more. OP: alloc,\n"
    "                read, write, sync, create, unlink, rename, preallocate, truncate, sync_dir, open, list, lock\n"
    "  --verbose     print every call and every operation of the disk\n";

static const struct {
    const char *name;
    enum sim_op op;
} op_names[] = {
    {"alloc", SIM_OP_ALLOC},       {"read", SIM_OP_READ},
    {"write", SIM_OP_WRITE},       {"sync", SIM_OP_SYNC},
    {"create", SIM_OP_CREATE},     {"unlink", SIM_OP_UNLINK},
    {"rename", SIM_OP_RENAME},     {"preallocate", SIM_OP_PREALLOCATE},
    {"truncate", SIM_OP_TRUNCATE}, {"sync_dir", SIM_OP_SYNC_DIR},
    {"open", SIM_OP_OPEN},         {"list", SIM_OP_LIST},
    {"lock", SIM_OP_LOCK},
};

static bool
parse_nth(const char *text, struct sim_plan *plan)
{
    size_t length = strcspn(text, ",");

    plan->trouble = SIM_TROUBLE_NTH;
    for (size_t i = 0; i < sizeof(op_names) / sizeof(op_names[0]); i++) {
        if (strlen(op_names[i].name) == length && strncmp(op_names[i].name, text, length) == 0) {
            plan->nth_op = op_names[i].op;
            plan->nth = text[length] == ',' ? strtoull(text + length + 1, NULL, 0) : 0;
            return true;
        }
    }
    return false;
}

static uint64_t
run_one(const struct sim_plan *plan, struct sim_totals *totals)
{
    char repro[128], trouble[48] = "";

    if (plan->trouble == SIM_TROUBLE_RANDOM)
        (void)snprintf(trouble, sizeof(trouble), " --faults");
    for (size_t i = 0; i < sizeof(op_names) / sizeof(op_names[0]) && plan->trouble == SIM_TROUBLE_NTH; i++) {
        if (op_names[i].op == plan->nth_op)
            (void)snprintf(trouble, sizeof(trouble), " --nth=%s,%" PRIu64, op_names[i].name, plan->nth);
    }
    (void)snprintf(repro, sizeof(repro), "build/tests/sim/sim --seed=%#" PRIx64 " --ops=%" PRIu64 "%s", plan->seed,
                   plan->ops, trouble);
    sim_log_begin(repro);
    sim_watchdog(SECONDS_A_RUN);
    return sim_run(plan, totals);
}

/* The runs of one seed: one, or one for each operation that can fail. After the first hundreds not every one of them is tried. */
static uint64_t
run_seed(struct sim_plan plan, struct sim_totals *totals)
{
    uint64_t runs = 1;

    if (plan.trouble != SIM_TROUBLE_NTH || plan.nth > 0) {
        (void)run_one(&plan, totals);
        return runs;
    }
    plan.nth = 1;
    while (run_one(&plan, totals) > 0) {
        plan.nth += 1 + plan.nth / 100;
        runs++;
    }
    return runs;
}

/* Runs that failed once. Returns how many there were, or -1. */
static int64_t
run_file(const char *path, struct sim_totals *totals)
{
    FILE *file = fopen(path, "r");
    char line[SEED_LINE_BYTES];
    int64_t runs = 0;

    if (file == NULL) {
        perror(path);
        return -1;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        struct sim_plan plan = {.trouble = SIM_TROUBLE_NONE};
        char *rest;

        line[strcspn(line, "#\n")] = '\0';
        if (line[strspn(line, " \t")] == '\0')
            continue;
        plan.seed = strtoull(line, &rest, 0);
        plan.ops = strtoull(rest, &rest, 0);
        rest += strspn(rest, " \t");
        rest[strcspn(rest, " \t")] = '\0';
        if (strcmp(rest, "faults") == 0)
            plan.trouble = SIM_TROUBLE_RANDOM;
        else if (strncmp(rest, "nth=", 4) == 0 && !parse_nth(rest + 4, &plan))
            plan.ops = 0;
        if (plan.ops == 0) {
            (void)fprintf(stderr, "%s: a line is not SEED OPS [faults|nth=OP,N]: %s\n", path, line);
            runs = -1;
            break;
        }
        (void)run_one(&plan, totals);
        runs++;
    }
    (void)fclose(file);
    return runs;
}

static bool
parse(int argc, char **argv, struct arguments *args)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'}, {"seeds", required_argument, NULL, 'r'},
        {"file", required_argument, NULL, 'f'}, {"ops", required_argument, NULL, 'o'},
        {"faults", no_argument, NULL, 'x'},     {"nth", required_argument, NULL, 'n'},
        {"verbose", no_argument, NULL, 'v'},    {NULL, 0, NULL, 0}};
    char *rest = NULL;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 's':
            args->first = args->last = strtoull(optarg, &rest, 0);
            break;
        case 'r':
            args->first = strtoull(optarg, &rest, 0);
            if (strncmp(rest, "..", 2) != 0)
                return false;
            args->last = strtoull(rest + 2, &rest, 0);
            break;
        case 'f':
            args->file = optarg;
            break;
        case 'o':
            args->plan.ops = strtoull(optarg, &rest, 0);
            break;
        case 'x':
            args->plan.trouble = SIM_TROUBLE_RANDOM;
            break;
        case 'n':
            if (!parse_nth(optarg, &args->plan))
                return false;
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
    return optind == argc && args->first <= args->last && args->plan.ops > 0;
}

int
main(int argc, char **argv)
{
    struct arguments args = {.first = 1, .last = 1, .plan = {.ops = OPS_DEFAULT}};
    struct sim_totals totals = {0};
    int64_t runs = 0;

    if (!parse(argc, argv, &args)) {
        (void)fputs(usage, stderr);
        return 2;
    }
    sim_log_verbose(args.verbose);
    if (args.file != NULL)
        runs = run_file(args.file, &totals);
    for (uint64_t seed = args.first; args.file == NULL && seed <= args.last; seed++) {
        args.plan.seed = seed;
        runs += (int64_t)run_seed(args.plan, &totals);
    }
    if (runs < 0)
        return 2;
    printf("%" PRId64 " runs: %" PRIu64 " calls, %" PRIu64 " lives, %" PRIu64 " crashes, %" PRIu64
           " faults; pages put %" PRIu64 ", read %" PRIu64 ", verified %" PRIu64 ", recovered %" PRIu64
           ", torn %" PRIu64 "; segments dropped %" PRIu64 ", flushes %" PRIu64 ", merges %" PRIu64 ": ok\n",
           runs, totals.ops, totals.lives, totals.crashes, totals.faults, totals.pages_put, totals.pages_read,
           totals.pages_verified, totals.recovered, totals.torn, totals.drops, totals.flushes, totals.merges);
    return 0;
}
