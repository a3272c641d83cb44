/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A failing run made small: fewer calls, then without those that do not matter, then without what disturbs the reader. Each try runs in a
 * process of its own, whose end is looked at: a try counts only when it fails as the whole run does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim_driver.h"
#include "sim_log.h"

#define OUTCOME_BYTES 160
#define REPRO_BYTES   4096
#define SECONDS_A_TRY 60
#define ROUNDS_MAX    4

struct shrink {
    struct sim_plan plan; /* the smallest so far */
    uint8_t *wanted;      /* its calls, which we own */
    char outcome[OUTCOME_BYTES];
    unsigned tries;
};

/* The line that says why, up to the first number in it; "" for a run that is right. */
static void
read_outcome(FILE *output, char *outcome)
{
    static const char mark[] = "FAILED: ";
    char line[OUTCOME_BYTES];

    outcome[0] = '\0';
    while (fgets(line, sizeof(line), output) != NULL) {
        if (strncmp(line, mark, sizeof(mark) - 1) != 0)
            continue;
        line[sizeof(mark) - 1 + strcspn(line + sizeof(mark) - 1, "0123456789\n")] = '\0';
        (void)snprintf(outcome, OUTCOME_BYTES, "%s", line);
    }
}

static _Noreturn void
run_child(const struct sim_plan *plan, int output)
{
    static const struct rlimit no_core = {0, 0};
    struct sim_totals totals = {0};

    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)dup2(output, STDOUT_FILENO);
    if (freopen("/dev/null", "w", stderr) == NULL)
        _exit(2);
    sim_log_begin("");
    sim_watchdog(SECONDS_A_TRY);
    (void)sim_run(plan, &totals);
    _exit(0);
}

static void
try_plan(struct shrink *shrink, const struct sim_plan *plan, char *outcome)
{
    int status = 0, ends[2];
    FILE *output;
    pid_t child;

    (void)fflush(stdout);
    if (pipe(ends) < 0 || (child = fork()) < 0) {
        perror("sim: a process for a try");
        exit(2);
    }
    if (child == 0)
        run_child(plan, ends[1]);
    (void)close(ends[1]);
    output = fdopen(ends[0], "r");
    if (output == NULL)
        exit(2);
    read_outcome(output, outcome);
    (void)fclose(output);
    if (waitpid(child, &status, 0) < 0)
        exit(2);
    if (WIFSIGNALED(status) && outcome[0] == '\0')
        (void)snprintf(outcome, OUTCOME_BYTES, "signal %d", WTERMSIG(status));
    shrink->tries++;
}

/* Keep the plan if it fails in the same way. */
static bool
keep_if_same(struct shrink *shrink, const struct sim_plan *plan)
{
    char outcome[OUTCOME_BYTES];

    try_plan(shrink, plan, outcome);
    if (strcmp(outcome, shrink->outcome) != 0)
        return false;
    shrink->plan = *plan;
    return true;
}

static bool
fewer_calls(struct shrink *shrink)
{
    bool shrunk = false;

    for (uint64_t step = shrink->plan.ops / 2; step > 0; step /= 2) {
        struct sim_plan plan = shrink->plan;

        while (plan.ops > step) {
            plan.ops -= step;
            if (!keep_if_same(shrink, &plan))
                break;
            shrunk = true;
        }
    }
    return shrunk;
}

/* Leave out stretches of calls, shorter and shorter ones, down to single calls. */
static bool
drop_calls(struct shrink *shrink)
{
    struct sim_plan plan = shrink->plan;
    uint8_t *saved = sim_alloc(plan.ops);
    bool shrunk = false;

    for (uint64_t size = (plan.ops + 1) / 2; size > 0; size /= 2) {
        for (uint64_t first = 0; first < plan.ops; first += size) {
            uint64_t count = plan.ops - first < size ? plan.ops - first : size;

            memcpy(saved, shrink->wanted, plan.ops);
            memset(shrink->wanted + first, 0, count);
            if (memcmp(saved, shrink->wanted, plan.ops) == 0)
                continue;
            if (keep_if_same(shrink, &plan))
                shrunk = true;
            else
                memcpy(shrink->wanted, saved, plan.ops);
        }
    }
    free(saved);
    return shrunk;
}

static bool
make_plain(struct shrink *shrink)
{
    bool shrunk = false;

    for (unsigned i = 0; i < SIM_PLAINS; i++) {
        struct sim_plan plan = shrink->plan;

        plan.plain |= 1u << i;
        if (plan.plain != shrink->plan.plain && keep_if_same(shrink, &plan))
            shrunk = true;
    }
    return shrunk;
}

bool
sim_shrink(const struct sim_plan *plan, void (*describe)(const struct sim_plan *plan, char *text, size_t size))
{
    struct shrink shrink = {.plan = *plan, .wanted = sim_alloc(plan->ops)};
    char text[REPRO_BYTES];
    uint64_t calls = 0;
    bool fails;

    memset(shrink.wanted, 1, plan->ops);
    if (plan->wanted != NULL)
        memcpy(shrink.wanted, plan->wanted, plan->ops);
    shrink.plan.wanted = shrink.wanted;
    try_plan(&shrink, &shrink.plan, shrink.outcome);
    fails = shrink.outcome[0] != '\0';
    if (fails) {
        bool shrunk = true;

        for (int round = 0; shrunk && round < ROUNDS_MAX; round++) {
            shrunk = fewer_calls(&shrink);
            shrunk = drop_calls(&shrink) || shrunk;
            shrunk = make_plain(&shrink) || shrunk;
        }
        for (uint64_t i = 0; i < shrink.plan.ops; i++)
            calls += shrink.wanted[i];
        describe(&shrink.plan, text, sizeof(text));
        printf("%s\n%u tries, %llu calls left: %s\n", shrink.outcome, shrink.tries, (unsigned long long)calls, text);
    } else {
        printf("the run does not fail\n");
    }
    free(shrink.wanted);
    return fails;
}
