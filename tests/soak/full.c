/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small file system that fills up: a tmpfs, or ext4 in an image file. It is mounted in a mount namespace of this process, so it goes
 * when the process does, however that ends. A ballast file next to the store takes the space away, and gives it back.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "soak.h"

#define SMALL_DISK_BYTES ((uint64_t)48 << 20)
#define BALLAST          "ballast"

/* Paths in it are our own: no quote occurs in them but ours. */
static bool
run_command(const char *command)
{
    return system(command) == 0; /* NOLINT(cert-env33-c): mkfs and mount have no other interface */
}

static const char *
mount_ext4(const char *scratch, const char *mount_path)
{
    char image[SOAK_PATH_BYTES + 8], command[4 * SOAK_PATH_BYTES];
    int fd;
    bool mounted;

    (void)snprintf(image, sizeof(image), "%s/image", scratch);
    fd = open(image, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)SMALL_DISK_BYTES) != 0)
        return "no room for an image of ext4";
    (void)close(fd);
    (void)snprintf(command, sizeof(command),
                   "exec >/dev/null 2>&1; mkfs.ext4 -q -F -m 0 '%s' && mount -o loop '%s' '%s'", image, image,
                   mount_path);
    mounted = run_command(command);
    (void)unlink(image); /* the loop device keeps it */
    return mounted ? NULL : "an image of ext4 cannot be made and mounted here";
}

const char *
small_disk_mount(const char *type, const char *scratch, char *mount_path)
{
    char tmpfs_size[32];

    (void)snprintf(mount_path, SOAK_PATH_BYTES, "%.*s/mnt", SOAK_PATH_BYTES - 8, scratch);
    (void)snprintf(tmpfs_size, sizeof(tmpfs_size), "size=%" PRIu64, SMALL_DISK_BYTES);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return "file systems can be mounted by root only";
    if (mkdir(mount_path, 0700) != 0 && errno != EEXIST)
        return "no directory to mount at";
    if (strcmp(type, "ext4") == 0)
        return mount_ext4(scratch, mount_path);
    return mount("soak", mount_path, "tmpfs", 0, tmpfs_size) == 0 ? NULL : "a tmpfs cannot be mounted here";
}

void
small_disk_unmount(const char *mount_path)
{
    small_disk_fill(mount_path, UINT64_MAX);
    (void)umount2(mount_path, MNT_DETACH);
    (void)rmdir(mount_path);
}

void
small_disk_fill(const char *mount_path, uint64_t left)
{
    char name[SOAK_PATH_BYTES + 16];
    struct statvfs fs;
    uint64_t available;
    int fd;

    (void)snprintf(name, sizeof(name), "%s/" BALLAST, mount_path);
    (void)unlink(name);
    if (left == UINT64_MAX || statvfs(mount_path, &fs) != 0)
        return;
    available = (uint64_t)fs.f_bfree * fs.f_frsize;
    fd = open(name, O_RDWR | O_CREAT, 0600);
    if (fd < 0)
        return;
    if (available > left)
        (void)posix_fallocate(fd, 0, (off_t)(available - left));
    (void)close(fd);
}

void
small_disk_keep(const char *mount_path, const char *scratch)
{
    char command[3 * SOAK_PATH_BYTES];

    (void)snprintf(command, sizeof(command), "cp -r '%s/store' '%s/store'", mount_path, scratch);
    if (!run_command(command))
        (void)fprintf(stderr, "kill_loop: the store could not be copied from the small disk\n");
}
