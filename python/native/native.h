/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native.h - the C half of the Python package: what its files share.
 *
 * module.c makes the module, store.c and namespace.c (with transfer.c) its two types, args.c turns Python arguments
 * into what varve.h takes, batch.c pages. Main invariant: no Python object is touched, and no reference dropped,
 * between PyEval_SaveThread() and PyEval_RestoreThread(); page data is never copied. Built for the stable ABI from
 * Python 3.11 on (where it has the buffer protocol), else for one version.
 */
#ifndef VARVE_PYTHON_NATIVE_H
#define VARVE_PYTHON_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <varve.h>

/* A function as PyType_Slot wants it: ISO C has no such conversion, POSIX promises it. */
#define SLOT(function) (__extension__(void *)(function))

/* ---- module.c ---- */

/* Raise varve.Error for a library call that failed with `rc`; `err` is what it filled. Always returns NULL. */
PyObject *raise_error(int rc, const varve_error *err);

/* Raise varve.Error with VARVE_E_ARG. Always returns NULL. */
PyObject *raise_argument(const char *message);

/* ---- args.c and batch.c: each returns 0, or -1 with an exception set and nothing held ---- */

/* Page ids: a bytes-like object of count * 32 bytes. Holds the buffer until ids_release(). */
struct ids {
    Py_buffer view;
    const varve_id *items;
    size_t count;
};

/* 1: `view` is held; 0: `arg` has no buffer (and no exception is set); -1. */
int buffer_acquire(Py_buffer *view, PyObject *arg, int flags);

int ids_acquire(struct ids *ids, PyObject *arg, const char *name);
void ids_release(struct ids *ids);

/* None, or one page id. `*id` is NULL for None and else points into `ids`; release `ids` in either case. */
int ids_acquire_one(struct ids *ids, PyObject *arg, const char *name, const varve_id **id);

/* Integers from a buffer (8 bytes each; not copied where aligned), from a sequence, or, where `scalar` comes out true,
one for all. */
struct words {
    Py_buffer view;         /* view.obj NULL: none held */
    const uint64_t *values; /* each below 2^63 */
    uint64_t *owned;        /* what to free */
    size_t count;
    bool scalar;
};

int words_acquire(struct words *words, PyObject *arg, const char *name);
void words_release(struct words *words);

/* Token ids: uint32 or int32 buffers as they are, wider buffers and sequences copied. */
struct tokens {
    Py_buffer view;
    const uint32_t *values;
    uint32_t *owned;
    size_t count;
};

int tokens_acquire(struct tokens *tokens, PyObject *arg);
void tokens_release(struct tokens *tokens);

/* The pages of one put or get, with what keeps their ids and buffers in place. */
struct batch {
    struct ids ids;
    varve_page *pages; /* ids.count of them, in one allocation with their iovecs */
    size_t parts;
    Py_buffer *views; /* of the page buffers, or NULL where the caller gave addresses */
    size_t view_count;
};

/*
 * `addresses`: ids.count * parts integers; `sizes`: as many, or one for all. The memory that they name is the caller's:
 * nothing can check it.
 */

int batch_from_addresses(struct batch *batch, PyObject *ids, PyObject *addresses, PyObject *sizes, Py_ssize_t parts);
int batch_from_buffers(struct batch *batch, PyObject *ids, PyObject *buffers, bool writable);

/* The statuses of the pages as bytes of int32, the batch being released in any case. NULL with an exception. */
PyObject *batch_finish(struct batch *batch);
void batch_release(struct batch *batch);

/* ---- store.c ---- */

enum store_state { STORE_OPEN, STORE_CLOSING, STORE_CLOSED };

struct store_object {
    PyObject ob_base;
    varve_store *store;   /* valid while the state is STORE_OPEN, or calls are in flight */
    pid_t owner;          /* the process that opened it; a forked child must not use it */
    pthread_mutex_t lock; /* guards what follows; never held across a library call, nor while waiting for the GIL */
    pthread_cond_t changed;
    enum store_state state;
    size_t in_flight;
};

extern PyObject *store_type;

int store_type_make(void);

/*
 * Begin a library call: from here to store_leave() the store stays open, and close() waits. NULL with varve.Error set
 * when it is closed. No Python code may run in between on this thread: it could call close(), which would wait for
 * ever.
 */
varve_store *store_enter(struct store_object *self);
void store_leave(struct store_object *self); /* with or without the GIL */

/* ---- namespace.c ---- */

struct namespace_object {
    PyObject ob_base;
    struct store_object *store; /* a reference */
    varve_namespace *ns;        /* valid while the store is open */
};

extern PyObject *namespace_type;

struct namespace_object *as_namespace(PyObject *object);

int namespace_type_make(void);

/* ---- transfer.c: methods of the namespace, see _native.pyi ---- */

PyObject *namespace_put_batch(PyObject *object, PyObject *args);
PyObject *namespace_put_buffers(PyObject *object, PyObject *args);
PyObject *namespace_get_batch(PyObject *object, PyObject *args);
PyObject *namespace_get_buffers(PyObject *object, PyObject *args);

#endif
