/* SPDX-License-Identifier: Apache-2.0 */
#include "engines/page_files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/error.h"
#include "codec/iov_cursor.h"
#include "env/env_posix.h"

#define FAN_OUT          256
#define DIRECT_WRITE_MIN ((uint64_t)64 << 10) /* smaller files are written faster through the page cache */
#define NAME_BYTES       96                   /* xx/<64 hex digits>.bin.<counter> */

static void
page_name(const struct page_files *files, const varve_id *id, char name[NAME_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    char *p = name;

    if (files->fan_out) {
        *p++ = digits[id->bytes[0] >> 4];
        *p++ = digits[id->bytes[0] & 15];
        *p++ = '/';
    }
    for (size_t i = 0; i < VARVE_ID_BYTES; i++) {
        *p++ = digits[id->bytes[i] >> 4];
        *p++ = digits[id->bytes[i] & 15];
    }
    memcpy(p, ".bin", sizeof(".bin"));
}

/* O_DIRECT where addresses and lengths allow it. */
static int
direct_flag(const struct page_files *files, const varve_page *page)
{
    uint64_t bits = page->iov_count == 0;

    if (files->direct_align == 0)
        return 0;
    for (uint32_t i = 0; i < page->iov_count; i++)
        bits |= (uintptr_t)page->iov[i].iov_base | page->iov[i].iov_len;
    return (bits & (files->direct_align - 1)) == 0 ? O_DIRECT : 0;
}

/* All `size` bytes, though the kernel may take several calls. 0 or -errno (-ENODATA: the file is shorter). */
static int
transfer(int fd, const varve_page *page, uint64_t size, bool write)
{
    struct iovec left[VARVE_PAGE_IOV_MAX];
    struct iovec *iov = left;
    int count = (int)page->iov_count;
    uint64_t done = 0;

    if (page->iov_count > VARVE_PAGE_IOV_MAX)
        return -EINVAL;
    if (size > 0)
        memcpy(left, page->iov, page->iov_count * sizeof(*left));
    while (done < size) {
        ssize_t moved = write ? pwritev(fd, iov, count, (off_t)done) : preadv(fd, iov, count, (off_t)done);

        if (moved < 0 && errno == EINTR)
            continue;
        if (moved <= 0)
            return moved < 0 ? -errno : -ENODATA;
        done += (uint64_t)moved;
        for (; count > 0 && (size_t)moved >= iov->iov_len; iov++, count--)
            moved -= (ssize_t)iov->iov_len;
        if (moved > 0) {
            iov->iov_base = (char *)iov->iov_base + moved;
            iov->iov_len -= (size_t)moved;
        }
    }
    return 0;
}

bool
page_files_has(const struct page_files *files, const varve_id *id)
{
    char name[NAME_BYTES];

    page_name(files, id, name);
    return faccessat(files->dir_fd, name, F_OK, 0) == 0;
}

static int
write_page(struct page_files *files, const varve_page *page, const char *name)
{
    uint64_t number = atomic_fetch_add_explicit(&files->temporary_count, 1, memory_order_relaxed);
    uint64_t size = iov_total(page->iov, page->iov_count);
    int flags = O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC;
    char temporary[NAME_BYTES + 24];
    int fd, rc;

    (void)snprintf(temporary, sizeof(temporary), "%s.%" PRIu64, name, number);
    if (size >= DIRECT_WRITE_MIN)
        flags |= direct_flag(files, page);
    fd = openat(files->dir_fd, temporary, flags, 0600);
    if (fd < 0)
        return -errno;
    rc = transfer(fd, page, size, true);
    if (close(fd) != 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && renameat(files->dir_fd, temporary, files->dir_fd, name) != 0)
        rc = -errno;
    if (rc < 0)
        (void)unlinkat(files->dir_fd, temporary, 0);
    return rc;
}

void
page_files_put(struct page_files *files, varve_page *page)
{
    char name[NAME_BYTES];
    int rc = 0;

    page_name(files, &page->id, name);
    if (faccessat(files->dir_fd, name, F_OK, 0) != 0)
        rc = write_page(files, page, name);
    page->status = rc == 0 ? VARVE_OK : error_os(NULL, rc, "write a page");
}

void
page_files_get(const struct page_files *files, varve_page *page)
{
    char name[NAME_BYTES];
    struct stat status;
    int fd, rc = 0;

    page_name(files, &page->id, name);
    fd = openat(files->dir_fd, name, O_RDONLY | O_CLOEXEC | direct_flag(files, page));
    if (fd < 0) {
        page->status = errno == ENOENT ? VARVE_MISS : error_os(NULL, -errno, "open a page");
        return;
    }
    if (fstat(fd, &status) != 0)
        rc = -errno;
    page->size = rc == 0 ? (uint64_t)status.st_size : 0;
    if (page->size > iov_total(page->iov, page->iov_count))
        page->status = VARVE_E_ARG;
    else {
        if (rc == 0)
            rc = transfer(fd, page, page->size, false);
        page->status = rc == 0 ? VARVE_OK : error_os(NULL, rc, "read a page");
    }
    (void)close(fd);
}

static int
make_fan_out(int dir_fd)
{
    for (unsigned i = 0; i < FAN_OUT; i++) {
        char name[4];

        (void)snprintf(name, sizeof(name), "%02x", i & 0xff);
        if (mkdirat(dir_fd, name, 0700) != 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

int
page_files_open(struct page_files *files, const char *path, bool fan_out, bool direct, varve_error *err)
{
    int rc;

    *files = (struct page_files){.dir_fd = -1, .fan_out = fan_out};
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return error_os(err, -errno, "make %s", path);
    files->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (files->dir_fd < 0)
        return error_os(err, -errno, "open %s", path);
    rc = fan_out ? make_fan_out(files->dir_fd) : 0;
    if (rc == 0 && direct) {
        rc = direct_io_probe(files->dir_fd);
        files->direct_align = rc > 0 ? (uint32_t)rc : 0;
    }
    if (rc < 0) {
        page_files_close(files);
        return error_os(err, rc, "prepare %s", path);
    }
    return VARVE_OK;
}

void
page_files_close(struct page_files *files)
{
    (void)close(files->dir_fd);
}

int
page_files_sync(const struct page_files *files, varve_error *err)
{
    return syncfs(files->dir_fd) == 0 ? VARVE_OK : error_os(err, -errno, "sync the file system");
}
