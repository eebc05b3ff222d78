/* filter.c -- one label, one question, one truth value, by pybind11's rules, hnswlib's that is. */
#include "bindings/python/src/filter.h"

#include "bindings/python/src/gil.h"

/* 1, 0, or -1 with an exception.  The type must have __bool__, as None's has, whose value is false;
 * a list has a length, but no truth value in this sense. */
static int truth_of(const struct raise_table *errors, PyObject *answer)
{
    if (answer == Py_True)
        return 1;
    if (answer == Py_False)
        return 0;
    PyTypeObject *type = Py_TYPE(answer);
    if (PyType_GetSlot(type, Py_nb_bool) != NULL)
        return PyObject_IsTrue(answer);
    PyObject *message = PyUnicode_FromFormat(
        "Unable to cast Python instance of type %R to C++ type 'bool': filter has to return "
        "something that is true or false",
        (PyObject *)type);
    if (message != NULL) {
        raise_message(errors, NAVMAP_EINVAL, message);
        Py_DECREF(message);
    }
    return -1;
}

/* Ctrl-C is looked for here because a callable written in C runs no bytecode that would. */
static int ask(struct filter_call *call, uint64_t label)
{
    int truth = -1;
    if (PyErr_CheckSignals() < 0)
        return -1;
    PyObject *number = PyLong_FromUnsignedLongLong(label);
    if (number == NULL)
        return -1;
    PyObject *answer = PyObject_CallFunctionObjArgs(call->callable, number, NULL);
    Py_DECREF(number);
    if (answer != NULL)
        truth = truth_of(call->errors, answer);
    Py_XDECREF(answer);
    return truth;
}

static int on_label(void *ctx, uint64_t label)
{
    struct filter_call *call = ctx;
    if (atomic_load(&call->stop))
        return -1;
    PyGILState_STATE state = gil_ensure(); /* Y1, Y3 */
    int truth = atomic_load(&call->stop) ? -1 : ask(call, label);
    if (truth < 0 && PyErr_Occurred()) {
        if (call->type == NULL)
            PyErr_Fetch(&call->type, &call->value, &call->traceback);
        else
            PyErr_Clear();
        atomic_store(&call->stop, true);
    }
    PyGILState_Release(state);
    return truth;
}

void filter_begin(struct filter_call *call, PyObject *callable, const struct raise_table *errors,
                  struct navmap_search_options *options)
{
    *call = (struct filter_call){.errors = errors, .callable = callable};
    options->filter = on_label;
    options->filter_ctx = call;
}

int filter_finish(struct filter_call *call)
{
    if (call->type == NULL)
        return 0;
    PyErr_Restore(call->type, call->value, call->traceback);
    call->type = call->value = call->traceback = NULL;
    return -1;
}
