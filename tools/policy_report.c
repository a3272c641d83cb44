/* SPDX-License-Identifier: Apache-2.0 */
/* varve replay --policy-only: the policies at each capacity, as a table or JSON lines. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "json.h"
#include "policy.h"

#define CAPACITIES_MAX 64
#define POLICIES_MAX   3
#define RANK_RUNS      3 /* with other draws each: of ranks the mean is said */

struct capacity {
    double percent; /* of the trace's footprint */
    uint64_t pages;
};

static const struct {
    const char *name;
    int (*run)(const struct policy_trace *trace, uint64_t capacity, struct policy_result *result);
} policies[POLICIES_MAX] = {{"varve", policy_varve}, {"lru", policy_lru}, {"belady", policy_belady}};

/* What is compared: the policies above, or ranks. */
struct comparison {
    const char *path;
    const struct policy_trace *trace;
    const struct policy_ranks *ranks; /* count 0: none */
    bool json;
};

/* "1%,5%,2000": shares of the footprint, or pages. */
static bool
parse_capacities(const char *text, const struct policy_trace *trace, struct capacity *out, size_t *count)
{
    *count = 0;
    while (*count < CAPACITIES_MAX) {
        double footprint = trace->page_count == 0 ? 1 : trace->page_count;
        struct capacity *capacity = &out[*count];
        char *end;
        double number = strtod(text, &end);

        if (end == text || !(number > 0))
            return false;
        if (*end == '%') {
            end++;
            capacity->percent = number;
            capacity->pages = (uint64_t)(number / 100 * footprint + 0.5);
        } else {
            capacity->percent = 100 * number / footprint;
            capacity->pages = (uint64_t)number;
        }
        if (number > 1e12)
            return false;
        capacity->pages += capacity->pages == 0;
        (*count)++;
        if (*end == '\0')
            return true;
        if (*end != ',')
            return false;
        text = end + 1;
    }
    return false;
}

static double
share(uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0 : (double)part / (double)whole;
}

static double
amplification(const struct policy_result *result)
{
    return result->written == 0 ? 1 : 1 + share(result->relocated, result->written);
}

static void
print_json(const struct comparison *comparison, const struct capacity *capacity, const char *policy,
           const struct policy_result *result, uint64_t accesses)
{
    struct json_writer json = json_begin(stdout);

    json_put_text(&json, "trace", comparison->path);
    json_put_double(&json, "capacity_pct", capacity->percent);
    json_put_text(&json, "policy", policy);
    json_put_double(&json, "hit_rate", share(result->hits, accesses));
    json_put_double(&json, "write_amplification", amplification(result));
    json_put_double(&json, "orphan_rate", result->orphan_rate);
    json_put_u64(&json, "capacity_pages", capacity->pages);
    json_put_u64(&json, "pages_hit", result->hits);
    json_put_u64(&json, "pages_probed", accesses);
    json_put_u64(&json, "pages_written", result->written);
    json_put_u64(&json, "pages_relocated", result->relocated);
    json_end(&json);
}

static int
run_policies(const struct comparison *comparison, const struct capacity *capacity)
{
    struct policy_result results[POLICIES_MAX];
    uint64_t accesses = comparison->trace->accesses;

    for (size_t i = 0; i < POLICIES_MAX; i++) {
        if (policies[i].run(comparison->trace, capacity->pages, &results[i]) != VARVE_OK)
            return VARVE_E_NOMEM;
        if (comparison->json)
            print_json(comparison, capacity, policies[i].name, &results[i], accesses);
    }
    if (!comparison->json)
        (void)printf("%9.3g %% %12" PRIu64 " %9.2f %9.2f %9.2f %10.3f %10.4f\n", capacity->percent, capacity->pages,
                     100 * share(results[0].hits, accesses), 100 * share(results[1].hits, accesses),
                     100 * share(results[2].hits, accesses), amplification(&results[0]), results[0].orphan_rate);
    return VARVE_OK;
}

/* All runs added up. */
static int
run_ranks(const struct comparison *comparison, const struct capacity *capacity)
{
    static const char *const names[] = {"ranks", "together"};
    struct policy_result sums[2] = {{0}, {0}};
    uint64_t accesses = comparison->trace->accesses * RANK_RUNS;

    for (size_t i = 0; i < 2; i++) {
        for (uint64_t run = 0; run < RANK_RUNS; run++) {
            struct policy_ranks ranks = *comparison->ranks;
            struct policy_result result;

            ranks.seed = run;
            ranks.together = i == 1;
            if (policy_ranks(comparison->trace, capacity->pages, &ranks, &result) != VARVE_OK)
                return VARVE_E_NOMEM;
            sums[i].hits += result.hits;
            sums[i].written += result.written;
            sums[i].relocated += result.relocated;
        }
        if (comparison->json)
            print_json(comparison, capacity, names[i], &sums[i], accesses);
    }
    if (!comparison->json)
        (void)printf("%9.3g %% %12" PRIu64 " %9.2f %10.2f %10.3f\n", capacity->percent, capacity->pages,
                     100 * share(sums[0].hits, accesses), 100 * share(sums[1].hits, accesses), amplification(&sums[0]));
    return VARVE_OK;
}

static void
print_head(const struct comparison *comparison)
{
    (void)printf("%zu requests, %zu pages asked for, a footprint of %" PRIu32 " pages\n\n", comparison->trace->requests,
                 comparison->trace->accesses, comparison->trace->page_count);
    if (comparison->ranks->count > 0)
        (void)printf("%11s %12s %9s %10s %10s\n", "capacity", "pages", "ranks %", "together %", "write amp.");
    else
        (void)printf("%11s %12s %9s %9s %9s %10s %10s\n", "capacity", "pages", "varve %", "LRU %", "Belady %",
                     "write amp.", "orphans");
}

int
policy_report(const char *path, const char *capacities, uint64_t limit, const struct policy_ranks *ranks, bool json)
{
    struct capacity list[CAPACITIES_MAX];
    struct policy_trace trace;
    const struct comparison comparison = {.path = path, .trace = &trace, .ranks = ranks, .json = json};
    varve_error err = {0};
    int exit_code = CLI_EXIT_OK;
    size_t count;

    if (policy_trace_load(path, limit, &trace, &err) != VARVE_OK) {
        exit_code = cli_fail(&err, "replay");
    } else if (!parse_capacities(capacities, &trace, list, &count)) {
        cli_error("replay: --capacities '%s' is no list of shares of the footprint or of pages: 1%%,5%%,2000",
                  capacities);
        exit_code = CLI_EXIT_USAGE;
    } else {
        if (!json)
            print_head(&comparison);
        for (size_t i = 0; i < count && exit_code == CLI_EXIT_OK; i++) {
            if ((ranks->count > 0 ? run_ranks : run_policies)(&comparison, &list[i]) != VARVE_OK) {
                cli_error("replay: out of memory");
                exit_code = CLI_EXIT_STORE;
            }
        }
    }
    policy_trace_free(&trace);
    return exit_code;
}
