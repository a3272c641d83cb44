/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct_io.c - can files in this directory bypass the page cache, and in which granularity? Linux 6.1 and later say so
 * in statx(); elsewhere a temporary file is written and read back directly, with the smallest granularity first. The
 * file has no name while it is used, so a crash leaves nothing behind.
 */
#include "env/env_posix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "env/io.h"

#define DIRECT_ALIGN_MIN 512

/*
 * The kernel's struct statx and its number for the question: the C library's headers may be older than the kernel
 * that runs us. Layout: linux/stat.h.
 */
#define ASK_DIOALIGN 0x2000u

struct kernel_statx {
    uint32_t mask; /* 000-003 which answers are given */
    uint32_t other[37];
    uint32_t dio_mem_align;    /* 152-155 of addresses; 0: no direct I/O */
    uint32_t dio_offset_align; /* 156-159 of offsets and lengths */
    uint64_t rest[12];
};
_Static_assert(sizeof(struct kernel_statx) == 256, "struct statx of Linux has 256 bytes");

/* The kernel's answer: 0 none, else the granularity; -ENOSYS: it does not know. */
static int
ask_kernel(int fd)
{
    struct kernel_statx answer;
    uint32_t align;

    memset(&answer, 0, sizeof(answer));
    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, ASK_DIOALIGN, &answer) < 0 || (answer.mask & ASK_DIOALIGN) == 0)
        return -ENOSYS;
    if (answer.dio_mem_align == 0 || answer.dio_offset_align == 0)
        return 0;
    align = answer.dio_mem_align > answer.dio_offset_align ? answer.dio_mem_align : answer.dio_offset_align;
    if (align > IO_ALIGN_MAX)
        return 0;
    return (int)(align > DIRECT_ALIGN_MIN ? align : DIRECT_ALIGN_MIN);
}

/* Does a direct write, and a direct read of the same bytes, work in pieces of `align` bytes? */
static bool
try_align(int fd, size_t align)
{
    static const char mark[] = "varve direct I/O";
    _Alignas(IO_ALIGN_MAX) char memory[3 * IO_ALIGN_MAX];
    char *written = memory + align; /* aligned to `align`, and for the small ones to no more */
    char *read_back = memory + IO_ALIGN_MAX + align;

    memset(memory, 0, sizeof(memory));
    memcpy(written, mark, sizeof(mark));
    return pwrite(fd, written, align, (off_t)align) == (ssize_t)align &&
           pread(fd, read_back, align, (off_t)align) == (ssize_t)align && memcmp(written, read_back, align) == 0;
}

static int
open_unnamed(int dir_fd)
{
    char name[40];
    uint64_t salt = 0;
    int fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0)
        return fd;
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT)
        return -errno;
    /* The file system knows no unnamed files. */
    (void)getrandom(&salt, sizeof(salt), 0);
    (void)snprintf(name, sizeof(name), ".probe-%016llx", (unsigned long long)salt);
    fd = openat(dir_fd, name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    (void)unlinkat(dir_fd, name, 0);
    return fd;
}

int
direct_io_probe(int dir_fd)
{
    int fd = open_unnamed(dir_fd);
    int align;

    if (fd < 0)
        return fd;
    align = ask_kernel(fd);
    if (align == -ENOSYS) {
        align = 0;
        if (fcntl(fd, F_SETFL, O_DIRECT) == 0) {
            if (try_align(fd, DIRECT_ALIGN_MIN))
                align = DIRECT_ALIGN_MIN;
            else if (try_align(fd, IO_ALIGN_MAX))
                align = IO_ALIGN_MAX;
        }
    }
    (void)close(fd);
    return align;
}
