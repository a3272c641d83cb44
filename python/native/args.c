/* SPDX-License-Identifier: Apache-2.0 */
/*
 * args.c - ids, integers and tokens from Python arguments.
 *
 * Whatever exports a buffer is used in place and held until it is released, so that it can be neither resized nor freed
 * during the call. Objects without the buffer protocol but with a method numpy() (torch tensors on the CPU) are asked
 * for that array, which shares their memory. Everything is checked here: the library is given counts that match and
 * integers that are in range.
 */
#include "native.h"

#include <string.h>

#define WORD_MAX  ((uint64_t)INT64_MAX) /* no address and no size is larger; negative ones of signed buffers are */
#define TOKEN_MAX ((uint64_t)UINT32_MAX)

/* A new reference to what exports the buffer of `arg`: itself, or its numpy(). NULL with no exception set: it has none.
*/
static PyObject *
exporter_of(PyObject *arg)
{
    PyObject *exporter;

    if (PyObject_CheckBuffer(arg)) {
        Py_INCREF(arg);
        return arg;
    }
    if (PyList_Check(arg) || PyTuple_Check(arg) || !PyObject_HasAttrString(arg, "numpy"))
        return NULL;
    exporter = PyObject_CallMethod(arg, "numpy", NULL);
    if (exporter != NULL && !PyObject_CheckBuffer(exporter)) {
        Py_DECREF(exporter);
        return NULL;
    }
    return exporter;
}

int
buffer_acquire(Py_buffer *view, PyObject *arg, int flags)
{
    PyObject *exporter = exporter_of(arg);
    int rc;

    view->obj = NULL;
    if (exporter == NULL)
        return PyErr_Occurred() != NULL ? -1 : 0;
    rc = PyObject_GetBuffer(exporter, view, flags);
    Py_DECREF(exporter); /* the view has its own reference */
    return rc < 0 ? -1 : 1;
}

int
ids_acquire(struct ids *ids, PyObject *arg, const char *name)
{
    int rc = buffer_acquire(&ids->view, arg, PyBUF_SIMPLE);

    if (rc == 0)
        PyErr_Format(PyExc_TypeError, "%s: a bytes-like object is needed, not %R", name, (PyObject *)Py_TYPE(arg));
    if (rc <= 0)
        return -1;
    if (ids->view.len % VARVE_ID_BYTES != 0) {
        PyErr_Format(PyExc_ValueError, "%s: %zd bytes are no multiple of %d, the size of a page id", name,
                     ids->view.len, VARVE_ID_BYTES);
        PyBuffer_Release(&ids->view);
        return -1;
    }
    ids->items = ids->view.buf;
    ids->count = (size_t)ids->view.len / VARVE_ID_BYTES;
    return 0;
}

int
ids_acquire_one(struct ids *ids, PyObject *arg, const char *name, const varve_id **id)
{
    *id = NULL;
    *ids = (struct ids){0};
    if (arg == Py_None)
        return 0;
    if (ids_acquire(ids, arg, name) < 0)
        return -1;
    if (ids->count != 1) {
        PyErr_Format(PyExc_ValueError, "%s: one page id of %d bytes is needed, not %zd bytes", name, VARVE_ID_BYTES,
                     ids->view.len);
        ids_release(ids);
        return -1;
    }
    *id = ids->items;
    return 0;
}

void
ids_release(struct ids *ids)
{
    PyBuffer_Release(&ids->view); /* does nothing where none is held */
}

/* How the items of a buffer are to be read: 'u' unsigned, 's' signed, 0 where they are no integers in this machine's
byte order. */
static char
integer_kind(const char *format)
{
    if (format == NULL)
        return 'u';
    if (*format == '@' || *format == '=' || *format == '<')
        format++;
    if (*format == '\0' || format[1] != '\0')
        return 0;
    if (strchr("BHILQNP", *format) != NULL)
        return 'u';
    return strchr("bhilqn", *format) != NULL ? 's' : 0;
}

/* The buffer of `arg`, its items being integers of 8 bytes, or of 4 where that is allowed. 1: held; 0: `arg` has no
buffer; -1. */
static int
integers_acquire(Py_buffer *view, PyObject *arg, const char *name, bool four_allowed, char *kind)
{
    int rc = buffer_acquire(view, arg, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS);

    if (rc <= 0)
        return rc;
    *kind = integer_kind(view->format);
    if (*kind != 0 && (view->itemsize == 8 || (four_allowed && view->itemsize == 4)))
        return 1;
    PyErr_Format(PyExc_TypeError,
                 "%s: a buffer of integers of %s8 bytes is needed; this one has format '%s', %zd bytes an item", name,
                 four_allowed ? "4 or " : "", view->format != NULL ? view->format : "B", view->itemsize);
    PyBuffer_Release(view);
    return -1;
}

static int
raise_range(const char *name, size_t index, PyObject *value, uint64_t max)
{
    PyErr_Format(PyExc_ValueError, "%s[%zu]: %S is not between 0 and %llu", name, index, value,
                 (unsigned long long)max);
    return -1;
}

/* All of `values` must be at most `max`; those of signed buffers that are not are negative. */
static int
words_check(const uint64_t *values, size_t count, const char *name, char kind, uint64_t max)
{
    PyObject *value;

    for (size_t i = 0; i < count; i++) {
        if (values[i] <= max)
            continue;
        value = kind == 's' ? PyLong_FromLongLong((long long)values[i]) : PyLong_FromUnsignedLongLong(values[i]);
        if (value != NULL) {
            (void)raise_range(name, i, value, max);
            Py_DECREF(value);
        }
        return -1;
    }
    return 0;
}

static int
word_from_object(PyObject *item, const char *name, size_t index, uint64_t max, uint64_t *out)
{
    PyObject *number = PyNumber_Index(item);
    bool failed;

    if (number == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_Format(PyExc_TypeError, "%s[%zu]: an integer is needed, not %R", name, index,
                         (PyObject *)Py_TYPE(item));
        return -1;
    }
    *out = PyLong_AsUnsignedLongLong(number);
    failed = *out == UINT64_MAX && PyErr_Occurred() != NULL;
    if (failed)
        PyErr_Clear(); /* negative, or beyond 64 bits */
    if (failed || *out > max) {
        (void)raise_range(name, index, number, max);
        failed = true;
    }
    Py_DECREF(number);
    return failed || *out > max ? -1 : 0;
}

/* The integers of a sequence, each at most `max`, in memory of their own. */
static int
words_from_sequence(PyObject *arg, const char *name, const char *wanted, uint64_t max, uint64_t **out, size_t *count)
{
    Py_ssize_t length = PySequence_Check(arg) && !PyUnicode_Check(arg) ? PySequence_Size(arg) : -1;
    uint64_t *values;

    if (length < 0) {
        if (PyErr_Occurred() == NULL)
            PyErr_Format(PyExc_TypeError, "%s: %s is needed, not %R", name, wanted, (PyObject *)Py_TYPE(arg));
        return -1;
    }
    values = PyMem_Calloc((size_t)length + 1, sizeof(*values));
    if (values == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < length; i++) {
        PyObject *item = PySequence_GetItem(arg, i);
        int rc = item == NULL ? -1 : word_from_object(item, name, (size_t)i, max, &values[i]);

        Py_XDECREF(item);
        if (rc < 0) {
            PyMem_Free(values);
            return -1;
        }
    }
    *out = values;
    *count = (size_t)length;
    return 0;
}

/* A copy of a held buffer of 8-byte integers, for one that is not aligned to them. */
static int
words_copy(struct words *words)
{
    words->owned = PyMem_Malloc((size_t)words->view.len + 1);
    if (words->owned == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(words->owned, words->view.buf, (size_t)words->view.len);
    words->values = words->owned;
    return 0;
}

int
words_acquire(struct words *words, PyObject *arg, const char *name)
{
    static const char wanted[] = "a buffer or a sequence of integers";
    char kind = 'u';
    int rc;

    *words = (struct words){0};
    if (PyLong_Check(arg)) {
        words->owned = PyMem_Malloc(sizeof(*words->owned));
        if (words->owned == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        words->values = words->owned;
        words->count = 1;
        words->scalar = true;
        rc = word_from_object(arg, name, 0, WORD_MAX, words->owned);
    } else {
        rc = integers_acquire(&words->view, arg, name, false, &kind);
        if (rc == 0) {
            rc = words_from_sequence(arg, name, wanted, WORD_MAX, &words->owned, &words->count);
            words->values = words->owned;
        } else if (rc > 0) {
            words->values = words->view.buf;
            words->count = (size_t)words->view.len / sizeof(uint64_t);
            words->scalar = words->view.ndim == 0;
            rc = (uintptr_t)words->view.buf % _Alignof(uint64_t) != 0 ? words_copy(words) : 0;
            if (rc == 0)
                rc = words_check(words->values, words->count, name, kind, WORD_MAX);
        }
    }
    if (rc < 0)
        words_release(words);
    return rc;
}

void
words_release(struct words *words)
{
    PyBuffer_Release(&words->view);
    PyMem_Free(words->owned);
    words->owned = NULL;
}

/* Tokens that are 8 bytes wide in `from`, checked and narrowed into memory of their own. */
static int
tokens_narrow(struct tokens *tokens, const uint64_t *from, size_t count, char kind)
{
    if (words_check(from, count, "tokens", kind, TOKEN_MAX) < 0)
        return -1;
    tokens->owned = PyMem_Malloc((count + 1) * sizeof(*tokens->owned));
    if (tokens->owned == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < count; i++)
        tokens->owned[i] = (uint32_t)from[i];
    tokens->values = tokens->owned;
    tokens->count = count;
    return 0;
}

/* Tokens from a held buffer whose items are 4 bytes wide: in place, where it is aligned. */
static int
tokens_in_place(struct tokens *tokens, char kind)
{
    tokens->values = tokens->view.buf;
    tokens->count = (size_t)tokens->view.len / sizeof(uint32_t);
    if ((uintptr_t)tokens->view.buf % _Alignof(uint32_t) != 0) {
        tokens->owned = PyMem_Malloc((size_t)tokens->view.len + 1);
        if (tokens->owned == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        memcpy(tokens->owned, tokens->view.buf, (size_t)tokens->view.len);
        tokens->values = tokens->owned;
    }
    for (size_t i = 0; kind == 's' && i < tokens->count; i++) {
        if (tokens->values[i] > INT32_MAX) {
            PyErr_Format(PyExc_ValueError, "tokens[%zu]: %d is negative", i, (int)tokens->values[i]);
            return -1;
        }
    }
    return 0;
}

int
tokens_acquire(struct tokens *tokens, PyObject *arg)
{
    static const char wanted[] = "a buffer or a sequence of token ids";
    struct words wide = {0};
    char kind = 'u';
    int rc;

    *tokens = (struct tokens){0};
    rc = integers_acquire(&tokens->view, arg, "tokens", true, &kind);
    if (rc == 0) {
        rc = words_from_sequence(arg, "tokens", wanted, TOKEN_MAX, &wide.owned, &wide.count);
        if (rc == 0)
            rc = tokens_narrow(tokens, wide.owned, wide.count, kind);
    } else if (rc > 0 && tokens->view.itemsize == 4) {
        rc = tokens_in_place(tokens, kind);
    } else if (rc > 0) {
        wide.view = tokens->view;
        rc = words_copy(&wide);
        if (rc == 0)
            rc = tokens_narrow(tokens, wide.values, (size_t)wide.view.len / sizeof(uint64_t), kind);
    }
    PyMem_Free(wide.owned);
    if (rc < 0)
        tokens_release(tokens);
    return rc;
}

void
tokens_release(struct tokens *tokens)
{
    PyBuffer_Release(&tokens->view);
    PyMem_Free(tokens->owned);
    tokens->owned = NULL;
}
