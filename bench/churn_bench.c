/* SPDX-License-Identifier: Apache-2.0 */
/*
 * churn_bench - what reclaim costs those who read. A store is filled to its capacity; then, at the same rates of gets and puts:
 *
 *   A  the capacity is raised, so that nothing is reclaimed
 *   B  it is lowered again, and every segment that is put has to be made room for
 *   C  nothing is put
 *
 * A and B in turn, --rounds times, since other load on the machine comes and goes. First of all the disk is measured, and --rate is a third of what it writes,
 * unless it is given. A phase begins a second after its load.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"
#include "churn_load.h"
#include "cli.h"
#include "json.h"
#include "store_stats.h"

#define RAW_BYTES      ((uint64_t)1 << 30)
#define RAW_BATCH      64
#define SETTLE_SECONDS 1
#define SHRINK_SECONDS 60
#define WINDOW_SHARE   8 /* of the chains that fit: read as the youngest */
#define PATH_BYTES     4096

enum phase { PHASE_NONE, PHASE_A, PHASE_B, PHASE_C, PHASES };

struct command {
    const char *dir;
    char path[PATH_BYTES];
    uint64_t capacity, seconds, rounds, rate, gets;
    bool json;
    varve_options *options;
    struct load load;
};

/* Statistics whose difference over a phase is of interest. */
static const char *const counted[] = {"put_bytes",          "log_bytes_written", "manifest_bytes_written",
                                      "heat_bytes_written", "survivor_bytes",    "index_bytes_written",
                                      "segments_dropped",   "reclaim_lost_bytes"};
enum { PUT, LOG, MANIFEST, HEAT, SURVIVORS, INDEX, DROPPED, LOST, COUNTED };

struct totals {
    uint64_t at[COUNTED];
};

struct phase_result {
    struct phase_counts counts;
    struct totals totals;
    double seconds;
};

static const char *const phase_names[] = {"", "A no reclaim", "B reclaim", "C no writer"};

static void
must(bool holds, const char *what)
{
    if (!holds) {
        (void)fprintf(stderr, "churn_bench: %s\n", what);
        exit(EXIT_FAILURE);
    }
}

static struct totals
totals_read(varve_store *store)
{
    struct store_stats stats;
    struct totals totals = {{0}};

    store_stats_read(store, &stats);
    for (size_t i = 0; i < COUNTED; i++)
        must(store_stats_find(&stats, counted[i], &totals.at[i]), "a statistic is not there");
    return totals;
}

static uint64_t
stat_now(varve_store *store, const char *name)
{
    struct store_stats stats;
    uint64_t value = 0;

    store_stats_read(store, &stats);
    must(store_stats_find(&stats, name, &value), "a statistic is not there");
    return value;
}

static void
take_raw(void *arg, const struct bench_result *result)
{
    if (strcmp(result->phase, "raw_write") == 0)
        *(double *)arg = (double)result->bytes / result->seconds;
}

/* Bytes a second that the disk writes. */
static double
measure_disk(const struct command *command, const struct page_content *content)
{
    const struct bench_settings settings = {.dir = command->dir,
                                            .page_bytes = command->load.settings.page_bytes,
                                            .pages = RAW_BYTES / command->load.settings.page_bytes,
                                            .batch = RAW_BATCH,
                                            .chain = RAW_BATCH,
                                            .seed = 1};
    double rate = 0;
    const struct bench_sink sink = {take_raw, &rate};
    char path[PATH_BYTES + 8], file[PATH_BYTES + 16];

    (void)snprintf(path, sizeof(path), "%s/raw", command->dir);
    (void)snprintf(file, sizeof(file), "%s/raw", path);
    must(bench_raw(&settings, path, content, &sink, NULL) == VARVE_OK, "the disk could not be measured");
    (void)unlink(file);
    (void)rmdir(path);
    return rate;
}

static void
set_capacity(struct command *command, uint64_t capacity)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%" PRIu64, capacity);
    must(varve_option_set(command->load.store, "capacity", text, NULL) == VARVE_OK, "the capacity could not be set");
    atomic_store(&command->load.capacity, capacity);
    for (unsigned i = 0; i < SHRINK_SECONDS * 100 && stat_now(command->load.store, "disk_bytes") > capacity; i++)
        (void)usleep(10000);
    must(stat_now(command->load.store, "disk_bytes") <= capacity, "a lower capacity was not reached");
}

/* One phase of one round, added to *into. */
static void
run_phase(struct command *command, enum phase phase, uint64_t seconds, struct phase_result *into)
{
    struct load *load = &command->load;
    struct totals begin, end;
    uint64_t begin_ns;

    atomic_store(&load->writing, phase != PHASE_C);
    (void)sleep(SETTLE_SECONDS);
    begin = totals_read(load->store);
    begin_ns = cli_now_ns();
    load_begin_phase(load, phase);
    (void)sleep((unsigned)seconds);
    load_end_phase(load, &into->counts);
    into->seconds += (double)(cli_now_ns() - begin_ns) / 1e9;
    end = totals_read(load->store);
    for (size_t i = 0; i < COUNTED; i++)
        into->totals.at[i] += end.at[i] - begin.at[i];
    atomic_store(&load->writing, false);
}

static double
percentile_us(const struct histogram *histogram, double percent)
{
    return histogram->count == 0 ? (double)NAN : (double)histogram_percentile(histogram, percent) / 1e3;
}

static double
written(const struct totals *totals)
{
    return (double)(totals->at[LOG] + totals->at[MANIFEST] + totals->at[HEAT] + totals->at[INDEX]);
}

static void
print_phase(const struct command *command, enum phase phase, uint64_t round, const struct phase_result *result)
{
    const struct histogram *get = &result->counts.get_ns, *put = &result->counts.put_ns;
    const uint64_t *at = result->totals.at;
    double amplification = at[PUT] == 0 ? (double)NAN : written(&result->totals) / (double)at[PUT];
    double put_rate = (double)at[PUT] / result->seconds, survivors = (double)at[SURVIVORS] / result->seconds;

    if (!command->json) {
        (void)printf("%-12s %5" PRIu64 " %8" PRIu64 " %8.2f %8.2f %8.2f %9.2f %9.1f %9.1f %8.3f %7" PRIu64 "\n",
                     phase_names[phase], round, get->count, percentile_us(get, 50) / 1e3, percentile_us(get, 99) / 1e3,
                     percentile_us(get, 99.9) / 1e3, percentile_us(put, 99) / 1e3, put_rate / 1e6, survivors / 1e6,
                     amplification, result->counts.missing_pages);
    } else {
        struct json_writer writer = json_begin(stdout);

        json_put_text(&writer, "phase", phase_names[phase]);
        json_put_u64(&writer, "round", round);
        json_put_double(&writer, "seconds", result->seconds);
        json_put_u64(&writer, "gets", get->count);
        json_put_double(&writer, "get_us_p50", percentile_us(get, 50));
        json_put_double(&writer, "get_us_p99", percentile_us(get, 99));
        json_put_double(&writer, "get_us_p999", percentile_us(get, 99.9));
        json_put_double(&writer, "put_us_p99", percentile_us(put, 99));
        json_put_double(&writer, "put_bytes_s", put_rate);
        json_put_double(&writer, "survivor_bytes_s", survivors);
        json_put_double(&writer, "write_amplification", amplification);
        json_put_u64(&writer, "segments_dropped", at[DROPPED]);
        json_put_u64(&writer, "reclaim_lost_bytes", at[LOST]);
        json_put_u64(&writer, "missing_pages", result->counts.missing_pages);
        json_put_u64(&writer, "refused_pages", result->counts.refused_pages);
        json_end(&writer);
    }
    (void)fflush(stdout);
}

static void
print_samples(const struct load *load)
{
    static const char *const keys[] = {"ms", "disk_bytes", "capacity_bytes", "phases"};
    uint64_t *values = reallocarray(NULL, load->sample_count, sizeof(*values));
    struct json_writer writer = json_begin(stdout);

    must(values != NULL, "out of memory");
    json_put_text(&writer, "phase", "samples");
    for (size_t key = 0; key < sizeof(keys) / sizeof(keys[0]); key++) {
        for (size_t i = 0; i < load->sample_count; i++) {
            const struct sample *sample = &load->samples[i];

            values[i] = key == 0 ? sample->ms : key == 1 ? sample->bytes : key == 2 ? sample->capacity : sample->phase;
        }
        json_put_u64s(&writer, keys[key], values, load->sample_count);
    }
    json_end(&writer);
    free(values);
}

/* Samples above the capacity while a phase was measured: there must be none. */
static uint64_t
samples_above(const struct load *load)
{
    uint64_t above = 0;

    for (size_t i = 0; i < load->sample_count; i++)
        above += load->samples[i].phase != PHASE_NONE && load->samples[i].bytes > load->samples[i].capacity;
    return above;
}

static void
print_ratio(const struct command *command, const struct phase_result *results)
{
    double ratio =
        percentile_us(&results[PHASE_B].counts.get_ns, 99) / percentile_us(&results[PHASE_A].counts.get_ns, 99);

    if (command->json) {
        struct json_writer writer = json_begin(stdout);

        json_put_text(&writer, "phase", "ratio");
        json_put_double(&writer, "get_p99_b_over_a", ratio);
        json_put_double(&writer, "rate_bytes_s", command->load.settings.rate);
        json_put_u64(&writer, "samples", command->load.sample_count);
        json_put_u64(&writer, "samples_above_capacity", samples_above(&command->load));
        json_end(&writer);
        print_samples(&command->load);
    } else {
        (void)printf("get p99, B over A: %.2f; %zu samples of the directory, %" PRIu64 " above the capacity\n", ratio,
                     command->load.sample_count, samples_above(&command->load));
    }
}

/* Fill the store, and go on until what it holds was written under reclaim. */
static void
fill(struct command *command)
{
    struct load *load = &command->load;
    uint64_t chains = 3 * command->capacity / (2 * load->settings.chain * load->settings.page_bytes);

    while (chains-- > 0)
        must(load_put(load), "a put failed");
}

static void
run_rounds(struct command *command)
{
    struct load *load = &command->load;
    static struct phase_result sums[PHASES], results[PHASES];
    uint64_t room = (uint64_t)(load->settings.rate * ((double)command->seconds + 2.0 * SETTLE_SECONDS));

    if (!command->json)
        (void)printf("%-12s %5s %8s %8s %8s %8s %9s %9s %9s %8s %7s\n", "phase", "round", "gets", "p50 ms", "p99 ms",
                     "p999 ms", "put99 ms", "put MB/s", "surv MB/s", "w.amp", "missing");
    atomic_store(&load->reading, true);
    for (uint64_t round = 1; round <= command->rounds; round++) {
        for (enum phase phase = PHASE_A; phase <= PHASE_C; phase++) {
            if (phase == PHASE_C && round < command->rounds)
                continue;
            memset(&results[phase], 0, sizeof(results[phase]));
            set_capacity(command,
                         phase == PHASE_A ? command->capacity + command->capacity / 4 + room : command->capacity);
            run_phase(command, phase, command->seconds, &results[phase]);
            print_phase(command, phase, round, &results[phase]);
            histogram_merge(&sums[phase].counts.get_ns, &results[phase].counts.get_ns);
            histogram_merge(&sums[phase].counts.put_ns, &results[phase].counts.put_ns);
            sums[phase].counts.missing_pages += results[phase].counts.missing_pages;
            sums[phase].counts.refused_pages += results[phase].counts.refused_pages;
            sums[phase].seconds += results[phase].seconds;
            for (size_t i = 0; i < COUNTED; i++)
                sums[phase].totals.at[i] += results[phase].totals.at[i];
        }
    }
    atomic_store(&load->reading, false);
    for (enum phase phase = PHASE_A; phase <= PHASE_C; phase++)
        print_phase(command, phase, 0, &sums[phase]);
    print_ratio(command, sums);
}

static void
run(struct command *command)
{
    struct load *load = &command->load;
    struct page_content *content = page_content_create();
    char text[32];

    must(content != NULL, "out of memory");
    must(command->dir != NULL, "no directory");
    (void)mkdir(command->dir, 0700);
    load->settings.rate = command->rate != 0 ? (double)command->rate : measure_disk(command, content) / 3;
    (void)fprintf(stderr, "churn_bench: putting %.0f MB/s\n", load->settings.rate / 1e6);
    (void)snprintf(text, sizeof(text), "%" PRIu64, command->capacity);
    must(command->options != NULL || (command->options = varve_options_create()) != NULL, "out of memory");
    must(varve_options_set(command->options, "capacity", text, NULL) == VARVE_OK, "--capacity is not possible");
    must(varve_open(command->path, command->options, &load->store, NULL) == VARVE_OK, "the store cannot be opened");
    must(varve_namespace_open(load->store, "churn", NULL, &load->ns, NULL) == VARVE_OK, "no namespace");
    must(page_buffers_init(&load->pool, 1024, load->settings.page_bytes) == VARVE_OK, "out of memory");
    for (size_t i = 0; i < load->pool.count; i++)
        page_buffers_fill(&load->pool, i, content);
    load->settings.path = command->path;
    load->settings.window = command->capacity / (WINDOW_SHARE * load->settings.chain * load->settings.page_bytes);
    must(load->settings.window > 0, "--capacity: give more, for more chains");
    atomic_store(&load->capacity, command->capacity);
    must(load_start(load), "no threads");
    fill(command);
    run_rounds(command);
    load_stop(load);
    must(!atomic_load(&load->failed), "a call failed");
    must(varve_close(load->store, NULL) == VARVE_OK, "the store could not be closed");
    free(load->samples);
    page_buffers_deinit(&load->pool);
    page_content_destroy(content);
    varve_options_destroy(command->options);
}

int
main(int argc, char **argv)
{
    static struct command command = {.capacity = (uint64_t)2 << 30,
                                     .seconds = 10,
                                     .rounds = 3,
                                     .load.settings = {.page_bytes = 65536, .chain = 64, .readers = 2, .seed = 1}};
    struct load_settings *settings = &command.load.settings;
    const struct cli_option options[] = {
        {"capacity", CLI_SIZE, &command.capacity, "SIZE", "of the store (2G)", (uint64_t)64 << 20, 0, 0},
        {"page-bytes", CLI_SIZE, &settings->page_bytes, "SIZE", "bytes of a page (64K)", 512, (uint64_t)4 << 20, 0},
        {"chain", CLI_U64, &settings->chain, "N", "pages of a chain, put and got in one call (64)", 1, 1024, 0},
        {"readers", CLI_U64, &settings->readers, "N", "threads that get (2)", 1, READERS_MAX, 0},
        {"gets", CLI_U64, &command.gets, "N", "gets a second of each (0: without pause)", 0, 1000000, 0},
        {"rate", CLI_SIZE, &command.rate, "SIZE", "bytes put a second (0: a third of what the disk writes)", 0, 0, 0},
        {"seconds", CLI_U64, &command.seconds, "N", "of each phase in each round (10)", 1, 3600, 0},
        {"rounds", CLI_U64, &command.rounds, "N", "of A and B (3)", 1, 100, 0},
        {"seed", CLI_U64, &settings->seed, "N", "of ids and order (1)", 0, 0, 0},
        {"json", CLI_FLAG, &command.json, NULL, "one JSON object a line, the samples of the directory last", 0, 0, 'j'},
        {"set", CLI_STORE_SET, &command.options, "NAME=VALUE", "set a store option", 0, 0, 0},
    };
    const struct cli_spec spec = {
        .name = "churn_bench",
        .is_program = true,
        .operands = "DIR",
        .description = "Gets and puts in a store with and without reclaim. DIR is kept: remove it afterwards.\n",
        .examples =
            "  churn_bench /mnt/nvme/churn --capacity 4G --json > churn.jsonl\n      for scripts/plot_churn.py\n",
        .options = options,
        .option_count = sizeof(options) / sizeof(options[0]),
        .operands_min = 1,
        .operands_max = 1,
    };
    int exit_code;

    if (!cli_parse(&spec, &argc, &argv, &exit_code))
        return exit_code;
    command.dir = argv[0];
    settings->gets = (double)command.gets;
    (void)snprintf(command.path, sizeof(command.path), "%s/store", command.dir);
    run(&command);
    return EXIT_SUCCESS;
}
