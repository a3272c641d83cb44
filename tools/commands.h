/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands of varve. Each takes its own argc and argv (argv[0] is its name) and returns an enum cli_exit. */
#ifndef VARVE_TOOLS_COMMANDS_H
#define VARVE_TOOLS_COMMANDS_H

int cmd_bench(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_dump(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_options(int argc, char **argv);
int cmd_replay(int argc, char **argv);
int cmd_serve(int argc, char **argv); /* varve replay --serve: argv without the --serve */
int cmd_share(int argc, char **argv); /* varve serve */
int cmd_stat(int argc, char **argv);
int cmd_trace(int argc, char **argv);
int cmd_tune(int argc, char **argv);

#endif
