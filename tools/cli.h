/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all subcommands share: one table of options makes the parser and the --help text; sizes; a progress line; the
 * exit codes. For one thread, but for cli_error() and cli_now_ns().
 */
#ifndef VARVE_TOOLS_CLI_H
#define VARVE_TOOLS_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "varve.h"

enum cli_exit {
    CLI_EXIT_OK = 0,
    CLI_EXIT_FOUND = 1, /* the work was done and found a problem: wrong bytes, a damaged store */
    CLI_EXIT_USAGE = 2, /* the command line, or an input file, is wrong */
    CLI_EXIT_STORE = 3, /* the store could not be opened, or failed */
};

enum cli_type {
    CLI_FLAG,      /* bool *: set to true */
    CLI_U64,       /* uint64_t *: plain digits, within [min, max] */
    CLI_SIZE,      /* uint64_t *: digits with K, M, G or T, within [min, max] */
    CLI_DOUBLE,    /* double *: within [min, max] */
    CLI_TEXT,      /* const char **: points into argv */
    CLI_STORE_SET, /* varve_options **: name=value, made on first use */
    CLI_CAPACITY,  /* varve_options **: the value of the option "capacity" */
};

struct cli_option {
    const char *name; /* without the dashes */
    enum cli_type type;
    void *target;
    const char *argument; /* its name in the help; NULL for flags */
    const char *help;
    uint64_t min;
    uint64_t max; /* 0: no limit */
    char letter;  /* 0: none */
};

/* The two options every command that opens a store has. */
#define CLI_STORE_OPTIONS(options)                                                                                     \
    {"capacity", CLI_CAPACITY, (options), "SIZE", "hard limit on the bytes of the store on disk", 0, 0, 0},            \
    {                                                                                                                  \
        "set", CLI_STORE_SET, (options), "NAME=VALUE", "set a store option ('varve options' lists them)", 0, 0, 0      \
    }

struct cli_spec {
    const char *name;        /* of the subcommand, or program */
    const char *operands;    /* shown in the usage line, "" for none */
    const char *description; /* paragraphs */
    const char *examples;    /* commands with a line of explanation each */
    const struct cli_option *options;
    size_t option_count;
    int operands_min;
    int operands_max;
    bool is_program; /* not a subcommand of varve */
};

/*
 * Parse argv (argv[0] is the subcommand). True: go on, operands are in (*argv)[0, *argc). False: help was shown or the
 * command line is wrong (and said so); return *exit_code.
 */
bool cli_parse(const struct cli_spec *spec, int *argc, char ***argv, int *exit_code);

/* "64K" and the like: powers of 1024; false when it is no size. */
bool cli_parse_size(const char *text, uint64_t *bytes);

/* Which of names[0, count) is closest to `name`, or NULL when none is close. Ignores NULL entries. */
const char *cli_nearest(const char *name, const char *const *names, size_t count);

/* "varve: <message>" on standard error. */
void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Say what failed and why; returns the exit code for it. */
int cli_fail(const varve_error *err, const char *what);

/* varve_open(); `create` false: never makes a store. NULL options: the defaults. *out is NULL on failure. */
int cli_try_open(const char *path, varve_options *options, bool create, varve_store **out, varve_error *err);

/* Say why varve_open() failed; returns the exit code for it. */
int cli_cannot_open(const varve_error *err, const char *path);

/* varve_open() with a message when it fails. `create` false: never makes a store. *exit_code is set on failure. */
varve_store *cli_open(const char *path, varve_options *options, bool create, int *exit_code);

/* Where another process owns the store: say so on standard error, and what that means here. */
void cli_say_owner(const varve_store *store, const char *what);

/* Close; a failure, with its message, turns CLI_EXIT_OK into CLI_EXIT_STORE, else exit_code stays. NULL is a no-op. */
int cli_close(varve_store *store, int exit_code);

/* Flush standard output: CLI_EXIT_STORE with a message when not all could be written, else exit_code. */
int cli_flush(int exit_code);

/* Human-readable size, e.g. "1.5 GiB", in buf, which is returned. */
const char *cli_size_text(uint64_t bytes, char buf[32]);

uint64_t cli_now_ns(void); /* monotonic */

/* A line on standard error that overwrites itself, shown when that is a terminal or when asked for. */
struct cli_progress {
    const char *label;
    bool shown;
    bool forced; /* not a terminal: whole lines, and fewer of them */
    uint64_t next_ns;
};

struct cli_progress cli_progress_start(const char *label, bool forced);
void cli_progress_update(struct cli_progress *progress, uint64_t done, uint64_t total); /* total 0: not known */
void cli_progress_finish(struct cli_progress *progress);

#endif
