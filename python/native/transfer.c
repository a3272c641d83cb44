/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.c - puts and gets: one library call for a whole batch, the GIL released for the whole of it.
 *
 * The batch holds ids and buffers in place until the call is over. Nothing is raised for a page: its status says how it
 * went.
 */
#include "native.h"

#include <string.h>

/* Put the pages, let go of the batch, return the statuses. */
static PyObject *
run_put(struct namespace_object *self, struct batch *batch, PyObject *parent_arg, bool sync)
{
    const varve_id *parent;
    struct ids parent_ids;
    varve_error err = {0};
    varve_store *store;
    int rc = VARVE_OK;
    PyThreadState *thread;

    if (ids_acquire_one(&parent_ids, parent_arg, "parent", &parent) < 0) {
        batch_release(batch);
        return NULL;
    }
    store = store_enter(self->store);
    if (store != NULL) {
        thread = PyEval_SaveThread();
        if (batch->ids.count > 0)
            rc = varve_put_batch(store, self->ns, parent, batch->pages, batch->ids.count, sync ? VARVE_PUT_SYNC : 0,
                                 &err);
        store_leave(self->store);
        PyEval_RestoreThread(thread);
    }
    ids_release(&parent_ids);
    if (store != NULL && rc == VARVE_OK)
        return batch_finish(batch);
    batch_release(batch);
    return store == NULL ? NULL : raise_error(rc, &err);
}

PyObject *
namespace_put_batch(PyObject *object, PyObject *args)
{
    PyObject *ids, *addresses, *sizes, *parent;
    struct batch batch;
    Py_ssize_t parts;
    int sync;

    if (!PyArg_ParseTuple(args, "OOOnOp:put_batch", &ids, &addresses, &sizes, &parts, &parent, &sync) ||
        batch_from_addresses(&batch, ids, addresses, sizes, parts) < 0)
        return NULL;
    return run_put(as_namespace(object), &batch, parent, sync != 0);
}

PyObject *
namespace_put_buffers(PyObject *object, PyObject *args)
{
    PyObject *ids, *buffers, *parent;
    struct batch batch;
    int sync;

    if (!PyArg_ParseTuple(args, "OOOp:put_buffers", &ids, &buffers, &parent, &sync) ||
        batch_from_buffers(&batch, ids, buffers, false) < 0)
        return NULL;
    return run_put(as_namespace(object), &batch, parent, sync != 0);
}

/* The caller's room for the sizes of the pages: None, or `count` integers of 8 bytes. */
static int
room_acquire(Py_buffer *room, PyObject *arg, size_t count)
{
    int rc;

    room->obj = NULL;
    if (arg == Py_None)
        return 0;
    rc = buffer_acquire(room, arg, PyBUF_WRITABLE);
    if (rc > 0 && (size_t)room->len == count * sizeof(uint64_t))
        return 0;
    if (rc > 0) {
        PyErr_Format(PyExc_ValueError, "page_sizes: %zd bytes given, but %zu pages need %zu", room->len, count,
                     count * sizeof(uint64_t));
        PyBuffer_Release(room);
    } else if (rc == 0 || PyErr_ExceptionMatches(PyExc_BufferError)) {
        PyErr_Format(PyExc_TypeError, "page_sizes: a writable buffer is needed, not %R", (PyObject *)Py_TYPE(arg));
    }
    return -1;
}

/* Get the pages, let go of the batch, return the statuses. */
static PyObject *
run_get(struct namespace_object *self, struct batch *batch, PyObject *page_sizes)
{
    varve_error err = {0};
    varve_store *store;
    Py_buffer room;
    int rc = VARVE_OK;
    PyThreadState *thread;

    if (room_acquire(&room, page_sizes, batch->ids.count) < 0) {
        batch_release(batch);
        return NULL;
    }
    store = store_enter(self->store);
    if (store != NULL) {
        thread = PyEval_SaveThread();
        if (batch->ids.count > 0)
            rc = varve_get_batch(store, self->ns, batch->pages, batch->ids.count, &err);
        store_leave(self->store);
        PyEval_RestoreThread(thread);
    }
    if (store != NULL && rc == VARVE_OK && room.obj != NULL) {
        for (size_t i = 0; i < batch->ids.count; i++)
            memcpy((char *)room.buf + i * sizeof(uint64_t), &batch->pages[i].size, sizeof(uint64_t));
    }
    PyBuffer_Release(&room);
    if (store != NULL && rc == VARVE_OK)
        return batch_finish(batch);
    batch_release(batch);
    return store == NULL ? NULL : raise_error(rc, &err);
}

PyObject *
namespace_get_batch(PyObject *object, PyObject *args)
{
    PyObject *ids, *addresses, *sizes, *page_sizes;
    struct batch batch;
    Py_ssize_t parts;

    if (!PyArg_ParseTuple(args, "OOOnO:get_batch", &ids, &addresses, &sizes, &parts, &page_sizes) ||
        batch_from_addresses(&batch, ids, addresses, sizes, parts) < 0)
        return NULL;
    return run_get(as_namespace(object), &batch, page_sizes);
}

PyObject *
namespace_get_buffers(PyObject *object, PyObject *args)
{
    PyObject *ids, *buffers, *page_sizes;
    struct batch batch;

    if (!PyArg_ParseTuple(args, "OOO:get_buffers", &ids, &buffers, &page_sizes) ||
        batch_from_buffers(&batch, ids, buffers, true) < 0)
        return NULL;
    return run_get(as_namespace(object), &batch, page_sizes);
}
