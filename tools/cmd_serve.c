/* SPDX-License-Identifier: Apache-2.0 */
/* varve replay --serve: the command line, and one run after the other, each with a store of its own that is removed behind it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cli.h"
#include "commands.h"
#include "directory.h"
#include "engine.h"
#include "serve/report.h"
#include "serve/store.h"

#define NAMES_BYTES   256
#define NO_ENGINE     "none"
#define ROOM_FACTOR   1.25 /* of a store over the pages in it: indexes, padding, what is not reclaimed yet */
#define PAGE_QUANTUM  512  /* what scaled pages are a multiple of */
#define US_PER_S      1e6
#define DISK_PART_MAX 0.8

static const char description[] =
    "Simulate a serving engine that plays a request trace (- is standard input) with a store as its third tier, and "
    "report the time to the first\n"
    "token. The engine is a model: GPU and host memory that keep pages by LRU, one queue for prefill, whose cost per "
    "token grows with\n"
    "depth, SGLang's rules for loading from storage and for writing to it. The I/O is real: each page is put to and "
    "got from the engines\n"
    "named, in sub-directories of DIR that are removed behind each run, with cold caches, and every byte is compared. "
    "Computing is not done,\n"
    "its time is added up, so a run takes about as long as its I/O. One page stands for one block of the trace.\n"
    "\n"
    "The engine 'none' has no storage: what it takes is the time to beat. --plan on lets varve_plan() choose, with "
    "bandwidth measured as it\n"
    "goes, what is loaded and what is computed: the GPU computes the head of a prompt while the tail is loaded.\n"
    "\n"
    "Time is that of the full-size model. --scale 16 stores pages of a sixteenth of the size, and counts each I/O 16 "
    "times.\n"
    "docs/serving.md has the model, its presets with their sources, and how to read the table.\n";

static const char examples[] =
    "  varve replay --serve chat.jsonl /mnt/nvme/tmp --engines none,file,varve --plan both --scale 16\n"
    "      is a disk tier worth it, and which?\n"
    "  varve trace stages --prompt-tokens 32768 -n 200 | varve replay --serve - /mnt/nvme/tmp --gpu a30 --scale 8 "
    "--json\n"
    "      the ten-stage workload at 32k tokens, with the TTFT of each stage\n"
    "  varve replay --serve chat.jsonl --engines none --gpu h100 --model llama-3-8b --asap 8\n"
    "      what recomputing takes with 8 requests at a time; needs no disk\n";

struct serve_command {
    struct serve_settings settings;
    struct serve_trace trace;
    const struct serve_model *model;
    const struct serve_gpu *gpu;
    const char *trace_path;
    const char *dir;
    const char *engines, *model_name, *gpu_name, *plan, *policy;
    double scale;
    uint64_t page_bytes; /* scaled */
    uint64_t gpu_tokens, host_tokens, limit, capacity;
    double timeout_s, timeout_ki_s, timeout_max_s;
    bool no_verify, warm, json, head_shown;
    varve_options *options;
    struct page_content *content;
};

static const char *const policy_names[SERVE_POLICY_COUNT] = {"wait_complete", "timeout", "best_effort"};

/* One run is over: show it. */
static int
report(struct serve_command *command, const char *engine, const struct serve_store *store,
       const struct serve_result *result, double seconds)
{
    struct serve_report report = {
        .engine = engine,
        .model = command->model->name,
        .gpu = command->gpu->name,
        .policy = policy_names[command->settings.policy],
        .trace_path = command->trace_path,
        .trace = &command->trace,
        .settings = &command->settings,
        .result = result,
        .scale = command->scale,
        .page_bytes = command->page_bytes,
        .bytes_read = store->bytes_read,
        .bytes_written = store->bytes_written,
        .wrong_bytes = store->wrong_bytes,
        .pages_failed = store->pages_failed,
        .write_busy_us = store->write_us,
        .seconds = seconds,
    };
    int rc = VARVE_OK;

    if (command->json) {
        rc = serve_report_json(&report);
    } else {
        if (!command->head_shown)
            serve_report_head(&report);
        command->head_shown = true;
        rc = serve_report_row(&report);
    }
    (void)fflush(stdout);
    if (rc != VARVE_OK) {
        cli_error("replay: out of memory for the report");
        return CLI_EXIT_STORE;
    }
    if (store->wrong_bytes > 0) {
        cli_error("replay: %s returned %" PRIu64 " wrong bytes", engine, store->wrong_bytes);
        return CLI_EXIT_FOUND;
    }
    return CLI_EXIT_OK;
}

static int
run_without_storage(struct serve_command *command)
{
    struct serve_store store = {0};
    struct serve_result result;
    varve_error err = {0};
    uint64_t begin = cli_now_ns();
    int exit_code = CLI_EXIT_OK;

    if (serve_run(&command->trace, &command->settings, NULL, &result, &err) < 0)
        exit_code = cli_fail(&err, "replay");
    else
        exit_code = report(command, NO_ENGINE, &store, &result, (double)(cli_now_ns() - begin) / 1e9);
    serve_result_free(&result);
    return exit_code;
}

static int
run_with_store(struct serve_command *command, const struct engine_ops *ops, const char *path)
{
    struct engine_settings settings = {.path = path,
                                       .capacity = command->capacity,
                                       .page_bytes = command->page_bytes,
                                       .batch = command->settings.batch,
                                       .options = command->options,
                                       .element = VARVE_ELEMENT_BYTES};
    struct serve_store store = {.ops = ops,
                                .trace = &command->trace,
                                .content = command->content,
                                .verify = !command->no_verify,
                                .warm = command->warm,
                                .scale = command->scale};
    struct serve_storage storage = serve_store_storage(&store);
    struct serve_result result = {0};
    varve_error err = {0};
    uint64_t begin = cli_now_ns();
    int exit_code = CLI_EXIT_OK;

    if (serve_store_open(&store, &settings, &err) < 0)
        return cli_fail(&err, ops->name);
    if (serve_run(&command->trace, &command->settings, &storage, &result, &err) < 0)
        exit_code = cli_fail(&err, ops->name);
    if (serve_store_close(&store, &err) < 0 && exit_code == CLI_EXIT_OK)
        exit_code = cli_fail(&err, ops->name);
    if (exit_code == CLI_EXIT_OK)
        exit_code = report(command, ops->name, &store, &result, (double)(cli_now_ns() - begin) / 1e9);
    serve_result_free(&result);
    return exit_code;
}

static int
run_engine(struct serve_command *command, const char *name)
{
    const char *missing;
    const struct engine_ops *ops;
    char path[4096];
    int exit_code, rc;

    if (strcmp(name, NO_ENGINE) == 0)
        return run_without_storage(command);
    ops = engine_find(name, &missing);
    if (ops == NULL) {
        cli_error("replay: no engine '%s'%s%s", name,
                  missing != NULL ? ": it was left out of this build, for want of " : "",
                  missing != NULL ? missing : "");
        return CLI_EXIT_USAGE;
    }
    if (snprintf(path, sizeof(path), "%s/serve-%s", command->dir, name) >= (int)sizeof(path) ||
        mkdir(path, 0777) != 0) {
        cli_error("replay: cannot make %s/serve-%s: %s", command->dir, name, strerror(errno));
        return CLI_EXIT_USAGE;
    }
    exit_code = run_with_store(command, ops, path);
    rc = directory_delete(path);
    if (rc < 0)
        cli_error("replay: cannot remove %s: %s", path, strerror(-rc));
    return exit_code;
}

/* Each engine with each plan. A plan decides nothing where there is no storage, so 'none' runs once. */
static int
run_all(struct serve_command *command)
{
    char names[NAMES_BYTES];
    char *rest = NULL;
    bool both = strcmp(command->plan, "both") == 0;
    int exit_code = CLI_EXIT_OK;

    (void)snprintf(names, sizeof(names), "%s", command->engines);
    for (char *name = strtok_r(names, ",", &rest); name != NULL && exit_code == CLI_EXIT_OK;
         name = strtok_r(NULL, ",", &rest)) {
        bool once = !both || strcmp(name, NO_ENGINE) == 0;

        command->settings.plan = strcmp(command->plan, "on") == 0 && strcmp(name, NO_ENGINE) != 0;
        exit_code = run_engine(command, name);
        if (!once && exit_code == CLI_EXIT_OK) {
            command->settings.plan = true;
            exit_code = run_engine(command, name);
        }
    }
    return exit_code;
}

static bool
needs_disk(const struct serve_command *command)
{
    return strcmp(command->engines, NO_ENGINE) != 0;
}

/* The disk has to hold all pages of the trace: not every engine has a limit. */
static int
check_disk(struct serve_command *command)
{
    uint64_t footprint = command->trace.pages.page_count * command->page_bytes;
    struct statvfs status;
    char needed[32], left[32];
    uint64_t available;

    if (mkdir(command->dir, 0777) != 0 && errno != EEXIST) {
        cli_error("replay: cannot make %s: %s", command->dir, strerror(errno));
        return CLI_EXIT_USAGE;
    }
    if (statvfs(command->dir, &status) != 0) {
        cli_error("replay: %s: %s", command->dir, strerror(errno));
        return CLI_EXIT_USAGE;
    }
    available = (uint64_t)status.f_bavail * status.f_frsize;
    if ((double)footprint * ROOM_FACTOR > DISK_PART_MAX * (double)available) {
        cli_error("replay: the pages of this trace take %s, and %s has %s: try a larger --scale, or a --limit",
                  cli_size_text(footprint, needed), command->dir, cli_size_text(available, left));
        return CLI_EXIT_USAGE;
    }
    /* A store is usually far larger than what one trace brings, and shaped for it: its segments, say. */
    if (command->capacity == 0)
        command->capacity = (uint64_t)(DISK_PART_MAX * (double)available);
    return CLI_EXIT_OK;
}

static int
prepare(struct serve_command *command)
{
    struct serve_settings *settings = &command->settings;
    uint64_t page_tokens = command->trace.page_tokens;

    settings->page_bytes = command->model->token_bytes * page_tokens;
    command->page_bytes = (uint64_t)((double)settings->page_bytes / command->scale);
    command->page_bytes = (command->page_bytes + PAGE_QUANTUM - 1) / PAGE_QUANTUM * PAGE_QUANTUM;
    settings->gpu_pages = command->gpu_tokens / page_tokens;
    settings->host_pages = command->host_tokens / page_tokens;
    settings->timeout_us = command->timeout_s * US_PER_S;
    settings->timeout_ki_us = command->timeout_ki_s * US_PER_S;
    settings->timeout_max_us = command->timeout_max_s * US_PER_S;
    if (settings->threshold_tokens < page_tokens)
        settings->threshold_tokens = page_tokens;
    if (!needs_disk(command))
        return CLI_EXIT_OK;
    if (command->page_bytes > VARVE_PAGE_BYTES_MAX) {
        cli_error("replay: pages of %" PRIu64 " bytes are too large: try a larger --scale", command->page_bytes);
        return CLI_EXIT_USAGE;
    }
    if (command->dir == NULL) {
        cli_error("replay: say where the stores are to be made: varve replay --serve TRACE DIR");
        return CLI_EXIT_USAGE;
    }
    return check_disk(command);
}

static int
serve(struct serve_command *command)
{
    varve_error err = {0};
    int exit_code = CLI_EXIT_OK;

    if (strcmp(command->trace_path, "-") != 0 && access(command->trace_path, R_OK) != 0) {
        cli_error("replay: cannot open the trace %s: %s", command->trace_path, strerror(errno));
        return CLI_EXIT_USAGE;
    }
    if (serve_trace_load(command->trace_path, command->limit, &command->trace, &err) < 0)
        exit_code = cli_fail(&err, "replay");
    if (exit_code == CLI_EXIT_OK)
        exit_code = prepare(command);
    if (exit_code == CLI_EXIT_OK && (command->content = page_content_create()) == NULL) {
        cli_error("replay: out of memory");
        exit_code = CLI_EXIT_STORE;
    }
    if (exit_code == CLI_EXIT_OK)
        exit_code = run_all(command);
    page_content_destroy(command->content);
    serve_trace_free(&command->trace);
    return cli_flush(exit_code);
}

/* What is chosen by name. */
static bool
choose(struct serve_command *command)
{
    struct serve_settings *settings = &command->settings;
    unsigned policy = 0;

    command->model = serve_model_find(command->model_name);
    command->gpu = serve_gpu_find(command->gpu_name);
    while (policy < SERVE_POLICY_COUNT && strcmp(command->policy, policy_names[policy]) != 0)
        policy++;
    if (command->model == NULL)
        cli_error("replay: no model '%s'; there are glm-4-9b, llama-3-8b, glm-4-32b, deepseek-v3", command->model_name);
    else if (command->gpu == NULL)
        cli_error("replay: no GPU '%s'; there are h200, h100, a30", command->gpu_name);
    else if (policy == SERVE_POLICY_COUNT)
        cli_error("replay: no policy '%s'; there are wait_complete, timeout, best_effort", command->policy);
    else if (strcmp(command->plan, "on") != 0 && strcmp(command->plan, "off") != 0 &&
             strcmp(command->plan, "both") != 0)
        cli_error("replay: --plan is on, off or both");
    else if (strlen(command->engines) >= NAMES_BYTES || strspn(command->engines, ",") == strlen(command->engines))
        cli_error("replay: --engines wants names with commas between them");
    else if (!(settings->speed > 0))
        cli_error("replay: --speed must be above 0");
    else {
        settings->policy = (enum serve_policy)policy;
        settings->cost = serve_cost_make(command->gpu, command->model);
        settings->copy_bytes_s = command->gpu->copy_bytes_s * command->model->gpus;
        return true;
    }
    return false;
}

int
cmd_serve(int argc, char **argv)
{
    struct serve_command command = {.settings = {.threshold_tokens = 256, .batch = SERVE_BATCH, .speed = 1},
                                    .engines = "none,varve",
                                    .model_name = "glm-4-9b",
                                    .gpu_name = "h200",
                                    .plan = "both",
                                    .policy = "wait_complete",
                                    .scale = 1,
                                    .gpu_tokens = 262144,
                                    .host_tokens = 524288,
                                    .timeout_s = 2,
                                    .timeout_ki_s = 0.1,
                                    .timeout_max_s = 30};
    struct serve_settings *settings = &command.settings;
    const struct cli_option options[] = {
        {"engines", CLI_TEXT, &command.engines, "LIST", "none, and those of 'varve bench' (none,varve)", 0, 0, 'e'},
        {"engine", CLI_TEXT, &command.engines, "NAME", "the same, for one", 0, 0, 0},
        {"plan", CLI_TEXT, &command.plan, "on|off|both", "load or recompute (both: one run of each)", 0, 0, 0},
        {"policy", CLI_TEXT, &command.policy, "NAME",
         "without a plan: wait_complete, timeout or best_effort (wait_complete)", 0, 0, 0},
        {"model", CLI_TEXT, &command.model_name, "NAME", "glm-4-9b, llama-3-8b, glm-4-32b or deepseek-v3 (glm-4-9b)", 0,
         0, 'm'},
        {"gpu", CLI_TEXT, &command.gpu_name, "NAME", "h200, h100 or a30 (h200)", 0, 0, 'g'},
        {"scale", CLI_DOUBLE, &command.scale, "N", "store an Nth of each page, count I/O N times (1)", 1, 1000000, 's'},
        {"gpu-tokens", CLI_U64, &command.gpu_tokens, "N", "that GPU memory keeps (262144)", 0, 0, 0},
        {"host-tokens", CLI_U64, &command.host_tokens, "N", "that host memory keeps (524288)", 0, 0, 0},
        {"asap", CLI_U64, &settings->in_flight, "N", "N requests at a time, not at the times of the trace", 1, 1000000,
         0},
        {"speed", CLI_DOUBLE, &settings->speed, "N", "play the times of the trace N times as fast (1)", 0, 1000000, 0},
        {"limit", CLI_U64, &command.limit, "N", "the first N requests only", 1, 0, 'n'},
        {"batch", CLI_U64, &settings->batch, "N", "pages a call, at most (128)", 1, SERVE_BATCH, 0},
        {"threshold", CLI_U64, &settings->threshold_tokens, "N", "storage is asked for at least N tokens (256)", 0, 0,
         0},
        {"timeout", CLI_DOUBLE, &command.timeout_s, "S", "policy timeout: seconds (2)", 0, 1000000, 0},
        {"timeout-ki", CLI_DOUBLE, &command.timeout_ki_s, "S", "and for each 1,024 tokens to load (0.1)", 0, 1000000,
         0},
        {"timeout-max", CLI_DOUBLE, &command.timeout_max_s, "S", "and at most (30)", 0, 1000000, 0},
        {"capacity", CLI_SIZE, &command.capacity, "SIZE", "of each store (four fifths of what the disk has free)", 1, 0,
         0},
        {"set", CLI_STORE_SET, &command.options, "NAME=VALUE", "an option of varve's ('varve options')", 0, 0, 0},
        {"warm", CLI_FLAG, &command.warm, NULL, "leave the page cache as it is", 0, 0, 0},
        {"no-verify", CLI_FLAG, &command.no_verify, NULL, "do not compare what is read", 0, 0, 0},
        {"json", CLI_FLAG, &command.json, NULL, "print a JSON object a run", 0, 0, 'j'},
    };
    const struct cli_spec spec = {"replay --serve",
                                  "TRACE [DIR]",
                                  description,
                                  examples,
                                  options,
                                  sizeof(options) / sizeof(options[0]),
                                  1,
                                  2,
                                  false};
    int exit_code;

    if (cli_parse(&spec, &argc, &argv, &exit_code)) {
        command.trace_path = argv[0];
        command.dir = argc > 1 ? argv[1] : NULL;
        exit_code = choose(&command) ? serve(&command) : CLI_EXIT_USAGE;
    }
    varve_options_destroy(command.options);
    return exit_code;
}
