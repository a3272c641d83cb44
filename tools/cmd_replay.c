/* SPDX-License-Identifier: Apache-2.0 */
/* varve replay: the command line, the store around the run, and the report. The run itself is in replay.c. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "commands.h"
#include "disk_usage.h"
#include "json.h"
#include "policy.h"
#include "replay.h"
#include "store_stats.h"

#define BUFFER_BYTES_MAX ((uint64_t)256 << 20) /* of a thread: batches of large pages are cut to this */

static const char description[] =
    "Play a request trace (JSONL, see 'varve trace'; - is standard input) against the store in --dir, as a serving "
    "node would:\n"
    "for each request probe the chain of its prompt, get the hit prefix, put the rest. Page contents follow from the "
    "page\n"
    "ids, look like bf16 tensors, and every byte that is read is compared. One page stands for one block of the "
    "trace.\n"
    "The store is made when it is not there, and goes on from what it holds when it is.\n"
    "\n"
    "varve replay --serve TRACE DIR is another command: a simulated serving engine, and its time to the first token "
    "with this store, with\n"
    "others, and with none. 'varve replay --serve --help' tells more.\n";

static const char examples[] =
    "  varve replay chat.jsonl --dir /mnt/nvme/kv --page-bytes 1M --capacity 64G\n"
    "      hit rate, GB/s, latencies and write amplification of a 64 GiB cache\n"
    "  varve replay chat.jsonl --dir /tmp/kv --page-bytes 16K --capacity 256M --set io_engine=threads --json\n"
    "      the same with the thread pool, as one JSON object\n"
    "  varve replay chat.jsonl --dir /tmp/kv --page-bytes 64K --ack-file /tmp/acks    (kill -9 it, then)\n"
    "  varve replay chat.jsonl --dir /tmp/kv --page-bytes 64K --verify-acks /tmp/acks\n"
    "      is every acknowledged page still there?\n"
    "  varve replay chat.jsonl --policy-only --capacities 1%,5%,10%\n"
    "      hit rates of the store's ageing and reclaim beside LRU and Belady's optimum, in seconds\n"
    "  varve replay chat.jsonl --policy-only --ranks 4 --lag 2\n"
    "      hit rates of 4 ranks that share a store, beside those of a store of whole pages\n";

struct replay_command {
    struct replay_settings settings;
    const char *dir;
    const char *namespace_name;
    const char *ack_file;
    const char *verify_acks;
    const char *capacities;
    bool policy_only;
    uint64_t ranks, lag, given_up;
    bool json;
    varve_options *options;
    struct page_content *content;
    varve_store *store;
    varve_namespace *ns;
    uint64_t disk_bytes_max;
};

static double
ratio(uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0.0 : (double)part / (double)whole;
}

/* Bytes per nanosecond are GB/s. */
static double
gb_per_s(uint64_t bytes, uint64_t ns)
{
    return ratio(bytes, ns);
}

static double
percentile_us(const struct histogram *histogram, double percent)
{
    return (double)histogram_percentile(histogram, percent) / 1000.0;
}

static void
put_percentiles(struct json_writer *json, const char *name, const struct histogram *histogram)
{
    char key[32];

    (void)snprintf(key, sizeof(key), "%s_us_p50", name);
    json_put_double(json, key, percentile_us(histogram, 50));
    (void)snprintf(key, sizeof(key), "%s_us_p99", name);
    json_put_double(json, key, percentile_us(histogram, 99));
}

static void
put_stat(struct json_writer *json, const struct store_stats *stats, const char *name)
{
    uint64_t value;

    if (store_stats_find(stats, name, &value))
        json_put_u64(json, name, value);
}

/* Payload that puts have stored: without pages that were there already, where the library tells. */
static uint64_t
stored_bytes(const struct replay_totals *totals, const struct store_stats *stats)
{
    uint64_t bytes;

    return store_stats_find(stats, "put_bytes", &bytes) ? bytes : totals->put_bytes;
}

static void
report_json(const struct replay_command *command, const struct replay_totals *totals, const struct store_stats *stats)
{
    struct json_writer json = json_begin(stdout);

    json_put_text(&json, "trace", command->settings.trace);
    json_put_u64(&json, "requests", totals->requests);
    json_put_u64(&json, "pages_probed", totals->pages_probed);
    json_put_u64(&json, "pages_hit", totals->pages_hit);
    json_put_u64(&json, "pages_put", totals->pages_put);
    json_put_double(&json, "hit_rate", ratio(totals->pages_hit, totals->pages_probed));
    json_put_u64(&json, "wrong_bytes", totals->wrong_bytes);
    json_put_double(&json, "get_gb_per_s", gb_per_s(totals->get_bytes, totals->get_busy_ns));
    json_put_double(&json, "put_gb_per_s", gb_per_s(stored_bytes(totals, stats), totals->put_busy_ns));
    put_percentiles(&json, "probe", &totals->probe_ns);
    put_percentiles(&json, "get", &totals->get_ns);
    put_percentiles(&json, "put", &totals->put_ns);
    json_put_u64(&json, "disk_bytes_max", command->disk_bytes_max);
    put_stat(&json, stats, "capacity_bytes");
    json_put_double(&json, "write_amplification", store_stats_write_amplification(stats));
    json_put_u64(&json, "page_bytes", command->settings.page_bytes);
    json_put_u64(&json, "batch", command->settings.batch);
    json_put_u64(&json, "threads", command->settings.threads);
    json_put_double(&json, "seconds", (double)totals->elapsed_ns / 1e9);
    json_put_u64(&json, "probe_hits", totals->probe_hits);
    json_put_u64(&json, "pages_lost", totals->pages_lost);
    json_put_u64(&json, "get_failed", totals->get_failed);
    json_put_u64(&json, "put_failed", totals->put_failed);
    json_put_u64(&json, "wrong_pages", totals->wrong_pages);
    put_stat(&json, stats, "put_duplicates");
    put_stat(&json, stats, "disk_bytes");
    put_stat(&json, stats, "index_memory_bytes");
    put_stat(&json, stats, "io_engine_uring");
    json_end(&json);
}

static void
print_speed(const char *what, uint64_t pages, uint64_t bytes, uint64_t busy_ns, const struct histogram *histogram)
{
    char size[32];

    (void)printf("%-20s %12" PRIu64 "   %s, %.2f GB/s, a call p50 %.0f us, p99 %.0f us\n", what, pages,
                 cli_size_text(bytes, size), gb_per_s(bytes, busy_ns), percentile_us(histogram, 50),
                 percentile_us(histogram, 99));
}

static void
report_text(const struct replay_command *command, const struct replay_totals *totals, const struct store_stats *stats)
{
    uint64_t capacity = 0;
    double amplification = store_stats_write_amplification(stats);
    char used[32];
    char limit[32];

    (void)printf("%-20s %12" PRIu64 "   in %.1f s, %.0f a second\n", "requests", totals->requests,
                 (double)totals->elapsed_ns / 1e9, 1e9 * ratio(totals->requests, totals->elapsed_ns));
    (void)printf("%-20s %12" PRIu64 "   a chain p50 %.1f us, p99 %.1f us\n", "pages probed", totals->pages_probed,
                 percentile_us(&totals->probe_ns, 50), percentile_us(&totals->probe_ns, 99));
    print_speed("pages hit", totals->pages_hit, totals->get_bytes, totals->get_busy_ns, &totals->get_ns);
    print_speed("pages put", totals->pages_put, stored_bytes(totals, stats), totals->put_busy_ns, &totals->put_ns);
    (void)printf("%-20s %11.2f %%\n", "hit rate", 100.0 * ratio(totals->pages_hit, totals->pages_probed));
    if (totals->pages_lost > 0)
        (void)printf("%-20s %12" PRIu64 "   found by a probe, evicted before the get\n", "pages lost",
                     totals->pages_lost);
    if (totals->get_failed + totals->put_failed > 0)
        (void)printf("%-20s %12" PRIu64 "   gets, %" PRIu64 " puts\n", "pages failed", totals->get_failed,
                     totals->put_failed);
    (void)printf("%-20s %12s   ", "on disk, at most", cli_size_text(command->disk_bytes_max, used));
    if (store_stats_find(stats, "capacity_bytes", &capacity))
        (void)printf("of %s", cli_size_text(capacity, limit));
    (void)putchar('\n');
    if (!isnan(amplification))
        (void)printf("%-20s %12.3f\n", "write amplification", amplification);
    (void)printf("%-20s %12" PRIu64 "%s\n", "wrong bytes", totals->wrong_bytes,
                 command->settings.no_verify ? "   (not looked for: --no-verify)" : "");
}

static int
play(struct replay_command *command)
{
    struct disk_sampler *sampler;
    struct replay_totals totals;
    struct store_stats stats;
    varve_error err = {0};
    int exit_code = CLI_EXIT_OK;
    int rc;

    sampler = disk_sampler_start(command->dir);
    if (sampler == NULL) {
        cli_error("replay: cannot start a thread");
        return CLI_EXIT_STORE;
    }
    rc = replay_run(command->store, command->ns, command->content, &command->settings, &totals, &err);
    if (rc < 0)
        exit_code = cli_fail(&err, "replay");
    /* What waits in memory is part of what was written. */
    if (rc == VARVE_OK && varve_sync(command->store, &err) < 0)
        exit_code = cli_fail(&err, "replay");
    command->disk_bytes_max = disk_sampler_stop(sampler);
    store_stats_read(command->store, &stats);
    if (command->json)
        report_json(command, &totals, &stats);
    else
        report_text(command, &totals, &stats);
    if (totals.wrong_bytes > 0) {
        cli_error("replay: %" PRIu64 " wrong bytes in %" PRIu64 " pages", totals.wrong_bytes, totals.wrong_pages);
        return CLI_EXIT_FOUND;
    }
    if (exit_code == CLI_EXIT_OK && totals.get_failed + totals.put_failed > 0) {
        cli_error("replay: %" PRIu64 " pages could not be read and %" PRIu64 " not be put", totals.get_failed,
                  totals.put_failed);
        return CLI_EXIT_STORE;
    }
    return exit_code;
}

static int
verify(struct replay_command *command)
{
    struct replay_acks_report report;
    varve_error err = {0};

    if (replay_verify_acks(command->store, command->ns, command->content, &command->settings, command->verify_acks,
                           &report, &err) < 0)
        return cli_fail(&err, "replay");
    if (command->json) {
        struct json_writer json = json_begin(stdout);

        json_put_text(&json, "trace", command->settings.trace);
        json_put_u64(&json, "pages_acknowledged", report.acknowledged);
        json_put_u64(&json, "pages_missing", report.missing);
        json_put_u64(&json, "wrong_pages", report.wrong_pages);
        json_put_u64(&json, "wrong_bytes", report.wrong_bytes);
        json_end(&json);
    } else {
        (void)printf("%" PRIu64 " pages were acknowledged: %" PRIu64 " missing, %" PRIu64 " wrong\n",
                     report.acknowledged, report.missing, report.wrong_pages);
    }
    return report.missing + report.wrong_pages > 0 ? CLI_EXIT_FOUND : CLI_EXIT_OK;
}

static int
open_namespace(struct replay_command *command)
{
    varve_namespace_attributes attributes = VARVE_NAMESPACE_ATTRIBUTES_INIT;
    char name[64];
    varve_error err = {0};

    attributes.element_type = VARVE_ELEMENT_BF16;
    attributes.page_bytes_hint = command->settings.page_bytes;
    (void)snprintf(name, sizeof(name), "replay/bf16/%" PRIu64, command->settings.page_bytes);
    if (varve_namespace_open(command->store, command->namespace_name != NULL ? command->namespace_name : name,
                             &attributes, &command->ns, &err) < 0)
        return cli_fail(&err, "replay: namespace");
    return CLI_EXIT_OK;
}

static int
run_with_store(struct replay_command *command)
{
    int exit_code;

    command->content = page_content_create();
    if (command->content == NULL) {
        cli_error("replay: out of memory");
        return CLI_EXIT_STORE;
    }
    command->store = cli_open(command->dir, command->options, command->verify_acks == NULL, &exit_code);
    if (command->store != NULL) {
        exit_code = open_namespace(command);
        if (exit_code == CLI_EXIT_OK)
            exit_code = command->verify_acks != NULL ? verify(command) : play(command);
        exit_code = cli_close(command->store, exit_code);
    }
    page_content_destroy(command->content);
    return exit_code;
}

static int
run(struct replay_command *command)
{
    struct replay_settings *settings = &command->settings;
    int exit_code;

    if (strcmp(settings->trace, "-") != 0 && access(settings->trace, R_OK) != 0) {
        cli_error("replay: cannot open the trace %s: %s", settings->trace, strerror(errno));
        return CLI_EXIT_USAGE;
    }
    if (command->policy_only) {
        const struct policy_ranks ranks = {
            .count = (uint32_t)command->ranks, .lag = (uint32_t)command->lag, .given_up = (uint32_t)command->given_up};

        return cli_flush(policy_report(settings->trace, command->capacities, settings->limit, &ranks, command->json));
    }
    if (command->dir == NULL) {
        cli_error("replay: say where the store is: --dir DIR");
        return CLI_EXIT_USAGE;
    }
    if (settings->page_bytes > 0 && settings->batch > BUFFER_BYTES_MAX / settings->page_bytes)
        settings->batch = BUFFER_BYTES_MAX / settings->page_bytes;
    if (command->ack_file != NULL) {
        settings->ack_fd = open(command->ack_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (settings->ack_fd < 0) {
            cli_error("replay: cannot write %s: %s", command->ack_file, strerror(errno));
            return CLI_EXIT_USAGE;
        }
    }
    exit_code = run_with_store(command);
    if (settings->ack_fd >= 0)
        (void)close(settings->ack_fd);
    return cli_flush(exit_code);
}

/* Takes the word --serve out of the arguments: true, it was there. */
static bool
take_serve(int *argc, char **argv)
{
    for (int i = 1; i < *argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--serve") != 0)
            continue;
        memmove(&argv[i], &argv[i + 1], (size_t)(*argc - i) * sizeof(*argv));
        (*argc)--;
        return true;
    }
    return false;
}

int
cmd_replay(int argc, char **argv)
{
    struct replay_command command = {
        .settings = {.page_bytes = 65536, .batch = REPLAY_BATCH, .threads = 1, .ack_fd = -1},
        .capacities = "1%,5%,10%,25%,50%"};
    struct replay_settings *settings = &command.settings;
    const struct cli_option options[] = {
        {"dir", CLI_TEXT, &command.dir, "DIR", "directory of the store", 0, 0, 'd'},
        {"page-bytes", CLI_SIZE, &settings->page_bytes, "SIZE", "bytes of a page (64K)", 0, VARVE_PAGE_BYTES_MAX, 0},
        CLI_STORE_OPTIONS(&command.options),
        {"threads", CLI_U64, &settings->threads, "N", "requests played at a time (1)", 1, 256, 't'},
        {"batch", CLI_U64, &settings->batch, "N", "pages a call, at most (128)", 1, REPLAY_BATCH, 0},
        {"limit", CLI_U64, &settings->limit, "N", "stop after N requests", 1, 0, 'n'},
        {"namespace", CLI_TEXT, &command.namespace_name, "NAME", "namespace (replay/bf16/<page bytes>)", 0, 0, 0},
        {"no-get", CLI_FLAG, &settings->no_get, NULL, "probe and put only", 0, 0, 0},
        {"no-verify", CLI_FLAG, &settings->no_verify, NULL, "do not compare what is read", 0, 0, 0},
        {"sync", CLI_FLAG, &settings->sync, NULL, "make each put durable before it returns", 0, 0, 0},
        {"ack-file", CLI_TEXT, &command.ack_file, "FILE", "append a line for each acknowledged batch", 0, 0, 0},
        {"verify-acks", CLI_TEXT, &command.verify_acks, "FILE", "play nothing; check what FILE says was put", 0, 0, 0},
        {"policy-only", CLI_FLAG, &command.policy_only, NULL, "what a cache would keep, without data: no --dir", 0, 0,
         0},
        {"capacities", CLI_TEXT, &command.capacities, "LIST",
         "its sizes: shares of the footprint, or pages (1%,5%,10%,25%,50%)", 0, 0, 0},
        {"ranks", CLI_U64, &command.ranks, "N", "of it: N ranks that share the store, each with a part of every page",
         1, 64, 0},
        {"lag", CLI_U64, &command.lag, "N", "requests that a rank is behind with its puts, at most (0)", 0, 1000, 0},
        {"give-up", CLI_U64, &command.given_up, "N", "puts of 1,000 that a rank gives up (0)", 0, 1000, 0},
        {"json", CLI_FLAG, &command.json, NULL, "print one JSON object (--policy-only: a line each)", 0, 0, 'j'},
        {"progress", CLI_FLAG, &settings->progress, NULL, "show progress even when this is no terminal", 0, 0, 0},
    };
    const struct cli_spec spec = {
        "replay", "TRACE", description, examples, options, sizeof(options) / sizeof(options[0]), 1, 1, false};
    int exit_code;

    if (take_serve(&argc, argv))
        return cmd_serve(argc, argv);
    if (cli_parse(&spec, &argc, &argv, &exit_code)) {
        settings->trace = argv[0];
        exit_code = run(&command);
    }
    varve_options_destroy(command.options);
    return exit_code;
}
