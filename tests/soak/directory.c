/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a store, seen from outside: how much they hold, which they are, and how to damage one. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk_usage.h"
#include "soak.h"

#define NUMBER_DIGITS 16
#define FILES_MAX     4096

uint64_t
directory_bytes(const char *path)
{
    return disk_usage(path);
}

/* The part of a file's name after its number, or NULL. */
static const char *
kind_of(const char *name)
{
    return strspn(name, "0123456789abcdef") == NUMBER_DIGITS ? name + NUMBER_DIGITS : NULL;
}

const char *
directory_stray(const char *path, uint64_t segments, uint64_t runs)
{
    static char what[320];
    uint64_t segment_files = 0, run_files = 0, manifests = 0;
    DIR *dir = opendir(path);
    const struct dirent *entry;

    what[0] = '\0';
    if (dir == NULL)
        return "the directory cannot be read";
    while ((entry = readdir(dir)) != NULL) {
        const char *kind = kind_of(entry->d_name);

        if (kind != NULL && strcmp(kind, ".seg") == 0)
            segment_files++;
        else if (kind != NULL && strcmp(kind, ".run") == 0)
            run_files++;
        else if (kind != NULL && strcmp(kind, ".manifest") == 0)
            manifests++;
        else if (strcmp(entry->d_name, "LOCK") != 0 && strcmp(entry->d_name, "CURRENT") != 0 &&
                 strcmp(entry->d_name, "HEAT") != 0 && strcmp(entry->d_name, "CONTROL") != 0 &&
                 strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)snprintf(what, sizeof(what), "stray %s", entry->d_name);
    }
    (void)closedir(dir);
    if (what[0] == '\0' && (segment_files != segments || run_files != runs || manifests != 1))
        (void)snprintf(what, sizeof(what),
                       "%" PRIu64 " segments, %" PRIu64 " runs, %" PRIu64 " manifests; the store knows %" PRIu64
                       ", %" PRIu64 ", 1",
                       segment_files, run_files, manifests, segments, runs);
    return what[0] != '\0' ? what : NULL;
}

void
directory_remove(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;

    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    }
    (void)closedir(dir);
    (void)rmdir(path);
}

/* One file but LOCK, each as likely as the others; its kind matters more than its size. */
static bool
draw_file(int dir_fd, struct random *rng, char *name, size_t name_size)
{
    DIR *dir = fdopendir(dup(dir_fd));
    const struct dirent *entry;
    uint64_t seen = 0;

    if (dir == NULL)
        return false;
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.' && strcmp(entry->d_name, "LOCK") != 0 && random_below(rng, ++seen) == 0)
            (void)snprintf(name, name_size, "%s", entry->d_name);
    }
    (void)closedir(dir);
    return seen > 0;
}

/* Where it hurts: anywhere, or, often, near one of the ends, where the structures are. */
static uint64_t
draw_offset(uint64_t size, struct random *rng)
{
    uint64_t near = size < 8192 ? size : 8192;

    switch (random_below(rng, 4)) {
    case 0:
        return random_below(rng, near);
    case 1:
        return size - 1 - random_below(rng, near);
    default:
        return random_below(rng, size);
    }
}

void
directory_damage(const char *path, struct random *rng, char *what)
{
    static const uint8_t zeros[512];
    int dir = open(path, O_RDONLY | O_DIRECTORY), fd = -1;
    uint64_t kind = random_below(rng, 8), at = 0;
    struct stat status;
    char name[256];
    uint8_t byte;
    bool done = false;

    what[0] = '\0';
    if (dir < 0 || !draw_file(dir, rng, name, sizeof(name)) || (fd = openat(dir, name, O_RDWR)) < 0 ||
        fstat(fd, &status) != 0 || status.st_size == 0)
        kind = UINT64_MAX;
    else
        at = draw_offset((uint64_t)status.st_size, rng);
    if (kind < 5) { /* a bit */
        done = pread(fd, &byte, 1, (off_t)at) == 1;
        byte = (uint8_t)(byte ^ 1u << random_below(rng, 8));
        done = done && pwrite(fd, &byte, 1, (off_t)at) == 1;
    } else if (kind == 5) { /* a sector of zeros */
        done = pwrite(fd, zeros, sizeof(zeros), (off_t)(at & ~(uint64_t)511)) == (ssize_t)sizeof(zeros);
    } else if (kind == 6) { /* cut */
        done = ftruncate(fd, (off_t)at) == 0;
    } else if (kind == 7) { /* gone */
        done = unlinkat(dir, name, 0) == 0;
    }
    if (done)
        (void)snprintf(what, SOAK_PATH_BYTES, "damage %" PRIu64 " to %s at %" PRIu64, kind, name, at);
    if (fd >= 0)
        (void)close(fd);
    if (dir >= 0)
        (void)close(dir);
}
