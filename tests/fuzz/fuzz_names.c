/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names from arbitrary bytes, one a line: of files, which are parsed, and of namespaces, which a store makes or refuses, and has again after it
 * was closed or killed. The first byte says which.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../sim/sim_disk.h"
#include "format/format.h"
#include "fuzz.h"
#include "store/store.h"

#define NAMES_MAX 32

struct names {
    char *text; /* lines, each with a NUL */
    const char *at[NAMES_MAX];
    size_t count;
};

static void
names_init(struct names *names, const uint8_t *data, size_t size)
{
    char *next;

    names->count = 0;
    names->text = malloc(size + 1);
    if (names->text == NULL)
        abort();
    if (size > 0)
        memcpy(names->text, data, size);
    names->text[size] = '\0';
    for (char *line = names->text; line != NULL && names->count < NAMES_MAX; line = next) {
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        names->at[names->count++] = line;
    }
}

/* A name that is a file's is the name that its kind and number make. */
static void
check_file_name(const char *name)
{
    uint64_t number;
    enum format_file_kind kind = format_parse_name(name, &number);
    char again[FORMAT_NAME_MAX];

    if (kind == FORMAT_FILE_FIXED)
        fuzz_require(strcmp(name, FORMAT_LOCK_NAME) == 0 || strncmp(name, FORMAT_CURRENT_NAME, 7) == 0 ||
                         strncmp(name, FORMAT_HEAT_NAME, 4) == 0 || strncmp(name, FORMAT_CONTROL_NAME, 7) == 0 ||
                         strcmp(name, FORMAT_SOCKET_NAME) == 0 || strcmp(name, FORMAT_WRITERS_NAME) == 0,
                     "not a file");
    if (kind == FORMAT_FILE_OTHER || kind == FORMAT_FILE_FIXED)
        return;
    format_file_name(kind, number, again);
    fuzz_require(strcmp(name, again) == 0, "two names of one file");
}

static varve_store *
open_store(struct sim_disk *disk)
{
    varve_options *options = varve_options_create();
    varve_store *store = NULL;

    fuzz_require(varve_options_set(options, "capacity", "4M", NULL) == VARVE_OK &&
                     varve_options_set(options, "background", "off", NULL) == VARVE_OK,
                 "an option");
    fuzz_require(store_open(sim_disk_env(disk), options, &store, NULL) == VARVE_OK, "the store does not open");
    varve_options_destroy(options);
    return store;
}

/* An empty page with the same id in each: only namespaces with pages are iterated over. */
static void
put_page(varve_store *store, varve_namespace *ns)
{
    varve_page page = {.id = {{1}}};

    fuzz_require(varve_put_batch(store, ns, NULL, &page, 1, 0, NULL) == VARVE_OK && page.status == VARVE_OK,
                 "a page can not be put");
}

/* Open or make all; handles of equal names are equal, of others not. Returns how many names there are. */
static size_t
open_all(varve_store *store, const struct names *names)
{
    varve_namespace *ns[NAMES_MAX] = {NULL};
    size_t distinct = 0;

    for (size_t i = 0; i < names->count; i++) {
        size_t size = strlen(names->at[i]);
        bool valid = size >= 1 && size <= VARVE_NAMESPACE_NAME_MAX, first = true;
        varve_error err = {0};
        int rc = varve_namespace_open(store, names->at[i], NULL, &ns[i], &err);

        fuzz_require(rc == (valid ? VARVE_OK : VARVE_E_ARG), "a name is taken, or refused, that should not be");
        fuzz_require(valid || (err.code == rc && err.message[0] != '\0'), "a refusal without a reason");
        for (size_t j = 0; j < i && valid; j++) {
            bool same = strcmp(names->at[i], names->at[j]) == 0;

            fuzz_require((ns[i] == ns[j]) == same, "namespaces are mixed up");
            first = first && !same;
        }
        if (valid)
            put_page(store, ns[i]);
        distinct += valid && first;
    }
    return distinct;
}

static size_t
count_namespaces(varve_store *store)
{
    varve_item item = VARVE_ITEM_INIT;
    varve_iter *iter = NULL;
    size_t count = 0;

    fuzz_require(varve_iter_open(store, NULL, VARVE_ITER_NAMESPACES, &iter, NULL) == VARVE_OK, "iteration");
    while (varve_iter_next(iter, &item, NULL) == VARVE_OK)
        count++;
    varve_iter_close(iter);
    return count;
}

static void
check_namespaces(const struct names *names, bool kill)
{
    static const struct sim_disk_settings settings = {
        .seed = 1, .io_align = 512, .sector_bytes = 512, .queue_depth = 4};
    struct sim_disk *disk = sim_disk_create(&settings);
    varve_store *store = open_store(disk);
    size_t count = open_all(store, names);

    fuzz_require(count_namespaces(store) == count, "another number of namespaces than was made");
    if (kill) {
        sim_disk_stop(disk);
        store_abandon(store);
        sim_disk_crash(disk, SIM_CRASH_KILL, 1);
    } else {
        fuzz_require(varve_close(store, NULL) == VARVE_OK, "close");
    }
    store = open_store(disk);
    fuzz_require(count_namespaces(store) == count, "another number of namespaces after a reopen");
    fuzz_require(open_all(store, names) == count && count_namespaces(store) == count, "a namespace is made twice");
    fuzz_require(varve_close(store, NULL) == VARVE_OK, "close");
    fuzz_require(disk->handles_open + disk->allocations == 0 && disk->violations == 0, "a leak");
    sim_disk_destroy(disk);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct names names;

    if (size < 1)
        return 0;
    names_init(&names, data + 1, size - 1);
    for (size_t i = 0; i < names.count; i++)
        check_file_name(names.at[i]);
    if (data[0] % 4 != 0)
        check_namespaces(&names, data[0] % 2 != 0);
    free(names.text);
    return 0;
}

size_t
fuzz_example(struct sim_rng *rng, uint8_t *out)
{
    static const char *const parts[] = {"0000000000000001.seg",
                                        "fedcba9876543210.run",
                                        "00000000000000ff.manifest",
                                        "CURRENT",
                                        "CURRENT.tmp",
                                        "LOCK",
                                        "a",
                                        "model/bf16@3f2",
                                        "\xc3\xa9\x01 \t",
                                        ""};
    size_t size = 1;

    out[0] = (uint8_t)sim_rng_below(rng, 4);
    for (uint64_t left = sim_rng_log(rng, 12); left > 0; left--) {
        const char *part = parts[sim_rng_below(rng, sizeof(parts) / sizeof(parts[0]))];
        uint64_t copies = sim_rng_chance(rng, 30) ? sim_rng_between(rng, 50, 1100) : 1; /* too long, too */

        for (uint64_t i = 0; i < copies && size < FUZZ_INPUT_MAX / 2; i++)
            size += (size_t)snprintf((char *)out + size, FUZZ_INPUT_MAX - size, "%s", part);
        out[size++] = '\n';
    }
    return size;
}
