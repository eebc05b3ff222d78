/* compact.h -- navmap._core.Handle.compact. */
#ifndef NAVMAP_BINDINGS_COMPACT_H
#define NAVMAP_BINDINGS_COMPACT_H

#include <Python.h>

PyObject *handle_compact(PyObject *object, PyObject *args);

#endif
