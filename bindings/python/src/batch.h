/* batch.h -- the two methods of a handle that take many rows. */
#ifndef NAVMAP_BINDINGS_BATCH_H
#define NAVMAP_BINDINGS_BATCH_H

#include <Python.h>

/* add(vectors, labels | None, num_threads, replace_deleted, progress | None) -> rows added */
PyObject *handle_add(PyObject *object, PyObject *args);

/* search(exact, queries, ef, num_threads, filter, allow_fewer, labels_out, distances_out)
 * -> None, or (row, found) of the first row that has fewer than k results.
 * filter: None, a callable, or the labels allowed, an array of uint64. */
PyObject *handle_search(PyObject *object, PyObject *args);

#endif
