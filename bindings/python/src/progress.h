/* progress.h -- a Python function that is told how far a long call is, and Ctrl-C meanwhile. */
#ifndef NAVMAP_BINDINGS_PROGRESS_H
#define NAVMAP_BINDINGS_PROGRESS_H

#include <Python.h>

#include <stdint.h>

struct progress_context {
    PyThreadState *thread; /* of the call; saved while the GIL is released */
    PyObject *callable;    /* NULL = only look for signals */
};

/* A navmap_progress, with a struct progress_context: nonzero when an exception is set, which then
 * stays set until the call has returned. */
int progress_call(void *ctx, uint64_t done, uint64_t total);

#endif
