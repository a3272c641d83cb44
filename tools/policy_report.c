/* SPDX-License-Identifier: Apache-2.0 */
/* varve replay --policy-only: the three policies at each capacity, as a table or JSON lines. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "json.h"
#include "policy.h"

#define CAPACITIES_MAX 64

struct capacity {
    double percent; /* of the trace's footprint */
    uint64_t pages;
};

static const struct {
    const char *name;
    int (*run)(const struct policy_trace *trace, uint64_t capacity, struct policy_result *result);
} policies[] = {{"varve", policy_varve}, {"lru", policy_lru}, {"belady", policy_belady}};

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
print_json(const char *path, const struct policy_trace *trace, const struct capacity *capacity, const char *policy,
           const struct policy_result *result)
{
    struct json_writer json = json_begin(stdout);

    json_put_text(&json, "trace", path);
    json_put_double(&json, "capacity_pct", capacity->percent);
    json_put_text(&json, "policy", policy);
    json_put_double(&json, "hit_rate", share(result->hits, trace->accesses));
    json_put_double(&json, "write_amplification", amplification(result));
    json_put_double(&json, "orphan_rate", result->orphan_rate);
    json_put_u64(&json, "capacity_pages", capacity->pages);
    json_put_u64(&json, "pages_hit", result->hits);
    json_put_u64(&json, "pages_probed", trace->accesses);
    json_put_u64(&json, "pages_written", result->written);
    json_put_u64(&json, "pages_relocated", result->relocated);
    json_end(&json);
}

static int
run_capacity(const char *path, const struct policy_trace *trace, const struct capacity *capacity, bool json)
{
    struct policy_result results[sizeof(policies) / sizeof(policies[0])];

    for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
        if (policies[i].run(trace, capacity->pages, &results[i]) != VARVE_OK) {
            cli_error("replay: out of memory");
            return CLI_EXIT_STORE;
        }
        if (json)
            print_json(path, trace, capacity, policies[i].name, &results[i]);
    }
    if (!json)
        (void)printf("%9.3g %% %12" PRIu64 " %9.2f %9.2f %9.2f %10.3f %10.4f\n", capacity->percent, capacity->pages,
                     100 * share(results[0].hits, trace->accesses), 100 * share(results[1].hits, trace->accesses),
                     100 * share(results[2].hits, trace->accesses), amplification(&results[0]), results[0].orphan_rate);
    return CLI_EXIT_OK;
}

int
policy_report(const char *path, const char *capacities, uint64_t limit, bool json)
{
    struct capacity list[CAPACITIES_MAX];
    struct policy_trace trace;
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
            (void)printf("%zu requests, %zu pages asked for, a footprint of %" PRIu32
                         " pages\n\n%11s %12s %9s %9s %9s %10s %10s\n",
                         trace.requests, trace.accesses, trace.page_count, "capacity", "pages", "varve %", "LRU %",
                         "Belady %", "write amp.", "orphans");
        for (size_t i = 0; i < count && exit_code == CLI_EXIT_OK; i++)
            exit_code = run_capacity(path, &trace, &list[i], json);
    }
    policy_trace_free(&trace);
    return exit_code;
}
