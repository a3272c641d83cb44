/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module.c - the module varve._native: its two types, the functions that need no store, constants, and how library
 * errors are raised.
 *
 * varve._store wraps it for users: names, keywords, documentation. Here arguments are positional, as _native.pyi lists
 * them.
 */
#include "native.h"

#include <string.h>

static PyObject *error_class; /* varve.Error */

PyObject *
raise_error(int rc, const varve_error *err)
{
    const char *message = err->message[0] != '\0' ? err->message : varve_strerror(rc);
    PyObject *text = PyUnicode_DecodeUTF8(message, (Py_ssize_t)strlen(message), "replace"); /* it may name a path */
    PyObject *error = text == NULL ? NULL : PyObject_CallFunction(error_class, "iOi", rc, text, err->os_errno);

    if (error != NULL)
        PyErr_SetObject(error_class, error);
    Py_XDECREF(error);
    Py_XDECREF(text);
    return NULL;
}

PyObject *
raise_argument(const char *message)
{
    varve_error err = {.code = VARVE_E_ARG};

    (void)PyOS_snprintf(err.message, sizeof(err.message), "%s", message);
    return raise_error(VARVE_E_ARG, &err);
}

static PyObject *
module_strerror(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int overflow = 0;
    long code = PyLong_AsLongAndOverflow(arg, &overflow);

    if (code == -1 && PyErr_Occurred() != NULL)
        return NULL;
    if (overflow != 0 || code < INT32_MIN || code > INT32_MAX)
        code = INT32_MAX; /* no status is */
    return PyUnicode_FromString(varve_strerror((int)code));
}

static PyObject *
module_chain(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *tokens_arg, *prior_arg, *ids = NULL;
    struct tokens tokens;
    struct ids prior_ids;
    const varve_id *prior;
    Py_ssize_t page_tokens;
    PyThreadState *thread;
    int64_t made;

    if (!PyArg_ParseTuple(args, "OnO:chain", &tokens_arg, &page_tokens, &prior_arg))
        return NULL;
    if (page_tokens < 1) {
        PyErr_Format(PyExc_ValueError, "page_tokens: %zd is no number of tokens", page_tokens);
        return NULL;
    }
    if (ids_acquire_one(&prior_ids, prior_arg, "prior", &prior) < 0)
        return NULL;
    if (tokens_acquire(&tokens, tokens_arg) == 0) {
        size_t pages = tokens.count / (size_t)page_tokens;

        ids = pages > PY_SSIZE_T_MAX / sizeof(varve_id)
                  ? PyErr_NoMemory()
                  : PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(pages * sizeof(varve_id)));
        if (ids != NULL) {
            varve_id *out = (varve_id *)(void *)PyBytes_AsString(ids);

            thread = PyEval_SaveThread();
            made = varve_chain(tokens.values, tokens.count, (size_t)page_tokens, prior, out);
            PyEval_RestoreThread(thread);
            if (made < 0) {
                varve_error err = {.code = (int)made};

                Py_DECREF(ids);
                ids = raise_error((int)made, &err);
            }
        }
        tokens_release(&tokens);
    }
    ids_release(&prior_ids);
    return ids;
}

static PyObject *
module_plan(PyObject *Py_UNUSED(module), PyObject *args)
{
    varve_prefill prefill = VARVE_PREFILL_INIT;
    varve_load_plan plan = VARVE_LOAD_PLAN_INIT;
    unsigned long long before, after;
    PyObject *times_arg;
    struct words times;
    varve_error err = {0};
    int tail, rc;

    if (!PyArg_ParseTuple(args, "OIddKKp:plan", &times_arg, &prefill.page_tokens, &prefill.token_us, &prefill.depth_us,
                          &before, &after, &tail))
        return NULL;
    prefill.tokens_before = before;
    prefill.tokens_after = after;
    if (words_acquire(&times, times_arg, "prefix_time_us") < 0)
        return NULL;
    if (times.scalar) {
        words_release(&times);
        PyErr_SetString(PyExc_TypeError, "prefix_time_us: a number for each page is needed, not one for all");
        return NULL;
    }
    rc = varve_plan(&prefill, times.values, times.count, tail != 0 ? VARVE_PLAN_TAIL : 0, &plan, &err);
    words_release(&times);
    if (rc != VARVE_OK)
        return raise_error(rc, &err);
    return Py_BuildValue("KKddd", (unsigned long long)plan.first, (unsigned long long)plan.count, plan.ttft_us,
                         plan.all_us, plan.none_us);
}

/* Append `item` (a new reference, or NULL after a failure) to `list`; NULL, the list being gone, when that fails. */
static PyObject *
append_item(PyObject *list, PyObject *item)
{
    if (item == NULL || PyList_Append(list, item) < 0) {
        Py_DECREF(list);
        list = NULL;
    }
    Py_XDECREF(item);
    return list;
}

static PyObject *
module_options(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    PyObject *list = PyList_New(0);
    const varve_option_desc *desc;

    for (size_t i = 0; list != NULL && (desc = varve_option_describe(i)) != NULL; i++)
        list = append_item(list, Py_BuildValue("{s:s,s:s,s:s,s:s,s:O}", "name", desc->name, "type", desc->type,
                                               "default", desc->default_value, "help", desc->help, "live",
                                               desc->live != 0 ? Py_True : Py_False));
    return list;
}

static PyObject *
module_stat_descriptions(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    PyObject *list = PyList_New(0);
    const varve_stat_desc *desc;

    for (size_t i = 0; list != NULL && (desc = varve_stat_describe(i)) != NULL; i++)
        list = append_item(list, Py_BuildValue("{s:s,s:s,s:O}", "name", desc->name, "help", desc->help, "gauge",
                                               desc->gauge != 0 ? Py_True : Py_False));
    return list;
}

static int
add_constants(PyObject *module)
{
    static const struct {
        const char *name;
        long value;
    } constants[] = {
        {"OK", VARVE_OK},
        {"MISS", VARVE_MISS},
        {"SKIPPED", VARVE_SKIPPED},
        {"E_ARG", VARVE_E_ARG},
        {"E_NOMEM", VARVE_E_NOMEM},
        {"E_IO", VARVE_E_IO},
        {"E_NOSPC", VARVE_E_NOSPC},
        {"E_CORRUPT", VARVE_E_CORRUPT},
        {"E_VERSION", VARVE_E_VERSION},
        {"E_LOCKED", VARVE_E_LOCKED},
        {"E_READONLY", VARVE_E_READONLY},
        {"E_NOSTORE", VARVE_E_NOSTORE},
        {"E_TIMEOUT", VARVE_E_TIMEOUT},
        {"ID_BYTES", VARVE_ID_BYTES},
        {"PAGE_BYTES_MAX", (long)VARVE_PAGE_BYTES_MAX},
        {"BATCH_PAGES_MAX", VARVE_BATCH_PAGES_MAX},
        {"PAGE_PARTS_MAX", VARVE_PAGE_IOV_MAX},
        {"ELEMENT_BYTES", VARVE_ELEMENT_BYTES},
        {"ELEMENT_BF16", VARVE_ELEMENT_BF16},
        {"ELEMENT_FP16", VARVE_ELEMENT_FP16},
        {"ELEMENT_FP32", VARVE_ELEMENT_FP32},
        {"ELEMENT_FP8", VARVE_ELEMENT_FP8},
    };
    PyObject *version, *never;
    int rc;

    for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++) {
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0)
            return -1;
    }
    never = PyLong_FromUnsignedLongLong(VARVE_PLAN_NEVER);
    rc = never == NULL ? -1 : PyObject_SetAttrString(module, "PLAN_NEVER", never);
    Py_XDECREF(never);
    if (rc < 0)
        return -1;
    version = PyUnicode_FromFormat("%d.%d.%d", VARVE_VERSION_MAJOR, VARVE_VERSION_MINOR, VARVE_VERSION_PATCH);
    rc = version == NULL ? -1 : PyObject_SetAttrString(module, "version", version);
    Py_XDECREF(version);
    return rc;
}

static int
fill_module(PyObject *module)
{
    PyObject *errors = PyImport_ImportModule("varve._error");

    if (errors == NULL)
        return -1;
    error_class = PyObject_GetAttrString(errors, "Error");
    Py_DECREF(errors);
    if (error_class == NULL || store_type_make() < 0 || namespace_type_make() < 0 ||
        PyObject_SetAttrString(module, "Store", store_type) < 0 ||
        PyObject_SetAttrString(module, "Namespace", namespace_type) < 0)
        return -1;
    return add_constants(module);
}

PyMODINIT_FUNC PyInit__native(void);

PyMODINIT_FUNC
PyInit__native(void)
{
    static PyMethodDef functions[] = {
        {"chain", module_chain, METH_VARARGS, NULL},
        {"plan", module_plan, METH_VARARGS, NULL},
        {"options", module_options, METH_NOARGS, NULL},
        {"stat_descriptions", module_stat_descriptions, METH_NOARGS, NULL},
        {"strerror", module_strerror, METH_O, NULL},
        {0},
    };
    static struct PyModuleDef definition = {
        PyModuleDef_HEAD_INIT,  .m_name = "varve._native", .m_doc = "The compiled half of varve: use varve.Store.",
        .m_size = -1, /* one interpreter a process: the types are static variables */
        .m_methods = functions,
    };
    PyObject *module = PyModule_Create(&definition);

    if (module != NULL && fill_module(module) < 0) {
        Py_DECREF(module);
        module = NULL;
    }
    return module;
}
