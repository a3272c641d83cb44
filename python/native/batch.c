/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.c - the varve_page array of one put or get, from addresses or from objects with the buffer protocol.
 *
 * Everything that the pages point to is held by the batch until it is released: the ids and page buffers by their
 * views, the iovecs in one allocation with the pages. Plain addresses are the caller's to keep alive.
 */
#include "native.h"

#include <string.h>

/* Pages and iovecs for `parts` regions a page; ids and iovecs are linked, regions still empty. */
static int
batch_allocate(struct batch *batch, size_t parts)
{
    size_t count = batch->ids.count;
    struct iovec *iov;

    batch->parts = parts;
    batch->pages = PyMem_Calloc(count + 1, sizeof(varve_page) + parts * sizeof(struct iovec));
    if (batch->pages == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    iov = (struct iovec *)(void *)(batch->pages + count);
    for (size_t i = 0; i < count; i++) {
        batch->pages[i].id = batch->ids.items[i];
        batch->pages[i].iov = iov + i * parts;
        batch->pages[i].iov_count = (uint32_t)parts;
    }
    return 0;
}

static struct iovec *
batch_regions(const struct batch *batch)
{
    return (struct iovec *)(void *)(batch->pages + batch->ids.count);
}

static int
check_region_count(const char *name, size_t given, size_t pages, size_t parts)
{
    if (given == pages * parts)
        return 0;
    PyErr_Format(PyExc_ValueError, "%s: %zu given, but %zu pages of parts=%zu need %zu", name, given, pages, parts,
                 pages * parts);
    return -1;
}

static int
fill_regions(struct batch *batch, const struct words *addresses, const struct words *sizes)
{
    size_t count = batch->ids.count * batch->parts;
    struct iovec *iov = batch_regions(batch);

    for (size_t i = 0; i < count; i++) {
        size_t size = (size_t)sizes->values[sizes->scalar ? 0 : i];

        if (addresses->values[i] == 0 && size > 0) {
            PyErr_Format(PyExc_ValueError, "addresses[%zu]: 0 is no address", i);
            return -1;
        }
        iov[i].iov_base =
            (void *)(uintptr_t)addresses->values[i]; /* NOLINT(performance-no-int-to-ptr): what the caller gives */
        iov[i].iov_len = size;
    }
    return 0;
}

int
batch_from_addresses(struct batch *batch, PyObject *ids, PyObject *addresses, PyObject *sizes, Py_ssize_t parts)
{
    struct words from = {0}, lengths = {0};
    int rc;

    *batch = (struct batch){0};
    if (parts < 1 || parts > VARVE_PAGE_IOV_MAX) {
        PyErr_Format(PyExc_ValueError, "parts: %zd is not between 1 and %d", parts, VARVE_PAGE_IOV_MAX);
        return -1;
    }
    rc = ids_acquire(&batch->ids, ids, "ids");
    if (rc == 0)
        rc = words_acquire(&from, addresses, "addresses");
    if (rc == 0)
        rc = check_region_count("addresses", from.count, batch->ids.count, (size_t)parts);
    if (rc == 0)
        rc = words_acquire(&lengths, sizes, "sizes");
    if (rc == 0 && !lengths.scalar)
        rc = check_region_count("sizes", lengths.count, batch->ids.count, (size_t)parts);
    if (rc == 0)
        rc = batch_allocate(batch, (size_t)parts);
    if (rc == 0)
        rc = fill_regions(batch, &from, &lengths);
    words_release(&from);
    words_release(&lengths);
    if (rc < 0)
        batch_release(batch);
    return rc;
}

static int
acquire_page_buffer(struct batch *batch, PyObject *buffer, bool writable)
{
    size_t i = batch->view_count;
    Py_buffer *view = &batch->views[i];
    struct iovec *iov = batch_regions(batch) + i;
    int rc = buffer_acquire(view, buffer, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE);

    if (rc <= 0) {
        if (rc == 0 || PyErr_ExceptionMatches(PyExc_BufferError) || PyErr_ExceptionMatches(PyExc_ValueError))
            PyErr_Format(PyExc_TypeError,
                         "buffers[%zu]: a %scontiguous object with the buffer protocol is needed, not this %R", i,
                         writable ? "writable, " : "", (PyObject *)Py_TYPE(buffer));
        return -1;
    }
    batch->view_count++;
    iov->iov_base = view->buf;
    iov->iov_len = (size_t)view->len;
    return 0;
}

int
batch_from_buffers(struct batch *batch, PyObject *ids, PyObject *buffers, bool writable)
{
    Py_ssize_t given;
    int rc;

    *batch = (struct batch){0};
    if (!PyList_Check(buffers) && !PyTuple_Check(buffers)) {
        PyErr_Format(PyExc_TypeError, "buffers: a list or a tuple is needed, not %R", (PyObject *)Py_TYPE(buffers));
        return -1;
    }
    rc = ids_acquire(&batch->ids, ids, "ids");
    given = PySequence_Size(buffers);
    if (rc == 0 && (given < 0 || (size_t)given != batch->ids.count)) {
        PyErr_Format(PyExc_ValueError, "buffers: %zd given, but there are %zu ids", given, batch->ids.count);
        rc = -1;
    }
    if (rc == 0)
        rc = batch_allocate(batch, 1);
    if (rc == 0) {
        batch->views = PyMem_Calloc((size_t)given + 1, sizeof(*batch->views));
        if (batch->views == NULL) {
            PyErr_NoMemory();
            rc = -1;
        }
    }
    for (Py_ssize_t i = 0; rc == 0 && i < given; i++) {
        PyObject *buffer = PySequence_GetItem(buffers, i);

        rc = buffer == NULL ? -1 : acquire_page_buffer(batch, buffer, writable);
        Py_XDECREF(buffer);
    }
    if (rc < 0)
        batch_release(batch);
    return rc;
}

void
batch_release(struct batch *batch)
{
    for (size_t i = 0; i < batch->view_count; i++)
        PyBuffer_Release(&batch->views[i]);
    PyMem_Free(batch->views);
    PyMem_Free(batch->pages);
    ids_release(&batch->ids);
    *batch = (struct batch){0};
}

PyObject *
batch_finish(struct batch *batch)
{
    size_t count = batch->ids.count;
    PyObject *statuses = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(count * sizeof(int32_t)));

    if (statuses != NULL) {
        char *out = PyBytes_AsString(statuses);

        for (size_t i = 0; i < count; i++)
            memcpy(out + i * sizeof(int32_t), &batch->pages[i].status, sizeof(int32_t));
    }
    batch_release(batch);
    return statuses;
}
