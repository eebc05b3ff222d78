/* handle.c -- navmap._core.Handle: the engine's calls, one method each, GIL released.
 *
 * Arguments are positional and exact (buffers.h); navmap/index.py is the interface for people.
 */
#include "bindings/python/src/handle.h"

#include <stdbool.h>

#include "bindings/python/src/buffers.h"
#include "bindings/python/src/search.h"
#include "bindings/python/src/stats.h"

struct handle {
    PyObject ob_base;    /* PyObject_HEAD, spelt out for clang-format */
    navmap_index *index; /* NULL once released */
    uint64_t uses;       /* calls inside the engine; changed with the GIL held (H1) */
    bool closed;
    uint32_t dim;
};

static struct core_state *state_of(struct handle *self)
{
    /* The type cannot be subclassed, so it is the one that the module made. */
    return PyType_GetModuleState(Py_TYPE((PyObject *)self));
}

/* Enter and leave -----------------------------------------------------------------------------*/

static navmap_index *handle_enter(struct handle *self)
{
    if (self->closed) {
        raise_closed(&state_of(self)->errors);
        return NULL;
    }
    self->uses++;
    return self->index;
}

/* Close the engine's handle; nobody is inside and nobody can enter any more. */
static navmap_status handle_release(struct handle *self)
{
    navmap_index *index = self->index;
    self->index = NULL;
    if (index == NULL)
        return NAVMAP_OK;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status = navmap_close(index);
    PyEval_RestoreThread(thread);
    return status;
}

/* A failed release that no caller can be told about, beside whatever exception is set. */
static void handle_release_quietly(struct handle *self)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    navmap_status status = handle_release(self);
    if (status != NAVMAP_OK) {
        raise_status(&state_of(self)->errors, status);
        PyErr_WriteUnraisable((PyObject *)Py_TYPE((PyObject *)self));
    }
    PyErr_Restore(type, value, traceback);
}

static void handle_leave(struct handle *self)
{
    self->uses--;
    if (self->closed && self->uses == 0)
        handle_release_quietly(self); /* H2: close() came while this call was inside */
}

/* The end of most methods: leave, then None or the exception for `status`. */
static PyObject *handle_done(struct handle *self, navmap_status status)
{
    if (status != NAVMAP_OK)
        raise_status(&state_of(self)->errors, status); /* first: leaving may change the detail */
    handle_leave(self);
    if (status != NAVMAP_OK)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *handle_wrap(struct core_state *state, navmap_index *index)
{
    struct navmap_stats stats = {.struct_size = sizeof stats};
    struct handle *self = NULL;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status = navmap_get_stats(index, &stats);
    PyEval_RestoreThread(thread);
    if (status == NAVMAP_OK) {
        allocfunc alloc = (allocfunc)PyType_GetSlot(state->handle_type, Py_tp_alloc);
        self = (struct handle *)alloc(state->handle_type, 0);
    } else {
        raise_status(&state->errors, status);
    }
    if (self == NULL) {
        thread = PyEval_SaveThread();
        status = navmap_close(index);
        PyEval_RestoreThread(thread);
        (void)status; /* the exception that is set already says why there is no handle */
        return NULL;
    }
    self->index = index;
    self->dim = stats.dim;
    return (PyObject *)self;
}

static void handle_dealloc(PyObject *object)
{
    struct handle *self = (struct handle *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (!self->closed) {
        self->closed = true;
        handle_release_quietly(self);
    }
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyObject *handle_close(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct handle *self = (struct handle *)object;
    if (!self->closed) {
        self->closed = true;
        if (self->uses == 0) {
            navmap_status status = handle_release(self);
            if (status != NAVMAP_OK)
                return raise_status(&state_of(self)->errors, status);
        }
    }
    Py_RETURN_NONE;
}

/* Adding --------------------------------------------------------------------------------------*/

struct progress_context {
    PyThreadState *thread; /* of the call; saved while the GIL is released */
    PyObject *callable;    /* NULL = only look for signals */
};

/* The engine calls this on the thread that called navmap_add(). */
static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct progress_context *context = ctx;
    PyEval_RestoreThread(context->thread);
    if (!PyErr_Occurred() && PyErr_CheckSignals() == 0 && context->callable != NULL) {
        PyObject *result = PyObject_CallFunction(context->callable, "KK", (unsigned long long)done,
                                                 (unsigned long long)total);
        Py_XDECREF(result);
    }
    int stop = PyErr_Occurred() != NULL; /* stays set until navmap_add() has returned */
    context->thread = PyEval_SaveThread();
    return stop;
}

/* add(vectors, labels | None, progress | None) -> rows added */
static PyObject *handle_add(PyObject *object, PyObject *args)
{
    struct handle *self = (struct handle *)object;
    PyObject *vectors_arg, *labels_arg, *progress_arg, *result = NULL;
    Py_buffer vectors = {0}, labels = {0};
    uint64_t added = 0;

    if (!PyArg_ParseTuple(args, "OOO:add", &vectors_arg, &labels_arg, &progress_arg))
        return NULL;
    if (buffer_get(vectors_arg, "vectors", BUFFER_FLOAT32, 2, 0, &vectors) < 0)
        goto release;
    if (labels_arg != Py_None && buffer_get(labels_arg, "labels", BUFFER_UINT64, 1, 0, &labels) < 0)
        goto release;
    if (vectors.shape[1] != (Py_ssize_t)self->dim ||
        (labels_arg != Py_None && labels.shape[0] != vectors.shape[0])) {
        PyErr_SetString(PyExc_ValueError, "vectors must be n x dim and labels n");
        goto release;
    }

    navmap_index *index = handle_enter(self);
    if (index == NULL)
        goto release;
    struct progress_context context = {
        .callable = progress_arg != Py_None ? progress_arg : NULL,
    };
    const struct navmap_add_options options = {
        .struct_size = sizeof options, .progress = on_progress, .progress_ctx = &context};
    context.thread = PyEval_SaveThread();
    navmap_status status = navmap_add(index, (uint64_t)vectors.shape[0], vectors.buf,
                                      labels_arg != Py_None ? labels.buf : NULL, &options, &added);
    PyEval_RestoreThread(context.thread);
    if (status != NAVMAP_OK && !PyErr_Occurred())
        raise_status(&state_of(self)->errors, status);
    if (PyErr_Occurred())
        raise_note_added(added);
    else
        result = PyLong_FromUnsignedLongLong(added);
    handle_leave(self);
release:
    PyBuffer_Release(&labels);
    PyBuffer_Release(&vectors);
    return result;
}

/* Searching -----------------------------------------------------------------------------------*/

/* search(exact, queries, ef, allow_fewer, labels_out, distances_out)
 * -> None, or (row, found) of the first row that has fewer than k results. */
static PyObject *handle_search(PyObject *object, PyObject *args)
{
    struct handle *self = (struct handle *)object;
    PyObject *queries_arg, *labels_arg, *distances_arg, *result = NULL;
    Py_buffer queries = {0}, labels = {0}, distances = {0};
    uint32_t ef;
    int exact, allow_fewer;

    if (!PyArg_ParseTuple(args, "pOO&pOO:search", &exact, &queries_arg, number_u32, &ef,
                          &allow_fewer, &labels_arg, &distances_arg))
        return NULL;
    if (buffer_get(queries_arg, "queries", BUFFER_FLOAT32, 2, 0, &queries) < 0 ||
        buffer_get(labels_arg, "labels", BUFFER_UINT64, 2, 1, &labels) < 0 ||
        buffer_get(distances_arg, "distances", BUFFER_FLOAT32, 2, 1, &distances) < 0)
        goto release;
    if (queries.shape[1] != (Py_ssize_t)self->dim || labels.shape[0] != queries.shape[0] ||
        distances.shape[0] != queries.shape[0] || distances.shape[1] != labels.shape[1]) {
        PyErr_SetString(PyExc_ValueError, "queries must be n x dim, labels and distances n x k");
        goto release;
    }

    navmap_index *index = handle_enter(self);
    if (index == NULL)
        goto release;
    struct search_call call = {
        .index = index,
        .search = exact ? navmap_search_exact : navmap_search,
        .options = {.struct_size = sizeof call.options,
                    .ef = ef,
                    .allow_fewer = (uint32_t)allow_fewer},
        .queries = queries.buf,
        .rows = (uint64_t)queries.shape[0],
        .dim = self->dim,
        .k = (uint64_t)labels.shape[1],
        .labels = labels.buf,
        .distances = distances.buf,
    };
    if (search_run(&call) < 0)
        handle_leave(self);
    else if (call.status != NAVMAP_EFEWER)
        result = handle_done(self, call.status);
    else {
        handle_leave(self);
        result = Py_BuildValue("KK", (unsigned long long)call.row, (unsigned long long)call.found);
    }
release:
    PyBuffer_Release(&distances);
    PyBuffer_Release(&labels);
    PyBuffer_Release(&queries);
    return result;
}

/* One label, and many ---------------------------------------------------------------------------*/

static PyObject *mark(PyObject *object, PyObject *argument,
                      navmap_status (*change)(navmap_index *, uint64_t))
{
    struct handle *self = (struct handle *)object;
    uint64_t label;
    if (!number_u64(argument, &label))
        return NULL;
    navmap_index *index = handle_enter(self);
    if (index == NULL)
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status = change(index, label);
    PyEval_RestoreThread(thread);
    return handle_done(self, status);
}

static PyObject *handle_delete(PyObject *object, PyObject *argument)
{
    return mark(object, argument, navmap_delete);
}

static PyObject *handle_undelete(PyObject *object, PyObject *argument)
{
    return mark(object, argument, navmap_undelete);
}

static PyObject *handle_contains(PyObject *object, PyObject *argument)
{
    struct handle *self = (struct handle *)object;
    uint64_t label;
    bool contains = false;
    if (!number_u64(argument, &label))
        return NULL;
    navmap_index *index = handle_enter(self);
    if (index == NULL)
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status = navmap_contains(index, label, &contains);
    PyEval_RestoreThread(thread);
    PyObject *none = handle_done(self, status);
    if (none == NULL)
        return NULL;
    Py_DECREF(none);
    return PyBool_FromLong(contains);
}

/* get(labels, vectors_out) */
static PyObject *handle_get(PyObject *object, PyObject *args)
{
    struct handle *self = (struct handle *)object;
    PyObject *labels_arg, *vectors_arg, *result = NULL;
    Py_buffer labels = {0}, vectors = {0};

    if (!PyArg_ParseTuple(args, "OO:get", &labels_arg, &vectors_arg))
        return NULL;
    if (buffer_get(labels_arg, "labels", BUFFER_UINT64, 1, 0, &labels) < 0 ||
        buffer_get(vectors_arg, "vectors", BUFFER_FLOAT32, 2, 1, &vectors) < 0)
        goto release;
    if (vectors.shape[0] != labels.shape[0] || vectors.shape[1] != (Py_ssize_t)self->dim) {
        PyErr_SetString(PyExc_ValueError, "labels must be n and vectors n x dim");
        goto release;
    }
    navmap_index *index = handle_enter(self);
    if (index == NULL)
        goto release;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status = navmap_get(index, (uint64_t)labels.shape[0], labels.buf, vectors.buf);
    PyEval_RestoreThread(thread);
    result = handle_done(self, status);
release:
    PyBuffer_Release(&vectors);
    PyBuffer_Release(&labels);
    return result;
}

/* labels(include_deleted, labels_out) -> how many there are, perhaps more than were written */
static PyObject *handle_labels(PyObject *object, PyObject *args)
{
    struct handle *self = (struct handle *)object;
    PyObject *labels_arg, *result = NULL;
    Py_buffer labels = {0};
    int include_deleted;
    uint64_t n = 0;

    if (!PyArg_ParseTuple(args, "pO:labels", &include_deleted, &labels_arg))
        return NULL;
    if (buffer_get(labels_arg, "labels", BUFFER_UINT64, 1, 1, &labels) < 0)
        return NULL;
    navmap_index *index = handle_enter(self);
    if (index == NULL)
        goto release;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status =
        navmap_labels(index, include_deleted != 0, (uint64_t)labels.shape[0], labels.buf, &n);
    PyEval_RestoreThread(thread);
    result = handle_done(self, status);
    if (result != NULL) {
        Py_DECREF(result);
        result = PyLong_FromUnsignedLongLong(n);
    }
release:
    PyBuffer_Release(&labels);
    return result;
}

/* The rest ------------------------------------------------------------------------------------*/

static PyObject *handle_flush(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct handle *self = (struct handle *)object;
    navmap_index *index = handle_enter(self);
    if (index == NULL)
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status = navmap_flush(index);
    PyEval_RestoreThread(thread);
    return handle_done(self, status);
}

/* All of struct navmap_stats as a dict of ints. */
static PyObject *handle_stats(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct handle *self = (struct handle *)object;
    struct navmap_stats stats = {.struct_size = sizeof stats};
    navmap_index *index = handle_enter(self);
    if (index == NULL)
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status = navmap_get_stats(index, &stats);
    PyEval_RestoreThread(thread);
    PyObject *result = handle_done(self, status);
    if (result == NULL)
        return NULL;
    Py_DECREF(result);
    return stats_dict(&stats);
}

static PyObject *handle_get_closed(PyObject *object, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((struct handle *)object)->closed);
}

static PyMethodDef HANDLE_METHODS[] = {
    {"add", handle_add, METH_VARARGS, "add(vectors, labels, progress, /) -> int"},
    {"search", handle_search, METH_VARARGS,
     "search(exact, queries, ef, allow_fewer, labels, distances, /) -> None or (row, found)"},
    {"delete", handle_delete, METH_O, "delete(label, /)"},
    {"undelete", handle_undelete, METH_O, "undelete(label, /)"},
    {"contains", handle_contains, METH_O, "contains(label, /) -> bool"},
    {"get", handle_get, METH_VARARGS, "get(labels, vectors, /)"},
    {"labels", handle_labels, METH_VARARGS, "labels(include_deleted, labels, /) -> int"},
    {"flush", handle_flush, METH_NOARGS, "flush()"},
    {"stats", handle_stats, METH_NOARGS, "stats() -> dict"},
    {"close", handle_close, METH_NOARGS, "close()"},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef HANDLE_GETSET[] = {
    {"closed", handle_get_closed, NULL, "True once close() was called.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot HANDLE_SLOTS[] = {
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_methods, HANDLE_METHODS},
    {Py_tp_getset, HANDLE_GETSET},
    {Py_tp_doc, "An open index.  Made by navmap._core.create() and open()."},
    {0, NULL},
};

static PyType_Spec HANDLE_SPEC = {
    .name = "navmap._core.Handle",
    .basicsize = sizeof(struct handle),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = HANDLE_SLOTS,
};

PyTypeObject *handle_type_make(PyObject *module)
{
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &HANDLE_SPEC, NULL);
}
