/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_dir.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "directory.h"

#define PATH_BYTES 4096

int
bench_dir_clean(const char *path, bool remove, char other[256])
{
    DIR *directory = opendir(path);
    char below[PATH_BYTES];
    struct dirent *entry;
    int rc;

    *other = '\0';
    if (directory == NULL)
        return -errno;
    while ((entry = readdir(directory)) != NULL) {
        const char *name = entry->d_name;

        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "lost+found") == 0)
            continue;
        if (strncmp(name, BENCH_PREFIX, sizeof(BENCH_PREFIX) - 1) != 0)
            (void)snprintf(other, 256, "%s", name);
        else if (remove && snprintf(below, sizeof(below), "%s/%s", path, name) < (int)sizeof(below) &&
                 (rc = directory_delete(below)) < 0)
            cli_error("bench: cannot remove %s: %s", below, strerror(-rc));
    }
    (void)closedir(directory);
    return 0;
}
