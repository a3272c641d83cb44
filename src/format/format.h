/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format.h - what all files of a store share: versions, names, limits. docs/FORMAT.md has every structure with its
 * offsets. All integers are little-endian. Nothing outside src/format reads or writes bytes of a file.
 */
#ifndef VARVE_FORMAT_FORMAT_H
#define VARVE_FORMAT_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

/* One version for the whole store; raised whenever a structure changes. A store of a newer version is refused. */
#define FORMAT_VERSION 1

/* File numbers and branches count up from 1; the next one is never larger. */
#define FORMAT_NUMBER_MAX ((uint64_t)1 << 62)
/* What a file may say of them: counting on from there never comes to that end. */
#define FORMAT_NUMBER_READ_MAX (FORMAT_NUMBER_MAX / 2)
/* And of the next ones: they may have been counted on from a number that is as large as can be. */
#define FORMAT_COUNTER_READ_MAX (FORMAT_NUMBER_MAX / 4 * 3)

#define FORMAT_NAME_MAX 40 /* bytes of a file name of the store, with the NUL */

#define FORMAT_LOCK_NAME        "LOCK"
#define FORMAT_CURRENT_NAME     "CURRENT"
#define FORMAT_CURRENT_TMP_NAME "CURRENT.tmp"
#define FORMAT_HEAT_NAME        "HEAT"
#define FORMAT_HEAT_TMP_NAME    "HEAT.tmp"
#define FORMAT_CONTROL_NAME     "CONTROL"
#define FORMAT_CONTROL_TMP_NAME "CONTROL.tmp"

#define FORMAT_CONTROL_BYTES 16384                                           /* of CONTROL, at most */
#define FORMAT_CONTROL_HEAD  "# Decisions of the controller of the index.\n" /* its first line */
#define FORMAT_SOCKET_NAME   "SOCKET"
#define FORMAT_WRITERS_NAME  "WRITERS"

enum format_file_kind {
    FORMAT_FILE_OTHER = 0, /* not a file of a store */
    FORMAT_FILE_SEGMENT,
    FORMAT_FILE_RUN,
    FORMAT_FILE_MANIFEST,
    FORMAT_FILE_FIXED, /* LOCK, SOCKET, WRITERS, CURRENT, HEAT, CONTROL, and the last three with .tmp */
};

/* "0000000000000007.seg", ".run", ".manifest": 16 hexadecimal digits of the file number. name: FORMAT_NAME_MAX bytes. */
void format_file_name(enum format_file_kind kind, uint64_t number, char *name);

/* The kind and number of a file by its name. */
enum format_file_kind format_parse_name(const char *name, uint64_t *number);

#endif
