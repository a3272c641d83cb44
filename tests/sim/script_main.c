/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_script: run scripts from files as they are, and then once for each change of the disk that they make and each kind of crash, which comes
 * there; after it the rest of the script is run as well.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>

#include "script_run.h"
#include "sim_log.h"

#define TEXT_MAX       (64 * 1024)
#define SECONDS_A_FILE 300

static const char usage[] = "usage: sim_script [--crashes] [--coins=N] [--verbose] FILE...\n"
                            "       sim_script --kill=AT | --power=AT [--coin=N] [--verbose] FILE\n"
                            "  --crashes    at every crash point, too\n"
                            "  --coins=N    power failures at each crash point (2): the first loses all that was not "
                            "synced, others some by chance\n"
                            "  --kill=AT, --power=AT   only at this crash point, with the coins of this number\n"
                            "The text of a script is described in tests/sim/script.h.\n";

struct arguments {
    bool crashes;
    uint64_t coins, coin, at;
    enum sim_crash_mode mode;
};

struct totals {
    uint64_t scripts, crashes;
};

static bool
load(const char *path, struct script *script)
{
    char *text = sim_alloc(TEXT_MAX), problem[80] = "";
    FILE *file = fopen(path, "r");
    bool parsed = false;

    if (file != NULL) {
        text[fread(text, 1, TEXT_MAX - 1, file)] = '\0';
        (void)fclose(file);
        parsed = script_parse(text, script, problem, sizeof(problem));
    }
    if (!parsed)
        (void)fprintf(stderr, "%s: %s\n", path, file == NULL ? "cannot be read" : problem);
    free(text);
    return parsed;
}

/* One run, with a crash at one change of the disk (mode 0: none). Returns how many changes it made before it was closed. */
static uint64_t
run_once(const struct script *script, enum sim_crash_mode mode, uint64_t at, uint64_t coin)
{
    const struct script_place place = {.seed = coin};
    struct script_run run;
    uint64_t changes;

    script_run_begin(&run, script, &place);
    run.lose_all = mode == SIM_CRASH_POWER && coin == 1;
    if (mode != 0)
        script_run_arm(&run, mode, at - run.disk->changes);
    for (size_t i = 0; i < script->count; i++)
        script_run_op(&run, &script->ops[i]);
    changes = run.disk->changes;
    script_run_finish(&run);
    script_run_end(&run);
    return changes;
}

/* How many changes of the disk there are before the first operation. */
static uint64_t
changes_before(const struct script *script)
{
    const struct script_place place = {.seed = 1};
    struct script_run run;
    uint64_t changes;

    script_run_begin(&run, script, &place);
    changes = run.disk->changes;
    script_run_end(&run);
    return changes;
}

static void
run_point(const char *path, const struct script *script, enum sim_crash_mode mode, uint64_t at, uint64_t coin)
{
    char repro[160];

    (void)snprintf(repro, sizeof(repro), "build/tests/sim/sim_script --%s=%" PRIu64 " --coin=%" PRIu64 " %s",
                   mode == SIM_CRASH_KILL ? "kill" : "power", at, coin, path);
    sim_log_begin(repro);
    (void)run_once(script, mode, at, coin);
}

static void
run_file(const struct arguments *args, const char *path, const struct script *script, struct totals *totals)
{
    char repro[160];
    uint64_t first, last;

    sim_watchdog(SECONDS_A_FILE);
    if (args->mode != 0) {
        run_point(path, script, args->mode, args->at, args->coin);
        return;
    }
    (void)snprintf(repro, sizeof(repro), "build/tests/sim/sim_script %s", path);
    sim_log_begin(repro);
    last = run_once(script, 0, 0, 1);
    totals->scripts++;
    first = changes_before(script);
    for (uint64_t at = first + 1; args->crashes && at <= last; at++) {
        run_point(path, script, SIM_CRASH_KILL, at, 1);
        for (uint64_t coin = 1; coin <= args->coins; coin++)
            run_point(path, script, SIM_CRASH_POWER, at, coin);
        totals->crashes += 1 + args->coins;
    }
}

static bool
parse(int argc, char **argv, struct arguments *args)
{
    static const struct option options[] = {{"crashes", no_argument, NULL, 'c'},
                                            {"coins", required_argument, NULL, 'n'},
                                            {"coin", required_argument, NULL, 'i'},
                                            {"kill", required_argument, NULL, 'k'},
                                            {"power", required_argument, NULL, 'w'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {NULL, 0, NULL, 0}};
    char *rest = NULL;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        uint64_t value = optarg == NULL ? 0 : strtoull(optarg, &rest, 10);

        if (option == '?' || (rest != NULL && *rest != '\0'))
            return false;
        if (option == 'c')
            args->crashes = true;
        else if (option == 'n')
            args->coins = value;
        else if (option == 'i')
            args->coin = value;
        else if (option == 'v')
            sim_log_verbose(true);
        else {
            args->mode = option == 'k' ? SIM_CRASH_KILL : SIM_CRASH_POWER;
            args->at = value;
        }
    }
    return optind < argc;
}

int
main(int argc, char **argv)
{
    struct arguments args = {.coins = 2, .coin = 1};
    struct totals totals = {0};

    if (!parse(argc, argv, &args)) {
        (void)fputs(usage, stderr);
        return 2;
    }
    for (int i = optind; i < argc; i++) {
        struct script script;

        if (!load(argv[i], &script))
            return 2;
        run_file(&args, argv[i], &script, &totals);
    }
    printf("%" PRIu64 " scripts, %" PRIu64 " crashes: ok\n", totals.scripts, totals.crashes);
    return 0;
}
