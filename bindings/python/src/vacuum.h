/* vacuum.h -- navmap._core.Handle.vacuum. */
#ifndef NAVMAP_BINDINGS_VACUUM_H
#define NAVMAP_BINDINGS_VACUUM_H

#include <Python.h>

PyObject *handle_vacuum(PyObject *object, PyObject *args);

#endif
