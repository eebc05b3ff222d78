/* recall.h -- navmap._core.Handle: calibrate, calibration, ef_for_recall. */
#ifndef NAVMAP_BINDINGS_RECALL_H
#define NAVMAP_BINDINGS_RECALL_H

#include <Python.h>

PyObject *handle_calibrate(PyObject *object, PyObject *args);
PyObject *handle_calibration(PyObject *object, PyObject *unused);
PyObject *handle_ef_for_recall(PyObject *object, PyObject *args);

#endif
