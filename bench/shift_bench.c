/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shift_bench - a workload that shifts between writing and reading, stage by stage, and what each stage took. The same operations for every setting of the
 * store: run it with shapes held fast, and with the controller, and compare the times.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "json.h"
#include "shift_load.h"
#include "store_stats.h"

#define STAGES_MAX 64

/* Sums, of which a stage reports the difference. */
static const char *const counted[] = {"block_cache_hits", "block_cache_misses",  "index_merges",
                                      "index_flushes",    "index_bytes_written", "put_stalls",
                                      "put_bytes",        "probe_hits",          "control_switches",
                                      "control_reverts",  "control_windows",     "control_time_us"};
/* And what it reports as it is at its end. */
static const char *const shown[] = {"runs",
                                    "levels",
                                    "control_asleep",
                                    "control_size_ratio",
                                    "control_runs_per_level",
                                    "control_runs_last_level",
                                    "control_fingerprint_bits",
                                    "control_memtable_bytes",
                                    "control_cache_bytes",
                                    "control_index_ppm",
                                    "control_payload_ppm",
                                    "control_read_ns",
                                    "control_locator_ps",
                                    "control_merge_page_ps",
                                    "control_flush_us",
                                    "control_false_ppb"};

#define COUNTED (sizeof(counted) / sizeof(counted[0]))
#define SHOWN   (sizeof(shown) / sizeof(shown[0]))

struct command {
    const char *path, *stages_text;
    struct shift_settings settings;
    struct shift_stage stages[STAGES_MAX];
    size_t stage_count;
    bool prepare, json, log;
    uint64_t opened_ns;
    varve_options *options;
    varve_store *store;
};

static void
must(bool holds, const char *what)
{
    if (!holds) {
        (void)fprintf(stderr, "shift_bench: %s\n", what);
        exit(EXIT_FAILURE);
    }
}

/* "80/10:20000,0/5:5000": percent of operations that begin a conversation, and that add a turn to one; how many operations. */
static bool
parse_stages(struct command *command)
{
    const char *at = command->stages_text;

    while (command->stage_count < STAGES_MAX) {
        struct shift_stage *stage = &command->stages[command->stage_count++];
        char *end;

        stage->begin_percent = strtoull(at, &end, 10);
        if (end == at || *end != '/')
            return false;
        at = end + 1;
        stage->grow_percent = strtoull(at, &end, 10);
        if (end == at || *end != ':' || stage->begin_percent > 100 || stage->grow_percent > 100 - stage->begin_percent)
            return false;
        at = end + 1;
        stage->operations = strtoull(at, &end, 10);
        if (end == at || (*end != ',' && *end != '\0'))
            return false;
        if (*end == '\0')
            return true;
        at = end + 1;
    }
    return false;
}

static uint64_t
stat_of(const struct store_stats *stats, const char *name)
{
    uint64_t value = 0;

    must(store_stats_find(stats, name, &value), "a statistic is not there");
    return value;
}

static void
print_stage(const struct command *command, size_t index, double begin_s, const struct store_stats *before,
            const struct store_stats *after)
{
    const struct shift_stage *stage = &command->stages[index];
    double seconds = (double)(cli_now_ns() - command->opened_ns) / 1e9 - begin_s;
    double rate = (double)stage->operations / seconds;

    if (command->json) {
        struct json_writer writer = json_begin(stdout);

        json_put_u64(&writer, "stage", index);
        json_put_u64(&writer, "begin_percent", stage->begin_percent);
        json_put_u64(&writer, "grow_percent", stage->grow_percent);
        json_put_u64(&writer, "operations", stage->operations);
        json_put_double(&writer, "begin_s", begin_s);
        json_put_double(&writer, "seconds", seconds);
        json_put_double(&writer, "operations_s", rate);
        for (size_t i = 0; i < COUNTED; i++)
            json_put_u64(&writer, counted[i], stat_of(after, counted[i]) - stat_of(before, counted[i]));
        for (size_t i = 0; i < SHOWN; i++)
            json_put_u64(&writer, shown[i], stat_of(after, shown[i]));
        json_end(&writer);
    } else {
        (void)printf("%5zu %3" PRIu64 "/%3" PRIu64 " %10" PRIu64 " %8.2f %10.0f", index, stage->begin_percent,
                     stage->grow_percent, stage->operations, seconds, rate);
        for (size_t i = 0; i < COUNTED; i++)
            (void)printf(" %s=%" PRIu64, counted[i], stat_of(after, counted[i]) - stat_of(before, counted[i]));
        for (size_t i = 0; i < SHOWN; i++)
            (void)printf(" %s=%" PRIu64, shown[i], stat_of(after, shown[i]));
        (void)printf("\n");
    }
    (void)fflush(stdout);
}

static void
run_stages(struct command *command, struct shift_load *load)
{
    static struct store_stats before, after;

    if (!command->json)
        (void)printf("%5s %7s %10s %8s %10s\n", "stage", "writes", "operations", "seconds", "a second");
    for (size_t i = 0; i < command->stage_count; i++) {
        uint64_t begin_ns;

        store_stats_read(command->store, &before);
        begin_ns = cli_now_ns();
        must(shift_load_run(load, &command->stages[i]), "a call failed, or a page that was put is not there");
        store_stats_read(command->store, &after);
        print_stage(command, i, (double)(begin_ns - command->opened_ns) / 1e9, &before, &after);
    }
}

static void
print_line(void *arg, const char *text)
{
    const struct command *command = arg;
    struct json_writer writer;

    if (!command->json) {
        (void)fprintf(stderr, "%s\n", text);
        return;
    }
    writer = json_begin(stdout);
    json_put_text(&writer, "decision", text);
    json_put_double(&writer, "at_s", strtod(text, NULL));
    json_end(&writer);
}

static void
run(struct command *command)
{
    struct shift_load *load = shift_load_create(&command->settings);
    varve_namespace *ns;
    varve_error err;

    must(load != NULL, "out of memory");
    if (varve_open(command->path, command->options, &command->store, &err) != VARVE_OK)
        must(false, err.message);
    command->opened_ns = cli_now_ns();
    must(varve_namespace_open(command->store, "shift", NULL, &ns, NULL) == VARVE_OK, "no namespace");
    shift_load_use(load, command->store, ns);
    must(shift_load_prepare(load, !command->prepare), "a put failed");
    if (!command->prepare)
        run_stages(command, load);
    if (command->log || command->json)
        (void)varve_control_log(command->store, print_line, command);
    must(varve_close(command->store, NULL) == VARVE_OK, "the store could not be closed");
    shift_load_destroy(load);
    varve_options_destroy(command->options);
}

int
main(int argc, char **argv)
{
    static struct command command = {.stages_text = "90/5:10000,0/5:10000",
                                     .settings = {.page_bytes = 512,
                                                  .turn = 16,
                                                  .first_turns = 1,
                                                  .chains = 1000000,
                                                  .preload = 250000,
                                                  .preload_begin_percent = 10,
                                                  .threads = 2,
                                                  .seed = 1}};
    struct shift_settings *settings = &command.settings;
    const struct cli_option options[] = {
        {"prepare", CLI_FLAG, &command.prepare, NULL, "only put the preload, into a new store", 0, 0, 0},
        {"stages", CLI_TEXT, &command.stages_text, "LIST",
         "of each stage: percent of operations that begin a conversation, that add a turn, and how many "
         "(90/5:10000,0/5:10000)",
         0, 0, 0},
        {"page-bytes", CLI_SIZE, &settings->page_bytes, "SIZE", "bytes of a page (512)", 1, (uint64_t)4 << 20, 0},
        {"first-turns", CLI_U64, &settings->first_turns, "N", "turns of a conversation that begins (1)", 1, 32, 0},
        {"turn", CLI_U64, &settings->turn, "N", "pages of a turn: one put (16)", 1, 1024, 0},
        {"chains", CLI_U64, &settings->chains, "N", "conversations (16384)", SHIFT_THREADS_MAX, UINT32_MAX, 0},
        {"hot", CLI_U64, &settings->hot, "N", "of these, the first ones, get four of five probes (0: none)", 0, 0, 0},
        {"preload", CLI_U64, &settings->preload, "N", "turns put by --prepare (250000)", 0, 0, 0},
        {"preload-begins", CLI_U64, &settings->preload_begin_percent, "PERCENT",
         "of these that begin a conversation; the others add a turn to one (10)", 1, 100, 0},
        {"threads", CLI_U64, &settings->threads, "N", "that put and probe (2)", 1, SHIFT_THREADS_MAX, 0},
        {"gets", CLI_U64, &settings->gets, "PERCENT", "of probes that are followed by a get of what was found (0)", 0,
         100, 0},
        {"seed", CLI_U64, &settings->seed, "N", "of ids and order (1)", 0, 0, 0},
        {"json", CLI_FLAG, &command.json, NULL, "one JSON object a stage", 0, 0, 'j'},
        {"log", CLI_FLAG, &command.log, NULL,
         "the controller's decisions, on standard error (always there with --json)", 0, 0, 0},
        {"set", CLI_STORE_SET, &command.options, "NAME=VALUE", "set a store option", 0, 0, 0},
    };
    const struct cli_spec spec = {
        .name = "shift_bench",
        .is_program = true,
        .operands = "DIR",
        .description = "Conversations grow and are looked for, in stages of different mixes. First --prepare a store "
                       "in DIR, then run stages on\n"
                       "it, or on copies of it, with the same settings. DIR is kept: remove it afterwards.\n",
        .examples = "  shift_bench /mnt/nvme/a --prepare\n"
                    "  cp -a /mnt/nvme/a /mnt/nvme/b\n"
                    "  shift_bench /mnt/nvme/b --stages 90/5:10000,0/5:10000 --set controller=off\n"
                    "      what the two stages take without the controller\n",
        .options = options,
        .option_count = sizeof(options) / sizeof(options[0]),
        .operands_min = 1,
        .operands_max = 1,
    };
    int exit_code;

    if (!cli_parse(&spec, &argc, &argv, &exit_code))
        return exit_code;
    command.path = argv[0];
    must(parse_stages(&command), "--stages: PERCENT:OPERATIONS, with commas between");
    run(&command);
    return EXIT_SUCCESS;
}
