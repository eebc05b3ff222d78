/* progress.h -- a Python function that is told how far a long call is, and Ctrl-C meanwhile. */
#ifndef NAVMAP_BINDINGS_PROGRESS_H
#define NAVMAP_BINDINGS_PROGRESS_H

#include <Python.h>

#include <stdint.h>

#include "bindings/python/src/handle.h"

struct progress_context {
    PyThreadState *thread; /* of the call; saved while the GIL is released */
    PyObject *callable;    /* NULL = only look for signals */
};

/* A navmap_progress, with a struct progress_context: nonzero when an exception is set, which then
 * stays set until the call has returned. */
int progress_call(void *ctx, uint64_t done, uint64_t total);

/* Around one call on an entered handle: the GIL is released, with `callable` (None: nobody) to be
 * told; then it is taken back and the handle left.  0, or -1 with an exception. */
void progress_begin(struct progress_context *context, PyObject *callable);
int progress_end(struct progress_context *context, struct handle *self, navmap_status status);

#endif
