/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.c - the type _native.Store: an open store, and the count of calls in flight that lets close() wait for them.
 *
 * Main invariant: varve_close() runs once, with no call in flight, in the process that opened the store. Every other
 * library call lies between store_enter() and store_leave().
 */
#include "native.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

PyObject *store_type;

varve_store *
store_enter(struct store_object *self)
{
    varve_store *store = NULL;

    if (self->owner != getpid()) {
        (void)raise_argument("the store was opened by another process, before fork(): open it in this one");
        return NULL;
    }
    (void)pthread_mutex_lock(&self->lock);
    if (self->state == STORE_OPEN) {
        store = self->store;
        self->in_flight++;
    }
    (void)pthread_mutex_unlock(&self->lock);
    if (store == NULL)
        (void)raise_argument("the store is closed");
    return store;
}

void
store_leave(struct store_object *self)
{
    (void)pthread_mutex_lock(&self->lock);
    if (--self->in_flight == 0 && self->state == STORE_CLOSING)
        (void)pthread_cond_broadcast(&self->changed);
    (void)pthread_mutex_unlock(&self->lock);
}

/* Without the GIL. Whoever comes first closes, after the calls in flight; the others return when that is done. */
static int
close_store(struct store_object *self, varve_error *err)
{
    int rc = VARVE_OK;

    (void)pthread_mutex_lock(&self->lock);
    if (self->state == STORE_OPEN) {
        self->state = STORE_CLOSING;
        while (self->in_flight > 0)
            (void)pthread_cond_wait(&self->changed, &self->lock);
        (void)pthread_mutex_unlock(&self->lock);
        rc = varve_close(self->store, err);
        (void)pthread_mutex_lock(&self->lock);
        self->store = NULL;
        self->state = STORE_CLOSED;
        (void)pthread_cond_broadcast(&self->changed);
    }
    while (self->state != STORE_CLOSED)
        (void)pthread_cond_wait(&self->changed, &self->lock);
    (void)pthread_mutex_unlock(&self->lock);
    return rc;
}

static PyObject *
store_close(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct store_object *self = (struct store_object *)(void *)object;
    varve_error err = {0};
    int rc;
    PyThreadState *thread;

    if (self->owner != getpid())
        Py_RETURN_NONE; /* the parent's */
    thread = PyEval_SaveThread();
    rc = close_store(self, &err);
    PyEval_RestoreThread(thread);
    if (rc != VARVE_OK)
        return raise_error(rc, &err);
    Py_RETURN_NONE;
}

/* Set the options of a tuple of (name, value) pairs. */
static int
set_options(varve_options *options, PyObject *pairs)
{
    Py_ssize_t count = PyTuple_Size(pairs);
    const char *name, *value;
    varve_error err;
    int rc;

    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *pair = PyTuple_GetItem(pairs, i); /* borrowed */

        if (!PyTuple_Check(pair)) {
            PyErr_SetString(PyExc_TypeError, "options: pairs of text are needed");
            return -1;
        }
        if (!PyArg_ParseTuple(pair, "ss;options: pairs of text are needed", &name, &value))
            return -1;
        rc = varve_options_set(options, name, value, &err);
        if (rc != VARVE_OK) {
            (void)raise_error(rc, &err);
            return -1;
        }
    }
    return 0;
}

/* A new object of `type` with the store in `directory` open. NULL with an exception. */
static PyObject *
open_store(PyTypeObject *type, const char *directory, const varve_options *options)
{
    struct store_object *self = (struct store_object *)(void *)PyType_GenericAlloc(type, 0);
    varve_error err = {0};
    int rc;
    PyThreadState *thread;

    if (self == NULL)
        return NULL;
    self->owner = getpid();
    self->state = STORE_CLOSED; /* until it is open */
    (void)pthread_mutex_init(&self->lock, NULL);
    (void)pthread_cond_init(&self->changed, NULL);
    thread = PyEval_SaveThread();
    rc = varve_open(directory, options, &self->store, &err);
    PyEval_RestoreThread(thread);
    if (rc != VARVE_OK) {
        Py_DECREF((PyObject *)self);
        return raise_error(rc, &err);
    }
    self->state = STORE_OPEN;
    return (PyObject *)self;
}

static PyObject *
store_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *path = NULL, *pairs = NULL, *self = NULL;
    varve_options *options;

    if (kwargs != NULL && PyDict_Size(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "_native.Store takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O&O!:Store", PyUnicode_FSConverter, &path, &PyTuple_Type, &pairs))
        return NULL; /* path has been let go of */
    options = varve_options_create();
    if (options == NULL)
        PyErr_NoMemory();
    else if (set_options(options, pairs) == 0)
        self = open_store(type, PyBytes_AsString(path), options);
    varve_options_destroy(options);
    Py_DECREF(path);
    return self;
}

static void
store_dealloc(PyObject *object)
{
    struct store_object *self = (struct store_object *)(void *)object;
    PyTypeObject *type = Py_TYPE(object);

    if (self->owner == getpid()) { /* a child's copy of the lock may be held by a thread that the child does not have */
        PyThreadState *thread = PyEval_SaveThread();

        (void)close_store(self, NULL);
        PyEval_RestoreThread(thread);
        (void)pthread_cond_destroy(&self->changed);
        (void)pthread_mutex_destroy(&self->lock);
    }
    PyObject_Free(object);
    Py_DECREF((PyObject *)type);
}

static PyObject *
store_sync(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct store_object *self = (struct store_object *)(void *)object;
    varve_store *store = store_enter(self);
    varve_error err = {0};
    int rc;
    PyThreadState *thread;

    if (store == NULL)
        return NULL;
    thread = PyEval_SaveThread();
    rc = varve_sync(store, &err);
    store_leave(self);
    PyEval_RestoreThread(thread);
    if (rc != VARVE_OK)
        return raise_error(rc, &err);
    Py_RETURN_NONE;
}

static PyObject *
store_set_option(PyObject *object, PyObject *args)
{
    struct store_object *self = (struct store_object *)(void *)object;
    const char *name, *value;
    varve_store *store;
    varve_error err = {0};
    int rc;
    PyThreadState *thread;

    if (!PyArg_ParseTuple(args, "ss:set_option", &name, &value))
        return NULL;
    store = store_enter(self);
    if (store == NULL)
        return NULL;
    thread = PyEval_SaveThread();
    rc = varve_option_set(store, name, value, &err);
    store_leave(self);
    PyEval_RestoreThread(thread);
    if (rc != VARVE_OK)
        return raise_error(rc, &err);
    Py_RETURN_NONE;
}

/* A new dict of statistic name to value. */
static PyObject *
stats_dict(const uint64_t *values, size_t count)
{
    PyObject *stats = PyDict_New();

    for (size_t i = 0; stats != NULL && i < count; i++) {
        PyObject *value = PyLong_FromUnsignedLongLong(values[i]);

        if (value == NULL || PyDict_SetItemString(stats, varve_stat_describe(i)->name, value) < 0) {
            Py_DECREF(stats);
            stats = NULL;
        }
        Py_XDECREF(value);
    }
    return stats;
}

static PyObject *
store_stats(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct store_object *self = (struct store_object *)(void *)object;
    varve_store *store;
    PyObject *stats;
    uint64_t *values;
    size_t count = 0;
    PyThreadState *thread;

    while (varve_stat_describe(count) != NULL)
        count++;
    values = PyMem_Calloc(count + 1, sizeof(*values));
    if (values == NULL)
        return PyErr_NoMemory();
    store = store_enter(self);
    if (store == NULL) {
        PyMem_Free(values);
        return NULL;
    }
    thread = PyEval_SaveThread();
    (void)varve_stats_get(store, values, count);
    store_leave(self);
    PyEval_RestoreThread(thread);
    stats = stats_dict(values, count);
    PyMem_Free(values);
    return stats;
}

/* Lines of the controller's log, gathered without the GIL. */
struct lines {
    char *text; /* one after the other, with newlines */
    size_t bytes, room;
    bool failed;
};

static void
lines_add(void *arg, const char *line)
{
    struct lines *lines = arg;
    size_t bytes = strlen(line);

    if (lines->room - lines->bytes < bytes + 1) {
        size_t room = 2 * (lines->room + bytes + 1);
        char *text = realloc(lines->text, room);

        if (text == NULL) {
            lines->failed = true;
            return;
        }
        lines->text = text;
        lines->room = room;
    }
    memcpy(lines->text + lines->bytes, line, bytes);
    lines->text[lines->bytes + bytes] = '\n';
    lines->bytes += bytes + 1;
}

/* A new list of str. */
static PyObject *
lines_list(const struct lines *lines)
{
    PyObject *list = PyList_New(0);
    size_t begin = 0;

    for (size_t i = 0; list != NULL && i < lines->bytes; i++) {
        PyObject *line;

        if (lines->text[i] != '\n')
            continue;
        line = PyUnicode_DecodeASCII(lines->text + begin, (Py_ssize_t)(i - begin), "replace");
        if (line == NULL || PyList_Append(list, line) < 0) {
            Py_DECREF(list);
            list = NULL;
        }
        Py_XDECREF(line);
        begin = i + 1;
    }
    return list;
}

static PyObject *
store_control_log(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct store_object *self = (struct store_object *)(void *)object;
    struct lines lines = {NULL, 0, 0, false};
    varve_store *store = store_enter(self);
    PyThreadState *thread;
    PyObject *list;

    if (store == NULL)
        return NULL;
    thread = PyEval_SaveThread();
    (void)varve_control_log(store, lines_add, &lines);
    store_leave(self);
    PyEval_RestoreThread(thread);
    list = lines.failed ? PyErr_NoMemory() : lines_list(&lines);
    free(lines.text);
    return list;
}

static PyObject *
store_io_align(PyObject *object, void *Py_UNUSED(unused))
{
    struct store_object *self = (struct store_object *)(void *)object;
    varve_store *store = store_enter(self);
    size_t align;

    if (store == NULL)
        return NULL;
    align = varve_io_align(store);
    store_leave(self);
    return PyLong_FromSize_t(align);
}

static PyObject *
store_is_closed(PyObject *object, void *Py_UNUSED(unused))
{
    struct store_object *self = (struct store_object *)(void *)object;
    bool closed = true;

    if (self->owner == getpid()) {
        (void)pthread_mutex_lock(&self->lock);
        closed = self->state != STORE_OPEN;
        (void)pthread_mutex_unlock(&self->lock);
    }
    return PyBool_FromLong(closed);
}

int
store_type_make(void)
{
    static PyMethodDef methods[] = {
        {"close", store_close, METH_NOARGS, NULL},
        {"sync", store_sync, METH_NOARGS, NULL},
        {"set_option", store_set_option, METH_VARARGS, NULL},
        {"stats", store_stats, METH_NOARGS, NULL},
        {"control_log", store_control_log, METH_NOARGS, NULL},
        {0},
    };
    static PyGetSetDef attributes[] = {
        {"io_align", store_io_align, NULL, NULL, NULL},
        {"closed", store_is_closed, NULL, NULL, NULL},
        {0},
    };
    static PyType_Slot slots[] = {
        {Py_tp_new, SLOT(store_new)},
        {Py_tp_dealloc, SLOT(store_dealloc)},
        {Py_tp_methods, methods},
        {Py_tp_getset, attributes},
        {0},
    };
    static PyType_Spec spec = {
        .name = "varve._native.Store",
        .basicsize = sizeof(struct store_object),
        .flags = Py_TPFLAGS_DEFAULT,
        .slots = slots,
    };

    store_type = PyType_FromSpec(&spec);
    return store_type == NULL ? -1 : 0;
}
