/* SPDX-License-Identifier: Apache-2.0 */
/* varve bench: the command line, the engines, the table. It refuses to start in a directory that holds anything else. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "bench.h"
#include "bench_dir.h"
#include "bench_report.h"
#include "cli.h"
#include "commands.h"

#define PATH_BYTES      4096
#define PEER_UNIT_BYTES ((uint64_t)4096) /* what a page takes a multiple of, at most */

static const char description_begin[] =
    "Measure engines on the disk that DIR is on: put --pages pages in batches of --batch, reopen with a cold cache, "
    "probe\n"
    "whole chains, get them in random order; beside it the raw limit of the same disk: the same page size, order and "
    "number\n"
    "in flight on one preallocated file. DIR must be empty or absent; what the bench makes there it removes, unless "
    "--keep.\n"
    "Page size 0 measures the index alone. Every page is verified in a pass of its own.\n"
    "\n"
    "Engines of this build (docs/benchmarks.md says how each is tuned):\n";

static const char description_end[] = "  raw            the disk itself, which is measured first in any case\n"
                                      "auto, uring and threads are varve with that I/O engine.\n";

static const char examples[] =
    "  varve bench /mnt/nvme/bench --page-bytes 1M --pages 4096 --batch 128\n"
    "      4 GiB in pages of 1 MiB\n"
    "  varve bench /mnt/nvme/bench --page-bytes 64K --pages 65536 --batch 128 --engines uring,threads --json\n"
    "      both I/O engines, one JSON object a phase\n"
    "  varve bench /mnt/nvme/bench --page-bytes 16K --pages 65536 \\\n"
    "    --engines varve,raw,file,file-threads,rocksdb,lmdb,hashlog\n"
    "      the store and others: same bytes, same order, cold caches\n"
    "  varve bench /mnt/nvme/bench --page-bytes 1M --pages 4096 --content bf16 --codecs off,on,auto\n"
    "      what coding the pages does to the speed of puts and gets\n"
    "  varve bench /tmp/bench --page-bytes 0 --pages 10000000 --batch 2000\n"
    "      how fast and how large is the index of ten million pages?\n";

/* A name of --engines. */
struct bench_name {
    const char *label;            /* NULL: what "auto" has chosen */
    const struct engine_ops *ops; /* NULL: `missing` is to be installed; or both NULL: raw */
    const char *missing;
    const char *io_engine; /* NULL: as the options say */
    bool is_store;         /* the one that has codecs */
};

struct bench_command {
    struct bench_settings settings;
    const char *engines;
    const char *codecs; /* NULL: as the options say */
    struct bench_report report;
    bool keep;
    bool no_raw;
    bool no_verify;
    varve_options *options;
    uint64_t capacity; /* of the stores */
    struct page_content *pages;
    bool made_dir;
};

/* Is there room for one store more? */
static bool
has_room(const struct bench_command *command, uint64_t *needed, uint64_t *available)
{
    const struct bench_settings *settings = &command->settings;
    struct statvfs status;

    if (__builtin_mul_overflow(settings->page_bytes + settings->page_bytes / 16 + 64, settings->pages, needed))
        *needed = UINT64_MAX;
    if (statvfs(settings->dir, &status) != 0)
        return true; /* puts will tell */
    *available = status.f_bavail * status.f_frsize;
    return *available >= *needed;
}

static int
check_free_space(const struct bench_command *command)
{
    uint64_t needed, available;
    char need_text[32];
    char have_text[32];

    if (has_room(command, &needed, &available))
        return CLI_EXIT_OK;
    cli_error("bench: %s needs about %s and has %s free: ask for fewer --pages", command->settings.dir,
              cli_size_text(needed, need_text), cli_size_text(available, have_text));
    return CLI_EXIT_USAGE;
}

static int
prepare_dir(struct bench_command *command)
{
    const char *path = command->settings.dir;
    char other[256];
    int rc;

    command->made_dir = mkdir(path, 0777) == 0;
    if (!command->made_dir && errno != EEXIST) {
        cli_error("bench: cannot make %s: %s", path, strerror(errno));
        return CLI_EXIT_USAGE;
    }
    rc = bench_dir_clean(path, false, other);
    if (rc < 0) {
        cli_error("bench: cannot read %s: %s", path, strerror(-rc));
        return CLI_EXIT_USAGE;
    }
    if (*other != '\0') {
        cli_error("bench: %s is not empty (it holds '%s'): name an empty or a new directory", path, other);
        return CLI_EXIT_USAGE;
    }
    (void)bench_dir_clean(path, true, other); /* of an earlier bench that was kept or killed */
    return check_free_space(command);
}

/*
 * The user's options, or what the bench needs beyond them: room for all pages, or most of what is free, as a store would be given that has the disk to itself. (The capacity
 * says how large segments are, too.)
 */
static int
prepare_options(struct bench_command *command)
{
    const struct bench_settings *settings = &command->settings;
    struct statvfs disk;
    char value[32] = "0";
    varve_error err = {0};
    uint64_t batches;
    uint64_t capacity;

    if (command->options == NULL)
        command->options = varve_options_create();
    if (command->options == NULL) {
        cli_error("bench: out of memory");
        return CLI_EXIT_STORE;
    }
    (void)varve_options_get(command->options, "capacity", value, sizeof(value));
    if (strcmp(value, "0") != 0)
        return cli_parse_size(value, &command->capacity) ? CLI_EXIT_OK : CLI_EXIT_USAGE;
    batches = settings->pages / settings->batch + settings->pages / settings->chain + 1; /* about */
    capacity = settings->pages * (settings->page_bytes + settings->page_bytes / 4 + 256) + batches * 8192 +
               ((uint64_t)1 << 30);
    if (statvfs(settings->dir, &disk) == 0 && capacity < disk.f_bavail * disk.f_frsize / 4 * 3)
        capacity = disk.f_bavail * disk.f_frsize / 4 * 3;
    command->capacity = capacity;
    (void)snprintf(value, sizeof(value), "%" PRIu64, capacity);
    if (varve_options_set(command->options, "capacity", value, &err) < 0)
        return cli_fail(&err, "bench");
    return CLI_EXIT_OK;
}

/* False: no such name. */
static bool
find_name(const char *text, struct bench_name *name)
{
    *name = (struct bench_name){.label = text};
    if (strcmp(text, "raw") == 0)
        return true;
    if (strcmp(text, "auto") == 0 || strcmp(text, "uring") == 0 || strcmp(text, "threads") == 0) {
        name->label = strcmp(text, "auto") == 0 ? NULL : text;
        name->io_engine = text;
        text = "varve";
    }
    name->ops = engine_find(text, &name->missing);
    name->is_store = strncmp(text, "varve", 5) == 0;
    return name->ops != NULL || name->missing != NULL;
}

/* What a peer may take on disk: some round each page up. */
static uint64_t
peer_capacity(const struct bench_command *command)
{
    uint64_t page_bytes = (command->settings.page_bytes + PEER_UNIT_BYTES - 1) / PEER_UNIT_BYTES * PEER_UNIT_BYTES;
    uint64_t bytes = command->settings.pages * page_bytes + PEER_UNIT_BYTES;

    return bytes > command->capacity ? bytes : command->capacity;
}

static int
bench_subject(struct bench_command *command, const struct bench_name *name, const char *codec)
{
    const struct bench_sink sink = {bench_report_result, &command->report};
    char path[PATH_BYTES], other[256], codec_value[16];
    struct bench_subject subject = {.label = name->label, .ops = name->ops};
    uint64_t needed, available;
    varve_error err = {0};
    int rc;

    if (codec != NULL && varve_options_set(command->options, "codec", codec, &err) < 0)
        return cli_fail(&err, "bench");
    (void)varve_options_get(command->options, "codec", codec_value, sizeof(codec_value));
    subject.codec = name->is_store ? codec_value : NULL;
    if (snprintf(path, sizeof(path), "%s/" BENCH_PREFIX "%s%s%s", command->settings.dir,
                 name->label == NULL ? "auto" : name->label, codec == NULL ? "" : "-",
                 codec == NULL ? "" : codec) >= (int)sizeof(path)) {
        cli_error("bench: the path is too long");
        return CLI_EXIT_USAGE;
    }
    subject.settings = (struct engine_settings){
        .path = path,
        .capacity = name->is_store ? command->capacity : peer_capacity(command),
        .page_bytes = command->settings.page_bytes,
        .batch = command->settings.batch,
        .options = command->options,
        .io_engine = name->io_engine,
        .element = command->settings.element,
    };
    rc = bench_engine(&command->settings, &subject, command->pages, &sink, &err);
    /* Only where there must be room: the file system may be busy with a million deleted files for minutes, at the cost of whoever comes next. */
    if (!command->keep && !has_room(command, &needed, &available))
        (void)bench_dir_clean(command->settings.dir, true, other);
    return rc < 0 ? cli_fail(&err, "bench") : CLI_EXIT_OK;
}

/* The store with each codec of the list, or as the options say; a peer once. */
static int
bench_codecs(struct bench_command *command, const struct bench_name *name)
{
    char *list, *rest = NULL;
    int exit_code = CLI_EXIT_OK;

    if (command->codecs == NULL || !name->is_store)
        return bench_subject(command, name, NULL);
    list = strdup(command->codecs);
    if (list == NULL) {
        cli_error("bench: out of memory");
        return CLI_EXIT_STORE;
    }
    for (char *codec = strtok_r(list, ",", &rest); codec != NULL && exit_code == CLI_EXIT_OK;
         codec = strtok_r(NULL, ",", &rest))
        exit_code = bench_subject(command, name, codec);
    free(list);
    return exit_code;
}

static int
bench_name(struct bench_command *command, const struct bench_name *name)
{
    if (name->ops != NULL)
        return bench_codecs(command, name);
    if (name->missing != NULL)
        bench_report_missing(&command->report, name->label, name->missing);
    return CLI_EXIT_OK; /* raw has had its turn */
}

/* Call each() with the names of --engines, until it fails. NULL: see only that all are known. */
static int
each_engine(struct bench_command *command, int (*each)(struct bench_command *command, const struct bench_name *name))
{
    char *list = strdup(command->engines);
    char *rest = NULL;
    int exit_code = CLI_EXIT_OK;

    if (list == NULL) {
        cli_error("bench: out of memory");
        return CLI_EXIT_STORE;
    }
    for (char *text = strtok_r(list, ",", &rest); text != NULL && exit_code == CLI_EXIT_OK;
         text = strtok_r(NULL, ",", &rest)) {
        struct bench_name name;

        if (find_name(text, &name))
            exit_code = each == NULL ? CLI_EXIT_OK : each(command, &name);
        else {
            cli_error("bench: --engines: there is no engine '%s': 'varve bench --help' lists them", text);
            exit_code = CLI_EXIT_USAGE;
        }
    }
    free(list);
    return exit_code;
}

static int
bench_raw_limit(struct bench_command *command)
{
    const struct bench_sink sink = {bench_report_result, &command->report};
    char path[PATH_BYTES];
    char other[256];
    varve_error err = {0};
    int rc;

    if (snprintf(path, sizeof(path), "%s/" BENCH_PREFIX "raw", command->settings.dir) >= (int)sizeof(path)) {
        cli_error("bench: the path is too long");
        return CLI_EXIT_USAGE;
    }
    rc = bench_raw(&command->settings, path, command->pages, &sink, &err);
    (void)bench_dir_clean(command->settings.dir, true, other);
    return rc < 0 ? cli_fail(&err, "bench") : CLI_EXIT_OK;
}

static int
bench_all(struct bench_command *command)
{
    char other[256];
    int exit_code;

    bench_report_begin(&command->report);
    exit_code = command->no_raw || command->settings.page_bytes == 0 ? CLI_EXIT_OK : bench_raw_limit(command);
    if (exit_code == CLI_EXIT_OK)
        exit_code = each_engine(command, bench_name);
    if (!command->keep)
        (void)bench_dir_clean(command->settings.dir, true, other);
    if (exit_code == CLI_EXIT_OK && command->report.wrong_bytes + command->report.missing_pages > 0) {
        cli_error("bench: %" PRIu64 " pages were missing and %" PRIu64 " bytes wrong", command->report.missing_pages,
                  command->report.wrong_bytes);
        exit_code = CLI_EXIT_FOUND;
    }
    return exit_code;
}

static int
run(struct bench_command *command)
{
    struct bench_settings *settings = &command->settings;
    int exit_code;

    command->report.settings = settings;
    if (settings->chain > settings->pages)
        settings->chain = settings->pages;
    settings->verify = !command->no_verify;
    settings->element = strcmp(command->report.content, "bf16") == 0 ? VARVE_ELEMENT_BF16 : VARVE_ELEMENT_BYTES;
    if (settings->element == VARVE_ELEMENT_BYTES && strcmp(command->report.content, "bytes") != 0) {
        cli_error("bench: --content is bytes or bf16, not '%s'", command->report.content);
        return CLI_EXIT_USAGE;
    }
    exit_code = each_engine(command, NULL);
    if (exit_code == CLI_EXIT_OK)
        exit_code = prepare_dir(command);
    if (exit_code == CLI_EXIT_OK)
        exit_code = prepare_options(command);
    if (exit_code != CLI_EXIT_OK)
        return exit_code;
    command->pages = page_content_create();
    if (command->pages == NULL) {
        cli_error("bench: out of memory");
        exit_code = CLI_EXIT_STORE;
    } else {
        exit_code = bench_all(command);
        page_content_destroy(command->pages);
    }
    if (command->made_dir && !command->keep)
        (void)rmdir(settings->dir);
    return cli_flush(exit_code);
}

/* The text with the engines in it, to be freed; NULL: out of memory. */
static char *
make_description(void)
{
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    const struct engine_ops *ops;

    if (stream == NULL)
        return NULL;
    (void)fputs(description_begin, stream);
    for (size_t i = 0; (ops = engine_at(i)) != NULL; i++)
        (void)fprintf(stream, "  %-14s %s\n", ops->name, ops->description);
    (void)fputs(description_end, stream);
    return fclose(stream) == 0 ? text : NULL;
}

int
cmd_bench(int argc, char **argv)
{
    char *description = make_description();
    struct bench_command command = {
        .settings = {.page_bytes = 65536, .pages = 16384, .batch = 128, .chain = 2000, .seed = 1},
        .engines = "auto",
        .report = {.content = "bytes"},
    };
    struct bench_settings *settings = &command.settings;
    const struct cli_option options[] = {
        {"page-bytes", CLI_SIZE, &settings->page_bytes, "SIZE", "bytes of a page (64K)", 0, VARVE_PAGE_BYTES_MAX, 0},
        {"pages", CLI_U64, &settings->pages, "N", "pages in all (16384)", 1, 1000000000, 'n'},
        {"batch", CLI_U64, &settings->batch, "N", "pages a call, and raw operations in flight (128)", 1,
         VARVE_BATCH_PAGES_MAX, 'b'},
        {"chain", CLI_U64, &settings->chain, "N", "pages a chain (2000)", 1, 1000000, 0},
        {"engines", CLI_TEXT, &command.engines, "LIST", "names, with commas between: see above (auto)", 0, 0, 0},
        {"content", CLI_TEXT, &command.report.content, "TYPE",
         "what the namespace says that the pages are: bytes (never coded) or bf16 (bytes)", 0, 0, 0},
        {"codecs", CLI_TEXT, &command.codecs, "LIST", "values of the option codec, with commas between: one run each",
         0, 0, 0},
        {"seed", CLI_U64, &settings->seed, "N", "of ids and order (1)", 0, 0, 0},
        {"no-raw", CLI_FLAG, &command.no_raw, NULL, "do not measure the raw disk", 0, 0, 0},
        {"no-verify", CLI_FLAG, &command.no_verify, NULL, "leave out the pass that compares every byte", 0, 0, 0},
        {"keep", CLI_FLAG, &command.keep, NULL, "leave the stores in DIR", 0, 0, 0},
        {"json", CLI_FLAG, &command.report.json, NULL, "print one JSON object a phase", 0, 0, 'j'},
        {"progress", CLI_FLAG, &settings->progress, NULL, "show progress even when this is no terminal", 0, 0, 0},
        CLI_STORE_OPTIONS(&command.options),
    };
    const struct cli_spec spec = {"bench",  "DIR",   description == NULL ? description_begin : description,
                                  examples, options, sizeof(options) / sizeof(options[0]),
                                  1,        1,       false};
    int exit_code;

    if (cli_parse(&spec, &argc, &argv, &exit_code)) {
        settings->dir = argv[0];
        exit_code = run(&command);
    }
    varve_options_destroy(command.options);
    free(description);
    return exit_code;
}
