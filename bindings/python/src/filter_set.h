/* filter_set.h -- navmap._core.FilterSet: a prepared filter of the engine as an object.
 *
 * Z1  A search holds a reference to each one that it uses, so none is freed under it; it may
 *     outlive the handle that it was made for.
 */
#ifndef NAVMAP_BINDINGS_FILTER_SET_H
#define NAVMAP_BINDINGS_FILTER_SET_H

#include <Python.h>

#include <stdint.h>

#include "engine/navmap_filter.h"

/* Make the type; the module owns it. */
PyTypeObject *filter_set_type_make(PyObject *module);

/* Handle.filter and Handle.filter_look. */
PyObject *handle_filter(PyObject *object, PyObject *args);
PyObject *handle_filter_look(PyObject *object, PyObject *argument);

/* What an argument `filter` of a search means, if it is one of these or a tuple of them: 1 and the
 * option is set; 0: it is something else; -1 with an exception. */
struct filter_rows {
    navmap_filter_set **sets; /* of a tuple; freed by filter_rows_free() */
};
int filter_set_option(PyTypeObject *type, PyObject *argument, uint64_t rows,
                      struct navmap_search_options *options, struct filter_rows *room);
void filter_rows_free(struct filter_rows *room);

#endif
