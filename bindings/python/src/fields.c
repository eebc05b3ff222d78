/* fields.c -- unsigned numbers read by size and offset. */
#include "bindings/python/src/fields.h"

#include <stdint.h>

static PyObject *number_at(const void *record, size_t offset, size_t size)
{
    const char *at = (const char *)record + offset;
    return PyLong_FromUnsignedLongLong(size == sizeof(uint32_t)
                                           ? *(const uint32_t *)(const void *)at
                                           : *(const uint64_t *)(const void *)at);
}

static PyObject *list_at(const void *record, size_t offset, size_t size)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < size; i += sizeof(uint64_t)) {
        PyObject *number = number_at(record, offset + i, sizeof(uint64_t));
        if (number == NULL || PyList_Append(list, number) < 0)
            Py_CLEAR(list);
        Py_XDECREF(number);
    }
    return list;
}

PyObject *fields_dict(const void *record, const struct field *fields, size_t n)
{
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict != NULL && i < n; i++) {
        PyObject *value = fields[i].size > sizeof(uint64_t)
                              ? list_at(record, fields[i].offset, fields[i].size)
                              : number_at(record, fields[i].offset, fields[i].size);
        if (value == NULL || PyDict_SetItemString(dict, fields[i].name, value) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(value);
    }
    return dict;
}
