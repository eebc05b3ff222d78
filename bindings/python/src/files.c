/* files.c -- saving and loading with the GIL released: files may be large and disks slow. */
#include "bindings/python/src/files.h"

#include "bindings/python/src/buffers.h"
#include "bindings/python/src/handle.h"

/* Saving --------------------------------------------------------------------------------------*/

PyObject *handle_save(PyObject *object, PyObject *args)
{
    struct handle *self = (struct handle *)object;
    const char *path;
    if (!PyArg_ParseTuple(args, "y:save", &path))
        return NULL;
    navmap_index *index = handle_enter(self);
    if (index == NULL)
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status = navmap_save(index, path);
    PyEval_RestoreThread(thread);
    return handle_done(self, status);
}

PyObject *handle_save_fd(PyObject *object, PyObject *args)
{
    struct handle *self = (struct handle *)object;
    int fd;
    if (!PyArg_ParseTuple(args, "i:save_fd", &fd))
        return NULL;
    navmap_index *index = handle_enter(self);
    if (index == NULL)
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status = navmap_save_fd(index, fd);
    PyEval_RestoreThread(thread);
    return handle_done(self, status);
}

PyObject *handle_file_bytes(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct handle *self = (struct handle *)object;
    uint64_t bytes = 0;
    navmap_index *index = handle_enter(self);
    if (index == NULL)
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status = navmap_file_bytes(index, &bytes);
    PyEval_RestoreThread(thread);
    PyObject *none = handle_done(self, status);
    if (none == NULL)
        return NULL;
    Py_DECREF(none);
    return PyLong_FromUnsignedLongLong(bytes);
}

/* Loading -------------------------------------------------------------------------------------*/

/* The arguments that both functions end with. */
#define LOAD_FORMAT "O&O&O&O&O&O&O&"
#define LOAD_ARGUMENTS(o)                                                                          \
    number_u32, &(o).dim, number_u32, &(o).space, number_u64, &(o).max_elements, number_u32,       \
        &(o).allow_replace_deleted, number_u32, &(o).flat, number_u32, &(o).copy, number_u32,      \
        &(o).verify

PyObject *core_load(PyObject *module, PyObject *args)
{
    struct core_state *state = PyModule_GetState(module);
    struct navmap_load_options options = {.struct_size = sizeof options, .has_space = 1};
    const char *path;
    navmap_index *index = NULL;
    if (!PyArg_ParseTuple(args, "y" LOAD_FORMAT ":load", &path, LOAD_ARGUMENTS(options)))
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status = navmap_load(path, &options, &index);
    PyEval_RestoreThread(thread);
    return status == NAVMAP_OK ? handle_wrap(state, index) : raise_status(&state->errors, status);
}

PyObject *core_load_fd(PyObject *module, PyObject *args)
{
    struct core_state *state = PyModule_GetState(module);
    struct navmap_load_options options = {.struct_size = sizeof options, .has_space = 1};
    int fd;
    const char *name;
    navmap_index *index = NULL;
    if (!PyArg_ParseTuple(args, "iy" LOAD_FORMAT ":load_fd", &fd, &name, LOAD_ARGUMENTS(options)))
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status = navmap_load_fd(fd, name, &options, &index);
    PyEval_RestoreThread(thread);
    return status == NAVMAP_OK ? handle_wrap(state, index) : raise_status(&state->errors, status);
}
