/* SPDX-License-Identifier: Apache-2.0 */
/* The file CONTROL of a store: decisions of its controller, as text for people. It may be damaged, or written by anyone. */
#ifndef VARVE_TOOLS_DECISIONS_H
#define VARVE_TOOLS_DECISIONS_H

#include <stddef.h>

#include "format/format.h"

struct decisions {
    char text[FORMAT_CONTROL_BYTES + 1];
    const char *lines[FORMAT_CONTROL_BYTES / 2]; /* without newlines, printable */
    size_t count;                                /* the oldest first */
};

/* Those of the store in directory `path`; none where there are none, or the file is not as it should be. */
void decisions_read(const char *path, struct decisions *out);

#endif
