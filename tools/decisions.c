/* SPDX-License-Identifier: Apache-2.0 */
#include "decisions.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

static size_t
read_text(const char *path, char *text)
{
    char name[PATH_MAX];
    int length = snprintf(name, sizeof(name), "%s/%s", path, FORMAT_CONTROL_NAME);
    size_t bytes = 0;
    FILE *file;

    if (length < 0 || (size_t)length >= sizeof(name))
        return 0;
    file = fopen(name, "re");
    if (file != NULL) {
        bytes = fread(text, 1, FORMAT_CONTROL_BYTES, file);
        (void)fclose(file);
    }
    return bytes;
}

void
decisions_read(const char *path, struct decisions *out)
{
    const size_t head = strlen(FORMAT_CONTROL_HEAD);
    size_t bytes = read_text(path, out->text);
    char *line = out->text + head;

    out->count = 0;
    out->text[bytes] = '\0';
    if (bytes < head || memcmp(out->text, FORMAT_CONTROL_HEAD, head) != 0)
        return;
    for (size_t i = head; i < bytes; i++) {
        char *byte = &out->text[i];

        if (*byte == '\n') {
            *byte = '\0';
            out->lines[out->count++] = line;
            line = byte + 1;
        } else if (*byte < ' ' || *byte > '~') {
            *byte = '?'; /* a terminal might act on it */
        }
    }
}
