/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a test: fsync and fdatasync fail with EIO while the file that FAIL_SYNC names exists. */
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int
failing(void)
{
    const char *path = getenv("FAIL_SYNC");

    return path != NULL && access(path, F_OK) == 0;
}

int
fsync(int fd)
{
    if (!failing())
        return (int)syscall(SYS_fsync, fd);
    errno = EIO;
    return -1;
}

int
fdatasync(int fildes)
{
    if (!failing())
        return (int)syscall(SYS_fdatasync, fildes);
    errno = EIO;
    return -1;
}
