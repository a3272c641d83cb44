/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

#define PATH_BYTES 4096

static FTS *
walk_begin(const char *path)
{
    char copy[PATH_BYTES];
    char *const roots[] = {copy, NULL};

    if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy))
        return NULL;
    return fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_NOSTAT, NULL);
}

static void
drop_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)close(fd);
}

void
bench_dir_drop_caches(const char *path)
{
    FTS *walk = walk_begin(path);
    FTSENT *entry;

    if (walk == NULL)
        return;
    while ((entry = fts_read(walk)) != NULL) {
        if (entry->fts_info == FTS_F || entry->fts_info == FTS_NSOK)
            drop_file(entry->fts_accpath);
    }
    (void)fts_close(walk);
}

static void
remove_tree(const char *path)
{
    FTS *walk = walk_begin(path);
    FTSENT *entry;

    if (walk == NULL)
        return;
    while ((entry = fts_read(walk)) != NULL) {
        int rc = 0;

        if (entry->fts_info == FTS_DP)
            rc = rmdir(entry->fts_accpath);
        else if (entry->fts_info != FTS_D)
            rc = unlink(entry->fts_accpath);
        if (rc != 0)
            cli_error("bench: cannot remove %s: %s", entry->fts_path, strerror(errno));
    }
    (void)fts_close(walk);
}

int
bench_dir_clean(const char *path, bool remove, char other[256])
{
    DIR *directory = opendir(path);
    char below[PATH_BYTES];
    struct dirent *entry;

    *other = '\0';
    if (directory == NULL)
        return -errno;
    while ((entry = readdir(directory)) != NULL) {
        const char *name = entry->d_name;

        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "lost+found") == 0)
            continue;
        if (strncmp(name, BENCH_PREFIX, sizeof(BENCH_PREFIX) - 1) != 0)
            (void)snprintf(other, 256, "%s", name);
        else if (remove && snprintf(below, sizeof(below), "%s/%s", path, name) < (int)sizeof(below))
            remove_tree(below);
    }
    (void)closedir(directory);
    return 0;
}
