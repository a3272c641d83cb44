/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that some process maps are not dropped, so shared mappings of these files in this one (LMDB's) are emptied first: what was written to them is in the
 * page cache then, and the mapping reads it back when it is touched.
 */
#include "directory.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DESCRIPTORS 16 /* of the walk */
#define LINE_BYTES  8192

static int
drop_file(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    int fd;

    (void)status;
    (void)walk;
    if (type != FTW_F || (fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0)
        return 0;
    (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)close(fd);
    return 0;
}

static void
empty_mapping(const char *line, const char *path)
{
    uint64_t begin, end;
    char *rest;

    begin = strtoull(line, &rest, 16);
    if (*rest != '-')
        return;
    end = strtoull(rest + 1, &rest, 16);
    /* " rwxs offset device inode  path": only shared mappings keep their contents when they are emptied. */
    if (strlen(rest) > 5 && rest[4] == 's' && strstr(rest, path) != NULL)
        (void)madvise((void *)(uintptr_t)begin, (size_t)(end - begin),
                      MADV_DONTNEED); /* NOLINT(performance-no-int-to-ptr) */
}

void
directory_uncache(const char *path)
{
    char *absolute = realpath(path, NULL);
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[LINE_BYTES];

    while (absolute != NULL && maps != NULL && fgets(line, sizeof(line), maps) != NULL)
        empty_mapping(line, absolute);
    if (maps != NULL)
        (void)fclose(maps);
    free(absolute);
    (void)nftw(path, drop_file, DESCRIPTORS, FTW_PHYS);
}

static int
remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    return remove(path);
}

int
directory_delete(const char *path)
{
    return nftw(path, remove_entry, DESCRIPTORS, FTW_PHYS | FTW_DEPTH) == 0 ? 0 : -errno;
}
