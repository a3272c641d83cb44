/* SPDX-License-Identifier: Apache-2.0 */
/*
 * namespace.c - the type _native.Namespace: one library call for each call from Python, the GIL released for the whole
 * of it. Puts and gets are in transfer.c.
 *
 * A namespace holds a reference to its store. Arguments are made ready before store_enter(), results after
 * store_leave(), so that no Python code runs while close() would wait. An empty batch is answered here: the library
 * takes none.
 */
#include "native.h"

PyObject *namespace_type;

struct namespace_object *
as_namespace(PyObject *object)
{
    return (struct namespace_object *)(void *)object;
}

static PyObject *
namespace_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    varve_namespace_attributes attributes = VARVE_NAMESPACE_ATTRIBUTES_INIT;
    unsigned long long page_bytes_hint;
    struct namespace_object *self;
    struct store_object *owner;
    varve_namespace *ns = NULL;
    unsigned int element_type;
    varve_error err = {0};
    varve_store *store;
    PyObject *of;
    const char *name;
    int rc;
    PyThreadState *thread;

    if (kwargs != NULL && PyDict_Size(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "_native.Namespace takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O!sIK:Namespace", (PyTypeObject *)(void *)store_type, &of, &name, &element_type,
                          &page_bytes_hint))
        return NULL;
    owner = (struct store_object *)(void *)of;
    attributes.element_type = element_type;
    attributes.page_bytes_hint = page_bytes_hint;
    store = store_enter(owner);
    if (store == NULL)
        return NULL;
    thread = PyEval_SaveThread();
    rc = varve_namespace_open(store, name, &attributes, &ns, &err);
    store_leave(owner);
    PyEval_RestoreThread(thread);
    if (rc != VARVE_OK)
        return raise_error(rc, &err);
    self = as_namespace(PyType_GenericAlloc(type, 0));
    if (self == NULL)
        return NULL;
    Py_INCREF(of);
    self->store = owner;
    self->ns = ns;
    return (PyObject *)self;
}

static void
namespace_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    Py_DECREF((PyObject *)as_namespace(object)->store);
    PyObject_Free(object);
    Py_DECREF((PyObject *)type);
}

typedef int64_t (*ids_function)(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, void *arg,
                                varve_error *err);

/* Run `function` over the ids and return its count, or -1 with an exception. */
static int64_t
run_ids(struct namespace_object *self, const struct ids *ids, ids_function function, void *arg)
{
    varve_error err = {0};
    varve_store *store;
    int64_t result = 0;
    PyThreadState *thread;

    store = store_enter(self->store);
    if (store == NULL)
        return -1;
    thread = PyEval_SaveThread();
    if (ids->count > 0)
        result = function(store, self->ns, ids->items, ids->count, arg, &err);
    store_leave(self->store);
    PyEval_RestoreThread(thread);
    if (result >= 0)
        return result;
    (void)raise_error((int)result, &err);
    return -1;
}

/* The same for calls that take ids and return a number. */
static PyObject *
count_ids(PyObject *object, PyObject *arg, ids_function function)
{
    struct ids ids;
    int64_t result;

    if (ids_acquire(&ids, arg, "ids") < 0)
        return NULL;
    result = run_ids(as_namespace(object), &ids, function, NULL);
    ids_release(&ids);
    return result < 0 ? NULL : PyLong_FromLongLong(result);
}

static int64_t
call_probe(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, void *arg, varve_error *err)
{
    return varve_probe(store, ns, ids, count, arg, err);
}

static int64_t
call_exists(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, void *arg, varve_error *err)
{
    return varve_exists_batch(store, ns, ids, count, arg, err);
}

static int64_t
call_touch(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, void *arg, varve_error *err)
{
    (void)arg;
    return varve_touch(store, ns, ids, count, err);
}

static int64_t
call_remove(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, void *arg, varve_error *err)
{
    (void)arg;
    return varve_remove_batch(store, ns, ids, count, err);
}

static PyObject *
namespace_probe(PyObject *object, PyObject *arg)
{
    return count_ids(object, arg, call_probe);
}

static PyObject *
namespace_touch(PyObject *object, PyObject *arg)
{
    return count_ids(object, arg, call_touch);
}

static PyObject *
namespace_remove(PyObject *object, PyObject *arg)
{
    return count_ids(object, arg, call_remove);
}

static int64_t
call_pin(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, void *arg, varve_error *err)
{
    (void)arg;
    return varve_pin(store, ns, ids, count, err);
}

static int64_t
call_unpin(varve_store *store, varve_namespace *ns, const varve_id *ids, size_t count, void *arg, varve_error *err)
{
    (void)arg;
    return varve_unpin(store, ns, ids, count, err);
}

static PyObject *
namespace_pin(PyObject *object, PyObject *arg)
{
    return count_ids(object, arg, call_pin);
}

static PyObject *
namespace_unpin(PyObject *object, PyObject *arg)
{
    return count_ids(object, arg, call_unpin);
}

static PyObject *
list_of(const uint64_t *values, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);

    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *value = PyLong_FromUnsignedLongLong(values[i]);

        if (value == NULL || PyList_SetItem(list, (Py_ssize_t)i, value) < 0) { /* takes the reference */
            Py_DECREF(list);
            list = NULL;
        }
    }
    return list;
}

static PyObject *
namespace_probe_estimate(PyObject *object, PyObject *arg)
{
    varve_estimate estimate = VARVE_ESTIMATE_INIT;
    PyObject *bytes = NULL, *times = NULL, *result = NULL;
    uint64_t *values;
    struct ids ids;
    int64_t found;

    if (ids_acquire(&ids, arg, "ids") < 0)
        return NULL;
    values = PyMem_Calloc(2 * ids.count + 1, sizeof(*values));
    if (values == NULL) {
        ids_release(&ids);
        return PyErr_NoMemory();
    }
    estimate.prefix_bytes = values;
    estimate.prefix_time_us = values + ids.count;
    found = run_ids(as_namespace(object), &ids, call_probe, &estimate);
    ids_release(&ids);
    if (found >= 0) {
        bytes = list_of(estimate.prefix_bytes, (size_t)found);
        times = list_of(estimate.prefix_time_us, (size_t)found);
    }
    if (bytes != NULL && times != NULL)
        result = Py_BuildValue("LOO", (long long)found, bytes, times);
    Py_XDECREF(bytes);
    Py_XDECREF(times);
    PyMem_Free(values);
    return result;
}

static PyObject *
namespace_exists(PyObject *object, PyObject *arg)
{
    PyObject *exists;
    struct ids ids;

    if (ids_acquire(&ids, arg, "ids") < 0)
        return NULL;
    exists = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)ids.count);
    if (exists != NULL && run_ids(as_namespace(object), &ids, call_exists, PyBytes_AsString(exists)) < 0) {
        Py_DECREF(exists);
        exists = NULL;
    }
    ids_release(&ids);
    return exists;
}

static PyObject *
namespace_clear(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct namespace_object *self = as_namespace(object);
    varve_store *store = store_enter(self->store);
    varve_error err = {0};
    int rc;
    PyThreadState *thread;

    if (store == NULL)
        return NULL;
    thread = PyEval_SaveThread();
    rc = varve_namespace_clear(store, self->ns, &err);
    store_leave(self->store);
    PyEval_RestoreThread(thread);
    if (rc != VARVE_OK)
        return raise_error(rc, &err);
    Py_RETURN_NONE;
}

static PyObject *
namespace_limits(PyObject *object, PyObject *args)
{
    varve_namespace_limits limits = VARVE_NAMESPACE_LIMITS_INIT;
    struct namespace_object *self = as_namespace(object);
    unsigned long long quota_bytes, ttl_s;
    varve_error err = {0};
    PyThreadState *thread;
    varve_store *store;
    int rc;

    if (!PyArg_ParseTuple(args, "KK:limits", &quota_bytes, &ttl_s))
        return NULL;
    limits.quota_bytes = quota_bytes;
    limits.ttl_s = ttl_s;
    store = store_enter(self->store);
    if (store == NULL)
        return NULL;
    thread = PyEval_SaveThread();
    rc = varve_namespace_limits_set(store, self->ns, &limits, &err);
    store_leave(self->store);
    PyEval_RestoreThread(thread);
    if (rc != VARVE_OK)
        return raise_error(rc, &err);
    Py_RETURN_NONE;
}

int
namespace_type_make(void)
{
    static PyMethodDef methods[] = {
        {"put_batch", namespace_put_batch, METH_VARARGS, NULL},
        {"put_buffers", namespace_put_buffers, METH_VARARGS, NULL},
        {"get_batch", namespace_get_batch, METH_VARARGS, NULL},
        {"get_buffers", namespace_get_buffers, METH_VARARGS, NULL},
        {"probe", namespace_probe, METH_O, NULL},
        {"probe_estimate", namespace_probe_estimate, METH_O, NULL},
        {"exists_batch", namespace_exists, METH_O, NULL},
        {"touch", namespace_touch, METH_O, NULL},
        {"remove_batch", namespace_remove, METH_O, NULL},
        {"pin", namespace_pin, METH_O, NULL},
        {"unpin", namespace_unpin, METH_O, NULL},
        {"limits", namespace_limits, METH_VARARGS, NULL},
        {"clear", namespace_clear, METH_NOARGS, NULL},
        {0},
    };
    static PyType_Slot slots[] = {
        {Py_tp_new, SLOT(namespace_new)},
        {Py_tp_dealloc, SLOT(namespace_dealloc)},
        {Py_tp_methods, methods},
        {0},
    };
    static PyType_Spec spec = {
        .name = "varve._native.Namespace",
        .basicsize = sizeof(struct namespace_object),
        .flags = Py_TPFLAGS_DEFAULT,
        .slots = slots,
    };

    namespace_type = PyType_FromSpec(&spec);
    return namespace_type == NULL ? -1 : 0;
}
