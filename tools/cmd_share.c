/* SPDX-License-Identifier: Apache-2.0 */
/* varve serve: a process that does nothing but own a store, so that those who use it may come and go. */
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "cli.h"
#include "commands.h"
#include "peer/role.h"
#include "store_stats.h"

#define LOOK_S 1 /* after the owner, while this process is a peer */

static const char description[] = "Open the store in DIR and keep it open for the processes that use it, until SIGTERM "
                                  "or SIGINT. Any process that opens\n"
                                  "a store can own it, and is replaced when it ends; one that serves makes that rare: "
                                  "the index stays in memory while\n"
                                  "engines are restarted. Where another process owns the store already, this one "
                                  "waits, and takes over when that is gone.\n"
                                  "\n"
                                  "It has to run as the user of the engines, on their machine. Its capacity and other "
                                  "options hold while it is the owner.\n";

static const char examples[] = "  varve serve /mnt/nvme/kv --capacity 800G\n"
                               "      in the foreground; there is a unit for systemd: varve@.service\n";

static void
say_role(const char *path, bool owner)
{
    (void)printf(owner ? "serving %s\n" : "%s is owned by another process: waiting to take over\n", path);
    (void)fflush(stdout);
}

/* After a failed sync the owner has to open the store again: that is left to whoever owns it next. */
static bool
refuses_writes(varve_store *store)
{
    struct store_stats stats;
    uint64_t read_only;

    store_stats_read(store, &stats);
    return store_stats_find(&stats, "read_only", &read_only) && read_only != 0;
}

/* Until one of the signals comes. Returns the exit code. */
static int
serve(varve_store *store, const char *path, const sigset_t *signals)
{
    const struct timespec look = {.tv_sec = LOOK_S};
    bool owner = role_is_owner(store);

    say_role(path, owner);
    while (sigtimedwait(signals, NULL, &look) < 0) {
        if (owner && refuses_writes(store)) {
            cli_error("serve: %s takes no more writes since a sync failed: start again", path);
            return CLI_EXIT_STORE;
        }
        if (owner)
            continue;
        role_tend(store);
        owner = role_is_owner(store);
        if (owner)
            say_role(path, owner);
    }
    return CLI_EXIT_OK;
}

int
cmd_share(int argc, char **argv)
{
    varve_options *store_options = NULL;
    const struct cli_option options[] = {
        CLI_STORE_OPTIONS(&store_options),
    };
    const struct cli_spec spec = {"serve", "DIR", description, examples, options, sizeof(options) / sizeof(options[0]),
                                  1,       1,     false};
    varve_store *store;
    sigset_t signals;
    int exit_code;

    if (cli_parse(&spec, &argc, &argv, &exit_code)) {
        /* Before there are threads: all of them leave the signals to this one. */
        (void)sigemptyset(&signals);
        (void)sigaddset(&signals, SIGTERM);
        (void)sigaddset(&signals, SIGINT);
        (void)sigprocmask(SIG_BLOCK, &signals, NULL);
        store = cli_open(argv[0], store_options, true, &exit_code);
        if (store != NULL) {
            exit_code = serve(store, argv[0], &signals);
            exit_code = cli_flush(cli_close(store, exit_code));
        }
    }
    varve_options_destroy(store_options);
    return exit_code;
}
