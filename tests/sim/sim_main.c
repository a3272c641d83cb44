/* SPDX-License-Identifier: Apache-2.0 */
/* sim: run the store on the simulated disk, seed by seed. The first failure ends the process, with the line that repeats it. */
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_driver.h"
#include "sim_log.h"
#include "sim_seeds.h"

#define OPS_DEFAULT   80
#define SECONDS_A_RUN 120 /* far more than any run takes */
#define REPRO_BYTES   4096

struct arguments {
    struct sim_plan plan;
    uint64_t first, last;
    const char *file, *only;
    bool verbose, shrink, require;
};

static const char usage[] =
    "usage: sim [--seed=N | --seeds=A..B | --file=SEEDS] [--ops=M] [--faults | --nth=OP[,N]] [--require] [--shrink]\n"
    "           [--only=CALLS] [--plain=BITS] [--verbose]\n"
    "  --seed=N      one run\n"
    "  --seeds=A..B  one run for each seed from A to B\n"
    "  --file=SEEDS  the runs named in the file, a line each: SEED OPS [faults|nth=OP,N], then # and why\n"
    "  --ops=M       calls a run (default 80)\n"
    "  --faults      failing and lying devices, failing allocations: the store may lose pages, never give wrong bytes\n"
    "  --nth=OP[,N]  the Nth operation fails; without N: one run for each N, until none fails any more. OP: alloc,\n"
    "                read, write, sync, create, unlink, rename, preallocate, truncate, sync_dir, open, list, lock\n"
    "  --require     fail when something that must happen now and then never did in the whole range\n"
    "  --shrink      make a failing run (--seed) small, and print the command line that repeats it\n"
    "  --only=CALLS  leave out all other calls: numbers and ranges, as in 3,10-12\n"
    "  --plain=BITS  1: no short, refused, stalled or torn transfers; 2: one client; 4: no faults at opens\n"
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

/* "3,10-12" into the calls that are made; the caller frees them. NULL: it is no such list. */
static uint8_t *
parse_only(const char *text, uint64_t ops)
{
    uint8_t *wanted = sim_alloc(ops);
    char *rest = NULL;

    while (*text != '\0') {
        uint64_t first = strtoull(text, &rest, 10), last = first;

        if (*rest == '-')
            last = strtoull(rest + 1, &rest, 10);
        if (rest == text || last >= ops || first > last || (*rest != ',' && *rest != '\0')) {
            free(wanted);
            return NULL;
        }
        for (uint64_t i = first; i <= last; i++)
            wanted[i] = 1;
        text = *rest == ',' ? rest + 1 : rest;
    }
    return wanted;
}

static void append(char *text, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void
append(char *text, size_t size, const char *format, ...)
{
    size_t length = strlen(text);
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text + length, size - length, format, args);
    va_end(args);
}

/* The command line that repeats the run. */
static void
describe(const struct sim_plan *plan, char *text, size_t size)
{
    const char *separator = " --only=";

    (void)snprintf(text, size, "build-asan/tests/sim/sim --seed=%#" PRIx64 " --ops=%" PRIu64, plan->seed, plan->ops);
    if (plan->trouble == SIM_TROUBLE_RANDOM)
        append(text, size, " --faults");
    for (size_t i = 0; i < sizeof(op_names) / sizeof(op_names[0]) && plan->trouble == SIM_TROUBLE_NTH; i++) {
        if (op_names[i].op == plan->nth_op)
            append(text, size, " --nth=%s,%" PRIu64, op_names[i].name, plan->nth);
    }
    if (plan->plain != 0)
        append(text, size, " --plain=%u", plan->plain);
    for (uint64_t i = 0; i < plan->ops && plan->wanted != NULL; i++) {
        uint64_t last = i;

        if (!plan->wanted[i])
            continue;
        while (last + 1 < plan->ops && plan->wanted[last + 1])
            last++;
        append(text, size, last > i ? "%s%" PRIu64 "-%" PRIu64 : "%s%" PRIu64, separator, i, last);
        separator = ",";
        i = last;
    }
}

static uint64_t
run_one(const struct sim_plan *plan, struct sim_totals *totals)
{
    char repro[REPRO_BYTES];

    describe(plan, repro, sizeof(repro));
    sim_log_begin(repro);
    sim_watchdog(SECONDS_A_RUN);
    return sim_run(plan, totals);
}

/* The runs of one seed: one, or one for each operation that can fail. After the first hundreds not every one of them is tried. */
static void
run_seed(struct sim_plan plan, struct sim_totals *totals)
{
    if (plan.trouble != SIM_TROUBLE_NTH || plan.nth > 0) {
        (void)run_one(&plan, totals);
        return;
    }
    plan.nth = 1;
    while (run_one(&plan, totals) > 0)
        plan.nth += 1 + plan.nth / 100;
}

static bool
run_named(void *arg, uint64_t seed, uint64_t ops, const char *how)
{
    struct sim_plan plan = {.seed = seed, .ops = ops, .trouble = SIM_TROUBLE_NONE};

    if (strcmp(how, "faults") == 0)
        plan.trouble = SIM_TROUBLE_RANDOM;
    else if (*how != '\0' && (strncmp(how, "nth=", 4) != 0 || !parse_nth(how + 4, &plan)))
        return false;
    (void)run_one(&plan, arg);
    return true;
}

/* One option with its value; false: the value is not one. */
static bool
parse_option(int option, const char *value, struct arguments *args)
{
    char *rest = NULL;

    switch (option) {
    case 's':
        args->first = args->last = strtoull(value, &rest, 0);
        break;
    case 'r':
        return sim_seeds_range(value, &args->first, &args->last);
    case 'f':
        args->file = value;
        break;
    case 'o':
        args->plan.ops = strtoull(value, &rest, 0);
        break;
    case 'x':
        args->plan.trouble = SIM_TROUBLE_RANDOM;
        break;
    case 'n':
        return parse_nth(value, &args->plan);
    case 'y':
        args->only = value;
        break;
    case 'p':
        args->plan.plain = (unsigned)strtoul(value, &rest, 0);
        break;
    case 'q':
        args->require = true;
        break;
    case 'k':
        args->shrink = true;
        break;
    case 'v':
        args->verbose = true;
        break;
    default:
        return false;
    }
    return rest == NULL || *rest == '\0';
}

static bool
parse(int argc, char **argv, struct arguments *args)
{
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'}, {"seeds", required_argument, NULL, 'r'},
        {"file", required_argument, NULL, 'f'}, {"ops", required_argument, NULL, 'o'},
        {"faults", no_argument, NULL, 'x'},     {"nth", required_argument, NULL, 'n'},
        {"only", required_argument, NULL, 'y'}, {"plain", required_argument, NULL, 'p'},
        {"require", no_argument, NULL, 'q'},    {"shrink", no_argument, NULL, 'k'},
        {"verbose", no_argument, NULL, 'v'},    {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (!parse_option(option, optarg, args))
            return false;
    }
    return optind == argc && args->first <= args->last && args->plan.ops > 0;
}

static int
run_all(const struct arguments *args)
{
    struct sim_totals totals = {0};
    enum sim_need range = args->plan.trouble == SIM_TROUBLE_RANDOM ? SIM_NEED_FAULTS : SIM_NEED_CRASHES;
    struct sim_plan plan = args->plan;

    if (args->file != NULL && sim_seeds_file(args->file, " [faults|nth=OP,N]", run_named, &totals) < 0)
        return 2;
    for (plan.seed = args->first; args->file == NULL && plan.seed <= args->last; plan.seed++)
        run_seed(plan, &totals);
    sim_events_print(&totals);
    return args->require && !sim_events_complete(&totals, range) ? 1 : 0;
}

/* Memory that was freed is looked at long enough within one run; more only costs time. */
const char *__asan_default_options(void); /* NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
const char *
__asan_default_options(void) /* NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */
{
    return "quarantine_size_mb=8:malloc_context_size=12";
}

int
main(int argc, char **argv)
{
    struct arguments args = {.first = 1, .last = 1, .plan = {.ops = OPS_DEFAULT}};
    bool good = parse(argc, argv, &args);
    uint8_t *wanted = NULL;
    int rc;

    if (good && args.only != NULL) {
        args.plan.wanted = wanted = parse_only(args.only, args.plan.ops);
        good = wanted != NULL;
    }
    if (!good) {
        (void)fputs(usage, stderr);
        return 2;
    }
    sim_log_verbose(args.verbose);
    args.plan.seed = args.first;
    rc = args.shrink ? !sim_shrink(&args.plan, describe) : run_all(&args);
    free(wanted);
    return rc;
}
