/* SPDX-License-Identifier: Apache-2.0 */
/* varve check: the index against the log, the accounts against the directory, and, deep, every byte against its checksum. */
#include <inttypes.h>
#include <stdio.h>

#include "cli.h"
#include "commands.h"
#include "json.h"

static const char description[] =
    "Open the store in DIR and compare its index with its log, and its space accounts with its files. With --deep,\n"
    "read every page and verify its checksum, too. Opening a store recovers it first, as any open does.\n"
    "\n"
    "Exit code 0: clean. 1: problems were found, one line each. 3: the store could not be opened or read.\n"
    "A damaged page is never served: it is a miss, and putting it again heals it.\n";

static const char examples[] = "  varve check /mnt/nvme/kv\n"
                               "      headers and index, seconds for a terabyte\n"
                               "  varve check /mnt/nvme/kv --deep --json\n"
                               "      every byte; one JSON object\n";

static void
show_problem(void *arg, const char *text)
{
    (void)arg;
    (void)fprintf(stderr, "problem: %s\n", text);
}

static void
show_progress(void *arg, uint64_t done, uint64_t total)
{
    cli_progress_update(arg, done, total);
}

static void
print_report(const varve_check_report *report, bool json)
{
    char bytes[32];

    if (json) {
        struct json_writer writer = json_begin(stdout);

        json_put_u64(&writer, "problems", report->problems);
        json_put_u64(&writer, "segments", report->segments);
        json_put_u64(&writer, "runs", report->runs);
        json_put_u64(&writer, "extents", report->extents);
        json_put_u64(&writer, "pages", report->pages);
        json_put_u64(&writer, "pages_verified", report->pages_verified);
        json_put_u64(&writer, "bytes_verified", report->bytes_verified);
        json_end(&writer);
        return;
    }
    (void)printf("%" PRIu64 " segments, %" PRIu64 " runs, %" PRIu64 " extents, %" PRIu64 " pages\n", report->segments,
                 report->runs, report->extents, report->pages);
    if (report->pages_verified > 0)
        (void)printf("%" PRIu64 " pages verified, %s\n", report->pages_verified,
                     cli_size_text(report->bytes_verified, bytes));
    if (report->problems == 0)
        (void)printf("clean\n");
    else
        (void)printf("%" PRIu32 " problems\n", report->problems);
}

static int
check_store(const char *path, varve_options *options, bool deep, bool json, bool progress_wanted)
{
    varve_check_report report = VARVE_CHECK_REPORT_INIT;
    struct cli_progress progress = cli_progress_start("pages checked", progress_wanted);
    varve_store *store;
    varve_error err;
    int exit_code, rc;

    store = cli_open(path, options, false, &exit_code);
    if (store == NULL)
        return exit_code;
    cli_say_owner(store, "the process that owns it checks it");
    rc = varve_check(store, deep ? VARVE_CHECK_DEEP : 0, show_problem, show_progress, &progress, &report, &err);
    cli_progress_finish(&progress);
    if (rc != VARVE_OK) {
        exit_code = cli_fail(&err, "check");
    } else {
        print_report(&report, json);
        exit_code = report.problems == 0 ? CLI_EXIT_OK : CLI_EXIT_FOUND;
    }
    return cli_flush(cli_close(store, exit_code));
}

int
cmd_check(int argc, char **argv)
{
    varve_options *store_options = NULL;
    bool deep = false, json = false, progress = false;
    const struct cli_option options[] = {
        {"deep", CLI_FLAG, &deep, NULL, "read and verify every page", 0, 0, 'd'},
        {"json", CLI_FLAG, &json, NULL, "print one JSON object", 0, 0, 'j'},
        {"progress", CLI_FLAG, &progress, NULL, "show progress even if standard error is no terminal", 0, 0, 0},
        CLI_STORE_OPTIONS(&store_options),
    };
    const struct cli_spec spec = {"check", "DIR", description, examples, options, sizeof(options) / sizeof(options[0]),
                                  1,       1,     false};
    int exit_code;

    if (cli_parse(&spec, &argc, &argv, &exit_code))
        exit_code = check_store(argv[0], store_options, deep, json, progress);
    varve_options_destroy(store_options);
    return exit_code;
}
