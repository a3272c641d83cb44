/* SPDX-License-Identifier: Apache-2.0 */
/* Names of the files of a store. */
#include "format/format.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NUMBER_DIGITS 16

static const struct {
    enum format_file_kind kind;
    const char *suffix;
} numbered[] = {
    {FORMAT_FILE_SEGMENT, ".seg"},
    {FORMAT_FILE_RUN, ".run"},
    {FORMAT_FILE_MANIFEST, ".manifest"},
};

static const char *const fixed[] = {
    FORMAT_LOCK_NAME,    FORMAT_CURRENT_NAME,     FORMAT_CURRENT_TMP_NAME, FORMAT_HEAT_NAME,    FORMAT_HEAT_TMP_NAME,
    FORMAT_CONTROL_NAME, FORMAT_CONTROL_TMP_NAME, FORMAT_SOCKET_NAME,      FORMAT_WRITERS_NAME,
};

void
format_file_name(enum format_file_kind kind, uint64_t number, char *name)
{
    const char *suffix = "";

    for (size_t i = 0; i < sizeof(numbered) / sizeof(numbered[0]); i++) {
        if (numbered[i].kind == kind)
            suffix = numbered[i].suffix;
    }
    (void)snprintf(name, FORMAT_NAME_MAX, "%016" PRIx64 "%s", number, suffix);
}

static int
hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

enum format_file_kind
format_parse_name(const char *name, uint64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        if (strcmp(name, fixed[i]) == 0)
            return FORMAT_FILE_FIXED;
    }
    if (strlen(name) <= NUMBER_DIGITS)
        return FORMAT_FILE_OTHER;
    for (int i = 0; i < NUMBER_DIGITS; i++) {
        int value = hex_value(name[i]);

        if (value < 0)
            return FORMAT_FILE_OTHER;
        *number = *number << 4 | (uint64_t)value;
    }
    for (size_t i = 0; i < sizeof(numbered) / sizeof(numbered[0]); i++) {
        if (strcmp(name + NUMBER_DIGITS, numbered[i].suffix) == 0)
            return numbered[i].kind;
    }
    return FORMAT_FILE_OTHER;
}
