/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "json.h"

void
bench_report_begin(struct bench_report *report)
{
    report->raw_write_gb_per_s = (double)NAN;
    report->raw_read_gb_per_s = (double)NAN;
    if (!report->json)
        (void)printf("%-13s %-5s %-10s %9s %9s %9s %9s\n", "engine", "codec", "phase", "GB/s", "% of raw", "us/page",
                     "core-s/GB");
}

static double
result_gb_per_s(const struct bench_result *result)
{
    return result->bytes == 0 ? (double)NAN : (double)result->bytes / result->seconds / 1e9;
}

/* How much of the raw speed a phase reached, NaN where there is nothing to compare with. */
static double
result_of_raw(const struct bench_report *report, const struct bench_result *result)
{
    if (strcmp(result->phase, "put") == 0)
        return result_gb_per_s(result) / report->raw_write_gb_per_s;
    if (strcmp(result->phase, "get") == 0)
        return result_gb_per_s(result) / report->raw_read_gb_per_s;
    return (double)NAN;
}

static void
put_known(struct json_writer *json, const char *key, double value)
{
    if (!isnan(value))
        json_put_double(json, key, value);
}

static void
print_json(const struct bench_report *report, const struct bench_result *result)
{
    struct json_writer json = json_begin(stdout);

    json_put_text(&json, "engine", result->engine);
    json_put_text(&json, "phase", result->phase);
    if (result->io_engine != NULL)
        json_put_text(&json, "io_engine", result->io_engine);
    json_put_text(&json, "content", report->content);
    if (result->codec != NULL)
        json_put_text(&json, "codec", result->codec);
    json_put_u64(&json, "page_bytes", report->settings->page_bytes);
    json_put_u64(&json, "pages", result->pages);
    json_put_u64(&json, "batch", report->settings->batch);
    json_put_double(&json, "gb_per_s", result_gb_per_s(result));
    json_put_double(&json, "us_per_page", result->seconds * 1e6 / (double)result->pages);
    json_put_double(&json, "core_s_per_gb",
                    result->bytes == 0 ? (double)NAN : result->core_seconds / ((double)result->bytes / 1e9));
    json_put_double(&json, "seconds", result->seconds);
    put_known(&json, "of_raw", result_of_raw(report, result));
    put_known(&json, "call_us_p50", result->call_us_p50);
    put_known(&json, "call_us_p99", result->call_us_p99);
    put_known(&json, "us_per_chain", result->us_per_chain);
    put_known(&json, "open_ms", result->open_ms);
    put_known(&json, "index_bytes_per_page", result->index_bytes_per_page);
    put_known(&json, "codec_ratio", result->codec_ratio);
    if (result->checks_pages) {
        json_put_u64(&json, "missing_pages", result->missing_pages);
        json_put_u64(&json, "wrong_bytes", result->wrong_bytes);
    }
    json_end(&json);
}

/* A number in a column, or a dash. */
static void
print_cell(double value, int decimals)
{
    if (isnan(value))
        (void)printf(" %9s", "-");
    else
        (void)printf(" %9.*f", decimals, value);
}

static void
print_row(const struct bench_report *report, const struct bench_result *result)
{
    (void)printf("%-13s %-5s %-10s", result->engine, result->codec == NULL ? "-" : result->codec, result->phase);
    print_cell(result_gb_per_s(result), 3);
    print_cell(100.0 * result_of_raw(report, result), 1);
    print_cell(result->seconds * 1e6 / (double)result->pages, 3);
    print_cell(result->bytes == 0 ? (double)NAN : result->core_seconds / ((double)result->bytes / 1e9), 4);
    if (!isnan(result->us_per_chain))
        (void)printf("  %.1f us a chain (p99 %.1f)", result->us_per_chain, result->call_us_p99);
    else if (!isnan(result->call_us_p50))
        (void)printf("  a call p50 %.0f us, p99 %.0f us", result->call_us_p50, result->call_us_p99);
    if (!isnan(result->open_ms))
        (void)printf("  opened in %.1f ms", result->open_ms);
    if (!isnan(result->index_bytes_per_page))
        (void)printf(", %.2f bytes of index memory a page", result->index_bytes_per_page);
    if (!isnan(result->codec_ratio))
        (void)printf(", coded %.3f : 1", result->codec_ratio);
    if (result->missing_pages + result->wrong_bytes > 0)
        (void)printf("  %" PRIu64 " pages missing, %" PRIu64 " bytes wrong", result->missing_pages,
                     result->wrong_bytes);
    (void)putchar('\n');
}

void
bench_report_result(void *arg, const struct bench_result *result)
{
    struct bench_report *report = arg;

    if (strcmp(result->phase, "raw_write") == 0)
        report->raw_write_gb_per_s = result_gb_per_s(result);
    if (strcmp(result->phase, "raw_read") == 0)
        report->raw_read_gb_per_s = result_gb_per_s(result);
    report->wrong_bytes += result->wrong_bytes;
    report->missing_pages += result->missing_pages;
    if (report->json)
        print_json(report, result);
    else
        print_row(report, result);
    (void)fflush(stdout); /* cli_flush() at the end reports errors */
}

void
bench_report_missing(const struct bench_report *report, const char *engine, const char *package)
{
    struct json_writer json;

    cli_error("bench: %s was left out of this build: install %s, then configure with -Dpeers=enabled and build again",
              engine, package);
    if (!report->json)
        return;
    json = json_begin(stdout);
    json_put_text(&json, "engine", engine);
    json_put_text(&json, "missing", package);
    json_end(&json);
}
