/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_metamorphic: the same script under every option set of script_options[], and in a real directory with both I/O engines, has the same
 * history: nothing that a client sees depends on how the store is tuned, nor on what it runs on.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "script_run.h"
#include "sim_log.h"
#include "sim_seeds.h"

#define SECONDS_A_SEED 120
#define EXIT_SKIPPED   77

static const char usage[] =
    "usage: sim_metamorphic [--seeds=A..B] [--ops=N] [--engine=uring|threads] [--print]\n"
    "  --engine   in a real directory (VARVE_TEST_DIR, TMPDIR or /tmp), not on the simulated disk\n"
    "  --print    the first script and its history\n";

struct arguments {
    uint64_t first, last, ops;
    const char *engine; /* NULL: the simulated disk */
    bool print;
};

struct history {
    char *text;
    size_t size;
};

/* A new directory for the store; removed by directory_remove(). */
static void
directory_make(char *path, size_t size)
{
    const char *parent = getenv("VARVE_TEST_DIR");

    if (parent == NULL)
        parent = getenv("TMPDIR");
    (void)snprintf(path, size, "%s/varve-metamorphic-XXXXXX", parent == NULL ? "/tmp" : parent);
    if (mkdtemp(path) == NULL) {
        perror(path);
        exit(2);
    }
}

static int
remove_file(void *arg, const char *name)
{
    struct env *env = arg;

    return env->ops->unlink(env, name);
}

static struct env *
env_of(const char *path, const char *engine, varve_error *err)
{
    const struct env_settings settings = {.io_engine = engine, .direct_io = "auto", .queue_depth = 4, .io_threads = 1};
    struct env *env = NULL;

    (void)env_open_posix(path, &settings, &env, err);
    return env;
}

static void
directory_remove(const char *path)
{
    struct env *env = env_of(path, "threads", NULL);

    if (env != NULL) {
        (void)env->ops->list(env, remove_file, env);
        env->ops->destroy(env);
    }
    (void)rmdir(path);
}

/* Whether the engine works here; if not, why. */
static bool
engine_works(const char *engine)
{
    varve_error err = {0};
    char path[256];
    struct env *env;

    directory_make(path, sizeof(path));
    env = env_of(path, engine, &err);
    if (env == NULL)
        printf("skipped: %s: %s\n", engine, err.message);
    else
        env->ops->destroy(env);
    directory_remove(path);
    return env != NULL;
}

static struct history
run(const struct arguments *args, const struct script *script, const struct script_options *options, const char *engine)
{
    struct script_place place = {.options = options, .engine = engine, .seed = 1};
    struct history history = {0};
    char path[256];

    place.history = open_memstream(&history.text, &history.size);
    if (place.history == NULL)
        abort();
    if (engine != NULL) {
        directory_make(path, sizeof(path));
        place.path = path;
    }
    sim_log("options %s, engine %s", options->name, engine == NULL ? "sim" : engine);
    (void)script_run_all(script, &place);
    (void)fclose(place.history);
    if (engine != NULL)
        directory_remove(path);
    if (args->print)
        (void)fputs(history.text, stdout);
    return history;
}

static void
print_options(const struct script_options *options, const char *engine)
{
    printf("%s on %s, io_align=%" PRIu32 " direct_io=%d disk_queue_depth=%" PRIu32 ":", options->name,
           engine == NULL ? "the simulated disk" : engine, options->disk.io_align, options->disk.direct_io,
           options->disk.queue_depth);
    for (size_t i = 0; options->store[i] != NULL; i++)
        printf(" %s", options->store[i]);
    printf("\n");
}

/* The first line in which the histories differ. */
static void
print_difference(const char *left, const char *right)
{
    unsigned line = 1;
    size_t same = 0, begin = 0;

    for (; left[same] == right[same] && left[same] != '\0'; same++) {
        if (left[same] == '\n') {
            begin = same + 1;
            line++;
        }
    }
    printf("line %u\n  %.*s\n  %.*s\n", line, (int)strcspn(left + begin, "\n"), left + begin,
           (int)strcspn(right + begin, "\n"), right + begin);
}

static void
run_seed(const struct arguments *args, uint64_t seed)
{
    const struct script_options *reference = &script_options[0];
    struct sim_rng rng = sim_rng_make(seed, 7);
    struct history expected;
    struct script script;

    script_draw(&script, &rng, args->ops, 0);
    expected = run(args, &script, reference, NULL);
    for (size_t i = args->engine == NULL; i < script_options_count; i++) {
        struct history history = run(args, &script, &script_options[i], args->engine);

        if (strcmp(history.text, expected.text) != 0) {
            printf("The history depends on the options:\n");
            print_options(reference, NULL);
            print_options(&script_options[i], args->engine);
            print_difference(expected.text, history.text);
            sim_fail("seed %" PRIu64 ": histories differ", seed);
        }
        free(history.text);
    }
    free(expected.text);
}

static bool
parse(int argc, char **argv, struct arguments *args)
{
    static const struct option options[] = {{"seeds", required_argument, NULL, 's'},
                                            {"ops", required_argument, NULL, 'o'},
                                            {"engine", required_argument, NULL, 'e'},
                                            {"print", no_argument, NULL, 'p'},
                                            {NULL, 0, NULL, 0}};
    char *rest = NULL;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 's') {
            if (!sim_seeds_range(optarg, &args->first, &args->last))
                return false;
        } else if (option == 'o') {
            args->ops = strtoull(optarg, &rest, 0);
        } else if (option == 'e') {
            args->engine = optarg;
        } else if (option == 'p') {
            args->print = true;
        } else {
            return false;
        }
        if (rest != NULL && *rest != '\0')
            return false;
    }
    return optind == argc && args->first <= args->last && args->ops > 0 && args->ops <= SCRIPT_OPS_MAX;
}

int
main(int argc, char **argv)
{
    struct arguments args = {.first = 1, .last = 1, .ops = 300};

    if (!parse(argc, argv, &args)) {
        (void)fputs(usage, stderr);
        return 2;
    }
    if (args.engine != NULL && !engine_works(args.engine))
        return EXIT_SKIPPED;
    for (uint64_t seed = args.first; seed <= args.last; seed++) {
        char repro[128];

        (void)snprintf(repro, sizeof(repro),
                       "build/tests/sim/sim_metamorphic --seeds=%" PRIu64 "..%" PRIu64 " --ops=%" PRIu64 "%s%s", seed,
                       seed, args.ops, args.engine == NULL ? "" : " --engine=", args.engine == NULL ? "" : args.engine);
        sim_log_begin(repro);
        sim_watchdog(SECONDS_A_SEED);
        run_seed(&args, seed);
    }
    printf("%" PRIu64 " scripts of %" PRIu64 " operations, %zu option sets: ok\n", args.last - args.first + 1, args.ops,
           script_options_count);
    return 0;
}
