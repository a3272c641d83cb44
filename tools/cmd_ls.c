/* SPDX-License-Identifier: Apache-2.0 */
/* varve ls: what a store holds, level by level: namespaces, branches, extents, pages. A snapshot, in key order. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "commands.h"
#include "json.h"

static const char description[] = "List what the store in DIR holds: namespaces (the default), or the branches, "
                                  "extents or pages of one or all of them, in\n"
                                  "the order of the index. A branch is a run of pages without a fork; an extent is a "
                                  "piece of one that lies together on disk.\n";

static const char examples[] = "  varve ls /mnt/nvme/kv\n"
                               "      the namespaces, with pages and bytes\n"
                               "  varve ls /mnt/nvme/kv --extents --namespace llama --limit 20 --json\n"
                               "      the first extents of one namespace, an object a line\n";

struct ls_command {
    const char *path;
    const char *namespace_name;
    uint64_t limit;
    bool json;
    bool progress;
    bool namespaces;
    bool branches;
    bool extents;
    bool pages;
    varve_options *options;
};

static const char *
name_of(const varve_item *item)
{
    return item->namespace_name != NULL ? item->namespace_name : "(cleared)";
}

static void
print_header(enum varve_iter_kind kind)
{
    switch (kind) {
    case VARVE_ITER_NAMESPACES:
        (void)printf("%12s %12s  %s\n", "pages", "size", "namespace");
        break;
    case VARVE_ITER_BRANCHES:
        (void)printf("%12s %8s %12s %8s %8s %12s  %s\n", "branch", "depth", "parent", "at", "pages", "size",
                     "namespace");
        break;
    case VARVE_ITER_EXTENTS:
        (void)printf("%12s %8s %8s %12s %10s %12s  %s\n", "branch", "depth", "pages", "size", "segment", "offset",
                     "namespace");
        break;
    case VARVE_ITER_PAGES:
        (void)printf("%-32s %12s %8s %12s %10s %12s %16s  %s\n", "id (16 bytes of 32)", "branch", "depth", "size",
                     "segment", "offset", "checksum", "namespace");
        break;
    }
}

static void
print_row(enum varve_iter_kind kind, const varve_item *item)
{
    char size[32];

    (void)cli_size_text(item->bytes, size);
    switch (kind) {
    case VARVE_ITER_NAMESPACES:
        (void)printf("%12" PRIu32 " %12s  %s\n", item->page_count, size, name_of(item));
        break;
    case VARVE_ITER_BRANCHES:
        (void)printf("%12" PRIu64 " %8" PRIu32 " %12" PRIu64 " %8" PRIu32 " %8" PRIu32 " %12s  %s\n", item->branch,
                     item->depth, item->parent_branch, item->parent_depth, item->page_count, size, name_of(item));
        break;
    case VARVE_ITER_EXTENTS:
        (void)printf("%12" PRIu64 " %8" PRIu32 " %8" PRIu32 " %12s %10" PRIu64 " %12" PRIu64 "  %s\n", item->branch,
                     item->depth, item->page_count, size, item->segment, item->offset, name_of(item));
        break;
    case VARVE_ITER_PAGES:
        for (size_t i = 0; i < sizeof(item->id_prefix); i++)
            (void)printf("%02x", item->id_prefix[i]);
        (void)printf(" %12" PRIu64 " %8" PRIu32 " %12s %10" PRIu64 " %12" PRIu64 " %016" PRIx64 "  %s\n", item->branch,
                     item->depth, size, item->segment, item->offset, item->checksum, name_of(item));
        break;
    }
}

static void
print_json(enum varve_iter_kind kind, const varve_item *item)
{
    struct json_writer json = json_begin(stdout);

    if (item->namespace_name != NULL)
        json_put_text(&json, "namespace", item->namespace_name);
    if (kind != VARVE_ITER_NAMESPACES) {
        json_put_u64(&json, "branch", item->branch);
        json_put_u64(&json, "depth", item->depth);
    }
    if (kind == VARVE_ITER_BRANCHES) {
        json_put_u64(&json, "parent_branch", item->parent_branch);
        json_put_u64(&json, "parent_depth", item->parent_depth);
    }
    if (kind == VARVE_ITER_EXTENTS || kind == VARVE_ITER_PAGES) {
        json_put_u64(&json, "segment", item->segment);
        json_put_u64(&json, "offset", item->offset);
    }
    if (kind == VARVE_ITER_PAGES) {
        json_put_hex(&json, "id_prefix", item->id_prefix, sizeof(item->id_prefix));
        json_put_u64(&json, "checksum", item->checksum);
    } else {
        json_put_u64(&json, "pages", item->page_count);
    }
    json_put_u64(&json, "bytes", item->bytes);
    json_end(&json);
}

static int
print_items(const struct ls_command *command, varve_iter *iter, enum varve_iter_kind kind)
{
    struct cli_progress progress = cli_progress_start("rows", command->progress);
    varve_error err = {0};
    uint64_t rows = 0;
    int rc = VARVE_OK;

    if (!command->json)
        print_header(kind);
    while (command->limit == 0 || rows < command->limit) {
        varve_item item = VARVE_ITEM_INIT;

        rc = varve_iter_next(iter, &item, &err);
        if (rc != VARVE_OK)
            break;
        rows++;
        if (command->json)
            print_json(kind, &item);
        else
            print_row(kind, &item);
        if (command->progress)
            cli_progress_update(&progress, rows, command->limit);
    }
    if (command->progress)
        cli_progress_finish(&progress);
    return rc < 0 ? cli_fail(&err, "ls") : CLI_EXIT_OK;
}

/* The handle of the namespace asked for. Looks first: opening a name that is not there would make it. */
static int
find_namespace(const struct ls_command *command, varve_store *store, varve_namespace **out)
{
    varve_iter *iter;
    varve_error err = {0};
    bool found = false;
    int rc;

    rc = varve_iter_open(store, NULL, VARVE_ITER_NAMESPACES, &iter, &err);
    if (rc < 0)
        return cli_fail(&err, "ls");
    while (!found && rc == VARVE_OK) {
        varve_item item = VARVE_ITEM_INIT;

        rc = varve_iter_next(iter, &item, &err);
        found =
            rc == VARVE_OK && item.namespace_name != NULL && strcmp(item.namespace_name, command->namespace_name) == 0;
    }
    varve_iter_close(iter);
    if (rc < 0)
        return cli_fail(&err, "ls");
    if (!found) {
        cli_error("ls: no namespace '%s'; 'varve ls %s' lists them", command->namespace_name, command->path);
        return CLI_EXIT_USAGE;
    }
    if (varve_namespace_open(store, command->namespace_name, NULL, out, &err) < 0)
        return cli_fail(&err, "ls");
    return CLI_EXIT_OK;
}

static int
list(const struct ls_command *command, varve_store *store, enum varve_iter_kind kind)
{
    varve_namespace *ns = NULL;
    varve_iter *iter;
    varve_error err = {0};
    int exit_code = CLI_EXIT_OK;

    if (command->namespace_name != NULL)
        exit_code = find_namespace(command, store, &ns);
    if (exit_code != CLI_EXIT_OK)
        return exit_code;
    if (varve_iter_open(store, ns, kind, &iter, &err) < 0)
        return cli_fail(&err, "ls");
    exit_code = print_items(command, iter, kind);
    varve_iter_close(iter);
    return exit_code;
}

static int
run(const struct ls_command *command)
{
    int kinds = command->namespaces + command->branches + command->extents + command->pages;
    enum varve_iter_kind kind = command->branches  ? VARVE_ITER_BRANCHES
                                : command->extents ? VARVE_ITER_EXTENTS
                                : command->pages   ? VARVE_ITER_PAGES
                                                   : VARVE_ITER_NAMESPACES;
    varve_store *store;
    int exit_code;

    if (kinds > 1) {
        cli_error("ls: one of --namespaces, --branches, --extents and --pages");
        return CLI_EXIT_USAGE;
    }
    store = cli_open(command->path, command->options, false, &exit_code);
    if (store == NULL)
        return exit_code;
    cli_say_owner(store, "the process that owns it lists it");
    exit_code = list(command, store, kind);
    return cli_flush(cli_close(store, exit_code));
}

int
cmd_ls(int argc, char **argv)
{
    struct ls_command command = {0};
    const struct cli_option options[] = {
        {"namespaces", CLI_FLAG, &command.namespaces, NULL, "one row a namespace (the default)", 0, 0, 0},
        {"branches", CLI_FLAG, &command.branches, NULL, "one row a branch", 0, 0, 0},
        {"extents", CLI_FLAG, &command.extents, NULL, "one row an extent", 0, 0, 0},
        {"pages", CLI_FLAG, &command.pages, NULL, "one row a page", 0, 0, 0},
        {"namespace", CLI_TEXT, &command.namespace_name, "NAME", "only this namespace", 0, 0, 0},
        {"limit", CLI_U64, &command.limit, "N", "stop after N rows", 1, 0, 'n'},
        {"json", CLI_FLAG, &command.json, NULL, "print one JSON object a row", 0, 0, 'j'},
        {"progress", CLI_FLAG, &command.progress, NULL, "show progress on standard error", 0, 0, 0},
        CLI_STORE_OPTIONS(&command.options),
    };
    const struct cli_spec spec = {"ls", "DIR", description, examples, options, sizeof(options) / sizeof(options[0]),
                                  1,    1,     false};
    int exit_code;

    if (cli_parse(&spec, &argc, &argv, &exit_code)) {
        command.path = argv[0];
        exit_code = run(&command);
    }
    varve_options_destroy(command.options);
    return exit_code;
}
