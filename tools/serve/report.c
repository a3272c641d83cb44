/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "json.h"

#define US_PER_MS 1000.0
#define US_PER_S  1e6

struct summary {
    double mean_ms, p50_ms, p90_ms, p99_ms;
    size_t count;
};

static int
compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

double
serve_percentile(const double *values, size_t count, double percent)
{
    size_t rank = (size_t)ceil(percent / 100 * (double)count);

    return count == 0 ? 0 : values[rank == 0 ? 0 : rank - 1];
}

/* Of the requests of one stage, or, with 0, of all. */
static int
summarize(const struct serve_report *report, uint64_t stage, struct summary *summary)
{
    double *values = calloc(report->result->requests, sizeof(*values));
    double sum = 0;

    *summary = (struct summary){0};
    if (values == NULL)
        return VARVE_E_NOMEM;
    for (size_t i = 0; i < report->result->requests; i++) {
        if (stage != 0 && report->trace->prompts[i].stage != stage)
            continue;
        sum += values[summary->count++] = report->result->ttft_us[i] / US_PER_MS;
    }
    qsort(values, summary->count, sizeof(*values), compare);
    summary->mean_ms = summary->count == 0 ? 0 : sum / (double)summary->count;
    summary->p50_ms = serve_percentile(values, summary->count, 50);
    summary->p90_ms = serve_percentile(values, summary->count, 90);
    summary->p99_ms = serve_percentile(values, summary->count, 99);
    free(values);
    return VARVE_OK;
}

static double
share(const struct serve_report *report, uint64_t tokens)
{
    return (double)tokens / (double)report->result->tokens;
}

static void
put_summary(struct json_writer *json, const struct summary *summary)
{
    json_put_double(json, "ttft_mean_ms", summary->mean_ms);
    json_put_double(json, "ttft_p50_ms", summary->p50_ms);
    json_put_double(json, "ttft_p90_ms", summary->p90_ms);
    json_put_double(json, "ttft_p99_ms", summary->p99_ms);
}

static int
put_stages(struct json_writer *json, const struct serve_report *report)
{
    uint64_t last = 0;
    bool first = true;

    for (size_t i = 0; i < report->result->requests; i++)
        last = report->trace->prompts[i].stage > last ? report->trace->prompts[i].stage : last;
    if (last == 0 || last > report->result->requests)
        return VARVE_OK;
    json_array_begin(json, "stages");
    for (uint64_t stage = 1; stage <= last; stage++) {
        struct summary summary;
        struct json_writer item;

        if (summarize(report, stage, &summary) != VARVE_OK)
            return VARVE_E_NOMEM;
        if (summary.count == 0)
            continue;
        item = json_item_begin(json, first);
        json_put_u64(&item, "stage", stage);
        json_put_u64(&item, "requests", summary.count);
        put_summary(&item, &summary);
        json_item_end(&item);
        first = false;
    }
    json_array_end(json);
    return VARVE_OK;
}

int
serve_report_json(const struct serve_report *report)
{
    const struct serve_result *result = report->result;
    struct json_writer json = json_begin(stdout);
    struct summary summary;
    int rc = summarize(report, 0, &summary);

    json_put_text(&json, "engine", report->engine);
    json_put_text(&json, "model", report->model);
    json_put_text(&json, "gpu", report->gpu);
    json_put_text(&json, "plan", report->settings->plan ? "on" : "off");
    json_put_text(&json, "policy", report->policy);
    json_put_text(&json, "trace", report->trace_path);
    put_summary(&json, &summary);
    json_put_double(&json, "hit_gpu", share(report, result->tokens_gpu));
    json_put_double(&json, "hit_host", share(report, result->tokens_host));
    json_put_double(&json, "hit_resident", share(report, result->tokens_resident));
    json_put_double(&json, "hit_returned", share(report, result->tokens_returned));
    json_put_double(&json, "hit_used", share(report, result->tokens_used));
    json_put_u64(&json, "requests", result->requests);
    json_put_u64(&json, "prompt_tokens", result->tokens);
    json_put_u64(&json, "computed_tokens", result->tokens_computed);
    json_put_u64(&json, "recomputed_tokens", result->tokens_recomputed);
    json_put_u64(&json, "bytes_read", report->bytes_read);
    json_put_u64(&json, "bytes_written", report->bytes_written);
    json_put_u64(&json, "wrong_bytes", report->wrong_bytes);
    json_put_u64(&json, "pages_failed", report->pages_failed);
    json_put_double(&json, "read_gb_per_s",
                    (double)report->bytes_read * report->scale / (result->read_busy_us * US_PER_MS));
    json_put_double(&json, "write_gb_per_s",
                    (double)report->bytes_written * report->scale / (report->write_busy_us * US_PER_MS));
    json_put_double(&json, "gpu_busy", result->gpu_busy_us / result->makespan_us);
    json_put_double(&json, "makespan_s", result->makespan_us / US_PER_S);
    json_put_u64(&json, "page_tokens", report->trace->page_tokens);
    json_put_u64(&json, "page_bytes", report->page_bytes);
    json_put_double(&json, "scale", report->scale);
    json_put_double(&json, "seconds", report->seconds);
    if (rc == VARVE_OK)
        rc = put_stages(&json, report);
    json_end(&json);
    return rc;
}

void
serve_report_head(const struct serve_report *report)
{
    char size[32];

    (void)printf("%zu requests, %" PRIu64 " tokens; %s on %s; pages of %" PRIu64 " tokens, %s",
                 report->trace->pages.requests, report->trace->tokens, report->model, report->gpu,
                 report->trace->page_tokens, cli_size_text(report->page_bytes, size));
    if (report->scale > 1)
        (void)printf(" (of %s)", cli_size_text(report->settings->page_bytes, size));
    (void)printf(
        "\nTTFT in ms; hits in %% of the prompt tokens: gpu, host, and in storage: there, back in time, used\n\n");
    (void)printf("%-14s %4s %9s %9s %9s %9s  %5s %5s  %5s %5s %5s  %8s %8s  %5s\n", "engine", "plan", "mean", "p50",
                 "p90", "p99", "gpu", "host", "there", "back", "used", "read", "written", "busy");
}

int
serve_report_row(const struct serve_report *report)
{
    const struct serve_result *result = report->result;
    struct summary summary;
    char bytes_read[32], bytes_written[32];
    int rc = summarize(report, 0, &summary);

    (void)printf("%-14s %4s %9.1f %9.1f %9.1f %9.1f  %5.1f %5.1f  %5.1f %5.1f %5.1f  %8s %8s  %5.2f\n", report->engine,
                 report->settings->plan ? "on" : "off", summary.mean_ms, summary.p50_ms, summary.p90_ms, summary.p99_ms,
                 100 * share(report, result->tokens_gpu), 100 * share(report, result->tokens_host),
                 100 * share(report, result->tokens_resident), 100 * share(report, result->tokens_returned),
                 100 * share(report, result->tokens_used), cli_size_text(report->bytes_read, bytes_read),
                 cli_size_text(report->bytes_written, bytes_written), result->gpu_busy_us / result->makespan_us);
    return rc;
}
