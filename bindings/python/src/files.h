/* files.h -- an index to a file and back. */
#ifndef NAVMAP_BINDINGS_FILES_H
#define NAVMAP_BINDINGS_FILES_H

#include <Python.h>

/* Methods of a handle: save(path), save_fd(fd), file_bytes() -> int */
PyObject *handle_save(PyObject *object, PyObject *args);
PyObject *handle_save_fd(PyObject *object, PyObject *args);
PyObject *handle_file_bytes(PyObject *object, PyObject *unused);

/* Functions of the module.
 * load(path, dim, space, max_elements, allow_replace_deleted, flat, copy, verify) -> Handle
 * load_fd(fd, name, dim, ...) -> Handle; fd stays the caller's, name is for messages */
PyObject *core_load(PyObject *module, PyObject *args);
PyObject *core_load_fd(PyObject *module, PyObject *args);

#endif
