/* filter_set.c -- prepared filters: made by a handle, looked at, and found in arguments. */
#include "bindings/python/src/filter_set.h"

#include "bindings/python/src/buffers.h"
#include "bindings/python/src/handle.h"

struct filter_object {
    PyObject ob_base; /* PyObject_HEAD, spelt out for clang-format */
    navmap_filter_set *set;
};

static void filter_set_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    navmap_filter_free(((struct filter_object *)object)->set);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyType_Slot FILTER_SET_SLOTS[] = {
    {Py_tp_dealloc, filter_set_dealloc},
    {Py_tp_doc, "A prepared filter.  Made by Handle.filter()."},
    {0, NULL},
};

static PyType_Spec FILTER_SET_SPEC = {
    .name = "navmap._core.FilterSet",
    .basicsize = sizeof(struct filter_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = FILTER_SET_SLOTS,
};

PyTypeObject *filter_set_type_make(PyObject *module)
{
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &FILTER_SET_SPEC, NULL);
}

/* filter(labels, deny) -> FilterSet */
PyObject *handle_filter(PyObject *object, PyObject *args)
{
    struct handle *self = (struct handle *)object;
    PyTypeObject *type = handle_state(self)->filter_set_type;
    PyObject *labels_arg;
    Py_buffer labels = {0};
    int deny;
    if (!PyArg_ParseTuple(args, "Op:filter", &labels_arg, &deny) ||
        buffer_get(labels_arg, "labels", BUFFER_UINT64, 1, 0, &labels) < 0)
        return NULL;
    struct filter_object *filter =
        (struct filter_object *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    navmap_index *index = filter == NULL ? NULL : handle_enter(self);
    if (index == NULL) {
        Py_XDECREF((PyObject *)filter);
        PyBuffer_Release(&labels);
        return NULL;
    }
    const struct navmap_filter_options options = {.struct_size = sizeof options, .deny = deny != 0};
    navmap_filter_set *set = NULL;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status =
        navmap_filter_create(index, (uint64_t)labels.shape[0], labels.buf, &options, &set);
    PyEval_RestoreThread(thread);
    filter->set = set;
    PyObject *done = handle_done(self, status);
    PyBuffer_Release(&labels);
    if (done == NULL) {
        Py_DECREF((PyObject *)filter);
        return NULL;
    }
    Py_DECREF(done);
    return (PyObject *)filter;
}

/* filter_look(filter) -> {name: int} */
PyObject *handle_filter_look(PyObject *object, PyObject *argument)
{
    struct handle *self = (struct handle *)object;
    struct navmap_filter_facts facts = {.struct_size = sizeof facts};
    if (Py_TYPE(argument) != handle_state(self)->filter_set_type) {
        PyErr_SetString(PyExc_TypeError, "filter_look() takes a FilterSet");
        return NULL;
    }
    navmap_index *index = handle_enter(self);
    if (index == NULL)
        return NULL;
    PyThreadState *thread = PyEval_SaveThread();
    navmap_status status =
        navmap_filter_look(index, ((struct filter_object *)argument)->set, &facts);
    PyEval_RestoreThread(thread);
    PyObject *done = handle_done(self, status);
    if (done == NULL)
        return NULL;
    Py_DECREF(done);
    return Py_BuildValue("{sKsKsK}", "labels", (unsigned long long)facts.labels, "pass",
                         (unsigned long long)facts.pass, "bytes", (unsigned long long)facts.bytes);
}

static int row_sets(PyTypeObject *type, PyObject *tuple, uint64_t rows,
                    struct navmap_search_options *options, struct filter_rows *room)
{
    const Py_ssize_t n = PyTuple_Size(tuple);
    if ((uint64_t)n != rows) {
        PyErr_SetString(PyExc_ValueError, "as many filters as queries are needed");
        return -1;
    }
    room->sets = PyMem_Calloc((size_t)n + 1, sizeof *room->sets);
    if (room->sets == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PyTuple_GetItem(tuple, i);
        if (item == NULL)
            return -1;
        if (Py_TYPE(item) == type) {
            room->sets[i] = ((struct filter_object *)item)->set;
        } else if (item != Py_None) {
            PyErr_SetString(PyExc_TypeError, "filters of rows must be FilterSets or None");
            return -1;
        }
    }
    options->row_sets = room->sets;
    return 1;
}

int filter_set_option(PyTypeObject *type, PyObject *argument, uint64_t rows,
                      struct navmap_search_options *options, struct filter_rows *room)
{
    if (Py_TYPE(argument) == type) {
        options->set = ((struct filter_object *)argument)->set;
        return 1;
    }
    return PyTuple_Check(argument) ? row_sets(type, argument, rows, options, room) : 0;
}

void filter_rows_free(struct filter_rows *room)
{
    PyMem_Free(room->sets);
}
