/* SPDX-License-Identifier: Apache-2.0 */
/* varve tune: what the controller of the index makes of a mix of work, configuration by configuration. Changes nothing. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "commands.h"
#include "json.h"
#include "store_stats.h"
#include "tune_mix.h"

#define ROWS_MAX    1024
#define SLEEP_SHARE 0.01 /* of the payload's time: docs/controller.md */

static const char description[] =
    "Judge every configuration of the index of the store in DIR for a mix of work, as the controller would, and say "
    "which one is the cheapest:\n"
    "the choice, to which the controller goes if it is worth the switch.\n"
    "Costs are seconds of threads and device for each second of the mix: reads of index blocks, searches of locators, "
    "flushes, merges.\n"
    "Nothing is changed. docs/controller.md explains the model, and how the controller decides.\n"
    "\n"
    "The mix is NAME=VALUE,... with rates a second:\n"
    "  put      new pages\n"
    "  walk     probes and gets that find something\n"
    "  miss     page ids that are looked for and not there\n"
    "  pages    found by one walk; else as many as the branches of the store have in the mean\n"
    "  turns    batches that these were put in, at times of their own; else as many as the branches have extents\n"
    "  payload  seconds of reads and writes of pages: the controller sleeps where the index costs less than a "
    "hundredth of it\n"
    "\n"
    "A process that has a store open knows its mix and what things cost: varve_tune() in varve.h. This command has "
    "just opened the store, so it must be told the mix, and\n"
    "takes an NVMe drive for granted unless --measure tries this one.\n";

static const char examples[] = "  varve tune /mnt/nvme/kv --mix put=20000,walk=500,miss=100,pages=2000,turns=16\n"
                               "      what would the controller choose for this?\n"
                               "  varve tune /mnt/nvme/kv --mix walk=500 --explain --top 20 --measure 2\n"
                               "      the twenty best configurations, with what a block costs on this drive\n"
                               "  varve tune /mnt/nvme/kv --mix put=1e6 --explain --set block_cache_bytes=1G --json\n"
                               "      with more memory; one JSON object a line\n";

struct tune {
    struct tune_mix mix;
    struct store_stats stats;
    varve_tune_row rows[ROWS_MAX];
    size_t row_count;
    const varve_tune_row *current, *choice;
    uint64_t top;
    double measure_s;
    bool explain, json, measured;
};

static uint64_t
stat_of(const struct tune *tune, const char *name)
{
    uint64_t value = 0;

    (void)store_stats_find(&tune->stats, name, &value);
    return value;
}

static int
by_cost(const void *a, const void *b)
{
    const varve_tune_row *left = a, *right = b;

    return (left->cost > right->cost) - (left->cost < right->cost);
}

/* Judge, sort, find the current row and the choice. */
static int
judge(struct tune *tune, varve_store *store, varve_error *err)
{
    int64_t count = varve_tune(store, &tune->mix.mix, tune->rows, ROWS_MAX, err);

    if (count < 0)
        return (int)count;
    tune->row_count = count < ROWS_MAX ? (size_t)count : ROWS_MAX;
    qsort(tune->rows, tune->row_count, sizeof(tune->rows[0]), by_cost);
    for (size_t i = 0; i < tune->row_count; i++) {
        if (tune->rows[i].current)
            tune->current = &tune->rows[i];
        if (tune->rows[i].best)
            tune->choice = &tune->rows[i];
    }
    if (tune->choice == NULL)
        tune->choice = tune->current;
    return VARVE_OK;
}

static double
percent_of_current(const struct tune *tune, const varve_tune_row *row)
{
    return tune->current->cost > 0 ? 100 * row->cost / tune->current->cost : 100;
}

static bool
would_sleep(const struct tune *tune)
{
    return tune->mix.payload_s > 0 && tune->current->cost < SLEEP_SHARE * tune->mix.payload_s;
}

static void
print_row(const struct tune *tune, const varve_tune_row *row, size_t rank)
{
    char memtable[32], cache[32];

    (void)printf("%4zu %3u %2u %2u %6u %11s %11s %10.6f %8.1f %10.6f %10.6f %10.6f %10.6f%s%s\n", rank, row->size_ratio,
                 row->runs_per_level, row->runs_last_level, row->fingerprint_bits,
                 cli_size_text(row->memtable_bytes, memtable), cli_size_text(row->block_cache_bytes, cache), row->cost,
                 percent_of_current(tune, row), row->cost_reads, row->cost_locators, row->cost_flushes,
                 row->cost_merges, row == tune->choice ? "  choice" : "", row->current ? "  current" : "");
}

static void
print_constants(const struct tune *tune)
{
    (void)printf("%s: a block is read in %.1f us, a locator asked in %.1f ns, and errs %.1f times in a million\n",
                 tune->measured ? "measured here" : "defaults, not measured (--measure)",
                 (double)stat_of(tune, "control_read_ns") / 1e3, (double)stat_of(tune, "control_locator_ps") / 1e3,
                 (double)stat_of(tune, "control_false_ppb") / 1e3);
    (void)printf("defaults: a page is merged in %.0f ns, a flush takes %.1f ms\n",
                 (double)stat_of(tune, "control_merge_page_ps") / 1e3, (double)stat_of(tune, "control_flush_us") / 1e3);
}

static void
print_explanation(const struct tune *tune)
{
    const varve_tune_mix *mix = &tune->mix.mix;
    char bytes[32];

    (void)printf("index: %" PRIu64 " pages in %" PRIu64 " runs, %s\n", stat_of(tune, "run_pages"),
                 stat_of(tune, "runs"), cli_size_text(stat_of(tune, "run_bytes"), bytes));
    (void)printf("mix: %.0f pages put, %.0f walks of %.1f pages in %.1f turns, %.0f misses, a second\n", mix->pages_put,
                 mix->walks, mix->walk_pages, mix->walk_turns, mix->misses);
    print_constants(tune);
    if (stat_of(tune, "control_windows") > 0)
        (void)printf("the index takes %.6f s/s, reads and writes of pages %.6f s/s, as measured\n",
                     (double)stat_of(tune, "control_index_ppm") / 1e6,
                     (double)stat_of(tune, "control_payload_ppm") / 1e6);
    else
        (void)printf(
            "the cost of the current configuration is not measured: there was no work since the store was opened\n");
    (void)printf("\nrank   T  K  Z  width    memtable       cache   cost s/s  percent      reads   locators    flushes "
                 "    merges\n");
    for (size_t i = 0; i < tune->row_count; i++) {
        if (i < tune->top || tune->rows[i].current)
            print_row(tune, &tune->rows[i], i + 1);
    }
    (void)printf("\n");
}

static void
print_choice(const struct tune *tune)
{
    const varve_tune_row *choice = tune->choice;
    char memtable[32], cache[32];

    if (choice == tune->current)
        (void)printf("choice: as it is; predicted cost %.6f s/s\n", choice->cost);
    else
        (void)printf("choice: T=%u K=%u Z=%u width %u memtable %s cache %s; predicted cost %.6f s/s, %.1f %% of the "
                     "current %.6f\n",
                     choice->size_ratio, choice->runs_per_level, choice->runs_last_level, choice->fingerprint_bits,
                     cli_size_text(choice->memtable_bytes, memtable), cli_size_text(choice->block_cache_bytes, cache),
                     choice->cost, percent_of_current(tune, choice), tune->current->cost);
    if (would_sleep(tune))
        (void)printf("the controller would sleep: the index takes under 1 %% of %.6f s/s of reads and writes, not "
                     "worth tuning\n",
                     tune->mix.payload_s);
    else if (tune->mix.payload_s > 0)
        (void)printf("the controller would be awake: the index takes over 1 %% of %.6f s/s of reads and writes\n",
                     tune->mix.payload_s);
    if (!tune->explain)
        (void)printf("%s; --explain shows all configurations\n",
                     tune->measured ? "constants measured here"
                                    : "constants are defaults: --measure tries this device");
}

static void
print_json_row(const struct tune *tune, const varve_tune_row *row, size_t rank)
{
    struct json_writer json = json_begin(stdout);

    json_put_text(&json, "kind", "configuration");
    json_put_u64(&json, "rank", rank);
    json_put_u64(&json, "size_ratio", row->size_ratio);
    json_put_u64(&json, "runs_per_level", row->runs_per_level);
    json_put_u64(&json, "runs_last_level", row->runs_last_level);
    json_put_u64(&json, "fingerprint_bits", row->fingerprint_bits);
    json_put_u64(&json, "memtable_bytes", row->memtable_bytes);
    json_put_u64(&json, "block_cache_bytes", row->block_cache_bytes);
    json_put_double(&json, "cost", row->cost);
    json_put_double(&json, "percent_of_current", percent_of_current(tune, row));
    json_put_double(&json, "cost_reads", row->cost_reads);
    json_put_double(&json, "cost_locators", row->cost_locators);
    json_put_double(&json, "cost_flushes", row->cost_flushes);
    json_put_double(&json, "cost_merges", row->cost_merges);
    json_put_u64(&json, "current", row->current != 0);
    json_put_u64(&json, "choice", row == tune->choice);
    json_end(&json);
}

static void
print_json(const struct tune *tune)
{
    static const char *const gauges[] = {
        "run_pages",
        "runs",
        "run_bytes",
        "control_windows",
        "control_index_ppm",
        "control_payload_ppm",
        "control_read_ns",
        "control_locator_ps",
        "control_merge_page_ps",
        "control_flush_us",
        "control_false_ppb",
    };
    const varve_tune_mix *mix = &tune->mix.mix;
    struct json_writer json = json_begin(stdout);

    json_put_text(&json, "kind", "store");
    json_put_double(&json, "put", mix->pages_put);
    json_put_double(&json, "walk", mix->walks);
    json_put_double(&json, "miss", mix->misses);
    json_put_double(&json, "pages", mix->walk_pages);
    json_put_double(&json, "turns", mix->walk_turns);
    json_put_double(&json, "payload", tune->mix.payload_s);
    json_put_u64(&json, "measured", tune->measured);
    json_put_u64(&json, "would_sleep", would_sleep(tune));
    for (size_t i = 0; i < sizeof(gauges) / sizeof(gauges[0]); i++)
        json_put_u64(&json, gauges[i], stat_of(tune, gauges[i]));
    json_end(&json);
    for (size_t i = 0; i < tune->row_count; i++) {
        const varve_tune_row *row = &tune->rows[i];

        if (row->current || row == tune->choice || (tune->explain && i < tune->top))
            print_json_row(tune, row, i + 1);
    }
}

static int
measure(struct tune *tune, varve_store *store, varve_error *err)
{
    int rc;

    if (!(tune->measure_s > 0))
        return VARVE_OK;
    rc = varve_tune_measure(store, tune->measure_s, err);
    if (rc == VARVE_MISS)
        cli_error("there is nothing to measure: the index has no runs yet");
    tune->measured = rc == VARVE_OK;
    return rc < 0 ? rc : VARVE_OK;
}

static int
tune_store(struct tune *tune, const char *path, varve_options *options)
{
    varve_store *store;
    varve_error err = {0};
    int exit_code;
    int rc;

    store = cli_open(path, options, false, &exit_code);
    if (store == NULL)
        return exit_code;
    cli_say_owner(store, "this is what the process that owns it makes of it");
    rc = measure(tune, store, &err);
    if (rc == VARVE_OK)
        rc = tune_mix_complete(&tune->mix, store, &err);
    if (rc == VARVE_OK)
        rc = judge(tune, store, &err);
    if (rc != VARVE_OK)
        return cli_close(store, cli_fail(&err, "tune"));
    store_stats_read(store, &tune->stats);
    if (tune->json) {
        print_json(tune);
    } else {
        if (tune->explain)
            print_explanation(tune);
        print_choice(tune);
    }
    return cli_flush(cli_close(store, CLI_EXIT_OK));
}

int
cmd_tune(int argc, char **argv)
{
    static struct tune tune = {.top = 10};
    varve_options *store_options = NULL;
    const char *mix = NULL;
    const struct cli_option options[] = {
        {"mix", CLI_TEXT, &mix, "MIX", "the work, as NAME=VALUE,...", 0, 0, 'm'},
        {"explain", CLI_FLAG, &tune.explain, NULL, "every configuration, the best first", 0, 0, 'e'},
        {"top", CLI_U64, &tune.top, "N", "how many of them (10), and the current one", 1, ROWS_MAX, 0},
        {"measure", CLI_DOUBLE, &tune.measure_s, "SECONDS", "try out what reads and locators cost here", 0, 60, 0},
        {"json", CLI_FLAG, &tune.json, NULL, "one JSON object a line", 0, 0, 'j'},
        CLI_STORE_OPTIONS(&store_options),
    };
    const struct cli_spec spec = {"tune", "DIR", description, examples, options, sizeof(options) / sizeof(options[0]),
                                  1,      1,     false};
    int exit_code;

    if (cli_parse(&spec, &argc, &argv, &exit_code))
        exit_code = tune_mix_parse(&tune.mix, mix) ? tune_store(&tune, argv[0], store_options) : CLI_EXIT_USAGE;
    varve_options_destroy(store_options);
    return exit_code;
}
