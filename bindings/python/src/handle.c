/* handle.c -- navmap._core.Handle: the engine's calls, one method each, GIL released.  Adding and
 * searching are in batch.c, saving in files.c.
 *
 * Arguments are positional and exact (buffers.h); navmap/index.py is the interface for people.
 */
#include "bindings/python/src/handle.h"

#include "bindings/python/src/batch.h"
#include "bindings/python/src/buffers.h"
#include "bindings/python/src/compact.h"
#include "bindings/python/src/files.h"
#include "bindings/python/src/filter_set.h"
#include "bindings/python/src/recall.h"
#include "bindings/python/src/report.h"
#include "bindings/python/src/stats.h"
#include "bindings/python/src/vacuum.h"

struct core_state *handle_state(struct handle *self)
{
    /* The type cannot be subclassed, so it is the one that the module made. */
    return PyType_GetModuleState(Py_TYPE((PyObject *)self));
}

/* Enter and leave -----------------------------------------------------------------------------*/

static navmap_index *refuse(struct handle *self, const char *why)
{
    PyObject *message = PyUnicode_FromString(why);
    if (message != NULL)
        raise_message(&handle_state(self)->errors, NAVMAP_ELOCKED, message);
    Py_XDECREF(message);
    return NULL;
}

navmap_index *handle_enter(struct handle *self)
{
    if (self->closed) {
        raise_closed(&handle_state(self)->errors);
        return NULL;
    }
    if (self->alone)
        return refuse(self, "the index gets another M or other codes just now");
    self->uses++;
    return self->index;
}

navmap_index *handle_enter_alone(struct handle *self)
{
    if (self->uses > 0 && !self->closed)
        return refuse(self, "another thread is using the index, which cannot get another M or "
                            "other codes meanwhile");
    navmap_index *index = handle_enter(self);
    self->alone = index != NULL;
    return index;
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
        raise_status(&handle_state(self)->errors, status);
        PyErr_WriteUnraisable((PyObject *)Py_TYPE((PyObject *)self));
    }
    PyErr_Restore(type, value, traceback);
}

void handle_leave(struct handle *self)
{
    self->uses--;
    self->alone = false; /* if it was, this was the one inside */
    if (self->closed && self->uses == 0)
        handle_release_quietly(self); /* H2: close() came while this call was inside */
}

PyObject *handle_done(struct handle *self, navmap_status status)
{
    if (status != NAVMAP_OK) /* first: leaving may change the detail */
        raise_status(&handle_state(self)->errors, status);
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
                return raise_status(&handle_state(self)->errors, status);
        }
    }
    Py_RETURN_NONE;
}

/* One number, and many ------------------------------------------------------------------------*/

static PyObject *change(PyObject *object, PyObject *argument,
                        navmap_status (*call)(navmap_index *, uint64_t))
{
    struct handle *self = (struct handle *)object;
    uint64_t number;
    if (!number_u64(argument, &number))
        return NULL;
    navmap_index *index = handle_enter(self);
    if (index == NULL)
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status = call(index, number);
    PyEval_RestoreThread(thread);
    return handle_done(self, status);
}

static PyObject *handle_delete(PyObject *object, PyObject *argument)
{
    return change(object, argument, navmap_delete);
}

static PyObject *handle_undelete(PyObject *object, PyObject *argument)
{
    return change(object, argument, navmap_undelete);
}

static PyObject *handle_remove(PyObject *object, PyObject *argument)
{
    return change(object, argument, navmap_remove);
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

static PyObject *handle_resize(PyObject *object, PyObject *argument)
{
    return change(object, argument, navmap_resize);
}

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

static PyObject *handle_warm(PyObject *object, PyObject *arg)
{
    struct handle *self = (struct handle *)object;
    uint32_t flags;
    if (!number_u32(arg, &flags))
        return NULL;
    navmap_index *index = handle_enter(self);
    if (index == NULL)
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status = navmap_warm(index, flags);
    PyEval_RestoreThread(thread);
    return handle_done(self, status);
}

static PyObject *handle_check(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct handle *self = (struct handle *)object;
    navmap_index *index = handle_enter(self);
    if (index == NULL)
        return NULL;
    PyObject *result = report_check(index, &handle_state(self)->errors);
    handle_leave(self);
    return result;
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
    {"add", handle_add, METH_VARARGS,
     "add(vectors, labels, num_threads, replace_deleted, progress, reproducible, /) -> int"},
    {"search", handle_search, METH_VARARGS,
     "search(exact, queries, ef, num_threads, filter, allow_fewer, labels, distances, counts, "
     "stop, /) -> None or (row, found)"},
    {"filter", handle_filter, METH_VARARGS, "filter(labels, deny, /) -> FilterSet"},
    {"filter_look", handle_filter_look, METH_O, "filter_look(filter, /) -> dict"},
    {"delete", handle_delete, METH_O, "delete(label, /)"},
    {"undelete", handle_undelete, METH_O, "undelete(label, /)"},
    {"remove", handle_remove, METH_O, "remove(label, /)"},
    {"contains", handle_contains, METH_O, "contains(label, /) -> bool"},
    {"get", handle_get, METH_VARARGS, "get(labels, vectors, /)"},
    {"labels", handle_labels, METH_VARARGS, "labels(include_deleted, labels, /) -> int"},
    {"resize", handle_resize, METH_O, "resize(max_elements, /)"},
    {"flush", handle_flush, METH_NOARGS, "flush()"},
    {"warm", handle_warm, METH_O, "warm(flags, /)"},
    {"vacuum", handle_vacuum, METH_VARARGS, "vacuum(num_threads, progress, /) -> counts"},
    {"compact", handle_compact, METH_VARARGS,
     "compact(keep_deleted, keep_order, refine, M, ef_construction, codes, output, directory, "
     "num_threads, progress, /) -> dict"},
    {"calibrate", handle_calibrate, METH_VARARGS,
     "calibrate(samples, num_threads, progress, /) -> (items, efs)"},
    {"calibration", handle_calibration, METH_NOARGS, "calibration() -> (items, efs)"},
    {"ef_for_recall", handle_ef_for_recall, METH_VARARGS, "ef_for_recall(k, recall, /) -> int"},
    {"save", handle_save, METH_VARARGS, "save(path, /)"},
    {"save_fd", handle_save_fd, METH_VARARGS, "save_fd(fd, /)"},
    {"file_bytes", handle_file_bytes, METH_NOARGS, "file_bytes() -> int"},
    {"check", handle_check, METH_NOARGS, "check() -> (counts, findings)"},
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
    {Py_tp_doc, "An open index.  Made by navmap._core.create(), open(), new() and load()."},
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
