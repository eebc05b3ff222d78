/* module.c -- navmap._core: what there is before and beside an open index.
 *
 * Built once for all CPythons from 3.11 on: limited API, types from specs, no global state.
 */
#include <Python.h>

#include <math.h>
#include <string.h>
#include <time.h>

#include "bindings/python/src/buffers.h"
#include "bindings/python/src/files.h"
#include "bindings/python/src/filter_set.h"
#include "bindings/python/src/handle.h"
#include "bindings/python/src/raise.h"
#include "bindings/python/src/report.h"
#include "engine/navmap.h"

#define WAIT_SLICE 0.1 /* seconds between looks for a signal while waiting for the lock */

static struct core_state *state_of_module(PyObject *module)
{
    return PyModule_GetState(module);
}

/* create(path, space, dim, M, ef_construction, random_seed, max_elements, allow_replace_deleted,
 *        durability, codes, vectors, overwrite) -> Handle */
static PyObject *core_create(PyObject *module, PyObject *args)
{
    struct core_state *state = state_of_module(module);
    const char *path;
    struct navmap_options options = {.struct_size = sizeof options};
    navmap_index *index = NULL;

    if (!PyArg_ParseTuple(args, "yO&O&O&O&O&O&O&O&O&O&O&:create", &path, number_u32, &options.space,
                          number_u32, &options.dim, number_u32, &options.M, number_u32,
                          &options.ef_construction, number_u64, &options.random_seed, number_u64,
                          &options.max_elements, number_u32, &options.allow_replace_deleted,
                          number_u32, &options.durability, number_u32, &options.codes, number_u32,
                          &options.vectors, number_u32, &options.overwrite))
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status = navmap_create(path, &options, &index);
    PyEval_RestoreThread(thread);
    return status == NAVMAP_OK ? handle_wrap(state, index) : raise_status(&state->errors, status);
}

/* new(space, dim, M, ef_construction, random_seed, max_elements, allow_replace_deleted, flat,
 *     codes, vectors) -> Handle
 *
 * A private index that holds max_elements labels, also when that is 0. */
static PyObject *core_new(PyObject *module, PyObject *args)
{
    struct core_state *state = state_of_module(module);
    struct navmap_options options = {.struct_size = sizeof options, .bounded = 1};
    navmap_index *index = NULL;

    if (!PyArg_ParseTuple(args, "O&O&O&O&O&O&O&O&O&O&:new", number_u32, &options.space, number_u32,
                          &options.dim, number_u32, &options.M, number_u32,
                          &options.ef_construction, number_u64, &options.random_seed, number_u64,
                          &options.max_elements, number_u32, &options.allow_replace_deleted,
                          number_u32, &options.flat, number_u32, &options.codes, number_u32,
                          &options.vectors))
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status = navmap_new(&options, &index);
    PyEval_RestoreThread(thread);
    return status == NAVMAP_OK ? handle_wrap(state, index) : raise_status(&state->errors, status);
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* open(path, mode, durability, timeout, checkpoint_bytes) -> Handle
 *
 * The wait for the writer lock is cut into slices, so that Ctrl-C ends it.  timeout < 0: no end. */
static PyObject *core_open(PyObject *module, PyObject *args)
{
    struct core_state *state = state_of_module(module);
    const char *path;
    uint32_t mode;
    double timeout;
    struct navmap_open_options options = {.struct_size = sizeof options};
    navmap_index *index = NULL;

    if (!PyArg_ParseTuple(args, "yO&O&dO&:open", &path, number_u32, &mode, number_u32,
                          &options.durability, &timeout, number_u64, &options.checkpoint_bytes))
        return NULL;
    const double end = timeout < 0 ? HUGE_VAL : seconds_now() + timeout;
    double left = timeout < 0 ? HUGE_VAL : timeout;
    navmap_status status;
    for (;;) {
        options.timeout = left > WAIT_SLICE ? WAIT_SLICE : left;
        PyThreadState *thread = PyEval_SaveThread();
        status = navmap_open(path, (enum navmap_mode)mode, &options, &index);
        PyEval_RestoreThread(thread);
        left = end - seconds_now();
        if (status != NAVMAP_ELOCKED || left <= 0)
            break;
        if (PyErr_CheckSignals() < 0)
            return NULL;
    }
    return status == NAVMAP_OK ? handle_wrap(state, index) : raise_status(&state->errors, status);
}

/* verify(path, quick) -> ({count: int}, [(warning, section, slot, offset, message)]) */
static PyObject *core_verify(PyObject *module, PyObject *args)
{
    const char *path;
    int quick;
    if (!PyArg_ParseTuple(args, "yp:verify", &path, &quick))
        return NULL;
    return report_verify(path, quick != 0, &state_of_module(module)->errors);
}

/* Where in n numbers the first NaN or infinity is; n if there is none.  A search sees some rows of
 * a call at a time, and a call is to be refused before its first; NumPy takes longer for a single
 * row than the search for its answer. */
static size_t first_unfinite(const float *numbers, size_t n)
{
    const uint32_t exponent = 0x7f800000u;
    size_t at = 0, block = 256;
    for (; at < n; at += block) {
        uint32_t found = 0, bits;
        block = n - at < block ? n - at : block;
        for (size_t i = at; i < at + block; i++) {
            memcpy(&bits, numbers + i, sizeof bits);
            found |= (bits & exponent) == exponent;
        }
        if (found)
            break;
    }
    while (at < n && isfinite(numbers[at]))
        at++;
    return at;
}

/* first_unfinite(numbers) -> int */
static PyObject *core_first_unfinite(PyObject *module, PyObject *argument)
{
    (void)module;
    Py_buffer numbers;
    if (buffer_get(argument, "numbers", BUFFER_FLOAT32, 2, 0, &numbers) < 0)
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    size_t at = first_unfinite(numbers.buf, (size_t)numbers.len / sizeof(float));
    PyEval_RestoreThread(thread);
    PyBuffer_Release(&numbers);
    return PyLong_FromSize_t(at);
}

static PyObject *core_simd(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyUnicode_FromString(navmap_simd());
}

static PyObject *core_default_threads(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyLong_FromUnsignedLong(navmap_default_threads());
}

static int core_exec(PyObject *module)
{
    struct core_state *state = state_of_module(module);
    state->handle_type = handle_type_make(module);
    if (state->handle_type == NULL || PyModule_AddType(module, state->handle_type) < 0)
        return -1;
    state->filter_set_type = filter_set_type_make(module);
    if (state->filter_set_type == NULL || PyModule_AddType(module, state->filter_set_type) < 0)
        return -1;
    if (raise_load(&state->errors) < 0)
        return -1;
    return PyModule_AddStringConstant(module, "version", navmap_version());
}

static int core_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct core_state *state = state_of_module(module);
    Py_VISIT(state->handle_type);
    Py_VISIT(state->filter_set_type);
    return raise_visit(&state->errors, visit, arg);
}

static int core_clear(PyObject *module)
{
    struct core_state *state = state_of_module(module);
    Py_CLEAR(state->handle_type);
    Py_CLEAR(state->filter_set_type);
    raise_clear(&state->errors);
    return 0;
}

static void core_free(void *module)
{
    core_clear(module);
}

static PyMethodDef CORE_METHODS[] = {
    {"create", core_create, METH_VARARGS,
     "create(path, space, dim, M, ef_construction, random_seed, max_elements, "
     "allow_replace_deleted, durability, codes, vectors, overwrite, /) -> Handle"},
    {"open", core_open, METH_VARARGS,
     "open(path, mode, durability, timeout, checkpoint_bytes, /) -> Handle"},
    {"new", core_new, METH_VARARGS,
     "new(space, dim, M, ef_construction, random_seed, max_elements, allow_replace_deleted, "
     "flat, codes, vectors, /) -> Handle"},
    {"load", core_load, METH_VARARGS,
     "load(path, dim, space, max_elements, allow_replace_deleted, flat, copy, verify, /) -> "
     "Handle"},
    {"load_fd", core_load_fd, METH_VARARGS,
     "load_fd(fd, name, dim, space, max_elements, allow_replace_deleted, flat, copy, verify, /) "
     "-> Handle"},
    {"verify", core_verify, METH_VARARGS, "verify(path, quick, /) -> (counts, findings)"},
    {"first_unfinite", core_first_unfinite, METH_O, "first_unfinite(numbers, /) -> int"},
    {"simd", core_simd, METH_NOARGS, "simd() -> str"},
    {"default_threads", core_default_threads, METH_NOARGS, "default_threads() -> int"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot CORE_SLOTS[] = {
    {Py_mod_exec, core_exec},
    {0, NULL},
};

static struct PyModuleDef CORE_MODULE = {
    PyModuleDef_HEAD_INIT,
    .m_name = "navmap._core",
    .m_doc = "The engine's calls, one each.  Use the package navmap, which is built on this.",
    .m_size = sizeof(struct core_state),
    .m_methods = CORE_METHODS,
    .m_slots = CORE_SLOTS,
    .m_traverse = core_traverse,
    .m_clear = core_clear,
    .m_free = core_free,
};

PyMODINIT_FUNC PyInit__core(void); /* -Wmissing-prototypes */
PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&CORE_MODULE);
}
