/* SPDX-License-Identifier: Apache-2.0 */
/* varve trace: write a synthetic request trace. The kinds are in trace_generate.c; this is their command line. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "commands.h"
#include "json.h"
#include "trace_generate.h"

static const char description[] =
    "Write a synthetic request trace, one JSON object a line: timestamp (ms), input_length, output_length, block_size "
    "and\n"
    "hash_ids (equal ids mean equal prefixes). The same options give the same bytes on every machine. KIND is one of\n"
    "\n"
    "  chat     conversations: --users at a time, about --turns requests each, over four system prompts; --sharing is "
    "the\n"
    "           part of a first prompt that is system prompt\n"
    "  agent    tool loops: long chains that grow with every call, one system prompt; --sharing as for chat\n"
    "  docqa    questions about long documents; --sharing 0.95 means 20 questions a document on average\n"
    "  stages   ten phases of different sharing (cold, rising, falling, a jump), all prompts --prompt-tokens long "
    "(4096 to\n"
    "           131072 say); --sharing is that of the warmest phase; the extra key \"stage\" counts from 1 to 10\n";

static const char examples[] =
    "  varve trace chat --requests 5000 -o chat.jsonl\n"
    "      five thousand requests of 64 users to a file\n"
    "  varve trace stages --prompt-tokens 32768 --seed 7 | varve replay - --dir /mnt/nvme/kv\n"
    "      the ten-stage workload with prompts of 32k tokens, straight into a replay\n";

struct output {
    FILE *file;
    struct cli_progress progress;
    uint64_t requests;
    uint64_t done;
};

static int
write_request(void *arg, const struct trace_request *request)
{
    struct output *output = arg;
    struct json_writer json = json_begin(output->file);

    json_put_u64(&json, "timestamp", request->timestamp_ms);
    json_put_u64(&json, "input_length", request->input_length);
    json_put_u64(&json, "output_length", request->output_length);
    json_put_u64(&json, "block_size", request->block_size);
    if (request->stage != 0)
        json_put_u64(&json, "stage", request->stage);
    json_put_u64s(&json, "hash_ids", request->hash_ids, request->hash_count);
    json_end(&json);
    cli_progress_update(&output->progress, ++output->done, output->requests);
    return ferror(output->file) ? VARVE_E_IO : VARVE_OK;
}

static bool
find_kind(const char *name, enum trace_kind *out)
{
    const char *names[TRACE_KIND_COUNT];
    const char *nearest;

    for (unsigned kind = 0; kind < TRACE_KIND_COUNT; kind++) {
        names[kind] = trace_kind_name((enum trace_kind)kind);
        if (strcmp(name, names[kind]) == 0) {
            *out = (enum trace_kind)kind;
            return true;
        }
    }
    nearest = cli_nearest(name, names, TRACE_KIND_COUNT);
    cli_error("trace: no kind '%s'; %s%s%s", name,
              nearest != NULL ? "did you mean '" : "there are chat, agent, docqa, stages",
              nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "");
    return false;
}

static int
write_trace(const struct trace_settings *settings, const char *path, bool progress)
{
    struct output output = {.file = stdout, .requests = settings->requests};
    int rc;

    if (path != NULL && (output.file = fopen(path, "we")) == NULL) {
        cli_error("trace: cannot write %s: %s", path, strerror(errno));
        return CLI_EXIT_STORE;
    }
    output.progress = cli_progress_start("requests", progress);
    rc = trace_generate(settings, write_request, &output);
    cli_progress_finish(&output.progress);
    if (path == NULL && rc != VARVE_E_NOMEM)
        return cli_flush(CLI_EXIT_OK);
    if (path != NULL && fclose(output.file) != 0 && rc == VARVE_OK)
        rc = VARVE_E_IO;
    if (rc != VARVE_OK)
        cli_error("trace: %s",
                  rc == VARVE_E_NOMEM ? "out of memory: ask for fewer tokens or users" : "cannot write all");
    return rc == VARVE_OK ? CLI_EXIT_OK : CLI_EXIT_STORE;
}

int
cmd_trace(int argc, char **argv)
{
    struct trace_settings given = {
        .seed = 1, .requests = 1000, .block_size = TRACE_BLOCK_SIZE, .sharing = -1, .rate = -1};
    const char *path = NULL;
    bool progress = false;
    const struct cli_option options[] = {
        {"output", CLI_TEXT, &path, "FILE", "write to FILE instead of standard output", 0, 0, 'o'},
        {"seed", CLI_U64, &given.seed, "N", "start of the random numbers (1)", 0, 0, 0},
        {"requests", CLI_U64, &given.requests, "N", "how many requests (1000)", 1, 1000000000, 'n'},
        {"prompt-tokens", CLI_U64, &given.prompt_tokens, "N", "of a first prompt or a document (depends on KIND)", 1,
         16777216, 0},
        {"output-tokens", CLI_U64, &given.output_tokens, "N", "mean of the answers (depends on KIND)", 1, 1048576, 0},
        {"sharing", CLI_DOUBLE, &given.sharing, "0..1", "how much is shared, see above (depends on KIND)", 0, 1, 0},
        {"turns", CLI_U64, &given.turns, "N", "mean requests of a conversation or task (chat 5, agent 40)", 1, 100000,
         0},
        {"rate", CLI_DOUBLE, &given.rate, "N", "requests a second (chat, docqa, stages 4, agent 2)", 0, 1000000, 0},
        {"users", CLI_U64, &given.users, "N", "conversations or tasks at a time (chat 64, agent 20)", 1, 1000000, 0},
        {"block-size", CLI_U64, &given.block_size, "N", "tokens a block (512)", 1, 1048576, 0},
        {"progress", CLI_FLAG, &progress, NULL, "show progress even when this is no terminal", 0, 0, 0},
    };
    const struct cli_spec spec = {"trace", "KIND", description, examples, options, sizeof(options) / sizeof(options[0]),
                                  1,       1,      false};
    struct trace_settings settings;
    enum trace_kind kind;
    int exit_code;

    if (!cli_parse(&spec, &argc, &argv, &exit_code))
        return exit_code;
    if (!find_kind(argv[0], &kind))
        return CLI_EXIT_USAGE;
    settings = trace_settings_default(kind);
    settings.seed = given.seed;
    settings.requests = given.requests;
    settings.block_size = given.block_size;
    if (given.prompt_tokens != 0)
        settings.prompt_tokens = given.prompt_tokens;
    if (given.output_tokens != 0)
        settings.output_tokens = given.output_tokens;
    if (given.turns != 0)
        settings.turns = given.turns;
    if (given.users != 0)
        settings.users = given.users;
    if (given.sharing >= 0)
        settings.sharing = given.sharing;
    if (given.rate > 0)
        settings.rate = given.rate;
    if (given.rate == 0) {
        cli_error("trace: --rate must be above 0");
        return CLI_EXIT_USAGE;
    }
    return write_trace(&settings, path, progress);
}
