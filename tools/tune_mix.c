/* SPDX-License-Identifier: Apache-2.0 */
#include "tune_mix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

#define EXTENTS_MAX    100000 /* that are looked at for the shape of branches */
#define NAME_MAX_BYTES 32

/* The value of a name; NULL: there is none of that name. */
static double *
field(struct tune_mix *mix, const char *name)
{
    const struct {
        const char *name;
        double *value;
    } fields[] = {
        {"put", &mix->mix.pages_put},    {"walk", &mix->mix.walks},       {"miss", &mix->mix.misses},
        {"pages", &mix->mix.walk_pages}, {"turns", &mix->mix.walk_turns}, {"payload", &mix->payload_s},
    };
    const char *names[sizeof(fields) / sizeof(fields[0])];
    const char *nearest;

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (strcmp(fields[i].name, name) == 0)
            return fields[i].value;
        names[i] = fields[i].name;
    }
    nearest = cli_nearest(name, names, sizeof(fields) / sizeof(fields[0]));
    if (nearest != NULL)
        cli_error("--mix knows no '%s'; did you mean '%s'?", name, nearest);
    else
        cli_error("--mix knows no '%s'; there are put, walk, miss, pages, turns, payload", name);
    return NULL;
}

/* One NAME=VALUE of text; *rest is what follows its comma. */
static bool
parse_one(struct tune_mix *mix, const char *text, const char **rest)
{
    size_t length = strcspn(text, ",="), value_length;
    char name[NAME_MAX_BYTES];
    double *target;
    char *end;

    if (length == 0 || length >= sizeof(name) || text[length] != '=') {
        cli_error("--mix wants NAME=VALUE,..., not '%s'; 'varve tune --help' lists the names", text);
        return false;
    }
    memcpy(name, text, length);
    name[length] = '\0';
    target = field(mix, name);
    if (target == NULL)
        return false;
    text += length + 1;
    value_length = strcspn(text, ",");
    *target = strtod(text, &end);
    if (value_length == 0 || end != text + value_length || !isfinite(*target) || *target < 0) {
        cli_error("--mix: %s wants a number of at least 0, not '%.*s'", name, (int)value_length, text);
        return false;
    }
    *rest = *end == ',' ? end + 1 : end;
    return true;
}

bool
tune_mix_parse(struct tune_mix *mix, const char *text)
{
    *mix = (struct tune_mix){.mix = VARVE_TUNE_MIX_INIT};
    mix->mix.walk_turns = 0;
    if (text == NULL) {
        cli_error("for which work? The store was not open, so it has none of late: say it with --mix, e.g. "
                  "--mix put=20000,walk=500,miss=100");
        return false;
    }
    while (*text != '\0') {
        if (!parse_one(mix, text, &text))
            return false;
    }
    if (mix->mix.walk_turns > 0 && mix->mix.walk_turns < 1) {
        cli_error("--mix: turns are at least 1");
        return false;
    }
    if (mix->mix.pages_put + mix->mix.walks + mix->mix.misses > 0)
        return true;
    cli_error("--mix has no work: give put, walk or miss a rate");
    return false;
}

int
tune_mix_complete(struct tune_mix *mix, varve_store *store, varve_error *err)
{
    varve_item item = VARVE_ITEM_INIT;
    double pages = 0, extents = 0, branches = 0;
    uint64_t branch = 0;
    varve_iter *iter;
    int rc = varve_iter_open(store, NULL, VARVE_ITER_EXTENTS, &iter, err);

    if (rc != VARVE_OK)
        return rc;
    while (extents < EXTENTS_MAX && (rc = varve_iter_next(iter, &item, err)) == VARVE_OK) {
        branches += extents == 0 || item.branch != branch;
        branch = item.branch;
        pages += (double)item.page_count;
        extents++;
    }
    varve_iter_close(iter);
    if (!(mix->mix.walk_pages > 0))
        mix->mix.walk_pages = branches > 0 ? pages / branches : 1;
    if (!(mix->mix.walk_turns > 0))
        mix->mix.walk_turns = branches > 0 ? extents / branches : 1;
    return rc < 0 ? rc : VARVE_OK;
}
