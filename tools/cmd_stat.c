/* SPDX-License-Identifier: Apache-2.0 */
/* varve stat: every statistic of a store by its name, as text, JSON or Prometheus exposition format. */
#include <inttypes.h>
#include <stdio.h>

#include "cli.h"
#include "commands.h"
#include "decisions.h"
#include "json.h"
#include "peer/peer.h"
#include "peer/role.h"
#include "published_stats.h"
#include "store_stats.h"

static const char description[] = "Open the store in DIR and print its statistics. Gauges describe the store; counters "
                                  "count since it was opened, so here\n"
                                  "they show what opening it took. Of a store that is in use they are those of the "
                                  "process that owns it, its peers among them\n"
                                  "(peers, peer_*). If that does not share the store (option share), what it keeps in "
                                  "DIR.prom is printed, where\n"
                                  "it writes that file (the SGLang plugin does with \"metrics_file\"). The last "
                                  "decisions of the controller of the index come behind them.\n";

static const char examples[] = "  varve stat /mnt/nvme/kv\n"
                               "      name, value and meaning of each\n"
                               "  varve stat /mnt/nvme/kv --prometheus > /var/lib/node_exporter/varve.prom\n"
                               "      for a Prometheus text file collector\n";

static void
print_text(const struct store_stats *stats)
{
    for (size_t i = 0; i < stats->count; i++) {
        const varve_stat_desc *stat = varve_stat_describe(i);

        (void)printf("%-26s %20" PRIu64 "  %s\n", stat->name, stats->values[i], stat->help);
    }
}

static void
print_decisions(const struct decisions *decisions)
{
    if (decisions->count > 0)
        (void)printf("\ndecisions of the controller, the last one last:\n");
    for (size_t i = 0; i < decisions->count; i++)
        (void)printf("%s\n", decisions->lines[i]);
}

static void
print_json(const struct store_stats *stats, const struct decisions *decisions)
{
    struct json_writer json = json_begin(stdout);

    for (size_t i = 0; i < stats->count; i++)
        json_put_u64(&json, varve_stat_describe(i)->name, stats->values[i]);
    json_put_texts(&json, "decisions", decisions->lines, decisions->count);
    json_end(&json);
}

static void
print_prometheus(const struct store_stats *stats)
{
    for (size_t i = 0; i < stats->count; i++) {
        const varve_stat_desc *stat = varve_stat_describe(i);

        (void)printf("# HELP varve_%s %s\n# TYPE varve_%s %s\nvarve_%s %" PRIu64 "\n", stat->name, stat->help,
                     stat->name, stat->gauge ? "gauge" : "counter", stat->name, stats->values[i]);
    }
}

/* As a peer, what its own calls did is of no interest: the owner's statistics. False: this process is the owner. */
static bool
read_owner(varve_store *store, struct store_stats *stats)
{
    int64_t count = role_is_owner(store) ? -1 : peer_owner_stats(store, stats->values, STORE_STATS_MAX);

    if (count < 0)
        return false;
    stats->count = count < STORE_STATS_MAX ? (size_t)count : STORE_STATS_MAX;
    while (stats->count > 0 && varve_stat_describe(stats->count - 1) == NULL)
        stats->count--; /* a newer owner has more */
    cli_say_owner(store, "these are the statistics of the process that owns it");
    return true;
}

static int
print_stats(const char *path, varve_options *options, bool json, bool prometheus)
{
    static struct decisions decisions;
    struct store_stats stats;
    varve_error err = {0};
    varve_store *store;
    int rc = cli_try_open(path, options, false, &store, &err);

    if (rc == VARVE_E_LOCKED && published_stats_print(path, json         ? PUBLISHED_JSON
                                                            : prometheus ? PUBLISHED_PROMETHEUS
                                                                         : PUBLISHED_TEXT)) {
        decisions_read(path, &decisions);
        if (!json && !prometheus)
            print_decisions(&decisions);
        return cli_flush(CLI_EXIT_OK);
    }
    if (rc != VARVE_OK)
        return cli_cannot_open(&err, path);
    if (!read_owner(store, &stats))
        store_stats_read(store, &stats);
    decisions_read(path, &decisions);
    if (json) {
        print_json(&stats, &decisions);
    } else if (prometheus) {
        print_prometheus(&stats);
    } else {
        print_text(&stats);
        print_decisions(&decisions);
    }
    return cli_flush(cli_close(store, CLI_EXIT_OK));
}

int
cmd_stat(int argc, char **argv)
{
    varve_options *store_options = NULL;
    bool json = false;
    bool prometheus = false;
    const struct cli_option options[] = {
        {"json", CLI_FLAG, &json, NULL, "print one JSON object", 0, 0, 'j'},
        {"prometheus", CLI_FLAG, &prometheus, NULL, "print Prometheus text format", 0, 0, 'p'},
        CLI_STORE_OPTIONS(&store_options),
    };
    const struct cli_spec spec = {"stat", "DIR", description, examples, options, sizeof(options) / sizeof(options[0]),
                                  1,      1,     false};
    int exit_code;

    if (cli_parse(&spec, &argc, &argv, &exit_code)) {
        if (json && prometheus) {
            cli_error("stat: --json or --prometheus, not both");
            exit_code = CLI_EXIT_USAGE;
        } else {
            exit_code = print_stats(argv[0], store_options, json, prometheus);
        }
    }
    varve_options_destroy(store_options);
    return exit_code;
}
