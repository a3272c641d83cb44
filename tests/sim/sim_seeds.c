/* SPDX-License-Identifier: Apache-2.0 */
#include "sim_seeds.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 256

bool
sim_seeds_range(const char *text, uint64_t *first, uint64_t *last)
{
    char *rest;

    *first = strtoull(text, &rest, 0);
    if (strncmp(rest, "..", 2) != 0)
        return false;
    *last = strtoull(rest + 2, &rest, 0);
    return *rest == '\0';
}

int64_t
sim_seeds_file(const char *path, const char *form, sim_seeds_run *run, void *arg)
{
    FILE *file = fopen(path, "r");
    char line[LINE_BYTES];
    int64_t runs = 0;

    if (file == NULL) {
        perror(path);
        return -1;
    }
    while (runs >= 0 && fgets(line, sizeof(line), file) != NULL) {
        uint64_t seed, ops;
        char *how;

        line[strcspn(line, "#\n")] = '\0';
        if (line[strspn(line, " \t")] == '\0')
            continue;
        seed = strtoull(line, &how, 0);
        ops = strtoull(how, &how, 0);
        how += strspn(how, " \t");
        for (size_t end = strlen(how); end > 0 && strchr(" \t", how[end - 1]) != NULL; end--)
            how[end - 1] = '\0';
        if (ops > 0 && run(arg, seed, ops, how)) {
            runs++;
        } else {
            (void)fprintf(stderr, "%s: a line is not SEED OPS%s: %s\n", path, form, line);
            runs = -1;
        }
    }
    (void)fclose(file);
    return runs;
}

static const char *repro_text;

static void
on_abort(int signal_number)
{
    (void)signal_number;
    if (write(STDOUT_FILENO, "repro: ", 7) < 0 || write(STDOUT_FILENO, repro_text, strlen(repro_text)) < 0 ||
        write(STDOUT_FILENO, "\n", 1) < 0)
        _exit(2);
}

void
sim_seeds_repro(const char *repro)
{
    repro_text = repro;
    (void)signal(SIGABRT, on_abort);
}
