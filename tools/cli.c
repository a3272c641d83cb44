/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command lines. getopt_long does the scanning; the table in struct cli_spec says what an option means and how the help
 * reads. Every message names what was wrong and, where a name was misspelt, the nearest right one.
 */
#include "cli.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "peer/role.h"

#define OPTIONS_MAX        40
#define HELP_VALUE         1000 /* getopt's value of --help; option i is OPTION_VALUE + i */
#define OPTION_VALUE       1001
#define NAME_MAX_BYTES     64
#define PROGRESS_TTY_NS    100000000u
#define PROGRESS_FORCED_NS 2000000000u

void
cli_error(const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    (void)fprintf(stderr, "varve: %s\n", text);
}

int
cli_fail(const varve_error *err, const char *what)
{
    cli_error("%s: %s", what, err->message[0] != '\0' ? err->message : varve_strerror(err->code));
    return err->code == VARVE_E_ARG ? CLI_EXIT_USAGE : CLI_EXIT_STORE;
}

bool
cli_parse_size(const char *text, uint64_t *bytes)
{
    static const char suffixes[] = "KMGT";
    const char *suffix;
    uint64_t value = 0;

    if (*text < '0' || *text > '9')
        return false;
    for (; *text >= '0' && *text <= '9'; text++) {
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
            return false;
    }
    suffix = *text == '\0' ? NULL : strchr(suffixes, *text & ~0x20);
    if (suffix != NULL) {
        if (__builtin_mul_overflow(value, (uint64_t)1 << (10 * (suffix - suffixes + 1)), &value))
            return false;
        text++;
        if (strcmp(text, "iB") == 0)
            text += 2;
    }
    *bytes = value;
    return *text == '\0';
}

/* Levenshtein's distance; names are short. */
static size_t
edit_distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_BYTES + 1];
    size_t length = strlen(b);

    if (length > NAME_MAX_BYTES)
        return SIZE_MAX;
    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t diagonal = row[0];

        row[0] = i + 1;
        for (size_t j = 0; j < length; j++) {
            size_t best = diagonal + (a[i] != b[j]);

            diagonal = row[j + 1];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (diagonal + 1 < best)
                best = diagonal + 1;
            row[j + 1] = best;
        }
    }
    return row[length];
}

const char *
cli_nearest(const char *name, const char *const *names, size_t count)
{
    size_t best = 1 + strlen(name) / 2; /* further away is no help */
    const char *nearest = NULL;

    for (size_t i = 0; i < count; i++) {
        size_t distance = names[i] == NULL ? SIZE_MAX : edit_distance(name, names[i]);

        if (distance < best) {
            best = distance;
            nearest = names[i];
        }
    }
    return nearest;
}

/* What is typed before the name. */
static const char *
command_of(const struct cli_spec *spec)
{
    return spec->is_program ? "" : "varve ";
}

static void
print_help(const struct cli_spec *spec)
{
    (void)printf("Usage: %s%s%s%s [options]\n\n%s\nOptions:\n", command_of(spec), spec->name,
                 *spec->operands == '\0' ? "" : " ", spec->operands, spec->description);
    for (size_t i = 0; i < spec->option_count; i++) {
        const struct cli_option *option = &spec->options[i];
        char left[64];

        (void)snprintf(left, sizeof(left), "%c%c%c --%s%s%s", option->letter != 0 ? '-' : ' ',
                       option->letter != 0 ? option->letter : ' ', option->letter != 0 ? ',' : ' ', option->name,
                       option->argument != NULL ? " " : "", option->argument != NULL ? option->argument : "");
        (void)printf("  %-28s  %s\n", left, option->help);
    }
    (void)printf("  %-28s  show this text\n\n", "-h, --help");
    (void)printf(
        "Examples:\n%s\nExit codes: 0 fine, 1 a problem was found, 2 wrong usage or input, 3 the store failed.\n",
        spec->examples);
}

static bool
set_store_option(varve_options **options, const char *name, const char *value)
{
    varve_error err = {0};

    if (*options == NULL)
        *options = varve_options_create();
    if (*options == NULL) {
        cli_error("out of memory");
        return false;
    }
    if (varve_options_set(*options, name, value, &err) < 0) {
        cli_error("%s", err.message);
        return false;
    }
    return true;
}

static bool
set_store_assignment(varve_options **options, const char *text)
{
    const char *equals = strchr(text, '=');
    char name[NAME_MAX_BYTES];

    if (equals == NULL || equals == text || (size_t)(equals - text) >= sizeof(name)) {
        cli_error("--set wants name=value, not '%s'; 'varve options' lists the names", text);
        return false;
    }
    memcpy(name, text, (size_t)(equals - text));
    name[equals - text] = '\0';
    return set_store_option(options, name, equals + 1);
}

static bool
set_number(const struct cli_option *option, const char *text)
{
    uint64_t *target = option->target;
    uint64_t max = option->max == 0 ? UINT64_MAX : option->max;
    uint64_t value = 0;
    bool is_number = cli_parse_size(text, &value);

    if (option->type == CLI_U64 && strspn(text, "0123456789") != strlen(text))
        is_number = false;
    if (!is_number || value < option->min || value > max) {
        char range[96] = "";

        if (option->max != 0)
            (void)snprintf(range, sizeof(range), " from %" PRIu64 " to %" PRIu64, option->min, max);
        else if (option->min != 0)
            (void)snprintf(range, sizeof(range), " of at least %" PRIu64, option->min);
        cli_error("--%s wants a %s%s, not '%s'", option->name,
                  option->type == CLI_SIZE ? "size (digits, then K, M, G or T)" : "number", range, text);
        return false;
    }
    *target = value;
    return true;
}

static bool
set_double(const struct cli_option *option, const char *text)
{
    double *target = option->target;
    char *end;
    double value = strtod(text, &end);

    /* Written so that NaN fails too. */
    if (end == text || *end != '\0' || !(value >= (double)option->min && value <= (double)option->max)) {
        cli_error("--%s wants a number from %" PRIu64 " to %" PRIu64 ", not '%s'", option->name, option->min,
                  option->max, text);
        return false;
    }
    *target = value;
    return true;
}

static bool
set_option(const struct cli_option *option, char *text)
{
    switch (option->type) {
    case CLI_FLAG:
        *(bool *)option->target = true;
        return true;
    case CLI_U64:
    case CLI_SIZE:
        return set_number(option, text);
    case CLI_DOUBLE:
        return set_double(option, text);
    case CLI_TEXT:
        *(const char **)option->target = text;
        return true;
    case CLI_STORE_SET:
        return set_store_assignment(option->target, text);
    case CLI_CAPACITY:
        return set_store_option(option->target, "capacity", text);
    }
    return false;
}

/* getopt gave ? or : for `word`. */
static void
explain_bad_option(const struct cli_spec *spec, int found, const char *word)
{
    const char *names[OPTIONS_MAX + 1];
    const char *nearest;
    char plain[NAME_MAX_BYTES];

    if (found == ':') {
        cli_error("%s: the option %s needs a value; see '%s%s --help'", spec->name, word, command_of(spec), spec->name);
        return;
    }
    for (size_t i = 0; i < spec->option_count; i++)
        names[i] = spec->options[i].name;
    (void)snprintf(plain, sizeof(plain), "%.*s", (int)strcspn(word, "="), word);
    nearest = cli_nearest(plain + strspn(plain, "-"), names, spec->option_count);
    if (nearest != NULL)
        cli_error("%s: unknown option '%s'; did you mean '--%s'?", spec->name, word, nearest);
    else
        cli_error("%s: unknown option '%s'; see '%s%s --help'", spec->name, word, command_of(spec), spec->name);
}

static void
make_getopt_tables(const struct cli_spec *spec, struct option *longs, char *letters)
{
    size_t count = spec->option_count;

    *letters++ = ':'; /* tell a missing value from an unknown option */
    *letters++ = 'h';
    for (size_t i = 0; i < count; i++) {
        const struct cli_option *option = &spec->options[i];
        int has_arg = option->type == CLI_FLAG ? no_argument : required_argument;

        longs[i] = (struct option){option->name, has_arg, NULL, OPTION_VALUE + (int)i};
        if (option->letter != 0) {
            *letters++ = option->letter;
            if (has_arg == required_argument)
                *letters++ = ':';
        }
    }
    *letters = '\0';
    longs[count] = (struct option){"help", no_argument, NULL, HELP_VALUE};
    longs[count + 1] = (struct option){0};
}

static const struct cli_option *
find_option(const struct cli_spec *spec, int found)
{
    if (found >= OPTION_VALUE)
        return &spec->options[found - OPTION_VALUE];
    for (size_t i = 0; i < spec->option_count; i++) {
        if (spec->options[i].letter == found)
            return &spec->options[i];
    }
    return NULL;
}

bool
cli_parse(const struct cli_spec *spec, int *argc, char ***argv, int *exit_code)
{
    struct option longs[OPTIONS_MAX + 2];
    char letters[2 * OPTIONS_MAX + 3];
    int found;

    assert(spec->option_count <= OPTIONS_MAX);
    make_getopt_tables(spec, longs, letters);
    *exit_code = CLI_EXIT_USAGE;
    opterr = 0;
    optind = 0; /* glibc and musl: start afresh */
    while ((found = getopt_long(*argc, *argv, letters, longs, NULL)) != -1) {
        const struct cli_option *option = find_option(spec, found);

        if (found == HELP_VALUE || found == 'h') {
            print_help(spec);
            *exit_code = cli_flush(CLI_EXIT_OK);
            return false;
        }
        if (option == NULL) {
            explain_bad_option(spec, found, (*argv)[optind - 1]);
            return false;
        }
        if (!set_option(option, optarg))
            return false;
    }
    *argc -= optind;
    *argv += optind;
    if (*argc < spec->operands_min || *argc > spec->operands_max) {
        if (*argc > spec->operands_max)
            cli_error("%s: '%s' is one word too many", spec->name, (*argv)[spec->operands_max]);
        else
            cli_error("%s: something is missing", spec->name);
        (void)fprintf(stderr, "Usage: %s%s %s [options]; '%s%s --help' tells more\n", command_of(spec), spec->name,
                      spec->operands, command_of(spec), spec->name);
        return false;
    }
    *exit_code = CLI_EXIT_OK;
    return true;
}

int
cli_try_open(const char *path, varve_options *options, bool create, varve_store **out, varve_error *err)
{
    varve_options *own = options == NULL ? varve_options_create() : NULL;
    varve_options *used = options == NULL ? own : options;
    int rc = VARVE_OK;

    *out = NULL;
    if (used == NULL) {
        *err = (varve_error){.code = VARVE_E_NOMEM, .message = "out of memory"};
        return VARVE_E_NOMEM;
    }
    if (!create)
        rc = varve_options_set(used, "create", "off", err);
    if (rc == VARVE_OK)
        rc = varve_open(path, used, out, err);
    varve_options_destroy(own);
    return rc;
}

int
cli_cannot_open(const varve_error *err, const char *path)
{
    int exit_code = cli_fail(err, path);

    if (err->code == VARVE_E_LOCKED)
        (void)fprintf(stderr, "The process that has it open does not share it: stop that one, or ask it.\n");
    return exit_code;
}

varve_store *
cli_open(const char *path, varve_options *options, bool create, int *exit_code)
{
    varve_store *store;
    varve_error err = {0};
    int rc = cli_try_open(path, options, create, &store, &err);

    *exit_code = rc == VARVE_OK ? CLI_EXIT_OK : cli_cannot_open(&err, path);
    return store;
}

void
cli_say_owner(const varve_store *store, const char *what)
{
    if (!role_is_owner(store))
        (void)fprintf(stderr, "The store is in use: %s.\n", what);
}

int
cli_close(varve_store *store, int exit_code)
{
    varve_error err = {0};

    if (varve_close(store, &err) < 0) {
        (void)cli_fail(&err, "closing the store");
        return exit_code == CLI_EXIT_OK ? CLI_EXIT_STORE : exit_code;
    }
    return exit_code;
}

int
cli_flush(int exit_code)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        cli_error("cannot write to standard output: %s", strerror(errno));
        return exit_code == CLI_EXIT_OK ? CLI_EXIT_STORE : exit_code;
    }
    return exit_code;
}

const char *
cli_size_text(uint64_t bytes, char buf[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;

    for (; value >= 1024.0 && unit < 6; unit++)
        value /= 1024.0;
    (void)snprintf(buf, 32, unit == 0 ? "%.0f %s" : "%.2f %s", value, units[unit]);
    return buf;
}

uint64_t
cli_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct cli_progress
cli_progress_start(const char *label, bool forced)
{
    bool tty = isatty(STDERR_FILENO) == 1;

    return (struct cli_progress){.label = label, .shown = tty || forced, .forced = !tty};
}

void
cli_progress_update(struct cli_progress *progress, uint64_t done, uint64_t total)
{
    uint64_t now = progress->shown ? cli_now_ns() : 0;

    if (!progress->shown || now < progress->next_ns)
        return;
    progress->next_ns = now + (progress->forced ? PROGRESS_FORCED_NS : PROGRESS_TTY_NS);
    if (!progress->forced)
        (void)fputs("\r\033[K", stderr);
    if (total > 0)
        (void)fprintf(stderr, "%s: %.0f %%", progress->label, 100.0 * (double)done / (double)total);
    else
        (void)fprintf(stderr, "%s: %" PRIu64, progress->label, done);
    if (progress->forced)
        (void)fputc('\n', stderr);
}

void
cli_progress_finish(struct cli_progress *progress)
{
    if (progress->shown && !progress->forced)
        (void)fputs("\r\033[K", stderr);
}
