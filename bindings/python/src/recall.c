/* recall.c -- navmap._core.Handle: which ef reaches which recall. */
#include "bindings/python/src/recall.h"

#include "bindings/python/src/buffers.h"
#include "bindings/python/src/handle.h"
#include "bindings/python/src/progress.h"
#include "engine/navmap_recall.h"

/* (items, [[ef by recall] by number of results]) */
static PyObject *curves(const struct navmap_calibration *found)
{
    PyObject *rows = PyList_New(NAVMAP_CURVES);
    for (Py_ssize_t k = 0; rows != NULL && k < NAVMAP_CURVES; k++) {
        PyObject *row = PyList_New(NAVMAP_CURVE_RECALLS);
        for (Py_ssize_t i = 0; row != NULL && i < NAVMAP_CURVE_RECALLS; i++) {
            PyObject *ef = PyLong_FromUnsignedLong(found->ef[k][i]);
            if (ef == NULL || PyList_SetItem(row, i, ef) < 0)
                Py_CLEAR(row);
        }
        if (row == NULL || PyList_SetItem(rows, k, row) < 0)
            Py_CLEAR(rows);
    }
    return rows == NULL ? NULL : Py_BuildValue("kN", (unsigned long)found->items, rows);
}

PyObject *handle_calibrate(PyObject *object, PyObject *args)
{
    struct handle *self = (struct handle *)object;
    struct navmap_calibrate_options options = {.struct_size = sizeof options};
    struct navmap_calibration found = {.struct_size = sizeof found};
    PyObject *progress;
    if (!PyArg_ParseTuple(args, "O&O&O:calibrate", number_u32, &options.samples, number_u32,
                          &options.num_threads, &progress))
        return NULL;
    navmap_index *index = handle_enter(self);
    if (index == NULL)
        return NULL;
    struct progress_context context;
    options.progress = progress_call;
    options.progress_ctx = &context;
    progress_begin(&context, progress);
    navmap_status status = navmap_calibrate(index, &options, &found);
    if (progress_end(&context, self, status) < 0)
        return NULL;
    return curves(&found);
}

PyObject *handle_calibration(PyObject *object, PyObject *unused)
{
    (void)unused;
    struct handle *self = (struct handle *)object;
    struct navmap_calibration found = {.struct_size = sizeof found};
    navmap_index *index = handle_enter(self);
    if (index == NULL)
        return NULL;
    PyObject *done = handle_done(self, navmap_get_calibration(index, &found));
    if (done == NULL)
        return NULL;
    Py_DECREF(done);
    return curves(&found);
}

PyObject *handle_ef_for_recall(PyObject *object, PyObject *args)
{
    struct handle *self = (struct handle *)object;
    uint64_t k;
    double recall;
    uint32_t ef = 0;
    if (!PyArg_ParseTuple(args, "O&d:ef_for_recall", number_u64, &k, &recall))
        return NULL;
    navmap_index *index = handle_enter(self);
    if (index == NULL)
        return NULL;
    PyObject *done = handle_done(self, navmap_ef_for_recall(index, k, recall, &ef));
    if (done == NULL)
        return NULL;
    Py_DECREF(done);
    return PyLong_FromUnsignedLong(ef);
}
