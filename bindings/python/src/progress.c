/* progress.c -- see progress.h. */
#include "bindings/python/src/progress.h"

#include "bindings/python/src/gil.h"

/* On the thread that made the call. */
int progress_call(void *ctx, uint64_t done, uint64_t total)
{
    struct progress_context *context = ctx;
    gil_restore(context->thread); /* Y3 */
    if (!PyErr_Occurred() && PyErr_CheckSignals() == 0 && context->callable != NULL) {
        PyObject *result = PyObject_CallFunction(context->callable, "KK", (unsigned long long)done,
                                                 (unsigned long long)total);
        Py_XDECREF(result);
    }
    int stop = PyErr_Occurred() != NULL; /* stays set until the call has returned */
    context->thread = PyEval_SaveThread();
    return stop;
}

void progress_begin(struct progress_context *context, PyObject *callable)
{
    context->callable = callable != Py_None ? callable : NULL;
    context->thread = PyEval_SaveThread();
}

int progress_end(struct progress_context *context, struct handle *self, navmap_status status)
{
    PyEval_RestoreThread(context->thread);
    if (PyErr_Occurred()) {
        handle_leave(self);
        return -1;
    }
    PyObject *done = handle_done(self, status);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}
