/* SPDX-License-Identifier: Apache-2.0 */
/* varve, the command: picks the subcommand. Exit codes are those of enum cli_exit (cli.h). */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "commands.h"

struct command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
};

static const struct command commands[] = {
    {"trace", "generate a request trace: chat, agent, docqa, stages", cmd_trace},
    {"replay", "play a request trace against a store and verify every byte", cmd_replay},
    {"bench", "put, open, probe and get, beside the raw speed of the disk", cmd_bench},
    {"serve", "keep a store open for the processes that use it", cmd_share},
    {"stat", "print the statistics of a store", cmd_stat},
    {"tune", "judge every configuration of the index for a mix of work", cmd_tune},
    {"check", "verify a store: index, space, and with --deep every page", cmd_check},
    {"ls", "list namespaces, branches, extents or pages", cmd_ls},
    {"dump", "show the structures in a file of a store", cmd_dump},
    {"options", "list the options of a store", cmd_options},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static int
print_help(void)
{
    (void)printf("Varve keeps the KV-cache pages of LLM serving engines on local disks.\n\n"
                 "Usage: varve COMMAND [options]\n\nCommands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        (void)printf("  %-8s %s\n", commands[i].name, commands[i].summary);
    (void)printf(
        "\nTry it:\n"
        "  varve trace chat --requests 500 -o chat.jsonl\n"
        "      five hundred requests of 64 users who share four system prompts\n"
        "  varve replay chat.jsonl --dir /tmp/kv --page-bytes 64K --capacity 256M\n"
        "      serve them from a cache of 256 MiB: hit rate, GB/s, latencies\n"
        "  varve check --deep /tmp/kv\n"
        "      verify all that it holds\n"
        "  varve bench /tmp/bench --page-bytes 1M --pages 1000 --batch 128\n"
        "      how fast is this disk, and how much of that does the store reach?\n\n"
        "'varve COMMAND --help' tells more about each. Exit codes: 0 fine, 1 a problem was found, 2 wrong usage or\n"
        "input, 3 the store failed.\n");
    return cli_flush(CLI_EXIT_OK);
}

static int
print_version(void)
{
    int version = varve_version_number();

    (void)printf("varve %d.%d.%d\n", version / 10000, version / 100 % 100, version % 100);
    return cli_flush(CLI_EXIT_OK);
}

static int
unknown_command(const char *name)
{
    const char *names[COMMAND_COUNT];
    const char *nearest;

    for (size_t i = 0; i < COMMAND_COUNT; i++)
        names[i] = commands[i].name;
    nearest = cli_nearest(name, names, COMMAND_COUNT);
    if (nearest != NULL)
        cli_error("there is no command '%s'; did you mean 'varve %s'?", name, nearest);
    else
        cli_error("there is no command '%s'; 'varve --help' lists them", name);
    return CLI_EXIT_USAGE;
}

int
main(int argc, char **argv)
{
    if (argc < 2) {
        cli_error("which command? 'varve --help' lists them");
        return CLI_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return print_help();
    if (strcmp(argv[1], "help") == 0 && argc == 2)
        return print_help();
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return print_version();
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    }
    return unknown_command(argv[1]);
}
