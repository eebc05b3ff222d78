/* raise.h -- from a navmap_status to the Python exception that says the same.
 *
 * The classes live in navmap/errors.py; this room only knows which status is which class, and
 * which of hnswlib's sentences a message has to begin with, because callers of hnswlib match on
 * those.  All functions need the GIL.
 */
#ifndef NAVMAP_BINDINGS_RAISE_H
#define NAVMAP_BINDINGS_RAISE_H

#include <Python.h>

#include "engine/navmap.h"

#define RAISE_CLASSES 23 /* one per failing status; raise.c asserts it */

/* Part of the module's state. */
struct raise_table {
    PyObject *classes[RAISE_CLASSES]; /* in the order of raise.c's list; strong references */
};

/* Fetch the classes from navmap.errors.  -1 with an exception set on failure. */
int raise_load(struct raise_table *table);
int raise_visit(struct raise_table *table, visitproc visit, void *arg);
void raise_clear(struct raise_table *table);

/* Set the exception for a failed call, with this thread's navmap_error_detail().  Returns NULL,
 * so that a method can end with `return raise_status(...)`. */
PyObject *raise_status(const struct raise_table *table, navmap_status status);

/* The same for a handle that Python has closed: the engine is not asked. */
PyObject *raise_closed(const struct raise_table *table);

/* Set the class of `status` with a message of the binding's own. */
void raise_message(const struct raise_table *table, navmap_status status, PyObject *message);

/* Give the exception that is set an attribute `added`, the rows that an interrupted or failed add
 * left in the index.  Works on any exception, KeyboardInterrupt too; one that takes no attributes
 * stays as it is. */
void raise_note_added(uint64_t added);

#endif
