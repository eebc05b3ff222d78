/* buffers.c -- checks every argument that is about to become a pointer or a count. */
#include "bindings/python/src/buffers.h"

#include <string.h>

/* struct-module codes; a leading '@', '=' or '<' means what native means here (little endian). */
static int format_is(const char *format, enum buffer_kind kind)
{
    if (format == NULL)
        return 0; /* plain bytes */
    if (*format == '@' || *format == '=' || *format == '<')
        format++;
    if (format[0] == '\0' || format[1] != '\0')
        return 0;
    /* 'L' is eight bytes where long is; the item size is checked beside it. */
    return kind == BUFFER_FLOAT32 ? format[0] == 'f' : strchr("QL", format[0]) != NULL;
}

int buffer_get(PyObject *object, const char *name, enum buffer_kind kind, int ndim, int writable,
               Py_buffer *ret_view)
{
    const size_t size = kind == BUFFER_FLOAT32 ? sizeof(float) : sizeof(uint64_t);
    const char *type = kind == BUFFER_FLOAT32 ? "float32" : "uint64";
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view,
                           PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) < 0)
        return -1;
    if (view.ndim != ndim || (size_t)view.itemsize != size || !format_is(view.format, kind)) {
        PyErr_Format(PyExc_TypeError, "%s must be a %d-dimensional buffer of %s", name, ndim, type);
        PyBuffer_Release(&view);
        return -1;
    }
    if ((uintptr_t)view.buf % size != 0) {
        PyErr_Format(PyExc_ValueError, "%s is not aligned to %zu bytes", name, size);
        PyBuffer_Release(&view);
        return -1;
    }
    *ret_view = view;
    return 0;
}

int number_u64(PyObject *object, void *ret_u64)
{
    unsigned long long number = PyLong_AsUnsignedLongLong(object);
    if (number == (unsigned long long)-1 && PyErr_Occurred())
        return 0;
    *(uint64_t *)ret_u64 = number;
    return 1;
}

int number_u32(PyObject *object, void *ret_u32)
{
    uint64_t number;
    if (!number_u64(object, &number))
        return 0;
    if (number > UINT32_MAX) {
        PyErr_Format(PyExc_OverflowError, "%llu does not fit 32 bits", (unsigned long long)number);
        return 0;
    }
    *(uint32_t *)ret_u32 = (uint32_t)number;
    return 1;
}
