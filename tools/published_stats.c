/* SPDX-License-Identifier: Apache-2.0 */
/* The file is another process's: a line that is no sample is passed over, whatever it holds. */
#include "published_stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "json.h"

#define LINE_BYTES 4096

static FILE *
open_beside(const char *path)
{
    size_t length = strlen(path);
    char name[4096];

    while (length > 1 && path[length - 1] == '/')
        length--;
    if (length + sizeof(".prom") > sizeof(name))
        return NULL;
    (void)snprintf(name, sizeof(name), "%.*s.prom", (int)length, path);
    return fopen(name, "r");
}

/* Cut "name{labels} value" in two. False: no sample. */
static bool
cut_sample(char *line, double *value)
{
    char *space = strrchr(line, ' ');
    char *end;

    if (line[0] == '#' || space == NULL || space == line)
        return false;
    *value = strtod(space + 1, &end);
    *space = '\0';
    return end != space + 1 && (*end == '\n' || *end == '\0');
}

bool
published_stats_print(const char *path, enum published_format format)
{
    struct json_writer json = {0};
    FILE *file = open_beside(path);
    char line[LINE_BYTES];
    struct stat about;
    double value;

    if (file == NULL)
        return false;
    if (fstat(fileno(file), &about) == 0)
        (void)fprintf(stderr, "The store is in use. What its process wrote %" PRId64 " s ago:\n",
                      (int64_t)time(NULL) - (int64_t)about.st_mtime);
    if (format == PUBLISHED_JSON)
        json = json_begin(stdout);
    while (fgets(line, sizeof(line), file) != NULL) {
        if (format == PUBLISHED_PROMETHEUS)
            (void)fputs(line, stdout);
        else if (!cut_sample(line, &value))
            continue;
        else if (format == PUBLISHED_JSON)
            json_put_double(&json, line, value);
        else
            (void)printf("%s %.17g\n", line, value);
    }
    if (format == PUBLISHED_JSON)
        json_end(&json);
    (void)fclose(file);
    return true;
}
