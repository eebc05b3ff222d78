/* buffers.h -- what comes in and goes out: exact buffers and exact numbers.
 *
 * This level converts nothing.  navmap/index.py hands down C-contiguous, aligned, native float32
 * and uint64 arrays; anything else is a mistake of that layer and gets a TypeError or ValueError
 * here, never an access out of bounds.
 */
#ifndef NAVMAP_BINDINGS_BUFFERS_H
#define NAVMAP_BINDINGS_BUFFERS_H

#include <Python.h>

#include <stdint.h>

enum buffer_kind { BUFFER_FLOAT32, BUFFER_UINT64 };

/* Take the buffer of `object`: `ndim` dimensions of `kind`, C-contiguous, aligned, and writable
 * if asked for.  0, or -1 with an exception that names the argument.  Release with
 * PyBuffer_Release(), which accepts a zeroed view too. */
int buffer_get(PyObject *object, const char *name, enum buffer_kind kind, int ndim, int writable,
               Py_buffer *ret_view);

/* Converters for "O&": an int within range, nothing rounded, nothing wrapped. */
int number_u32(PyObject *object, void *ret_u32);
int number_u64(PyObject *object, void *ret_u64);

#endif
