/* fields.h -- a structure of counters as a dict, from a table with a line for each field. */
#ifndef NAVMAP_BINDINGS_FIELDS_H
#define NAVMAP_BINDINGS_FIELDS_H

#include <Python.h>

#include <stddef.h>

struct field {
    size_t offset, size; /* a number of 4 or 8 bytes, or several of 8: a list */
    const char *name;
};

#define FIELD(type, name)                                                                          \
    {                                                                                              \
        offsetof(struct type, name), sizeof(((struct type *)0)->name), #name                       \
    }
#define FIELDS_COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))

/* Every field of `record` under its own name.  A new reference, or NULL with an exception set. */
PyObject *fields_dict(const void *record, const struct field *fields, size_t n);

#endif
